"""Superposition: the energy that a field releases in a phantom, and where electrons and scattered photons carry it."""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.dose.attenuation import DEPTH_STEP_MM, terma
from cantlie.dose.field import Field
from cantlie.dose.kernel import cones, further_cones
from cantlie.dose.phantom import Phantom
from cantlie.dose.rays import frame_of, release, trace
from cantlie.dose.regrid import add_refined, coarsen
from cantlie.dose.sweep import sweep
from cantlie.machine.beam_model import BeamModel

_SCATTER_SPACING_MM = 6.0
_FURTHER_SPACING_MM = 12.5
_FURTHER_STEPS = 4
_ELECTRON_MARGIN_MM = 18.0
_LUNG_MARGIN_MM = 60.0
_ELECTRON_SPACING_MM = 1.25
_MOST_ELECTRON_VOXELS = 700_000
_SOFTENING_STEP_MM = 5.0


def threads() -> int:
    """Return how many threads the dose engine uses."""
    return max(1, min(4, os.cpu_count() or 1))


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
    _check(field)
    values = field.fluence.values_mu
    contaminated = model.electron_contamination > 0
    total = np.zeros(patient.grid.shape, dtype=np.float32)
    if values.max() <= 0:
        return total, np.zeros_like(total) if contaminated else None
    beam = _Beam(patient, field, model)
    near, far, surface, active = beam.released(patient.density, patient.grid)
    box = _bounding_box(active)
    if box is not None:
        _add_electrons(patient, beam, near, far, active, box, total)
        _add_scatter(patient, near, far, beam.axes, field.geometry.source_mm, model, total)
    return total, surface if contaminated else None


