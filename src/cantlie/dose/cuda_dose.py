"""Collapsed cone on a GPU: the same superposition as on the CPU, with a patient's arrays kept on the device.

Groups of fields are computed one after another; of each, all directions of a set of cones are followed at once, every
line by a thread of its own, and each direction deposits into an array of its own that is then summed in a fixed order.
Only the fluence maps and small tables travel to the device, and the sum of all fields travels back. Loops over threads
are in :mod:`cantlie.dose.cuda_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.dose import cuda_kernels as kernels
from cantlie.dose.beam_map import BeamMap, beam_map
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.cuda_kernels import launch
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
_NOWHERE = (0, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Released:
    """What primary photons release on one grid: arrays on the device."""

    density: Any
    near: Any
    far: Any
    surface: Any
    active: Any

    @classmethod
    def empty(cls, density: Any, model: BeamModel) -> _Released:
        """Return arrays to be cleared, for a density."""
        shape = density.shape
        single = shape if model.electron_contamination > 0 else (1, 1, 1)
        near, far, surface = (cuda.device_array(one, np.float32) for one in (shape, shape, single))
        return cls(density, near, far, surface, cuda.device_array(shape, np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class _Beam:
    """A beam map with its arrays on the device: integral, reach, traced rays, table of release, softening."""

    map: BeamMap
    arrays: tuple[Any, Any, Any, Any, Any]

    def add_released(self, grid: Grid, to: _Released) -> None:
        """Add what the beam releases on a grid."""
        frame = cuda.to_device(frame_of(self.map.geometry, grid))
        launch(
            kernels.release_kernel, _size(to.near), to.density, *self.map.arguments(frame, *self.arrays), to.near,
            to.far, to.surface, to.active,
        )  # fmt: skip


def _clear(arrays: _Released) -> None:
    launch(kernels.clear_kernel, _size(arrays.near), arrays.near, arrays.far, arrays.surface, arrays.active)


def _zeros(shape: tuple[int, ...], dtype: type = np.float32) -> Any:
    return cuda.to_device(np.zeros(shape, dtype=dtype))


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
        shape = patient.grid.shape
        density = cuda.to_device(np.ascontiguousarray(patient.density))
        self._fields = _Released.empty(density, model)
        self._photons = _zeros(shape)
        self._total = _zeros(shape)
        self._parts = cuda.device_array(1, np.float32)
        self._most_parts = _MOST_PARTS
        if not kernels.SIMULATED:
            free, _ = cuda.current_context().get_memory_info()
            self._most_parts = min(_MOST_PARTS, int(_PARTS_SHARE * free) // 4)
        self._coarse = block_factors(self.grid.spacing_mm, SCATTER_SPACING_MM)
        self._coarse_mm = times(self.grid.spacing_mm, self._coarse)
        self._coarse_density, _ = self._blocks(density, density, self._coarse)
        self._further = block_factors(self._coarse_mm, FURTHER_SPACING_MM)
        self._further_mm = times(self._coarse_mm, self._further)
        self._further_density, _ = self._blocks(self._coarse_density, self._coarse_density, self._further)
        self._nothing = _zeros(self._further_density.shape)

    def add(self, fields: Sequence[Field]) -> None:
        """Add the dose (Gy, to the water-equivalent medium) of fields from nearly one direction.

        Raises
        ------
        DoseError
            If a fluence map is not usable.
        """
        arrays = self._fields
        _clear(arrays)
        maps = [beam_map(self.grid, field, self.model) for field in fields]
        beams = [self._traced(beam) for beam in maps if beam is not None]
        for beam in beams:
            beam.add_released(self.grid, arrays)
        if not beams:
            return
        nk, nj, ni = self.grid.shape
        bounds = cuda.to_device(np.array([nk, -1, nj, -1, ni, -1, 0], dtype=np.int32))
        launch(kernels.bounds_kernel, min(_size(arrays.active), 1 << 15), arrays.active, bounds)
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
        fine = arrays
        if factor > 1:
            at = _NOWHERE
            cropped = refined(cropped, factor)
            shape = cropped.shape
            fine = _Released.empty(cuda.device_array(shape, np.float32), self.model)
            launch(kernels.repeat_kernel, _size(fine.density), arrays.density, *first, factor, fine.density)
            _clear(fine)
            for beam in beams:
                beam.add_released(cropped, fine)
        energy = cuda.device_array(shape, np.float32)
        self._sweep(
            primary, axes, np.asarray(cropped.origin_mm) - source, fine.density, fine.near, fine.far, at,
            cropped.spacing_mm, fine.active, energy,
        )  # fmt: skip
        launch(
            kernels.add_means_kernel, _size(energy) // factor**3, energy, fine.density, *at, factor, *first,
            self._photons,
        )  # fmt: skip
        box = (slice(low_k, high_k + 1), slice(low_j, high_j + 1), slice(low_i, high_i + 1))
        near_box = box if near_scatter_wanted(count, self.grid.spacing_mm) else None
        least = least_released([beam.map for beam in beams], self.model)
        self._add_scatter(first_scatter, axes, source, near_box, least)
        launch(
            kernels.add_scaled_kernel, _size(self._total), self._photons,
            fluence_per_mu(self.model, fields[0].geometry.sad_mm), self._total, True,
        )  # fmt: skip
        if self.model.electron_contamination > 0:
            scale = self.model.electron_contamination * self.model.calibration.gy_per_mu
            launch(kernels.add_scaled_kernel, _size(self._total), arrays.surface, scale, self._total, False)

    def _traced(self, beam: BeamMap) -> _Beam:
        depth = cuda.device_array(beam.rays.shape, np.float32)
        rays = beam.rays
        launch(
            kernels.trace_kernel, depth.shape[1] * depth.shape[2], self._fields.density,
            cuda.to_device(frame_of(beam.geometry, self.grid)), beam.geometry.sad_mm, *rays.first_mm, rays.pitch_mm,
            rays.start_mm, rays.step_mm, depth,
        )  # fmt: skip
        integral, reach, table, softening = (
            cuda.to_device(a) for a in (beam.integral, beam.reach_mm, beam.table, beam.softening)
        )
        return _Beam(beam, (integral, reach, depth, table, softening))

    def total(self) -> NDArray[np.float32]:
        """Return the dose of all fields so far (Gy), shape ``patient.grid.shape``, and begin anew."""
        dose = np.ascontiguousarray(self._total.copy_to_host())
        launch(kernels.add_scaled_kernel, _size(self._total), self._total, -1.0, self._total, False)
        return dose

    def _blocks(self, density: Any, per_mass: Any, factors: tuple[int, int, int]) -> tuple[Any, Any]:
        nk, nj, ni = (-(-n // f) for n, f in zip(density.shape, factors, strict=True))
        mass, result = (cuda.device_array((nk, nj, ni), np.float32) for _ in range(2))
        launch(kernels.block_kernel, nk * nj * ni, density, per_mass, *factors, mass, result)
        return mass, result

    def _add_scatter(
        self,
        first_scatter: Cones,
        axes: NDArray[np.float64],
        source_mm: NDArray[np.float64],
        near_box: tuple[slice, slice, slice] | None,
        least: float,
    ) -> None:
        """Add scattered photons, as ``_add_scatter`` of :mod:`cantlie.dose.superposition`."""
        arrays = self._fields
        _, near = self._blocks(arrays.density, arrays.near, self._coarse)
        _, far = self._blocks(arrays.density, arrays.far, self._coarse)
        density = self._coarse_density
        corner = self.grid.lower_mm + 0.5 * np.asarray(self._coarse_mm) - source_mm
        energy = cuda.device_array(density.shape, np.float32)
        dose = _zeros(density.shape)
        self._sweep(first_scatter, axes, corner, density, near, far, _NOWHERE, self._coarse_mm, None, energy)
        launch(kernels.to_dose_kernel, _size(energy), energy, density, dose)
        if near_box is not None:
            self._correct_near_beam(first_scatter, axes, source_mm, near_box, least, dose)
        self._add_further(axes, source_mm, dose, far)
        launch(kernels.add_refined_kernel, _size(self._photons), dose, *self._coarse, self._photons)

    def _correct_near_beam(
        self,
        first_scatter: Cones,
        axes: NDArray[np.float64],
        source_mm: NDArray[np.float64],
        box: tuple[slice, slice, slice],
        least: float,
        coarse: Any,
    ) -> None:
        """Add, in the open beam and next to it, what first scatter on a finer grid differs by; as the CPU does."""
        arrays = self._fields
        factors = block_factors(self.grid.spacing_mm, NEAR_SPACING_MM)
        spacing = times(self.grid.spacing_mm, factors)
        density, near = self._blocks(arrays.density, arrays.near, factors)
        _, far = self._blocks(arrays.density, arrays.far, factors)
        reached = cuda.device_array(density.shape, np.uint8)
        launch(kernels.reached_kernel, _size(reached), near, far, least, NEAR_BLOCKS, reached)
        whole = whole_blocks(box, factors, self.grid.shape)
        at = tuple(run.start // f for run, f in zip(whole, factors, strict=True))
        shape = tuple(-(-(run.stop - run.start) // f) for run, f in zip(whole, factors, strict=True))
        place = self.grid.lower_mm + (0.5 + np.array(at[::-1])) * np.asarray(spacing)
        energy = cuda.device_array(shape, np.float32)
        self._sweep(first_scatter, axes, place - source_mm, density, near, far, at, spacing, reached, energy)
        ratio = [c / f for c, f in zip(self._coarse, factors, strict=True)]
        launch(kernels.change_kernel, _size(energy), energy, density, *at, coarse, *ratio, reached)
        voxels = tuple(run.stop - run.start for run in whole)
        launch(
            kernels.add_box_kernel, int(np.prod(voxels)), energy, *factors, *(run.start for run in whole), *voxels,
            self._photons,
        )  # fmt: skip

    def _add_further(self, axes: NDArray[np.float64], source_mm: NDArray[np.float64], dose: Any, far: Any) -> None:
        """Add the photons scattered twice and more, as ``_further_scatter`` of that module."""
        _, released = self._blocks(self._coarse_density, dose, self._further)
        _, hard = self._blocks(self._coarse_density, far, self._further)
        density = self._further_density
        corner = self.grid.lower_mm + 0.5 * np.asarray(self._further_mm) - source_mm
        energy = cuda.device_array(density.shape, np.float32)
        correction = further_hardening(self.model)
        self._sweep(correction, axes, corner, density, hard, hard, _NOWHERE, self._further_mm, None, energy)
        launch(kernels.to_dose_kernel, _size(energy), energy, density, released)
        corner = 1e6 * axes[2]
        kinds = further_cones(self.model)
        total = _zeros(density.shape)
        sums = []
        for step in range(FURTHER_STEPS + 1):
            energy = cuda.device_array(density.shape, np.float32)
            kind = kinds[min(step, len(kinds) - 1)]
            self._sweep(kind, axes, corner, density, released, self._nothing, _NOWHERE, self._further_mm, None, energy)
            if step >= FURTHER_STEPS - 1:
                sums.append(float(energy.copy_to_host().sum(dtype=np.float64)))
            launch(kernels.to_dose_kernel, _size(energy), energy, density, total)
            released = energy
        ratio = sums[1] / sums[0] if sums[0] > 0 else 0.0
        if ratio < 0.95:
            launch(kernels.add_scaled_kernel, _size(total), released, ratio / (1.0 - ratio), total, False)
        launch(kernels.add_refined_kernel, _size(dose), total, *self._further, dose)

    def _sweep(
        self,
        kind: Cones,
        axes: NDArray[np.float64],
        first_voxel_mm: NDArray[np.float64],
        density: Any,
        near: Any,
        far: Any,
        at: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        active: Any,
        energy: Any,
    ) -> None:
        """Fill ``energy`` with what all cones deposit in a box of the arrays; as :func:`cantlie.dose.sweep.sweep`."""
        shape = tuple(int(n) for n in energy.shape)
        nk, nj, ni = shape
        way = lines(kind, axes, first_voxel_mm, spacing_mm, shape)
        sides = np.array(shape)[np.array(ORDERS)[way.axis]]
        # Lines that meet the box at all: the shifts are monotonic, so that their first and last are their extremes.
        ends = np.stack([way.origins[:, :, 0], way.origins[np.arange(len(sides)), :, sides[:, 0] - 1]])
        low, span = ends.min(axis=0), ends.max(axis=0) - ends.min(axis=0)
        lines_p, lines_q = (int(n) for n in (sides[:, 1:] + span).max(axis=0))
        rows = 2 * nk * nj + ni * nk
        first, last = (cuda.device_array(rows if active is not None else 1, np.int32) for _ in range(2))
        if active is not None:
            launch(kernels.rows_kernel, rows, active, *at, *shape, first, last)
        tables = [
            cuda.to_device(np.ascontiguousarray(table))
            for table in (
                way.axis, way.reverse.astype(np.int32), way.origins, low.astype(np.int32), span.astype(np.int32),
                way.constants.astype(np.float32),
            )
        ]  # fmt: skip
        cells = nk * nj * ni
        together = max(1, min(len(sides), self._most_parts // cells))
        if self._parts.size < together * cells:
            self._parts = cuda.device_array(together * cells, np.float32)
        for start in range(0, len(sides), together):
            count = min(together, len(sides) - start)
            launch(
                kernels.sweep_kernel, count * lines_p * lines_q, density, near, far, *at, *shape, active is None, first,
                last, *tables, lines_p, lines_q, start, count, self._parts,
            )  # fmt: skip
            launch(kernels.sum_kernel, cells, self._parts, count, energy, start > 0)


def _crop(grid: Grid, first: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
    x, y, z = grid.mm_from_index(first)
    return Grid(shape, grid.spacing_mm, (float(x), float(y), float(z)))
