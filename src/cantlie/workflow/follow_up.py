"""A follow-up CT on the planning CT: registration, where a recurrence lies in the dose, the pair of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.cohort.failure import GeometricFailure, geometric_failure
from cantlie.core.errors import InputError, StructureError
from cantlie.core.files import write_json
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.course.deformed_dose import TG132_UNCERTAINTY_MM, uncertainty_map
from cantlie.course.registration import Method, Registration, RegistrationSettings, register
from cantlie.course.registration_field import DisplacementField
from cantlie.course.registration_quality import LIMIT_DICE, TG132, RegistrationQuality, registration_quality
from cantlie.dicom.companions import doses_of_case, plans_of_case
from cantlie.dicom.reading import read_case
from cantlie.dicom.rtdose import read_rtdose
from cantlie.patient.case import Case
from cantlie.patient.masks import structure_fractions
from cantlie.patient.names import BODY
from cantlie.report.case_report import StructureView
from cantlie.report.closing_sections import remarks_section
from cantlie.report.document import (
    Block,
    Column,
    Document,
    Figure,
    KeyValue,
    Paragraph,
    Section,
    Table,
    text_of,
)
from cantlie.report.image_pair_figure import Picture, image_pair_figure
from cantlie.report.registration_pages import shift_text
from cantlie.report.view import view_of
from cantlie.report.writing import write_report
from cantlie.workflow.image_link import CITATIONS
from cantlie.workflow.run_folder import RunFolder, key_of

STAGES = {"reading both images": 10.0, "registration": 40.0, "report": 5.0}
WINDOW = (50.0, 400.0)


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What the user asks for.

    Parameters
    ----------
    case, follow_up
        Planning CT with its structures, and the later CT with its own, as folders or zips.
    doses
        RTDOSE of the treatment, summed; without any, those that lie in the case; without those, none.
    recurrence
        Structure of the follow-up that is judged.
    prescription_gy
        100 % of the isodoses, needed to judge a recurrence; the largest of the RTPLANs in the case when not given.
    """

    case: Path
    follow_up: Path
    out: Path
    doses: tuple[Path, ...] = ()
    recurrence: str | None = None
    prescription_gy: float | None = None
    method: Method = "demons"
    spacing_mm: float = 3.0


def follow_up(request: FollowUp, progress: Progress = silent) -> dict[str, Any]:
    """Register a follow-up CT to the planning CT, judge a recurrence against the dose, write the report.

    Returns what results.json holds.

    Raises
    ------
    CantlieError
        If a case, a dose or the recurrence cannot be used.
    """
    settings = RegistrationSettings(request.method, request.spacing_mm)
    if request.prescription_gy is not None and not 0 < request.prescription_gy < 200:
        raise InputError(f"{request.prescription_gy} Gy is no prescription", where="--prescription")
    with RunFolder(request.out, {"name": "follow-up", "method": request.method}, STAGES, progress) as run:
        return _stages(run, request, settings)


def _stages(run: RunFolder, request: FollowUp, settings: RegistrationSettings) -> dict[str, Any]:
    run.clear("results.json", "report.html", "figures")
    planning, later = run.stage(
        "reading both images",
        key_of(str(request.case), str(request.follow_up)),
        lambda _: (read_case(request.case), read_case(request.follow_up)),
        keep=False,
    )
    recurrence = _chosen(later, request.recurrence)
    if np.array_equal(later.ct.volume.values, planning.ct.volume.values):
        raise InputError("both CTs are the same", where="--follow-up", remedy="give the later CT")
    dose = _dose(request, planning)
    if request.prescription_gy is None and dose is not None:
        prescribed = [file.plan.prescription_gy for file in plans_of_case(request.case, planning)]
        request = replace(request, prescription_gy=max(prescribed, default=0.0) or None)
    if recurrence and dose is not None and request.prescription_gy is None:
        raise InputError(
            "a recurrence cannot be judged without the prescribed dose",
            where="follow-up",
            remedy="give it in Gy with --prescription",
        )
    grid = planning.ct.volume.grid.resampled((settings.spacing_mm,) * 3)
    drawn, other = _masks(planning, grid), _masks(later, None)
    found = run.stage(
        "registration",
        "",
        lambda step: register(
            planning.ct.volume, later.ct.volume, settings, reference_mask=drawn.get(BODY), progress=step
        ),
        keep=False,
    )
    body = np.asarray(drawn[BODY].values) >= 0.5 if BODY in drawn and grid == found.field.grid else None
    quality = registration_quality(found.field, reference_structures=drawn, moving_structures=other, mask=body)
    notes = _notes(planning, later, found, quality)
    mapped = {name: found.field.pull(mask) for name, mask in other.items() if name != BODY}
    place = None
    if recurrence:
        if not mapped[recurrence].values.any():
            raise StructureError("the recurrence lies outside the planning CT", where=recurrence)
        if dose is not None and request.prescription_gy is not None:
            place = _place(mapped[recurrence], dose, request.prescription_gy)
    results = _results(request, found, quality, mapped, dose, recurrence, place, notes)
    run.note(notes)
    run.cite(CITATIONS)
    run.add_provenance(case_sha256=planning.input_sha256, follow_up_sha256=later.input_sha256)
    run.stage(
        "report",
        "",
        lambda _: _report(request, planning, later, found, drawn, other, mapped, dose, recurrence, results, notes),
        keep=False,
    )
    write_json(request.out / "results.json", results)
    return results


