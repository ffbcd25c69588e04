"""The main road: from a patient's DICOM and a protocol to plans, course dose, evaluation, DICOM and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.files import write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.course.calendar import next_monday
from cantlie.dose.device import Device, device_name
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_of
from cantlie.machine.machine import Machine
from cantlie.patient.case import Case
from cantlie.patient.masks import MASK_CONVENTION
from cantlie.plan.complexity import complexity
from cantlie.plan.planner import plan_targets
from cantlie.plan.request import PlannerSettings, PlanningRequest, PlanningResult
from cantlie.plan.techniques import is_planned
from cantlie.protocol.checks import check_protocol
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.schema import Protocol
from cantlie.report.case_pages import write_case_report
from cantlie.report.case_report import CheckRow
from cantlie.target.build import TargetResult, build_targets
from cantlie.workflow.arc_page import arc_summaries
from cantlie.workflow.case_page import case_report
from cantlie.workflow.checks_stage import check_plans
from cantlie.workflow.choices import with_choices
from cantlie.workflow.course_stage import CourseResult, biology_of, course_of, summary_of
from cantlie.workflow.dosimetry import COURSE, Dosimetry, judge_doses
from cantlie.workflow.earlier_sessions import EarlierSessions
from cantlie.workflow.export import ExportedFile, export_case
from cantlie.workflow.machine_choice import beam_quality, machine_for
from cantlie.workflow.on_device import on_requested_device
from cantlie.workflow.patient_stage import PreparedPatient
from cantlie.workflow.phases_stage import Breathing, PlanningPhase, prepare_breathing_patient
from cantlie.workflow.plan_on_new_ct import (
    earlier_results,
    plan_after_previous,
    plan_two_cts,
    rows_of_finished_targets,
    two_cts,
)
from cantlie.workflow.planning_key import planning_key
from cantlie.workflow.results import dvh_csv, results_of
from cantlie.workflow.run_folder import RunFolder, key_of
from cantlie.workflow.scheme_stage import ChosenScheme, plan_with_scheme, planning_weights, scheme_of
from cantlie.workflow.what_if import Answers, Subject, WhatIf, answers_to, with_robust_planning

STAGES = {
    "reading the case": 5.0,
    "targets": 4.0,
    "planning": 60.0,
    "course": 5.0,
    "evaluation": 6.0,
    "independent check": 4.0,
    "what if": 8.0,
    "DICOM export": 4.0,
    "report": 12.0,
}

MASKS = Note(MASK_CONVENTION, "structures", "info")


@dataclass(frozen=True, slots=True)
class PlanCase:
    """What the user asks for; None stands for the protocol's or Cantlie's default.

    ``second_ct`` is the CT before a boost; ``previous``, ``previous_ct`` and ``given`` name an earlier run, its CT and
    how many of its sessions were given, where the rest of the course is planned on a new CT. ``new_ct`` says whether
    a protocol that wants a new CT looks for it in the case (``first``: this run is that of the first CT).
    """

    case: Path
    protocol: str
    out: Path
    machine: str | None = None
    density_curve: Path | None = None
    aliases: Path | None = None
    fields: int | None = None
    delivery: str | None = None
    arcs: int | None = None
    gantry: str | None = None
    couch: str | None = None
    couch_most: float | None = None
    lesions: tuple[str, ...] = ()
    split: str | None = None
    junction: str | None = None
    junction_mm: float | None = None
    plane: str | None = None
    start: date | None = None
    scheme: str | None = None
    series: str | None = None
    structure_set: str | None = None
    patient: str | None = None
    label: str = ""
    attributions: tuple[str, ...] = ()
    second_ct: Path | None = None
    previous: Path | None = None
    previous_ct: Path | None = None
    given: int | None = None
    planning_phase: PlanningPhase | None = None
    new_ct: Literal["look", "ignore", "first"] = "look"
    device: Device = "auto"
    what_if: WhatIf = field(default_factory=WhatIf)


@dataclass(frozen=True, slots=True, eq=False)
class PlannedCase:
    """All that the road produced."""

    request: PlanCase
    protocol: Protocol
    machine: Machine
    patient: PreparedPatient
    targets: TargetResult
    planning: PlanningResult
    course: CourseResult
    dosimetry: Dosimetry
    checks: tuple[CheckRow, ...]
    notes: tuple[Note, ...]
    scheme: ChosenScheme | None = None
    breathing: Breathing | None = None
    earlier: EarlierSessions | None = None
    earlier_case: Case | None = None
    earlier_results: Mapping[str, Any] | None = None
    answers: Answers = field(default_factory=Answers)

    @property
    def course_dose(self) -> Volume:
        """The sum of all plans in Gy, with what was given on an earlier CT."""
        total = self.planning.total_dose
        if self.earlier is None:
            return total
        return Volume(total.grid, total.values + self.earlier.total.dose.values)

    @property
    def label(self) -> str:
        """A pseudonym of the case: a folder may bear the patient's name, so it is never used."""
        return self.request.label or f"case {self.patient.case.input_sha256[:8]}"

    @property
    def beam_model(self) -> BeamModel:
        """The beam model of the machine."""
        return beam_of(self.machine)


