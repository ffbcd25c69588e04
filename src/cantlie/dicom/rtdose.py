"""RTDOSE: dose grids, written and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor, log10
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from cantlie.core.errors import DicomError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dicom.inventory import RT_DOSE, RT_PLAN
from cantlie.dicom.orientation import axial_axes, evenly_spaced
from cantlie.dicom.pixels import stored_values
from cantlie.dicom.values import integer, is_missing, items, number, numbers, parse, text
from cantlie.dicom.writing import (
    RESEARCH_USE,
    date_and_time,
    decimal_string,
    digest,
    item,
    new_object,
    reference,
    sequence,
    short,
    uid_of,
    write_object,
)
from cantlie.patient.case import Case

SummationType = Literal["PLAN", "MULTI_PLAN", "FRACTION"]
SESSION_TYPES = ("FRACTION_SESSION", "BEAM_SESSION")
"""Kinds of dose that are of one session of a fraction group or of beams. PLAN, FRACTION (one fraction group), BEAM,
BRACHY and MULTI_PLAN are of the entire delivery (DICOM PS3.3 C.8.8.3, Dose Summation Type)."""
PIECE_TYPES = {
    "CONTROL_POINT": "control points of a beam in one fraction",
    "BRACHY_SESSION": "brachytherapy in one session",
}
"""Kinds of dose that are of a piece of a plan, and of what."""
SINGLE_PLAN_TYPES = ("PLAN", "FRACTION", "BEAM", *SESSION_TYPES)
"""Kinds of dose that are of one plan or a part of it."""
_UNEVEN = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class DoseFile:
    """What an RTDOSE says.

    Parameters
    ----------
    dose
        Gy on an LPS-aligned grid.
    summation_type
        ``PLAN``, ``MULTI_PLAN``, ``FRACTION``, ``BEAM`` ...: what the dose is of.
    dose_type
        ``PHYSICAL`` or ``EFFECTIVE``.
    plan_uids
        SOP instance UIDs of the plans that it belongs to.
    fraction_groups, beams
        Numbers of the fraction groups and beams of the plan that it is of; empty where it does not say them.
    """

    dose: Volume
    summation_type: str
    dose_type: str
    plan_uids: tuple[str, ...]
    sop_instance_uid: str
    frame_of_reference_uid: str
    comment: str = ""
    fraction_groups: tuple[int, ...] = ()
    beams: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()


def _scaling(maximum_gy: float, bits: int) -> float:
    """Return the dose of one step, of four digits so that it comes out the same for a dose read back."""
    if maximum_gy <= 0:
        return 1e-6
    exact = maximum_gy / (2 ** (bits - (bits > 16)) - 1)
    power = floor(log10(exact)) - 3
    return float(f"{ceil(exact / 10.0**power)}e{power}")


def write_rtdose(
    case: Case,
    dose: Volume,
    path: Path,
    *,
    summation_type: SummationType = "PLAN",
    plan_uids: Sequence[str] = (),
    fraction_group: int | None = None,
    dose_type: Literal["PHYSICAL", "EFFECTIVE"] = "PHYSICAL",
    comment: str = "",
    bits: Literal[16, 32] = 16,
    created: datetime | None = None,
) -> str:
    """Write a dose as RTDOSE.

    With 16 bits a voxel a dose is stored to within 8e-6 of the maximum, with 32 bits to within 3e-10. What is read
    back and written again stays the same bit for bit. 16 bits are the default because every reader takes them (the
    dciodvfy of Debian breaks off at 32).

    Parameters
    ----------
    case
        Patient, study and frame of reference.
    dose
        Gy, not negative, on an LPS-aligned grid.
    path
        The file to write.
    summation_type
        ``PLAN`` for the dose of one plan, ``MULTI_PLAN`` for the sum of several, ``FRACTION`` for all fractions of one
        fraction group of a plan (DICOM PS3.3 C.8.8.3).
    plan_uids
        SOP instance UIDs of the RTPLANs; one for ``PLAN`` and ``FRACTION``, two or more for ``MULTI_PLAN``.
    fraction_group
        Its number, for ``FRACTION``.
    dose_type
        ``EFFECTIVE`` for biologically weighted dose (say in ``comment`` which, with its alpha/beta).
    comment
        What the dose is, up to 60 characters.
    bits
        Bits a voxel.
    created
        Date and time of the file; without it those of the CT study.

    Returns
    -------
    str
        SOP instance UID, which depends only on the case, the dose and the plans.

    Raises
    ------
    DicomError
        If the dose is negative, not finite, or the plans do not fit the summation type.
    OutputError
        If the file cannot be written.
    """
    _check_writable(dose, summation_type, plan_uids, fraction_group, str(path))
    values = np.asarray(dose.values)
    scaling = _scaling(float(values.max()), bits)
    stored = np.rint(values.astype(np.float64) / scaling).astype(f"<u{bits // 8}")
    uid = uid_of(
        "rtdose",
        case.ct.frame_of_reference_uid,
        summation_type,
        dose_type,
        comment,
        *plan_uids,
        *(() if fraction_group is None else (f"group {fraction_group}",)),
        digest(stored, scaling, dose.grid.spacing_mm, dose.grid.origin_mm),
    )
    dataset = new_object(
        case,
        RT_DOSE,
        "RTDOSE",
        uid,
        description=comment or summation_type,
        series_number=9201 if summation_type == "PLAN" else 9202,
        created=created,
    )
    dataset.ContentDate, dataset.ContentTime = date_and_time(case, created)
    _write_geometry(dataset, dose.grid)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.DoseUnits = "GY"
    dataset.DoseType = dose_type
    dataset.DoseComment = short(f"{RESEARCH_USE}. {comment}", 64)
    dataset.DoseSummationType = summation_type
    dataset.DoseGridScaling = decimal_string(scaling)
    if plan_uids:
        dataset.ReferencedRTPlanSequence = sequence(*(reference(RT_PLAN, plan_uid) for plan_uid in plan_uids))
        if fraction_group is not None:
            dataset.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence = sequence(
                item(ReferencedFractionGroupNumber=fraction_group)
            )
    dataset.TissueHeterogeneityCorrection = "IMAGE"
    content = stored.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"
    return write_object(dataset, path)


def _check_writable(
    dose: Volume, summation_type: SummationType, plan_uids: Sequence[str], fraction_group: int | None, where: str
) -> None:
    values = np.asarray(dose.values)
    if not np.isfinite(values).all() or (values < 0).any():
        raise DicomError("the dose has values below 0 or not finite", where=where, remedy="report this as a fault")
    if (summation_type == "MULTI_PLAN") != (len(plan_uids) > 1):
        raise DicomError(
            f"a {summation_type} dose cannot belong to {len(plan_uids)} plans",
            where=where,
            remedy="write MULTI_PLAN with two plans or more, PLAN with one",
        )
    if (summation_type == "FRACTION") != (fraction_group is not None):
        raise DicomError(
            "FRACTION needs the number of a fraction group, and no other kind of dose has one",
            where=where,
            remedy="report this as a fault",
        )


def _write_geometry(dataset: Dataset, grid: Grid) -> None:
    nk, nj, ni = grid.shape
    dx, dy, dz = grid.spacing_mm
    dataset.SliceThickness = decimal_string(dz)
    dataset.ImagePositionPatient = [decimal_string(value) for value in grid.origin_mm]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    if nk > 1:
        dataset.NumberOfFrames = nk
        dataset.FrameIncrementPointer = Tag(0x3004, 0x000C)
        dataset.GridFrameOffsetVector = [decimal_string(dz * k) for k in range(nk)]
    dataset.Rows, dataset.Columns = nj, ni
    dataset.PixelSpacing = [decimal_string(dy), decimal_string(dx)]


def read_rtdose(path: Path) -> Volume:
    """Read an RTDOSE file as a volume in Gy on an LPS-aligned grid (see `read_dose_file`)."""
    return read_dose_file(path).dose


def read_dose_file(path: Path) -> DoseFile:
    """Read an RTDOSE file.

    Raises
    ------
    DicomError
        If it cannot be opened, is not an RTDOSE, is damaged, is relative, or its grid is not axial.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DicomError(f"the dose cannot be opened: {error.strerror or error}", where=str(path)) from error
    return dose_of(parse(content, str(path), pixels=True), str(path))


