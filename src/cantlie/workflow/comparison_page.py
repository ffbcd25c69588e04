"""The report of a comparison, filled from what the arms hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np

from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.verdict import SIGNS
from cantlie.report.case_report import Role, StructureView
from cantlie.report.comparison_report import (
    ArmView,
    BandedDvh,
    BiologicalPanel,
    ComparisonReport,
    DeliveryLine,
    DifferenceLine,
    FailedLine,
    HalfLine,
    ProbabilityLine,
    RepairLine,
    RuleCell,
    RuleLine,
    SessionMark,
    TargetLine,
)
from cantlie.target.build import ALL_LESIONS, NORMAL_LIVER, OVERLAP
from cantlie.workflow.comparison_arm import Arm, cropped
from cantlie.workflow.comparison_biology import Corner, Probability, scaled
from cantlie.workflow.comparison_results import Comparison
from cantlie.workflow.planned_case import PlannedCase

_MOST_ORGANS = 12
_MOST_PANELS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """What the pictures of a comparison need of the patient, the same for all protocols."""

    label: str
    ct: Volume
    organs: tuple[StructureView, ...]
    point_mm: tuple[float, float, float] | None


def anatomy_of(planned: PlannedCase) -> Anatomy:
    """Return CT and outlines of a planned case; the slices meet in its largest lesion, where there is one."""
    regions = planned.targets.regions
    targets = {name for t in planned.protocol.targets for name in (t.id, t.ctv_id)}
    rare = {*targets, ALL_LESIONS, NORMAL_LIVER, OVERLAP, "BODY", *planned.targets.lesions}
    organs = [name for name in planned.patient.regions.fractions if name not in rare and regions[name].any()]
    names: list[tuple[str, Role]] = [(name, "gtv") for name in planned.targets.lesions]
    names += [(name, "organ") for name in organs[:_MOST_ORGANS]]
    names.append(("BODY", "body"))
    views = tuple(StructureView(name, cropped(Volume(regions.grid, regions[name])), role) for name, role in names)
    point = None
    if planned.targets.lesions:
        largest = max(planned.targets.lesions, key=regions.volume_cc)
        index = np.argwhere(regions[largest] > 0.5)
        if len(index):
            x, y, z = regions.grid.mm_from_index(index).mean(axis=0)
            point = (float(x), float(y), float(z))
    return Anatomy(planned.label, planned.patient.case.ct.volume, views, point)


def comparison_report(
    comparison: Comparison, anatomy: Anatomy, record: Mapping[str, Any], attributions: Sequence[str] = ()
) -> ComparisonReport:
    """Return the report of a comparison; ``record`` is what run.json holds."""
    assumptions = comparison.assumptions
    times = assumptions.half_times_h
    return ComparisonReport(
        title="Comparison of protocols",
        case_label=comparison.label,
        created=datetime.now(UTC).astimezone(),
        version=str(record["provenance"]["cantlie"]),
        ct=anatomy.ct,
        organs=anatomy.organs,
        arms=[_view(arm, assumptions.nominal_half_time_h) for arm in comparison.arms],
        structures=comparison.structures,
        failed=[FailedLine(one.id, one.title, one.reason) for one in comparison.failed],
        differences=[
            DifferenceLine(s.topic, s.quantity, s.first_id, s.other_id, s.sureness, s.sentence)
            for s in comparison.statements
        ],
        panels=_panels(comparison),
        rules=_rules(comparison.arms),
        complications=[_line(arm, one) for arm in comparison.arms for one in arm.biology.complications],
        control=[_line(arm, one) for arm in comparison.arms for one in arm.biology.control],
        halves=[line for arm in comparison.arms if (line := _half(arm)) is not None],
        repairs=_repairs(comparison),
        biology_note=(
            "EQD2 and BED are summed session by session in every voxel, all protocols with the same values: "
            f"α/β {assumptions.nominal_liver_gy:g} Gy for liver, {assumptions.nominal_tumour_gy:g} Gy for lesions, "
            f"{assumptions.organs_gy:g} Gy for other organs. Lines and first numbers hold for full repair between "
            f"sessions, bands for incomplete repair at the calendar's times with half-times of {times[0]:g} to "
            f"{times[-1]:g} h; no value for human liver is known. BED grows with the half-time in every voxel, so the "
            "ends of the half-times are the ends of the band."
        ),
        alpha_beta_liver_gy=assumptions.nominal_liver_gy,
        half_time_h=assumptions.nominal_half_time_h,
        point_mm=anatomy.point_mm,
        notes=comparison.notes,
        provenance=_provenance(record),
        citations=list(record["citations"]),
        attributions=list(attributions),
    )


def _view(arm: Arm, half_time_h: float) -> ArmView:
    met, broken, open_ = arm.rules_met
    given = arm.calendar.given
    first = given[0].start.date()
    marks = []
    for day, sessions in groupby(given, key=lambda session: session.start.date()):
        marks += [SessionMark((day - first).days, n, session.target) for n, session in enumerate(sessions)]
    return ArmView(
        id=arm.id,
        title=arm.title,
        summary=arm.summary,
        technique=arm.technique,
        plans_from=arm.plans_from,
        dose=arm.dose,
        outlines=[StructureView(name, mask, "target") for name, mask in arm.outlines.items()],
        dvhs=arm.dvhs,
        targets=[
            TargetLine(
                t.id,
                t.label,
                t.ctv_cc,
                t.ptv_cc,
                t.margin,
                f"{t.id}: {t.fractions} × {t.dose_per_fraction_gy:g} Gy",
            )
            for t in arm.targets
        ],
        delivery=[DeliveryLine(d.target, d.fractions, d.beams, d.segments, d.mu, d.minutes) for d in arm.delivery],
        sessions=marks,
        treatment_days=arm.calendar.treatment_days,
        calendar_days=arm.calendar.calendar_days,
        shortest_interval_h=arm.shortest_interval_h(),
        first_session=given[0].start,
        last_session=given[-1].start,
        course_mu=arm.course_mu,
        course_minutes=arm.course_minutes,
        rules_met=met,
        rules_broken=broken,
        rules_open=open_,
        bed=arm.biology.bed_of_liver_gy.get(half_time_h),
    )


def _panels(comparison: Comparison) -> list[BiologicalPanel]:
    """Return the biological histograms: liver, lesions, and the organs with the largest biological dose."""
    arms = comparison.arms
    shared = [name for name in arms[0].biology.bed if all(name in arm.biology.bed for arm in arms)]
    first = [name for name in (NORMAL_LIVER, ALL_LESIONS, OVERLAP) if name in shared]
    organs = [name for name in shared if name not in first and not name.startswith(("CTV", "Liver"))]

    def largest(name: str) -> float:
        corner = comparison.nominal(name)
        return max((arm.biology.bed[name][corner].max_gy for arm in arms if corner in arm.biology.bed[name]), default=0)

    organs.sort(key=largest, reverse=True)
    panels = []
    for name in [*first, *organs][:_MOST_PANELS]:
        nominal = comparison.nominal(name)
        factor = 1.0 / (1.0 + 2.0 / nominal.alpha_beta_gy)
        bed = {arm.id: _banded(arm, name, nominal, comparison.assumptions.half_times_h) for arm in arms}
        eqd2 = {key: _scaled(curves, factor) for key, curves in bed.items()}
        panels.append(BiologicalPanel(name, nominal.alpha_beta_gy, eqd2, bed))
    return panels


def _banded(arm: Arm, name: str, nominal: Corner, half_times_h: Sequence[float]) -> BandedDvh:
    curves = arm.biology.bed[name]

    def at(half_time_h: float) -> Dvh | None:
        return curves.get(Corner(nominal.alpha_beta_gy, half_time_h))

    return BandedDvh(curves[nominal], at(half_times_h[0]), at(half_times_h[-1]))


def _scaled(curves: BandedDvh, factor: float) -> BandedDvh:
    ends = [None if curve is None else scaled(curve, factor) for curve in (curves.least, curves.most)]
    return BandedDvh(scaled(curves.full, factor), ends[0], ends[1])


def _rules(arms: Sequence[Arm]) -> list[RuleLine]:
    """Return every rule of every protocol once, with its value in all arms; rules of the course come first."""
    lines: dict[tuple[str, str, str, str, str], dict[str, RuleCell]] = {}
    for arm in arms:
        for row in arm.coverage:
            key = (row.target, f"V{row.isodose_percent:g}%", f"≥ {row.required_percent:g} %", "%",
                   "course" if row.scope == "course" else row.target)  # fmt: skip
            lines.setdefault(key, {})[arm.id] = RuleCell(row.achieved_percent, row.verdict, True, row.reason)
        for rule in arm.constraints:
            limit = f"{SIGNS[rule.op]} {rule.limit:g} {rule.unit}"
            key = (rule.structure, rule.metric, limit, rule.unit, rule.scope)
            lines.setdefault(key, {})[arm.id] = RuleCell(rule.achieved, rule.verdict, True, rule.reason)
    for (structure, metric, _, _, scope), cells in lines.items():
        for arm in arms:
            value = arm.foreign.get((structure, metric))
            if arm.id not in cells and scope == "course" and value is not None:
                cells[arm.id] = RuleCell(value)
    found = [RuleLine(*key, cells) for key, cells in lines.items()]
    found.sort(key=lambda line: (line.scope != "course", line.scope, line.structure))
    return found


def _line(arm: Arm, one: Probability) -> ProbabilityLine:
    card = one.model
    return ProbabilityLine(
        arm.id, card.name, card.endpoint, one.value, one.low, one.high, one.trusted, one.reason, one.band, card.source
    )


def _half(arm: Arm) -> HalfLine | None:
    if arm.halves is None:
        return None
    slab = arm.halves.overlap
    return HalfLine(
        arm.id,
        arm.halves.overlap_cc,
        None if slab is None else slab.mean_gy,
        None if slab is None else slab.max_gy,
        [(half.ctv, half.own_gy, half.spilled.mean_gy, half.spilled_percent) for half in arm.halves.halves],
    )


def _repairs(comparison: Comparison) -> list[RepairLine]:
    """Return normal liver and overlap slab at every repair, for the arms with two half-liver plans."""
    arms = [arm for arm in comparison.arms if arm.halves is not None]
    if not arms:
        return []
    ratio = comparison.assumptions.nominal_liver_gy
    with_halves = {arm.id for arm in arms}
    lines = []
    for number, half_time in enumerate(comparison.assumptions.repairs):
        corner = Corner(ratio, half_time)
        liver, slab, risk = {}, {}, {}
        for arm in arms:
            bed = arm.biology.bed
            if corner in bed.get(NORMAL_LIVER, {}):
                liver[arm.id] = bed[NORMAL_LIVER][corner].mean_gy
            if corner in bed.get(OVERLAP, {}):
                slab[arm.id] = bed[OVERLAP][corner].mean_gy
            for one in arm.biology.complications:
                value = one.corners.get((ratio, half_time or 0.0, 1.0))
                if value is not None and one.model.id.startswith("rild"):
                    risk[arm.id] = value
        difference = {
            name: (rows[number].mean_gy, rows[number].least_gy, rows[number].most_gy, rows[number].more_cc)
            for name, rows in comparison.bed_differences.items()
            if name in with_halves and comparison.arms[0].id in with_halves
        }
        lines.append(RepairLine(corner.repair, liver, slab, risk, difference))
    return lines


def _provenance(record: Mapping[str, Any]) -> list[tuple[str, object]]:
    provenance = record["provenance"]
    rows: list[tuple[str, object]] = [
        ("Cantlie", provenance["cantlie"]),
        ("Python", provenance["python"]),
        ("Packages", ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())),
        ("Platform", provenance["platform"]),
        ("Input files SHA-256", provenance.get("case_sha256")),
        ("Machine SHA-256", provenance.get("machine_sha256")),
    ]
    rows += [(f"Stage: {stage['name']}", f"{stage['seconds']:.1f} s") for stage in record["stages"]]
    return rows
