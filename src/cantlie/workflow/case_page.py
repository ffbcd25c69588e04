"""The report of a planned case, filled from what the road produced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.machine.machine import Machine
from cantlie.patient.regions import Regions
from cantlie.plan.complexity import complexity
from cantlie.plan.delivery import beam_fluence
from cantlie.plan.request import GoalOutcome, PlannedTarget
from cantlie.plan.treatment import TreatmentBeam, TreatmentPlan
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.model import Estimate
from cantlie.report.case_report import (
    BeamRow,
    BiologyRow,
    CaseReport,
    FluenceView,
    NtcpRow,
    PlanView,
    Promise,
    Role,
    SessionRow,
    StructureView,
    TargetsView,
    VolumeRow,
)
from cantlie.report.document import Section
from cantlie.target.build import ALL_LESIONS, NORMAL_LIVER, OVERLAP, TargetResult
from cantlie.workflow.arc_page import arc_view
from cantlie.workflow.choices import delivered_as
from cantlie.workflow.course_stage import CourseResult
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.machine_choice import beam_quality
from cantlie.workflow.new_ct_page import new_ct_sections
from cantlie.workflow.planned_case import PlannedCase
from cantlie.workflow.results import segments_of
from cantlie.workflow.scheme_stage import scheme_view
from cantlie.workflow.target_outline import outline_of_points, outline_points

_FIRST_ORGANS = ("Liver", "Stomach", "Duodenum", "Bowel_Small", "Bag_Bowel", "SpinalCord", "SpinalCanal", "Kidney_L",
                 "Kidney_R", "Heart", "Lung_L", "Lung_R")  # fmt: skip
_RARELY_SHOWN = (ALL_LESIONS, NORMAL_LIVER, OVERLAP)
_MOST_ORGANS = 14


def case_report(planned: PlannedCase, record: Mapping[str, Any]) -> CaseReport:
    """Return the report of a planned case; ``record`` is what run.json holds."""
    case = planned.patient.case
    regions = planned.targets.regions
    protocol = planned.protocol
    dosimetry = planned.dosimetry
    views = structure_views(regions, planned.targets.lesions, protocol)
    shown = {view.name for view in views} | {row.evaluated_structure for row in dosimetry.constraints}
    prescription = max(one.target.prescription_gy for one in planned.planning.plans)
    return CaseReport(
        title=protocol.title,
        subtitle=protocol.citation.sentence(),
        case_label=planned.label,
        created=datetime.now(UTC).astimezone(),
        version=str(record["provenance"]["cantlie"]),
        ct=case.ct.volume,
        structures=views,
        plans=[_plan_view(one, planned) for one in planned.planning.plans],
        course_dose=planned.course_dose,
        course_prescription_gy=prescription,
        course_dvhs={name: curve for name, curve in dosimetry.dvhs[COURSE].items() if name in shown},
        constraints=dosimetry.constraints,
        coverage=dosimetry.coverage,
        protocol_summary=protocol.summary,
        protocol_id=protocol.id,
        patient_position=case.ct.patient_position,
        course_indices=dosimetry.indices[COURSE],
        reference_limits=dosimetry.reference_limits,
        conflicts=planned.planning.conflicts,
        scheme=scheme_view(planned.scheme),
        targets=_targets(planned.targets),
        sessions=_sessions(planned),
        course_note=(
            f"{planned.course.calendar.treatment_days} treatment days in "
            f"{planned.course.calendar.calendar_days} calendar days; times are local"
        ),
        biology=_biology(planned.course),
        biology_note=_biology_note(planned.course),
        ntcp=risk_rows(planned.course.risks),
        more=(*planned.answers.chapters(views), *new_ct_sections(planned), *_breathing(planned)),
        notes=[*planned.notes, *_reading_notes(planned)],
        protocol_choices=_choices(protocol),
        provenance=_provenance(planned, record),
        citations=list(record["citations"]),
        attributions=planned.request.attributions,
    )


def _breathing(planned: PlannedCase) -> tuple[Section, ...]:
    return (planned.phases.section(),) if planned.phases is not None else ()


def _reading_notes(planned: PlannedCase) -> list[Note]:
    return [Note(line, "reading", "info") for line in planned.patient.report.lines()]


def structure_views(regions: Regions, lesions: Sequence[str], protocol: Protocol) -> list[StructureView]:
    """Return targets, lesions and the organs that matter, in the order of the legend."""
    ptvs = [target.id for target in protocol.targets if target.id in regions]
    ctvs = [target.ctv_id for target in protocol.targets]
    special = {*ptvs, *ctvs, *lesions, *_RARELY_SHOWN, "BODY"}
    organs = [name for name in regions.fractions if name not in special and regions[name].any()]
    organs.sort(key=lambda name: (_FIRST_ORGANS.index(name) if name in _FIRST_ORGANS else 99, name))
    roles: list[tuple[str, Role]] = [(name, "target") for name in ptvs]
    roles += [(name, "ctv") for name in ctvs if name in regions]
    roles += [(name, "gtv") for name in lesions]
    roles += [(name, "organ") for name in organs[:_MOST_ORGANS]]
    roles.append(("BODY", "body"))
    return [StructureView(name, Volume(regions.grid, regions[name]), role) for name, role in roles]


def _plan_view(one: PlannedTarget, planned: PlannedCase) -> PlanView:
    name = one.target.name
    protocol = planned.protocol
    prescription = next(p for p in protocol.prescriptions if p.target == name)
    curves = planned.dosimetry.dvhs[name]
    organs = {row.evaluated_structure for row in planned.dosimetry.constraints}
    shown = {n: c for n, c in curves.items() if n in organs or n in {t.id for t in protocol.targets}}
    first = one.plan.beams[0].control_points[0].geometry
    outlines = outline_points(planned.targets.regions, name)
    found = complexity(one.plan, planned.machine)
    return PlanView(
        label=name if [o.target.name for o in planned.planning.plans].count(name) == 1 else one.plan.label,
        target=name,
        dose=one.dose,
        prescription_gy=one.target.prescription_gy,
        fractions=one.target.fractions,
        normalisation=(
            f"{prescription.metric} of {name} = {prescription.normalise_percent:g} % of "
            f"{one.target.prescription_gy:g} Gy in the dose of the {prescription.normalise_dose}"
        ),
        isocentre_mm=first.isocentre_mm,
        beams=[_beam_row(beam, planned.machine) for beam in one.plan],
        dvhs=shown,
        fluences=[
            FluenceView(
                beam.name,
                beam_fluence(beam, planned.machine, planned.beam_model),
                outline_of_points(beam.control_points[0].geometry, outlines),
            )
            for beam in one.plan
            if not beam.dynamic
        ],
        arcs=[
            arc_view(beam, planned.machine, lambda geometry: outline_of_points(geometry, outlines))
            for beam in one.plan
            if beam.dynamic
        ],
        indices=planned.dosimetry.indices[name],
        promises=_promises(planned.planning.outcomes, name),
        checks=[check for check in planned.checks if check.what.startswith(name)],
        delivery_minutes=found.delivery_s / 60.0,
        complexity=[
            ("Monitor units per Gy", f"{found.mu_per_gy:.0f}")
            if planned.machine.cobalt is None
            else ("Timer minutes per Gy", f"{found.mu_per_gy:.2f}"),
            ("Mean aperture", f"{found.mean_aperture_cm2:.0f} cm²"),
            ("Leaf pairs open by less than 2 cm", f"{100 * found.small_aperture_score:.0f} %"),
            ("Plan modulation (0: open fields)", f"{found.modulation:.2f}"),
        ],
        delivery_note="Estimated from monitor units, dose rate, segments, leaf travel and gantry rotation.",
        technique=(
            f"{_delivery(one.plan, protocol.technique.delivery)}, "
            f"{beam_quality(planned.machine)}, {planned.machine.description}; set-up {_setup(planned)}"
        ),
    )


def _delivery(plan: TreatmentPlan, delivery: str) -> str:
    count = len(plan.beams)
    if all(beam.dynamic for beam in plan):
        points = sum(len(beam.control_points) for beam in plan)
        return f"VMAT, {count} arc{'s' * (count > 1)} of {points} control points"
    turned = " with couch turns" if any(b.control_points[0].geometry.couch_deg for b in plan) else ""
    return f"{delivered_as(delivery)}, {count} fields{turned}"


def _setup(planned: PlannedCase) -> str:
    technique = planned.protocol.technique
    devices = [*technique.immobilisation, technique.motion_management]
    return ", ".join(dict.fromkeys([planned.patient.case.ct.patient_position, *(name for name in devices if name)]))


def _beam_row(beam: TreatmentBeam, machine: Machine) -> BeamRow:
    points = beam.control_points
    geometry = points[0].geometry
    jaws_x = [point.aperture.jaw_x_mm for point in points]
    jaws_y = [point.aperture.jaw_y_mm for point in points]
    return BeamRow(
        number=beam.number,
        name=beam.name,
        gantry_deg=geometry.gantry_deg,
        collimator_deg=geometry.collimator_deg,
        couch_deg=geometry.couch_deg,
        mu=beam.mu,
        segments=segments_of(points),
        jaw_x_mm=(min(j[0] for j in jaws_x), max(j[1] for j in jaws_x)),
        jaw_y_mm=(min(j[0] for j in jaws_y), max(j[1] for j in jaws_y)),
        gantry_stop_deg=points[-1].geometry.gantry_deg % 360.0 if beam.dynamic else None,
        rotation=("CW" if points[-1].geometry.gantry_deg > geometry.gantry_deg else "CC") if beam.dynamic else "",
        energy_mv=machine.energy_mv,
        meterset_unit=machine.meterset_unit,
    )


def _promises(outcomes: tuple[GoalOutcome, ...], name: str) -> list[Promise]:
    rows: dict[str, Promise] = {}
    for outcome in outcomes:
        if outcome.scope in (name, COURSE) and np.isfinite(outcome.promised):
            if outcome.scope == COURSE and outcome.structure.startswith("PTV") and outcome.structure != name:
                continue
            quantity = f"{outcome.structure} {outcome.metric}" + (" (course)" if outcome.scope == COURSE else "")
            rows.setdefault(quantity, Promise(quantity, outcome.unit, outcome.promised, outcome.delivered))
    return list(rows.values())


def _targets(targets: TargetResult) -> TargetsView:
    facts: list[tuple[str, object]] = []
    fallback: list[str] = []
    point = normal = None
    halves = targets.halves
    if halves is not None:
        point, normal = halves.plane.point_mm, halves.plane.normal
        low, high = halves.right_fraction_range
        facts += [
            ("Dividing plane found by", halves.method),
            ("Point on the plane (x, y, z)", "({:.1f}, {:.1f}, {:.1f}) mm".format(*point)),
            ("Normal of the plane", "({:.3f}, {:.3f}, {:.3f})".format(*normal)),
            ("Uncertainty along the normal", f"± {halves.uncertainty_mm:.1f} mm"),
            ("Right half", f"{100 * halves.right_fraction:.1f} % of the liver ({100 * low:.0f} to {100 * high:.0f} %)"),
            ("Volumes right / left", f"{halves.right_cc:.0f} / {halves.left_cc:.0f} cc"),
            ("Caudate lobe", "not contoured; divided by the plane" if halves.caudate_cc is None
             else f"{halves.caudate_cc:.1f} cc, {100 * (halves.caudate_right_share or 0):.0f} % in the right half"),
            ("Lesions that cross the plane", ", ".join(x.name for x in halves.lesions if x.crosses) or "none"),
        ]  # fmt: skip
        fallback = [f"{step.method}: {step.outcome}" for step in halves.chain]
    if targets.junction is not None:
        facts.append(("Junction", targets.junction.explanation))
        facts.append(("Overlap of the PTVs", f"{targets.junction.overlap_cc:.1f} cc"))
    for target in targets.targets:
        facts.append((f"Margin of {target.id}", f"{target.margin}; {target.label}"))
    volumes = [VolumeRow(name, cc) for name, cc in targets.volumes_cc.items() if cc > 0]
    return TargetsView(facts, volumes, fallback, point, normal)


def _choices(protocol: Protocol) -> list[tuple[str, str]]:
    rows = [(name, reason) for name, reason in protocol.choices.items()]
    for path, section in protocol.sections():
        rows += [(f"{path}.{name}", reason) for name, reason in section.choices.items()]
    return rows


def _provenance(planned: PlannedCase, record: Mapping[str, Any]) -> list[tuple[str, object]]:
    provenance = record["provenance"]
    rows: list[tuple[str, object]] = [
        ("Cantlie", provenance["cantlie"]),
        ("Python", provenance["python"]),
        ("Packages", ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())),
        ("Platform", provenance["platform"]),
        ("Input files SHA-256", planned.patient.case.input_sha256),
        ("Protocol", f"{planned.protocol.id} ({planned.protocol.source})"),
        ("Protocol SHA-256", planned.protocol.sha256),
        ("Machine", planned.machine.id),
        ("Machine SHA-256", planned.machine.sha256),
    ]
    rows += [(f"Stage: {stage['name']}", f"{stage['seconds']:.1f} s") for stage in record["stages"]]
    return rows


def _sessions(planned: PlannedCase) -> list[SessionRow]:
    rows: list[SessionRow] = []
    per_fraction = {
        one.target.name: one.target.prescription_gy / one.target.fractions for one in planned.planning.plans
    }
    if planned.earlier is not None:
        per_fraction |= planned.earlier.fraction_gy()
    before = None
    for session in planned.course.calendar.given:
        gap = None if before is None else (session.start - before).total_seconds() / 3600.0
        rows.append(
            SessionRow(
                session.number, session.start, session.target, session.fraction, per_fraction[session.target], gap
            )
        )
        before = session.start
    return rows


def _biology(course: CourseResult) -> list[BiologyRow]:
    rows = []
    for mean in course.means:
        kind = f"mean EQD2 (α/β = {mean.alpha_beta_gy:g} Gy)"
        note = (
            f"{mean.incomplete_repair_gy:.2f} Gy ({mean.least_gy:.2f} to {mean.most_gy:.2f}) "
            "with incomplete repair between sessions"
        )
        rows.append(BiologyRow(mean.structure, kind, mean.full_repair_gy, "Gy", mean.physical_gy, note))
    return rows


def _biology_note(course: CourseResult) -> str:
    times = ", ".join(f"{value:g}" for value in course.repair_half_times_h)
    return (
        "EQD2 is summed session by session in every voxel with full repair between sessions. Beside it stands the mean "
        f"with incomplete repair at the calendar's times, and its range for repair half-times of {times} h; no value "
        "for human liver is known."
    )


_SYMBOLS = {"td50": "TD50", "alpha_beta": "α/β", "alpha": "α", "beta": "β", "gamma50": "γ50", "d50": "D50"}
_UNITS = {"gy": "Gy", "cc": "cc", "h": "h", "percent": "%", "days": "days"}


def parameters_text(parameters: Mapping[str, float]) -> str:
    """Write parameters of a model as in a paper, those without a value left out: n = 0.97, TD50 = 40.7 Gy."""
    parts = []
    for name, value in parameters.items():
        stem, _, ending = name.rpartition("_")
        unit = f"/{_UNITS[ending]}" if stem.endswith("_per") else f" {_UNITS[ending]}" if ending in _UNITS else ""
        symbol = stem.removesuffix("_per") if unit else name
        if not math.isnan(value):
            parts.append(f"{_SYMBOLS.get(symbol, symbol.replace('_', ' '))} = {value:.3g}{unit}")
    return ", ".join(parts)


def risk_rows(risks: Sequence[Estimate]) -> list[NtcpRow]:
    """Return risks as rows of a report."""
    return [
        NtcpRow(
            endpoint=risk.model.endpoint,
            model=f"{risk.model.name}: {parameters_text(risk.model.parameters)}",
            value=risk.value,
            lower=risk.low,
            upper=risk.high,
            source=risk.model.source,
            note=f"{risk.model.valid}; parameters {risk.model.status}",
        )
        for risk in risks
    ]
