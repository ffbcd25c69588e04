"""CT images to one volume in HU on an LPS-aligned grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.volume import Volume
from cantlie.dicom.inventory import Record
from cantlie.dicom.orientation import AxialAxes, axial_axes, evenly_spaced
from cantlie.dicom.pixels import stored_values
from cantlie.dicom.values import integer, is_missing, number, numbers, parse, text
from cantlie.patient.case import Ct, ImageSlice

PADDING_HU = -1024.0
_POSITION_MM = 0.01
_UNEVEN = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Where one image lies: in-plane axes and spacings, corner position."""

    record: Record
    rows: int
    columns: int
    axes: AxialAxes
    row_spacing_mm: float
    column_spacing_mm: float
    corner_mm: NDArray[np.float64]

    @property
    def layout(self) -> tuple[object, ...]:
        """What all images of a volume share."""
        return (
            self.rows,
            self.columns,
            self.axes,
            round(self.row_spacing_mm, 4),
            round(self.column_spacing_mm, 4),
        )


def plane_of(record: Record) -> Plane:
    """Read the geometry of one image (DICOM PS3.3 C.7.6.2).

    Raises
    ------
    DicomError
        If an attribute is missing or wrong, or the image is not axial (oblique, tilted gantry, coronal, sagittal).
    """
    where, header = record.file.name, record.header
    spacing = numbers(header, "PixelSpacing", 2, where)
    if not (spacing > 0).all():
        raise DicomError(
            f"PixelSpacing must be positive, not {spacing.tolist()}", where=where, remedy="export it again"
        )
    return Plane(
        record=record,
        rows=integer(header, "Rows", where),
        columns=integer(header, "Columns", where),
        axes=axial_axes(numbers(header, "ImageOrientationPatient", 6, where), where),
        row_spacing_mm=float(spacing[0]),
        column_spacing_mm=float(spacing[1]),
        corner_mm=numbers(header, "ImagePositionPatient", 3, where),
    )


def read_ct(records: Sequence[Record]) -> tuple[Ct, tuple[Note, ...], tuple[str, ...]]:
    """Read the images of one CT series.

    Rescale slope and intercept are applied image by image; padding and whatever lies below -1024 HU become -1024 HU.
    Images of any patient position are turned to the LPS order of `Grid`. Images twice in the case count once. Unevenly
    spaced images are interpolated to an even spacing, with a note, unless an image is missing.

    Parameters
    ----------
    records
        The images of one series and one frame of reference.

    Returns
    -------
    ct, notes, hashes
        The CT, remarks, and the SHA-256 of every file used, in order of z.

    Raises
    ------
    DicomError
        If an image is missing, damaged, tilted or does not fit the others.
    """
    notes: list[Note] = []
    planes = _one_of_each(sorted((plane_of(record) for record in records), key=lambda plane: plane.corner_mm[2]), notes)
    first = planes[0]
    for plane in planes:
        if plane.layout != first.layout:
            raise DicomError(
                "two images of the CT series differ in size, spacing or orientation",
                where=f"{first.record.file.name} and {plane.record.file.name}",
                remedy="keep one reconstruction in the case",
            )
        if np.abs(plane.corner_mm[:2] - first.corner_mm[:2]).max() > max(_POSITION_MM, 0.02 * first.row_spacing_mm):
            raise DicomError(
                "two images of the CT series are shifted in the plane (a tilted gantry or two scans)",
                where=f"{first.record.file.name} and {plane.record.file.name}",
                remedy="use axial images without gantry tilt",
            )
    z_mm = np.array([plane.corner_mm[2] for plane in planes])
    spacing_mm = _spacing_mm(planes, z_mm)
    slabs: list[NDArray[np.float32]] = []
    hashes: list[str] = []
    for plane in planes:
        content = plane.record.file.read()
        hashes.append(sha256_of_bytes(content))
        slabs.append(plane.axes.turned(_hounsfield(content, plane, notes)))
    values = np.stack(slabs)
    if (np.abs(np.diff(z_mm) - spacing_mm) > max(_POSITION_MM, _UNEVEN * spacing_mm)).any():
        values, z_mm = evenly_spaced(values, z_mm, spacing_mm)
        notes.append(
            Note(f"the CT images are unevenly spaced; they were interpolated to {spacing_mm:g} mm", where="CT")
        )
    (x, y), (dx, dy) = first.axes.origin_and_spacing_mm(
        first.corner_mm, (first.row_spacing_mm, first.column_spacing_mm), (first.rows, first.columns)
    )
    grid = Grid(values.shape, (dx, dy, float(spacing_mm)), (x, y, float(z_mm[0])))
    header = first.record.header
    position = text(header, "PatientPosition").upper()
    if not position:
        notes.append(Note("the CT does not say how the patient lies; head first supine (HFS) is assumed", "CT"))
    ct = Ct(
        volume=Volume(grid, values),
        patient_position=position or "HFS",
        study_instance_uid=first.record.study_uid,
        series_instance_uid=text(header, "SeriesInstanceUID") or first.record.series_uid,
        frame_of_reference_uid=first.record.frame_uid,
        slices=tuple(ImageSlice(plane.record.sop_instance_uid, float(plane.corner_mm[2])) for plane in planes),
        study_id=text(header, "StudyID"),
        study_date=text(header, "StudyDate"),
        study_time=text(header, "StudyTime"),
        description=text(header, "SeriesDescription"),
    )
    return ct, tuple(dict.fromkeys(notes)), tuple(hashes)


