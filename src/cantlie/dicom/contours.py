"""RTSTRUCT to structures: what can be used of each, and what cannot and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.core.notes import Note
from cantlie.dicom.inventory import Record
from cantlie.dicom.values import decimal_array, integer, items, text
from cantlie.patient.masks import PLANE_TOLERANCE_MM
from cantlie.patient.structures import Structure

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_UNCLOSED = {
    "POINT": "points",
    "OPEN_PLANAR": "open contours",
    "OPEN_NONPLANAR": "open contours",
}


@dataclass(frozen=True, slots=True)
class ImageReferences:
    """The images that a structure set was drawn on."""

    frame_uids: frozenset[str]
    series_uids: frozenset[str]
    image_uids: frozenset[str]


def image_references(record: Record) -> ImageReferences:
    """Return the frames of reference, series and images that an RTSTRUCT names (DICOM PS3.3 C.8.8.5)."""
    frames: set[str] = set()
    series: set[str] = set()
    images: set[str] = set()
    for frame in items(record.header, "ReferencedFrameOfReferenceSequence"):
        frames.add(text(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            for one in items(study, "RTReferencedSeriesSequence"):
                series.add(text(one, "SeriesInstanceUID"))
                images.update(text(i, "ReferencedSOPInstanceUID") for i in items(one, "ContourImageSequence"))
    frames.update(text(roi, "ReferencedFrameOfReferenceUID") for roi in _rois(record))
    frames.add(record.frame_uid)
    return ImageReferences(frozenset(frames - {""}), frozenset(series - {""}), frozenset(images - {""}))


def _rois(record: Record) -> tuple[Dataset, ...]:
    return items(record.header, "StructureSetROISequence")


@dataclass(frozen=True, slots=True, eq=False)
class StructureReading:
    """The structures of an RTSTRUCT, remarks, and the images that carry contours."""

    structures: tuple[Structure, ...]
    notes: tuple[Note, ...]
    contoured_image_uids: dict[str, float]


def read_structures(record: Record, frame_uid: str, slice_spacing_mm: float) -> StructureReading:
    """Read the structures of an RTSTRUCT.

    Closed planar contours are used. Points and open contours are left out with a note. A structure with a contour that
    cannot be used as a mask (not axial, damaged, of another frame of reference) keeps its name but loses all its
    contours, with a note: a part of a structure is worse than none.

    Parameters
    ----------
    record
        The RTSTRUCT.
    frame_uid
        Frame of reference of the CT; structures of another one lose their contours.
    slice_spacing_mm
        Spacing of the CT images.

    Raises
    ------
    DicomError
        If the file has no structure at all.
    """
    notes: list[Note] = []
    structures: list[Structure] = []
    images: dict[str, float] = {}
    drawings = items(record.header, "ROIContourSequence")
    contour_items = {_number(roi, "ReferencedROINumber"): roi for roi in drawings}
    numbers_of_contours = Counter(_number(roi, "ReferencedROINumber") for roi in drawings)
    numbers_of_names = Counter(_number(roi, "ROINumber") for roi in _rois(record))
    observations = {
        _number(roi, "ReferencedROINumber"): roi for roi in items(record.header, "RTROIObservationsSequence")
    }
    for roi in _rois(record):
        roi_number = _number(roi, "ROINumber")
        name = text(roi, "ROIName") or f"ROI {roi_number}"
        drawn = contour_items.get(roi_number)
        reason = ""
        contours: list[NDArray[np.float64]] = []
        remarks: list[str] = []
        own_frame = text(roi, "ReferencedFrameOfReferenceUID")
        if own_frame and frame_uid and own_frame != frame_uid:
            reason = "it was drawn on an image of another frame of reference"
        elif max(numbers_of_names[roi_number], numbers_of_contours[roi_number]) > 1 and drawn is not None:
            reason = f"several structures or contours have its number, {roi_number}"
        elif drawn is not None:
            try:
                contours, remarks, own_images = _contours(drawn, record.file.name)
                images.update(own_images)
            except DicomError as error:
                reason = error.what
        notes += [Note(remark, name) for remark in remarks]
        if reason:
            notes.append(Note(f"not used: {reason}", name))
        elif not contours:
            notes.append(Note("it has no contour", name))
        observation = observations.get(roi_number)
        structures.append(
            Structure(
                name=name,
                contours_mm=tuple(contours),
                number=roi_number,
                dicom_type=text(observation, "RTROIInterpretedType").upper() if observation is not None else "",
                colour_rgb=_colour(drawn),
                slice_spacing_mm=slice_spacing_mm,
            )
        )
    if not structures:
        raise DicomError(
            "the RTSTRUCT has no structure", where=record.file.name, remedy="export it with the contours of the patient"
        )
    return StructureReading(tuple(structures), tuple(notes), images)


def _number(item: Dataset, keyword: str) -> int:
    try:
        return integer(item, keyword, "RTSTRUCT")
    except DicomError:
        return -1


def _colour(drawn: Dataset | None) -> tuple[int, int, int]:
    if drawn is None:
        return 255, 255, 0
    try:
        red, green, blue = (int(np.clip(v, 0, 255)) for v in decimal_array(drawn, "ROIDisplayColor", ""))
        return red, green, blue
    except (DicomError, ValueError):
        return 255, 255, 0


def _contours(drawn: Dataset, where: str) -> tuple[list[NDArray[np.float64]], list[str], dict[str, float]]:
    contours: list[NDArray[np.float64]] = []
    images: dict[str, float] = {}
    left_out: dict[str, int] = {}
    seen: set[bytes] = set()
    for item in items(drawn, "ContourSequence"):
        kind = text(item, "ContourGeometricType").upper().replace(" ", "_")
        values = decimal_array(item, "ContourData", where)
        if values.size % 3:
            raise DicomError("a contour has an incomplete point", where=where)
        points = values.reshape(-1, 3)
        if not kind:
            kind = "CLOSED_PLANAR" if len(points) > 2 else "POINT"
        reason = ""
        if kind in _UNCLOSED:
            reason = f"{_UNCLOSED[kind]} were left out"
        elif kind not in _CLOSED:
            reason = f"contours of unknown type {kind!r} were left out"
        elif len(points) > 1 and np.array_equal(points[0], points[-1]):
            points = points[:-1]
        if not reason and len(points) < 3:
            reason = (
                "empty contours were left out" if not len(points) else "contours of one or two points were left out"
            )
        if not reason and points.tobytes() in seen:
            reason = "contours drawn twice were used once"
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        if np.ptp(points[:, 2]) > 2 * PLANE_TOLERANCE_MM:
            raise DicomError("a contour does not lie in an axial plane", where=where)
        seen.add(points.tobytes())
        contours.append(points)
        for image in items(item, "ContourImageSequence"):
            images[text(image, "ReferencedSOPInstanceUID")] = float(points[0, 2])
    return contours, [f"{count} {reason}" for reason, count in left_out.items()], images
