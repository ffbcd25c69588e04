"""A field: a beam direction and the fluence that comes from it."""

from __future__ import annotations

from dataclasses import dataclass

from cantlie.machine.aperture import FluenceMap
from cantlie.machine.geometry import BeamGeometry


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Everything that one source position sends into the patient.

    Dose is linear in fluence for one geometry: sum the fluence of all segments of a direction into one field.
    """

    geometry: BeamGeometry
    fluence: FluenceMap