@on_requested_device
def plan_case(request: PlanCase, progress: Progress = silent) -> PlannedCase:
    """Plan a case and write everything into its output folder; a run that was stopped goes on where it was.

    Raises
    ------
    CantlieError
        If something that the user gave cannot be used, with what is wrong, where, and what to do.
    """
    protocol, choice_notes = with_choices(
        load_protocol(request.protocol),
        delivery=request.delivery,
        arcs=request.arcs,
        gantry=request.gantry,
        couch=request.couch,
        couch_most=request.couch_most,
        lesions=request.lesions,
        fields=request.fields,
        split=request.split,
        junction=request.junction,
        junction_mm=request.junction_mm,
        plane=request.plane,
        scheme=request.scheme,
    )
    protocol, robust_notes = with_robust_planning(protocol, request.what_if)
    choice_notes = (*choice_notes, *robust_notes)
    machine = machine_for(request.machine, protocol, request.start)
    if request.previous is not None:
        return plan_after_previous(request, protocol, machine, choice_notes, progress)
    both = two_cts(request, protocol) if request.new_ct == "look" else None
    if both is not None:
        return plan_two_cts(*both, protocol, machine, choice_notes, progress)
    with RunFolder(
        request.out, {"name": "plan", **plain_settings(request)}, planning_weights(protocol, STAGES), progress
    ) as run:
        return _stages(run, request, protocol, machine, choice_notes)


