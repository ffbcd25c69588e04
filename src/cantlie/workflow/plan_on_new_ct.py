"""The rest of a course on a new CT: a boost after a re-CT, or the plans made anew because the patient changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part
from cantlie.course.calendar import plan_calendar
from cantlie.course.registration import RegistrationSettings
from cantlie.dicom.case_images import CaseImage, images_of_case
from cantlie.dicom.registration_file import RegistrationFile, registrations_of_case
from cantlie.machine.machine import Machine
from cantlie.plan.planner import dose_grid, plan_targets
from cantlie.plan.request import PlanningRequest, PlanningResult, PlanTarget
from cantlie.protocol.schema import Protocol
from cantlie.target.build import build_targets
from cantlie.workflow.course_stage import course_of
from cantlie.workflow.earlier_sessions import (
    FIRST_CT,
    EarlierSessions,
    PreviousRun,
    calendar_with_given,
    carry_over,
    read_previous_run,
)
from cantlie.workflow.finished_case import FINISHING, finish_case
from cantlie.workflow.image_link import ImageLink, link_images
from cantlie.workflow.patient_stage import PreparedPatient, prepare_patient
from cantlie.workflow.plan_on_one_ct import plan_on_one_ct
from cantlie.workflow.planned_case import (
    PlanCase,
    PlannedCase,
    PlannedCourse,
    levels_of,
    plain_settings,
)
from cantlie.workflow.planning_key import planning_key
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {
    "reading both CTs": 8.0,
    "registration": 40.0,
    "targets": 4.0,
    "earlier dose": 3.0,
    "planning": 40.0,
    "course": 5.0,
    **FINISHING,
}


@dataclass(frozen=True, slots=True, eq=False)
class NewCt:
    """What the rest of a course is planned from.

    Parameters
    ----------
    earlier, later
        How to read the CT of the sessions that were given, and the new one.
    run
        The earlier plans with the sessions that were given.
    registrations
        Registration objects that came with either CT.
    """

    earlier: PlanCase
    later: PlanCase
    run: PreviousRun
    registrations: tuple[RegistrationFile, ...]


def two_cts(request: PlanCase, protocol: Protocol) -> tuple[PlanCase, PlanCase] | None:
    """Return how to read the first and the second CT of a protocol with a new CT, or None where there is only one.

    Raises
    ------
    InputError
        If the CTs of the case cannot be told apart in time, or the protocol has no second CT.
    """
    wanted = protocol.schedule.new_ct_before
    if request.second_ct is not None:
        if not wanted:
            raise InputError(
                f"{protocol.id} is planned on one CT",
                where="--second-ct",
                remedy="name targets in schedule.new_ct_before, or plan the rest of a course with --previous",
            )
        return request, replace(request, case=request.second_ct, series=None, structure_set=None)
    if not wanted or request.series or request.structure_set:
        return None
    found = _drawn_on(images_of_case(request.case, patient_id=request.patient))
    if len(found) < 2:
        return None
    if len(found) > 2 or not found[0].taken or found[0].taken == found[1].taken:
        raise InputError(
            f"the case has {len(found)} CTs with structures, and which is the first and the second is not clear",
            where="CASE",
            remedy="give the first as CASE (or choose it with --series) and the second with --second-ct FOLDER",
        )
    first, second = (
        replace(request, series=image.series_uid, structure_set=image.structure_sets[0]) for image in found
    )
    return first, second


def _drawn_on(images: Sequence[CaseImage]) -> list[CaseImage]:
    """Return the plain CTs that have a structure set of their own."""
    used: set[str] = set()
    found = []
    for image in images:
        own = [uid for uid in image.structure_sets if uid not in used]
        if own and image.label.kind != "phase":
            used.add(own[0])
            found.append(replace(image, structure_sets=tuple(own)))
    return found


def plan_two_cts(
    first: PlanCase, second: PlanCase, protocol: Protocol, machine: Machine, notes: tuple[Note, ...], progress: Progress
) -> PlannedCase:
    """Plan a course with a new CT: all targets on the first CT, so that the limits of the course leave room for what
    follows; then, with the dose of the first plans given, the others on the second CT.
    """
    folder = first.out / FIRST_CT
    on_first = replace(first, out=folder, second_ct=None, new_ct="first")
    plan_on_one_ct(on_first, protocol, machine, notes, part(progress, 0.0, 0.5))
    run = read_previous_run(folder)
    given = run.sessions_before(protocol.schedule.new_ct_before)
    if not given:
        raise InputError("the protocol wants a new CT before its first session", where="schedule.new_ct_before")
    objects = _objects(dict.fromkeys((first.case, second.case)))
    what = NewCt(first, second, run.with_given(given), objects)
    return plan_rest(what, protocol, machine, notes, part(progress, 0.5, 1.0))


def plan_after_previous(
    request: PlanCase, protocol: Protocol, machine: Machine, notes: tuple[Note, ...], progress: Progress
) -> PlannedCase:
    """Plan the remaining sessions of an earlier run on a new CT.

    Raises
    ------
    InputError
        If the earlier run had another protocol, its CT is not found, or no session is left.
    """
    assert request.previous is not None
    run = read_previous_run(request.previous)
    if run.protocol_id != protocol.id:
        raise InputError(
            f"the earlier run followed {run.protocol_id}, not {protocol.id}",
            where="--previous",
            remedy=f"give --protocol {run.protocol_id}",
        )
    if request.given is None:
        raise InputError(
            "it is not said how many sessions were given", where="--given", remedy="give their number with --given N"
        )
    run = run.with_given(request.given)
    later = request
    if request.previous_ct is not None:
        earlier = replace(request, case=request.previous_ct, series=None, structure_set=None)
    else:
        frame = run.plans[0].frame_uid
        images = images_of_case(request.case, patient_id=request.patient)
        old = [image for image in images if image.frame_uid == frame and image.structure_sets]
        new = [image for image in images if image.frame_uid != frame and image.structure_sets]
        if len(old) != 1 or len(new) != 1:
            raise InputError(
                "the CT of the earlier run and the new one cannot both be told in the case",
                where="CASE",
                remedy="give the folder of the earlier CT with --previous-ct",
            )
        earlier, later = (
            replace(request, series=one.series_uid, structure_set=one.structure_sets[0]) for one in (old[0], new[0])
        )
    objects = _objects(dict.fromkeys((request.case, earlier.case)))
    what = NewCt(earlier, later, run, objects)
    return plan_rest(what, protocol, machine, notes, progress)


def _objects(folders: dict[Path, None]) -> tuple[RegistrationFile, ...]:
    return tuple(one for folder in folders for one in registrations_of_case(folder))


def plan_rest(
    what: NewCt, protocol: Protocol, machine: Machine, choice_notes: tuple[Note, ...], progress: Progress
) -> PlannedCase:
    """Plan what is left of a course on a new CT with the dose that was given on the earlier one, and judge the sum."""
    protocol = _of_one_scheme(protocol, what)
    later = what.later
    with RunFolder(later.out, {"name": "plan", **plain_settings(later)}, STAGES, progress) as run:
        return _stages(run, what, protocol, machine, choice_notes)


def _of_one_scheme(protocol: Protocol, what: NewCt) -> Protocol:
    if not protocol.schemes:
        return protocol
    chosen = what.later.scheme or (what.run.results.get("scheme") or {}).get("scheme")
    if not chosen:
        raise InputError(
            "the earlier run does not say which scheme it chose", where="scheme", remedy="name it with --scheme"
        )
    return protocol.with_scheme(str(chosen))


def remaining_targets(protocol: Protocol, run: PreviousRun) -> tuple[PlanTarget, ...]:
    """Return what is left of each target's prescription after the sessions that were given."""
    given = {plan.target: plan.given for plan in run.plans}
    left = []
    for name in protocol.target_ids:
        prescription = protocol.prescription(name)
        fractions = prescription.fractions - given.get(name, 0)
        if fractions > 0:
            left.append(PlanTarget(name, prescription.dose_per_fraction_gy * fractions, fractions))
    return tuple(left)


