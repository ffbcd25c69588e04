"""Superposition: the energy that a field releases in a phantom, and where electrons and scattered photons carry it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.grid import Grid
from cantlie.core.threads import shared_out, spans
from cantlie.dose.attenuation import terma
from cantlie.dose.beam_map import BeamMap, beam_map
from cantlie.dose.directions import mean_frame
from cantlie.dose.field import Field
from cantlie.dose.kernel import Cones, cones, further_cones, further_hardening
from cantlie.dose.phantom import Phantom
from cantlie.dose.rays import frame_of, ray_depths, release
from cantlie.dose.regrid import add_refined, coarsen, subtract_refined
from cantlie.dose.sweep import sweep
from cantlie.machine.beam_model import BeamModel

SCATTER_SPACING_MM = 6.0
NEAR_SPACING_MM = 3.0
NEAR_BLOCKS = 2
FURTHER_SPACING_MM = 12.5
FURTHER_STEPS = 4
_ELECTRON_SPACING_MM = 1.25
_MOST_ELECTRON_VOXELS = 700_000
_MOST_NEAR_VOXELS = 250_000
_OPEN_SHARE = 0.01


def unit_dose(
    patient: Phantom, field: Field, model: BeamModel
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the photon dose of a field and the fluence of contaminating electrons, both uncalibrated.

    Parameters
    ----------
    patient
        Water-equivalent density.
    field
        Geometry and fluence.
    model
        The beam model; its calibration is not used.

    Returns
    -------
    photons
        Dose to the water-equivalent medium in Gy, if the open beam were one photon per cm² for each monitor unit,
        shape ``patient.grid.shape``.
    electrons
        Fluence (MU) faded with depth by the contamination's own decay, same shape; None if the beam has none.

    Raises
    ------
    DoseError
        If the fluence map is not usable.
    """
    return group_dose(patient, (field,), model)


