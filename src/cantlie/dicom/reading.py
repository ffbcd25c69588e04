"""A case from DICOM: the planning CT that the structure set was drawn on, and what else lay in the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cantlie.core.errors import DicomError
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_bytes
from cantlie.dicom.contours import ImageReferences, StructureReading, image_references, read_structures
from cantlie.dicom.ct import read_ct
from cantlie.dicom.inventory import (
    CT_IMAGE,
    ENHANCED_CT,
    RT_STRUCTURE_SET,
    Inventory,
    ReadingReport,
    Record,
    ReportRow,
    not_a_planning_image,
    rows_of,
    scan,
)
from cantlie.dicom.series_label import label_of
from cantlie.dicom.several_scans import scans_of, whole_series
from cantlie.dicom.values import text
from cantlie.patient.body import body_structure
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.masks import gaps_of_structure
from cantlie.patient.names import BODY, AliasTable, aliases_from_toml, built_in_aliases
from cantlie.patient.structures import Structure, StructureSet, with_standard_names

Series = tuple[Record, ...]


def read_case(
    path: Path,
    *,
    aliases: Path | None = None,
    series_uid: str | None = None,
    structure_set: str | None = None,
    patient_id: str | None = None,
) -> Case:
    """Read a planning CT and its structures from a folder, nested folders or a zip.

    Where several CTs lie in the case, the one that the RTSTRUCT refers to is read. Structures get TG-263 names. Without
    a structure of the outline, BODY is found in the CT, with a note.

    Parameters
    ----------
    path
        Folder, zip or single file with any mix of DICOM and other files.
    aliases
        TOML file of further structure names (see ``patient/structure_names.toml``).
    series_uid
        Series instance UID of the CT to read, where the case does not tell.
    structure_set
        Label, file name, SOP or series instance UID of the structure set to read, where there are several.
    patient_id
        The patient to read, where there are several.

    Raises
    ------
    DicomError
        If there is no CT, the choice is not clear, an image is missing or a needed file is damaged.
    StructureError
        If an outline has to be found and no patient is visible.
    AliasError
        If the alias file is wrong.
    """
    case, _ = read_case_with_report(
        path, aliases=aliases, series_uid=series_uid, structure_set=structure_set, patient_id=patient_id
    )
    return case


def read_case_with_report(
    path: Path,
    *,
    aliases: Path | None = None,
    series_uid: str | None = None,
    structure_set: str | None = None,
    patient_id: str | None = None,
) -> tuple[Case, ReadingReport]:
    """Read a case as `read_case` does, and report on every file of it."""
    table = _alias_table(aliases)
    inventory = scan(path)
    notes: list[Note] = []
    series = ct_series(inventory, patient_id)
    drawn = structure_sets(inventory, structure_set, patient_id)
    chosen, structure_record = _choose(inventory, series, drawn, series_uid, structure_set, notes)
    others = [one for one in series if one is not chosen]
    if others:
        notes.append(
            Note(
                f"{len(others)} other CT series in the case {'was' if len(others) == 1 else 'were'} not used",
                where=f"CT {chosen[0].description!r}",
                level="info",
            )
        )
    try:
        ct, ct_notes, hashes = read_ct(chosen)
    except DicomError as error:
        raise _with_damage(error, inventory) from error
    notes += ct_notes
    if structure_record is not None:
        reading = read_structures(structure_record, ct.frame_of_reference_uid, ct.volume.grid.spacing_mm[2])
        _check_images(ct, reading, structure_record, inventory, notes)
        notes += reading.notes
        hashes = (*hashes, sha256_of_bytes(structure_record.file.read()))
        named, name_notes = with_standard_names(reading.structures, table)
        notes += name_notes
        notes += _extent_notes(ct, named)
        structures = StructureSet(
            named,
            label=text(structure_record.header, "StructureSetLabel"),
            sop_instance_uid=structure_record.sop_instance_uid,
        )
    else:
        notes.append(Note("there is no RTSTRUCT, so there are no structures but the outline found in the CT", "case"))
        structures = StructureSet()
    structures = _with_body(ct, structures, notes)
    notes += _damage_notes(inventory)
    header = chosen[0].header
    case = Case(
        ct=ct,
        structures=structures,
        identity=PatientIdentity(
            patient_id=text(header, "PatientID"),
            patient_name=text(header, "PatientName"),
            birth_date=text(header, "PatientBirthDate"),
            sex=text(header, "PatientSex"),
        ),
        label=path.stem if path.is_file() else path.resolve().name,
        notes=tuple(notes),
        input_sha256=sha256_of_bytes("\n".join(hashes).encode()),
    )
    return case, _report(inventory, chosen, structure_record)


def _alias_table(path: Path | None) -> AliasTable:
    if path is None:
        return built_in_aliases()
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DicomError(
            f"the alias file cannot be read: {error}", where=str(path), remedy="give a TOML file with --aliases"
        ) from error
    return aliases_from_toml(content, str(path)).before(built_in_aliases())


def ct_series(inventory: Inventory, patient_id: str | None) -> tuple[Series, ...]:
    """Group the planning images by patient, study, series and frame of reference."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in inventory.records:
        if not not_a_planning_image(record) and patient_id in (None, record.patient_id):
            key = (record.patient, record.study_uid, record.series_uid, record.frame_uid)
            groups.setdefault(key, []).append(record)
    if groups:
        return tuple(scan for group in groups.values() for scan in scans_of(group))
    where = inventory.path
    if patient_id is not None:
        raise DicomError(
            "there is no CT of the patient asked for", where=where, remedy="check the patient ID, or leave it out"
        )
    if any(record.sop_class_uid in ENHANCED_CT for record in inventory.records):
        raise DicomError(
            "the CT is multi-frame (Enhanced CT), which Cantlie does not read",
            where=where,
            remedy="export it as single-frame CT images",
        )
    found = ", ".join(sorted({record.modality or "unknown" for record in inventory.records}))
    raise _with_damage(
        DicomError(
            f"there is no planning CT in the case, only {found}", where=where, remedy="add the axial images of the CT"
        ),
        inventory,
    )


