"""Margins: a region grown or shrunk by an ellipsoid, each side by its own distance, finer than the voxels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid
from cantlie.target.interface import EMPTY, planes, surface_points

Fractions = NDArray[np.float32]


def expand(
    grid: Grid, fractions: Fractions, lower_mm: tuple[float, float, float], upper_mm: tuple[float, float, float]
) -> Fractions:
    """Return a region grown by an ellipsoid (Minkowski sum), as shares of the voxels.

    Parameters
    ----------
    grid
        The grid of the shares; voxels may be as anisotropic as they like.
    fractions
        Share of each voxel inside the region, 0 to 1, shape ``grid.shape``.
    lower_mm, upper_mm
        Distances towards smaller and larger (x, y, z): right, anterior, inferior; left, posterior, superior. Each
        octant of the ellipsoid has its own three half axes. With 0 on both sides of an axis nothing grows along it.

    Returns
    -------
    ndarray
        Shares of the grown region, cut off at the border of the grid.

    Raises
    ------
    GeometryError
        If the shape is not that of the grid, or a distance is negative or not finite.
    """
    lower, upper = _distances(grid, fractions, lower_mm, upper_mm)
    return _grown(grid, fractions, lower, upper, outside=0.0)


def contract(
    grid: Grid, fractions: Fractions, lower_mm: tuple[float, float, float], upper_mm: tuple[float, float, float]
) -> Fractions:
    """Return a region shrunk by an ellipsoid: what stays inside when everything outside it grows.

    The distances are those that the region recedes from the right, anterior and inferior (``lower_mm``) and from the
    left, posterior and superior (``upper_mm``). What lies beyond the grid counts as outside. See `expand`.
    """
    lower, upper = _distances(grid, fractions, lower_mm, upper_mm)
    inside = np.nonzero(fractions > EMPTY)
    if not len(inside[0]):
        return np.zeros_like(fractions)
    box = tuple(slice(max(int(n.min()) - 1, 0), int(n.max()) + 2) for n in inside)
    part = np.pad(1.0 - fractions[box], 1, constant_values=1.0).astype(np.float32)
    origin = (0.0, 0.0, 0.0)
    outer = _grown(
        Grid((part.shape[0], part.shape[1], part.shape[2]), grid.spacing_mm, origin), part, upper, lower, outside=1.0
    )
    result = np.zeros_like(fractions)
    result[box] = np.minimum(fractions[box], 1.0 - outer[1:-1, 1:-1, 1:-1])
    return result


def expand_evenly(grid: Grid, fractions: Fractions, distance_mm: float) -> Fractions:
    """Return a region grown by the same distance on all sides."""
    sides = (distance_mm, distance_mm, distance_mm)
    return expand(grid, fractions, sides, sides)


def contract_evenly(grid: Grid, fractions: Fractions, distance_mm: float) -> Fractions:
    """Return a region shrunk by the same distance on all sides."""
    sides = (distance_mm, distance_mm, distance_mm)
    return contract(grid, fractions, sides, sides)


def ring(grid: Grid, fractions: Fractions, inner_mm: float, outer_mm: float) -> Fractions:
    """Return what lies between two distances from a region.

    Raises
    ------
    GeometryError
        If the outer distance is not larger than the inner one.
    """
    if outer_mm <= inner_mm:
        raise GeometryError(f"a ring from {inner_mm:g} to {outer_mm:g} mm is empty")
    inner = expand_evenly(grid, fractions, inner_mm) if inner_mm > 0 else fractions
    return np.maximum(expand_evenly(grid, fractions, outer_mm) - inner, np.float32(0))


def _distances(
    grid: Grid, fractions: Fractions, lower_mm: tuple[float, float, float], upper_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if fractions.shape != grid.shape:
        raise GeometryError(f"shares of shape {fractions.shape} on a grid of shape {grid.shape}")
    lower, upper = np.asarray(lower_mm, dtype=np.float64), np.asarray(upper_mm, dtype=np.float64)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower >= 0).all() and (upper >= 0).all()):
        raise GeometryError(f"margins must not be negative: {lower_mm}, {upper_mm} mm")
    return lower, upper


def _grown(
    grid: Grid, fractions: Fractions, lower: NDArray[np.float64], upper: NDArray[np.float64], outside: float
) -> Fractions:
    largest = np.maximum(lower, upper)
    inside = np.nonzero(fractions > EMPTY)
    if not largest.any() or not len(inside[0]):
        return fractions.astype(np.float32)
    for axis in range(3):
        if largest[2 - axis] == 0 and fractions.shape[axis] > 1:
            return _grown_in_layers(grid, fractions, lower, upper, outside, axis)
    spacing = np.asarray(grid.spacing_mm)
    reach = np.ceil(largest / spacing).astype(int)[::-1] + 1
    box = tuple(
        slice(max(int(n.min()) - r, 0), min(int(n.max()) + r + 1, size))
        for n, r, size in zip(inside, reach, grid.shape, strict=True)
    )
    part = np.ascontiguousarray(fractions[box], dtype=np.float32)
    smallest = float(largest[largest > 0].min())
    index, plane = planes(part, spacing, outside)
    # points this close on a flat surface leave dents of 0.01 mm between their ellipsoids; closer still, so that points
    # come near enough to sharp edges, unless the margin is large
    close = 0.35 * np.sqrt(smallest)
    apart = np.where(largest > 0, min(close, 0.75) if smallest <= 12.0 else close, np.inf)
    points = surface_points(part, index, plane, spacing, apart, outside)
    wanted = np.where(largest > 0, np.clip(0.5 * largest, 1.0, 3.0), apart)
    split = np.maximum(np.ceil(spacing / wanted - 1e-6), 1).astype(np.int64)
    result = fractions.astype(np.float32)
    result[box] = _covered(part, index, plane, points, spacing, split, lower, upper)
    return result


def _grown_in_layers(
    grid: Grid, fractions: Fractions, lower: NDArray[np.float64], upper: NDArray[np.float64], outside: float, axis: int
) -> Fractions:
    """Grow each layer across an axis without margin by itself; a layer that is filled in part keeps its thickness."""
    result = fractions.astype(np.float32)
    for n in range(fractions.shape[axis]):
        layer = np.take(fractions, [n], axis=axis)
        thickness = layer.max()
        if thickness > EMPTY:
            shape = (layer.shape[0], layer.shape[1], layer.shape[2])
            flat = Grid(shape, grid.spacing_mm, grid.origin_mm)
            grown = _grown(flat, layer / thickness, lower, upper, outside) * thickness
            result[(slice(None),) * axis + (slice(n, n + 1),)] = np.maximum(layer, grown)
    return result


@njit(cache=True)
def _nearest_points(
    index: NDArray[np.int32],
    points: NDArray[np.float32],
    spacing: NDArray[np.float64],
    split: NDArray[np.int64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the squared distance of each cell to its nearest point in units of the half axes, and which it is.

    Cells beyond all ellipsoids have -1; those of full voxels are not looked at.
    """
    nk, nj, ni = index.shape
    sx, sy, sz = split
    hx, hy, hz = spacing[0] / sx, spacing[1] / sy, spacing[2] / sz
    nearest = np.full((nk * sz, nj * sy, ni * sx), np.float32(4.0))
    who = np.full((nk * sz, nj * sy, ni * sx), -1, np.int32)
    flat_x, flat_y, flat_z = lower[0] + upper[0] == 0, lower[1] + upper[1] == 0, lower[2] + upper[2] == 0
    for n in range(points.shape[0]):
        # position in cells; the centre of cell 0 is at -spacing/2 + h/2
        px = (points[n, 0] + 0.5 * spacing[0]) / hx - 0.5
        py = (points[n, 1] + 0.5 * spacing[1]) / hy - 0.5
        pz = (points[n, 2] + 0.5 * spacing[2]) / hz - 0.5
        x0, x1 = int(np.floor(px - lower[0] / hx)), int(np.ceil(px + upper[0] / hx))
        y0, y1 = int(np.floor(py - lower[1] / hy)), int(np.ceil(py + upper[1] / hy))
        z0, z1 = int(np.floor(pz - lower[2] / hz)), int(np.ceil(pz + upper[2] / hz))
        if flat_x:
            x0 = x1 = int(np.floor(px + 0.5))
        if flat_y:
            y0 = y1 = int(np.floor(py + 0.5))
        if flat_z:
            z0 = z1 = int(np.floor(pz + 0.5))
        for z in range(max(z0, 0), min(z1, nk * sz - 1) + 1):
            dz = (z - pz) * hz
            mz = upper[2] if dz >= 0 else lower[2]
            if flat_z:
                ez = 0.0
            elif mz == 0.0:
                if abs(dz) > 1e-6:
                    continue
                ez = 0.0
            else:
                ez = (dz / mz) ** 2
            k = z // sz
            for y in range(max(y0, 0), min(y1, nj * sy - 1) + 1):
                dy = (y - py) * hy
                my = upper[1] if dy >= 0 else lower[1]
                if flat_y:
                    ey = ez
                elif my == 0.0:
                    if abs(dy) > 1e-6:
                        continue
                    ey = ez
                else:
                    ey = ez + (dy / my) ** 2
                j = y // sy
                for x in range(max(x0, 0), min(x1, ni * sx - 1) + 1):
                    dx = (x - px) * hx
                    mx = upper[0] if dx >= 0 else lower[0]
                    if flat_x:
                        e = ey
                    elif mx == 0.0:
                        if abs(dx) > 1e-6:
                            continue
                        e = ey
                    else:
                        e = ey + (dx / mx) ** 2
                    if e < nearest[z, y, x] and index[k, j, x // sx] != -2:
                        nearest[z, y, x] = e
                        who[z, y, x] = n
    return nearest, who


@njit(cache=True)
def _share_within_plane(
    a: int, b: int, c: int, split: NDArray[np.int64], spacing: NDArray[np.float64], plane: NDArray[np.float64]
) -> float:
    """Return the share of cell (c, b, a) of a voxel on the inner side of the region's surface in it."""
    sx, sy, sz = split
    hx, hy, hz = spacing[0] / sx, spacing[1] / sy, spacing[2] / sz
    qx, qy, qz = (
        ((a + 0.5) / sx - 0.5) * spacing[0],
        ((b + 0.5) / sy - 0.5) * spacing[1],
        ((c + 0.5) / sz - 0.5) * spacing[2],
    )
    nx, ny, nz = plane[0], plane[1], plane[2]
    width = abs(nx) * hx + abs(ny) * hy + abs(nz) * hz
    if width <= 0:
        return 0.0
    share = 0.5 - (qx * nx + qy * ny + qz * nz - plane[3]) / width
    return 1.0 if share >= 0.5 else share  # its centre is inside, so the margin covers all of it


@njit(cache=True)
def _share_within_margin(
    away: tuple[float, float, float],
    squared: float,
    cell: tuple[float, float, float],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> float:
    """Return the share of a cell within the ellipsoid around its nearest point.

    Parameters
    ----------
    away
        From the point to the centre of the cell, mm; ``squared`` is that distance squared in units of the half axes.
    cell
        Its sides, mm.
    """
    floor = 1e-9
    dx, dy, dz = away
    mx = upper[0] if dx >= 0 else lower[0]
    my = upper[1] if dy >= 0 else lower[1]
    mz = upper[2] if dz >= 0 else lower[2]
    gx = dx / (mx * mx) if mx > 0 and lower[0] + upper[0] != 0 else 0.0
    gy = dy / (my * my) if my > 0 and lower[1] + upper[1] != 0 else 0.0
    gz = dz / (mz * mz) if mz > 0 and lower[2] + upper[2] != 0 else 0.0
    size = np.sqrt(gx * gx + gy * gy + gz * gz)
    distance = np.sqrt(squared)
    if size < floor or distance < floor:
        return 1.0
    # gradient of the scaled distance is (g / distance); width of the cell along it
    beyond = (distance - 1.0) * distance / size
    width = (abs(gx) * cell[0] + abs(gy) * cell[1] + abs(gz) * cell[2]) / size
    return 0.5 - beyond / width


@njit(cache=True)
def _covered(
    f: NDArray[np.float32],
    index: NDArray[np.int32],
    plane: NDArray[np.float64],
    points: NDArray[np.float32],
    spacing: NDArray[np.float64],
    split: NDArray[np.int64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Share of each voxel within the ellipsoids around the points, or in the region itself.

    Every voxel is split into cells. The nearest point of each cell (in units of the half axes) gives the distance of
    its centre from the grown surface and that surface's direction, and so the share of the cell that it cuts off.
    """
    nk, nj, ni = f.shape
    sx, sy, sz = split
    hx, hy, hz = spacing[0] / sx, spacing[1] / sy, spacing[2] / sz
    nearest, who = _nearest_points(index, points, spacing, split, lower, upper)
    result = f.copy()
    cell_share = 1.0 / (sx * sy * sz)
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                row = index[k, j, i]
                if row == -2:
                    result[k, j, i] = 1.0
                    continue
                total = 0.0
                for c in range(sz):
                    for b in range(sy):
                        for a in range(sx):
                            z, y, x = k * sz + c, j * sy + b, i * sx + a
                            share = _share_within_plane(a, b, c, split, spacing, plane[row]) if row >= 0 else 0.0
                            n = who[z, y, x]
                            if n >= 0 and share < 1.0:
                                away = (
                                    x * hx + 0.5 * hx - 0.5 * spacing[0] - points[n, 0],
                                    y * hy + 0.5 * hy - 0.5 * spacing[1] - points[n, 1],
                                    z * hz + 0.5 * hz - 0.5 * spacing[2] - points[n, 2],
                                )
                                own = _share_within_margin(away, nearest[z, y, x], (hx, hy, hz), lower, upper)
                                share = max(share, own)
                            total += min(max(share, 0.0), 1.0)
                result[k, j, i] = max(f[k, j, i], np.float32(total * cell_share))
    return result
