"""The stages of a case that is planned on one CT: targets, plans, course, evaluation, DICOM and report."""

from __future__ import annotations

from datetime import date

from cantlie.core.notes import Note
from cantlie.core.progress import Progress
from cantlie.core.volume import Volume
from cantlie.course.calendar import next_monday
from cantlie.dose.device import device_name
from cantlie.machine.beam_model_file import beam_of
from cantlie.machine.machine import Machine
from cantlie.plan.planner import plan_targets
from cantlie.plan.request import PlannerSettings, PlanningRequest, PlanningResult
from cantlie.protocol.checks import check_protocol
from cantlie.protocol.schema import Protocol
from cantlie.target.build import build_targets
from cantlie.workflow.case_results import write_results
from cantlie.workflow.checks_stage import check_plans
from cantlie.workflow.course_stage import course_of
from cantlie.workflow.dosimetry import COURSE, judge_doses
from cantlie.workflow.export import export_case
from cantlie.workflow.phases_stage import prepare_breathing_patient
from cantlie.workflow.planned_case import (
    MASKS,
    PlanCase,
    PlannedCase,
    beyond_the_planner,
    citations_of,
    levels_of,
    plain_settings,
)
from cantlie.workflow.planning_key import planning_key
from cantlie.workflow.run_folder import RunFolder, key_of
from cantlie.workflow.scheme_stage import plan_with_scheme, planning_weights
from cantlie.workflow.what_if import Subject, answers_to

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


def plan_on_one_ct(
    request: PlanCase, protocol: Protocol, machine: Machine, notes: tuple[Note, ...], progress: Progress
) -> PlannedCase:
    """Plan a whole course on one CT; ``notes`` are what the user's choices changed in the protocol."""
    weights = planning_weights(protocol, STAGES)
    with RunFolder(request.out, {"name": "plan", **plain_settings(request)}, weights, progress) as run:
        return _stages(run, request, protocol, machine, notes)


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


def _doses(planning: PlanningResult) -> dict[str, Volume]:
    """Return the course's dose first, then that of each plan by its target."""
    return {COURSE: planning.total_dose, **{one.target.name: one.dose for one in planning.plans}}
