"""Judge plans made elsewhere: CT, structures and RTDOSE in; DVHs, constraint table and results out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import DicomError
from cantlie.core.files import write_json, write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dicom.companions import doses_of_case, plans_of_case
from cantlie.dicom.plan_file import PlanFile
from cantlie.dicom.rtdose import DoseFile, read_dose_file
from cantlie.patient.names import standard_name
from cantlie.patient.regions import Regions
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.schema import Protocol
from cantlie.target.build import build_targets
from cantlie.workflow.dosimetry import COURSE, Dosimetry, judge_doses
from cantlie.workflow.patient_stage import PreparedPatient, prepare_patient
from cantlie.workflow.results import dvh_csv, results_of
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the case": 4.0, "targets": 3.0, "evaluation": 5.0}


@dataclass(frozen=True, slots=True)
class EvaluateCase:
    """What the user asks for. Without ``doses`` those that lie in the case are judged."""

    case: Path
    protocol: str
    out: Path
    doses: tuple[Path, ...] = ()
    aliases: Path | None = None
    series: str | None = None
    structure_set: str | None = None
    patient: str | None = None


def evaluate_case(request: EvaluateCase, progress: Progress = silent) -> Dosimetry:
    """Judge the doses of a case by a protocol and write results.json and dvh.csv.

    Raises
    ------
    CantlieError
        If the case or a dose cannot be used.
    """
    protocol = load_protocol(request.protocol)
    with RunFolder(request.out, {"name": "evaluate", "protocol": request.protocol}, STAGES, progress) as run:
        return _stages(run, request, protocol)


def _stages(run: RunFolder, request: EvaluateCase, protocol: Protocol) -> Dosimetry:
    def read(step: Progress) -> PreparedPatient:
        return prepare_patient(
            request.case,
            aliases=request.aliases,
            series=request.series,
            structure_set=request.structure_set,
            patient=request.patient,
            progress=step,
        )

    patient = run.stage("reading the case", key_of(str(request.case)), read, keep=False)
    files = _dose_files(request, patient)
    plans = plans_of_case(request.case, patient.case)
    regions, notes = run.stage("targets", "", lambda step: _with_targets(patient.regions, protocol, step), keep=False)
    doses, dose_notes = doses_by_target(files, plans, protocol, regions)
    notes = (*patient.notes, *notes, *dose_notes)
    prescriptions = {name: protocol.prescription(name).total_gy for name in protocol.target_ids}
    dosimetry = run.stage(
        "evaluation", "", lambda step: judge_doses(regions, protocol, doses, prescriptions, step), keep=False
    )
    notes = tuple(dict.fromkeys((*notes, *dosimetry.notes)))
    sections: dict[str, Any] = {
        "reading": list(patient.report.lines()),
        "doses": [{"summation": f.summation_type, "maximum_gy": float(f.dose.values.max())} for f in files],
    }
    write_json(
        request.out / "results.json",
        results_of(
            f"Evaluation by {protocol.title}",
            protocol,
            dosimetry,
            plans=[file.plan for file in plans],
            sections=sections,
            notes=notes,
        ),
    )
    for scope, curves in dosimetry.dvhs.items():
        write_text(request.out / ("dvh.csv" if scope == COURSE else f"dvh_{scope}.csv"), dvh_csv(curves))
    run.note(notes)
    run.cite([protocol.citation.sentence()])
    run.add_provenance(case_sha256=patient.case.input_sha256, protocol_sha256=protocol.sha256)
    return dosimetry


def _dose_files(request: EvaluateCase, patient: PreparedPatient) -> tuple[DoseFile, ...]:
    if request.doses:
        return tuple(read_dose_file(path) for path in request.doses)
    files = doses_of_case(request.case, patient.case)
    if not files:
        raise DicomError(
            "the case holds no RTDOSE", where=str(request.case), remedy="add the dose to the case or name it by --dose"
        )
    return files


def _with_targets(regions: Regions, protocol: Protocol, progress: Progress) -> tuple[Regions, tuple[Note, ...]]:
    """Return the regions with the protocol's targets: the contoured ones, or those that Cantlie builds."""
    regions = _under_their_ids(regions, protocol)
    missing = [name for name in protocol.target_ids if name not in regions]
    if not missing:
        return regions, ()
    built = build_targets(regions, protocol, progress=progress)
    result = built.regions
    for name in protocol.target_ids:
        if name not in missing:
            result = result.with_region(name, regions[name])
    note = Note(f"{', '.join(missing)} is not contoured; it was built from the contours by the protocol", "targets")
    return result, (note, *built.notes)


def _under_their_ids(regions: Regions, protocol: Protocol) -> Regions:
    """Return the regions with targets under the protocol's names: a contour PTV1 was read as PTV_1."""
    ids = {standard_name(name) or name: name for name in protocol.target_ids}
    return Regions(regions.grid, {ids.get(name, name): mask for name, mask in regions.fractions.items()})


def doses_by_target(
    files: Sequence[DoseFile], plans: Sequence[PlanFile], protocol: Protocol, regions: Regions
) -> tuple[dict[str, Volume], tuple[Note, ...]]:
    """Return the dose of the course, and that of each target's own plan where it can be told.

    Doses of plans are summed; a sum that lies beside them is not counted again. A plan's dose belongs to the target
    that its RTPLAN names, else to the one that it gives the most.
    """
    single = [f for f in files if f.summation_type in ("PLAN", "FRACTION", "BEAM")]
    parts = single or list(files)
    notes: list[Note] = []
    if single and len(single) < len(files):
        notes.append(Note("the sum of plans in the case is not counted beside the plans themselves", "RTDOSE", "info"))
    kinds = {f.summation_type for f in parts}
    if kinds & {"FRACTION", "BEAM"}:
        notes.append(Note("a dose of one fraction or one beam was summed as it is", "RTDOSE"))
    if any(f.dose_type == "EFFECTIVE" for f in parts):
        notes.append(Note("a dose is biologically weighted, but judged as physical dose", "RTDOSE"))
    finest = min((f.dose.grid for f in parts), key=lambda grid: float(np.prod(grid.spacing_mm)))
    total = Volume(finest, np.sum([f.dose.resample(finest).values for f in parts], axis=0, dtype=np.float32))
    doses = {COURSE: total}
    named = {file.plan.sop_instance_uid: file.plan.target_name for file in plans}
    for file in single:
        target = next((named[uid] for uid in file.plan_uids if named.get(uid) in protocol.target_ids), None)
        if target is None:
            target = _most_treated(file.dose, protocol, regions)
        if target in doses:
            doses[target] = Volume(finest, doses[target].resample(finest).values + file.dose.resample(finest).values)
        elif target is not None:
            doses[target] = file.dose
    return doses, tuple(notes)


def _most_treated(dose: Volume, protocol: Protocol, regions: Regions) -> str | None:
    means = {}
    for name in protocol.target_ids:
        index = np.argwhere(regions[name] > 0.5)
        points = regions.grid.mm_from_index(index[:: max(1, len(index) // 5000)])
        means[name] = float(dose.sample(points).mean())
    return max(means, key=lambda name: means[name]) if means else None
