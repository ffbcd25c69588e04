"""The dose of one anatomy on another: warped by a registration, accumulated over sessions, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField

Mapping = Literal["interpolation", "energy and mass"]
TG132_UNCERTAINTY_MM = 2.0
"""Registration uncertainty where none was measured: TG-132 accepts errors up to the voxel size, about 2 to 3 mm
(Brock et al. 2017, doi:10.1002/mp.12256, table V)."""
_SUBDIVISION = 2


@dataclass(frozen=True, slots=True, eq=False)
class DeformedDose:
    """A dose on the reference anatomy.

    Parameters
    ----------
    dose
        Gy.
    uncertainty
        Gy per voxel, one standard error: local gradient of the dose times the uncertainty of the registration. What
        the planning dose itself does not know is not in it.
    mapping
        ``interpolation`` or ``energy and mass``.
    """

    dose: Volume
    uncertainty: Volume
    mapping: Mapping
    notes: tuple[Note, ...] = ()


def dose_by_interpolation(dose: Volume, field: DisplacementField, grid: Grid) -> Volume:
    """Return a dose of the moving anatomy on the reference: each point takes the dose where it lay, trilinear.

    The dose of each piece of tissue is kept; energy is not where the density changes inside a voxel.
    """
    return field.pull(dose, grid)


def dose_by_energy_and_mass(dose: Volume, density: Volume, field: DisplacementField, grid: Grid) -> Volume:
    """Return a dose of the moving anatomy on the reference: energy and mass of each voxel are carried over.

    Each voxel of the dose is cut in parts, whose energy (dose times mass) and mass are put where the inverse of the
    field takes them, shared among the eight voxels around; energy over mass is the dose (Siebers and Zhong 2008,
    doi:10.1118/1.2968215). Their sums are kept for all that lands inside the grid. Voxels that nothing reaches are
    interpolated.

    Parameters
    ----------
    dose, density
        Gy and g/cm³ of the moving anatomy; the density may be on its own grid.
    grid
        Grid of the result on the reference anatomy; best not finer than that of the dose.

    Raises
    ------
    DoseError
        If the field cannot be inverted.
    """
    energy, mass = energy_and_mass(dose, density, field, grid)
    reached = mass > 1e-6 * float(mass.max(initial=0.0))
    filled = dose_by_interpolation(dose, field, grid).values.astype(np.float64)
    filled[reached] = energy[reached] / mass[reached]
    return Volume(grid, filled.astype(np.float32))


def energy_and_mass(
    dose: Volume, density: Volume, field: DisplacementField, grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the energy (mJ) and mass (g) that the voxels of the moving anatomy bring to each voxel of the reference.

    Raises
    ------
    DoseError
        If the field cannot be inverted.
    """
    source = dose.grid
    rho = np.maximum(density.resample(source).values.astype(np.float64), 1e-4)
    part_g = rho * (source.voxel_cc / _SUBDIVISION**3)
    inverse, left_mm = field.reference_points_mm(source.points_mm())
    if left_mm > 1.0:
        raise DoseError(
            f"the deformation cannot be inverted (error of {left_mm:.1f} mm)",
            where="accumulation",
            remedy="register with more smoothing, or map the dose by interpolation",
        )
    back = DisplacementField(source, (inverse - source.points_mm()).astype(np.float32))
    energy, mass = np.zeros(grid.size), np.zeros(grid.size)
    steps = (np.arange(_SUBDIVISION) + 0.5) / _SUBDIVISION - 0.5
    centres = source.points_mm()
    for dz in steps:
        for dy in steps:
            for dx in steps:
                points = centres + np.array([dx, dy, dz]) * source.spacing_mm
                joules = part_g * dose.sample(points)
                _deposit(grid, back.moving_points_mm(points), part_g, joules, mass, energy)
    return energy.reshape(grid.shape), mass.reshape(grid.shape)


