"""Collapsed cone: the dose of fields in a patient, by recursive superposition of point kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dose.attenuation import DEPTH_STEP_MM, terma, water_equivalent_ratio
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.field import Field
from cantlie.dose.kernel import cones
from cantlie.dose.rays import _release, trace
from cantlie.dose.regrid import add_refined, coarsen, voxel_means
from cantlie.dose.sweep import sweep
from cantlie.machine.beam_model import BeamModel

Medium = Literal["medium", "water"]

_AIR_G_CM3 = 0.0012
_BODY_G_CM3 = 0.1
_SCATTER_SPACING_MM = 6.0
_ELECTRON_MARGIN_MM = 18.0
_LUNG_MARGIN_MM = 60.0
_SOFTENING_STEP_MM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A patient as the dose engine sees it: water-equivalent density on the grid of the calculation.

    Parameters
    ----------
    grid
        The lattice of the dose grid, extended or cut to the patient.
    density
        Water-equivalent density (g/cm³), shape ``grid.shape``.
    ratio
        Water-equivalent density over mass density, same shape.
    """

    grid: Grid
    density: NDArray[np.float32]
    ratio: NDArray[np.float32]


def phantom(density: Volume, model: BeamModel, lattice: Grid) -> Phantom:
    """Return the part of a density volume that holds the patient, averaged onto the voxels of a lattice.

    Raises
    ------
    DoseError
        If nothing in the volume is denser than 0.1 g/cm³.
    """
    values = np.asarray(density.values, dtype=np.float32)
    body = values > _BODY_G_CM3
    runs = []
    for axis in range(3):
        some = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        if some.size == 0:
            raise DoseError("there is nothing to deposit dose in: no voxel is denser than 0.1 g/cm³")
        runs.append(slice(int(some[0]), int(some[-1]) + 1))
    low = density.grid.mm_from_index([run.start - 0.5 for run in runs])
    high = density.grid.mm_from_index([run.stop - 0.5 for run in runs])
    spacing = np.asarray(lattice.spacing_mm)
    first = np.floor((low - lattice.lower_mm) / spacing + 1e-6).astype(int) - 1
    last = np.ceil((high - lattice.lower_mm) / spacing - 1e-6).astype(int) + 1
    x, y, z = np.asarray(lattice.origin_mm) + first * spacing
    nx, ny, nz = (int(n) for n in last - first)
    grid = Grid((nz, ny, nx), lattice.spacing_mm, (float(x), float(y), float(z)))
    inner = values[tuple(runs)]
    x, y, z = density.grid.mm_from_index([run.start for run in runs])
    inner_grid = Grid(inner.shape, density.grid.spacing_mm, (float(x), float(y), float(z)))
    mass = voxel_means(inner, inner_grid, grid)
    equivalent = voxel_means(inner * water_equivalent_ratio(inner, model), inner_grid, grid)
    np.maximum(mass, _AIR_G_CM3, out=mass)
    np.maximum(equivalent, _AIR_G_CM3, out=equivalent)
    return Phantom(grid, equivalent, equivalent / mass)