def release_tables(model: BeamModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energy released and hardening against depth, shape (2, n), and relative attenuation off axis, (1, m)."""
    table = terma(model)
    softening = np.ones((1, 1))
    if model.off_axis_attenuation:
        softening = model.relative_attenuation(np.arange(0.0, 400.0, _SOFTENING_STEP_MM))[None, :]
    return np.stack([table.gy_per_fluence, table.hardening]), softening


class _Beam:
    """A field's fluence and rays, ready to say what energy it releases on any grid inside a patient."""

    def __init__(self, patient: Phantom, field: Field, model: BeamModel) -> None:
        fluence = field.fluence
        values = np.asarray(fluence.values_mu, dtype=np.float64)
        self.model = model
        self.geometry = field.geometry
        self.pixel_mm = fluence.pixel_mm
        self.edge_mm = (float(fluence.x_mm[0] - 0.5 * self.pixel_mm), float(fluence.y_mm[0] - 0.5 * self.pixel_mm))
        self.integral = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
        self.integral[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
        self.reach_mm = ndimage.distance_transform_edt(values <= 2e-4 * values.max(), sampling=self.pixel_mm)
        spacing = min(patient.grid.spacing_mm)
        ranges = [(low, low + self.pixel_mm * n) for low, n in zip(self.edge_mm, values.shape[::-1], strict=True)]
        self.rays = trace(self.geometry, patient.density, patient.grid, ranges[0], ranges[1], spacing, spacing)
        axes = self.geometry.axes
        self.axes = np.stack([axes[0], axes[1], -axes[2]])  # x, y of the collimator, z along the photons

    def released(
        self, density: NDArray[np.float32], grid: Grid
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Return energy released per mass (surface, deep mixture), electron fluence, voxels in electrons' reach."""
        model, rays = self.model, self.rays
        tables, softening = release_tables(model)
        contaminated = model.electron_contamination > 0
        near, far = (np.zeros(grid.shape, dtype=np.float32) for _ in range(2))
        surface = np.zeros(grid.shape if contaminated else (1, 1, 1), dtype=np.float32)
        active = np.zeros(grid.shape, dtype=np.bool_)
        release(
            density, frame_of(self.geometry, grid), self.geometry.sad_mm, self.integral, *self.edge_mm, self.pixel_mm,
            self.reach_mm, rays.depth_mm, *rays.first_mm, rays.pitch_mm, rays.start_mm, rays.step_mm, tables,
            DEPTH_STEP_MM, softening, _SOFTENING_STEP_MM,
            model.electron_contamination_depth_mm if contaminated else 0.0, _ELECTRON_MARGIN_MM, _LUNG_MARGIN_MM,
            near, far, surface, active,
        )  # fmt: skip
        return near, far, surface, active


def _add_electrons(
    patient: Phantom,
    beam: _Beam,
    near: NDArray[np.float32],
    far: NDArray[np.float32],
    active: NDArray[np.bool_],
    box: tuple[slice, slice, slice],
    total: NDArray[np.float32],
) -> None:
    """Add the dose of the electrons that primary photons set free, on finer voxels where the beam is small."""
    primary, _ = cones(beam.model)
    grid, _ = patient.grid.crop(*_box_mm(patient.grid, box))
    density, near, far, active = patient.density[box], near[box], far[box], active[box]
    factor = max(1, math.ceil(max(grid.spacing_mm) / _ELECTRON_SPACING_MM - 1e-6))
    while factor > 1 and np.count_nonzero(active) * factor**3 > _MOST_ELECTRON_VOXELS:
        factor -= 1
    if factor > 1:
        density = _repeated(density, factor)
        grid = _refined(grid, factor)
        near, far, _, active = beam.released(density, grid)
    corner = np.asarray(grid.origin_mm) - beam.geometry.source_mm
    dose = sweep(primary, beam.axes, corner, density, near, far, grid.spacing_mm, active, threads())
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


def _refined(grid: Grid, factor: int) -> Grid:
    dx, dy, dz = (s / factor for s in grid.spacing_mm)
    x, y, z = grid.lower_mm + 0.5 * np.array([dx, dy, dz])
    nk, nj, ni = (n * factor for n in grid.shape)
    return Grid((nk, nj, ni), (dx, dy, dz), (float(x), float(y), float(z)))


def _repeated(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return values.repeat(factor, axis=0).repeat(factor, axis=1).repeat(factor, axis=2)


def _check(field: Field) -> None:
    values = field.fluence.values_mu
    if values.shape != (field.fluence.y_mm.size, field.fluence.x_mm.size):
        raise DoseError("a fluence map does not have the shape of its pixel axes")
    if not np.isfinite(values).all() or values.min() < -1e-9:
        raise DoseError("a fluence map has values that are negative or not finite")


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
    near: NDArray[np.float32],
    far: NDArray[np.float32],
    beam_axes: NDArray[np.float64],
    source_mm: NDArray[np.float64],
    model: BeamModel,
    total: NDArray[np.float32],
) -> None:
    """Add the dose of scattered photons: the first scatter along cones from the beam, the further as a walk."""
    spacing = patient.grid.spacing_mm
    factors, density, (coarse_near, coarse_far) = _coarse(patient.density, (near, far), spacing, _SCATTER_SPACING_MM)
    spacing = _times(spacing, factors)
    corner = patient.grid.lower_mm + 0.5 * np.asarray(spacing) - source_mm
    _, first_scatter = cones(model)
    dose = sweep(first_scatter, beam_axes, corner, density, coarse_near, coarse_far, spacing, None, threads())
    dose /= density
    further_factors, further_density, (released,) = _coarse(density, (dose,), spacing, _FURTHER_SPACING_MM)
    further = _further_scatter(further_density, released, beam_axes, _times(spacing, further_factors))
    add_refined(further, further_factors, dose)
    add_refined(dose, factors, total)


def _times(spacing_mm: tuple[float, float, float], factors: tuple[int, int, int]) -> tuple[float, float, float]:
    return spacing_mm[0] * factors[2], spacing_mm[1] * factors[1], spacing_mm[2] * factors[0]


def _coarse(
    density: NDArray[np.float32],
    per_mass: tuple[NDArray[np.float32], ...],
    spacing_mm: tuple[float, float, float],
    wanted_mm: float,
) -> tuple[tuple[int, int, int], NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
    """Sum blocks of voxels up to a wanted spacing: factors along [k, j, i], mean density, values per mass."""
    fk, fj, fi = (max(1, int(wanted_mm / s + 1e-6)) for s in spacing_mm[::-1])
    nk, nj, ni = density.shape
    shape = (-(-nk // fk), -(-nj // fj), -(-ni // fi))
    coarse = np.zeros(shape, dtype=np.float32)
    results = tuple(np.zeros(shape, dtype=np.float32) for _ in per_mass)
    for values, result in zip(per_mass, results, strict=True):
        coarsen(density, values, (fk, fj, fi), coarse, result)
    return (fk, fj, fi), coarse, results


def _further_scatter(
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
    kinds = further_cones()
    total = np.zeros_like(released)
    before = 0.0
    ratio = 0.0
    for step in range(_FURTHER_STEPS + 1):
        set_of_cones = kinds[min(step, len(kinds) - 1)]
        released = sweep(set_of_cones, beam_axes, corner, density, released, nothing, spacing_mm, None, threads())
        energy = float(released.sum(dtype=np.float64))
        ratio = energy / before if before > 0 else 0.0
        before = energy
        released /= density
        total += released
    if ratio < 0.95:
        total += released * np.float32(ratio / (1.0 - ratio))
    return total