def _chosen(later: Case, name: str | None) -> str | None:
    if name is None:
        return None
    structure = later.structures[name]
    if not structure.contours_mm:
        raise StructureError("the recurrence has no contours", where=name, remedy="draw it on the follow-up CT")
    return structure.key


def _dose(request: FollowUp, planning: Case) -> Volume | None:
    if request.doses:
        volumes = [read_rtdose(path) for path in request.doses]
    else:
        files = doses_of_case(request.case, planning)
        plans = [f for f in files if f.summation_type == "PLAN"]
        volumes = [f.dose for f in plans or files]
    if not volumes:
        return None
    grid = min((v.grid for v in volumes), key=lambda g: float(np.prod(g.spacing_mm)))
    return Volume(grid, np.sum([v.resample(grid).values for v in volumes], axis=0, dtype=np.float32))


def _masks(case: Case, grid: Any) -> dict[str, Volume]:
    """Return the masks of all structures with contours, on a grid, or on the CT coarsened to about 2 mm."""
    if grid is None:
        spacing = tuple(max(2.0, s) for s in case.ct.volume.grid.spacing_mm)
        grid = case.ct.volume.grid.resampled((spacing[0], spacing[1], spacing[2]))
    return {s.key: Volume(grid, structure_fractions(s, grid)) for s in case.structures if s.contours_mm}


def _place(recurrence: Volume, dose: Volume, prescription_gy: float) -> dict[str, Any]:
    """Return where the recurrence lies, and whether that holds when the registration errs by 2 mm."""
    here = dose.resample(recurrence.grid)
    found = geometric_failure(np.asarray(recurrence.values), here.values, prescription_gy=prescription_gy)
    error = uncertainty_map(here).values
    places = {
        geometric_failure(
            np.asarray(recurrence.values), np.maximum(here.values + sign * error, 0), prescription_gy=prescription_gy
        ).place
        for sign in (-1, 1)
    }
    return {
        **_plain(found),
        "sure": places == {found.place},
        "places_within_uncertainty": sorted({*places, found.place}),
    }


def _plain(found: GeometricFailure) -> dict[str, Any]:
    return asdict(found)


def _notes(planning: Case, later: Case, found: Registration, quality: RegistrationQuality) -> tuple[Note, ...]:
    notes = [*planning.notes, *later.notes, *found.notes]
    if planning.identity.patient_id != later.identity.patient_id:
        notes.append(
            Note("the patient IDs of the two cases differ; make sure that they are of one patient", "follow-up")
        )
    poor = [name for name, value in quality.dice.items() if value < LIMIT_DICE]
    if poor:
        notes.append(
            Note(
                f"propagated and drawn contours overlap little (Dice below {LIMIT_DICE}): {', '.join(poor)}",
                "registration",
            )
        )
    notes.append(
        Note("no landmarks were given, so the target registration error was not measured", "registration", "info")
    )
    return tuple(dict.fromkeys(notes))


def _results(
    request: FollowUp,
    found: Registration,
    quality: RegistrationQuality,
    mapped: Mapping[str, Volume],
    dose: Volume | None,
    recurrence: str | None,
    place: dict[str, Any] | None,
    notes: tuple[Note, ...],
) -> dict[str, Any]:
    before, rigid, after = found.correlation
    structures = {}
    for name, mask in mapped.items():
        weight = np.asarray(mask.values, np.float64)
        row: dict[str, Any] = {"volume_on_planning_ct_cc": float(weight.sum()) * mask.grid.voxel_cc}
        if dose is not None and weight.sum() > 0:
            row["Dmean_gy"] = float((weight * dose.resample(mask.grid).values).sum() / weight.sum())
        structures[name] = row
    return {
        "title": "Follow-up on the plan",
        "registration": {
            "method": found.settings.method,
            "spacing_mm": found.settings.spacing_mm,
            "convention": "planning CT point + displacement = follow-up CT point (moving_from_reference), LPS mm",
            "rigid_matrix": found.rigid.matrix(),
            "rotation_deg": found.rigid.angles_deg,
            "translation_mm": found.rigid.translation_mm,
            "correlation": {"before": before, "rigid": rigid, "after": after},
            "largest_displacement_mm": float(np.linalg.norm(found.field.displacement_mm, axis=-1).max()),
            "jacobian": asdict(quality.jacobian),
            "dice": dict(quality.dice),
            "uncertainty_mm": TG132_UNCERTAINTY_MM,
            "source": TG132,
        },
        "structures": structures,
        "recurrence": None if recurrence is None else {"structure": recurrence, "geometric": place},
        "prescription_gy": request.prescription_gy,
        "warnings": [note.sentence() for note in notes if note.level == "warning"],
    }


