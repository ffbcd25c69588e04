"""Collapsed cone: the dose of fields in a patient, in Gy for their monitor units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.device import Device, check_device
from cantlie.dose.field import Field
from cantlie.dose.phantom import Phantom, on_lattice, phantom
from cantlie.dose.superposition import unit_dose
from cantlie.machine.beam_model import BeamModel

Medium = Literal["medium", "water"]


def collapsed_cone_dose(
    density: Volume,
    fields: Sequence[Field],
    model: BeamModel,
    *,
    grid: Grid | None = None,
    medium: Medium = "medium",
    progress: Progress = silent,
    device: Device = "auto",
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
        ``auto`` or ``cpu``; there is no GPU path yet.

    Raises
    ------
    DoseError
        If there is no patient in the volume, or a field cannot be calculated.
    """
    check_device(device)
    wanted = density.grid if grid is None else grid
    patient = phantom(density, model, wanted)
    total = np.zeros(patient.grid.shape, dtype=np.float32)
    for number, field in enumerate(fields):
        progress(number / max(len(fields), 1), f"dose of field {number + 1} of {len(fields)}")
        add_field(patient, field, model, total)
    progress(1.0, "dose")
    if medium == "medium":
        total *= patient.ratio
    return Volume(wanted, on_lattice(total, patient.grid, wanted))


def field_dose(patient: Phantom, field: Field, model: BeamModel, grid: Grid, medium: Medium) -> NDArray[np.float32]:
    """Return the dose (Gy) of one field in a prepared patient on a grid of its lattice, shape ``grid.shape``."""
    total = np.zeros(patient.grid.shape, dtype=np.float32)
    add_field(patient, field, model, total)
    if medium == "medium":
        total *= patient.ratio
    return on_lattice(total, patient.grid, grid)


def add_field(patient: Phantom, field: Field, model: BeamModel, total: NDArray[np.float32]) -> None:
    """Add the dose (Gy, to the water-equivalent medium) of one field to an array on the patient's grid."""
    photons, electrons = unit_dose(patient, field, model)
    photons *= np.float32(fluence_per_mu(model, field.geometry.sad_mm))
    total += photons
    if electrons is not None:
        electrons *= np.float32(model.electron_contamination * model.calibration.gy_per_mu)
        total += electrons
