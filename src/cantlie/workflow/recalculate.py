"""Recalculate a photon plan made anywhere: CT, structures and RTPLAN in, RTDOSE and report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cantlie.core.errors import DicomError, GeometryError
from cantlie.core.files import write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile, read_plan_groups
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dose.device import Device, device_name
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.machine.machine import Machine
from cantlie.report.recalculation_pages import AgreementView, write_recalculation_report
from cantlie.workflow.machine_choice import machines_of
from cantlie.workflow.on_device import on_requested_device
from cantlie.workflow.patient_stage import CaseRequest, PreparedPatient, prepare_patient
from cantlie.workflow.plan_engine import PlanEngine, plan_engine
from cantlie.workflow.plan_statements import case_notes, check_reaches, machine_notes, stated_dose
from cantlie.workflow.planned_dose import CITATIONS, against_planned, agreement_results, planned_dose
from cantlie.workflow.recalculation_page import GroupDose, recalculation_view
from cantlie.workflow.results import dvh_csv
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the case": 4.0, "dose": 6.0, "writing": 1.0, "comparison": 3.0, "report": 4.0}
_FINE_MM = 2.5


@dataclass(frozen=True, slots=True)
class RecalculatePlan(CaseRequest):
    """A plan to recalculate, as the user asks for it; None stands for the default.

    ``fraction_group`` is the number of the only group to calculate; ``against`` is the RTDOSE that the result is held
    against, by default that of the plan where it lies in the case.
    """

    plan: Path
    out: Path
    machine: str | None = None
    grid_mm: float = _FINE_MM
    dose_to: Literal["medium", "water"] = "medium"
    treatment_date: date | None = None
    device: Device = "auto"
    fraction_group: int | None = None
    against: Path | None = None


@on_requested_device
def recalculate(request: RecalculatePlan, progress: Progress = silent) -> dict[str, Any]:
    """Calculate the dose of a plan and write RTDOSE, results.json and report; return what results.json holds.

    Raises
    ------
    CantlieError
        If the case, the plan or the machine cannot be used, or the plan belongs to another patient.
    """
    settings = {
        "name": "dose",
        "machine": request.machine,
        "grid_mm": request.grid_mm,
        "dose_to": request.dose_to,
        "fraction_group": request.fraction_group,
    }
    with RunFolder(request.out, settings, STAGES, progress) as run:
        run.add_provenance(dose_device=device_name())
        return _stages(run, request)


def _stages(run: RunFolder, request: RecalculatePlan) -> dict[str, Any]:
    plan_files = read_plan_groups(request.plan, request.fraction_group)
    chosen = [machines_of(file, request.machine, request.treatment_date) for file in plan_files]
    patient = run.stage(
        "reading the case",
        key_of(str(request.case)),
        lambda step: prepare_patient(request, step),
        keep=False,
    )
    case = patient.case
    first = plan_files[0]
    _check_belongs(first, case.ct.frame_of_reference_uid, case.identity.patient_id, str(request.plan))
    position = first.setup.patient_position or case.ct.patient_position
    engines = [plan_engine(f, machines, position) for f, (machines, _) in zip(plan_files, chosen, strict=True)]
    notes = [*patient.notes, *_plan_notes(engines, [notes for _, notes in chosen], patient), *_group_notes(plan_files)]
    if position != case.ct.patient_position:
        message = f"the plan is for a patient who lies {position}, the CT was taken {case.ct.patient_position}"
        notes.append(Note(message, "RTPLAN"))
    groups = run.stage("dose", "", lambda step: _doses(engines, patient, request, notes, step), keep=False)
    total = Volume(groups[0].dose.grid, np.sum([g.dose.values for g in groups], axis=0, dtype=np.float32))
    curves = {
        name: dvh(total, mask, patient.regions.grid, name=name)
        for name, mask in patient.regions.fractions.items()
        if mask.any()
    }
    run.clear("results.json", "dvh.csv", "report.html", "report.pdf", "figures", "RTDOSE.dcm")
    for old in request.out.glob("RTDOSE_group*.dcm"):
        run.clear(old.name)
    files = run.stage("writing", "", lambda _: _write_doses(request, patient, groups, total), keep=False)

    def compare(step: Progress) -> AgreementView | None:
        planned = planned_dose(request.case, case, plan_files, request.against, notes)
        return None if planned is None else against_planned(planned, total, patient, notes, step)

    agreement = run.stage("comparison", "", compare, keep=False)
    notes = list(dict.fromkeys(notes))
    used = {machine.id: machine for group in groups for machine in group.engine.machines.values()}
    results = _results(request, groups, total, curves, files, used, agreement, notes)
    write_json(request.out / "results.json", results)
    write_text(request.out / "dvh.csv", dvh_csv(curves))
    run.note(notes)
    run.cite([] if agreement is None else CITATIONS)
    run.add_provenance(
        case_sha256=case.input_sha256,
        plan_sha256=sha256_of_bytes(request.plan.read_bytes()),
        machine_sha256=", ".join(machine.sha256 for machine in used.values()),
    )
    view = recalculation_view(
        patient, groups, total, curves, agreement, notes, run.record,
        label=request.pseudonym(case), dose_to=request.dose_to,
    )  # fmt: skip
    run.stage("report", "", lambda _: write_recalculation_report(view, request.out), keep=False)
    return results


def _doses(
    engines: Sequence[PlanEngine],
    patient: PreparedPatient,
    request: RecalculatePlan,
    notes: list[Note],
    progress: Progress,
) -> list[GroupDose]:
    grid = patient.density.grid.resampled((request.grid_mm,) * 3)
    groups = []
    for n, engine in enumerate(engines):
        step = part(progress, n / len(engines), (n + 1) / len(engines))
        one = engine.fraction_dose(patient.density, grid, medium=request.dose_to, progress=step)
        dose = Volume(grid, np.asarray(one.values * np.float32(engine.plan_file.plan.fractions), dtype=np.float32))
        check_reaches(dose, engine.plan_file, str(request.plan))
        point, point_notes = stated_dose(engine.plan_file, dose)
        notes += point_notes
        groups.append(GroupDose(engine, dose, point))
    return groups


def _plan_notes(
    engines: Sequence[PlanEngine], on_machines: Sequence[Sequence[Note]], patient: PreparedPatient
) -> list[Note]:
    """Return what must be said of each fraction group; ``on_machines`` is what the choice of its machines left."""
    found = []
    for engine, own in zip(engines, on_machines, strict=True):
        file = engine.plan_file
        found += [*file.notes, *machine_notes(file, engine.machines), *own]
        found += case_notes(file, patient.case, patient.regions["BODY"], dict(engine.directions))
    return found


def _group_notes(plan_files: Sequence[PlanFile]) -> list[Note]:
    first = plan_files[0]
    count = len(first.fraction_groups)
    if count == 1:
        return []
    if len(plan_files) == 1:
        message = f"fraction group {first.fraction_group} alone was calculated, one of {count} of the plan"
        return [Note(message, "RTPLAN")]
    summed = " + ".join(f"{file.plan.fractions}" for file in plan_files)
    message = f"the dose is the sum of the plan's {count} fraction groups ({summed} fractions); each has its own RTDOSE"
    return [Note(message, "RTPLAN", "info")]


def _write_doses(
    request: RecalculatePlan, patient: PreparedPatient, groups: Sequence[GroupDose], total: Volume
) -> dict[int, str]:
    """Write the dose of the plan, and that of each group where there are several; return the files of the groups."""
    comment = f"dose to {request.dose_to}"
    uids = [groups[0].file.plan.sop_instance_uid]
    alone = len(groups) == 1
    partial = len(groups[0].file.fraction_groups) > 1
    if alone and partial:
        group = groups[0].file.fraction_group
        write_rtdose(
            patient.case, total, request.out / "RTDOSE.dcm", plan_uids=uids, comment=comment,
            summation_type="FRACTION", fraction_group=group,
        )  # fmt: skip
    else:
        write_rtdose(patient.case, total, request.out / "RTDOSE.dcm", plan_uids=uids, comment=comment)
    if alone:
        return {groups[0].file.fraction_group: "RTDOSE.dcm"}
    names = {}
    for one in groups:
        number = one.file.fraction_group
        names[number] = f"RTDOSE_group{number}.dcm"
        write_rtdose(
            patient.case, one.dose, request.out / names[number], plan_uids=uids, comment=comment,
            summation_type="FRACTION", fraction_group=number,
        )  # fmt: skip
    return names


def _results(
    request: RecalculatePlan,
    groups: Sequence[GroupDose],
    total: Volume,
    curves: Mapping[str, Dvh],
    files: Mapping[int, str],
    machines: Mapping[str, Machine],
    agreement: AgreementView | None,
    notes: Sequence[Note],
) -> dict[str, Any]:
    only = groups[0] if len(groups) == 1 else None
    first = groups[0].file
    energies = {str(n): machine.energy_mv for group in groups for n, machine in group.engine.machines.items()}
    return {
        "plan": first.plan.label,
        "machine": " and ".join(machines),
        "energy_mv": energies,
        "dose_to": request.dose_to,
        "fractions": sum(group.file.plan.fractions for group in groups),
        "mu_per_fraction": None if only is None else only.file.plan.mu,
        "meterset_unit": first.dosimeter_unit,
        "maximum_gy": float(total.values.max()),
        "reference_point": None if only is None else only.reference_point,
        "fraction_groups": [
            {
                "fraction_group": group.file.fraction_group,
                "fractions": group.file.plan.fractions,
                "prescription_gy": group.file.plan.prescription_gy or None,
                "prescription_is_shared": group.file.prescription_is_shared,
                "mu_per_fraction": group.file.plan.mu,
                "beams": {str(beam.number): beam.mu for beam in group.file.plan},
                "maximum_gy": float(group.dose.values.max()),
                "reference_point": group.reference_point,
                "dose_file": files[group.file.fraction_group],
            }
            for group in groups
        ],
        "grid": {
            "shape_kji": total.grid.shape,
            "spacing_mm": total.grid.spacing_mm,
            "origin_mm": total.grid.origin_mm,
        },
        "structures": {
            name: {
                "volume_cc": c.volume_cc,
                "Dmean_gy": c.mean_gy,
                "Dmin_gy": c.min_gy,
                "Dmax_gy": c.max_gy,
                **{f"D{p}%_gy": float(c.dose_at_percent_gy(float(p))) for p in (2, 50, 95, 98)},
            }
            for name, c in curves.items()
        },
        "planned_dose": None if agreement is None else agreement_results(agreement),
        "dose_file": "RTDOSE.dcm",
        "warnings": [note.sentence() for note in notes],
    }


def _check_belongs(plan_file: PlanFile, frame_uid: str, patient_id: str, where: str) -> None:
    if plan_file.frame_of_reference_uid and frame_uid and plan_file.frame_of_reference_uid != frame_uid:
        raise GeometryError(
            "the plan was made in another frame of reference than the CT",
            where=where,
            remedy="give the CT that the plan was made on",
        )
    if plan_file.patient_id and patient_id and plan_file.patient_id != patient_id:
        raise DicomError("the plan belongs to another patient than the CT", where=where, remedy="give matching files")
