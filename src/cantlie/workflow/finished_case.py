"""What follows on every planned course: evaluation, independent check, what if, DICOM and report."""

from __future__ import annotations

from cantlie.core.notes import Note
from cantlie.core.progress import Progress
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dose.device import device_name
from cantlie.plan.request import PlannerSettings
from cantlie.protocol.checks import check_protocol
from cantlie.workflow.case_results import write_results
from cantlie.workflow.checks_stage import check_plans
from cantlie.workflow.dosimetry import COURSE, judge_doses
from cantlie.workflow.export import ExportedFile, export_case
from cantlie.workflow.image_link import write_link
from cantlie.workflow.planned_case import MASKS, PlannedCase, PlannedCourse, beyond_the_planner, citations_of
from cantlie.workflow.run_folder import RunFolder
from cantlie.workflow.what_if import Subject, answers_to

FINISHING = {"evaluation": 6.0, "independent check": 4.0, "what if": 8.0, "DICOM export": 4.0, "report": 12.0}


def finish_case(run: RunFolder, planned: PlannedCourse, key: str, choice_notes: tuple[Note, ...]) -> PlannedCase:
    """Judge a planned course and write all that a planned case leaves behind.

    Parameters
    ----------
    key
        What the plans were made from.
    choice_notes
        What the user's choices, and those by the patient, changed in the protocol.
    """
    protocol, machine, patient = planned.protocol, planned.machine, planned.patient
    plans, regions = planned.planning.plans, planned.targets.regions
    doses, model = planned.doses, planned.beam_model
    dosimetry = run.stage(
        "evaluation",
        key,
        lambda step: judge_doses(
            regions,
            protocol,
            doses,
            planned.prescriptions_gy,
            step,
            course_prescriptions_gy=planned.course_prescriptions_gy,
        ),
        keep=False,
    )
    checks, check_notes = run.stage(
        "independent check",
        key,
        lambda step: check_plans(plans, patient.density, machine, model, step),
        keep=False,
    )
    subject = Subject(
        protocol,
        regions,
        doses,
        {COURSE: max(planned.course_prescriptions_gy.values()), **planned.prescriptions_gy},
        {one.target.name: one.target.fractions for one in plans},
        planned.course.dose,
        {one.target.name: one.plan for one in plans},
        patient.density,
        machine,
        model,
        patient.case,
        None if planned.earlier is None else planned.earlier.total.dose,
    )
    answers = run.stage("what if", key, lambda step: answers_to(planned.request.what_if, subject, step), keep=False)
    one_ct = planned.earlier is None and planned.request.new_ct != "first"
    findings = tuple(Note(finding.sentence(), "protocol", "info") for finding in check_protocol(protocol))
    notes = dict.fromkeys(
        (
            *choice_notes,
            *beyond_the_planner(protocol, machine, one_ct=one_ct),
            *patient.notes,
            *planned.targets.notes,
            *(() if planned.earlier is None else planned.earlier.notes),
            *planned.planning.notes,
            *dosimetry.notes,
            *planned.course.notes,
            *check_notes,
            *answers.notes,
            *findings,
            MASKS,
        )
    )
    case = PlannedCase.of(planned, dosimetry, checks, tuple(notes), answers)
    run.note(notes)
    run.cite(citations_of(case))
    run.add_provenance(
        case_sha256=patient.case.input_sha256,
        **({} if case.earlier_case is None else {"earlier_case_sha256": case.earlier_case.input_sha256}),
        protocol_sha256=protocol.sha256,
        machine_sha256=machine.sha256,
        planner_seed=PlannerSettings().seed,
        dose_device=device_name(),
    )
    run.clear("dicom", "figures")
    files = run.stage("DICOM export", key, lambda step: _export(case, step), keep=False)
    run.stage("report", key, lambda step: write_results(run, case, files, step), keep=False)
    return case


def _export(planned: PlannedCase, progress: Progress) -> tuple[ExportedFile, ...]:
    targets = planned.targets
    files = export_case(
        planned.request.out / "dicom",
        planned.patient.case,
        targets.regions,
        [name for name in targets.volumes_cc if targets.volumes_cc[name] > 0],
        planned.planning.plans,
        planned.planning.total_dose,
        planned.machine,
        planned.protocol,
        progress,
    )
    return (*files, *_export_earlier(planned, [file.sop_instance_uid for file in files if file.modality == "RTPLAN"]))


def _export_earlier(planned: PlannedCase, new_plan_uids: list[str]) -> list[ExportedFile]:
    """Write what was given on an earlier CT, its sum with the new plans, and how the CTs hang together."""
    earlier = planned.earlier
    if earlier is None or planned.earlier_case is None:
        return []
    folder, case = planned.request.out / "dicom", planned.patient.case
    files = []
    for plan, carried in zip(earlier.plans, earlier.carried, strict=True):
        path = folder / f"RD_{plan.target}_earlier.dcm"
        what = f"{plan.given} sessions of {plan.target} on the earlier CT, deformed"
        uid = write_rtdose(case, carried.dose, path, plan_uids=[plan.plan.sop_instance_uid], comment=what)
        files.append(ExportedFile(path, "RTDOSE", what, uid))
    path = folder / "RD_course.dcm"
    comment = "physical dose of the course on both CTs"
    uids = [*(plan.plan.sop_instance_uid for plan in earlier.plans), *new_plan_uids]
    uid = write_rtdose(case, planned.course_dose, path, summation_type="MULTI_PLAN", plan_uids=uids, comment=comment)
    files.append(ExportedFile(path, "RTDOSE", comment, uid))
    written = write_link(folder, case, planned.earlier_case, earlier.link)
    return files + [ExportedFile(folder / name, "REG", content, "") for name, content in written.items()]
