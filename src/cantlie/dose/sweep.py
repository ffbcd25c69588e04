"""Sweeps: the energy of one cone direction is carried through the whole grid, plane by plane, every voxel visited once.

Along a direction the grid is crossed by parallel lines, one through every voxel of a plane across the direction's
dominant axis. From plane to plane the lines move by whole voxels (the nearest to the true line), so that each voxel
lies on exactly one line and energy neither spreads nor is lost. A line of scattered photons carries the energy of two
exponentials. In a voxel of water-equivalent density ρ, crossed over a length L, that releases energy at the rate S per
unit of water-equivalent length, the energy R of an exponential with rate a relaxes towards S/a:

    R' = S/a + (R - S/a) exp(-a ρ L),        deposited: R + S ρ L - R'.

A line of electrons carries a chain of stages, dR_c/ds = S_c - a R_c + a R_(c+1). Each relaxes towards
(S_c + S_(c+1) + ...)/a, and what it differs from that by, D_c, becomes

    D_c' = exp(-x) (D_c + x D_(c+1) + x²/2 D_(c+2) + x³/6 D_(c+3)),        x = a ρ L.

This is the recursive form of the collapsed cone (Ahnesjö 1989, doi:10.1118/1.596360), exact for piecewise constant
ρ and S.

What happens in one voxel (:func:`cross`, :func:`cross_stages`) is compiled for the CPU and, by
:mod:`cantlie.dose.cuda_kernels`, for a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.core.threads import shared_out
from cantlie.dose.kernel import STAGES, Cones

GROUPS = 4
"""Directions of each dominant axis are shared out to this many sums, always the same, so that results do not depend on
the threads."""

ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Order of the axes, dominant axis first, for each dominant axis of [k, j, i]."""

_F = np.float32


@numba.njit(inline="always", fastmath=True)
def decay(x: Any) -> Any:
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


@numba.njit(inline="always", fastmath=True)
def cross(  # type: ignore[no-untyped-def]
    rho, near, far, one, two, steps_one, steps_two, one_near, one_far, two_near, two_far, both_near, both_far,
    per_length,
):  # fmt: skip
    """Return the energies of the two exponentials behind a voxel, and the energy deposited in it per volume.

    ``one`` and ``two`` are the energies before it; its equations stand at the head of this module.
    """
    tiny = _F(1e-25)  # no denormal numbers
    level = one_near * near + (one_far * far + tiny)
    new_one = level + (one - level) * decay(steps_one * rho)
    level = two_near * near + (two_far * far + tiny)
    new_two = level + (two - level) * decay(steps_two * rho)
    return new_one, new_two, per_length * (one - new_one + two - new_two) + (both_near * near + both_far * far) * rho


@numba.njit(inline="always", fastmath=True)
def cross_stages(  # type: ignore[no-untyped-def]
    rho, near, far, r0, r1, r2, r3, steps, near_0, far_0, near_1, far_1, near_2, far_2, near_3, far_3, per_length
):  # fmt: skip
    """Return the energies of the four stages behind a voxel, and the energy deposited in it per volume."""
    tiny = _F(1e-25)
    x = steps * rho
    fade = decay(x)
    l0 = near_0 * near + (far_0 * far + tiny)
    l1 = near_1 * near + (far_1 * far + tiny)
    l2 = near_2 * near + (far_2 * far + tiny)
    l3 = near_3 * near + (far_3 * far + tiny)
    d0, d1, d2, d3 = r0 - l0, r1 - l1, r2 - l2, r3 - l3
    half, third = _F(0.5) * x, _F(1.0 / 3.0) * x
    p0 = d0 + x * (d1 + half * (d2 + third * d3))
    p1 = d1 + x * (d2 + half * d3)
    p2 = d2 + x * d3
    lost = (d0 + d1 + d2 + d3) - fade * (p0 + p1 + p2 + d3)
    return l0 + fade * p0, l1 + fade * p1, l2 + fade * p2, l3 + fade * d3, per_length * (lost + x * l0)


