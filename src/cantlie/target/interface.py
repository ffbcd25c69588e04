"""The surface of a partial-volume mask: a plane in every partly filled voxel, and points on it closer than a distance.

A share of 0.3 in a voxel says how much is inside, its neighbours say on which side. The plane through the voxel that
has their gradient for normal and cuts off exactly that share places the surface much finer than the voxel
(piecewise linear interface: Youngs 1982; Scardovelli and Zaleski, doi:10.1006/jcph.2000.6567).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

EMPTY = 1e-3
FULL = 1.0 - 1e-3


@njit(cache=True)
def cut_share(alpha: float, a: float, b: float, c: float) -> float:
    """Share of the unit cube where a x + b y + c z <= alpha, for a, b, c >= 0 with a + b + c = 1."""
    if alpha <= 0.0:
        return 0.0
    if alpha >= 1.0:
        return 1.0
    a = max(a, 1e-6)
    b = max(b, 1e-6)
    c = max(c, 1e-6)
    total = alpha**3
    for m in (a, b, c):
        if alpha > m:
            total -= (alpha - m) ** 3
    for m in (a + b, a + c, b + c):
        if alpha > m:
            total += (alpha - m) ** 3
    return min(max(total / (6.0 * a * b * c), 0.0), 1.0)


@njit(cache=True)
def _plane_offset(share: float, a: float, b: float, c: float) -> float:
    """Return alpha for which the cut share is the given one."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        if cut_share(middle, a, b, c) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@njit(cache=True)
def _at(f: NDArray[np.float32], k: int, j: int, i: int, outside: float) -> float:
    if k < 0 or j < 0 or i < 0 or k >= f.shape[0] or j >= f.shape[1] or i >= f.shape[2]:
        return outside
    return f[k, j, i]


@njit(cache=True)
def _gradient(
    f: NDArray[np.float32], k: int, j: int, i: int, spacing: NDArray[np.float64], outside: float
) -> tuple[float, float, float]:
    """Gradient (x, y, z) per mm over the 27 neighbours, the middle rows counting double (Parker and Youngs)."""
    gx = gy = gz = 0.0
    for dk in range(-1, 2):
        wk = 2.0 - abs(dk)
        for dj in range(-1, 2):
            wj = 2.0 - abs(dj)
            for di in range(-1, 2):
                wi = 2.0 - abs(di)
                value = _at(f, k + dk, j + dj, i + di, outside)
                gx += di * wj * wk * value
                gy += dj * wi * wk * value
                gz += dk * wi * wj * value
    return gx / (32.0 * spacing[0]), gy / (32.0 * spacing[1]), gz / (32.0 * spacing[2])


@njit(cache=True)
def _height(
    f: NDArray[np.float32], k: int, j: int, i: int, axis: int, sign: int, reach: int, outside: float
) -> tuple[float, bool]:
    """Sum of the shares in a column through a voxel, and whether it goes from full to empty along the signed axis."""
    total = 0.0
    first = last = 0.0
    for t in range(-reach, reach + 1):
        step = t * sign
        value = _at(f, k + step * (axis == 2), j + step * (axis == 1), i + step * (axis == 0), outside)
        if t == -reach:
            first = value
        last = value
        total += value
    return total, first >= FULL and last <= EMPTY


@njit(cache=True)
def _column_normal(
    f: NDArray[np.float32], k: int, j: int, i: int, spacing: NDArray[np.float64], outside: float, axis: int, sign: int
) -> tuple[float, float, float, bool]:
    """Outward normal (not of unit length) from the heights of neighbouring columns: exact for planes, however flat."""
    normal = np.zeros(3)
    normal[axis] = sign
    good = True
    limit = int(np.ceil(1.5 * spacing.max() / spacing[axis])) + 1
    for n in range(1, 3):
        other = (axis + n) % 3
        dk, dj, di = int(other == 2), int(other == 1), int(other == 0)
        found = False
        for reach in range(1, limit + 1):
            above, fits = _height(f, k + dk, j + dj, i + di, axis, sign, reach, outside)
            if not fits:
                continue
            below, fits = _height(f, k - dk, j - dj, i - di, axis, sign, reach, outside)
            if fits:
                normal[other] = -(above - below) * spacing[axis] / (2.0 * spacing[other])
                found = True
                break
        good = good and found
    return normal[0], normal[1], normal[2], good


