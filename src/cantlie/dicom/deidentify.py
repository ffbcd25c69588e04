"""De-identification of DICOM for sharing, after the Basic Profile of DICOM PS3.15 Annex E.

What can hold words of a person is dropped unless it is listed here, so that an attribute nobody thought of goes too:
texts, names, private elements, binary data other than pixels and vector fields, overlays, pictures of screens.
Identifiers and UIDs become keyed ones, the same in all files of one key. Dates move by a number of days of each patient
(Retain Longitudinal Temporal Information with Modified Dates), times stay; sex, age (at most 90), size and weight stay
(Retain Patient Characteristics). What stays as text is searched for the patient's names and numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import metadata
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from cantlie.cohort.deidentify import check_folders, days_back, secret_of
from cantlie.core.errors import DicomError
from cantlie.core.files import write_bytes
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.dicom.inventory import Record, not_a_planning_image, scan
from cantlie.dicom.values import parse, quiet, text, texts

_MODALITIES = ("CT", "MR", "PT", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTIMAGE", "RTRECORD", "REG")
_NUMBERS = frozenset({"AT", "CS", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_BULK = frozenset({"PixelData", "FloatPixelData", "DoublePixelData", "VectorGridData"})
_TEXTS = frozenset(
    {"BeamName", "CodeMeaning", "CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "ContrastBolusAgent",
     "ConvolutionKernel", "DoseReferenceDescription", "FluenceModeID", "Manufacturer", "ManufacturerModelName",
     "RescaleType", "ROIName", "RTPlanLabel", "SeriesDescription", "StructureSetLabel"}
)  # fmt: skip
_EMPTIED = frozenset(
    {"AccessionNumber", "FixationDeviceLabel", "OperatorsName", "PatientBirthDate", "PositionReferenceIndicator",
     "ReferringPhysicianName", "ReviewerName", "ROIInterpreter", "StudyID"}
)  # fmt: skip
_IDENTITY = ("PatientName", "PatientID", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName",
             "PatientMotherBirthName", "AccessionNumber", "ReferringPhysicianName", "InstitutionName",
             "PerformingPhysicianName", "OperatorsName")  # fmt: skip
_CODES = (("113100", "Basic Application Confidentiality Profile"),
          ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
          ("113108", "Retain Patient Characteristics Option"))  # fmt: skip
_OLDEST_YEARS = 90
_LONG_WORD = 4


@dataclass(frozen=True, slots=True)
class DeidentifiedDicom:
    """What was written: files by pseudonym, the file of the key (None if it was thrown away), and what to know."""

    files: dict[str, int]
    key_file: Path | None
    notes: tuple[Note, ...]


def deidentify_dicom(
    data: Path, out: Path, *, key_file: Path | None = None, progress: Progress = silent
) -> DeidentifiedDicom:
    """Write the DICOM files of a folder or zip again for sharing, a folder for each patient.

    Parameters
    ----------
    data
        Folder or zip of any DICOM.
    out
        New or empty folder.
    key_file
        As in `cohort.deidentify.deidentify_folder`: one key gives the same pseudonyms, UIDs and shifts again.

    Raises
    ------
    DicomError, InputError
        If nothing can be read or shared, the output would mix with other files, or words of a patient's identity would
        stay.
    """
    check_folders(data, out, key_file)
    inventory = scan(data)
    keeper = _Keeper(secret_of(key_file))
    counts: dict[str, int] = {}
    numbers: dict[tuple[str, str], int] = {}
    left: dict[str, int] = {}
    for item in inventory.ignored:
        left[item.reason] = left.get(item.reason, 0) + 1
    for n, record in enumerate(inventory.records):
        progress(n / len(inventory.records), f"file {n + 1} of {len(inventory.records)}")
        reason = _why_not(record)
        if reason:
            left[reason] = left.get(reason, 0) + 1
            continue
        name = keeper.pseudonym(record.patient[0] or record.patient[1])
        number = numbers[name, record.modality] = numbers.get((name, record.modality), 0) + 1
        content = keeper.shared(parse(record.file.read(), record.file.name, pixels=True), name, record.file.name)
        write_bytes(out / name / f"{record.modality}_{number:04d}.dcm", content)
        counts[name] = counts.get(name, 0) + 1
    if not counts:
        raise DicomError(
            "no file of the folder can be shared", where=str(data), remedy="give CT, RTSTRUCT, RTPLAN, RTDOSE"
        )
    notes = [Note(f"{count} files left out: {reason}", "DICOM") for reason, count in sorted(left.items())]
    if keeper.replaced:
        found = ", ".join(sorted(keeper.replaced))
        notes.append(Note(f"texts with words of the patient's identity were replaced: {found}", "DICOM"))
    notes.append(Note("look at the pictures and at names of structures and beams before sharing", "DICOM"))
    return DeidentifiedDicom(counts, key_file, tuple(notes))


def _why_not(record: Record) -> str:
    if record.modality not in _MODALITIES:
        return f"{record.modality or 'unknown modality'}, which is not shared"
    if text(record.header, "BurnedInAnnotation").upper() == "YES":
        return "a picture with words burned in"
    if record.modality == "CT" and "secondary" in not_a_planning_image(record):
        return "a picture of a screen"
    if "SECONDARY" in texts(record.header, "ImageType") and record.sop_class_uid.startswith(
        "1.2.840.10008.5.1.4.1.1.7"
    ):
        return "a picture of a screen"
    return ""


class _Keeper:
    """Holds the key: pseudonyms, UIDs and shifts come from it and from nothing else."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.replaced: set[str] = set()

    def _digest(self, value: str) -> bytes:
        return hmac.new(self.secret, value.encode(), hashlib.sha256).digest()

    def pseudonym(self, patient: str) -> str:
        return f"P{self._digest(patient).hex()[:8].upper()}"

    def uid(self, uid: str) -> str:
        if not uid or uid.startswith("1.2.840.10008."):
            return uid
        return f"2.25.{uuid.UUID(bytes=self._digest(uid)[:16], version=5).int}"

    def shared(self, data: Dataset, name: str, where: str) -> bytes:
        """Return the file as it may be shared."""
        with quiet():
            identity = _identity(data)
            days = days_back(self._digest(text(data, "PatientID") or text(data, "PatientName")))
            self._clean(data, days, identity)
            data.PatientName = data.PatientID = name
            data.PatientIdentityRemoved = "YES"
            data.DeidentificationMethod = f"Cantlie {metadata.version('cantlie')}, DICOM PS3.15 Annex E"
            data.DeidentificationMethodCodeSequence = Sequence([_code(*code) for code in _CODES])
            data.LongitudinalTemporalInformationModified = "MODIFIED"
            _check(data, identity, where)
            syntax = data.file_meta.TransferSyntaxUID
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = syntax
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            stream = io.BytesIO()
            dcmwrite(stream, data, enforce_file_format=True)
        return stream.getvalue()

    def _clean(self, data: Dataset, days: int, identity: frozenset[str]) -> None:
        for tag in list(data.keys()):
            if tag.is_private or (tag.group & 0xFF01) == 0x6000 or (tag.group & 0xFF01) == 0x5000:
                del data[tag]
                continue
            element = data[tag]
            if element.VR == "SQ":
                if element.keyword == "IconImageSequence" or not element.value:
                    del data[tag]
                    continue
                for one in element.value:
                    self._clean(one, days, identity)
            elif element.keyword in _EMPTIED:
                element.value = None if element.VR == "DA" else ""
            elif not self._kept(element, days, identity):
                del data[tag]

    def _kept(self, element: DataElement, days: int, identity: frozenset[str]) -> bool:
        """Say whether an element stays; change what is not dropped."""
        if element.VR in _NUMBERS or element.VR == "TM" or element.keyword in _BULK:
            return True
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "UI":
            new = [self.uid(str(value)) for value in values]
        elif element.VR in ("DA", "DT") and not element.keyword.startswith(("Patient", "LastMenstrual")):
            new = [_earlier(str(value), days) for value in values]
        elif element.VR == "AS":
            new = [_age(str(value)) for value in values]
        elif element.keyword == "TreatmentMachineName":
            new = [f"M{self._digest(str(value)).hex()[:6].upper()}" if value else "" for value in values]
        elif element.keyword in _TEXTS:
            new = [self._plain(str(value or ""), element.keyword, identity) for value in values]
        else:
            return False
        element.value = new if len(new) > 1 else new[0]
        return True

    def _plain(self, value: str, keyword: str, identity: frozenset[str]) -> str:
        if _tells(value, identity):
            self.replaced.add(keyword)
            return "REMOVED"
        return value


