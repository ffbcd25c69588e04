"""Reading the dose of voxels on planes across a beam: between two planes, and on each between four nodes."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.dose.rays import frame_of
from cantlie.machine.geometry import BeamGeometry

Positions = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def read_places(
    grid: Grid, voxels: NDArray[np.int64], geometry: BeamGeometry, positions_mm: Positions
) -> tuple[Positions, tuple[slice, slice, slice], NDArray[np.int32], NDArray[np.float32]]:
    """Return where voxels lie among planes and nodes of a beam.

    Parameters
    ----------
    grid, voxels
        The grid, and flat indices of voxels, shape (n,).
    geometry
        The beam.
    positions_mm
        Increasing positions of the planes along the axis from the source, and of the nodes along y and x of the
        isocentre plane.

    Returns
    -------
    positions_mm, kept
        The positions from the first to the last that a voxel reads, and which of those given they are.
    index
        For each voxel the place among them of the last below it, along the axis, y and x, shape (n, 3).
    part
        How far it lies on the way to the next one, from 0 to 1, shape (n, 3).
    """
    index = np.empty((voxels.size, 3), dtype=np.int32)
    part = np.empty((voxels.size, 3), dtype=np.float32)
    _place(voxels, np.array(grid.shape), frame_of(geometry, grid), geometry.sad_mm, *positions_mm, index, part)
    kept = []
    for axis, positions in enumerate(positions_mm):
        low = int(index[:, axis].min(initial=positions.size - 2))
        kept.append(slice(low, int(index[:, axis].max(initial=low)) + 2))
    index -= np.array([k.start for k in kept], dtype=np.int32)
    z, y, x = (positions[k] for positions, k in zip(positions_mm, kept, strict=True))
    return (z, y, x), (kept[0], kept[1], kept[2]), index, part


def rows_read(index: NDArray[np.int32], planes: int) -> NDArray[np.int32]:
    """Return the first row of nodes of each plane that some voxel reads, and the last + 1, shape (planes, 2)."""
    rows = np.zeros((planes, 2), dtype=np.int32)
    _widen(index, rows)
    return rows


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _widen(index, rows):  # type: ignore[no-untyped-def]
    for n in range(index.shape[0]):
        row = index[n, 1]
        for plane in range(index[n, 0], index[n, 0] + 2):
            if rows[plane, 1] == 0:
                rows[plane, 0], rows[plane, 1] = row, row + 2
            rows[plane, 0], rows[plane, 1] = min(rows[plane, 0], row), max(rows[plane, 1], row + 2)


@numba.njit(inline="always")
def _below(positions, value, near):  # type: ignore[no-untyped-def]
    """Return the place of the last position below a value, but the last of all, looked for from a place near by."""
    while near > 0 and positions[near] > value:
        near -= 1
    while near < positions.size - 2 and positions[near + 1] <= value:
        near += 1
    return near


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(voxels, shape, frame, sad_mm, planes_mm, nodes_y_mm, nodes_x_mm, index, part):  # type: ignore[no-untyped-def]
    origin, spacing, source, axis_x, axis_y, axis_z = frame
    a, b, c = 0, 0, 0
    for n in range(voxels.size):
        row, i = divmod(voxels[n], shape[2])
        k, j = divmod(row, shape[1])
        px = origin[0] + spacing[0] * i - source[0]
        py = origin[1] + spacing[1] * j - source[1]
        pz = origin[2] + spacing[2] * k - source[2]
        axial = -(px * axis_z[0] + py * axis_z[1] + pz * axis_z[2])
        x = (px * axis_x[0] + py * axis_x[1] + pz * axis_x[2]) * sad_mm / axial
        y = (px * axis_y[0] + py * axis_y[1] + pz * axis_y[2]) * sad_mm / axial
        a, b, c = _below(planes_mm, axial, a), _below(nodes_y_mm, y, b), _below(nodes_x_mm, x, c)
        index[n, 0], index[n, 1], index[n, 2] = a, b, c
        part[n, 0] = min(max((axial - planes_mm[a]) / (planes_mm[a + 1] - planes_mm[a]), 0.0), 1.0)
        part[n, 1] = min(max((y - nodes_y_mm[b]) / (nodes_y_mm[b + 1] - nodes_y_mm[b]), 0.0), 1.0)
        part[n, 2] = min(max((x - nodes_x_mm[c]) / (nodes_x_mm[c + 1] - nodes_x_mm[c]), 0.0), 1.0)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def add_read(planes, base, part, factor, dose):  # type: ignore[no-untyped-def]
    """Add to the dose of voxels what they read on planes, times a factor of each.

    ``base`` holds the flat index of the lower corner among the nodes of all planes, the others are in order of voxels.
    """
    flat = planes.ravel()
    row = planes.shape[2]
    plane = planes.shape[1] * row
    for n in range(base.size):
        b = base[n]
        w, v, u = part[n, 0], part[n, 1], part[n, 2]
        low = (flat[b] * (1 - u) + flat[b + 1] * u) * (1 - v) + (flat[b + row] * (1 - u) + flat[b + row + 1] * u) * v
        b += plane
        high = (flat[b] * (1 - u) + flat[b + 1] * u) * (1 - v) + (flat[b + row] * (1 - u) + flat[b + row + 1] * u) * v
        dose[n] += factor[n] * (low * (1 - w) + high * w)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def write(planes, base, part, factor, values):  # type: ignore[no-untyped-def]
    """Add to planes the transpose of `add_read` of a value per voxel."""
    flat = planes.ravel()
    row = planes.shape[2]
    plane = planes.shape[1] * row
    for n in range(base.size):
        b = base[n]
        if values[n] == 0.0:
            continue
        w, v, u = part[n, 0], part[n, 1], part[n, 2]
        value = factor[n] * values[n]
        low = value * (1 - w)
        flat[b] += low * (1 - v) * (1 - u)
        flat[b + 1] += low * (1 - v) * u
        flat[b + row] += low * v * (1 - u)
        flat[b + row + 1] += low * v * u
        b += plane
        high = value * w
        flat[b] += high * (1 - v) * (1 - u)
        flat[b + 1] += high * (1 - v) * u
        flat[b + row] += high * v * (1 - u)
        flat[b + row + 1] += high * v * u
