"""One arm of a comparison: what is kept of a planned case, so that the case itself can be let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cantlie.core.errors import CantlieError
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.course.calendar import Calendar
from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.coverage import CoverageResult
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.patient.regions import Fractions, Regions
from cantlie.plan.complexity import complexity
from cantlie.protocol.schema import Constraint, Protocol
from cantlie.target.build import ALL_LESIONS, NORMAL_LIVER, OVERLAP
from cantlie.target.recipes import resolve_first
from cantlie.workflow.choices import delivered_as
from cantlie.workflow.comparison_biology import Assumptions, BiologyOfArm, biology_of_arm
from cantlie.workflow.comparison_halves import HalvesOfArm, halves_of_arm
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.machine_choice import beam_quality
from cantlie.workflow.planned_case import PlannedCase, citations_of

_MOST_ORGANS = 16
_USUAL_ORGANS = ("Liver", "Stomach", "Duodenum", "Bowel_Small", "Bowel_Large", "Bag_Bowel", "SpinalCord", "SpinalCanal",
                 "Kidney_L", "Kidney_R", "Heart", "Lung_L", "Lung_R")  # fmt: skip
LESSER_CC = 0.03


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """What one plan asks of the machine, per fraction."""

    target: str
    fractions: int
    beams: int
    segments: int
    mu: float
    minutes: float


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target: its volumes, margin and prescription."""

    id: str
    label: str
    ctv_cc: float
    ptv_cc: float
    margin: str
    dose_per_fraction_gy: float
    fractions: int

    @property
    def total_gy(self) -> float:
        """Prescribed dose of the plan."""
        return self.dose_per_fraction_gy * self.fractions


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """All that a comparison needs of one planned protocol.

    Attributes
    ----------
    dose
        Physical dose of the course in Gy.
    dvhs
        Structure to DVH of the physical dose of the course, for the compared structures and the arm's own targets.
    outlines
        The arm's PTVs, cropped to where they are.
    foreign
        Values that rules of other protocols would have in this arm's course, by (structure, metric).
    """

    id: str
    title: str
    summary: str
    technique: str
    plans_from: str
    dose: Volume
    prescription_gy: float
    targets: tuple[TargetRow, ...]
    dvhs: Mapping[str, Dvh]
    constraints: tuple[ConstraintResult, ...]
    coverage: tuple[CoverageResult, ...]
    foreign: Mapping[tuple[str, str], float]
    biology: BiologyOfArm
    calendar: Calendar
    delivery: tuple[DeliveryRow, ...]
    outlines: Mapping[str, Volume]
    halves: HalvesOfArm | None
    notes: tuple[Note, ...]
    citations: tuple[str, ...]

    @property
    def fractions(self) -> int:
        """Fractions of the plan with the most."""
        return max(target.fractions for target in self.targets)

    @property
    def sessions(self) -> int:
        """Number of sessions that are given."""
        return len(self.calendar.given)

    @property
    def course_mu(self) -> float:
        """Monitor units of the whole course."""
        return sum(row.mu * row.fractions for row in self.delivery)

    @property
    def course_minutes(self) -> float:
        """Estimated minutes on the machine in the whole course, without set-up and imaging."""
        return sum(row.minutes * row.fractions for row in self.delivery)

    @property
    def rules_met(self) -> tuple[int, int, int]:
        """Rules of the protocol that are met, broken, and not evaluable."""
        verdicts = [row.verdict for row in self.constraints] + [row.verdict for row in self.coverage]
        return verdicts.count("pass"), verdicts.count("fail"), verdicts.count("not evaluable")

    def shortest_interval_h(self) -> float | None:
        """Return the shortest time between two sessions."""
        starts = [session.start for session in self.calendar.given]
        gaps = [(later - earlier).total_seconds() / 3600.0 for earlier, later in pairwise(starts)]
        return min(gaps) if gaps else None


def compared_structures(regions: Regions, protocols: Sequence[Protocol]) -> dict[str, Fractions]:
    """Return the structures that all arms are compared in: normal liver, lesions, organs, and what any rule names.

    Targets are left out: they differ from protocol to protocol.
    """
    targets = {name for protocol in protocols for t in protocol.targets for name in (t.id, t.ctv_id)}
    masks: dict[str, Fractions] = {}
    for name in (NORMAL_LIVER, ALL_LESIONS):
        if name in regions and regions[name].any():
            masks[name] = regions[name]
    organs = [name for name in _USUAL_ORGANS if name in regions.fractions and regions[name].any()]
    for name in organs:
        masks[name] = regions[name]
    for rule in _rules(protocols):
        if len(masks) >= _MOST_ORGANS:
            break
        if rule.structure in targets or rule.structure in {p.normal_liver for p in protocols}:
            continue
        found = resolve_first(regions, rule.structure, rule.stand_ins)
        if found is not None:
            masks.setdefault(found.name, found.fractions)
    return masks


