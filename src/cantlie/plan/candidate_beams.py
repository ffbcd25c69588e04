"""Candidate beams: pencil-beam doses of the beamlets of many directions in few voxels, quick enough to choose among."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.volume import Volume
from cantlie.dose.pencil import SIGMA_MM, pencil_kernel
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.beam_choice import CandidateBeam

LEAST_SHARE = 0.004
"""Beamlets that give a voxel less than this share of what a wide beam would are left out."""
MOST_MADE_UP = 1.5
"""What is left out is made up by what remains, at most by this factor."""
PENUMBRA_MM = 2.0
RAY_STEP_MM = 8.0


def beamlet_width_mm(points_mm: NDArray[np.float64]) -> float:
    """Return a width of beamlets at which the largest extent of a target takes about seven, 5 to 12 mm."""
    return float(np.clip(np.ptp(points_mm, axis=0).max() / 7.0, 5.0, 12.0))


def candidate_beams(
    geometries: Sequence[BeamGeometry],
    density: Volume,
    model: BeamModel,
    target_mm: NDArray[np.float64],
    voxels_mm: NDArray[np.float64],
    in_target: NDArray[np.float64],
    *,
    width_mm: float,
    margin_mm: float,
    voxel_mm: float,
    extra: Sequence[float] = (),
    whole: bool = False,
) -> tuple[CandidateBeam, ...]:
    """Return candidates for `choose_beams`.

    Dose is that of the beam model's pencil kernels at the water-equivalent depth of each voxel along its own ray, with
    the inverse square law; widths do not change with density.

    Parameters
    ----------
    geometries
        The directions.
    density
        Mass density in g/cm³; coarse (about 6 mm) is enough.
    target_mm
        Points that fill the target, shape (n, 3): beamlets cover its shadow and a margin.
    voxels_mm, voxel_mm
        Centres of the voxels, shape (m, 3), and their width.
    in_target
        Share of the target's volume that each voxel stands for, shape (m,); the sum is 1.
    extra
        What choosing each direction costs beside its dose (see `CandidateBeam`).
    whole
        Take all beamlets of a direction as one: fields that are not modulated.
    """
    grid = density.grid
    values = np.ascontiguousarray(density.values, dtype=np.float32)
    kernel = pencil_kernel(model)
    result = []
    for number, geometry in enumerate(geometries):
        x, y = _beamlets(geometry, target_mm, width_mm, margin_mm)
        u, v, axial_mm = geometry.project(voxels_mm)
        depth_mm = depths_mm(values, grid.origin_mm, grid.spacing_mm, voxels_mm, geometry.source_mm)
        magnified = geometry.sad_mm / axial_mm
        amount = kernel.at(depth_mm) * (magnified**2)[:, None]
        sigma = np.sqrt(SIGMA_MM[None, :] ** 2 + voxel_mm**2 / 12.0) * magnified[:, None]
        sigma = np.sqrt(sigma**2 + PENUMBRA_MM**2)
        start, index, value = _rows(u, v, amount, sigma, x, y, width_mm, LEAST_SHARE, MOST_MADE_UP)
        if whole:
            value = np.add.reduceat(np.append(value, np.float32(0.0)), start[:-1]) * (np.diff(start) > 0)
            start, index = np.arange(len(voxels_mm) + 1), np.zeros(len(voxels_mm), dtype=np.uint16)
            x = x[:1]
        rows = np.repeat(in_target, np.diff(start))
        to_target = np.bincount(index, rows * value, len(x)).astype(np.float64)
        result.append(
            CandidateBeam(
                np.asarray(geometry.axes[2]), start, index, value.astype(np.float32), to_target,
                extra[number] if extra else 0.0,
            )
        )  # fmt: skip
    return tuple(result)


def depths_mm(
    density: NDArray[np.float32],
    origin_mm: Sequence[float],
    spacing_mm: Sequence[float],
    points_mm: NDArray[np.float64],
    source_mm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the water-equivalent depth of points as seen from a source, shape (n,)."""
    return np.asarray(
        _depths(
            density, np.asarray(origin_mm, dtype=np.float64), np.asarray(spacing_mm, dtype=np.float64),
            np.ascontiguousarray(points_mm, dtype=np.float64), np.asarray(source_mm, dtype=np.float64), RAY_STEP_MM,
        )
    )  # fmt: skip


