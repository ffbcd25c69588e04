"""Sweeps: the energy of one cone direction is carried through the whole grid, plane by plane, every voxel visited once.

Along a direction the grid is crossed by parallel lines, one through every voxel of a plane across the direction's
dominant axis. From plane to plane the lines move by whole voxels (the nearest to the true line), so that each voxel
lies on exactly one line and energy neither spreads nor is lost. A line carries the energy of two exponentials. In a
voxel of water-equivalent density ρ, crossed over a length L, that releases energy at the rate S per unit of
water-equivalent length, the energy R of an exponential with rate a relaxes towards S/a:

    R' = S/a + (R - S/a) exp(-a ρ L),        deposited: R + S ρ L - R'.

This is the recursive form of the collapsed cone (Ahnesjö 1989, doi:10.1118/1.596360), exact for piecewise constant
ρ and S.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.dose.kernel import Cones

GROUPS = 4
"""Directions are shared out to this many sums, always the same, so that results do not depend on the threads."""

# Axis order (dominant axis first) of the arrays for each dominant axis of [k, j, i].
_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))

_F = np.float32


@numba.njit(inline="always", fastmath=True)
def _decay(x: Any) -> Any:
    """Return exp(-x) for x >= 0 in single precision, relative error below 2e-6 for x < 8, zero-like beyond 60."""
    y = min(x, _F(60.0)) * _F(0.0625)
    e = _F(1.0) - y * (
        _F(1.0)
        - y * (_F(0.5) - y * (_F(1.0 / 6.0) - y * (_F(1.0 / 24.0) - y * (_F(1.0 / 120.0) - y * _F(1.0 / 720.0)))))
    )
    e = e * e
    e = e * e
    e = e * e
    return e * e


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sweep_direction(  # type: ignore[no-untyped-def]
    density, near, far, deposit, row_first, row_last, state_one, state_two, reverse, shift_p, shift_q, phase_p, phase_q,
    length_mm, rate_one, rate_two, one_near, one_far, two_near, two_far, across, axial,
):  # fmt: skip
    """Carry one direction through the arrays [n, p, q]; see the module's text."""
    planes, rows, _ = density.shape
    state_one[:] = _F(0.0)
    state_two[:] = _F(0.0)
    steps_one = _F(rate_one * length_mm)
    steps_two = _F(rate_two * length_mm)
    a_near = _F(one_near / rate_one)
    a_far = _F(one_far / rate_one)
    b_near = _F(two_near / rate_two)
    b_far = _F(two_far / rate_two)
    c_near = _F(one_near + two_near)
    c_far = _F(one_far + two_far)
    tiny = _F(1e-25)
    per_length = _F(1.0 / length_mm)
    for step in range(planes):
        n = planes - 1 - step if reverse else step
        origin_p = (
            (state_one.shape[0] - rows) // 2
            - int(np.floor(step * shift_p + phase_p))
            + (int(np.floor(0.5 * planes * shift_p)))
        )
        origin_q = (
            (state_one.shape[1] - density.shape[2]) // 2
            - int(np.floor(step * shift_q + phase_q))
            + (int(np.floor(0.5 * planes * shift_q)))
        )
        for p in range(rows):
            first = row_first[n, p]
            last = row_last[n, p]
            if last <= first:
                continue
            rho = density[n, p, first:last]
            s_near = near[n, p, first:last]
            s_far = far[n, p, first:last]
            out = deposit[n, p, first:last]
            one = state_one[p + origin_p, first + origin_q : last + origin_q]
            two = state_two[p + origin_p, first + origin_q : last + origin_q]
            # Both are linear in position: the distance off the axis along the cone's azimuth, and that from the source.
            off = _F(across[0] + across[1] * n + across[2] * p + across[3] * first)
            deep = _F(axial[0] + axial[1] * n + axial[2] * p + axial[3] * first)
            per_q = _F(across[3])
            deep_per_q = _F(axial[3])
            for q in range(last - first):
                r = rho[q]
                turned = max(_F(1.0) + (off + per_q * _F(q)) / (deep + deep_per_q * _F(q)), _F(0.0))
                s = s_near[q] * turned
                t = s_far[q] * turned
                level = a_near * s + a_far * t
                old_one = one[q]
                new_one = level + (old_one - level) * _decay(steps_one * r) + tiny
                one[q] = new_one
                level = b_near * s + b_far * t
                old_two = two[q]
                new_two = level + (old_two - level) * _decay(steps_two * r) + tiny
                two[q] = new_two
                out[q] += per_length * (old_one - new_one + old_two - new_two) + (c_near * s + c_far * t) * r


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The arrays of a grid with one axis first, and the voxels of each row that need dose."""

    density: NDArray[np.float32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]
    row_first: NDArray[np.int32]
    row_last: NDArray[np.int32]


def _layout(
    order: tuple[int, int, int], arrays: tuple[NDArray[np.float32], ...], active: NDArray[np.bool_] | None
) -> _Layout:
    density, near, far = (np.ascontiguousarray(array.transpose(order)) for array in arrays)
    rows, length = density.shape[:2], density.shape[2]
    if active is None:
        first = np.zeros(rows, dtype=np.int32)
        last = np.full(rows, length, dtype=np.int32)
    else:
        turned = active.transpose(order)
        some = turned.any(axis=2)
        first = np.where(some, turned.argmax(axis=2), 0).astype(np.int32)
        last = np.where(some, length - turned[:, :, ::-1].argmax(axis=2), 0).astype(np.int32)
    return _Layout(density, near, far, first, last)


def sweep(
    cones: Cones,
    beam_axes: NDArray[np.float64],
    first_voxel_mm: NDArray[np.float64],
    density: NDArray[np.float32],
    near: NDArray[np.float32],
    far: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    active: NDArray[np.bool_] | None = None,
    threads: int = 2,
) -> NDArray[np.float32]:
    """Return the energy deposited in each voxel per volume by all cones.

    Parameters
    ----------
    cones
        Kernels along the cones.
    beam_axes
        Unit vectors x, y and z (the rows) of the frame of the cones in the frame of the grid; z along the photons.
    first_voxel_mm
        Centre (x, y, z) of voxel [0, 0, 0] relative to the source, in the frame of the grid.
    density
        Water-equivalent density (g/cm³), shape (nk, nj, ni).
    near, far
        Energy released per water-equivalent mass with the mixture of energies at the surface and at 200 mm, same shape.
    spacing_mm
        Voxel size (dx, dy, dz).
    active
        Voxels that need dose; energy is carried through the smallest run of each row that holds them. All if None.
    threads
        How many threads share the work; the result does not depend on it.

    Returns
    -------
    ndarray
        Energy per volume (the unit of ``near`` times g/cm³), shape (nk, nj, ni).
    """
    components = (cones.directions @ beam_axes)[:, ::-1] / np.asarray(spacing_mm)[
        ::-1
    ]  # along [k, j, i], voxels per mm
    dominant = np.abs(components).argmax(axis=1)
    # Position across the axis (times the tilt of the kernel) and along it, as linear functions of [1, k, j, i].
    steps = np.vstack([first_voxel_mm, np.diag(spacing_mm)[::-1]])
    towards = np.cos(cones.azimuth_rad)[:, None] * beam_axes[0] + np.sin(cones.azimuth_rad)[:, None] * beam_axes[1]
    across = cones.tilt[:, None] * (towards @ steps.T)
    axial = steps @ beam_axes[2]
    total = np.zeros(density.shape, dtype=np.float32)
    for axis, order in enumerate(_ORDERS):
        members = np.flatnonzero(dominant == axis)
        if members.size == 0:
            continue
        layout = _layout(order, (density, near, far), active)
        columns = [0, *(1 + a for a in order)]
        tasks = [
            _Task(cones, group, components[group][:, order], across[group][:, columns], axial[columns], layout)
            for group in (members[start::GROUPS] for start in range(min(GROUPS, members.size)))
        ]
        inverse = np.argsort(order)
        with ThreadPoolExecutor(threads) as pool:
            for part in pool.map(_run, tasks):
                total += part.transpose(inverse)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Directions with one dominant axis that share a sum."""

    cones: Cones
    members: NDArray[np.intp]
    components: NDArray[np.float64]
    across: NDArray[np.float64]
    axial: NDArray[np.float64]
    layout: _Layout


def _run(task: _Task) -> NDArray[np.float32]:
    layout = task.layout
    deposit = np.zeros_like(layout.density)
    planes, rows, columns = layout.density.shape
    shape = (rows + planes + 4, columns + planes + 4)
    state_one = np.zeros(shape, dtype=np.float32)
    state_two = np.zeros(shape, dtype=np.float32)
    for m, (along, p, q), across in zip(task.members, task.components, task.across, strict=True):
        (one_near, two_near), (one_far, two_far) = task.cones.fraction[m]
        rate_one, rate_two = task.cones.rate_per_mm[m]
        _sweep_direction(
            layout.density, layout.near, layout.far, deposit, layout.row_first, layout.row_last, state_one, state_two,
            bool(along < 0), p / abs(along), q / abs(along), (m * 0.618034) % 1.0, (m * 0.754878) % 1.0,
            1.0 / abs(along), rate_one, rate_two, one_near, one_far, two_near, two_far, across, task.axial,
        )  # fmt: skip
    return deposit