def _deposit(
    grid: Grid,
    points_mm: NDArray[np.float64],
    part_g: NDArray[np.float64],
    part_mj: NDArray[np.float64],
    mass: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    """Share what lies at points among the eight voxels around; what lies outside the grid is left out."""
    index = grid.index_from_mm(points_mm.reshape(-1, 3))
    top = np.asarray(grid.shape) - 1
    inside = ((index >= -0.5) & (index <= top + 0.5)).all(axis=1)
    index = np.clip(index[inside], 0, top)
    grams, joules = part_g.reshape(-1)[inside], part_mj.reshape(-1)[inside]
    low = np.minimum(index.astype(np.int64), np.maximum(top - 1, 0))
    weight = index - low
    for corner in np.ndindex(2, 2, 2):
        at = np.minimum(low + corner, top)
        share = np.prod(np.where(np.asarray(corner, bool), weight, 1.0 - weight), axis=1)
        flat = np.ravel_multi_index(tuple(at.T), grid.shape)
        mass += np.bincount(flat, share * grams, minlength=grid.size)
        energy += np.bincount(flat, share * joules, minlength=grid.size)


def gradient_gy_per_mm(dose: Volume) -> NDArray[np.float64]:
    """Return the magnitude of the dose gradient in Gy/mm, the larger of central and one-sided differences.

    One-sided ones count too, so that the foot of a steep edge is not taken for flat.
    """
    values = np.asarray(dose.values, dtype=np.float64)
    squares = np.zeros(values.shape)
    for axis, spacing in enumerate(dose.grid.spacing_mm[::-1]):
        if values.shape[axis] < 2:
            continue
        step = np.abs(np.diff(values, axis=axis)) / spacing
        first = [(0, 0)] * 3
        last = [(0, 0)] * 3
        first[axis], last[axis] = (1, 0), (0, 1)
        squares += np.maximum(np.pad(step, first), np.pad(step, last)) ** 2
    return np.sqrt(squares)


def uncertainty_map(dose: Volume, registration_mm: float | NDArray[np.floating] = TG132_UNCERTAINTY_MM) -> Volume:
    """Return what an error of the registration does to the dose: local gradient times error, Gy per voxel.

    Parameters
    ----------
    registration_mm
        Standard error of the registration, one value or one per voxel.

    Raises
    ------
    DoseError
        If it is negative or does not fit the dose.
    """
    error = np.asarray(registration_mm, dtype=np.float64)
    if error.shape not in ((), dose.grid.shape) or not (np.isfinite(error) & (error >= 0)).all():
        raise DoseError("the uncertainty of the registration must be one value or one per voxel, at least 0 mm")
    return Volume(dose.grid, (gradient_gy_per_mm(dose) * error).astype(np.float32))


def deformed_dose(
    dose: Volume,
    field: DisplacementField,
    grid: Grid,
    *,
    density: Volume | None = None,
    registration_mm: float | NDArray[np.floating] = TG132_UNCERTAINTY_MM,
) -> DeformedDose:
    """Return a dose of the moving anatomy on the reference with its uncertainty.

    Parameters
    ----------
    density
        Density (g/cm³) of the moving anatomy: with it energy and mass are carried over, without it the dose is
        interpolated.
    """
    if density is None:
        mapped: Volume = dose_by_interpolation(dose, field, grid)
    else:
        mapped = dose_by_energy_and_mass(dose, density, field, grid)
    mapping: Mapping = "interpolation" if density is None else "energy and mass"
    return DeformedDose(mapped, uncertainty_map(mapped, registration_mm), mapping, _folding_notes(field, mapped))


def accumulate(parts: Sequence[DeformedDose], weights: Sequence[float] | None = None) -> DeformedDose:
    """Return the sum of doses on the reference anatomy: sessions, phases of breathing, plans on two CTs.

    Uncertainties add up linearly, since an error of registration is mostly the same in all sessions on one image.

    Parameters
    ----------
    weights
        Share of each, such as the time in each phase or the sessions given on each anatomy; 1 when not given.

    Raises
    ------
    DoseError
        If there is nothing to sum, or grids or mappings differ.
    """
    weights = [1.0] * len(parts) if weights is None else list(weights)
    if not parts or len(weights) != len(parts) or min(weights, default=0.0) < 0:
        raise DoseError("accumulation needs at least one dose, and a weight of 0 or more for each")
    grid, mapping = parts[0].dose.grid, parts[0].mapping
    if any(not p.dose.grid.is_close(grid) for p in parts):
        raise DoseError("doses to be accumulated lie on different grids", remedy="map all to one grid")
    if any(p.mapping != mapping for p in parts):
        raise DoseError("doses to be accumulated were mapped in different ways", remedy="map all in one way")
    total = np.zeros(grid.shape, np.float32)
    error = np.zeros(grid.shape, np.float32)
    for one, weight in zip(parts, weights, strict=True):
        total += np.float32(weight) * one.dose.values
        error += np.float32(weight) * one.uncertainty.values
    notes = tuple(dict.fromkeys(note for one in parts for note in one.notes))
    return DeformedDose(Volume(grid, total), Volume(grid, error), mapping, notes)


def _folding_notes(field: DisplacementField, dose: Volume) -> tuple[Note, ...]:
    treated = dose.resample(field.grid).values > 0.1 * float(dose.values.max(initial=0.0))
    folded = int(np.count_nonzero((field.jacobian() <= 0) & treated))
    if not folded:
        return ()
    return (Note(f"the deformation folds in {folded} voxels that get dose; the dose is wrong there", "accumulation"),)
