"""Kernels that sample a dose inside the voxels of a partial-volume mask."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_FULL = 1.0 - 1e-4


@njit(cache=True, nogil=True, inline="always")  # pragma: no cover
def _interpolated(values: NDArray[np.float32], k: float, j: float, i: float) -> tuple[float, float, float, float]:
    """Trilinear value at fractional indices and its slopes along k, j, i (per voxel).

    The value is NaN further than half a voxel beyond the outermost centres.
    """
    nk, nj, ni = values.shape
    if k < -0.5 or j < -0.5 or i < -0.5 or k > nk - 0.5 or j > nj - 0.5 or i > ni - 0.5:
        return np.nan, 0.0, 0.0, 0.0
    k, j, i = min(max(k, 0.0), nk - 1.0), min(max(j, 0.0), nj - 1.0), min(max(i, 0.0), ni - 1.0)
    k0, j0, i0 = min(int(k), max(nk - 2, 0)), min(int(j), max(nj - 2, 0)), min(int(i), max(ni - 2, 0))
    k1, j1, i1 = min(k0 + 1, nk - 1), min(j0 + 1, nj - 1), min(i0 + 1, ni - 1)
    c, b, a = k - k0, j - j0, i - i0
    v000, v001, v010, v011 = values[k0, j0, i0], values[k0, j0, i1], values[k0, j1, i0], values[k0, j1, i1]
    v100, v101, v110, v111 = values[k1, j0, i0], values[k1, j0, i1], values[k1, j1, i0], values[k1, j1, i1]
    near_low, near_high = v000 * (1 - a) + v001 * a, v010 * (1 - a) + v011 * a
    far_low, far_high = v100 * (1 - a) + v101 * a, v110 * (1 - a) + v111 * a
    near, far = near_low * (1 - b) + near_high * b, far_low * (1 - b) + far_high * b
    slope_j = (near_high - near_low) * (1 - c) + (far_high - far_low) * c
    slope_i = ((v001 - v000) * (1 - b) + (v011 - v010) * b) * (1 - c) + (
        (v101 - v100) * (1 - b) + (v111 - v110) * b
    ) * c
    return near * (1 - c) + far * c, far - near, slope_j, slope_i


@njit(cache=True, nogil=True, inline="always")  # pragma: no cover
def _spread(steps: NDArray[np.float64], low: float, high: float, weight: float) -> None:
    """Add a weight evenly between two places (in bins) of a histogram that is kept as the steps between its bins.

    Its running sum is the plain histogram; so a wide stretch costs no more than a narrow one.
    """
    top = len(steps) - 2.0
    low, high = min(max(low, 0.0), top - 1e-9), min(max(high, 0.0), top - 1e-9)
    if high - low < 0.05:
        n = int(0.5 * (low + high))
        steps[n] += weight
        steps[n + 1] -= weight
        return
    density = weight / (high - low)
    n = int(low)
    part = low - n
    steps[n] += density * (1.0 - part)
    steps[n + 1] += density * part
    n = int(high)
    part = high - n
    steps[n] -= density * (1.0 - part)
    steps[n + 1] -= density * part


@njit(cache=True, nogil=True, inline="always")  # pragma: no cover
def _slope(shares: NDArray[np.float32], k: int, j: int, i: int, axis: int) -> float:
    """Central difference of the shares along an axis (per two voxels); outside the box the share is 0."""
    n = shares.shape[axis]
    at = k if axis == 0 else (j if axis == 1 else i)
    dk, dj, di = int(axis == 0), int(axis == 1), int(axis == 2)
    above = shares[k + dk, j + dj, i + di] if at + 1 < n else 0.0
    below = shares[k - dk, j - dj, i - di] if at > 0 else 0.0
    return above - below


@njit(cache=True, nogil=True)  # pragma: no cover
def accumulate(
    shares: NDArray[np.float32],
    origin: NDArray[np.float64],
    spacing: NDArray[np.float64],
    values: NDArray[np.float32],
    dose_origin: NDArray[np.float64],
    dose_spacing: NDArray[np.float64],
    inner: NDArray[np.int64],
    surface: NDArray[np.int64],
    bins_per_gy: float,
    steps: NDArray[np.float64],
) -> tuple[float, float, float, float, float]:
    """Add up the dose at points inside a structure.

    Parameters
    ----------
    shares
        Share of each voxel inside the structure, [k, j, i].
    origin, spacing
        Centre of voxel [0, 0, 0] and voxel size along (z, y, x) in mm.
    values, dose_origin, dose_spacing
        The same for the dose in Gy.
    inner, surface
        Points per axis (z, y, x) in voxels that are wholly or partly inside.
    bins_per_gy, steps
        Receives the weights by dose, in voxels, as the steps of a histogram (see `_spread`); two longer than it. Each
        point stands for its part of the voxel, over which the dose varies with its local slope.

    Returns
    -------
    weight, weighted dose, least dose, largest dose, weight outside the dose grid
        Weights in voxels.
    """
    nk, nj, ni = shares.shape
    scale = spacing / dose_spacing
    shift = (origin - dose_origin) / dose_spacing
    most = surface[0] * surface[1] * surface[2]
    heights = np.empty(most)
    ordered = np.empty(most)
    total = dosed = outside = 0.0
    low, high = np.inf, -np.inf
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                share = shares[k, j, i]
                if share <= 0.0:
                    continue
                full = share >= _FULL
                nz, ny, nx = (inner[0], inner[1], inner[2]) if full else (surface[0], surface[1], surface[2])
                count = nz * ny * nx
                threshold = -np.inf
                tie = 1.0
                kept = float(count)
                if not full:
                    # Height of each point along the gradient of the shares (per mm), in voxels of this grid.
                    gz = _slope(shares, k, j, i, 0) / spacing[0]
                    gy = _slope(shares, k, j, i, 1) / spacing[1]
                    gx = _slope(shares, k, j, i, 2) / spacing[2]
                    if gz != 0.0 or gy != 0.0 or gx != 0.0:
                        n = 0
                        for a in range(nz):
                            for b in range(ny):
                                for c in range(nx):
                                    heights[n] = (
                                        gz * spacing[0] * ((a + 0.5) / nz - 0.5)
                                        + gy * spacing[1] * ((b + 0.5) / ny - 0.5)
                                        + gx * spacing[2] * ((c + 0.5) / nx - 0.5)
                                    )
                                    n += 1
                        ordered[:count] = heights[:count]
                        part = ordered[:count]
                        part.sort()
                        kept = share * count
                        whole = int(kept)
                        threshold = part[max(count - 1 - whole, 0)]
                        # Points at the threshold share what is left of the voxel's share.
                        above = 0
                        equal = 0
                        for n in range(count):
                            if part[n] > threshold + 1e-9:
                                above += 1
                            elif part[n] >= threshold - 1e-9:
                                equal += 1
                        tie = min(max((kept - above) / equal, 0.0), 1.0)
                weight = share / kept
                n = 0
                for a in range(nz):
                    dk = shift[0] + scale[0] * (k + (a + 0.5) / nz - 0.5)
                    for b in range(ny):
                        dj = shift[1] + scale[1] * (j + (b + 0.5) / ny - 0.5)
                        for c in range(nx):
                            w = weight
                            if threshold > -np.inf:
                                if heights[n] < threshold - 1e-9:
                                    w = 0.0
                                elif heights[n] <= threshold + 1e-9:
                                    w *= tie
                            n += 1
                            if w <= 0.0:
                                continue
                            di = shift[2] + scale[2] * (i + (c + 0.5) / nx - 0.5)
                            dose, slope_k, slope_j, slope_i = _interpolated(values, dk, dj, di)
                            if np.isnan(dose):
                                outside += w
                                dose = 0.0
                            total += w
                            dosed += w * dose
                            low = min(low, dose)
                            high = max(high, dose)
                            sk, sj, si = slope_k * scale[0] / nz, slope_j * scale[1] / ny, slope_i * scale[2] / nx
                            half = 0.5 * np.sqrt(sk * sk + sj * sj + si * si)
                            _spread(steps, (dose - half) * bins_per_gy, (dose + half) * bins_per_gy, w)
    return total, dosed, low, high, outside


@njit(cache=True, nogil=True)  # pragma: no cover
def scan_nodes(
    shares: NDArray[np.float32],
    origin: NDArray[np.float64],
    spacing: NDArray[np.float64],
    values: NDArray[np.float32],
    dose_origin: NDArray[np.float64],
    dose_spacing: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the least and the largest dose of the dose grid's own voxels whose centres lie wholly inside."""
    low, high = np.inf, -np.inf
    nk, nj, ni = values.shape
    for k in range(nk):
        mk = int(np.floor((dose_origin[0] + k * dose_spacing[0] - origin[0]) / spacing[0] + 0.5))
        if mk < 0 or mk >= shares.shape[0]:
            continue
        for j in range(nj):
            mj = int(np.floor((dose_origin[1] + j * dose_spacing[1] - origin[1]) / spacing[1] + 0.5))
            if mj < 0 or mj >= shares.shape[1]:
                continue
            for i in range(ni):
                mi = int(np.floor((dose_origin[2] + i * dose_spacing[2] - origin[2]) / spacing[2] + 0.5))
                if mi < 0 or mi >= shares.shape[2] or shares[mk, mj, mi] < _FULL:
                    continue
                low = min(low, values[k, j, i])
                high = max(high, values[k, j, i])
    return low, high