def _stages(
    run: RunFolder, request: PlanCase, protocol: Protocol, machine: Machine, choice_notes: tuple[Note, ...]
) -> PlannedCase:
    patient, breathing = run.stage(
        "reading the case",
        key_of(str(request.case)),
        lambda step: prepare_breathing_patient(
            request.case,
            protocol.phases,
            wanted=request.planning_phase,
            aliases=request.aliases,
            density_curve=request.density_curve,
            series=request.series,
            structure_set=request.structure_set,
            patient=request.patient,
            progress=step,
        ),
        keep=False,
    )
    targets = run.stage("targets", "", lambda step: build_targets(patient.regions, protocol, progress=step), keep=False)
    start = request.start or next_monday(date.today())

    def plan(one: Protocol, stage: str) -> PlanningResult:
        asked = PlanningRequest.of_protocol(
            patient.density,
            targets.regions,
            one,
            machine,
            patient.case.ct.patient_position,
            levels=levels_of(targets, one),
        )
        own = planning_key(one, machine, patient.case.input_sha256, patient.curve, request.aliases)
        return run.stage(stage, own, lambda step: plan_targets(asked, step))

    prescribed = plan_with_scheme(run, protocol, targets.regions, start, plan)
    protocol, planning, scheme = prescribed.protocol, prescribed.planning, prescribed.scheme
    if scheme is not None:
        choice_notes = (*choice_notes, Note(scheme.choice.reason, "protocol", "info"), *scheme.choice.notes)
    key = planning_key(protocol, machine, patient.case.input_sha256, patient.curve, request.aliases)
    doses = _doses(planning)
    course = run.stage(
        "course",
        key_of(key, str(start)),
        lambda step: course_of(protocol, planning.plans, targets.regions, start, step),
        keep=False,
    )
    prescriptions = {planned.target.name: planned.target.prescription_gy for planned in planning.plans}
    dosimetry = run.stage(
        "evaluation",
        key,
        lambda step: judge_doses(targets.regions, protocol, doses, prescriptions, step),
        keep=False,
    )
    checks, check_notes = run.stage(
        "independent check",
        key,
        lambda step: check_plans(planning.plans, patient.density, machine, beam_of(machine), step),
        keep=False,
    )
    subject = Subject(
        protocol, targets.regions, doses, prescriptions,
        {one.target.name: one.target.fractions for one in planning.plans},
        course.dose, {one.target.name: one.plan for one in planning.plans}, patient.density, machine,
        beam_of(machine), patient.case,
    )  # fmt: skip
    answers = run.stage("what if", key, lambda step: answers_to(request.what_if, subject, step), keep=False)
    choice_notes = (*choice_notes, *beyond_the_planner(protocol, machine, one_ct=request.new_ct != "first"))
    findings = tuple(Note(finding.sentence(), "protocol", "info") for finding in check_protocol(protocol))
    notes = dict.fromkeys(
        (
            *choice_notes,
            *patient.notes,
            *targets.notes,
            *planning.notes,
            *dosimetry.notes,
            *course.notes,
            *check_notes,
            *answers.notes,
            *findings,
            MASKS,
        )
    )
    planned = PlannedCase(
        request, protocol, machine, patient, targets, planning, course, dosimetry, checks, tuple(notes), scheme,
        answers=answers, breathing=breathing,
    )  # fmt: skip
    run.note(notes)
    run.cite(citations_of(planned))
    run.add_provenance(
        case_sha256=patient.case.input_sha256,
        protocol_sha256=protocol.sha256,
        machine_sha256=machine.sha256,
        planner_seed=PlannerSettings().seed,
        dose_device=device_name(),
    )
    run.clear("dicom", "figures")
    files = run.stage(
        "DICOM export",
        key,
        lambda step: export_case(
            request.out / "dicom",
            patient.case,
            targets.regions,
            [name for name in targets.volumes_cc if targets.volumes_cc[name] > 0],
            planning.plans,
            doses[COURSE],
            machine,
            protocol,
            step,
        ),
        keep=False,
    )
    run.stage("report", key, lambda step: write_results(run, planned, files, step), keep=False)
    return planned


def write_results(run: RunFolder, planned: PlannedCase, files: tuple[ExportedFile, ...], progress: Progress) -> None:
    out = planned.request.out
    sections: dict[str, Any] = {
        "reading": list(planned.patient.report.lines()),
        "targets": planned_targets(planned.targets),
        "earlier_ct": earlier_results(planned),
        "breathing": planned.breathing.results() if planned.breathing else None,
        "scheme": scheme_of(planned.scheme),
        "planning": {
            "seconds": planned.planning.seconds,
            "rules": [asdict(outcome) for outcome in planned.planning.outcomes],
            "progress": planned.planning.history.rows(),
        },
        "conflicts": [
            {**asdict(one), "least_violation": max(one.least_violation, 0.0)} for one in planned.planning.conflicts
        ],
        "course": summary_of(planned.course),
        "radiobiology": biology_of(planned.course),
        "complexity": {
            one.target.name: asdict(complexity(one.plan, planned.machine)) for one in planned.planning.plans
        },
        "machine": {
            "id": planned.machine.id,
            "energy_mv": planned.machine.energy_mv,
            "meterset_unit": planned.machine.dosimeter_unit,
            "beam": beam_quality(planned.machine),
        },
        "arcs": {one.target.name: arc_summaries(one.plan, planned.machine) for one in planned.planning.plans},
        "independent_check": [asdict(check) for check in planned.checks],
        **planned.answers.results(),
        "files": [{"path": str(f.path.relative_to(out)), "modality": f.modality, "content": f.content} for f in files],
    }
    results = results_of(
        planned.protocol.title,
        planned.protocol,
        planned.dosimetry,
        plans=[one.plan for one in planned.planning.plans],
        sections=sections,
        notes=planned.notes,
    )
    results["constraints"] += rows_of_finished_targets(planned)
    write_json(out / "results.json", results)
    for scope, curves in planned.dosimetry.dvhs.items():
        write_text(out / ("dvh.csv" if scope == COURSE else f"dvh_{scope}.csv"), dvh_csv(curves))
    planned.answers.write(out)
    progress(0.1, "figures and report")
    write_case_report(case_report(planned, run.record), out)