def collapsed_cone_dose(
    density: Volume,
    fields: Sequence[Field],
    model: BeamModel,
    *,
    grid: Grid | None = None,
    medium: Medium = "medium",
    progress: Progress = silent,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Volume:
    """Return the dose of fields in Gy.

    Polyenergetic energy release with beam hardening, electrons and scattered photons carried along cones by exponential
    kernels that harden with depth, everything scaled by the water-equivalent density on the way (Ahnesjö 1989,
    doi:10.1118/1.596360). Electrons are followed on the dose grid within their reach of the beam, scattered photons in
    the whole patient on a grid of about 5 mm. Method and measured errors: docs/explanation/dose.md.

    Parameters
    ----------
    density
        Mass density of the patient in g/cm³, air around; its grid must hold the whole patient, from entry to exit.
    fields
        Beam directions with the fluence of their monitor units.
    model
        The beam model, calibration included.
    grid
        Where the dose is wanted; that of ``density`` if None. Values are means over its voxels.
    medium
        Dose to the local medium, or to water in the same place.
    device
        ``cpu``, ``cuda`` or the better one that is there.

    Raises
    ------
    DoseError
        If there is no patient in the volume, or a field cannot be calculated.
    """
    wanted = density.grid if grid is None else grid
    patient = phantom(density, model, wanted)
    total = np.zeros(patient.grid.shape, dtype=np.float32)
    for number, field in enumerate(fields):
        progress(number / max(len(fields), 1), f"dose of field {number + 1} of {len(fields)}")
        _check(field)
        add_field(patient, field, model, total)
    progress(1.0, "dose")
    if medium == "medium":
        total *= patient.ratio
    return Volume(wanted, _on_lattice(total, patient.grid, wanted))


def field_dose(patient: Phantom, field: Field, model: BeamModel, grid: Grid, medium: Medium) -> NDArray[np.float32]:
    """Return the dose (Gy) of one field in a prepared patient on a grid of its lattice, shape ``grid.shape``."""
    _check(field)
    total = np.zeros(patient.grid.shape, dtype=np.float32)
    add_field(patient, field, model, total)
    if medium == "medium":
        total *= patient.ratio
    return _on_lattice(total, patient.grid, grid)


def _check(field: Field) -> None:
    values = field.fluence.values_mu
    if values.shape != (field.fluence.y_mm.size, field.fluence.x_mm.size):
        raise DoseError("a fluence map does not have the shape of its pixel axes")
    if not np.isfinite(values).all() or values.min() < -1e-9:
        raise DoseError("a fluence map has values that are negative or not finite")


def _on_lattice(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Cut or pad an array between two grids of one lattice."""
    offset = np.rint((np.asarray(target.origin_mm) - np.asarray(source.origin_mm)) / np.asarray(source.spacing_mm))
    shift = offset[::-1].astype(int)
    result = np.zeros(target.shape, dtype=np.float32)
    inside, outside = [], []
    for a in range(3):
        start = max(0, -shift[a])
        stop = min(target.shape[a], source.shape[a] - shift[a])
        if stop <= start:
            return result
        outside.append(slice(start, stop))
        inside.append(slice(start + shift[a], stop + shift[a]))
    result[tuple(outside)] = values[tuple(inside)]
    return result


def threads() -> int:
    """Return how many threads the dose engine uses."""
    return max(1, min(4, os.cpu_count() or 1))


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    runs = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        some = np.flatnonzero(mask.any(axis=axes))
        if some.size == 0:
            return None
        runs.append(slice(int(some[0]), int(some[-1]) + 1))
    return runs[0], runs[1], runs[2]


def add_field(patient: Phantom, field: Field, model: BeamModel, total: NDArray[np.float32]) -> None:
    """Add the dose to water-equivalent medium of one field to an array on the patient's grid."""
    grid = patient.grid
    geometry = field.geometry
    fluence = field.fluence
    values = np.asarray(fluence.values_mu, dtype=np.float64)
    if values.max() <= 0:
        return
    pixel = fluence.pixel_mm
    edge_x, edge_y = float(fluence.x_mm[0] - 0.5 * pixel), float(fluence.y_mm[0] - 0.5 * pixel)
    integral = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    integral[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    reach = ndimage.distance_transform_edt(values <= 2e-4 * values.max(), sampling=pixel)
    spacing = min(grid.spacing_mm)
    rays = trace(
        geometry, patient.density, grid, (edge_x, edge_x + pixel * values.shape[1]),
        (edge_y, edge_y + pixel * values.shape[0]), spacing, spacing,
    )  # fmt: skip
    table = terma(model)
    softening = np.zeros(1)
    if model.off_axis_attenuation:
        softening = model.relative_attenuation(np.arange(0.0, 400.0, _SOFTENING_STEP_MM))
    near, far, surface = (np.zeros(grid.shape, dtype=np.float32) for _ in range(3))
    active = np.zeros(grid.shape, dtype=np.bool_)
    scale = fluence_per_mu(model, geometry.sad_mm)
    contaminated = model.electron_contamination > 0
    _release(
        patient.density, np.asarray(grid.origin_mm), np.asarray(grid.spacing_mm), geometry.source_mm, geometry.axes,
        geometry.sad_mm, integral, edge_x, edge_y, pixel, reach, rays.depth_mm, *rays.first_mm, rays.pitch_mm,
        rays.start_mm, rays.step_mm, table.gy_per_fluence * scale, table.hardening, DEPTH_STEP_MM, softening,
        _SOFTENING_STEP_MM, model.electron_contamination_depth_mm if contaminated else 0.0, _ELECTRON_MARGIN_MM,
        _LUNG_MARGIN_MM, near, far, surface, active,
    )  # fmt: skip
    box = _bounding_box(active)
    if box is None:
        return
    axes = geometry.axes
    primary, _ = cones(model)
    # Beam frame of the cones: x, y of the collimator, z along the photons.
    beam_axes = np.stack([axes[0], axes[1], -axes[2]])
    inner = patient.density[box]
    corner = grid.mm_from_index([run.start for run in box]) - geometry.source_mm
    deposited = sweep(primary, beam_axes, corner, inner, near[box], far[box], grid.spacing_mm, active[box], threads())
    total[box] += deposited / inner
    if contaminated:
        share = model.electron_contamination * model.calibration.gy_per_mu
        total += np.float32(share) * surface
    _add_scatter(patient, near, far, beam_axes, geometry.source_mm, model, total)


def _add_scatter(
    patient: Phantom,
    near: NDArray[np.float32],
    far: NDArray[np.float32],
    beam_axes: NDArray[np.float64],
    source_mm: NDArray[np.float64],
    model: BeamModel,
    total: NDArray[np.float32],
) -> None:
    spacing = patient.grid.spacing_mm
    factors = tuple(max(1, int(_SCATTER_SPACING_MM / s + 1e-6)) for s in spacing[::-1])
    shape = tuple(-(-n // f) for n, f in zip(patient.grid.shape, factors, strict=True))
    density, coarse_near, coarse_far = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    coarsen(patient.density, near, far, factors, density, coarse_near, coarse_far)
    coarse_spacing = (spacing[0] * factors[2], spacing[1] * factors[1], spacing[2] * factors[0])
    corner = patient.grid.lower_mm + 0.5 * np.asarray(coarse_spacing) - source_mm
    deposited = sweep(
        cones(model)[1], beam_axes, corner, density, coarse_near, coarse_far, coarse_spacing, None, threads()
    )
    add_refined(deposited / density, factors, total)
