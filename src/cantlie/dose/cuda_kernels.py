"""CUDA kernels: the loops of the dose engine over threads. What a thread does in a voxel is the CPU's own function.

Every kernel strides over its work, so that any number of threads gives the same result, and no two threads write to
the same place: sums are made in a fixed order by one thread per voxel. Import this module only where CUDA is wanted.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
from numba import config, cuda

from cantlie.dose import rays as cpu_rays
from cantlie.dose import regrid as cpu_regrid
from cantlie.dose import sweep as cpu_sweep

SIMULATED = bool(config.ENABLE_CUDASIM)
THREADS = 128
WAY_HEAD = 6
"""Integers that stand before the shifts of a direction; see :func:`sweep_kernel`."""
_MOST_BLOCKS = 1 << 16

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small grids are no fault of the user
_F = np.float32


def _steps(module: ModuleType) -> Any:
    """Return a module with the steps of the engine as a kernel can call them.

    numba compiles the CPU's functions for the GPU by itself; its simulator wants plain Python.
    """
    if not SIMULATED:
        return module
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None and spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    config.DISABLE_JIT = True
    try:
        spec.loader.exec_module(plain)
    finally:
        config.DISABLE_JIT = False
    return plain


_rays, _regrid, _sweep = (_steps(module) for module in (cpu_rays, cpu_regrid, cpu_sweep))


def launch(kernel: Any, count: int, *arguments: Any) -> None:
    """Run a kernel over so many pieces of work."""
    blocks, threads = min(-(-count // THREADS), _MOST_BLOCKS), THREADS
    if SIMULATED:
        blocks, threads = 1, 2
    kernel[max(blocks, 1), threads](*arguments)


def launch_block(kernel: Any, *arguments: Any) -> None:
    """Run a kernel whose threads work together, as one block."""
    kernel[1, 2 if SIMULATED else THREADS](*arguments)


@cuda.jit
def fill_kernel(values, value):  # type: ignore[no-untyped-def]
    """Set all of an array."""
    for t in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        values[t] = value


@cuda.jit
def trace_kernel(density, frame, sad, first_x, first_y, pitch, start, step, depth):  # type: ignore[no-untyped-def]
    """Fill the water-equivalent depth of a fan of rays, one thread per ray."""
    _, ny, nx = depth.shape
    for t in range(cuda.grid(1), ny * nx, cuda.gridsize(1)):
        iy, ix = t // nx, t % nx
        _rays.trace_ray(
            density, frame, (first_x + pitch * ix) / sad, (first_y + pitch * iy) / sad, start, step, depth, iy, ix
        )


@cuda.jit
def release_kernel(  # type: ignore[no-untyped-def]
    density, frame, sad, integral, edge_x, edge_y, pixel, reach_mm, depth, first_x, first_y, pitch, start, step, table,
    table_step, softening, softening_step, contamination_mm, margin_mm, lung_margin_mm, near, far, surface_dose, active,
    add,
):  # fmt: skip
    """Set, or add to, what the primary photons release, one thread per voxel; as :func:`cantlie.dose.rays.release`."""
    nk, nj, ni = density.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        one, two, surface, reached = _F(0.0), _F(0.0), _F(0.0), False
        x, y, axial = _rays.project_voxel(k, j, i, frame, sad)
        away = _rays.away_from_beam(x, y, edge_x, edge_y, pixel, reach_mm) * axial / sad
        if axial > 1.0 and away <= lung_margin_mm:
            reached = away <= margin_mm or density[k, j, i] < _rays.LUNG_DENSITY
            wide_x, wide_y = _rays.width_of_voxel(x, y, frame, sad)
            shallow, deep, electrons = _rays.release_at(
                x, y, axial, wide_x, wide_y, sad, integral, edge_x, edge_y, pixel, depth, first_x, first_y, pitch,
                start, step, table, table_step, softening, softening_step, contamination_mm,
            )  # fmt: skip
            one, two, surface = _F(shallow), _F(deep), _F(electrons)
        if add:
            one += near[k, j, i]
            two += far[k, j, i]
            reached = reached or active[k, j, i] != 0
        near[k, j, i] = one
        far[k, j, i] = two
        active[k, j, i] = 1 if reached else 0
        if contamination_mm > 0.0:
            if add:
                surface += surface_dose[k, j, i]
            surface_dose[k, j, i] = surface


@cuda.jit
def bounds_kernel(active, bounds):  # type: ignore[no-untyped-def]
    """Find first and last index along [k, j, i] of the voxels in reach, and their number: seven integers."""
    nk, nj, ni = active.shape
    first_k, last_k, first_j, last_j, first_i, last_i, count = nk, -1, nj, -1, ni, -1, 0
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        if active[k, j, i]:
            first_k, last_k = min(first_k, k), max(last_k, k)
            first_j, last_j = min(first_j, j), max(last_j, j)
            first_i, last_i = min(first_i, i), max(last_i, i)
            count += 1
    if count:
        cuda.atomic.min(bounds, 0, first_k)
        cuda.atomic.max(bounds, 1, last_k)
        cuda.atomic.min(bounds, 2, first_j)
        cuda.atomic.max(bounds, 3, last_j)
        cuda.atomic.min(bounds, 4, first_i)
        cuda.atomic.max(bounds, 5, last_i)
        cuda.atomic.add(bounds, 6, count)


@cuda.jit
def rows_kernel(active, at_k, at_j, at_i, nk, nj, ni, first, last):  # type: ignore[no-untyped-def]
    """Find the run of voxels in reach of every row of a box, for each dominant axis; one thread per row.

    Rows [n, p] stand one after another: those of dominant axis k (n = k, p = j), then j (j, k), then i (i, k).
    """
    for t in range(cuda.grid(1), 2 * nk * nj + ni * nk, cuda.gridsize(1)):
        if t < 2 * nk * nj:
            k, j = (t // nj, t % nj) if t < nk * nj else ((t - nk * nj) % nk, (t - nk * nj) // nk)
            length = ni
            i = 0
        else:
            i, k = (t - 2 * nk * nj) // nk, (t - 2 * nk * nj) % nk
            length = nj
            j = 0
        low, high = length, 0
        for q in range(length):
            if t < 2 * nk * nj:
                some = active[at_k + k, at_j + j, at_i + q]
            else:
                some = active[at_k + k, at_j + q, at_i + i]
            if some:
                low = min(low, q)
                high = q + 1
        first[t] = low
        last[t] = high


@cuda.jit(fastmath=True)
def sweep_kernel(  # type: ignore[no-untyped-def]
    density, near, far, at_k, at_j, at_i, nk, nj, ni, everywhere, first, last, way, constants, lines_p, lines_q, start,
    count, parts,
):  # fmt: skip
    """Follow every line of some directions through a box, one thread per line.

    Each direction deposits into a part of its own. Of each direction ``way`` holds the dominant axis, whether it is
    passed in reverse, the first line and the further lines along p and q, then the shifts along p and q at each step;
    ``constants`` are those of :class:`cantlie.dose.sweep.Lines`.
    """
    steps = (way.shape[1] - WAY_HEAD) // 2
    staged = constants.shape[1] > 17
    for t in range(cuda.grid(1), count * lines_p * lines_q, cuda.gridsize(1)):
        own = t // (lines_q * lines_p)
        m = start + own
        axis = way[m, 0]
        if axis == 0:
            planes, rows, columns, before = nk, nj, ni, 0
        elif axis == 1:
            planes, rows, columns, before = nj, nk, ni, nk * nj
        else:
            planes, rows, columns, before = ni, nk, nj, 2 * nk * nj
        line_p = t // lines_q % lines_p
        line_q = t % lines_q
        if line_p >= rows + way[m, 4] or line_q >= columns + way[m, 5]:
            continue
        line_p += way[m, 2]
        line_q += way[m, 3]
        reverse = way[m, 1]
        off_0, off_n, off_p, off_q = constants[m, 0], constants[m, 1], constants[m, 2], constants[m, 3]
        deep_0, deep_n, deep_p, deep_q = constants[m, 4], constants[m, 5], constants[m, 6], constants[m, 7]
        per_length, both_near, both_far = constants[m, 8], constants[m, 9], constants[m, 10]
        r0, r1, r2, r3 = _F(0.0), _F(0.0), _F(0.0), _F(0.0)
        for step in range(planes):
            p = line_p - way[m, WAY_HEAD + step]
            q = line_q - way[m, WAY_HEAD + steps + step]
            if p < 0 or q < 0 or p >= rows or q >= columns:
                continue
            n = planes - 1 - step if reverse else step
            if axis == 0:
                k, j, i = n, p, q
            elif axis == 1:
                k, j, i = p, n, q
            else:
                k, j, i = p, q, n
            deposited = _F(0.0)
            row = before + n * rows + p
            if everywhere or (first[row] <= q and q < last[row]):
                off = off_0 + off_n * _F(n) + off_p * _F(p) + off_q * _F(q)
                deep = deep_0 + deep_n * _F(n) + deep_p * _F(p) + deep_q * _F(q)
                turned = max(_F(1.0) + off / deep, _F(0.0))
                rho = density[at_k + k, at_j + j, at_i + i]
                one = near[at_k + k, at_j + j, at_i + i] * turned
                two = far[at_k + k, at_j + j, at_i + i] * turned
                if staged:
                    r0, r1, r2, r3, deposited = _sweep.cross_stages(
                        rho, one, two, r0, r1, r2, r3, constants[m, 11], constants[m, 12], constants[m, 13],
                        constants[m, 14], constants[m, 15], constants[m, 16], constants[m, 17], constants[m, 18],
                        constants[m, 19], per_length,
                    )  # fmt: skip
                else:
                    r0, r1, deposited = _sweep.cross(
                        rho, one, two, r0, r1, constants[m, 11], constants[m, 12], constants[m, 13], constants[m, 14],
                        constants[m, 15], constants[m, 16], both_near, both_far, per_length,
                    )  # fmt: skip
            parts[((own * nk + k) * nj + j) * ni + i] = deposited


@cuda.jit
def sum_kernel(parts, count, density, at_k, at_j, at_i, dose, add, last, total, wanted):  # type: ignore[no-untyped-def]
    """Sum the energy in the parts of directions in their order, one thread per voxel of a box.

    ``add`` to what is there, or set it. With the ``last`` parts energy per volume becomes dose, ``at`` being the box's
    place in the density; it is added to a total if one is ``wanted``.
    """
    nk, nj, ni = dose.shape
    cells = nk * nj * ni
    for t in range(cuda.grid(1), cells, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        value = dose[k, j, i] if add else _F(0.0)
        for m in range(count):
            value += parts[m * cells + t]
        if last:
            value /= density[at_k + k, at_j + j, at_i + i]
        dose[k, j, i] = value
        if wanted:
            total[k, j, i] += value


@cuda.jit
def energy_kernel(dose, density, place, sums):  # type: ignore[no-untyped-def]
    """Sum the energy of a dose into one of the sums, by one block and always in the same order."""
    own = cuda.shared.array(THREADS, np.float64)
    thread, together = cuda.threadIdx.x, cuda.blockDim.x
    nk, nj, ni = dose.shape
    value = 0.0
    for t in range(thread, nk * nj * ni, together):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        value += dose[k, j, i] * density[k, j, i]
    own[thread] = value
    cuda.syncthreads()
    half = together // 2
    while half > 0:
        if thread < half:
            own[thread] += own[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[place] = own[0]


@cuda.jit
def add_series_kernel(dose, sums, total):  # type: ignore[no-untyped-def]
    """Add the rest of a geometric series: its last member so far, and the energies of the last two."""
    nk, nj, ni = total.shape
    ratio = sums[1] / sums[0] if sums[0] > 0.0 else 0.0
    factor = _F(ratio / (1.0 - ratio)) if ratio < 0.95 else _F(0.0)
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        total[k, j, i] += factor * dose[k, j, i]


@cuda.jit
def block_kernel(density, near, far, fk, fj, fi, mass, near_mean, far_mean):  # type: ignore[no-untyped-def]
    """Sum blocks of voxels into coarse ones, one thread per block; as :func:`cantlie.dose.regrid.coarsen`."""
    nk, nj, ni = mass.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        mass[k, j, i], near_mean[k, j, i], far_mean[k, j, i] = _regrid.block_means(
            density, near, far, fk, fj, fi, k, j, i
        )


@cuda.jit
def add_refined_kernel(coarse, fk, fj, fi, fine):  # type: ignore[no-untyped-def]
    """Add the trilinear interpolation of a coarse array; as :func:`cantlie.dose.regrid.add_refined`."""
    nk, nj, ni = fine.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        fine[k, j, i] += _regrid.refined_at(coarse, fk, fj, fi, k, j, i)


@cuda.jit
def reached_kernel(near, far, least, beside, reached):  # type: ignore[no-untyped-def]
    """Mark the blocks that release so much energy, and those so many blocks beside them; one thread per block."""
    nk, nj, ni = near.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        bk, bj, bi = t // (nj * ni), t // ni % nj, t % ni
        found = 0
        for k in range(max(bk - beside, 0), min(bk + beside + 1, nk)):
            for j in range(max(bj - beside, 0), min(bj + beside + 1, nj)):
                for i in range(max(bi - beside, 0), min(bi + beside + 1, ni)):
                    if near[k, j, i] + far[k, j, i] > least:
                        found = 1
        reached[bk, bj, bi] = found


@cuda.jit
def change_kernel(dose, at_k, at_j, at_i, coarse, fk, fj, fi, reached):  # type: ignore[no-untyped-def]
    """Turn the dose in a box into its difference to the interpolation of a coarse one; nothing out of reach.

    ``at`` is the box's place among the blocks in reach.
    """
    nk, nj, ni = dose.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        value = _F(0.0)
        if reached[at_k + k, at_j + j, at_i + i]:
            value = dose[k, j, i] - _regrid.refined_at(coarse, fk, fj, fi, at_k + k, at_j + j, at_i + i)
        dose[k, j, i] = value


@cuda.jit
def add_box_kernel(coarse, fk, fj, fi, at_k, at_j, at_i, nk, nj, ni, fine):  # type: ignore[no-untyped-def]
    """Add the interpolation of a coarse box to a box of voxels of a fine array, which begins at ``at``."""
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        fine[at_k + k, at_j + j, at_i + i] += _regrid.refined_at(coarse, fk, fj, fi, k, j, i)


@cuda.jit
def repeat_kernel(values, at_k, at_j, at_i, factor, fine):  # type: ignore[no-untyped-def]
    """Fill a finer array with the values of a box, each repeated along all axes."""
    nk, nj, ni = fine.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        fine[k, j, i] = values[at_k + k // factor, at_j + j // factor, at_i + i // factor]


@cuda.jit
def means_kernel(dose, factor, at_k, at_j, at_i, total):  # type: ignore[no-untyped-def]
    """Set voxels to the mean dose of the fine voxels in each of a box that begins at ``at``, others to zero."""
    nk, nj, ni = total.shape
    ck, cj, ci = dose.shape[0] // factor, dose.shape[1] // factor, dose.shape[2] // factor
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni) - at_k, t // ni % nj - at_j, t % ni - at_i
        value = _F(0.0)
        if 0 <= k < ck and 0 <= j < cj and 0 <= i < ci:
            for a in range(k * factor, (k + 1) * factor):
                for b in range(j * factor, (j + 1) * factor):
                    for c in range(i * factor, (i + 1) * factor):
                        value += dose[a, b, c]
        total[at_k + k, at_j + j, at_i + i] = value / _F(factor * factor * factor)


@cuda.jit
def add_scaled_kernel(values, factor, total, add):  # type: ignore[no-untyped-def]
    """Add an array times a factor to a total, or set it to that."""
    nk, nj, ni = total.shape
    for t in range(cuda.grid(1), nk * nj * ni, cuda.gridsize(1)):
        k, j, i = t // (nj * ni), t // ni % nj, t % ni
        value = _F(factor) * values[k, j, i]
        if add:
            value += total[k, j, i]
        total[k, j, i] = value