@njit(cache=True)
def planes(
    f: NDArray[np.float32], spacing: NDArray[np.float64], outside: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the plane of every partly filled voxel.

    Parameters
    ----------
    f
        Shares, shape (nk, nj, ni).
    spacing
        Voxel size (x, y, z) in mm.
    outside
        Share that is taken to hold outside the array.

    Returns
    -------
    index
        Voxel index to row of ``plane``; -1 for an empty and -2 for a full voxel, shape of ``f``.
    plane
        Outward unit normal (x, y, z) in mm space and offset in mm from the voxel's centre, shape (n, 4): inside is
        where normal . (point - centre) <= offset. A normal of zero stands for a sheet thinner than the voxel; then the
        offset is the axis (0, 1, 2) across it.
    """
    nk, nj, ni = f.shape
    index = np.full(f.shape, -1, np.int32)
    count = 0
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                share = f[k, j, i]
                if share >= FULL:
                    index[k, j, i] = -2
                elif share > EMPTY:
                    index[k, j, i] = count
                    count += 1
    plane = np.zeros((count, 4))
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                row = index[k, j, i]
                if row < 0:
                    continue
                gx, gy, gz = _gradient(f, k, j, i, spacing, outside)
                size = np.sqrt(gx * gx + gy * gy + gz * gz)
                if size * spacing.max() < 1e-2:
                    least = 2.0
                    for axis in range(3):
                        dk, dj, di = int(axis == 2), int(axis == 1), int(axis == 0)
                        beside = _at(f, k + dk, j + dj, i + di, outside) + _at(f, k - dk, j - dj, i - di, outside)
                        if beside <= least:
                            least = beside
                            plane[row, 3] = axis
                    continue
                nx, ny, nz = -gx / size, -gy / size, -gz / size
                order = np.argsort(-np.abs(np.array([nx, ny, nz])))
                for n in range(3):
                    axis = order[n]
                    sign = 1 if (nx, ny, nz)[axis] > 0 else -1
                    cx, cy, cz, good = _column_normal(f, k, j, i, spacing, outside, axis, sign)
                    if good:
                        size = np.sqrt(cx * cx + cy * cy + cz * cz)
                        nx, ny, nz = cx / size, cy / size, cz / size
                        break
                a, b, c = abs(nx) * spacing[0], abs(ny) * spacing[1], abs(nz) * spacing[2]
                width = a + b + c
                offset = _plane_offset(f[k, j, i], a / width, b / width, c / width)
                plane[row, 0] = nx
                plane[row, 1] = ny
                plane[row, 2] = nz
                plane[row, 3] = (offset - 0.5) * width
    return index, plane


@njit(cache=True)
def _write_points(
    f: NDArray[np.float32],
    index: NDArray[np.int32],
    plane: NDArray[np.float64],
    spacing: NDArray[np.float64],
    apart: NDArray[np.float64],
    outside: float,
    points: NDArray[np.float32],
) -> int:
    """Write surface points (x, y, z) in mm, origin at the centre of voxel [0, 0, 0]; with no room only count them."""
    nk, nj, ni = f.shape
    write = points.shape[0] > 0
    count = 0
    half = 0.5 * spacing
    steps = np.empty(3, np.int64)
    for axis in range(3):
        steps[axis] = max(1, int(np.ceil(spacing[axis] / apart[axis] - 0.35)))
    centre = np.empty(3)
    point = np.empty(3)
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                row = index[k, j, i]
                if row == -1:
                    continue
                centre[0], centre[1], centre[2] = i * spacing[0], j * spacing[1], k * spacing[2]
                sheet = row >= 0 and plane[row, 0] == 0.0 and plane[row, 1] == 0.0 and plane[row, 2] == 0.0
                # faces towards voxels that are not full, where the material reaches them
                for axis in range(3):
                    other, third = (axis + 1) % 3, (axis + 2) % 3
                    for side in range(-1, 2, 2):
                        dk, dj, di = side * (axis == 2), side * (axis == 1), side * (axis == 0)
                        beside = _at(f, k + dk, j + dj, i + di, outside)
                        if sheet or beside >= FULL or (row >= 0 and beside > EMPTY):
                            continue
                        other_row = -1  # a partly filled voxel beyond the face may cover it
                        if beside > EMPTY and row == -2:
                            other_row = index[k + dk, j + dj, i + di]
                        for u in range(steps[other]):
                            for v in range(steps[third]):
                                point[axis] = side * half[axis]
                                point[other] = ((u + 0.5) / steps[other] - 0.5) * spacing[other]
                                point[third] = ((v + 0.5) / steps[third] - 0.5) * spacing[third]
                                if row >= 0:
                                    height = (
                                        point[0] * plane[row, 0] + point[1] * plane[row, 1] + point[2] * plane[row, 2]
                                    )
                                    if height > plane[row, 3]:
                                        continue
                                elif other_row >= 0:
                                    height = -side * spacing[axis] * plane[other_row, axis]
                                    for n in range(3):
                                        height += point[n] * plane[other_row, n]
                                    if height <= plane[other_row, 3]:
                                        continue
                                if write:
                                    for n in range(3):
                                        points[count, n] = centre[n] + point[n]
                                count += 1
                if row < 0:
                    continue
                # the plane itself, on a lattice over the two axes that it is steepest against
                axis = int(plane[row, 3]) if sheet else 0
                if not sheet:
                    for n in range(1, 3):
                        if abs(plane[row, n]) > abs(plane[row, axis]):
                            axis = n
                other, third = (axis + 1) % 3, (axis + 2) % 3
                found = False
                for u in range(steps[other]):
                    for v in range(steps[third]):
                        point[other] = ((u + 0.5) / steps[other] - 0.5) * spacing[other]
                        point[third] = ((v + 0.5) / steps[third] - 0.5) * spacing[third]
                        for side in range(-1, 2, 2):
                            if sheet:
                                point[axis] = side * half[axis] * f[k, j, i]
                            elif side == -1:
                                rest = (
                                    plane[row, 3] - point[other] * plane[row, other] - point[third] * plane[row, third]
                                )
                                point[axis] = rest / plane[row, axis]
                                if abs(point[axis]) > half[axis]:
                                    continue
                            else:
                                continue
                            found = True
                            if write:
                                for n in range(3):
                                    points[count, n] = centre[n] + point[n]
                            count += 1
                if not found:  # a small corner: the foot of the perpendicular from its deepest corner
                    depth = plane[row, 3]
                    for n in range(3):
                        point[n] = -half[n] if plane[row, n] > 0 else half[n]
                        depth -= point[n] * plane[row, n]
                    if write:
                        for n in range(3):
                            points[count, n] = centre[n] + point[n] + depth * plane[row, n]
                    count += 1
    return count


def surface_points(
    f: NDArray[np.float32],
    index: NDArray[np.int32],
    plane: NDArray[np.float64],
    spacing: NDArray[np.float64],
    apart_mm: NDArray[np.float64],
    outside: float,
) -> NDArray[np.float32]:
    """Return points of the surface, not more than about ``apart_mm`` (along x, y, z) from each other.

    Returns
    -------
    ndarray
        Points (x, y, z) in mm from the centre of voxel [0, 0, 0], shape (n, 3). Some lie inside; none outside.
    """
    nothing = np.empty((0, 3), np.float32)
    count = _write_points(f, index, plane, spacing, apart_mm, outside, nothing)
    points = np.empty((count, 3), np.float32)
    if count:
        _write_points(f, index, plane, spacing, apart_mm, outside, points)
    return points
