"""Rays: water-equivalent depth along a fan from the source, and the energy that the primary photons release.

The functions of one ray and one voxel are compiled for the CPU and, by :mod:`cantlie.dose.cuda_kernels`, for a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.threads import shared_out, spans
from cantlie.machine.geometry import BeamGeometry

LUNG_DENSITY = 0.6
"""Water-equivalent density (g/cm³) below which electrons are followed as far as in lung."""
_LEAST_ROWS = 8
"""Fewest rows of rays that are worth sharing out."""
_FASTER = {"arcp", "contract"}
"""Liberties with rounding: to multiply by reciprocals and to join multiplications and additions."""


@dataclass(frozen=True, slots=True, eq=False)
class RayDepths:
    """Water-equivalent depth at nodes of a fan of rays.

    Ray ``[iy, ix]`` crosses the isocentre plane at ``first_mm + pitch_mm * (ix, iy)``; node n of each ray lies at the
    axial distance ``start_mm + step_mm * n`` from the source.
    """

    first_mm: tuple[float, float]
    pitch_mm: float
    start_mm: float
    step_mm: float
    depth_mm: NDArray[np.float32]


def frame_of(geometry: BeamGeometry, grid: Grid) -> NDArray[np.float64]:
    """Return what places voxels in a beam, shape (6, 3): origin and spacing of the grid, source, axes x, y, z (mm)."""
    return np.vstack([grid.origin_mm, grid.spacing_mm, geometry.source_mm, geometry.axes]).astype(np.float64)


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def density_at(density, i, j, k):  # type: ignore[no-untyped-def]
    """Return the trilinear value of a volume at voxel coordinates, zero outside its voxels."""
    nk, nj, ni = density.shape
    if i < -0.5 or j < -0.5 or k < -0.5 or i > ni - 0.5 or j > nj - 0.5 or k > nk - 0.5:
        return 0.0
    i = min(max(i, 0.0), ni - 1.0)
    j = min(max(j, 0.0), nj - 1.0)
    k = min(max(k, 0.0), nk - 1.0)
    i0 = min(int(i), max(ni - 2, 0))
    j0 = min(int(j), max(nj - 2, 0))
    k0 = min(int(k), max(nk - 2, 0))
    i1 = min(i0 + 1, ni - 1)
    j1 = min(j0 + 1, nj - 1)
    k1 = min(k0 + 1, nk - 1)
    u = i - i0
    v = j - j0
    w = k - k0
    low = (density[k0, j0, i0] * (1 - u) + density[k0, j0, i1] * u) * (1 - v) + (
        density[k0, j1, i0] * (1 - u) + density[k0, j1, i1] * u
    ) * v
    high = (density[k1, j0, i0] * (1 - u) + density[k1, j0, i1] * u) * (1 - v) + (
        density[k1, j1, i0] * (1 - u) + density[k1, j1, i1] * u
    ) * v
    return low * (1 - w) + high * w


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def trace_ray(density, frame, tan_x, tan_y, start, step, depth, iy, ix):  # type: ignore[no-untyped-def]
    """Fill the water-equivalent depth at the nodes of one ray; see :func:`frame_of`."""
    stretch = math.sqrt(1.0 + tan_x * tan_x + tan_y * tan_y)
    ray_i = (tan_x * frame[3, 0] + tan_y * frame[4, 0] - frame[5, 0]) / frame[1, 0]
    ray_j = (tan_x * frame[3, 1] + tan_y * frame[4, 1] - frame[5, 1]) / frame[1, 1]
    ray_k = (tan_x * frame[3, 2] + tan_y * frame[4, 2] - frame[5, 2]) / frame[1, 2]
    from_i = (frame[2, 0] - frame[0, 0]) / frame[1, 0]
    from_j = (frame[2, 1] - frame[0, 1]) / frame[1, 1]
    from_k = (frame[2, 2] - frame[0, 2]) / frame[1, 2]
    total = 0.0
    depth[0, iy, ix] = 0.0
    for n in range(1, depth.shape[0]):
        axial = start + step * (n - 0.5)
        rho = density_at(density, from_i + axial * ray_i, from_j + axial * ray_j, from_k + axial * ray_k)
        total += rho * step * stretch
        depth[n, iy, ix] = total


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def rectangle_of(integral, low_x, high_x, low_y, high_y):  # type: ignore[no-untyped-def]
    """Return what the running integral of a fluence map holds between pixel-edge coordinates: pixels times fluence.

    What lies beyond the map is empty.
    """
    ny, nx = integral.shape[0] - 1, integral.shape[1] - 1
    low_x, high_x = min(max(low_x, 0.0), float(nx)), min(max(high_x, 0.0), float(nx))
    low_y, high_y = min(max(low_y, 0.0), float(ny)), min(max(high_y, 0.0), float(ny))
    if high_x <= low_x or high_y <= low_y:
        return 0.0
    i0, i1 = min(int(low_x), nx - 1), min(int(high_x), nx - 1)
    j0, j1 = min(int(low_y), ny - 1), min(int(high_y), ny - 1)
    u0, u1, v0, v1 = low_x - i0, high_x - i1, low_y - j0, high_y - j1
    upper = (integral[j1, i1] * (1 - u1) + integral[j1, i1 + 1] * u1
             - integral[j1, i0] * (1 - u0) - integral[j1, i0 + 1] * u0) * (1 - v1)  # fmt: skip
    upper += (integral[j1 + 1, i1] * (1 - u1) + integral[j1 + 1, i1 + 1] * u1
              - integral[j1 + 1, i0] * (1 - u0) - integral[j1 + 1, i0 + 1] * u0) * v1  # fmt: skip
    lower = (integral[j0, i1] * (1 - u1) + integral[j0, i1 + 1] * u1
             - integral[j0, i0] * (1 - u0) - integral[j0, i0 + 1] * u0) * (1 - v0)  # fmt: skip
    lower += (integral[j0 + 1, i1] * (1 - u1) + integral[j0 + 1, i1 + 1] * u1
              - integral[j0 + 1, i0] * (1 - u0) - integral[j0 + 1, i0 + 1] * u0) * v0  # fmt: skip
    return upper - lower


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def depth_at(depth, u, v, w):  # type: ignore[no-untyped-def]
    """Return the depth between the nodes of a fan at node coordinates along x, y and the axis."""
    nodes, ny, nx = depth.shape
    u = min(max(u, 0.0), nx - 1.0)
    v = min(max(v, 0.0), ny - 1.0)
    w = min(max(w, 0.0), nodes - 1.0)
    a = min(int(u), nx - 2)
    b = min(int(v), ny - 2)
    c = min(int(w), nodes - 2)
    u -= a
    v -= b
    w -= c
    low = (depth[c, b, a] * (1 - u) + depth[c, b, a + 1] * u) * (1 - v) + (
        depth[c, b + 1, a] * (1 - u) + depth[c, b + 1, a + 1] * u
    ) * v
    high = (depth[c + 1, b, a] * (1 - u) + depth[c + 1, b, a + 1] * u) * (1 - v) + (
        depth[c + 1, b + 1, a] * (1 - u) + depth[c + 1, b + 1, a + 1] * u
    ) * v
    return low * (1 - w) + high * w


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def table_at(table, row, position):  # type: ignore[no-untyped-def]
    """Return the linear interpolation in one row of a table at a position in steps, constant beyond its end."""
    node = min(int(position), table.shape[1] - 2)
    part = min(position - node, 1.0)
    return table[row, node] * (1 - part) + table[row, node + 1] * part


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def project_voxel(k, j, i, frame, sad):  # type: ignore[no-untyped-def]
    """Return where the ray to a voxel crosses the isocentre plane (x, y), and its axial distance from the source."""
    rel_x = frame[0, 0] + frame[1, 0] * i - frame[2, 0]
    rel_y = frame[0, 1] + frame[1, 1] * j - frame[2, 1]
    rel_z = frame[0, 2] + frame[1, 2] * k - frame[2, 2]
    axial = -(rel_x * frame[5, 0] + rel_y * frame[5, 1] + rel_z * frame[5, 2])
    scale = sad / max(axial, 1.0)
    x = (rel_x * frame[3, 0] + rel_y * frame[3, 1] + rel_z * frame[3, 2]) * scale
    y = (rel_x * frame[4, 0] + rel_y * frame[4, 1] + rel_z * frame[4, 2]) * scale
    return x, y, axial


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def away_from_beam(x, y, edge_x, edge_y, pixel, reach_mm):  # type: ignore[no-untyped-def]
    """Return how far (mm, in the isocentre plane) a point of it is from the open part of the fluence map."""
    map_ny, map_nx = reach_mm.shape
    column, row = (x - edge_x) / pixel, (y - edge_y) / pixel
    beyond = max(-column, column - map_nx, 0.0) + max(-row, row - map_ny, 0.0)
    nearest = reach_mm[min(max(int(row), 0), map_ny - 1), min(max(int(column), 0), map_nx - 1)]
    return nearest + beyond * pixel


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def width_of_voxel(x, y, frame, sad):  # type: ignore[no-untyped-def]
    """Return how wide a voxel is across the ray through a point of the isocentre plane, along x and y (mm).

    A rectangle of these widths has the variance of the voxel's shadow.
    """
    wide_x = 0.0
    wide_y = 0.0
    for a in range(3):
        tilt_x = frame[3, a] + frame[5, a] * x / sad
        tilt_y = frame[4, a] + frame[5, a] * y / sad
        wide_x += (frame[1, a] * tilt_x) ** 2
        wide_y += (frame[1, a] * tilt_y) ** 2
    return math.sqrt(wide_x), math.sqrt(wide_y)


@numba.njit(error_model="numpy", inline="always", fastmath=_FASTER)
def release_at(  # type: ignore[no-untyped-def]
    x, y, axial, wide_x, wide_y, sad, integral, edge_x, edge_y, pixel, depth, first_x, first_y, pitch, start, step,
    table, table_step, softening, softening_step, contamination_mm,
):  # fmt: skip
    """Return energy released per mass (surface, deep mixture) and electron fluence in a voxel of a width, where it is
    projected to."""
    scale = sad / axial
    half_x = 0.5 * wide_x * scale / pixel
    half_y = 0.5 * wide_y * scale / pixel
    at_x = (x - edge_x) / pixel
    at_y = (y - edge_y) / pixel
    fluence = rectangle_of(integral, at_x - half_x, at_x + half_x, at_y - half_y, at_y + half_y)
    fluence /= 4.0 * half_x * half_y
    if fluence <= 1e-9:
        return 0.0, 0.0, 0.0
    deep = depth_at(depth, (x - first_x) / pitch, (y - first_y) / pitch, (axial - start) / step)
    off_axis_squared = x * x + y * y
    fluence *= scale * scale * sad * sad / (sad * sad + off_axis_squared)
    surface = 0.0
    if contamination_mm > 0.0:
        surface = fluence * math.exp(-deep / contamination_mm)
    if softening.shape[1] > 1:
        deep *= table_at(softening, 0, math.sqrt(off_axis_squared) / softening_step)
    released = fluence * table_at(table, 0, deep / table_step)
    mixed = table_at(table, 1, deep / table_step)
    return released * (1.0 - mixed), released * mixed, surface


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _trace(  # type: ignore[no-untyped-def]
    first_iy, last_iy, density, frame, sad, first_x, first_y, pitch, start, step, depth,
):  # fmt: skip
    nx = depth.shape[2]
    for iy in range(first_iy, last_iy):
        for ix in range(nx):
            trace_ray(density, frame, (first_x + pitch * ix) / sad, (first_y + pitch * iy) / sad, start, step, depth,
                      iy, ix)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fan:
    """A fan of rays before it is traced; the names are those of :class:`RayDepths`."""

    first_mm: tuple[float, float]
    pitch_mm: float
    start_mm: float
    step_mm: float
    shape: tuple[int, int, int]


def fan(
    geometry: BeamGeometry,
    grid: Grid,
    x_range_mm: tuple[float, float],
    y_range_mm: tuple[float, float],
    pitch_mm: float,
    step_mm: float,
) -> Fan:
    """Return the fan of rays that covers a rectangle of the isocentre plane, from the grid's near to its far corner."""
    corners = np.stack(np.meshgrid(*zip(grid.lower_mm, grid.upper_mm, strict=True), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    axial = geometry.project(corners)[2]
    start = max(float(axial.min()), 1.0)
    nodes = int(np.ceil((float(axial.max()) - start) / step_mm)) + 2
    nx = int(np.ceil((x_range_mm[1] - x_range_mm[0]) / pitch_mm)) + 1
    ny = int(np.ceil((y_range_mm[1] - y_range_mm[0]) / pitch_mm)) + 1
    return Fan((x_range_mm[0], y_range_mm[0]), pitch_mm, start, step_mm, (nodes, ny, nx))


def trace(
    geometry: BeamGeometry,
    density: NDArray[np.float32],
    grid: Grid,
    x_range_mm: tuple[float, float],
    y_range_mm: tuple[float, float],
    pitch_mm: float,
    step_mm: float,
) -> RayDepths:
    """Trace a fan of rays from the source through a grid of water-equivalent density.

    Parameters
    ----------
    density, grid
        Water-equivalent density (g/cm³) on its grid.
    x_range_mm, y_range_mm
        What the fan must cover in the isocentre plane.
    pitch_mm, step_mm
        Distance of rays in the isocentre plane and of nodes along the axis.
    """
    rays = fan(geometry, grid, x_range_mm, y_range_mm, pitch_mm, step_mm)
    depth = ray_depths(density, grid, geometry, rays)
    return RayDepths(rays.first_mm, pitch_mm, rays.start_mm, step_mm, depth)


def ray_depths(density: NDArray[np.float32], grid: Grid, geometry: BeamGeometry, rays: Fan) -> NDArray[np.float32]:
    """Return the water-equivalent depth at the nodes of a fan of rays, shape ``rays.shape``."""
    depth = np.empty(rays.shape, dtype=np.float32)
    frame = frame_of(geometry, grid)

    def rows(own: slice) -> None:
        _trace(
            own.start, own.stop, density, frame, geometry.sad_mm, *rays.first_mm, rays.pitch_mm, rays.start_mm,
            rays.step_mm, depth,
        )  # fmt: skip

    shared_out(rows, spans(rays.shape[1], _LEAST_ROWS))
    return depth


_RUN = 8
"""Voxels along a row that are passed over together where the middle one is far enough from the beam, and that count as
equally wide."""


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FASTER)
def release(  # type: ignore[no-untyped-def]
    first_k, last_k, density, frame, sad, integral, edge_x, edge_y, pixel, reach_mm, depth, first_x, first_y, pitch,
    start, step, table, table_step, softening, softening_step, contamination_mm, margin_mm, lung_margin_mm, near, far,
    surface_dose, active,
):  # fmt: skip
    """Add the energy released per mass and the fluence of electrons in some slices, and mark the voxels in reach."""
    _, nj, ni = density.shape
    beyond = lung_margin_mm + _RUN * frame[1, 0] + 2.0 * pixel
    for k in range(first_k, last_k):
        for j in range(nj):
            for run in range(0, ni, _RUN):
                x, y, axial = project_voxel(k, j, run + _RUN // 2, frame, sad)
                away = away_from_beam(x, y, edge_x, edge_y, pixel, reach_mm) * axial / sad
                if axial > 1.0 and away > beyond:
                    continue
                wide_x, wide_y = width_of_voxel(x, y, frame, sad)
                for i in range(run, min(run + _RUN, ni)):
                    x, y, axial = project_voxel(k, j, i, frame, sad)
                    away = away_from_beam(x, y, edge_x, edge_y, pixel, reach_mm) * axial / sad
                    if axial <= 1.0 or away > lung_margin_mm:
                        continue
                    if away <= margin_mm or density[k, j, i] < LUNG_DENSITY:
                        active[k, j, i] = True
                    one, two, surface = release_at(
                        x, y, axial, wide_x, wide_y, sad, integral, edge_x, edge_y, pixel, depth, first_x, first_y,
                        pitch, start, step, table, table_step, softening, softening_step, contamination_mm,
                    )  # fmt: skip
                    if one + two > 0.0:
                        near[k, j, i] += one
                        far[k, j, i] += two
                        if contamination_mm > 0.0:
                            surface_dose[k, j, i] += surface