def dose_of(dataset: Dataset, where: str) -> DoseFile:
    """Read the dose of a parsed RTDOSE (DICOM PS3.3 C.8.8.3).

    Scaling, 16 or 32 bits, relative or absolute grid frame offsets, planes in either order and images of any patient
    position are understood.

    Raises
    ------
    DicomError
        As `read_dose_file`.
    """
    if text(dataset, "SOPClassUID") != RT_DOSE:
        raise DicomError("this is not an RTDOSE", where=where, remedy="give an RTDOSE file")
    units = text(dataset, "DoseUnits").upper()
    if units != "GY":
        raise DicomError(
            f"the dose is in {units or 'unknown units'}, not Gy", where=where, remedy="export absolute dose"
        )
    dose_type = text(dataset, "DoseType").upper() or "PHYSICAL"
    if dose_type == "ERROR":
        raise DicomError("the file holds dose errors, not doses", where=where, remedy="give an RTDOSE of a dose")
    scaling = number(dataset, "DoseGridScaling", where)
    if not scaling > 0:
        raise DicomError(f"DoseGridScaling (3004,000E) is {scaling:g}", where=where, remedy="export the file again")
    notes: list[Note] = []
    stored = _stored(dataset, where)
    axes = axial_axes(numbers(dataset, "ImageOrientationPatient", 6, where), where)
    corner = numbers(dataset, "ImagePositionPatient", 3, where)
    row_mm, column_mm = numbers(dataset, "PixelSpacing", 2, where)
    if not (row_mm > 0 and column_mm > 0):
        raise DicomError("PixelSpacing must be positive", where=where, remedy="export the file again")
    z_mm, dz = _planes_mm(dataset, len(stored), float(corner[2]), axes.normal_sign, where)
    values = (axes.turned(stored).astype(np.float64) * scaling).astype(np.float32)
    order = np.argsort(z_mm)
    values, z_mm = values[order], z_mm[order]
    if len(z_mm) > 1 and (np.abs(np.diff(z_mm) - dz) > max(0.01, _UNEVEN * dz)).any():
        values, z_mm = evenly_spaced(values, z_mm, dz)
        notes.append(Note(f"the dose planes are unevenly spaced; they were interpolated to {dz:g} mm", "RTDOSE"))
    (x, y), (dx, dy) = axes.origin_and_spacing_mm(
        corner, (float(row_mm), float(column_mm)), (stored.shape[1], stored.shape[2])
    )
    grid = Grid(values.shape, (dx, dy, dz), (x, y, float(z_mm[0])))
    plans = items(dataset, "ReferencedRTPlanSequence")
    groups = [group for plan in plans for group in items(plan, "ReferencedFractionGroupSequence")]
    return DoseFile(
        dose=Volume(grid, np.ascontiguousarray(values)),
        summation_type=text(dataset, "DoseSummationType").upper(),
        dose_type=dose_type,
        plan_uids=tuple(text(one, "ReferencedSOPInstanceUID") for one in plans),
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        comment=text(dataset, "DoseComment"),
        fraction_groups=tuple(integer(one, "ReferencedFractionGroupNumber", where) for one in groups),
        beams=tuple(
            integer(one, "ReferencedBeamNumber", where)
            for group in groups
            for one in items(group, "ReferencedBeamSequence")
        ),
        notes=tuple(notes),
    )


