"""A treatment plan as a machine delivers it: beams of control points, in the terms of DICOM RTPLAN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cantlie.core.notes import Note
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry


@dataclass(frozen=True, slots=True, eq=False)
class ControlPoint:
    """The state of the machine after ``cumulative_mu`` monitor units of its beam."""

    geometry: BeamGeometry
    aperture: Aperture
    cumulative_mu: float


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A piece of a beam delivered with one geometry and one aperture."""

    geometry: BeamGeometry
    aperture: Aperture
    mu: float


@dataclass(frozen=True, slots=True, eq=False)
class TreatmentBeam:
    """One beam.

    Parameters
    ----------
    control_points
        At least two, cumulative MU from 0 upwards. In a static or step-and-shoot beam each segment is a pair of control
        points with the same aperture; in a dynamic beam apertures and angles move linearly with MU between them.
    dynamic
        Whether leaves, jaws or gantry move while the beam is on.
    """

    number: int
    name: str
    control_points: tuple[ControlPoint, ...]
    dynamic: bool = False

    @property
    def mu(self) -> float:
        """Monitor units per fraction."""
        return self.control_points[-1].cumulative_mu


@dataclass(frozen=True, slots=True, eq=False)
class TreatmentPlan:
    """The beams of one fraction group, with their prescription.

    ``fractions`` times the monitor units of the beams are delivered; doses of plans are for the whole plan unless the
    name says ``per_fraction``.
    """

    label: str
    machine_id: str
    beams: tuple[TreatmentBeam, ...]
    fractions: int
    prescription_gy: float
    target_name: str = ""
    sop_instance_uid: str = ""
    notes: tuple[Note, ...] = field(default=())

    def __iter__(self) -> Iterator[TreatmentBeam]:
        return iter(self.beams)

    @property
    def mu(self) -> float:
        """Monitor units per fraction of all beams."""
        return sum(beam.mu for beam in self.beams)
