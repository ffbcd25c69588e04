"""What all exported DICOM objects share: patient, study, series, equipment, identifiers, and writing the file."""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from cantlie.core.errors import CantlieError, DicomError
from cantlie.core.files import write_bytes
from cantlie.dicom.values import quiet
from cantlie.patient.case import Case

RESEARCH_USE = "Research use only"
_DS_LENGTH = 16


def uid_of(*parts: str | bytes) -> str:
    """Return a UID below the root 2.25 that depends on nothing but its parts: the same content gives the same UID.

    The number is a version 5 UUID made from the SHA-256 of the parts (ITU-T X.667; DICOM PS3.5 B.2).
    """
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return f"2.25.{uuid.UUID(bytes=digest.digest()[:16], version=5).int}"


def decimal_string(value: float) -> str:
    """Return a number as a DICOM decimal string: exact where 16 characters suffice, else as near as they allow."""
    number = float(value)
    if not np.isfinite(number):
        raise DicomError(f"a value is not finite: {number}", remedy="report this as a fault of Cantlie")
    text = repr(number)
    text = text[:-2] if text.endswith(".0") else text
    if len(text) <= _DS_LENGTH:
        return "0" if text == "-0" else text
    for digits in range(_DS_LENGTH, 0, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= _DS_LENGTH:
            return text
    raise DicomError(f"a value cannot be written: {number}")


def decimal_strings(values: ArrayLike) -> str:
    """Return numbers as one multi-valued decimal string."""
    return "\\".join(decimal_string(value) for value in np.asarray(values, dtype=np.float64).reshape(-1).tolist())


def short(text: str, length: int) -> str:
    """Cut a text to the length that its attribute allows, without the sign that separates values."""
    return text.replace("\\", "/").strip()[:length].strip()


def sequence(*items: Dataset) -> Sequence:
    """Return a sequence of items."""
    return Sequence(list(items))


def item(**attributes: Any) -> Dataset:
    """Return a sequence item with attributes by keyword."""
    dataset = Dataset()
    with quiet():
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return dataset


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return a reference to another DICOM object."""
    return item(ReferencedSOPClassUID=sop_class_uid, ReferencedSOPInstanceUID=sop_instance_uid)


def new_object(
    case: Case,
    sop_class_uid: str,
    modality: str,
    sop_instance_uid: str,
    *,
    description: str,
    series_number: int,
    created: datetime | None = None,
) -> Dataset:
    """Begin a DICOM object of the case: SOP common, patient, study, series, equipment and frame of reference modules.

    Parameters
    ----------
    case
        Patient, study and frame of reference are those of its CT.
    sop_class_uid, modality, sop_instance_uid
        What the object is.
    description
        Series description; "Research use only" is added.
    series_number
        Series number; the series has one object.
    created
        Date and time of the object. Without it those of the CT study are repeated, so that the same input gives the
        same file; when a run was made stands in its run.json.
    """
    date, time = date_and_time(case, created)
    return item(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=sop_class_uid,
        SOPInstanceUID=sop_instance_uid,
        InstanceCreationDate=date,
        InstanceCreationTime=time,
        StudyDate=_date(case.ct.study_date),
        StudyTime=_time(case.ct.study_time),
        SeriesDate=date,
        SeriesTime=time,
        AccessionNumber="",
        Modality=modality,
        Manufacturer="Cantlie",
        ManufacturerModelName="Cantlie",
        SoftwareVersions=metadata.version("cantlie"),
        ReferringPhysicianName="",
        OperatorsName="",
        SeriesDescription=short(f"{RESEARCH_USE}: {description}", 64),
        PatientName=case.identity.patient_name,
        PatientID=case.identity.patient_id,
        PatientBirthDate=_date(case.identity.birth_date),
        PatientSex=case.identity.sex if case.identity.sex in ("M", "F", "O") else "",
        StudyInstanceUID=case.ct.study_instance_uid or uid_of("study", case.ct.series_instance_uid),
        SeriesInstanceUID=uid_of("series", sop_instance_uid),
        StudyID=short(case.ct.study_id, 16),
        SeriesNumber=series_number,
        InstanceNumber=1,
        FrameOfReferenceUID=frame_uid(case),
        PositionReferenceIndicator="",
    )


def frame_uid(case: Case) -> str:
    """Return the frame of reference of a case; one that follows its CT series where the CT names none."""
    return case.ct.frame_of_reference_uid or uid_of("frame of reference", case.ct.series_instance_uid)


def date_and_time(case: Case, created: datetime | None) -> tuple[str, str]:
    """Return date and time of an exported object as DICOM writes them."""
    if created is not None:
        return created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    return _date(case.ct.study_date) or "19700101", _time(case.ct.study_time) or "000000"


def _date(text: str) -> str:
    """Return a date as DICOM allows it, or nothing where the CT has it in another form."""
    return text if re.fullmatch(r"\d{8}", text) else ""


def _time(text: str) -> str:
    return text if re.fullmatch(r"\d{6}(\.\d{1,6})?", text) else ""


def write_object(dataset: Dataset, path: Path) -> str:
    """Write a DICOM object atomically as Explicit VR Little Endian and return its SOP instance UID.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid_of("Cantlie", "implementation")
    meta.ImplementationVersionName = short(f"CANTLIE_{metadata.version('cantlie')}", 16)
    dataset.file_meta = meta
    stream = io.BytesIO()
    try:
        with quiet():
            dcmwrite(stream, dataset, enforce_file_format=True)
    except CantlieError:
        raise
    except Exception as error:
        raise DicomError(
            f"the DICOM object cannot be written: {error}", where=str(path), remedy="report this as a fault of Cantlie"
        ) from error
    write_bytes(path, stream.getvalue())
    return str(dataset.SOPInstanceUID)


def digest(*parts: object) -> bytes:
    """Return the SHA-256 of arrays and plain values, for identifiers that follow the content."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).tobytes())
        else:
            total.update(repr(part).encode() + b"\0")
    return total.digest()