def planned_targets(targets: TargetResult) -> dict[str, Any]:
    """Return how the targets came about, as plain values."""
    result: dict[str, Any] = {
        "volumes_cc": dict(targets.volumes_cc),
        "lesions": list(targets.lesions),
        "targets": [
            {
                "id": t.id,
                "ctv": t.ctv,
                "label": t.label,
                "ctv_cc": t.ctv_cc,
                "ptv_cc": t.ptv_cc,
                "margin": str(t.margin),
                "cut_off_outside_body_cc": t.outside_body_cc,
            }
            for t in targets.targets
        ],
    }
    halves = targets.halves
    if halves is not None:
        result["division"] = {
            "method": halves.method,
            "plane_point_mm": halves.plane.point_mm,
            "plane_normal": halves.plane.normal,
            "uncertainty_mm": halves.uncertainty_mm,
            "right_fraction": halves.right_fraction,
            "right_fraction_range": halves.right_fraction_range,
            "right_cc": halves.right_cc,
            "left_cc": halves.left_cc,
            "chain": [asdict(step) for step in halves.chain],
            "caudate_cc": halves.caudate_cc,
            "caudate_right_share": halves.caudate_right_share,
            "lesions": [asdict(lesion) for lesion in halves.lesions],
        }
    if targets.junction is not None:
        result["junction"] = {
            "overlap_cc": targets.junction.overlap_cc,
            "untreated_cc": targets.junction.untreated_cc,
            "explanation": targets.junction.explanation,
        }
    return result


def citations_of(planned: PlannedCase) -> tuple[str, ...]:
    """Return what a paper that uses these results should cite."""
    return (
        planned.protocol.citation.sentence(),
        *planned.machine.sources,
        *(risk.model.source for risk in planned.course.risks),
    )


def beyond_the_planner(protocol: Protocol, machine: Machine, *, one_ct: bool = False) -> list[Note]:
    """Return what the protocol asks of the delivery and this plan does otherwise."""
    technique = protocol.technique
    notes = []
    if one_ct and protocol.schedule.new_ct_before:
        later = ", ".join(protocol.schedule.new_ct_before)
        message = f"the protocol asks for a new CT before {later}; there is one CT, so all is planned on it"
        notes.append(Note(message, "CT"))
    if not is_planned(technique.delivery):
        asked = technique.delivery.replace("_", " ")
        notes.append(Note(f"the protocol asks for {asked}; Cantlie planned step-and-shoot fields instead", "technique"))
    if abs(technique.energy_mv - machine.energy_mv) > 0.05:
        message = f"the protocol asks for {technique.energy_mv:g} MV; {machine.id} has {machine.energy_mv:g} MV"
        notes.append(Note(message, "technique"))
    if machine.cobalt is not None:
        message = (
            f"what is called MU is minutes of the timer, for the source on {machine.cobalt.treatment_date} with "
            f"{100.0 * machine.cobalt.remaining:.1f} % of the dose rate of {machine.cobalt.reference_date}; it loses "
            "1.1 % a month, and timer settings must follow"
        )
        notes.append(Note(message, machine.id))
    return notes


def levels_of(targets: TargetResult, protocol: Protocol) -> dict[str, NDArray[np.float32]]:
    """Return the levels of a feathered junction by target."""
    junction = targets.junction
    if junction is None or junction.right_level is None or junction.left_level is None:
        return {}
    by_recipe = {"right_half_liver": junction.right_level, "left_half_liver": junction.left_level}
    return {target.id: by_recipe[target.recipe] for target in protocol.targets if target.recipe in by_recipe}


def _doses(planning: PlanningResult) -> dict[str, Volume]:
    """Return the course's dose first, then that of each plan by its target."""
    return {COURSE: planning.total_dose, **{one.target.name: one.dose for one in planning.plans}}


def plain_settings(request: PlanCase) -> dict[str, Any]:
    """Return the settings for run.json; paths without the folders above them, which may name a patient."""
    return {
        name: value.name if isinstance(value, Path) else value
        for name, value in asdict(request).items()
        if value is not None and name not in ("case", "out", "patient", "new_ct", "what_if")
    }
