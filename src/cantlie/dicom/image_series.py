"""MRI, PET and CT series of any orientation as a volume on an LPS-aligned grid, to be registered to a CT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import DicomError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.volume import Volume
from cantlie.dicom.contours import image_references, read_structures
from cantlie.dicom.inventory import CT_IMAGE, Inventory, Record, scan
from cantlie.dicom.pixels import stored_values
from cantlie.dicom.reading import refers, structure_sets
from cantlie.dicom.values import number, numbers, parse, text
from cantlie.patient.case import Case, Ct, ImageSlice, PatientIdentity
from cantlie.patient.names import built_in_aliases
from cantlie.patient.structures import Structure, StructureSet, with_standard_names

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
_READ = {CT_IMAGE: "CT", MR_IMAGE: "MRI", PET_IMAGE: "PET"}
_UNEVEN_MM = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class ImageSeries:
    """An image series and the contours drawn on it.

    Parameters
    ----------
    case
        The image in place of the CT (grey values as stored, rescaled), its structures where they were drawn on axial
        images, and the patient.
    kind
        ``CT``, ``MRI`` or ``PET``.
    sop_class_uid
        Of its images.
    description
        The series description.
    """

    case: Case
    kind: str
    sop_class_uid: str
    description: str


def read_image_series(path: Path, *, series_uid: str | None = None) -> ImageSeries:
    """Read the CT, MRI or PET series of a folder; the largest one where there are several.

    Oblique series (sagittal, coronal, tilted) are interpolated to an LPS-aligned grid of their smallest spacing.

    Parameters
    ----------
    path
        Folder, zip or single file.
    series_uid
        The series, where the folder holds several.

    Raises
    ------
    DicomError
        If there is no such series, an image is missing or damaged, or the images do not form a volume.
    """
    inventory = scan(path)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in inventory.records:
        if record.sop_class_uid in _READ and series_uid in (None, record.series_uid):
            groups.setdefault((record.series_uid, record.frame_uid), []).append(record)
    if not groups:
        raise DicomError(
            "there is no CT, MRI or PET series" if series_uid is None else f"there is no image series {series_uid}",
            where=str(path),
            remedy="give a folder with single-frame CT, MR or PET images",
        )
    chosen = max(groups.values(), key=len)
    notes: list[Note] = []
    if len(groups) > 1:
        listed = ", ".join(sorted({g[0].description or g[0].series_uid for g in groups.values()}))
        notes.append(Note(f"the largest of {len(groups)} series was taken ({listed})", "images", "info"))
    volume, slices, hashes, axial = _volume(chosen)
    first = chosen[0]
    header = first.header
    structures = _structures(inventory, chosen, volume.grid, notes) if axial else ()
    if not axial:
        notes.append(Note("the images are oblique and were interpolated to axial planes; contours on them are not read",
                          "images"))  # fmt: skip
    ct = Ct(
        volume=volume,
        patient_position=text(header, "PatientPosition").upper() or "HFS",
        study_instance_uid=first.study_uid,
        series_instance_uid=first.series_uid,
        frame_of_reference_uid=first.frame_uid,
        slices=slices,
        study_id=text(header, "StudyID"),
        study_date=text(header, "StudyDate"),
        study_time=text(header, "StudyTime"),
        description=text(header, "SeriesDescription"),
    )
    identity = PatientIdentity(first.patient_id, first.patient_name, text(header, "PatientBirthDate"),
                               text(header, "PatientSex"))  # fmt: skip
    case = Case(ct, StructureSet(structures), identity, notes=tuple(notes),
                input_sha256=sha256_of_bytes("\n".join(hashes).encode()))  # fmt: skip
    return ImageSeries(case, _READ[first.sop_class_uid], first.sop_class_uid, ct.description)


def _structures(inventory: Inventory, chosen: list[Record], grid: Grid, notes: list[Note]) -> tuple[Structure, ...]:
    own = {record.sop_instance_uid for record in chosen}
    drawn = [
        record for record in structure_sets(inventory, None, None)
        if image_references(record).image_uids & own or refers(image_references(record), record, tuple(chosen))
    ]  # fmt: skip
    if not drawn:
        return ()
    reading = read_structures(drawn[0], chosen[0].frame_uid, grid.spacing_mm[2])
    named, name_notes = with_standard_names(reading.structures, built_in_aliases())
    notes += [*reading.notes, *name_notes]
    return tuple(named)


def _volume(records: list[Record]) -> tuple[Volume, tuple[ImageSlice, ...], list[str], bool]:
    first = records[0]
    where = first.file.name
    cosines = numbers(first.header, "ImageOrientationPatient", 6, where)
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    spacing = numbers(first.header, "PixelSpacing", 2, where)
    unique = {record.sop_instance_uid or record.file.name: record for record in records}
    placed = []
    for record in unique.values():
        own = numbers(record.header, "ImageOrientationPatient", 6, record.file.name)
        if np.abs(own - cosines).max() > 1e-3:
            raise DicomError("the images of the series differ in orientation", where=record.file.name,
                             remedy="give one stack of parallel images")  # fmt: skip
        corner = numbers(record.header, "ImagePositionPatient", 3, record.file.name)
        placed.append((float(corner @ normal), corner, record))
    placed.sort(key=lambda one: one[0])
    depth = np.array([one[0] for one in placed])
    if len(placed) < 2:
        raise DicomError("the series has a single image", where=where, remedy="give the whole stack")
    step = float(np.median(np.diff(depth)))
    if step <= 0 or np.abs(np.diff(depth) - step).max() > max(_UNEVEN_MM, 0.05 * step):
        raise DicomError(
            "the images of the series are unevenly spaced, or several of them lie in one place", where=where,
            remedy="give one complete stack of parallel images (one echo, one time)",
        )  # fmt: skip
    planes, hashes = [], []
    for _, _, record in placed:
        content = record.file.read()
        hashes.append(sha256_of_bytes(content))
        planes.append(_values(content, record))
    if len({plane.shape for plane in planes}) > 1:
        raise DicomError("the images of the series differ in size", where=where, remedy="give one stack")
    values = np.stack(planes)
    # Columns of the matrix: where one step along slices, rows and columns of the array leads, LPS mm.
    axes = np.stack([normal * step, column * spacing[0], row * spacing[1]], axis=1)
    origin = placed[0][1]
    slices = tuple(ImageSlice(record.sop_instance_uid, float(corner[2])) for _, corner, record in placed)
    axial = bool(np.abs(np.abs(cosines) - [1, 0, 0, 0, 1, 0]).max() < 1e-4)
    return _aligned(values, axes, origin), slices, hashes, axial


def _values(content: bytes, record: Record) -> NDArray[np.float32]:
    dataset = parse(content, record.file.name, pixels=True)
    stored = stored_values(dataset, "an image", record.file.name).astype(np.float64)
    if stored.ndim != 2:
        raise DicomError("an image has several frames or colours", where=record.file.name,
                         remedy="give single-frame grey images")  # fmt: skip
    slope = number(dataset, "RescaleSlope", record.file.name, 1.0)
    return np.asarray(stored * slope + number(dataset, "RescaleIntercept", record.file.name, 0.0), dtype=np.float32)


def _aligned(values: NDArray[np.float32], axes: NDArray[np.float64], origin: NDArray[np.float64]) -> Volume:
    """Return array values whose index (k, j, i) lies at ``origin + axes @ (k, j, i)`` on an LPS-aligned grid."""
    top = np.array(values.shape) - 1.0
    corners = np.array([origin + axes @ (top * np.array(c)) for c in np.ndindex(2, 2, 2)])
    lower, upper = corners.min(axis=0), corners.max(axis=0)
    order = np.argmax(np.abs(axes), axis=0)  # which of x, y, z each array axis follows most
    if len(set(order.tolist())) == 3 and np.abs(np.abs(axes).max(axis=0) - np.linalg.norm(axes, axis=0)).max() < 1e-3:
        turned = np.transpose(values, [int(np.flatnonzero(order == axis)[0]) for axis in (2, 1, 0)])
        spacing = [float(np.abs(axes[axis, order == axis]).item()) for axis in (0, 1, 2)]
        for axis in (0, 1, 2):
            if axes[axis, order == axis].item() < 0:
                turned = np.flip(turned, 2 - axis)
        nk, nj, ni = turned.shape
        return Volume(
            Grid(
                (nk, nj, ni), (spacing[0], spacing[1], spacing[2]), (float(lower[0]), float(lower[1]), float(lower[2]))
            ),
            np.ascontiguousarray(turned),
        )
    step = float(np.linalg.norm(axes, axis=0).min())
    ni, nj, nk = (int(np.ceil(length / step)) + 1 for length in upper - lower)
    grid = Grid((nk, nj, ni), (step, step, step), (float(lower[0]), float(lower[1]), float(lower[2])))
    index = (grid.points_mm() - origin) @ np.linalg.inv(axes).T
    found = ndimage.map_coordinates(values, np.moveaxis(index, -1, 0), order=1, cval=float(values.min()))
    return Volume(grid, np.asarray(found, dtype=np.float32))
