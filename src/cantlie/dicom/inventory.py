"""What lies in a case: every file with its patient, study, frame of reference and series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.dicom.files import CaseFile, case_files
from cantlie.dicom.values import looks_like_dicom, parse, text, texts, uid_name

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
DICOMDIR = "1.2.840.10008.1.3.10"
_DICOM_NAMES = (".dcm", ".dicom", ".ima")

Role = Literal["used", "found", "ignored"]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One DICOM file and what its header says; ``header`` has all attributes except the pixels.

    ``part`` is the number of its scan where a series holds several, told apart by the attribute ``part_from``.
    """

    file: CaseFile
    header: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    modality: str
    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    frame_uid: str
    part: int | None = None
    part_from: str = ""

    @property
    def patient(self) -> tuple[str, str]:
        """What tells patients apart: the ID, and the name where the ID is empty."""
        return (self.patient_id, "" if self.patient_id else self.patient_name)

    @property
    def description(self) -> str:
        """Series description, or the label of a structure set or plan."""
        return text(self.header, "SeriesDescription") or text(self.header, "StructureSetLabel")


@dataclass(frozen=True, slots=True)
class Ignored:
    """Files that were not used, and why."""

    name: str
    reason: str
    damaged: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Inventory:
    """All files of a case, in order of patient, study, frame of reference, series and file."""

    path: str
    records: tuple[Record, ...]
    ignored: tuple[Ignored, ...] = ()

    def of_class(self, sop_class_uid: str) -> tuple[Record, ...]:
        """Return the records of one SOP class."""
        return tuple(record for record in self.records if record.sop_class_uid == sop_class_uid)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One line of a reading report: a series, or other files of one kind."""

    role: Role
    kind: str
    description: str
    files: int
    study_uid: str = ""
    frame_uid: str = ""
    series_uid: str = ""
    reason: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class ReadingReport:
    """What was found in a case, what of it was used, what was ignored and why, and what is missing."""

    path: str
    rows: tuple[ReportRow, ...]
    missing: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """Return the report as lines of text."""
        table = [
            f"{row.role}: {row.kind}, {row.files} {'file' if row.files == 1 else 'files'}"
            + (f", {row.description!r}" if row.description else "")
            + (f", {row.label}" if row.label else "")
            + (f" ({row.reason})" if row.reason else "")
            for row in self.rows
        ]
        return (*table, *(f"missing: {item}" for item in self.missing))


def scan(path: Path) -> Inventory:
    """List what lies in a folder, nested folders, a zip or a single file.

    Parameters
    ----------
    path
        The case; any mix of DICOM and other files.

    Raises
    ------
    DicomError
        If the path cannot be opened, has no file, or no file is DICOM.
    """
    records: list[Record] = []
    ignored: list[Ignored] = []
    files = case_files(path)
    for file in files:
        try:
            content = file.read()
        except OSError as error:
            ignored.append(Ignored(file.name, f"cannot be read: {error.strerror or error}", damaged=True))
            continue
        if not looks_like_dicom(content):
            ignored.append(_not_dicom(file.name, content))
            continue
        try:
            records.append(_record(file, parse(content, file.name)))
        except DicomError as error:
            ignored.append(Ignored(file.name, error.what, damaged=True))
    if not files:
        raise DicomError(
            "there is no file in the case", where=str(path), remedy="give a folder or a zip of DICOM files"
        )
    if not records:
        reason = Counter(item.reason for item in ignored).most_common(1)[0][0]
        raise DicomError(
            f"none of the {len(files)} files is readable DICOM ({reason})",
            where=str(path),
            remedy="give a folder or a zip with a planning CT and its RTSTRUCT",
        )
    records.sort(
        key=lambda r: (r.patient, r.study_uid, r.frame_uid, r.series_uid, r.sop_class_uid, r.file.name),
    )
    return Inventory(str(path), tuple(records), tuple(ignored))


def _not_dicom(name: str, content: bytes) -> Ignored:
    """Return why a file is not read; one that is named as DICOM was meant to be, so that it counts as damaged."""
    if name.lower().endswith(_DICOM_NAMES):
        return Ignored(name, "named as DICOM, but not DICOM" if content else "an empty file", damaged=True)
    return Ignored(name, "a zip in the case; unpack it" if name.lower().endswith(".zip") else "not DICOM")


def _record(file: CaseFile, header: Dataset) -> Record:
    meta = getattr(header, "file_meta", Dataset())
    sop_class = text(header, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if not sop_class:
        raise DicomError("it does not say what it is (no SOP class)", where=file.name)
    return Record(
        file=file,
        header=header,
        sop_class_uid=sop_class,
        sop_instance_uid=text(header, "SOPInstanceUID") or text(meta, "MediaStorageSOPInstanceUID"),
        modality=text(header, "Modality"),
        patient_id=text(header, "PatientID"),
        patient_name=text(header, "PatientName"),
        study_uid=text(header, "StudyInstanceUID"),
        series_uid=text(header, "SeriesInstanceUID"),
        frame_uid=text(header, "FrameOfReferenceUID"),
    )


def not_a_planning_image(record: Record) -> str:
    """Return why a file is not an image of a planning CT, or an empty string when it is one."""
    if record.sop_class_uid == DICOMDIR:
        return "a DICOMDIR"
    if record.sop_class_uid in ENHANCED_CT:
        return "a multi-frame (enhanced) CT"
    if record.sop_class_uid != CT_IMAGE:
        return f"not a CT image but {uid_name(record.sop_class_uid)}"
    image_type = {value.strip().upper() for value in texts(record.header, "ImageType")}
    if image_type & {"LOCALIZER", "SCOUT", "TOPOGRAM"}:
        return "a localizer"
    if "SECONDARY" in image_type and image_type & {"SCREEN SAVE", "DOSE_INFO", "REPORT", "PROJECTION IMAGE"}:
        return "a secondary image"
    return ""


def rows_of(records: Iterable[Record], role: Role, reason: str = "") -> tuple[ReportRow, ...]:
    """Return a line of the report for each series among records."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        key = (record.study_uid, record.frame_uid, record.series_uid, record.sop_class_uid, record.description)
        groups.setdefault(key, []).append(record)
    return tuple(
        ReportRow(
            role=role,
            kind=group[0].modality or uid_name(sop_class),
            description=description,
            files=len(group),
            study_uid=study,
            frame_uid=frame,
            series_uid=series,
            reason=reason,
        )
        for (study, frame, series, sop_class, description), group in groups.items()
    )