def _words(value: str) -> frozenset[str]:
    return frozenset(word for word in re.split(r"[\W_]+", value.casefold()) if len(word) > 2)


def _tells(value: str, identity: frozenset[str]) -> bool:
    """Say whether a text holds a word of the identity, long ones also as a part of another word."""
    return bool(identity & _words(value)) or any(len(w) > _LONG_WORD and w in value.casefold() for w in identity)


def _identity(data: Dataset) -> frozenset[str]:
    """Return the words and numbers that tell who the patient is."""
    found: set[str] = set()
    for keyword in _IDENTITY:
        found |= _words(text(data, keyword).replace("^", " ").replace("=", " "))
    return frozenset(found)


def _earlier(value: str, days: int) -> str:
    """Return a DICOM date, or date and time, some days earlier; empty where it is none."""
    try:
        day = date(int(value[:4]), int(value[4:6]), int(value[6:8])) - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}{value[8:]}"


def _age(value: str) -> str:
    if value.endswith("Y") and value[:-1].isdigit() and int(value[:-1]) > _OLDEST_YEARS - 1:
        return f"{_OLDEST_YEARS:03d}Y"
    return value


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _check(data: Dataset, identity: frozenset[str], where: str) -> None:
    """Refuse a file in which a word of the patient's identity is left."""
    for element in data.iterall():
        if element.VR in ("SQ", "UI", "DS", "IS", "TM", "DA", "DT") or element.keyword in _BULK:
            continue
        if element.VR not in _NUMBERS and _tells(str(element.value), identity):
            raise DicomError(
                "a word of the patient's identity is left in it",
                where=f"{where}, {element.keyword}",
                remedy="report this, and do not share the file",
            )
