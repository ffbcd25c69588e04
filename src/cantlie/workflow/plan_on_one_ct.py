"""The stages of a case that is planned on one CT: targets, plans, course, evaluation, DICOM and report."""

from __future__ import annotations

from datetime import date

from cantlie.core.notes import Note
from cantlie.core.progress import Progress
from cantlie.course.calendar import next_monday
from cantlie.machine.machine import Machine
from cantlie.plan.planner import plan_targets
from cantlie.plan.request import PlanningRequest, PlanningResult
from cantlie.protocol.schema import Protocol
from cantlie.target.build import build_targets
from cantlie.workflow.course_stage import course_of
from cantlie.workflow.finished_case import FINISHING, finish_case
from cantlie.workflow.phases_stage import prepare_breathing_patient
from cantlie.workflow.planned_case import (
    PlanCase,
    PlannedCase,
    PlannedCourse,
    levels_of,
    plain_settings,
)
from cantlie.workflow.planning_key import planning_key
from cantlie.workflow.run_folder import RunFolder, key_of
from cantlie.workflow.scheme_stage import plan_with_scheme, planning_weights

STAGES = {
    "reading the case": 5.0,
    "targets": 4.0,
    "planning": 60.0,
    "course": 5.0,
    **FINISHING,
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
    patient, phases = run.stage(
        "reading the case",
        key_of(str(request.case)),
        lambda step: prepare_breathing_patient(request, protocol.phases, wanted=request.planning_phase, progress=step),
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
    course = run.stage(
        "course",
        key_of(key, str(start)),
        lambda step: course_of(protocol, planning.plans, targets.regions, start, step),
        keep=False,
    )
    planned = PlannedCourse(
        request=request, protocol=protocol, machine=machine, patient=patient, targets=targets, planning=planning,
        course=course, scheme=scheme, phases=phases,
    )  # fmt: skip
    return finish_case(run, planned, key, choice_notes)
