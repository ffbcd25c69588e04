"""Moving values between grids: means over voxels going coarser, trilinear interpolation going finer."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid


def voxel_means(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Return the mean of a piecewise constant volume over each voxel of another grid, shape ``target.shape``.

    What lies outside the source grid counts as zero. The integral is kept, whatever the two spacings.
    """
    if source.is_close(target, 1e-6):
        return np.ascontiguousarray(values, dtype=np.float32)
    shift = _whole_shift(source, target)
    if shift is not None:
        return _moved(values, target.shape, shift)
    result = np.ascontiguousarray(values, dtype=np.float32)
    for axis in (2, 1, 0):  # the fastest axis first: it shrinks the data where memory is contiguous
        component = 2 - axis
        first, weights = _overlaps(
            source.lower_mm[component], source.spacing_mm[component], source.shape[axis],
            target.lower_mm[component], target.spacing_mm[component], target.shape[axis],
        )  # fmt: skip
        shape = result.shape
        outer = int(np.prod(shape[:axis]))
        inner = int(np.prod(shape[axis + 1 :]))
        mixed = _mix(result.reshape(outer, shape[axis], inner), first, weights)
        result = mixed.reshape((*shape[:axis], target.shape[axis], *shape[axis + 1 :]))
    return result


def _whole_shift(source: Grid, target: Grid) -> tuple[int, ...] | None:
    """Return the index [k, j, i] of the source's first voxel in the target, if both share one lattice; else None."""
    spacing = np.asarray(source.spacing_mm)
    if not np.allclose(spacing, target.spacing_mm, rtol=0.0, atol=1e-7):
        return None
    offset = (source.lower_mm - target.lower_mm) / spacing
    whole = np.rint(offset)
    if np.abs(offset - whole).max() > 1e-6:
        return None
    return tuple(int(n) for n in whole[::-1])


def _moved(values: NDArray[np.float32], shape: tuple[int, int, int], shift: tuple[int, ...]) -> NDArray[np.float32]:
    """Cut or pad an array to another grid of its lattice, zero outside."""
    result = np.zeros(shape, dtype=np.float32)
    inside, outside = [], []
    for size, wanted, first in zip(values.shape, shape, shift, strict=True):
        start, stop = max(0, first), min(wanted, size + first)
        if stop <= start:
            return result
        outside.append(slice(start, stop))
        inside.append(slice(start - first, stop - first))
    result[tuple(outside)] = values[tuple(inside)]
    return result


