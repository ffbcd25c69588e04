"""RTSTRUCT: structures that Cantlie made, and those of the patient, for other systems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from cantlie.core.errors import DicomError
from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.dicom.inventory import CT_IMAGE, RT_STRUCTURE_SET
from cantlie.dicom.writing import (
    date_and_time,
    decimal_strings,
    digest,
    frame_uid,
    item,
    new_object,
    reference,
    sequence,
    short,
    uid_of,
    write_object,
)
from cantlie.patient.case import Case
from cantlie.patient.structures import Structure

_CONTOUR_DATA = Tag(0x3006, 0x0050)
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management (retired), which PS3.3 C.8.8.5 asks for
_TYPES = (
    "EXTERNAL,PTV,CTV,GTV,TREATED_VOLUME,IRRAD_VOLUME,BOLUS,AVOIDANCE,ORGAN,MARKER,REGISTRATION,ISOCENTER,"
    "CONTRAST_AGENT,CAVITY,BRACHY_CHANNEL,BRACHY_ACCESSORY,BRACHY_SRC_APP,BRACHY_CHNL_SHLD,SUPPORT,FIXATION,"
    "DOSE_REGION,CONTROL,DOSE_MEASUREMENT,DEVICE"
)


def structure_set_uid(case: Case, structures: Sequence[Structure]) -> str:
    """Return the SOP instance UID that a structure set with these structures gets."""
    parts = [
        digest(s.name, s.dicom_type, s.number, s.colour_rgb, *(np.asarray(c, np.float64) for c in s.contours_mm))
        for s in structures
    ]
    return uid_of("rtstruct", case.ct.series_instance_uid, case.structures.sop_instance_uid, *parts)


def write_rtstruct(
    case: Case,
    new_structures: Iterable[Structure],
    path: Path,
    *,
    include_original: bool = True,
    label: str = "Cantlie",
    created: datetime | None = None,
) -> str:
    """Write an RTSTRUCT with new structures, by default after those of the case.

    Parameters
    ----------
    case
        The case; the file refers to its CT images and frame of reference.
    new_structures
        Structures that Cantlie made (targets), with contours in LPS mm. Numbers are given anew.
    path
        The file to write.
    include_original
        Whether the structures of the case are repeated in front; a new one takes the place of one of the same name.
    label
        Structure set label, at most 16 characters.
    created
        Date and time of the file; without it those of the CT study (see `writing.new_object`).

    Returns
    -------
    str
        SOP instance UID, which depends only on the case and the structures.

    Raises
    ------
    DicomError
        If there is nothing to write.
    OutputError
        If the file cannot be written.
    """
    added = list(new_structures)
    names = {structure.name for structure in added}
    original = [s for s in case.structures if s.name not in names] if include_original else []
    structures = original + added
    if not structures:
        raise DicomError("there is no structure to write", where=str(path))
    uid = structure_set_uid(case, structures)
    dataset = new_object(
        case, RT_STRUCTURE_SET, "RTSTRUCT", uid, description=label, series_number=9001, created=created
    )
    dataset.StructureSetLabel = short(label, 16) or "Cantlie"
    dataset.StructureSetName = short(label, 64)
    dataset.StructureSetDescription = RESEARCH_USE_ONLY
    dataset.StructureSetDate, dataset.StructureSetTime = date_and_time(case, created)
    frame = frame_uid(case)
    images = [reference(CT_IMAGE, image.sop_instance_uid) for image in case.ct.slices]
    series = item(SeriesInstanceUID=case.ct.series_instance_uid, ContourImageSequence=sequence(*images))
    study = reference(_STUDY_CLASS, dataset.StudyInstanceUID)
    study.RTReferencedSeriesSequence = sequence(series)
    referenced = item(FrameOfReferenceUID=frame)
    if images:
        referenced.RTReferencedStudySequence = sequence(study)
    dataset.ReferencedFrameOfReferenceSequence = sequence(referenced)
    numbers = range(1, len(structures) + 1)
    dataset.StructureSetROISequence = sequence(
        *(
            item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=frame,
                ROIName=short(structure.name, 64),
                ROIGenerationAlgorithm="" if structure in original else "AUTOMATIC",
            )
            for number, structure in zip(numbers, structures, strict=True)
        )
    )
    z_mm = np.array([image.z_mm for image in case.ct.slices])
    dataset.ROIContourSequence = sequence(
        *(_contours(case, s, n, z_mm) for n, s in zip(numbers, structures, strict=True))
    )
    dataset.RTROIObservationsSequence = sequence(
        *(
            item(
                ObservationNumber=number,
                ReferencedROINumber=number,
                RTROIInterpretedType=structure.dicom_type if structure.dicom_type in _TYPES.split(",") else "",
                ROIInterpreter="",
            )
            for number, structure in zip(numbers, structures, strict=True)
        )
    )
    dataset.ApprovalStatus = "UNAPPROVED"
    return write_object(dataset, path)


def _contours(
    case: Case, structure: Structure, number: int, z_mm: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> Dataset:
    drawn = item(ROIDisplayColor=list(structure.colour_rgb))
    contours = []
    for points in structure.contours_mm:
        contour = Dataset()
        if z_mm.size:
            nearest = int(np.argmin(np.abs(z_mm - points[0, 2])))
            if abs(z_mm[nearest] - points[0, 2]) < 0.01:
                uid = case.ct.slices[nearest].sop_instance_uid
                contour.ContourImageSequence = sequence(reference(CT_IMAGE, uid))
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(points)
        contour[_CONTOUR_DATA] = DataElement(_CONTOUR_DATA, "DS", decimal_strings(points), already_converted=True)
        contours.append(contour)
    if contours:
        drawn.ContourSequence = sequence(*contours)
    drawn.ReferencedROINumber = number
    return drawn