def group_dose(
    patient: Phantom, fields: Sequence[Field], model: BeamModel
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return what :func:`unit_dose` does for fields from nearly one direction (:mod:`cantlie.dose.directions`)."""
    total = np.zeros(patient.grid.shape, dtype=np.float32)
    released = _Released.nothing(patient.grid, model)
    beams = []
    for field in fields:
        shape = beam_map(patient.grid, field, model)
        if shape is None:
            continue
        beam = _Beam(shape, ray_depths(patient.density, patient.grid, shape.geometry, shape.rays))
        beam.add_released(patient.density, patient.grid, released)
        beams.append(beam)
    box = _bounding_box(released.active)
    if box is not None:
        axes, source_mm = mean_frame(fields)
        _add_electrons(patient, beams, model, released, axes, source_mm, box, total)
        _add_scatter(patient, released, axes, source_mm, box, [beam.map for beam in beams], model, total)
    return total, released.surface if model.electron_contamination > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class _Released:
    """Energy released per mass (surface, deep mixture), electron fluence, voxels in electrons' reach, on a grid."""

    near: NDArray[np.float32]
    far: NDArray[np.float32]
    surface: NDArray[np.float32]
    active: NDArray[np.bool_]

    @classmethod
    def nothing(cls, grid: Grid, model: BeamModel) -> _Released:
        near, far = (np.zeros(grid.shape, dtype=np.float32) for _ in range(2))
        surface = np.zeros(grid.shape if model.electron_contamination > 0 else (1, 1, 1), dtype=np.float32)
        return cls(near, far, surface, np.zeros(grid.shape, dtype=np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class _Beam:
    """A beam map with its traced rays."""

    map: BeamMap
    depth_mm: NDArray[np.float32]

    def add_released(self, density: NDArray[np.float32], grid: Grid, to: _Released) -> None:
        """Add what the beam releases on a grid."""
        shape = self.map
        frame = frame_of(shape.geometry, grid)
        arguments = shape.arguments(
            frame, shape.integral, shape.reach_mm, self.depth_mm, shape.table, shape.softening
        )  # fmt: skip

        def slab(k: slice) -> None:
            release(k.start, k.stop, density, *arguments, to.near, to.far, to.surface, to.active)

        shared_out(slab, spans(grid.shape[0]))


def electron_factor(voxels: int, spacing_mm: tuple[float, float, float]) -> int:
    """Return into how many the voxels of the grid are divided along each axis to follow electrons in small fields."""
    factor = max(1, math.ceil(max(spacing_mm) / _ELECTRON_SPACING_MM - 1e-6))
    while factor > 1 and voxels * factor**3 > _MOST_ELECTRON_VOXELS:
        factor -= 1
    return factor


def _add_electrons(
    patient: Phantom,
    beams: Sequence[_Beam],
    model: BeamModel,
    released: _Released,
    axes: NDArray[np.float64],
    source_mm: NDArray[np.float64],
    box: tuple[slice, slice, slice],
    total: NDArray[np.float32],
) -> None:
    """Add the dose of the electrons that primary photons set free, on finer voxels where the beam is small."""
    primary, _ = cones(model)
    grid, _ = patient.grid.crop(*_box_mm(patient.grid, box))
    density, near, far, active = patient.density[box], released.near[box], released.far[box], released.active[box]
    factor = electron_factor(int(np.count_nonzero(active)), grid.spacing_mm)
    if factor > 1:
        density = _repeated(density, factor)
        grid = refined(grid, factor)
        fine = _Released.nothing(grid, model)
        for beam in beams:
            beam.add_released(density, grid, fine)
        near, far, active = fine.near, fine.far, fine.active
    corner = np.asarray(grid.origin_mm) - source_mm
    dose = sweep(primary, axes, corner, density, near, far, grid.spacing_mm, active)
    dose /= density
    if factor > 1:
        nk, nj, ni = (n // factor for n in dose.shape)
        dose = dose.reshape(nk, factor, nj, factor, ni, factor).mean(axis=(1, 3, 5))
    total[box] += dose


def _box_mm(grid: Grid, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        grid.mm_from_index([run.start for run in box]),
        grid.mm_from_index([run.stop - 1 for run in box]),
    )


def refined(grid: Grid, factor: int) -> Grid:
    """Return a grid with each voxel divided along every axis."""
    dx, dy, dz = (s / factor for s in grid.spacing_mm)
    x, y, z = grid.lower_mm + 0.5 * np.array([dx, dy, dz])
    nk, nj, ni = (n * factor for n in grid.shape)
    return Grid((nk, nj, ni), (dx, dy, dz), (float(x), float(y), float(z)))


def _repeated(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return values.repeat(factor, axis=0).repeat(factor, axis=1).repeat(factor, axis=2)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    runs = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        some = np.flatnonzero(mask.any(axis=axes))
        if some.size == 0:
            return None
        runs.append(slice(int(some[0]), int(some[-1]) + 1))
    return runs[0], runs[1], runs[2]


def _add_scatter(
    patient: Phantom,
    released: _Released,
    beam_axes: NDArray[np.float64],
    source_mm: NDArray[np.float64],
    box: tuple[slice, slice, slice],
    maps: Sequence[BeamMap],
    model: BeamModel,
    total: NDArray[np.float32],
) -> None:
    """Add the dose of scattered photons: the first scatter along cones from the beam, the further as a walk."""
    spacing = patient.grid.spacing_mm
    factors = block_factors(spacing, SCATTER_SPACING_MM)
    density, coarse_near, coarse_far = _coarse(patient.density, released.near, released.far, factors)
    spacing = times(spacing, factors)
    corner = patient.grid.lower_mm + 0.5 * np.asarray(spacing) - source_mm
    _, first_scatter = cones(model)
    dose = sweep(first_scatter, beam_axes, corner, density, coarse_near, coarse_far, spacing, None)
    dose /= density
    further_factors = block_factors(spacing, FURTHER_SPACING_MM)
    further_density, scattered, hard = _coarse(density, dose, coarse_far, further_factors)
    if near_scatter_wanted(int(np.count_nonzero(released.active)), patient.grid.spacing_mm):
        _correct_near_beam(
            patient, released, first_scatter, beam_axes, source_mm, box, least_released(maps, model), dose, factors,
            total,
        )  # fmt: skip
    spacing = times(spacing, further_factors)
    corner = patient.grid.lower_mm + 0.5 * np.asarray(spacing) - source_mm
    correction = sweep(further_hardening(model), beam_axes, corner, further_density, hard, hard, spacing, None)
    scattered += correction / further_density
    further = _further_scatter(further_cones(model), further_density, scattered, beam_axes, spacing)
    add_refined(further, further_factors, dose)
    add_refined(dose, factors, total)


def near_scatter_wanted(active: int, spacing_mm: tuple[float, float, float]) -> bool:
    """Return whether a beam with so many voxels in reach is so small that first scatter near it needs a finer grid."""
    return active <= _MOST_NEAR_VOXELS * math.prod(block_factors(spacing_mm, NEAR_SPACING_MM))


def least_released(maps: Sequence[BeamMap], model: BeamModel) -> float:
    """Return the energy released per mass from which on a block belongs to the open beam, not to what leaks."""
    open_beam = max(float(np.diff(np.diff(shape.integral, axis=0), axis=1).max()) for shape in maps)
    return _OPEN_SHARE * open_beam * float(terma(model).gy_per_fluence[0])


def _correct_near_beam(
    patient: Phantom,
    released: _Released,
    first_scatter: Cones,
    beam_axes: NDArray[np.float64],
    source_mm: NDArray[np.float64],
    box: tuple[slice, slice, slice],
    least: float,
    coarse: NDArray[np.float32],
    coarse_factors: tuple[int, int, int],
    total: NDArray[np.float32],
) -> None:
    """Add, in the open beam and next to it, what first scatter on a finer grid differs by: a coarse one blurs it."""
    spacing = patient.grid.spacing_mm
    factors = block_factors(spacing, NEAR_SPACING_MM)
    whole = whole_blocks(box, factors, patient.grid.shape)
    grid, _ = patient.grid.crop(*_box_mm(patient.grid, whole))
    density, near, far = _coarse(patient.density[whole], released.near[whole], released.far[whole], factors)
    released_here = (near + far > least).astype(np.uint8)
    reached = ndimage.maximum_filter(released_here, 2 * NEAR_BLOCKS + 1, mode="nearest") > 0
    spacing = times(spacing, factors)
    corner = grid.lower_mm + 0.5 * np.asarray(spacing) - source_mm
    dose = sweep(first_scatter, beam_axes, corner, density, near, far, spacing, reached)
    dose /= density
    at = tuple(run.start // f for run, f in zip(whole, factors, strict=True))
    subtract_refined(coarse, tuple(c / f for c, f in zip(coarse_factors, factors, strict=True)), at, dose)
    dose[~reached] = 0.0
    add_refined(dose, factors, total[whole])


def whole_blocks(
    box: tuple[slice, slice, slice], factors: tuple[int, int, int], shape: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """Return a box grown to the boundaries of blocks, within the grid."""
    k, j, i = (
        slice(run.start // f * f, min(-(-run.stop // f) * f, n)) for run, f, n in zip(box, factors, shape, strict=True)
    )
    return k, j, i


def block_factors(spacing_mm: tuple[float, float, float], wanted_mm: float) -> tuple[int, int, int]:
    """Return how many voxels along [k, j, i] make a block of at most a wanted size."""
    fk, fj, fi = (max(1, int(wanted_mm / s + 1e-6)) for s in spacing_mm[::-1])
    return fk, fj, fi


def times(spacing_mm: tuple[float, float, float], factors: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return the spacing of blocks, from that of voxels (x, y, z) and their factors along [k, j, i]."""
    return spacing_mm[0] * factors[2], spacing_mm[1] * factors[1], spacing_mm[2] * factors[0]


def _coarse(
    density: NDArray[np.float32],
    one: NDArray[np.float32],
    two: NDArray[np.float32],
    factors: tuple[int, int, int],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Sum blocks of voxels, by their factors along [k, j, i]: mean density, and the means of two values per mass."""
    nk, nj, ni = (-(-n // f) for n, f in zip(density.shape, factors, strict=True))
    mass, one_mean, two_mean = (np.empty((nk, nj, ni), dtype=np.float32) for _ in range(3))
    coarsen(density, one, two, factors, mass, one_mean, two_mean)
    return mass, one_mean, two_mean


def _further_scatter(
    kinds: tuple[Cones, ...],
    density: NDArray[np.float32],
    released: NDArray[np.float32],
    beam_axes: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Return the dose of photons scattered twice and more, from the dose of those scattered once.

    Interaction after interaction is carried through the patient, so that what leaves it is lost, as it is in truth and
    not in kernels of infinite water; the rest of the series is taken as geometric.
    """
    corner = 1e6 * beam_axes[2]  # no divergence: the walk does not turn with the rays
    nothing = np.zeros_like(released)
    total = np.zeros_like(released)
    before = 0.0
    for step in range(FURTHER_STEPS + 1):
        set_of_cones = kinds[min(step, len(kinds) - 1)]
        released = sweep(set_of_cones, beam_axes, corner, density, released, nothing, spacing_mm, None)
        energy = float(released.sum(dtype=np.float64))
        ratio = energy / before if before > 0 else 0.0
        before = energy
        released /= density
        total += released
    if ratio < 0.95:
        total += released * np.float32(ratio / (1.0 - ratio))
    return total