def _overlaps(
    source_low: float, source_step: float, source_count: int, target_low: float, target_step: float, target_count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each target interval the first source interval that it meets and the shares of its length."""
    low = (target_low + target_step * np.arange(target_count) - source_low) / source_step
    high = low + target_step / source_step
    span = int(np.ceil(target_step / source_step - 1e-9)) + 1
    first = np.floor(low + 1e-9).astype(np.int64)
    index = first[:, None] + np.arange(span)
    shared = np.minimum(high[:, None], index + 1) - np.maximum(low[:, None], index)
    shared = np.where((index >= 0) & (index < source_count), np.maximum(shared, 0.0), 0.0)
    shared[shared < 1e-6] = 0.0
    return first, (shared * source_step / target_step).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _mix(values, first, weights):  # type: ignore[no-untyped-def]
    outer, _, inner = values.shape
    targets, span = weights.shape
    result = np.zeros((outer, targets, inner), dtype=np.float32)
    for a in range(outer):
        for t in range(targets):
            for s in range(span):
                weight = weights[t, s]
                if weight > 0.0:
                    source = first[t] + s
                    for b in range(inner):
                        result[a, t, b] += weight * values[a, source, b]
    return result


@numba.njit(inline="always")
def between(n, factor, count):  # type: ignore[no-untyped-def]
    """Return the coarse voxels before and after the centre of fine voxel n, and the fraction of the way."""
    z = min(max((n + 0.5) / factor - 0.5, 0.0), count - 1.0)
    low = min(int(z), max(count - 2, 0))
    return low, min(low + 1, count - 1), np.float32(z - low)


@numba.njit(error_model="numpy")
def block_means(density, one, two, fk, fj, fi, ck, cj, ci):  # type: ignore[no-untyped-def]
    """Return the mean density of a block of voxels, and the mass-weighted means of two values per mass in it.

    The part of a block outside the grid counts as empty.
    """
    nk, nj, ni = density.shape
    mass = np.float32(0.0)
    first = np.float32(0.0)
    second = np.float32(0.0)
    for k in range(ck * fk, min((ck + 1) * fk, nk)):
        for j in range(cj * fj, min((cj + 1) * fj, nj)):
            for i in range(ci * fi, min((ci + 1) * fi, ni)):
                rho = density[k, j, i]
                mass += rho
                first += rho * one[k, j, i]
                second += rho * two[k, j, i]
    if mass > np.float32(0.0):
        first /= mass
        second /= mass
    return mass / np.float32(fk * fj * fi), first, second


@numba.njit(cache=True, nogil=True, error_model="numpy")
def coarsen(density, one, two, factors, mass, one_mean, two_mean):  # type: ignore[no-untyped-def]
    """Sum blocks of voxels into coarse ones: mean density, and the mass-weighted means of two values per mass."""
    nk, nj, ni = mass.shape
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                mass[k, j, i], one_mean[k, j, i], two_mean[k, j, i] = block_means(
                    density, one, two, factors[0], factors[1], factors[2], k, j, i
                )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_refined(coarse, factors, fine):  # type: ignore[no-untyped-def]
    """Add to a fine array the trilinear interpolation of the coarse one whose blocks are ``factors`` fine voxels."""
    nk, nj, ni = fine.shape
    ck, cj, ci = coarse.shape
    row = np.empty(ci, dtype=np.float32)
    for k in range(nk):
        k0, k1, w = between(k, factors[0], ck)
        for j in range(nj):
            j0, j1, v = between(j, factors[1], cj)
            a = (1 - w) * (1 - v)
            b = (1 - w) * v
            c = w * (1 - v)
            d = w * v
            for i in range(ci):
                row[i] = a * coarse[k0, j0, i] + b * coarse[k0, j1, i] + c * coarse[k1, j0, i] + d * coarse[k1, j1, i]
            for i in range(ni):
                i0, i1, u = between(i, factors[2], ci)
                fine[k, j, i] += row[i0] * (1 - u) + row[i1] * u


@numba.njit(error_model="numpy")
def refined_at(coarse, fk, fj, fi, k, j, i):  # type: ignore[no-untyped-def]
    """Return the trilinear interpolation of an array of blocks at voxel [k, j, i]; the factors need not be whole."""
    k0, k1, w = between(k, fk, coarse.shape[0])
    j0, j1, v = between(j, fj, coarse.shape[1])
    i0, i1, u = between(i, fi, coarse.shape[2])
    one = np.float32(1.0)
    low = (one - w) * ((one - v) * coarse[k0, j0, i0] + v * coarse[k0, j1, i0]) + w * (
        (one - v) * coarse[k1, j0, i0] + v * coarse[k1, j1, i0]
    )
    high = (one - w) * ((one - v) * coarse[k0, j0, i1] + v * coarse[k0, j1, i1]) + w * (
        (one - v) * coarse[k1, j0, i1] + v * coarse[k1, j1, i1]
    )
    return low * (one - u) + high * u


@numba.njit(cache=True, nogil=True, error_model="numpy")
def subtract_refined(coarse, factors, at, fine):  # type: ignore[no-untyped-def]
    """Subtract the interpolation of a coarse array from a finer one whose first voxel is voxel ``at`` of the whole."""
    nk, nj, ni = fine.shape
    for k in range(nk):
        for j in range(nj):
            for i in range(ni):
                fine[k, j, i] -= refined_at(coarse, factors[0], factors[1], factors[2], k + at[0], j + at[1], i + at[2])