def _stages(
    run: RunFolder, what: NewCt, protocol: Protocol, machine: Machine, choice_notes: tuple[Note, ...]
) -> PlannedCase:
    request = what.later
    earlier_patient, patient = run.stage(
        "reading both CTs",
        "",
        lambda step: (
            prepare_patient(what.earlier, part(step, 0.0, 0.5)),
            prepare_patient(request, part(step, 0.5, 1.0)),
        ),
        keep=False,
    )
    _check_two(earlier_patient, patient, what)
    settings = RegistrationSettings()
    hashes = (earlier_patient.case.input_sha256, patient.case.input_sha256)
    link: ImageLink = run.stage(
        "registration",
        key_of(*hashes, str(settings), [one.sop_instance_uid for one in what.registrations]),
        lambda step: link_images(patient.case, earlier_patient.case, settings, what.registrations, step),
    )
    left = remaining_targets(protocol, what.run)
    names = tuple(target.name for target in left)
    targets = run.stage(
        "targets", "", lambda step: build_targets(patient.regions, protocol, only=names, progress=step), keep=False
    )
    asked = PlanningRequest(
        patient.density, targets.regions, protocol, machine, patient.case.ct.patient_position, left,
        levels={name: level for name, level in levels_of(targets, protocol).items() if name in names},
    )  # fmt: skip
    earlier: EarlierSessions = run.stage(
        "earlier dose", "", lambda _: carry_over(what.run, link, dose_grid(asked)), keep=False
    )
    asked = replace(asked, given_dose=earlier.total.dose)
    key = key_of(
        planning_key(protocol, machine, patient.case.input_sha256, patient.curve, request.aliases),
        hashes,
        [(plan.target, plan.given, plan.plan.sop_instance_uid) for plan in earlier.plans],
        link.origin,
    )
    planning: PlanningResult = run.stage("planning", key, lambda step: plan_targets(asked, step))
    calendar = calendar_with_given(plan_calendar(protocol, what.run.start), earlier)
    course = run.stage(
        "course",
        key,
        lambda step: course_of(
            protocol, (*earlier.as_plans(), *planning.plans), targets.regions, what.run.start, step, calendar=calendar
        ),
        keep=False,
    )
    planned = PlannedCourse(
        request=request, protocol=protocol, machine=machine, patient=patient, targets=targets, planning=planning,
        course=course, earlier=earlier, earlier_case=earlier_patient.case, earlier_results=what.run.results,
    )  # fmt: skip
    return finish_case(run, planned, key, choice_notes)


def _check_two(earlier: PreparedPatient, later: PreparedPatient, what: NewCt) -> None:
    if earlier.case.ct.series_instance_uid == later.case.ct.series_instance_uid:
        raise InputError(
            "both CTs are the same series", where="CASE", remedy="give two CTs that were taken at different times"
        )
    frames = {plan.frame_uid for plan in what.run.plans}
    own = earlier.case.ct.frame_of_reference_uid
    if own and own not in frames:
        raise InputError(
            "the earlier CT is not the one that the earlier run was planned on (another frame of reference)",
            where="earlier CT",
            remedy="give the CT of the earlier run with --previous-ct",
        )
