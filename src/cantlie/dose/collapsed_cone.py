"""Collapsed cone: the dose of fields in a patient, in Gy for their monitor units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dose.attenuation import stopping_power_ratio
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.device import Device, chosen
from cantlie.dose.directions import SPAN_DEG, groups_of
from cantlie.dose.field import Field
from cantlie.dose.phantom import Phantom, on_lattice, phantom
from cantlie.dose.superposition import group_dose
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
    device: Device | None = None,
    span_deg: float = SPAN_DEG,
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
        Dose to the local medium, or to a little water in the same place (by the ratio of stopping powers).
    device
        ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one; None for what
        :func:`cantlie.dose.device.computing_on` says, else ``auto``. Both give the same dose within 0.1 % of maximum.
    span_deg
        Fields of one isocentre whose directions lie within this angle, as those of an arc, share the superposition
        (:mod:`cantlie.dose.directions`); 0 computes each for itself.

    Raises
    ------
    DoseError
        If there is no patient in the volume, a field cannot be calculated, or there is no GPU for ``cuda``.
    """
    wanted = density.grid if grid is None else grid
    patient = phantom(density, model, wanted)
    dose = accumulator(patient, model, device)
    done = 0
    for group in groups_of(fields, span_deg):
        progress(done / len(fields), f"dose of field {done + 1} of {len(fields)}")
        dose.add(group)
        done += len(group)
    progress(1.0, "dose")
    total = dose.total()
    total *= patient.ratio
    if medium == "water":
        total /= stopping_power_ratio(patient.ratio, model)
    return Volume(wanted, on_lattice(total, patient.grid, wanted))


class Accumulator(Protocol):
    """The dose of fields in one patient, summed on some device."""

    def add(self, fields: Sequence[Field]) -> None:
        """Add the dose (Gy, to the water-equivalent medium) of fields from nearly one direction."""

    def total(self) -> NDArray[np.float32]:
        """Return the dose of all fields so far, shape ``patient.grid.shape``, and begin anew."""


class CpuDose:
    """The dose of fields in one patient, summed on the CPU."""

    def __init__(self, patient: Phantom, model: BeamModel) -> None:
        self._patient = patient
        self._model = model
        self._total = np.zeros(patient.grid.shape, dtype=np.float32)

    def add(self, fields: Sequence[Field]) -> None:
        """Add the dose (Gy, to the water-equivalent medium) of fields from nearly one direction."""
        model = self._model
        photons, electrons = group_dose(self._patient, fields, model)
        photons *= np.float32(fluence_per_mu(model, fields[0].geometry.sad_mm))
        self._total += photons
        if electrons is not None:
            electrons *= np.float32(model.electron_contamination * model.calibration.gy_per_mu)
            self._total += electrons

    def total(self) -> NDArray[np.float32]:
        """Return the dose of all fields so far, shape ``patient.grid.shape``, and begin anew."""
        dose, self._total = self._total, np.zeros_like(self._total)
        return dose


def accumulator(patient: Phantom, model: BeamModel, device: Device | None = None) -> Accumulator:
    """Return what sums the dose of fields on a device.

    Raises
    ------
    DoseError
        For ``cuda`` where no GPU can be used.
    """
    if chosen(device) == "cuda":
        from cantlie.dose.cuda_dose import CudaDose

        return CudaDose(patient, model)
    return CpuDose(patient, model)
