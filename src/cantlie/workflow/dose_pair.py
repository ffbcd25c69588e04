"""Two RTDOSE files laid against each other: gamma and difference, with or without the patient they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DicomError, GeometryError, InputError
from cantlie.core.files import write_bytes, write_json
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.volume import Volume
from cantlie.dicom.rtdose import DoseFile, read_dose_file
from cantlie.evaluation.difference import DoseDifference, dose_difference
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.gamma import GammaResult, gamma_index
from cantlie.patient.names import BODY
from cantlie.patient.regions import Regions
from cantlie.report.case_report import Role, StructureView
from cantlie.report.document import Images
from cantlie.report.dose_pair_pages import DosePairView, StructureRow, criteria, dose_pair_document
from cantlie.report.html import write_html
from cantlie.report.pdf import write_pdf
from cantlie.report.view import View, view_of
from cantlie.workflow.patient_stage import PreparedPatient, prepare_patient
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading the doses": 2.0, "comparison": 5.0, "report": 4.0}
TG218 = "AAPM TG-218, Miften et al. 2018, doi:10.1002/mp.12810: gamma criteria, 10 % threshold, 95 % tolerance"
GAMMA_SOURCE = "Low et al. 1998, doi:10.1118/1.598248: the gamma index"
_AROUND_MM = 30.0


@dataclass(frozen=True, slots=True)
class GammaCriteria:
    """What gamma is judged by; the defaults are those of AAPM TG-218."""

    dose_percent: float = 3.0
    distance_mm: float = 2.0
    local: bool = False
    two_dimensional: bool = False
    limit: float = 2.0
    pass_percent: float = 95.0


@dataclass(frozen=True, slots=True)
class DosePair:
    """What the user asks for.

    Parameters
    ----------
    reference, evaluated
        RTDOSE files, on any two grids.
    gamma
        The criteria; None for the plain difference alone.
    case
        Folder or zip with the CT and the RTSTRUCT that both doses belong to: slices are then drawn on the CT, and every
        structure is judged by itself.
    threshold_percent
        Voxels whose reference dose is below this share of 100 % are not judged.
    tolerance_percent
        Differences up to this share of 100 % count as within.
    normalisation_gy
        The dose that is 100 %; the maximum of the reference when not given.
    across_frames
        Compare doses whose frames of reference differ: the user knows that they are one.
    """

    reference: Path
    evaluated: Path
    out: Path
    gamma: GammaCriteria | None = None
    case: Path | None = None
    aliases: Path | None = None
    series: str | None = None
    structure_set: str | None = None
    patient: str | None = None
    threshold_percent: float = 10.0
    tolerance_percent: float = 3.0
    normalisation_gy: float | None = None
    across_frames: bool = False


def compare_dose_pair(request: DosePair, progress: Progress = silent) -> dict[str, Any]:
    """Compare two doses and write results.json, figures and report; return what results.json holds.

    Raises
    ------
    CantlieError
        If a dose or the case cannot be used, or they do not belong together.
    """
    _check(request)
    name = "difference" if request.gamma is None else "gamma"
    command = {"name": name, "threshold_percent": request.threshold_percent}
    if request.gamma is not None:
        command |= asdict(request.gamma)
    with RunFolder(request.out, command, STAGES, progress) as run:
        return _stages(run, request)


def _check(request: DosePair) -> None:
    if not 0 <= request.threshold_percent < 100:
        raise InputError(
            f"the threshold is a share of the dose from 0 to below 100 %, not {request.threshold_percent:g} %",
            where="--threshold",
        )
    if request.normalisation_gy is not None and not 0 < request.normalisation_gy < 1000:
        raise InputError(f"{request.normalisation_gy:g} Gy cannot be 100 %", where="--normalisation")
    if not request.tolerance_percent > 0:
        raise InputError("the tolerance must be above 0 %", where="--tolerance")


def _stages(run: RunFolder, request: DosePair) -> dict[str, Any]:
    run.clear("results.json", "report.html", "report.pdf", "figures")

    def read(step: Progress) -> tuple[DoseFile, DoseFile, PreparedPatient | None]:
        first, second = read_dose_file(request.reference), read_dose_file(request.evaluated)
        patient = None
        if request.case is not None:
            patient = prepare_patient(
                request.case,
                aliases=request.aliases,
                series=request.series,
                structure_set=request.structure_set,
                patient=request.patient,
                progress=step,
            )
        return first, second, patient

    first, second, patient = run.stage(
        "reading the doses", key_of(str(request.reference), str(request.evaluated)), read, keep=False
    )
    notes = [*first.notes, *second.notes, *(patient.notes if patient else ()), *_belonging(request, first, second)]
    if patient is not None:
        _check_case(patient, first, request)
    pair = run.stage("comparison", "", lambda step: _compared(request, first, second, patient, notes, step), keep=False)
    run.note(pair.notes)
    run.cite([TG218, GAMMA_SOURCE] if pair.gamma is not None else [])
    run.add_provenance(
        reference_sha256=sha256_of_bytes(request.reference.read_bytes()),
        evaluated_sha256=sha256_of_bytes(request.evaluated.read_bytes()),
    )
    results = _results(pair)
    run.stage("report", "", lambda _: _report(request, pair), keep=False)
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
    frame = patient.case.ct.frame_of_reference_uid
    if frame and dose.frame_of_reference_uid and frame != dose.frame_of_reference_uid and not request.across_frames:
        raise DicomError(
            "the doses were not calculated on the CT of the case: the frames of reference differ",
            where=str(request.case),
            remedy="give the case that the doses belong to",
        )


def _compared(
    request: DosePair,
    first: DoseFile,
    second: DoseFile,
    patient: PreparedPatient | None,
    notes: list[Note],
    progress: Progress,
) -> DosePairView:
    reference, evaluated = first.dose, second.dose
    normal = float(reference.values.max()) if request.normalisation_gy is None else request.normalisation_gy
    progress(0.0, "difference")
    difference = dose_difference(
        reference,
        evaluated,
        threshold_percent=request.threshold_percent,
        tolerance_percent=request.tolerance_percent,
        normalisation_gy=normal,
    )
    gamma = None
    if request.gamma is not None:
        asked = request.gamma
        flat = asked.two_dimensional
        if min(reference.grid.shape[0], evaluated.grid.shape[0]) == 1 and not flat:
            flat = True
            notes.append(Note("a dose of one plane allows gamma in that plane only", "gamma"))
        progress(0.1, "gamma")
        gamma = gamma_index(
            reference,
            evaluated,
            dose_percent=asked.dose_percent,
            distance_mm=asked.distance_mm,
            local=asked.local,
            threshold_percent=request.threshold_percent,
            normalisation_gy=normal,
            limit=asked.limit,
            two_dimensional=flat,
        )
    if difference.uncovered:
        share = 100.0 * difference.uncovered / (difference.uncovered + difference.judged)
        notes.append(
            Note(
                f"{difference.uncovered} voxels above the threshold ({share:.1f} %) lie outside the evaluated dose and "
                "were not judged",
                "comparison",
            )
        )
    rows: tuple[StructureRow, ...] = ()
    outlines: list[StructureView] = []
    background = Volume(reference.grid, np.full(reference.grid.shape, -1000.0, dtype=np.float32))
    if patient is not None:
        progress(0.6, "structures")
        rows = _rows(patient.regions, reference, evaluated, difference, gamma, request.threshold_percent * normal / 100)
        outlines = _outlines(patient.regions, reference, normal)
        background = patient.case.ct.volume
    return DosePairView(
        title="Gamma of two doses" if gamma is not None else "Difference of two doses",
        names=(request.reference.name, request.evaluated.name),
        reference=reference,
        evaluated=evaluated,
        background=background,
        view=_view(background, reference, difference, gamma, outlines, normal, patient is not None),
        difference=difference,
        normalisation_gy=normal,
        threshold_percent=request.threshold_percent,
        tolerance_percent=request.tolerance_percent,
        gamma=gamma,
        pass_limit_percent=request.gamma.pass_percent if request.gamma else 95.0,
        structures=rows,
        outlines=outlines,
        notes=tuple(dict.fromkeys(notes)),
    )


def _rows(
    regions: Regions,
    reference: Volume,
    evaluated: Volume,
    difference: DoseDifference,
    gamma: GammaResult | None,
    threshold_gy: float,
) -> tuple[StructureRow, ...]:
    above = (reference.values >= threshold_gy) & np.isfinite(difference.difference.values)
    rows = []
    for name, fractions in regions.fractions.items():
        if not fractions.any():
            continue
        own = Volume(regions.grid, fractions)
        inside = (own.resample(reference.grid).values >= 0.5) & above
        first, second = (dvh(dose, fractions, regions.grid, name=name) for dose in (reference, evaluated))
        values = difference.difference.values[inside].astype(np.float64)
        judged: NDArray[np.float32] = np.empty(0, np.float32) if gamma is None else gamma.gamma[inside]
        judged = judged[np.isfinite(judged)]
        rows.append(
            StructureRow(
                name,
                regions.volume_cc(name),
                first,
                second,
                int(values.size),
                float(values.mean()) if values.size else None,
                float(values.std()) if values.size else None,
                100.0 * float(np.mean(judged <= 1.0)) if judged.size else None,
                float(judged.mean(dtype=np.float64)) if judged.size else None,
            )
        )
    return tuple(rows)


def _outlines(regions: Regions, reference: Volume, normal_gy: float) -> list[StructureView]:
    views = []
    for name, fractions in regions.fractions.items():
        upper = name.upper()
        role: Role = (
            "body"
            if name == BODY
            else "target" if upper.startswith("PTV")
            else "ctv" if upper.startswith(("CTV", "ITV"))
            else "gtv" if upper.startswith("GTV")
            else "organ"
        )  # fmt: skip
        if fractions.any():
            views.append(StructureView(name, Volume(regions.grid, fractions), role))
    return views


def _view(
    background: Volume,
    reference: Volume,
    difference: DoseDifference,
    gamma: GammaResult | None,
    outlines: Sequence[StructureView],
    normal_gy: float,
    with_ct: bool,
) -> View:
    """Return a view of the dose; the slices cross where it fails the most, else in the middle of the high dose."""
    grid = reference.grid
    high = reference.values >= 0.5 * normal_gy
    failed = np.zeros_like(high)
    if gamma is not None:
        failed = np.nan_to_num(gamma.gamma, nan=0.0) > 1.0
    else:
        found = np.abs(np.nan_to_num(difference.difference.values))
        if found.max() > 0.02 * normal_gy:
            failed = found > 0.5 * found.max()
    cloud = failed if failed.any() else high if high.any() else reference.values > 0
    k = int(cloud.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(cloud[k])
    index = [float(k), float(np.median(rows)), float(np.median(columns))]
    x, y, z = (float(v) for v in grid.mm_from_index(index))
    if with_ct:
        return view_of(background, outlines, (x, y, z))
    box = np.argwhere(reference.values >= 0.05 * normal_gy)
    low = np.maximum(grid.mm_from_index(box.min(axis=0)) - _AROUND_MM, grid.lower_mm)
    top = np.minimum(grid.mm_from_index(box.max(axis=0)) + _AROUND_MM, grid.upper_mm)
    return View((x, y, z), (float(low[0]), float(low[1]), float(low[2])), (float(top[0]), float(top[1]), float(top[2])))


def _grid(grid: Grid) -> dict[str, Any]:
    return {"shape_kji": grid.shape, "spacing_mm": grid.spacing_mm, "origin_mm": grid.origin_mm}


def _results(pair: DosePairView) -> dict[str, Any]:
    doses = {
        which: {"file": name, "maximum_gy": float(dose.values.max()), "grid": _grid(dose.grid)}
        for which, name, dose in (
            ("reference", pair.names[0], pair.reference),
            ("evaluated", pair.names[1], pair.evaluated),
        )
    }
    found = pair.difference
    results: dict[str, Any] = {
        "title": pair.title,
        **doses,
        "normalisation_gy": pair.normalisation_gy,
        "threshold_percent": pair.threshold_percent,
        "difference": {
            "convention": "evaluated minus reference",
            "judged_voxels": found.judged,
            "uncovered_voxels": found.uncovered,
            "mean_gy": found.mean_gy,
            "sd_gy": found.sd_gy,
            "rms_gy": found.rms_gy,
            "lowest_gy": found.lowest_gy,
            "highest_gy": found.highest_gy,
            "tolerance_percent": pair.tolerance_percent,
            "within_tolerance_percent": found.within_percent,
        },
    }
    if pair.gamma is not None:
        gamma = pair.gamma
        edges = np.linspace(0.0, gamma.limit, 21)
        counts, _ = np.histogram(np.minimum(gamma.gamma[np.isfinite(gamma.gamma)], gamma.limit), bins=edges)
        results["gamma"] = {
            "dose_percent": gamma.dose_percent,
            "distance_mm": gamma.distance_mm,
            "local": gamma.local,
            "two_dimensional": gamma.two_dimensional,
            "pass_percent": gamma.pass_percent,
            "judged_voxels": gamma.judged,
            "uncovered_voxels": gamma.uncovered,
            "mean": gamma.mean,
            "median": gamma.median,
            "p95": gamma.p95,
            "largest_kept": gamma.limit,
            "histogram": {"edges": edges.tolist(), "voxels": counts.tolist()},
        }
        results["constraints"] = [
            {
                "structure": "all judged voxels",
                "metric": f"gamma pass rate, {criteria(gamma)}",
                "op": ">=",
                "limit": pair.pass_limit_percent,
                "unit": "%",
                "achieved": gamma.pass_percent,
                "verdict": "pass" if gamma.pass_percent >= pair.pass_limit_percent else "fail",
                "place": TG218,
            }
        ]
    results["structures"] = {row.name: _structure(row, pair.gamma is not None) for row in pair.structures}
    results["warnings"] = [note.sentence() for note in pair.notes if note.level == "warning"]
    return results


def _structure(row: StructureRow, with_gamma: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"volume_cc": row.volume_cc, "judged_voxels": row.judged}
    for which, curve in (("reference", row.reference), ("evaluated", row.evaluated)):
        result[which] = {
            "Dmin_gy": curve.min_gy,
            "Dmean_gy": curve.mean_gy,
            "Dmax_gy": curve.max_gy,
            **{f"D{p}%_gy": float(curve.dose_at_percent_gy(float(p))) for p in (2, 50, 95, 98)},
        }
    result["mean_difference_gy"] = row.mean_difference_gy
    result["sd_difference_gy"] = row.sd_difference_gy
    if with_gamma:
        result["gamma_pass_percent"] = row.gamma_pass_percent
        result["gamma_mean"] = row.gamma_mean
    return result


def _report(request: DosePair, pair: DosePairView) -> None:
    document = dose_pair_document(pair)
    images = Images()
    write_html(document, request.out / "report.html", images)
    write_pdf(document, request.out / "report.pdf", images)
    for name, content in images.files.items():
        write_bytes(request.out / "figures" / name, content)
    for figure in document.figures():
        picture = figure.png()
        if picture is not None:
            write_bytes(request.out / "figures" / f"{figure.name}.png", picture)