def _report(
    request: FollowUp,
    planning: Case,
    later: Case,
    found: Registration,
    drawn: Mapping[str, Volume],
    other: Mapping[str, Volume],
    mapped: Mapping[str, Volume],
    dose: Volume | None,
    recurrence: str | None,
    results: dict[str, Any],
    notes: tuple[Note, ...],
) -> None:
    ct = planning.ct.volume
    rigid = DisplacementField.of_rigid(found.rigid, found.field.grid)
    aligned = rigid.pull(later.ct.volume, ct.grid.resampled((2.0, 2.0, 3.0)), outside=-1000.0)
    lesions = [n for n in drawn if n.upper().startswith(("GTV", "PTV"))] or [n for n in drawn if n == "Liver"]
    planned = [StructureView(n, drawn[n], "gtv", "#ffffff") for n in lesions]
    shown = [recurrence] if recurrence else [n for n in mapped if n.upper().startswith("GTV")]
    on_plan = [StructureView(f"{n} of the follow-up", mapped[n], "target", "#ff7043") for n in shown]
    on_later = [StructureView(f"{n} of the follow-up", rigid.pull(other[n]), "target", "#ff7043") for n in shown]
    isodoses = []
    if dose is not None and request.prescription_gy is not None:
        isodoses = [
            (dose, request.prescription_gy * percent / 100, f"{percent} % of {request.prescription_gy:g} Gy")
            for percent in (50, 80)
        ]
    body = [StructureView(BODY, drawn[BODY], "body")] if BODY in drawn else []
    view = view_of(ct, [*(on_plan or planned), *body])
    figure = image_pair_figure(
        Picture("Before: planning CT", ct, [*planned, *on_plan], isodoses),
        Picture("After: follow-up CT, rigidly aligned", aligned, on_later, isodoses),
        view,
        window=WINDOW,
        note="Before: follow-up outlines mapped by the deformation",
    )
    facts = results["registration"]
    blocks: list[Block] = [
        KeyValue(
            [
                ("Method", facts["method"]),
                ("Correlation before", text_of(facts["correlation"]["before"], 3)),
                ("after the rigid step", text_of(facts["correlation"]["rigid"], 3)),
                ("at the end", text_of(facts["correlation"]["after"], 3)),
                ("The follow-up lies", shift_text(facts["translation_mm"])),
                ("Rotation about x, y, z", ", ".join(f"{text_of(a, 1)}°" for a in facts["rotation_deg"])),
                ("Largest displacement", f"{text_of(facts['largest_displacement_mm'], 1)} mm"),
                ("Voxels that fold", f"{text_of(100 * facts['jacobian']['folded_fraction'], 2)} %"),
                (
                    "Jacobian, 1st to 99th percentile",
                    "{percentile_1:.2f} to {percentile_99:.2f}".format(**facts["jacobian"]),
                ),
            ]
        ),
        Table(
            [Column("Structure"), Column("Dice", digits=3)],
            [[name, value] for name, value in facts["dice"].items()],
            caption="Contours of the follow-up, propagated, against those drawn on the planning CT",
            note=f"Dice is expected at 0.8 to 0.9 at least; {TG132}. A tumour that changed need not overlap.",
        ),
    ]
    picture = Figure(
        figure,
        caption="The same slices of both CTs, with the same window and scale",
        alt="Planning CT on the left and follow-up CT on the right with outlines of the lesions",
        name="before-after",
    )
    sections = [Section("Before and after", [picture]), Section("Registration", blocks)]
    place = (results["recurrence"] or {}).get("geometric")
    if place:
        sections.insert(0, Section("Recurrence", [_verdict(recurrence or "", place)]))
    if notes:
        sections.append(remarks_section(notes))
    created = datetime.now(UTC).astimezone()
    document = Document(
        title="Follow-up on the plan",
        sections=sections,
        meta=[("Planning CT", planning.pseudonym), ("Made", created)],
    )
    write_report(document, request.out, created)


def _verdict(name: str, place: dict[str, Any]) -> Paragraph:
    sure = (
        "The same holds when the dose is off by a registration error of 2 mm."
        if place["sure"]
        else f"Within a registration error of 2 mm it could be {' or '.join(place['places_within_uncertainty'])}."
    )
    return Paragraph(
        f"{name} is {place['place']}: {100 * place['fraction_high']:.0f} % of its volume lies inside the 80 % isodose, "
        f"{100 * place['fraction_low']:.0f} % inside the 50 % isodose; mean dose {place['mean_gy']:.1f} Gy. {sure}",
        style="lead",
    )