def structure_sets(inventory: Inventory, wanted: str | None, patient_id: str | None) -> Series:
    found = [r for r in inventory.of_class(RT_STRUCTURE_SET) if patient_id in (None, r.patient_id)]
    unique = list({record.sop_instance_uid or record.file.name: record for record in found}.values())
    if wanted is None:
        return tuple(unique)
    matching = [
        record
        for record in unique
        if wanted
        in (
            text(record.header, "StructureSetLabel"),
            text(record.header, "StructureSetName"),
            record.sop_instance_uid,
            record.series_uid,
            record.file.name,
        )
    ]
    if not matching:
        labels = ", ".join(repr(text(record.header, "StructureSetLabel")) for record in unique) or "none"
        raise DicomError(f"there is no structure set {wanted!r}", where=inventory.path, remedy=f"the case has {labels}")
    return tuple(matching)


def refers(references: ImageReferences, record: Record, series: Series) -> bool:
    """Say whether a structure set was drawn on a CT: the same patient, and its images, or its frame of reference."""
    if record.patient != series[0].patient:
        return False
    if references.image_uids & {image.sop_instance_uid for image in series}:
        return not series[0].frame_uid or not references.frame_uids or series[0].frame_uid in references.frame_uids
    if series[0].part is not None and references.image_uids:
        return False
    if references.series_uids:
        return whole_series(series[0].series_uid) in references.series_uids and (
            not references.frame_uids or series[0].frame_uid in references.frame_uids
        )
    return series[0].frame_uid in references.frame_uids