def _stored(dataset: Dataset, where: str) -> NDArray[np.integer]:
    if "PixelData" not in dataset:
        raise DicomError("the RTDOSE has no dose grid", where=where, remedy="export the dose as a grid")
    stored = stored_values(dataset, "the dose grid", where)
    if stored.ndim == 2:
        stored = stored[None]
    if stored.ndim != 3:
        raise DicomError(f"the dose grid has shape {stored.shape}", where=where, remedy="export it again")
    return stored


def _planes_mm(
    dataset: Dataset, count: int, first_mm: float, normal_sign: int, where: str
) -> tuple[NDArray[np.float64], float]:
    """Return z of every plane and their spacing.

    Offsets that begin with 0 are relative to the first plane, along the normal of the image; others are z in the
    patient (DICOM PS3.3 C.8.8.3.2).
    """
    if count == 1:
        thickness = number(dataset, "SliceThickness", where, 0.0)
        return np.array([first_mm]), thickness if thickness > 0 else 1.0
    if is_missing(dataset, "GridFrameOffsetVector"):
        raise DicomError(
            "the dose does not say where its planes lie (GridFrameOffsetVector)", where=where, remedy="export it again"
        )
    offsets = numbers(dataset, "GridFrameOffsetVector", count, where)
    z_mm = first_mm + normal_sign * offsets if offsets[0] == 0 else offsets
    gaps = np.abs(np.diff(z_mm))
    steps = np.diff(z_mm)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise DicomError("the dose planes are out of order", where=where, remedy="export the dose again")
    even = bool((np.abs(gaps - np.median(gaps)) <= max(0.01, _UNEVEN * float(np.median(gaps)))).all())
    return z_mm, round(float(gaps.mean()), 6) if even else float(np.median(gaps))
