"""Contours to partial-volume masks: exact area coverage in the plane, slabs along z."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.patient.structures import Structure

MASK_CONVENTION = (
    "Structures are partial-volume masks: the exact area of each pixel inside the contours of a plane (exclusive or), "
    "each plane standing for its slice up to halfway to its neighbours; first and last planes, and planes at gaps of "
    "more than 1.5 contour spacings, are capped by half a contour spacing."
)
PLANE_TOLERANCE_MM = 0.05
_GAP = 1.5
_SPLITS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """The contours of one plane and the stretch of z that they stand for."""

    z_mm: float
    lower_mm: float
    upper_mm: float
    polygons_mm: tuple[NDArray[np.float64], ...]


def _nominal_spacing_mm(gaps_mm: NDArray[np.float64], slice_spacing_mm: float, fallback_mm: float) -> float:
    """Contour spacing: the median gap, unless there is none or it is too large to be believed."""
    slice_mm = slice_spacing_mm or fallback_mm
    if not gaps_mm.size:
        return slice_mm
    median = float(np.median(gaps_mm))
    if slice_spacing_mm > 0 and median > max(10.0, 3.0 * slice_spacing_mm) * (1 + 1e-6):
        return slice_mm
    return median


def slabs_of_structure(structure: Structure, slice_spacing_mm: float) -> tuple[Slab, ...]:
    """Divide a structure into slabs, one per contour plane.

    Neighbouring planes meet halfway. A gap of more than 1.5 times the contour spacing (the median distance between
    planes) is a real gap: the structure ends on both sides of it. Every end is capped by half a contour spacing, on the
    first and the last plane as well as at gaps, which is how clinical systems count end slices (each contoured slice
    contributes its full thickness; Nelms et al. 2015, doi:10.1118/1.4923175, describe the conventions in use).
    A structure on a single plane has the thickness of the image slices.

    Parameters
    ----------
    structure
        Contours on axial planes. Contours with fewer than three points enclose nothing and are passed over.
    slice_spacing_mm
        Slice spacing to assume when neither the structure nor its planes tell one.

    Returns
    -------
    tuple of Slab
        In the order of growing z; empty when nothing is enclosed.

    Raises
    ------
    StructureError
        If a contour does not lie in an axial plane or is not finite.
    """
    planes: list[tuple[float, NDArray[np.float64]]] = []
    for contour in structure.contours_mm:
        points = np.asarray(contour, dtype=np.float64).reshape(-1, 3)
        if len(points) < 3:
            continue
        if not np.isfinite(points).all():
            raise StructureError("a contour has coordinates that are not numbers", where=structure.name)
        if np.ptp(points[:, 2]) > 2 * PLANE_TOLERANCE_MM:
            raise StructureError(
                "a contour does not lie in an axial plane", where=structure.name, remedy="export axial contours"
            )
        planes.append((float(points[:, 2].mean()), points[:, :2]))
    if not planes:
        return ()
    planes.sort(key=lambda plane: plane[0])
    groups: list[list[tuple[float, NDArray[np.float64]]]] = [[planes[0]]]
    for plane in planes[1:]:
        if plane[0] - groups[-1][0][0] <= PLANE_TOLERANCE_MM:
            groups[-1].append(plane)
        else:
            groups.append([plane])
    z = np.array([np.mean([plane[0] for plane in group]) for group in groups])
    gaps = np.diff(z)
    nominal = _nominal_spacing_mm(gaps, structure.slice_spacing_mm, slice_spacing_mm)
    joined = gaps <= _GAP * nominal * (1 + 1e-6)
    lower = np.concatenate([[z[0] - nominal / 2], np.where(joined, z[1:] - gaps / 2, z[1:] - nominal / 2)])
    upper = np.concatenate([np.where(joined, z[:-1] + gaps / 2, z[:-1] + nominal / 2), [z[-1] + nominal / 2]])
    return tuple(
        Slab(float(z[n]), float(lower[n]), float(upper[n]), tuple(points for _, points in group))
        for n, group in enumerate(groups)
    )


def gaps_of_structure(structure: Structure, slice_spacing_mm: float) -> tuple[tuple[float, float], ...]:
    """Return the stretches (from z, to z, in mm) between contour planes that masks leave empty."""
    slabs = slabs_of_structure(structure, slice_spacing_mm)
    return tuple(
        (below.z_mm, above.z_mm)
        for below, above in pairwise(slabs)
        if above.lower_mm - below.upper_mm > PLANE_TOLERANCE_MM
    )


def structure_fractions(structure: Structure, grid: Grid) -> NDArray[np.float32]:
    """Return the share of every voxel that lies inside a structure.

    In the plane the share is the exact area of the pixel inside the polygons of a contour plane, which combine by
    exclusive or (even-odd rule), so that holes, keyholes and islands come out right whatever the sense of rotation.
    Along z every contour plane stands for its slab (`slabs_of_structure`), weighted by the overlap of slab and voxel.

    Parameters
    ----------
    structure
        Contours on axial planes, which need not be those of the grid.
    grid
        Any grid, coarser or finer than the contours.

    Returns
    -------
    float32 array [k, j, i]
        Fractions from 0 to 1, shape ``grid.shape``; all 0 for a structure without contours.

    Raises
    ------
    StructureError
        If a contour does not lie in an axial plane or is not finite.
    """
    fractions = np.zeros(grid.shape, dtype=np.float32)
    dx, dy, dz = grid.spacing_mm
    lower = grid.lower_mm
    nk, nj, ni = grid.shape
    for slab in slabs_of_structure(structure, dz):
        start = (slab.lower_mm - lower[2]) / dz
        stop = (slab.upper_mm - lower[2]) / dz
        if stop <= 0 or start >= nk:
            continue
        pixels = [(points - lower[:2]) / (dx, dy) for points in slab.polygons_mm]
        points = np.concatenate(pixels)
        low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (ni, nj))
        high = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, (ni, nj))
        if (high <= low).any():
            continue
        coverage = _coverage([polygon - low for polygon in pixels], int(high[1] - low[1]), int(high[0] - low[0]))
        for k in range(max(int(np.floor(start)), 0), min(int(np.ceil(stop)), nk)):
            weight = min(stop, k + 1.0) - max(start, float(k))
            if weight > 1e-6:
                fractions[k, low[1] : high[1], low[0] : high[0]] += (weight * coverage).astype(np.float32)
    _tidy(fractions.reshape(-1))
    return fractions


def _coverage(polygons: list[NDArray[np.float64]], rows: int, columns: int) -> NDArray[np.float64]:
    """Return the covered share of unit pixels [0, columns] x [0, rows] by the exclusive or of polygons (x, y)."""
    heads = [np.roll(points, -1, axis=0) for points in polygons]
    a, b = np.concatenate(polygons), np.concatenate(heads)
    swap = a[:, 1] > b[:, 1]
    a[swap], b[swap] = b[swap], a[swap].copy()
    keep = (b[:, 1] > a[:, 1]) & (b[:, 1] > 0) & (a[:, 1] < rows)
    a, b = a[keep], b[keep]
    area = np.zeros((rows, columns + 1))
    if len(a):
        order = np.argsort(a[:, 1], kind="stable")
        a, b = np.ascontiguousarray(a[order]), np.ascontiguousarray(b[order])
        inner = np.concatenate([a[:, 1], b[:, 1]])
        levels = np.unique(np.concatenate([inner[(inner > 0) & (inner < rows)], np.arange(rows + 1.0)]))
        _sweep(a, b, levels, area)
    return np.cumsum(area, axis=1)[:, :columns]


@njit(cache=True, nogil=True)  # pragma: no cover
def _tidy(values: NDArray[np.float32]) -> None:
    """Set shares that differ from 0 or 1 only by rounding to 0 or 1."""
    for n in range(values.size):
        if values[n] < 1e-6:
            values[n] = 0.0
        elif values[n] > 1.0 - 1e-6:
            values[n] = 1.0


@njit(cache=True, nogil=True)  # pragma: no cover
def _sweep(
    a: NDArray[np.float64], b: NDArray[np.float64], levels: NDArray[np.float64], area: NDArray[np.float64]
) -> None:
    """Sweep through the bands between levels and add the area between every first and second edge.

    Parameters
    ----------
    a, b
        Lower and upper end of each edge (x, y) in pixels, sorted by the y of the lower end, shape (n, 2).
    levels
        Growing values of y: every end of an edge and every row boundary inside the image.
    area
        Receives the increments along x whose running sum is the covered share, shape (rows, columns + 1).
    """
    count = len(a)
    active = np.empty(count, dtype=np.int64)
    low = np.empty(count)
    high = np.empty(count)
    number = 0
    following = 0
    for band in range(len(levels) - 1):
        y0, y1 = levels[band], levels[band + 1]
        while following < count and a[following, 1] <= y0:
            active[number] = following
            number += 1
            following += 1
        kept = 0
        for n in range(number):
            if b[active[n], 1] > y0:
                active[kept] = active[n]
                kept += 1
        number = kept
        if number == 0:
            continue
        row = min(int(0.5 * (y0 + y1)), area.shape[0] - 1)
        if _order(a, b, active, number, y0, y1, low, high):
            _fill(low, high, number, y1 - y0, area[row])
        else:
            step = (y1 - y0) / _SPLITS
            for part in range(_SPLITS):
                _order(a, b, active, number, y0 + part * step, y0 + (part + 1) * step, low, high)
                _fill(low, high, number, step, area[row])


@njit(cache=True, nogil=True)  # pragma: no cover
def _order(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    active: NDArray[np.int64],
    number: int,
    y0: float,
    y1: float,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> bool:
    """Sort the active edges by x in the middle of a band, fill in their x at both sides; False if any of them cross."""
    for n in range(number):
        edge = active[n]
        slope = (b[edge, 0] - a[edge, 0]) / (b[edge, 1] - a[edge, 1])
        x0 = a[edge, 0] + slope * (y0 - a[edge, 1])
        x1 = a[edge, 0] + slope * (y1 - a[edge, 1])
        m = n
        while m > 0 and low[m - 1] + high[m - 1] > x0 + x1:
            low[m], high[m], active[m] = low[m - 1], high[m - 1], active[m - 1]
            m -= 1
        low[m], high[m], active[m] = x0, x1, edge
    sorted_at_both_sides = True
    for n in range(number - 1):
        sorted_at_both_sides &= low[n] <= low[n + 1] + 1e-9 and high[n] <= high[n + 1] + 1e-9
    return sorted_at_both_sides


@njit(cache=True, nogil=True)  # pragma: no cover
def _fill(
    low: NDArray[np.float64], high: NDArray[np.float64], number: int, height: float, row: NDArray[np.float64]
) -> None:
    """Add the areas between edges 0 and 1, 2 and 3, ... of a band inside one row of pixels."""
    sign = 1.0
    for n in range(number):
        _add_edge(low[n], high[n], sign * height, row)
        sign = -sign


@njit(cache=True, nogil=True)  # pragma: no cover
def _add_edge(x0: float, x1: float, height: float, row: NDArray[np.float64]) -> None:
    """Add the area to the right of an edge from x0 to x1 over a (signed) height, as increments along the row."""
    columns = row.size - 1
    if x0 > x1:
        x0, x1 = x1, x0
    if x1 <= 0.0:
        row[0] += height
        return
    if x0 >= columns:
        return
    width = x1 - x0
    if x0 < 0.0:
        row[0] += height * (-x0 / width)
        height *= x1 / width
        x0 = 0.0
        width = x1
    if x1 > columns:
        height *= (columns - x0) / width
        x1 = float(columns)
        width = x1 - x0
    first = min(int(x0), columns - 1)
    if x1 <= first + 1.0:
        middle = 0.5 * (x0 + x1) - first
        row[first] += height * (1.0 - middle)
        row[first + 1] += height * middle
        return
    per_x = height / width
    for i in range(first, columns):
        start = max(x0, float(i))
        stop = min(x1, i + 1.0)
        if stop <= start:
            break
        piece = per_x * (stop - start)
        middle = 0.5 * (start + stop) - i
        row[i] += piece * (1.0 - middle)
        row[i + 1] += piece * middle
