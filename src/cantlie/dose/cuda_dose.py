"""Collapsed cone on a GPU: the same superposition as on the CPU, with a patient's arrays kept on the device.

Groups of fields are computed one after another; of each, all directions of a set of cones are followed at once, every
line by a thread of its own, and each direction deposits into an array of its own that is then summed in a fixed order.
Only the fluence maps and small tables travel to the device, and the sum of all fields travels back; the host waits for
the device once a field, to learn how large the beam is. Loops over threads are in :mod:`cantlie.dose.cuda_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.dose import cuda_kernels as kernels
from cantlie.dose.beam_map import BeamMap, beam_map
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.cuda_arrays import CudaArrays, free_bytes
from cantlie.dose.cuda_kernels import launch, launch_block
from cantlie.dose.directions import mean_frame
from cantlie.dose.field import Field
from cantlie.dose.kernel import Cones, cones, further_cones, further_hardening
from cantlie.dose.phantom import Phantom
from cantlie.dose.rays import frame_of
from cantlie.dose.superposition import (
    FURTHER_SPACING_MM,
    FURTHER_STEPS,
    NEAR_BLOCKS,
    NEAR_SPACING_MM,
    SCATTER_SPACING_MM,
    block_factors,
    electron_factor,
    least_released,
    near_scatter_wanted,
    refined,
    times,
    whole_blocks,
)
from cantlie.dose.sweep import ORDERS, lines
from cantlie.machine.beam_model import BeamModel

_PARTS_SHARE = 0.25
_MOST_PARTS = 1 << 29
_PARTS_STEP = 1 << 22
_BOUNDS_THREADS = 1 << 13
_NOWHERE = (0, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Released:
    """What primary photons release on one grid: arrays on the device, which the first beam sets."""

    density: Any
    near: Any
    far: Any
    surface: Any
    active: Any

    @classmethod
    def on(cls, density: Any, model: BeamModel, arrays: CudaArrays) -> _Released:
        """Return arrays for a density, not yet set."""
        shape = density.shape
        single = shape if model.electron_contamination > 0 else (1, 1, 1)
        return cls(density, arrays.of(shape), arrays.of(shape), arrays.of(single), arrays.of(shape, np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class _Beam:
    """A beam map with its arrays on the device: integral, reach, traced rays, table of release, softening."""

    map: BeamMap
    arrays: tuple[Any, Any, Any, Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """The lines of some cones through a box, on the device; see :func:`cantlie.dose.cuda_kernels.sweep_kernel`."""

    count: int
    lines_p: int
    lines_q: int
    way: Any
    constants: Any


def _size(array: Any) -> int:
    return int(np.prod(array.shape))


class CudaDose:
    """The dose of fields in one patient, summed on the GPU.

    Parameters
    ----------
    patient
        Water-equivalent density.
    model
        The beam model, calibration included.
    """

    def __init__(self, patient: Phantom, model: BeamModel) -> None:
        self.grid = patient.grid
        self.model = model
        self._arrays = CudaArrays()
        shape = patient.grid.shape
        density = self._arrays.copy(patient.density)
        self._fields = _Released.on(density, model, self._arrays)
        self._photons = self._arrays.of(shape)
        self._total = self._arrays.of(shape)
        self._empty = True
        self._parts: Any = None
        self._most_parts = _MOST_PARTS
        if not kernels.SIMULATED:
            self._most_parts = min(_MOST_PARTS, int(_PARTS_SHARE * free_bytes()) // 4)
        self._coarse = block_factors(self.grid.spacing_mm, SCATTER_SPACING_MM)
        self._coarse_mm = times(self.grid.spacing_mm, self._coarse)
        self._coarse_density, _, _ = self._blocks(density, density, density, self._coarse, self._arrays)
        self._further = block_factors(self._coarse_mm, FURTHER_SPACING_MM)
        self._further_mm = times(self._coarse_mm, self._further)
        coarse = self._coarse_density
        self._further_density, _, _ = self._blocks(coarse, coarse, coarse, self._further, self._arrays)
        self._nothing = self._arrays.copy(np.zeros(self._further_density.shape, dtype=np.float32))

    def add(self, fields: Sequence[Field]) -> None:
        """Add the dose (Gy, to the water-equivalent medium) of fields from nearly one direction.

        Raises
        ------
        DoseError
            If a fluence map is not usable, or the memory of the GPU is full.
        """
        with CudaArrays() as arrays:
            self._add(fields, arrays)

    def total(self) -> NDArray[np.float32]:
        """Return the dose of all fields so far (Gy), shape ``patient.grid.shape``, and begin anew."""
        if self._empty:
            return np.zeros(self.grid.shape, dtype=np.float32)
        self._empty = True
        return np.ascontiguousarray(self._total.copy_to_host())

    def _add(self, fields: Sequence[Field], arrays: CudaArrays) -> None:
        released = self._fields
        maps = [beam_map(self.grid, field, self.model) for field in fields]
        beams = [self._traced(beam, arrays) for beam in maps if beam is not None]
        if not beams:
            return
        self._release(beams, self.grid, released, arrays)
        nk, nj, ni = self.grid.shape
        bounds = arrays.copy(np.array([nk, -1, nj, -1, ni, -1, 0], dtype=np.int32))
        launch(kernels.bounds_kernel, min(_size(released.active), _BOUNDS_THREADS), released.active, bounds)
        low_k, high_k, low_j, high_j, low_i, high_i, count = (int(n) for n in bounds.copy_to_host())
        if count == 0:
            return
        first = (low_k, low_j, low_i)
        shape = (high_k - low_k + 1, high_j - low_j + 1, high_i - low_i + 1)
        cropped = _crop(self.grid, first, shape)
        factor = electron_factor(count, self.grid.spacing_mm)
        axes, source = mean_frame(fields)
        primary, first_scatter = cones(self.model)
        at = first
        fine = released
        if factor > 1:
            at = _NOWHERE
            cropped = refined(cropped, factor)
            fine = _Released.on(arrays.of(cropped.shape), self.model, arrays)
            launch(kernels.repeat_kernel, _size(fine.density), released.density, *first, factor, fine.density)
            self._release(beams, cropped, fine, arrays)
        corner = np.asarray(cropped.origin_mm) - source
        ways = self._ways(primary, axes, corner, cropped.spacing_mm, cropped.shape, arrays)
        dose = arrays.of(cropped.shape)
        self._sweep(ways, fine.density, fine.near, fine.far, at, fine.active, dose, None, arrays)
        launch(kernels.means_kernel, _size(self._photons), dose, factor, *first, self._photons)
        box = (slice(low_k, high_k + 1), slice(low_j, high_j + 1), slice(low_i, high_i + 1))
        near_box = box if near_scatter_wanted(count, self.grid.spacing_mm) else None
        least = least_released([beam.map for beam in beams], self.model)
        self._add_scatter(first_scatter, axes, source, near_box, least, arrays)
        scale = fluence_per_mu(self.model, fields[0].geometry.sad_mm)
        launch(kernels.add_scaled_kernel, _size(self._total), self._photons, scale, self._total, not self._empty)
        self._empty = False
        if self.model.electron_contamination > 0:
            scale = self.model.electron_contamination * self.model.calibration.gy_per_mu
            launch(kernels.add_scaled_kernel, _size(self._total), released.surface, scale, self._total, True)

    def _traced(self, beam: BeamMap, arrays: CudaArrays) -> _Beam:
        depth = arrays.of(beam.rays.shape)
        rays = beam.rays
        launch(
            kernels.trace_kernel, depth.shape[1] * depth.shape[2], self._fields.density,
            arrays.copy(frame_of(beam.geometry, self.grid)), beam.geometry.sad_mm, *rays.first_mm, rays.pitch_mm,
            rays.start_mm, rays.step_mm, depth,
        )  # fmt: skip
        integral, reach, table, softening = (
            arrays.copy(a) for a in (beam.integral, beam.reach_mm, beam.table, beam.softening)
        )
        return _Beam(beam, (integral, reach, depth, table, softening))

    def _release(self, beams: Sequence[_Beam], grid: Grid, to: _Released, arrays: CudaArrays) -> None:
        """Set what beams release on a grid."""
        for number, beam in enumerate(beams):
            frame = arrays.copy(frame_of(beam.map.geometry, grid))
            launch(
                kernels.release_kernel, _size(to.near), to.density, *beam.map.arguments(frame, *beam.arrays), to.near,
                to.far, to.surface, to.active, number > 0,
            )  # fmt: skip

    def _blocks(
        self, density: Any, near: Any, far: Any, factors: tuple[int, int, int], arrays: CudaArrays
    ) -> tuple[Any, Any, Any]:
        """Return the mean density of blocks, and two mass-weighted means."""
        shape = tuple(-(-n // f) for n, f in zip(density.shape, factors, strict=True))
        mass, near_mean, far_mean = (arrays.of(shape) for _ in range(3))
        launch(kernels.block_kernel, _size(mass), density, near, far, *factors, mass, near_mean, far_mean)
        return mass, near_mean, far_mean

    def _add_scatter(
        self,
        first_scatter: Cones,
        axes: NDArray[np.float64],
        source_mm: NDArray[np.float64],
        near_box: tuple[slice, slice, slice] | None,
        least: float,
        arrays: CudaArrays,
    ) -> None:
        """Add scattered photons, as ``_add_scatter`` of :mod:`cantlie.dose.superposition`."""
        released = self._fields
        density, near, far = self._blocks(released.density, released.near, released.far, self._coarse, arrays)
        corner = self.grid.lower_mm + 0.5 * np.asarray(self._coarse_mm) - source_mm
        dose = arrays.of(density.shape)
        ways = self._ways(first_scatter, axes, corner, self._coarse_mm, density.shape, arrays)
        self._sweep(ways, density, near, far, _NOWHERE, None, dose, None, arrays)
        if near_box is not None:
            self._correct_near_beam(first_scatter, axes, source_mm, near_box, least, dose, arrays)
        self._add_further(axes, source_mm, dose, far, arrays)
        launch(kernels.add_refined_kernel, _size(self._photons), dose, *self._coarse, self._photons)

    def _correct_near_beam(
        self,
        first_scatter: Cones,
        axes: NDArray[np.float64],
        source_mm: NDArray[np.float64],
        box: tuple[slice, slice, slice],
        least: float,
        coarse: Any,
        arrays: CudaArrays,
    ) -> None:
        """Add, in the open beam and next to it, what first scatter on a finer grid differs by; as the CPU does."""
        released = self._fields
        factors = block_factors(self.grid.spacing_mm, NEAR_SPACING_MM)
        spacing = times(self.grid.spacing_mm, factors)
        density, near, far = self._blocks(released.density, released.near, released.far, factors, arrays)
        reached = arrays.of(density.shape, np.uint8)
        launch(kernels.reached_kernel, _size(reached), near, far, least, NEAR_BLOCKS, reached)
        whole = whole_blocks(box, factors, self.grid.shape)
        k, j, i = (run.start // f for run, f in zip(whole, factors, strict=True))
        shape = tuple(-(-(run.stop - run.start) // f) for run, f in zip(whole, factors, strict=True))
        place = self.grid.lower_mm + (0.5 + np.array([i, j, k])) * np.asarray(spacing)
        dose = arrays.of(shape)
        ways = self._ways(first_scatter, axes, place - source_mm, spacing, shape, arrays)
        self._sweep(ways, density, near, far, (k, j, i), reached, dose, None, arrays)
        ratio = [c / f for c, f in zip(self._coarse, factors, strict=True)]
        launch(kernels.change_kernel, _size(dose), dose, k, j, i, coarse, *ratio, reached)
        voxels = tuple(run.stop - run.start for run in whole)
        launch(
            kernels.add_box_kernel, int(np.prod(voxels)), dose, *factors, *(run.start for run in whole), *voxels,
            self._photons,
        )  # fmt: skip

    def _add_further(
        self, axes: NDArray[np.float64], source_mm: NDArray[np.float64], dose: Any, far: Any, arrays: CudaArrays
    ) -> None:
        """Add the photons scattered twice and more, as ``_further_scatter`` of that module."""
        density, released, hard = self._blocks(self._coarse_density, dose, far, self._further, arrays)
        spacing, shape = self._further_mm, density.shape
        corner = self.grid.lower_mm + 0.5 * np.asarray(spacing) - source_mm
        total = arrays.of(shape)
        ways = self._ways(further_hardening(self.model), axes, corner, spacing, shape, arrays)
        self._sweep(ways, density, hard, hard, _NOWHERE, None, total, released, arrays)
        kinds = [
            self._ways(kind, axes, 1e6 * axes[2], spacing, shape, arrays) for kind in further_cones(self.model)
        ]  # fmt: skip
        sums = arrays.of((2,), np.float64)
        launch(kernels.add_scaled_kernel, _size(total), total, 0.0, total, False)  # zeros
        for step in range(FURTHER_STEPS + 1):
            once_more = arrays.of(shape)
            kind = kinds[min(step, len(kinds) - 1)]
            self._sweep(kind, density, released, self._nothing, _NOWHERE, None, once_more, total, arrays)
            released = once_more
            if step >= FURTHER_STEPS - 1:
                launch_block(kernels.energy_kernel, released, density, step - FURTHER_STEPS + 1, sums)
        launch(kernels.add_series_kernel, _size(total), released, sums, total)
        launch(kernels.add_refined_kernel, _size(dose), total, *self._further, dose)

    @staticmethod
    def _ways(
        kind: Cones,
        axes: NDArray[np.float64],
        first_voxel_mm: NDArray[np.float64],
        spacing_mm: tuple[float, float, float],
        shape: tuple[int, ...],
        arrays: CudaArrays,
    ) -> _Ways:
        """Return the lines of all cones through a box."""
        way = lines(kind, axes, first_voxel_mm, spacing_mm, shape)
        sides = np.array(shape)[np.array(ORDERS)[way.axis]]
        count = len(sides)
        # Lines that meet the box at all: the shifts are monotonic, so that their first and last are their extremes.
        ends = np.stack([way.origins[:, :, 0], way.origins[np.arange(count), :, sides[:, 0] - 1]])
        low, span = ends.min(axis=0), ends.max(axis=0) - ends.min(axis=0)
        lines_p, lines_q = (int(n) for n in (sides[:, 1:] + span).max(axis=0))
        table = np.column_stack([way.axis, way.reverse, low, span, way.origins.reshape(count, -1)])
        return _Ways(
            count, lines_p, lines_q, arrays.copy(table.astype(np.int32)), arrays.copy(way.constants.astype(np.float32))
        )

    def _sweep(
        self,
        ways: _Ways,
        density: Any,
        near: Any,
        far: Any,
        at: tuple[int, int, int],
        active: Any,
        dose: Any,
        total: Any,
        arrays: CudaArrays,
    ) -> None:
        """Fill ``dose`` with that of all cones in a box of the arrays, as :func:`cantlie.dose.sweep.sweep` over the
        density; add it to a total if there is one."""
        nk, nj, ni = shape = tuple(int(n) for n in dose.shape)
        rows = 2 * nk * nj + ni * nk
        first, last = (arrays.of((rows if active is not None else 1,), np.int32) for _ in range(2))
        if active is not None:
            launch(kernels.rows_kernel, rows, active, *at, *shape, first, last)
        cells = nk * nj * ni
        together = max(1, min(ways.count, self._most_parts // cells))
        parts = self._room_for_parts(together * cells)
        for start in range(0, ways.count, together):
            count = min(together, ways.count - start)
            launch(
                kernels.sweep_kernel, count * ways.lines_p * ways.lines_q, density, near, far, *at, *shape,
                active is None, first, last, ways.way, ways.constants, ways.lines_p, ways.lines_q, start, count, parts,
            )  # fmt: skip
            launch(
                kernels.sum_kernel, cells, parts, count, density, *at, dose, start > 0, start + count == ways.count,
                dose if total is None else total, total is not None,
            )  # fmt: skip

    def _room_for_parts(self, size: int) -> Any:
        """Return an array of at least a size, the same for all sweeps if it is large enough."""
        if self._parts is None or self._parts.size < size:
            self._parts = self._arrays.of((-(-size // _PARTS_STEP) * _PARTS_STEP,))
        return self._parts


def _crop(grid: Grid, first: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
    x, y, z = grid.mm_from_index(first)
    return Grid(shape, grid.spacing_mm, (float(x), float(y), float(z)))