def _choose(
    inventory: Inventory,
    series: tuple[Series, ...],
    drawn: Series,
    series_uid: str | None,
    structure_set: str | None,
    notes: list[Note],
) -> tuple[Series, Record | None]:
    """Choose the CT and the structure set, or say why the choice is not clear."""
    where = inventory.path
    frames: dict[str, set[str]] = {}
    for one in series:
        frames.setdefault(whole_series(one[0].series_uid), set()).add(one[0].frame_uid)
    for uids in frames.values():
        if "" in uids and len(uids) == 2:
            lost = [record.file.name for one in series for record in one if not record.frame_uid]
            raise DicomError(
                f"{len(lost)} of the images of one CT series {'names' if len(lost) == 1 else 'name'} no frame of "
                f"reference, as the others do: {', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}",
                where=where,
                remedy="export or copy them again; they may have been cut off",
            )
        if len(uids) > 1:
            raise DicomError(
                f"the images of one CT series have {len(uids)} frames of reference",
                where=where,
                remedy="keep the images of one scan in the case",
            )
    if series_uid is not None:
        series = tuple(one for one in series if series_uid in (one[0].series_uid, whole_series(one[0].series_uid)))
        if not series:
            raise DicomError(f"there is no CT series {series_uid}", where=where, remedy="leave out --series to see all")
    pairs: list[tuple[Series, Record | None]] = [
        (one, record) for record in drawn for one in series if refers(image_references(record), record, one)
    ]
    if not drawn:
        if any(item.damaged for item in inventory.ignored):
            raise _with_damage(
                DicomError("there is no readable RTSTRUCT", where=where, remedy="export or copy the files again"),
                inventory,
            )
        if len(series) > 1:
            raise _unclear(series, where)
        return series[0], None
    if not pairs:
        pairs = _last_resort(series, drawn, where, notes)
    structure_records = {id(record) for _, record in pairs}
    if len(structure_records) > 1:
        labels = ", ".join(repr(text(r.header, "StructureSetLabel") or r.file.name) for _, r in pairs if r)
        raise DicomError(
            f"the case has {len(structure_records)} structure sets: {labels}",
            where=where,
            remedy="choose one with --structure-set LABEL or FILE",
        )
    if len(pairs) > 1:
        raise _unclear(tuple(one for one, _ in pairs), where)
    return pairs[0]


def _last_resort(
    series: tuple[Series, ...], drawn: Series, where: str, notes: list[Note]
) -> list[tuple[Series, Record | None]]:
    """Match a structure set that names no image, or say why it does not belong to a CT."""
    patients = {one[0].patient for one in series}
    own = [record for record in drawn if record.patient in patients]
    if not own:
        raise DicomError(
            "the RTSTRUCT is of another patient than the CT",
            where=drawn[0].file.name,
            remedy="give the CT and the RTSTRUCT of one patient",
        )
    pairs: list[tuple[Series, Record | None]] = []
    for record in own:
        references = image_references(record)
        mine = [one for one in series if one[0].patient == record.patient]
        if not references.frame_uids and not references.series_uids and len(mine) == 1:
            notes.append(Note("the RTSTRUCT names no image; the only CT of the patient was taken", record.file.name))
            pairs.append((mine[0], record))
    if not pairs:
        raise DicomError(
            "the RTSTRUCT was drawn on another CT: neither its images nor its frame of reference are in the case",
            where=own[0].file.name,
            remedy="add the CT that it was drawn on",
        )
    return pairs


def _unclear(series: tuple[Series, ...], where: str) -> DicomError:
    if len({one[0].patient for one in series}) > 1:
        return DicomError(
            f"the case has CTs of {len({one[0].patient for one in series})} patients",
            where=where,
            remedy="choose one with --patient ID, or give one patient",
        )
    frames = len({one[0].frame_uid for one in series})
    listed = "; ".join(f"{one[0].series_uid} ({one[0].description or 'no name'}, {len(one)} images)" for one in series)
    return DicomError(
        f"the case has {len(series)} CTs with {frames} {'frame' if frames == 1 else 'frames'} of reference, and no "
        "RTSTRUCT tells which one to use",
        where=where,
        remedy=f"choose one with --series UID: {listed}",
    )


