"""All that the report of a planned case shows, as plain values and arrays. The workflow fills it; the pages read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.coverage import CoverageResult
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.indices import PlanIndices
from cantlie.machine.aperture import FluenceMap
from cantlie.plan.request import Conflict
from cantlie.report.arc_view import ArcView
from cantlie.report.document import Section
from cantlie.report.scheme_section import SchemeView

Role = Literal["target", "ctv", "gtv", "organ", "body"]


@dataclass(frozen=True, slots=True, eq=False)
class StructureView:
    """A structure as pictures and curves show it.

    Parameters
    ----------
    name
        Name in legends and tables.
    fractions
        Partial-volume mask on any grid (crop it to the structure to save memory).
    role
        ``target`` (PTV), ``ctv``, ``gtv``, ``organ`` or ``body``; decides colour, line and order.
    colour
        ``#rrggbb``; chosen from the palette when empty.
    """

    name: str
    fractions: Volume
    role: Role = "organ"
    colour: str = ""


@dataclass(frozen=True, slots=True)
class BeamRow:
    """One line of the beam table. An arc has a ``gantry_stop_deg`` and a direction in ``rotation`` (CW or CC)."""

    number: int
    name: str
    gantry_deg: float
    collimator_deg: float
    couch_deg: float
    mu: float
    segments: int
    jaw_x_mm: tuple[float, float]
    jaw_y_mm: tuple[float, float]
    gantry_stop_deg: float | None = None
    rotation: str = ""
    energy_mv: float = 6.0
    area_cm2: float | None = None
    meterset_unit: str = "MU"


@dataclass(frozen=True, slots=True, eq=False)
class FluenceView:
    """The delivered fluence of one beam, seen from the source, with the outline of the target in the same plane."""

    beam: str
    fluence: FluenceMap
    target_outlines_mm: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True, slots=True)
class Promise:
    """One number as the optimiser promised it and as the segments deliver it."""

    quantity: str
    unit: str
    promised: float
    delivered: float
    digits: int = 2


@dataclass(frozen=True, slots=True)
class CheckRow:
    """An independent check: what was checked, how, what came out, and whether that is good enough."""

    what: str
    method: str
    value: float
    unit: str
    limit: str = ""
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PlanView:
    """One plan (one half of the liver, say).

    Parameters
    ----------
    dose
        Dose of the whole plan in Gy, all its fractions.
    prescription_gy
        The dose that is 100 % in its pictures.
    normalisation
        How it was normalised, in words.
    dvhs
        By structure name, in this dose.
    isocentre_mm
        (x, y, z) in LPS mm.
    complexity
        Names and values of how complex its delivery is.
    """

    label: str
    target: str
    dose: Volume
    prescription_gy: float
    fractions: int
    normalisation: str
    isocentre_mm: tuple[float, float, float]
    beams: Sequence[BeamRow]
    dvhs: Mapping[str, Dvh] = field(default_factory=dict)
    fluences: Sequence[FluenceView] = ()
    indices: Sequence[PlanIndices] = ()
    promises: Sequence[Promise] = ()
    checks: Sequence[CheckRow] = ()
    delivery_minutes: float | None = None
    delivery_note: str = ""
    complexity: Sequence[tuple[str, object]] = ()
    technique: str = ""
    arcs: Sequence[ArcView] = ()

    @property
    def mu(self) -> float:
        """Monitor units per fraction."""
        return sum(beam.mu for beam in self.beams)

    @property
    def segments(self) -> int:
        """Number of segments."""
        return sum(beam.segments for beam in self.beams)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session of the course."""

    number: int
    start: datetime
    plan: str
    fraction: int
    dose_gy: float
    hours_since_last: float | None = None


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """Volume of one structure."""

    structure: str
    volume_cc: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class TargetsView:
    """How the targets came about.

    Parameters
    ----------
    facts
        Pairs of name and value: the dividing plane, its method and uncertainty, junction policy, margins, overlap.
    fallback
        The methods that were tried before, each with the reason why it could not be used.
    plane_point_mm, plane_normal
        The dividing plane, drawn into the pictures; None where there is none.
    """

    facts: Sequence[tuple[str, object]]
    volumes: Sequence[VolumeRow]
    fallback: Sequence[str] = ()
    plane_point_mm: tuple[float, float, float] | None = None
    plane_normal: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class BiologyRow:
    """One biological number. ``quantity`` names the kind of dose and the α/β, such as ``mean EQD2 (α/β = 2.5 Gy)``."""

    structure: str
    quantity: str
    value: float
    unit: str
    physical_gy: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class NtcpRow:
    """One complication probability (0 to 1) with its band."""

    endpoint: str
    model: str
    value: float
    lower: float | None = None
    upper: float | None = None
    source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CaseReport:
    """The report of one planned case.

    Parameters
    ----------
    title, subtitle
        The protocol's title; what this document is.
    case_label
        A pseudonym. Never the name of a patient.
    ct
        Hounsfield units.
    structures
        In the order in which legends show them.
    course_dose, course_prescription_gy
        Physical sum of all sessions in Gy, and the dose that is 100 % in its pictures.
    course_dvhs
        By structure name, in the course dose.
    constraints, coverage
        All judged rules, of the course and of single plans (``scope`` tells).
    scheme
        How the prescription was chosen, where the protocol leaves a choice.
    more
        Further chapters, before the remarks.
    reference_limits
        Limits from elsewhere that stand beside the protocol's.
    conflicts
        Rules that do not hold, what is best possible, and what relaxing the others would buy.
    attributions
        Whom the data come from and their licences.
    """

    title: str
    case_label: str
    created: datetime
    version: str
    ct: Volume
    structures: Sequence[StructureView]
    plans: Sequence[PlanView]
    course_dose: Volume
    course_prescription_gy: float
    course_dvhs: Mapping[str, Dvh]
    constraints: Sequence[ConstraintResult]
    coverage: Sequence[CoverageResult]
    subtitle: str = ""
    protocol_summary: str = ""
    protocol_id: str = ""
    patient_position: str = "HFS"
    course_indices: Sequence[PlanIndices] = ()
    reference_limits: Sequence[ConstraintResult] = ()
    conflicts: Sequence[Conflict] = ()
    scheme: SchemeView | None = None
    targets: TargetsView | None = None
    sessions: Sequence[SessionRow] = ()
    course_note: str = ""
    biology: Sequence[BiologyRow] = ()
    biology_note: str = ""
    ntcp: Sequence[NtcpRow] = ()
    checks: Sequence[CheckRow] = ()
    more: Sequence[Section] = ()
    notes: Sequence[Note] = ()
    protocol_choices: Sequence[tuple[str, str]] = ()
    provenance: Sequence[tuple[str, object]] = ()
    citations: Sequence[str] = ()
    attributions: Sequence[str] = ()
    window_centre_hu: float = 40.0
    window_width_hu: float = 400.0
    isodoses_percent: Sequence[float] = (50.0, 70.0, 80.0, 90.0, 95.0, 100.0, 107.0)
