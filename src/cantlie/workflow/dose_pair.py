"""Two RTDOSE files laid against each other: gamma and difference, with or without the patient they belong to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cantlie.core.errors import DicomError, GeometryError
from cantlie.core.files import write_json
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.provenance import sha256_of_bytes
from cantlie.dicom.rtdose import DoseFile, read_dose_file
from cantlie.report.dose_pair_pages import dose_pair_document
from cantlie.report.writing import write_report
from cantlie.workflow.dose_comparison import GAMMA_SOURCE, TG218, ComparisonSettings, compared_doses, pair_results
from cantlie.workflow.patient_stage import CaseRequest, PreparedPatient, prepare_patient
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the doses": 2.0, "comparison": 5.0, "report": 4.0}


@dataclass(frozen=True, slots=True)
class DosePair:
    """What the user asks for.

    Parameters
    ----------
    reference, evaluated
        RTDOSE files, on any two grids.
    settings
        How they are compared.
    case
        The CT and the RTSTRUCT that both doses belong to: slices are then drawn on the CT, and every
        structure is judged by itself.
    across_frames
        Compare doses whose frames of reference differ: the user knows that they are one.
    """

    reference: Path
    evaluated: Path
    out: Path
    settings: ComparisonSettings = field(default_factory=ComparisonSettings)
    case: CaseRequest | None = None
    across_frames: bool = False


def compare_dose_pair(request: DosePair, progress: Progress = silent) -> dict[str, Any]:
    """Compare two doses and write results.json, figures and report; return what results.json holds.

    Raises
    ------
    CantlieError
        If a dose or the case cannot be used, or they do not belong together.
    """
    gamma = request.settings.gamma
    command = {
        "name": "difference" if gamma is None else "gamma",
        "threshold_percent": request.settings.threshold_percent,
        **({} if gamma is None else asdict(gamma)),
    }
    with RunFolder(request.out, command, STAGES, progress) as run:
        return _stages(run, request)


def _stages(run: RunFolder, request: DosePair) -> dict[str, Any]:
    run.clear("results.json", "report.html", "report.pdf", "figures")

    def read(step: Progress) -> tuple[DoseFile, DoseFile, PreparedPatient | None]:
        first, second = read_dose_file(request.reference), read_dose_file(request.evaluated)
        patient = None
        if request.case is not None:
            patient = prepare_patient(request.case, step)
        return first, second, patient

    first, second, patient = run.stage(
        "reading the doses", key_of(str(request.reference), str(request.evaluated)), read, keep=False
    )
    notes = [*first.notes, *second.notes, *(patient.notes if patient else ()), *_belonging(request, first, second)]
    if patient is not None:
        _check_case(patient, first, request)
    names = (request.reference.name, request.evaluated.name)
    pair = run.stage(
        "comparison",
        "",
        lambda step: compared_doses(
            first.dose, second.dose, names, patient, request.settings, notes=notes, progress=step
        ),
        keep=False,
    )
    run.note(pair.notes)
    run.cite([TG218, GAMMA_SOURCE] if pair.gamma is not None else [])
    run.add_provenance(
        reference_sha256=sha256_of_bytes(request.reference.read_bytes()),
        evaluated_sha256=sha256_of_bytes(request.evaluated.read_bytes()),
    )
    warnings = [note.sentence() for note in pair.notes if note.level == "warning"]
    results = {"title": pair.title, **pair_results(pair), "warnings": warnings}
    run.stage("report", "", lambda _: write_report(dose_pair_document(pair), request.out), keep=False)
    write_json(request.out / "results.json", results)
    return results


def _belonging(request: DosePair, first: DoseFile, second: DoseFile) -> list[Note]:
    """Return what differs between the files; refuse what cannot be compared."""
    frames = first.frame_of_reference_uid, second.frame_of_reference_uid
    if all(frames) and frames[0] != frames[1] and not request.across_frames:
        raise GeometryError(
            "the two doses lie in different frames of reference, so their voxels cannot be matched",
            where=f"{request.reference.name} and {request.evaluated.name}",
            remedy="give doses of one planning CT, or --across-frames if you know that the coordinates agree",
        )
    notes = []
    if frames[0] != frames[1]:
        notes.append(Note("the frames of reference of the two doses are not the same", "RTDOSE"))
    if first.dose_type != second.dose_type:
        notes.append(Note(f"a {first.dose_type.lower()} and an {second.dose_type.lower()} dose are compared", "RTDOSE"))
    if first.summation_type != second.summation_type:
        one, other = (f.summation_type or "unstated" for f in (first, second))
        notes.append(Note(f"the doses are of different kinds (DoseSummationType {one} and {other})", "RTDOSE"))
    if first.sop_instance_uid and first.sop_instance_uid == second.sop_instance_uid:
        notes.append(Note("both files are the same dose (equal SOP Instance UID)", "RTDOSE"))
    return notes


def _check_case(patient: PreparedPatient, dose: DoseFile, request: DosePair) -> None:
    assert request.case is not None
    frame = patient.case.ct.frame_of_reference_uid
    if frame and dose.frame_of_reference_uid and frame != dose.frame_of_reference_uid and not request.across_frames:
        raise DicomError(
            "the doses were not calculated on the CT of the case: the frames of reference differ",
            where=str(request.case.case),
            remedy="give the case that the doses belong to",
        )