def _with_damage(error: DicomError, inventory: Inventory) -> DicomError:
    damaged = [item for item in inventory.ignored if item.damaged]
    if not damaged:
        return error
    names = ", ".join(item.name for item in damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
    return DicomError(
        f"{error.what}; damaged or unreadable: {names} ({damaged[0].reason})", where=error.where, remedy=error.remedy
    )


def _damage_notes(inventory: Inventory) -> list[Note]:
    return [Note(f"not used: {item.reason}", item.name) for item in inventory.ignored if item.damaged]


def _check_images(ct: Ct, reading: StructureReading, record: Record, inventory: Inventory, notes: list[Note]) -> None:
    """Refuse a CT that lacks images on which contours were drawn."""
    present = {image.sop_instance_uid for image in ct.slices}
    lost = sorted(z for uid, z in reading.contoured_image_uids.items() if uid not in present)
    if not lost:
        return
    if len(lost) == len(reading.contoured_image_uids):
        notes.append(Note("none of the images named by the contours is in the CT; they were placed by z", "RTSTRUCT"))
        return
    listed = ", ".join(f"{z:g}" for z in lost[:5]) + (" ..." if len(lost) > 5 else "")
    raise _with_damage(
        DicomError(
            f"{len(lost)} CT {'image' if len(lost) == 1 else 'images'} with contours missing, at z = {listed} mm",
            where=record.file.name,
            remedy="add the missing images to the case",
        ),
        inventory,
    )


def _extent_notes(ct: Ct, structures: Sequence[Structure]) -> list[Note]:
    notes = []
    lower, upper = ct.volume.grid.lower_mm, ct.volume.grid.upper_mm
    for structure in structures:
        if not structure.contours_mm:
            continue
        points = np.concatenate(structure.contours_mm)
        if (points.min(axis=0) < lower - 0.5).any() or (points.max(axis=0) > upper + 0.5).any():
            notes.append(Note("it reaches beyond the CT and is cut there", structure.name))
        for low, high in gaps_of_structure(structure, ct.volume.grid.spacing_mm[2]):
            notes.append(
                Note(f"no contours between z = {low:g} and {high:g} mm; taken as a gap", structure.name, "info")
            )
    return notes


def _with_body(ct: Ct, structures: StructureSet, notes: list[Note]) -> StructureSet:
    """Add the outline found in the CT where there is none with contours."""
    if BODY in structures and structures[BODY].contours_mm:
        return structures
    found = body_structure(ct.volume, number=max((s.number for s in structures), default=0) + 1)
    notes.append(Note("the structure set has no outline of the patient; it was found in the CT at -350 HU", BODY))
    rest = tuple(
        replace(structure, standard_name=None, name=f"{structure.name} (empty)") if structure.key == BODY else structure
        for structure in structures
    )
    return StructureSet((*rest, found), label=structures.label, sop_instance_uid=structures.sop_instance_uid)


def _report(inventory: Inventory, chosen: Series, structure_record: Record | None) -> ReadingReport:
    rows = list(rows_of(chosen, "used"))
    missing = []
    used = {record.file.name for record in chosen}
    if structure_record is not None:
        rows += rows_of([structure_record], "used")
        used.add(structure_record.file.name)
    else:
        missing.append("an RTSTRUCT")
    reasons: dict[str, list[Record]] = {}
    for record in inventory.records:
        if record.file.name in used:
            continue
        if record.modality in ("RTPLAN", "RTDOSE"):
            reasons.setdefault("", []).append(record)
        elif record.sop_class_uid == RT_STRUCTURE_SET:
            reasons.setdefault("another structure set", []).append(record)
        else:
            same = record.series_uid == whole_series(chosen[0].series_uid) and chosen[0].part is not None
            other = "another scan of the series" if same else "another CT series"
            reasons.setdefault(not_a_planning_image(record) or other, []).append(record)
    for reason, records in reasons.items():
        rows += rows_of(records, "ignored" if reason else "found", reason)
    others: dict[str, list[str]] = {}
    for item in inventory.ignored:
        others.setdefault(item.reason, []).append(item.name)
    rows += [ReportRow("ignored", "other file", "", len(names), reason=r) for r, names in others.items()]
    labels = {r.series_uid: str(label_of(r)) for r in inventory.records if r.sop_class_uid == CT_IMAGE}
    labels[chosen[0].series_uid] = str(label_of(chosen[0]))
    rows = [replace(row, label=labels.get(row.series_uid, "") if row.kind == "CT" else "") for row in rows]
    return ReadingReport(inventory.path, tuple(rows), tuple(missing))
