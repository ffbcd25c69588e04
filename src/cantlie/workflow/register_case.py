"""Another image of the patient on the planning CT: MRI, PET or CT registered, its contours carried over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.core.files import read_text, write_json
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.spreadsheet import number_of, read_sheet
from cantlie.core.volume import Volume
from cantlie.course.registration import CT_WINDOW_HU, Method, RegistrationSettings
from cantlie.course.registration_quality import LIMIT_TRE_MM, target_registration_errors_mm
from cantlie.dicom.image_series import ImageSeries, read_image_series
from cantlie.dicom.reading import read_case
from cantlie.dicom.registration_file import registrations_of_case
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.patient.case import Case
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.names import BODY
from cantlie.patient.structures import Structure
from cantlie.report.case_report import StructureView
from cantlie.report.closing_sections import remarks_section
from cantlie.report.document import Document
from cantlie.report.registration_pages import CT_WINDOW, registration_section
from cantlie.report.writing import write_report
from cantlie.workflow.image_link import CITATIONS, LIVER, ImageLink, link_images, link_results, masks_of, write_link
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading both images": 10.0, "registration": 40.0, "contours carried over": 5.0, "report": 8.0}


@dataclass(frozen=True, slots=True)
class RegisterCase:
    """What the user asks for.

    Parameters
    ----------
    case, moving
        Planning CT with its structures, and the folder of the other image.
    method
        ``auto``: demons for CT, rigid for MRI and PET.
    landmarks
        CSV with the columns x_mm, y_mm, z_mm (on the CT) and moving_x_mm, moving_y_mm, moving_z_mm.
    """

    case: Path
    moving: Path
    out: Path
    method: Method | Literal["auto"] = "auto"
    spacing_mm: float = 3.0
    series: str | None = None
    landmarks: Path | None = None


def register_case(request: RegisterCase, progress: Progress = silent) -> dict[str, Any]:
    """Register an image to the planning CT; write REG, the carried-over contours, results.json and the report.

    Returns what results.json holds.

    Raises
    ------
    CantlieError
        If an image cannot be used.
    """
    pairs = read_landmarks(request.landmarks) if request.landmarks else None
    with RunFolder(request.out, {"name": "register", "method": request.method}, STAGES, progress) as run:
        return _stages(run, request, pairs)


def read_landmarks(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read pairs of landmarks from CSV, shapes (n, 3), LPS mm.

    Raises
    ------
    InputError
        If a column is missing or a value is no number.
    """
    sheet = read_sheet(read_text(path, "landmarks"), str(path))
    rows = [dict(zip(sheet.header, cells, strict=True)) for cells in sheet.rows]
    columns = [f"{side}{axis}_mm" for side in ("", "moving_") for axis in "xyz"]
    try:
        values = np.array([[number_of(row[name], sheet.decimal_comma) for name in columns] for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the landmarks need numbers in the columns {', '.join(columns)}", where=str(path), remedy="correct the CSV"
        ) from error
    if not len(values) or not np.isfinite(values).all():
        raise InputError("the landmarks are empty or not finite", where=str(path), remedy="correct the CSV")
    return values[:, :3], values[:, 3:]


def _stages(
    run: RunFolder, request: RegisterCase, pairs: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> dict[str, Any]:
    run.clear("results.json", "report.html", "report.pdf", "figures", "dicom")
    planning, moving = run.stage(
        "reading both images",
        key_of(str(request.case), str(request.moving)),
        lambda _: (read_case(request.case), read_image_series(request.moving, series_uid=request.series)),
        keep=False,
    )
    if planning.ct.series_instance_uid == moving.case.ct.series_instance_uid:
        raise InputError("both images are the same series", where="--moving", remedy="give another image")
    settings = _settings(request, moving)
    objects = (*registrations_of_case(request.moving), *registrations_of_case(request.case))
    link: ImageLink = run.stage(
        "registration", "", lambda step: link_images(planning, moving.case, settings, objects, step), keep=False
    )
    facts = link_results(link)
    if moving.kind != "CT":
        facts.pop("correlation", None)  # grey values of two kinds need not rise together
    notes = [*planning.notes, *moving.case.notes, *link.notes]
    if pairs is not None:
        errors = target_registration_errors_mm(link.field, *pairs)
        facts["target_registration_error_mm"] = {
            "landmarks": len(errors), "mean": float(errors.mean()), "percentile_95": float(np.percentile(errors, 95)),
            "maximum": float(errors.max()), "limit": LIMIT_TRE_MM,
        }  # fmt: skip
        if errors.mean() > LIMIT_TRE_MM:
            notes.append(Note(f"the landmarks miss each other by {errors.mean():.1f} mm on average", "registration"))
    else:
        notes.append(Note("no landmarks were given, so the target registration error was not measured (--landmarks)",
                          "registration", "info"))  # fmt: skip
    files = run.stage(
        "contours carried over", "", lambda _: _export(request, planning, moving, link, settings), keep=False
    )
    results = {
        "title": f"{moving.kind} registered to the planning CT",
        "moving": {"kind": moving.kind, "description": moving.description,
                   "spacing_mm": list(moving.case.ct.volume.grid.spacing_mm)},
        "registration": facts,
        "files": files,
        "warnings": [note.sentence() for note in dict.fromkeys(notes) if note.level == "warning"],
    }  # fmt: skip
    run.note(notes)
    run.cite(CITATIONS)
    run.add_provenance(case_sha256=planning.input_sha256, moving_sha256=moving.case.input_sha256)
    run.stage("report", "", lambda _: _report(request, planning, moving, link, results, notes), keep=False)
    write_json(request.out / "results.json", results)
    return results


def _settings(request: RegisterCase, moving: ImageSeries) -> RegistrationSettings:
    same_kind = moving.kind == "CT"
    method: Method = ("demons" if same_kind else "rigid") if request.method == "auto" else request.method
    if method == "demons" and not same_kind:
        raise InputError(
            f"demons need the grey values of CT in both images, not {moving.kind}", where="--method",
            remedy="take rigid or b-spline",
        )  # fmt: skip
    return RegistrationSettings(method, request.spacing_mm, CT_WINDOW_HU if same_kind else None)


def _carried_name(structure: Structure, moving: ImageSeries) -> str:
    return f"{structure.key}_{moving.kind}"


def _export(
    request: RegisterCase, planning: Case, moving: ImageSeries, link: ImageLink, settings: RegistrationSettings
) -> dict[str, str]:
    folder = request.out / "dicom"
    image_class = "" if moving.kind == "CT" else moving.sop_class_uid
    files = write_link(folder, planning, moving.case, link, moving_image_class=image_class)
    if settings.method == "rigid" and link.rigid is not None:
        (folder / "REG_deformable.dcm").unlink()
        files.pop("REG_deformable.dcm")
    grid = planning.ct.volume.grid
    masks = masks_of(moving.case, moving.case.ct.volume.grid)
    carried = []
    for structure in moving.case.structures:
        if structure.key in masks and structure.key != BODY:
            mask = np.clip(link.field.pull(masks[structure.key], grid).values, 0, 1)
            contours = contours_of_fractions(np.asarray(mask, np.float32), grid)
            if contours:
                carried.append(replace(structure, name=_carried_name(structure, moving), standard_name=None,
                                       contours_mm=contours, slice_spacing_mm=grid.spacing_mm[2]))  # fmt: skip
    if carried:
        write_rtstruct(planning, carried, folder / "RS_with_carried_contours.dcm")
        files["RS_with_carried_contours.dcm"] = (
            f"structures of the CT and {len(carried)} carried over from {moving.kind}"
        )
    return files


def _report(
    request: RegisterCase, planning: Case, moving: ImageSeries, link: ImageLink, results: dict[str, Any],
    notes: list[Note],
) -> None:  # fmt: skip
    grid = planning.ct.volume.grid.resampled((2.0, 2.0, 3.0))
    reference = planning.ct.volume.resample(grid, outside=-1000.0)
    image = moving.case.ct.volume
    low, high = (float(v) for v in np.percentile(image.values, (2, 99.7)))
    window = CT_WINDOW if moving.kind == "CT" else (0.5 * (low + high), max(high - low, 1e-6))
    aligned = link.field.pull(image, grid, outside=float(image.values.min()))
    drawn = masks_of(planning, link.field.grid)
    lesions = [name for name in drawn if name.upper().startswith("GTV")]
    lines = [StructureView(name, drawn[name], "organ", "#ffffff") for name in (LIVER, *lesions) if name in drawn]
    if BODY in drawn:
        lines.append(StructureView(BODY, drawn[BODY], "body"))
    other = masks_of(moving.case, image.grid)
    carried = [
        StructureView(
            f"{name} of the {moving.kind}", Volume(grid, link.field.pull(mask, grid).values), "gtv", "#ff7043"
        )
        for name, mask in other.items()
        if name != BODY
    ]
    section = registration_section(
        results["registration"], reference, aligned, lines, carried,
        titles=("Planning CT", f"{moving.kind}, registered"), windows=(CT_WINDOW, window), title="Registration",
    )  # fmt: skip
    sections = [section]
    if notes:
        sections.append(remarks_section(tuple(dict.fromkeys(notes))))
    created = datetime.now(UTC).astimezone()
    document = Document(
        title=results["title"],
        sections=sections,
        meta=[("Planning CT", planning.pseudonym), ("Image", moving.kind), ("Made", created)],
    )
    write_report(document, request.out, created)
