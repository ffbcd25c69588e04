"""Rays: water-equivalent depth along a fan from the source, and the energy that the primary photons release."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.machine.geometry import BeamGeometry


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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _trace(density, origin, spacing, source, axes, sad, first_x, first_y, pitch, start, step, depth):  # type: ignore[no-untyped-def]
    nk, nj, ni = density.shape
    nodes, ny, nx = depth.shape
    for iy in range(ny):
        for ix in range(nx):
            tan_x = (first_x + pitch * ix) / sad
            tan_y = (first_y + pitch * iy) / sad
            stretch = np.sqrt(1.0 + tan_x * tan_x + tan_y * tan_y)
            ray_i = (tan_x * axes[0, 0] + tan_y * axes[1, 0] - axes[2, 0]) / spacing[0]
            ray_j = (tan_x * axes[0, 1] + tan_y * axes[1, 1] - axes[2, 1]) / spacing[1]
            ray_k = (tan_x * axes[0, 2] + tan_y * axes[1, 2] - axes[2, 2]) / spacing[2]
            from_i = (source[0] - origin[0]) / spacing[0]
            from_j = (source[1] - origin[1]) / spacing[1]
            from_k = (source[2] - origin[2]) / spacing[2]
            total = 0.0
            depth[0, iy, ix] = 0.0
            for n in range(1, nodes):
                axial = start + step * (n - 0.5)
                i = from_i + axial * ray_i
                j = from_j + axial * ray_j
                k = from_k + axial * ray_k
                if -0.5 <= i <= ni - 0.5 and -0.5 <= j <= nj - 0.5 and -0.5 <= k <= nk - 0.5:
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
                    total += (low * (1 - w) + high * w) * step * stretch
                depth[n, iy, ix] = total


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
    corners = np.stack(np.meshgrid(*zip(grid.lower_mm, grid.upper_mm, strict=True), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    axial = geometry.project(corners)[2]
    start = max(float(axial.min()), 1.0)
    nodes = int(np.ceil((float(axial.max()) - start) / step_mm)) + 2
    nx = int(np.ceil((x_range_mm[1] - x_range_mm[0]) / pitch_mm)) + 1
    ny = int(np.ceil((y_range_mm[1] - y_range_mm[0]) / pitch_mm)) + 1
    depth = np.empty((nodes, ny, nx), dtype=np.float32)
    _trace(
        density, np.asarray(grid.origin_mm), np.asarray(grid.spacing_mm), geometry.source_mm, geometry.axes,
        geometry.sad_mm, x_range_mm[0], y_range_mm[0], pitch_mm, start, step_mm, depth,
    )  # fmt: skip
    return RayDepths((x_range_mm[0], y_range_mm[0]), pitch_mm, start, step_mm, depth)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _integral_at(integral, x, y):  # type: ignore[no-untyped-def]
    """Bilinear value of the running integral of a fluence map at pixel-edge coordinates, clamped to its borders."""
    ny, nx = integral.shape
    x = min(max(x, 0.0), nx - 1.0)
    y = min(max(y, 0.0), ny - 1.0)
    i = min(int(x), nx - 2)
    j = min(int(y), ny - 2)
    u = x - i
    v = y - j
    return (integral[j, i] * (1 - u) + integral[j, i + 1] * u) * (1 - v) + (
        integral[j + 1, i] * (1 - u) + integral[j + 1, i + 1] * u
    ) * v


@numba.njit(cache=True, nogil=True, error_model="numpy")
def release(  # type: ignore[no-untyped-def]
    density, origin, spacing, source, axes, sad, integral, edge_x, edge_y, pixel, reach_mm, depth, first_x, first_y,
    pitch, start, step, terma, hardening, table_step, softening, softening_step, contamination_mm, margin_mm,
    lung_margin_mm, near, far, surface_dose, active,
):  # fmt: skip
    """Fill the energy released per mass, the dose of contaminating electrons and the mask of voxels in reach."""
    nk, nj, ni = density.shape
    nodes, ny, nx = depth.shape
    map_ny, map_nx = reach_mm.shape
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                rel_x = origin[0] + spacing[0] * i - source[0]
                rel_y = origin[1] + spacing[1] * j - source[1]
                rel_z = origin[2] + spacing[2] * k - source[2]
                axial = -(rel_x * axes[2, 0] + rel_y * axes[2, 1] + rel_z * axes[2, 2])
                if axial <= 1.0:
                    continue
                scale = sad / axial
                x = (rel_x * axes[0, 0] + rel_y * axes[0, 1] + rel_z * axes[0, 2]) * scale
                y = (rel_x * axes[1, 0] + rel_y * axes[1, 1] + rel_z * axes[1, 2]) * scale
                column = min(max(int(np.floor((x - edge_x) / pixel)), 0), map_nx - 1)
                row = min(max(int(np.floor((y - edge_y) / pixel)), 0), map_ny - 1)
                beyond_x = max(edge_x - x, x - edge_x - pixel * map_nx, 0.0)
                beyond_y = max(edge_y - y, y - edge_y - pixel * map_ny, 0.0)
                away = (reach_mm[row, column] + beyond_x + beyond_y) / scale
                if away > lung_margin_mm:
                    continue
                if away <= margin_mm or density[k, j, i] < 0.6:
                    active[k, j, i] = True
                # The voxel's shadow on the isocentre plane, as a rectangle of the same variance along x and y.
                wide_x = 0.0
                wide_y = 0.0
                for a in range(3):
                    tilt_x = axes[0, a] + axes[2, a] * x / sad
                    tilt_y = axes[1, a] + axes[2, a] * y / sad
                    wide_x += (spacing[a] * tilt_x) ** 2
                    wide_y += (spacing[a] * tilt_y) ** 2
                wide_x = np.sqrt(wide_x) * scale
                wide_y = np.sqrt(wide_y) * scale
                low_x = (x - 0.5 * wide_x - edge_x) / pixel
                high_x = (x + 0.5 * wide_x - edge_x) / pixel
                low_y = (y - 0.5 * wide_y - edge_y) / pixel
                high_y = (y + 0.5 * wide_y - edge_y) / pixel
                fluence = (
                    _integral_at(integral, high_x, high_y)
                    - _integral_at(integral, low_x, high_y)
                    - _integral_at(integral, high_x, low_y)
                    + _integral_at(integral, low_x, low_y)
                ) / ((high_x - low_x) * (high_y - low_y))
                if fluence <= 1e-9:
                    continue
                u = min(max((x - first_x) / pitch, 0.0), nx - 1.0)
                v = min(max((y - first_y) / pitch, 0.0), ny - 1.0)
                w = min(max((axial - start) / step, 0.0), nodes - 1.0)
                a0 = min(int(u), nx - 2)
                b0 = min(int(v), ny - 2)
                c0 = min(int(w), nodes - 2)
                u -= a0
                v -= b0
                w -= c0
                low = (depth[c0, b0, a0] * (1 - u) + depth[c0, b0, a0 + 1] * u) * (1 - v) + (
                    depth[c0, b0 + 1, a0] * (1 - u) + depth[c0, b0 + 1, a0 + 1] * u
                ) * v
                high = (depth[c0 + 1, b0, a0] * (1 - u) + depth[c0 + 1, b0, a0 + 1] * u) * (1 - v) + (
                    depth[c0 + 1, b0 + 1, a0] * (1 - u) + depth[c0 + 1, b0 + 1, a0 + 1] * u
                ) * v
                deep = low * (1 - w) + high * w
                distance_square = rel_x * rel_x + rel_y * rel_y + rel_z * rel_z
                fluence *= sad * sad / distance_square
                if contamination_mm > 0.0:
                    surface_dose[k, j, i] = fluence * np.exp(-deep / contamination_mm)
                if softening.size > 1:
                    position = np.sqrt(x * x + y * y) / softening_step
                    node = min(int(position), softening.size - 2)
                    part = min(position - node, 1.0)
                    deep *= softening[node] * (1 - part) + softening[node + 1] * part
                position = deep / table_step
                node = min(int(position), terma.size - 2)
                part = min(position - node, 1.0)
                released = fluence * (terma[node] * (1 - part) + terma[node + 1] * part)
                mixed = hardening[node] * (1 - part) + hardening[node + 1] * part
                near[k, j, i] = released * (1.0 - mixed)
                far[k, j, i] = released * mixed