_LANES = 8
"""Voxels crossed together: rows are taken in whole numbers of these, and what is too much is left as it was."""


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sweep_exponentials(  # type: ignore[no-untyped-def]
    members, density, near, far, deposit, row_first, row_last, state, reverse, origins, constants,
):  # fmt: skip
    """Carry two exponentials in some directions through the arrays [n, p, q]; see :class:`Lines`."""
    planes, rows, _ = density.shape
    margin = (planes + 4) // 2
    ramp = np.arange(density.shape[2]).astype(np.float32)  # turning integers into floats would take half the time
    state_one, state_two = state
    for m in members:
        state_one[:] = _F(0.0)
        state_two[:] = _F(0.0)
        c = constants[m].astype(np.float32)
        per_length, both_near, both_far = c[8], c[9], c[10]
        steps_one, steps_two = c[11], c[12]
        one_near, one_far, two_near, two_far = c[13], c[14], c[15], c[16]
        across, axial = constants[m, 0:4], constants[m, 4:8]
        per_q, deep_per_q = c[3], c[7]
        for step in range(planes):
            n = planes - 1 - step if reverse[m] else step
            origin_p = margin + origins[m, 0, step]
            origin_q = margin + origins[m, 1, step]
            for p in range(rows):
                first = row_first[n, p]
                count = row_last[n, p] - first
                if count <= 0:
                    continue
                whole = (count + _LANES - 1) // _LANES * _LANES
                last = _F(count)
                end = first + whole
                rho = density[n, p, first:end]
                s_near = near[n, p, first:end]
                s_far = far[n, p, first:end]
                out = deposit[n, p, first:end]
                one = state_one[p + origin_p, first + origin_q : end + origin_q]
                two = state_two[p + origin_p, first + origin_q : end + origin_q]
                # Both are linear in position: the distance off the axis along the cone's azimuth, and that from the
                # source.
                off = _F(across[0] + across[1] * n + across[2] * p + across[3] * first)
                deep = _F(axial[0] + axial[1] * n + axial[2] * p + axial[3] * first)
                for q in range(whole):
                    turned = max(_F(1.0) + (off + per_q * ramp[q]) / (deep + deep_per_q * ramp[q]), _F(0.0))
                    inside = ramp[q] < last
                    old_one, old_two = one[q], two[q]
                    new_one, new_two, deposited = cross(
                        rho[q], s_near[q] * turned, s_far[q] * turned, old_one, old_two, steps_one, steps_two, one_near,
                        one_far, two_near, two_far, both_near, both_far, per_length,
                    )  # fmt: skip
                    one[q] = new_one if inside else old_one
                    two[q] = new_two if inside else old_two
                    out[q] += deposited if inside else _F(0.0)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sweep_stages(  # type: ignore[no-untyped-def]
    members, density, near, far, deposit, row_first, row_last, state, reverse, origins, constants,
):  # fmt: skip
    """Carry a chain of stages in some directions through the arrays [n, p, q]."""
    planes, rows, _ = density.shape
    margin = (planes + 4) // 2
    ramp = np.arange(density.shape[2]).astype(np.float32)  # turning integers into floats would take half the time
    state_0, state_1, state_2, state_3 = state
    for m in members:
        for stage in state:
            stage[:] = _F(0.0)
        c = constants[m].astype(np.float32)
        per_length, steps = c[8], c[11]
        near_0, far_0, near_1, far_1, near_2, far_2, near_3, far_3 = (
            c[12], c[13], c[14], c[15], c[16], c[17], c[18], c[19]
        )  # fmt: skip
        across, axial = constants[m, 0:4], constants[m, 4:8]
        per_q, deep_per_q = c[3], c[7]
        for step in range(planes):
            n = planes - 1 - step if reverse[m] else step
            origin_p = margin + origins[m, 0, step]
            origin_q = margin + origins[m, 1, step]
            for p in range(rows):
                first = row_first[n, p]
                count = row_last[n, p] - first
                if count <= 0:
                    continue
                whole = (count + _LANES - 1) // _LANES * _LANES
                last = _F(count)
                end = first + whole
                rho = density[n, p, first:end]
                s_near = near[n, p, first:end]
                s_far = far[n, p, first:end]
                out = deposit[n, p, first:end]
                row_0 = state_0[p + origin_p, first + origin_q : end + origin_q]
                row_1 = state_1[p + origin_p, first + origin_q : end + origin_q]
                row_2 = state_2[p + origin_p, first + origin_q : end + origin_q]
                row_3 = state_3[p + origin_p, first + origin_q : end + origin_q]
                # Both are linear in position: the distance off the axis along the cone's azimuth, and that from the
                # source.
                off = _F(across[0] + across[1] * n + across[2] * p + across[3] * first)
                deep = _F(axial[0] + axial[1] * n + axial[2] * p + axial[3] * first)
                for q in range(whole):
                    turned = max(_F(1.0) + (off + per_q * ramp[q]) / (deep + deep_per_q * ramp[q]), _F(0.0))
                    inside = ramp[q] < last
                    r0, r1, r2, r3 = row_0[q], row_1[q], row_2[q], row_3[q]
                    n0, n1, n2, n3, deposited = cross_stages(
                        rho[q], s_near[q] * turned, s_far[q] * turned, r0, r1, r2, r3, steps, near_0, far_0, near_1,
                        far_1, near_2, far_2, near_3, far_3, per_length,
                    )  # fmt: skip
                    row_0[q] = n0 if inside else r0
                    row_1[q] = n1 if inside else r1
                    row_2[q] = n2 if inside else r2
                    row_3[q] = n3 if inside else r3
                    out[q] += deposited if inside else _F(0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The parallel lines of every direction through a grid, for whichever device follows them.

    Parameters
    ----------
    axis
        Dominant axis of each direction, an index into :data:`ORDERS`, shape (m,).
    reverse
        Whether the planes across that axis are passed from the last to the first, shape (m,).
    origins
        At each step the shift of the lines along the second and third axis, in voxels, shape (m, 2, most planes): voxel
        (p, q) lies on line (p + origins[m, 0, step], q + origins[m, 1, step]).
    constants
        Shape (m, 17), or (m, 20) for a chain of stages: the linear functions of [1, n, p, q] that are the distance off
        the axis (times the kernel's tilt) and that from the source; 1 / length of the way through a voxel; the sum of
        the energies released, near and far; decay per density over that length (of each exponential); the levels that
        exponentials or stages relax towards, near and far of the first, of the second, and so on.
    staged
        Whether they carry a chain of stages.
    """

    axis: NDArray[np.int32]
    reverse: NDArray[np.bool_]
    origins: NDArray[np.int32]
    constants: NDArray[np.float64]
    staged: bool


def lines(
    cones: Cones,
    beam_axes: NDArray[np.float64],
    first_voxel_mm: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, ...],
) -> Lines:
    """Return the lines of all cones through a grid of a shape [k, j, i]; the other names are those of :func:`sweep`."""
    components = (cones.directions @ beam_axes)[:, ::-1] / np.asarray(spacing_mm)[::-1]  # along [k, j, i], voxels/mm
    axis = np.abs(components).argmax(axis=1)
    order = np.array(ORDERS)[axis]
    along, p, q = np.take_along_axis(components, order, axis=1).T
    # Position across the axis (times the tilt of the kernel) and along it, as linear functions of [1, k, j, i].
    steps = np.vstack([first_voxel_mm, np.diag(spacing_mm)[::-1]])
    towards = np.cos(cones.azimuth_rad)[:, None] * beam_axes[0] + np.sin(cones.azimuth_rad)[:, None] * beam_axes[1]
    across = cones.tilt[:, None] * (towards @ steps.T)
    axial = np.broadcast_to(steps @ beam_axes[2], across.shape)
    columns = np.hstack([np.zeros((axis.size, 1), dtype=np.intp), 1 + order])
    length = 1.0 / np.abs(along)
    rate, fraction = cones.rate_per_mm, cones.fraction
    held = np.cumsum(fraction[:, :, ::-1], axis=2)[:, :, ::-1] if cones.staged else fraction
    level = (held / rate[:, None, :]).transpose(0, 2, 1)  # [m, exponential or stage, near or far]
    constants = np.column_stack([
        np.take_along_axis(across, columns, axis=1), np.take_along_axis(axial, columns, axis=1), 1.0 / length,
        fraction.sum(axis=2), rate * length[:, None], level.reshape(axis.size, -1),
    ])  # fmt: skip
    planes = np.asarray(shape)[axis]
    number = np.arange(axis.size)
    step = np.arange(max(shape))
    origins = np.empty((axis.size, 2, step.size), dtype=np.int32)
    for side, (drift, stir) in enumerate(((p, 0.618034), (q, 0.754878))):
        shift = drift / np.abs(along)
        phase = (number * stir) % 1.0
        middle = np.floor(0.5 * planes * shift)
        origins[:, side] = (middle[:, None] - np.floor(step * shift[:, None] + phase[:, None])).astype(np.int32)
    return Lines(axis.astype(np.int32), along < 0, origins, constants, cones.staged)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The arrays of a grid with one axis first, rows with room to be crossed in whole lanes, and the voxels of each
    row that need dose."""

    density: NDArray[np.float32]
    near: NDArray[np.float32]
    far: NDArray[np.float32]
    row_first: NDArray[np.int32]
    row_last: NDArray[np.int32]


def _layout(
    order: tuple[int, int, int], arrays: tuple[NDArray[np.float32], ...], active: NDArray[np.bool_] | None
) -> _Layout:
    planes, rows, length = (arrays[0].shape[axis] for axis in order)
    turned = np.zeros((3, planes, rows, length + _LANES), dtype=np.float32)
    for place, array in zip(turned, arrays, strict=True):
        place[:, :, :length] = array.transpose(order)
    first = np.zeros((planes, rows), dtype=np.int32)
    last = np.full((planes, rows), length, dtype=np.int32)
    if active is not None:
        _runs(active.transpose(order), first, last)
    return _Layout(turned[0], turned[1], turned[2], first, last)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _runs(active, first, last):  # type: ignore[no-untyped-def]
    """Find the first voxel of each row that is active, and the last + 1; an empty run where there is none."""
    planes, rows, length = active.shape
    for n in range(planes):
        for p in range(rows):
            low, high = 0, length
            while low < high and not active[n, p, low]:
                low += 1
            while high > low and not active[n, p, high - 1]:
                high -= 1
            first[n, p], last[n, p] = low, high


def sweep(
    cones: Cones,
    beam_axes: NDArray[np.float64],
    first_voxel_mm: NDArray[np.float64],
    density: NDArray[np.float32],
    near: NDArray[np.float32],
    far: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    active: NDArray[np.bool_] | None = None,
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

    Returns
    -------
    ndarray
        Energy per volume (the unit of ``near`` times g/cm³), shape (nk, nj, ni).
    """
    way = lines(cones, beam_axes, first_voxel_mm, spacing_mm, density.shape)
    total = np.zeros(density.shape, dtype=np.float32)
    for axis, order in enumerate(ORDERS):
        members = np.flatnonzero(way.axis == axis)
        if members.size == 0:
            continue
        layout = _layout(order, (density, near, far), active)
        groups = [members[start::GROUPS] for start in range(min(GROUPS, members.size))]
        for part in shared_out(partial(_run, way, layout), groups):
            total += part[:, :, : density.shape[order[2]]].transpose(np.argsort(order))
    return total


def _run(way: Lines, layout: _Layout, members: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return what directions of one dominant axis deposit, in the layout's order of axes."""
    deposit = np.zeros_like(layout.density)
    planes, rows, columns = layout.density.shape
    shape = (rows + planes + 4, columns + planes + 4)
    state = tuple(np.zeros(shape, dtype=np.float32) for _ in range(STAGES if way.staged else 2))
    carry = _sweep_stages if way.staged else _sweep_exponentials
    carry(
        members, layout.density, layout.near, layout.far, deposit, layout.row_first, layout.row_last, state,
        way.reverse, way.origins, way.constants,
    )  # fmt: skip
    return deposit
