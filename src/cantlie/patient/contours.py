"""Partial-volume masks back to contours, for exporting derived structures."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.grid import Grid

TOLERANCE_MM = 0.04
_LEVELS = (0.3, 0.7)
_VOLUME_TOLERANCE = 0.01
_STEPS = 12
_DECIMALS = 4  # 0.1 µm, so that a DICOM decimal string holds each coordinate exactly

Contours = tuple[NDArray[np.float64], ...]


def contours_of_fractions(fractions: NDArray[np.floating], grid: Grid) -> Contours:
    """Return the contours of a partial-volume mask, one set of polygons per slice of its grid.

    The contour is the line where the share, interpolated between voxel centres, is one half. A connected piece whose
    volume would change by more than 1 % (small lesions, thin rims) is contoured at the level between 0.3 and 0.7 that
    keeps its volume best, and a piece that no such level touches at half its own maximum, so that small features
    survive. Holes are polygons of their own, to be combined by exclusive or. Points are left out only where the line
    moves by less than 0.05 mm.

    Parameters
    ----------
    fractions
        Shares from 0 to 1, shape ``grid.shape``.
    grid
        The grid of the mask; contours lie on its slices.

    Returns
    -------
    tuple of float64 arrays
        Polygons of (x, y, z) in LPS mm, each of shape (n, 3) with n >= 3 and without repeating the first point; sorted
        by z. Empty for an empty mask.
    """
    touched = fractions > 0
    if not touched.any():
        return ()
    pieces, _ = ndimage.label(touched, structure=np.ones((3, 3, 3), dtype=bool))
    contours: list[NDArray[np.float64]] = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = np.where(pieces[box] == number, fractions[box], 0.0).astype(np.float64)
        contours += _contours_of_piece(piece, grid, (box[0].start, box[1].start, box[2].start))
    return tuple(sorted(contours, key=lambda contour: contour[0, 2]))


def _contours_of_piece(
    piece: NDArray[np.float64], grid: Grid, corner: tuple[int, int, int]
) -> list[NDArray[np.float64]]:
    planes = np.pad(piece, ((0, 0), (1, 1), (1, 1)))
    wanted = float(piece.sum())

    def volume(level: float) -> float:
        return sum(_area(line) for plane in planes if plane.max() > level for line in _lines(plane, level))

    level = 0.5
    found = volume(level)
    if abs(found - wanted) > _VOLUME_TOLERANCE * wanted:
        low, high = _LEVELS
        best = (abs(found - wanted), level)
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            found = volume(middle)
            best = min(best, (abs(found - wanted), middle))
            if found > wanted:
                low = middle
            else:
                high = middle
        level = best[1]
        if not volume(level) > 0:
            level = 0.5 * float(piece.max())
    contours = []
    for k, plane in enumerate(planes):
        if plane.max() <= level:
            continue
        for line in _lines(plane, level):
            pixels = line + np.array([corner[2] - 1, corner[1] - 1])
            xy_mm = np.asarray(grid.origin_mm[:2]) + pixels * np.asarray(grid.spacing_mm[:2])
            kept = simplified(xy_mm, TOLERANCE_MM).round(_DECIMALS)
            if len(kept) >= 3:
                z_mm = grid.origin_mm[2] + (corner[0] + k) * grid.spacing_mm[2]
                contours.append(np.column_stack([kept, np.full(len(kept), z_mm)]))
    return contours


def _lines(plane: NDArray[np.float64], level: float) -> list[NDArray[np.float64]]:
    """Return the closed level lines of a padded plane in pixel units (x, y), first point not repeated."""
    from contourpy import contour_generator

    lines = contour_generator(z=plane, name="serial").lines(level)
    return [np.asarray(line[:-1]) for line in lines if len(line) > 3]


def _area(line: NDArray[np.float64]) -> float:
    """Signed area: level lines run the other way round a hole, so that areas add up."""
    x, y = line[:, 0], line[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def simplified(points: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Leave out points of a closed line that lie within a tolerance of the line through the points kept.

    Parameters
    ----------
    points
        Vertices, shape (n, 2), first point not repeated.
    tolerance
        Largest distance of a point left out, in the units of the points.

    Returns
    -------
    array of shape (m, 2)
        At least three points where there were as many; by the method of Douglas and Peucker 1973,
        doi:10.3138/FM57-6770-U75U-7727.
    """
    if len(points) <= 3:
        return points
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    closed = np.ascontiguousarray(np.concatenate([points, points[:1]]), dtype=np.float64)
    keep = np.zeros(len(closed), dtype=np.bool_)
    keep[0] = keep[far] = keep[-1] = True
    _mark(closed, 0, far, tolerance, keep)
    _mark(closed, far, len(points), tolerance, keep)
    if keep.sum() < 4:
        return points
    return closed[:-1][keep[:-1]]


@njit(cache=True, nogil=True)  # pragma: no cover
def _mark(points: NDArray[np.float64], first: int, last: int, tolerance: float, keep: NDArray[np.bool_]) -> None:
    """Mark the points to keep between two that are kept."""
    stack = np.empty((len(points) + 1, 2), dtype=np.int64)
    stack[0, 0], stack[0, 1] = first, last
    depth = 1
    while depth > 0:
        depth -= 1
        start, stop = stack[depth, 0], stack[depth, 1]
        ux = points[stop, 0] - points[start, 0]
        uy = points[stop, 1] - points[start, 1]
        length_squared = ux * ux + uy * uy
        worst = -1.0
        where = -1
        for n in range(start + 1, stop):
            px = points[n, 0] - points[start, 0]
            py = points[n, 1] - points[start, 1]
            along = 0.0
            if length_squared > 0.0:
                along = min(max((px * ux + py * uy) / length_squared, 0.0), 1.0)
            distance = (px - along * ux) ** 2 + (py - along * uy) ** 2
            if distance > worst:
                worst, where = distance, n
        if worst > tolerance * tolerance:
            keep[where] = True
            stack[depth, 0], stack[depth, 1] = start, where
            stack[depth + 1, 0], stack[depth + 1, 1] = where, stop
            depth += 2
