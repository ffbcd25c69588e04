"""The dose that the system of a plan calculated for it, found in the case, and how a recalculation agrees with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import DicomError, DoseError, GeometryError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.dicom.companions import doses_of_case
from cantlie.dicom.inventory import RT_DOSE, scan
from cantlie.dicom.plan_file import PlanFile
from cantlie.dicom.rtdose import SESSION_TYPES, DoseFile, read_dose_file
from cantlie.evaluation.gamma import gamma_index
from cantlie.patient.case import Case
from cantlie.report.recalculation_pages import AgreementView
from cantlie.workflow.dose_comparison import (
    GAMMA_SOURCE,
    TG218,
    ComparisonSettings,
    GammaCriteria,
    compared_doses,
    pair_results,
)
from cantlie.workflow.dose_scale import plan_prescription_gy, scale_notes
from cantlie.workflow.patient_stage import PreparedPatient

CITATIONS = (TG218, GAMMA_SOURCE)
STRICT = GammaCriteria(2.0, 2.0)
USUAL = GammaCriteria(3.0, 3.0)


@dataclass(frozen=True, slots=True, eq=False)
class PlannedDose:
    """The dose of a plan as its system calculated it, all fractions, in Gy; ``name`` says where it comes from."""

    name: str
    dose: Volume


def planned_dose(
    path: Path, case: Case, plan_files: Sequence[PlanFile], against: Path | None, notes: list[Note]
) -> PlannedDose | None:
    """Return the planned dose of the given fraction groups of a plan; None where there is none, and a note says why.

    Parameters
    ----------
    path, case
        The case: where it lies and what was read from it.
    plan_files
        The fraction groups that were calculated, of one RTPLAN.
    against
        The RTDOSE that the user named; without it those of the plan in the case are looked at.

    Raises
    ------
    CantlieError
        If the named RTDOSE cannot be read or was not calculated on the CT of the case.
    """
    shared = any(one.prescription_is_shared for one in plan_files)
    if against is not None:
        file = read_dose_file(against)
        frame = case.ct.frame_of_reference_uid
        if file.frame_of_reference_uid and frame and file.frame_of_reference_uid != frame:
            raise GeometryError(
                "the dose was not calculated on the CT of the case: the frames of reference differ",
                where=str(against),
                remedy="give the RTDOSE of this plan and CT",
            )
        uid = plan_files[0].plan.sop_instance_uid
        if file.plan_uids and uid not in file.plan_uids:
            notes.append(Note("the dose that was given to compare with is of another plan", against.name))
        if file.summation_type in ("BEAM", *SESSION_TYPES) or file.dose_type == "EFFECTIVE":
            kind = "biologically weighted" if file.dose_type == "EFFECTIVE" else "of a part of the plan"
            stated = f"DoseSummationType {file.summation_type or 'unstated'}, DoseType {file.dose_type}"
            notes.append(Note(f"the dose that was given to compare with is {kind} ({stated})", against.name))
        notes += file.notes
        is_part = shared or file.summation_type in ("BEAM", "FRACTION", *SESSION_TYPES)
        notes += scale_notes(file.dose, plan_prescription_gy(plan_files), "the plan", against.name, is_part=is_part)
        return PlannedDose(against.name, file.dose)
    inventory = scan(path)
    if not inventory.of_class(RT_DOSE):
        return None
    try:
        files = doses_of_case(path, case, inventory)
    except DicomError as error:
        notes.append(Note(f"the doses of the case were not compared: {error.what}", "RTDOSE"))
        return None
    found = _of_plan(files, plan_files, notes)
    if found is not None:
        notes += scale_notes(found.dose, plan_prescription_gy(plan_files), "the plan", found.name, is_part=shared)
    return found


def _of_plan(files: Sequence[DoseFile], plan_files: Sequence[PlanFile], notes: list[Note]) -> PlannedDose | None:
    uid = plan_files[0].plan.sop_instance_uid
    own = [file for file in files if uid in file.plan_uids and file.dose_type != "EFFECTIVE"]
    if not own:
        if files:
            message = "no RTDOSE of the case is of this plan, so none was compared (--against names one)"
            notes.append(Note(message, "RTDOSE", "info"))
        return None
    wanted = {file.fraction_group for file in plan_files}
    whole = wanted == set(plan_files[0].fraction_groups)
    plans = [file for file in own if file.summation_type == "PLAN"] if whole else []
    if len(plans) > 1:
        message = f"the case holds {len(plans)} doses of this plan; none was compared, name one by --against"
        notes.append(Note(message, "RTDOSE"))
        return None
    if plans:
        notes += plans[0].notes
        return PlannedDose("RTDOSE of the plan", plans[0].dose)
    groups = [file for file in own if file.summation_type == "FRACTION" and set(file.fraction_groups) <= wanted]
    if groups and {n for file in groups for n in file.fraction_groups} == wanted and len(groups) == len(wanted):
        return PlannedDose("RTDOSE of its fraction groups", _sum(groups))
    beams = [file for file in own if file.summation_type == "BEAM" and set(file.fraction_groups) <= wanted]
    named = [n for file in beams for n in file.beams]
    if beams and sorted(named) == sorted(beam.number for one in plan_files for beam in one.plan):
        return PlannedDose("sum of the RTDOSE of its beams", _sum(beams))
    sessions = [file for file in own if file.summation_type in SESSION_TYPES]
    if len(sessions) == len(plan_files) == 1:
        count = np.float32(plan_files[0].plan.fractions)
        dose = Volume(sessions[0].dose.grid, np.asarray(sessions[0].dose.values * count, dtype=np.float32))
        return PlannedDose(f"RTDOSE of one fraction, times {count:g}", dose)
    kinds = ", ".join(sorted({file.summation_type or "unstated" for file in own}))
    message = f"the doses of the case ({kinds}) do not make up what was calculated, so none was compared"
    notes.append(Note(message, "RTDOSE"))
    return None


def _sum(files: Sequence[DoseFile]) -> Volume:
    grid = min((file.dose.grid for file in files), key=lambda grid: float(np.prod(grid.spacing_mm)))
    return Volume(grid, np.sum([file.dose.resample(grid).values for file in files], axis=0, dtype=np.float32))


def against_planned(
    planned: PlannedDose,
    recalculated: Volume,
    patient: PreparedPatient,
    notes: list[Note],
    progress: Progress = silent,
) -> AgreementView | None:
    """Hold a recalculated dose against the planned one; None, and a note, where nothing can be compared.

    The planned dose is the reference: gamma is global, of its maximum, above 10 % of it.
    """
    names = (planned.name, "recalculated")
    step = part(progress, 0.0, 0.7)
    try:
        pair = compared_doses(planned.dose, recalculated, names, patient, ComparisonSettings(USUAL), progress=step)
        strict = gamma_index(
            planned.dose, recalculated, dose_percent=STRICT.dose_percent, distance_mm=STRICT.distance_mm
        )
    except DoseError as error:
        notes.append(Note(f"the planned dose was not compared: {error.what}", planned.name))
        return None
    pair = replace(pair, labels=("planned", "recalculated"))
    assert pair.gamma is not None
    notes += pair.notes
    if pair.gamma.pass_percent < USUAL.pass_percent:
        message = (
            f"the recalculation agrees with the planned dose in only {pair.gamma.pass_percent:.1f} % of the voxels "
            f"({USUAL.dose_percent:g} %/{USUAL.distance_mm:g} mm): another beam model, another density curve, or "
            "something in the beam that the file does not name"
        )
        notes.append(Note(message, "comparison"))
    return AgreementView(pair, strict)


def agreement_results(agreement: AgreementView) -> dict[str, Any]:
    """Return results.json's section on the planned dose: difference, gamma by both criteria, structures."""
    found = pair_results(agreement.pair)
    found.pop("constraints", None)
    usual = found.pop("gamma")
    strict = agreement.strict
    found["gamma"] = [
        {key: usual[key] for key in ("dose_percent", "distance_mm", "pass_percent", "judged_voxels", "mean")},
        {
            "dose_percent": strict.dose_percent,
            "distance_mm": strict.distance_mm,
            "pass_percent": strict.pass_percent,
            "judged_voxels": strict.judged,
            "mean": strict.mean,
        },
    ]
    found["difference"]["mean_percent"] = 100.0 * agreement.pair.difference.mean_gy / agreement.pair.normalisation_gy
    return found
