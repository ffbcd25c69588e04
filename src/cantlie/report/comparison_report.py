"""All that the report of a comparison shows, as plain values and arrays. The workflow fills it; the pages read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import Dvh
from cantlie.report.case_report import StructureView


@dataclass(frozen=True, slots=True)
class SessionMark:
    """One session as the timeline shows it: day from 0, place within the day from 0, and whose fraction it is."""

    day: int
    within_day: int
    target: str


@dataclass(frozen=True, slots=True)
class TargetLine:
    """One target of an arm."""

    target: str
    label: str
    ctv_cc: float
    ptv_cc: float
    margin: str
    prescription: str


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One plan of an arm, per fraction."""

    target: str
    fractions: int
    beams: int
    segments: int
    mu: float
    minutes: float


@dataclass(frozen=True, slots=True, eq=False)
class ArmView:
    """One planned protocol.

    Parameters
    ----------
    plans_from
        The protocol whose plans it shares; empty where it has its own.
    dose
        Physical dose of the course in Gy.
    outlines
        Its PTVs, for the pictures.
    dvhs
        Structure to DVH of the physical dose of the course.
    rules_met, rules_broken, rules_open
        Rules of its own protocol.
    bed
        BED of the course in Gy for the liver's alpha/beta and the nominal repair half-time.
    """

    id: str
    title: str
    summary: str
    technique: str
    plans_from: str
    dose: Volume
    outlines: Sequence[StructureView]
    dvhs: Mapping[str, Dvh]
    targets: Sequence[TargetLine]
    delivery: Sequence[DeliveryLine]
    sessions: Sequence[SessionMark]
    treatment_days: int
    calendar_days: int
    shortest_interval_h: float | None
    first_session: datetime
    last_session: datetime
    rules_met: int
    rules_broken: int
    rules_open: int
    course_mu: float
    course_minutes: float
    bed: Volume | None = None


@dataclass(frozen=True, slots=True)
class FailedLine:
    """A protocol that could not be planned."""

    id: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class DifferenceLine:
    """What two arms differ in: numbers, how sure that is, and the sentence that says so."""

    topic: str
    quantity: str
    first_id: str
    other_id: str
    sureness: str
    sentence: str
    leads: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class BandedDvh:
    """A biological histogram with full repair, and its ends over the repair half-times."""

    full: Dvh
    least: Dvh | None = None
    most: Dvh | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BiologicalPanel:
    """EQD2 and BED of one structure in all arms; the alpha/beta belongs to the name of the value."""

    structure: str
    alpha_beta_gy: float
    eqd2: Mapping[str, BandedDvh]
    bed: Mapping[str, BandedDvh]


@dataclass(frozen=True, slots=True)
class RuleCell:
    """One rule in one arm; ``verdict`` is empty where it is not a rule of that arm's protocol."""

    value: float | None
    verdict: str = ""
    own: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule of one or several protocols, and its value in every arm (arm id to cell)."""

    structure: str
    metric: str
    limit: str
    unit: str
    scope: str
    cells: Mapping[str, RuleCell]


@dataclass(frozen=True, slots=True)
class ProbabilityLine:
    """One model in one arm; values from 0 to 1, None where the model is not applied."""

    arm: str
    model: str
    endpoint: str
    value: float | None
    low: float | None
    high: float | None
    trusted: bool
    reason: str
    band: str
    source: str


@dataclass(frozen=True, slots=True)
class HalfLine:
    """The junction of an arm with two half-liver plans: doses in Gy."""

    arm: str
    overlap_cc: float
    overlap_mean_gy: float | None
    overlap_max_gy: float | None
    into: Sequence[tuple[str, float, float, float]]
    """Half (CTV), mean dose from its own plan, mean spilled from the other plan, that in % of its prescription."""


@dataclass(frozen=True, slots=True)
class RepairLine:
    """One repair (half-time, or full) in normal liver and the overlap slab; values by arm id, in Gy BED."""

    repair: str
    liver_mean_gy: Mapping[str, float]
    overlap_mean_gy: Mapping[str, float]
    rild: Mapping[str, float]
    difference: Mapping[str, tuple[float, float, float, float]]
    """Other arm to mean, least and largest voxel difference (first minus other) and the volume above 1 Gy in cc."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonReport:
    """The report of a comparison.

    Parameters
    ----------
    arms
        The first is the one that the others are compared with.
    organs
        Lesions, organs and the body, for the pictures.
    structures
        In the order of the panels.
    point_mm
        Where the slices meet; chosen by the targets when None.
    alpha_beta_liver_gy, half_time_h
        Of the BED of normal liver.
    """

    title: str
    case_label: str
    created: datetime
    version: str
    ct: Volume
    organs: Sequence[StructureView]
    arms: Sequence[ArmView]
    structures: Sequence[str]
    failed: Sequence[FailedLine] = ()
    differences: Sequence[DifferenceLine] = ()
    panels: Sequence[BiologicalPanel] = ()
    rules: Sequence[RuleLine] = ()
    complications: Sequence[ProbabilityLine] = ()
    control: Sequence[ProbabilityLine] = ()
    halves: Sequence[HalfLine] = ()
    repairs: Sequence[RepairLine] = ()
    biology_note: str = ""
    alpha_beta_liver_gy: float = 2.5
    half_time_h: float = 2.0
    point_mm: tuple[float, float, float] | None = None
    notes: Sequence[Note] = ()
    provenance: Sequence[tuple[str, object]] = ()
    citations: Sequence[str] = ()
    attributions: Sequence[str] = ()
    window_hu: tuple[float, float] = (40.0, 400.0)