def _beamlets(
    geometry: BeamGeometry, target_mm: NDArray[np.float64], width_mm: float, margin_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres of the beamlets that cover the target's shadow and a margin around it."""
    x, y, _ = geometry.project(target_mm)
    around = margin_mm + 2.0 * width_mm
    low = np.array([x.min() - around, y.min() - around])
    count = np.ceil((np.array([x.max() + around, y.max() + around]) - low) / width_mm).astype(int)
    shadow = np.zeros(count, dtype=bool)
    shadow[((x - low[0]) / width_mm).astype(int), ((y - low[1]) / width_mm).astype(int)] = True
    shadow = ndimage.binary_closing(shadow)
    column, row = np.nonzero(ndimage.distance_transform_edt(~shadow) * width_mm <= margin_mm + 0.5 * width_mm)
    return low[0] + (column + 0.5) * width_mm, low[1] + (row + 0.5) * width_mm


@njit(cache=True, nogil=True)
def _depths(density, origin, spacing, points, source, step_mm):  # type: ignore[no-untyped-def]
    result = np.empty(len(points))
    nk, nj, ni = density.shape
    for n in range(len(points)):
        ray = source - points[n]
        distance = np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
        ray = ray / distance
        depth = 0.0
        at = 0.5 * step_mm
        while at < distance:
            i = int(np.floor((points[n, 0] + at * ray[0] - origin[0]) / spacing[0] + 0.5))
            j = int(np.floor((points[n, 1] + at * ray[1] - origin[1]) / spacing[1] + 0.5))
            k = int(np.floor((points[n, 2] + at * ray[2] - origin[2]) / spacing[2] + 0.5))
            if i < 0 or j < 0 or k < 0 or i >= ni or j >= nj or k >= nk:
                break
            depth += density[k, j, i] * step_mm
            at += step_mm
        result[n] = depth
    return result


@njit(cache=True, nogil=True, fastmath=True)
def _rows(u, v, amount, sigma, x, y, width, least_share, most_made_up):  # type: ignore[no-untyped-def]
    beamlets = len(x)
    kinds = sigma.shape[1]
    low_x, low_y = x.min(), y.min()
    columns = int(np.floor((x.max() - low_x) / width + 0.5)) + 1
    rows = int(np.floor((y.max() - low_y) / width + 0.5)) + 1
    column = np.empty(beamlets, dtype=np.int64)
    row = np.empty(beamlets, dtype=np.int64)
    for b in range(beamlets):
        column[b] = int(np.floor((x[b] - low_x) / width + 0.5))
        row[b] = int(np.floor((y[b] - low_y) / width + 0.5))
    along = np.empty((kinds, columns), dtype=np.float32)
    across = np.empty((kinds, rows), dtype=np.float32)
    edge = np.empty(max(columns, rows) + 1)
    line = np.empty(beamlets, dtype=np.float32)
    start = np.zeros(len(u) + 1, dtype=np.int64)
    index = np.empty(64 * len(u) + beamlets, dtype=np.uint16)
    value = np.empty(len(index), dtype=np.float32)
    count = 0
    for n in range(len(u)):
        start[n] = count
        wide = 0.0
        for k in range(kinds):
            wide += amount[n, k]
            scale = 1.0 / (sigma[n, k] * math.sqrt(2.0))
            for c in range(columns + 1):
                edge[c] = math.erf((low_x + (c - 0.5) * width - u[n]) * scale)
            for c in range(columns):
                along[k, c] = 0.5 * amount[n, k] * (edge[c + 1] - edge[c])
            for r in range(rows + 1):
                edge[r] = math.erf((low_y + (r - 0.5) * width - v[n]) * scale)
            for r in range(rows):
                across[k, r] = 0.5 * (edge[r + 1] - edge[r])
        total = 0.0
        kept = 0.0
        least = least_share * wide
        for b in range(beamlets):
            dose = 0.0
            for k in range(kinds):
                dose += along[k, column[b]] * across[k, row[b]]
            line[b] = dose
            total += dose
            if dose >= least:
                kept += dose
        if kept <= 0.0:
            continue
        factor = min(total / kept, most_made_up)
        if count + beamlets > len(index):
            longer_index = np.empty(len(index) + len(index) // 2 + beamlets, dtype=np.uint16)
            longer_index[:count] = index[:count]
            longer_value = np.empty(len(longer_index), dtype=np.float32)
            longer_value[:count] = value[:count]
            index, value = longer_index, longer_value
        for b in range(beamlets):
            if line[b] >= least:
                index[count] = b
                value[count] = factor * line[b]
                count += 1
    start[len(u)] = count
    return start, index[:count].copy(), value[:count].copy()