def arm_of(planned: PlannedCase, protocols: Sequence[Protocol], assumptions: Assumptions, plans_from: str = "") -> Arm:
    """Return what the comparison keeps of a planned case.

    Parameters
    ----------
    protocols
        All that are compared: their rules are read off this arm's dose too.
    plans_from
        The protocol whose plans this arm shares, if any.
    """
    regions = planned.targets.regions
    protocol = planned.protocol
    dose = planned.planning.total_dose
    masks = compared_structures(regions, protocols)
    own = [name for t in protocol.targets for name in (t.id, t.ctv_id) if name in regions and regions[name].any()]
    if OVERLAP in regions and regions[OVERLAP].any():
        own.append(OVERLAP)
    known = planned.dosimetry.dvhs[COURSE]
    dvhs = {name: known.get(name) or dvh(dose, masks[name], regions.grid, name=name) for name in masks}
    dvhs |= {name: known[name] for name in own if name in known}
    halves = halves_of_arm(planned)
    parts = (OVERLAP, *(half.ctv for half in halves.halves)) if halves is not None else ()
    liver_like = {NORMAL_LIVER, ALL_LESIONS, "Liver"}
    plans = planned.planning.plans
    biology = biology_of_arm(
        planned.course.dose,
        {**masks, **{name: regions[name] for name in parts if name in regions and regions[name].any()}},
        regions.grid,
        assumptions,
        normal_liver=NORMAL_LIVER,
        lesions=ALL_LESIONS,
        liver_parts=parts,
        organs=[name for name in masks if name not in liver_like],
        fractions=max(p.target.fractions for p in plans),
        largest_dose_per_fraction_gy=max(p.target.prescription_gy / p.target.fractions for p in plans),
        physical=dvhs,
    )
    technique = protocol.technique
    beams = ", ".join(str(len(p.plan.beams)) for p in plans) + (" arcs" if technique.delivery == "arc" else " fields")
    return Arm(
        id=protocol.id,
        title=protocol.title,
        summary=protocol.summary,
        technique=f"{delivered_as(technique.delivery)}, {beams}, {beam_quality(planned.machine)}",
        plans_from=plans_from,
        dose=dose,
        prescription_gy=max(p.target.prescription_gy for p in plans),
        targets=_targets(planned),
        dvhs=dvhs,
        constraints=planned.dosimetry.constraints,
        coverage=planned.dosimetry.coverage,
        foreign=_foreign(protocol, protocols, regions, dvhs, dose),
        biology=biology,
        calendar=planned.course.calendar,
        delivery=_delivery(planned),
        outlines={p.target.name: cropped(Volume(regions.grid, regions[p.target.name])) for p in plans},
        halves=halves,
        notes=planned.notes,
        citations=citations_of(planned),
    )


def _targets(planned: PlannedCase) -> tuple[TargetRow, ...]:
    built = {target.id: target for target in planned.targets.targets}
    return tuple(
        TargetRow(
            asked.name,
            built[asked.name].label,
            built[asked.name].ctv_cc,
            built[asked.name].ptv_cc,
            str(built[asked.name].margin),
            asked.prescription_gy / asked.fractions,
            asked.fractions,
        )
        for asked in (one.target for one in planned.planning.plans)
    )


def cropped(mask: Volume, beyond: int = 2) -> Volume:
    """Return a mask on the part of its grid where it is not empty, and a few voxels around."""
    inside = np.argwhere(mask.values.any(axis=(1, 2))), np.argwhere(mask.values.any(axis=(0, 2)))
    ranges = [*inside, np.argwhere(mask.values.any(axis=(0, 1)))]
    if not all(len(found) for found in ranges):
        return mask
    low = mask.grid.mm_from_index([max(int(found[0, 0]) - beyond, 0) for found in ranges])
    top = [min(int(r[-1, 0]) + beyond, n - 1) for r, n in zip(ranges, mask.grid.shape, strict=True)]
    grid, part = mask.grid.crop(low, mask.grid.mm_from_index(top))
    return Volume(grid, np.ascontiguousarray(mask.values[part]))


def _delivery(planned: PlannedCase) -> tuple[DeliveryRow, ...]:
    rows = []
    for one in planned.planning.plans:
        found = complexity(one.plan, planned.machine)
        rows.append(
            DeliveryRow(
                one.target.name, one.target.fractions, found.beams, found.segments, found.mu, found.delivery_s / 60.0
            )
        )
    return tuple(rows)


def _foreign(
    protocol: Protocol,
    protocols: Sequence[Protocol],
    regions: Regions,
    dvhs: Mapping[str, Dvh],
    dose: Volume,
) -> dict[tuple[str, str], float]:
    """Return what absolute rules of the other protocols read off this arm's course."""
    values: dict[tuple[str, str], float] = {}
    others = [other for other in protocols if other.id != protocol.id]
    curves = dict(dvhs)
    for rule in _rules(others):
        metric = rule.parsed_metric
        key = (rule.structure, str(metric))
        if rule.scope != COURSE or metric.needs_prescription or key in values:
            continue
        found = resolve_first(regions, rule.structure, rule.stand_ins)
        if found is None:
            continue
        if found.name not in curves:
            curves[found.name] = dvh(dose, found.fractions, regions.grid, name=found.name)
        try:
            values[key] = metric_value(metric, curves[found.name])
        except CantlieError:
            continue  # a volume larger than the structure has no value
    return values


def _rules(protocols: Sequence[Protocol]) -> list[Constraint]:
    return [rule for protocol in protocols for rule in protocol.constraints]