def _one_of_each(planes: list[Plane], notes: list[Note]) -> list[Plane]:
    kept: list[Plane] = []
    doubles = 0
    for plane in planes:
        if kept and abs(plane.corner_mm[2] - kept[-1].corner_mm[2]) < _POSITION_MM:
            first = kept[-1].record
            same = first.sop_instance_uid and first.sop_instance_uid == plane.record.sop_instance_uid
            if not same and _pixel_bytes(first) != _pixel_bytes(plane.record):
                raise DicomError(
                    f"two different images of the CT series lie at z = {plane.corner_mm[2]:g} mm",
                    where=f"{first.file.name} and {plane.record.file.name}",
                    remedy="keep one phase or reconstruction in the case",
                )
            doubles += 1
            continue
        kept.append(plane)
    if doubles:
        notes.append(Note(f"{doubles} CT images are in the case twice and were read once", where="CT", level="info"))
    if len(kept) < 2:
        raise DicomError(
            "the CT has only one image",
            where=kept[0].record.file.name,
            remedy="give the whole series of the planning CT",
        )
    return kept


def _pixel_bytes(record: Record) -> bytes:
    return bytes(parse(record.file.read(), record.file.name, pixels=True).get("PixelData", b""))


def _instance_number(record: Record) -> int | None:
    try:
        return integer(record.header, "InstanceNumber", record.file.name)
    except DicomError:
        return None


def _spacing_mm(planes: list[Plane], z_mm: NDArray[np.float64]) -> float:
    """Return the spacing of the images, or say which one is missing.

    An image is missing where a gap is more than 1.5 times both its neighbours, or where it is a multiple of the usual
    gap and the instance numbers leave out just as many.
    """
    gaps = np.diff(z_mm)
    usual = float(np.median(gaps))
    before = np.concatenate([[np.inf], gaps[:-1]]) if len(gaps) > 1 else gaps
    after = np.concatenate([gaps[1:], [np.inf]]) if len(gaps) > 1 else gaps
    before[0], after[-1] = after[0], before[-1]
    numbered = [_instance_number(plane.record) for plane in planes]
    for n, gap in enumerate(gaps):
        times = round(gap / usual)
        one, two = numbered[n], numbered[n + 1]
        skipped = one is not None and two is not None and abs(two - one) == times
        if times >= 2 and ((gap > 1.5 * before[n] and gap > 1.5 * after[n]) or skipped):
            count = times - 1
            raise DicomError(
                f"{'a CT image is' if count == 1 else f'{count} CT images are'} missing between z = {z_mm[n]:g} and "
                f"{z_mm[n + 1]:g} mm",
                where=f"between {planes[n].record.file.name} and {planes[n + 1].record.file.name}",
                remedy="add the missing images to the case",
            )
    even = bool((np.abs(gaps - usual) <= max(_POSITION_MM, _UNEVEN * usual)).all())
    return round(float((z_mm[-1] - z_mm[0]) / (len(z_mm) - 1)), 6) if even else usual


def _hounsfield(content: bytes, plane: Plane, notes: list[Note]) -> NDArray[np.float32]:
    """Decode the pixels of one image and apply its own rescale values."""
    where = plane.record.file.name
    dataset = parse(content, where, pixels=True)
    stored = _stored_values(dataset, plane, where)
    if is_missing(dataset, "RescaleSlope") or is_missing(dataset, "RescaleIntercept"):
        notes.append(Note("the CT lacks rescale values; the stored values were taken as HU", where="CT"))
    slope = number(dataset, "RescaleSlope", where, 1.0)
    intercept = number(dataset, "RescaleIntercept", where, 0.0)
    if slope == 0:
        raise DicomError("RescaleSlope (0028,1053) is 0", where=where, remedy="export the file again")
    unit = text(dataset, "RescaleType", "HU").upper()
    if unit != "HU":
        notes.append(Note(f"the CT values are said to be {unit!r}, not HU; they were taken as HU", where="CT"))
    if text(dataset, "LossyImageCompression") == "01":
        notes.append(Note("the CT was compressed with loss", where="CT"))
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if not is_missing(dataset, "PixelPaddingValue"):
        low = high = number(dataset, "PixelPaddingValue", where)
        if not is_missing(dataset, "PixelPaddingRangeLimit"):
            limit = number(dataset, "PixelPaddingRangeLimit", where)
            low, high = min(low, limit), max(low, limit)
        values[(stored >= low) & (stored <= high)] = PADDING_HU
    return np.maximum(values, np.float32(PADDING_HU))


def _stored_values(dataset: Dataset, plane: Plane, where: str) -> NDArray[np.integer]:
    if integer(dataset, "SamplesPerPixel", where, 1) != 1:
        raise DicomError("the CT image is in colour", where=where, remedy="give the original images")
    stored = stored_values(dataset, "the CT image", where)
    if stored.shape != (plane.rows, plane.columns):
        raise DicomError(
            f"the CT image has {stored.shape} pixels, not {plane.rows} x {plane.columns}",
            where=where,
            remedy="give single-frame images",
        )
    return stored
