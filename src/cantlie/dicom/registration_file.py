"""REG objects: rigid and deformable spatial registrations, written and read (DICOM PS3.3 C.20.2 and C.20.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError, GeometryError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.course.registration_field import DisplacementField
from cantlie.dicom.inventory import CT_IMAGE, Inventory, Record, scan
from cantlie.dicom.values import items, numbers, parse, text, texts
from cantlie.dicom.writing import (
    RESEARCH_USE,
    date_and_time,
    decimal_string,
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
from cantlie.patient.case import Case, Ct

SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"
DEFORMABLE_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.3"
_RIGID_TOLERANCE = 1e-3
_INVERSION_MM = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredImages:
    """One item of a registration object: which images it places, and how.

    ``source = after @ (before @ registered + vector(registered))`` for points of the registered frame, LPS mm; without
    vectors it is a matrix alone.

    Parameters
    ----------
    frame_uid, image_uids
        The source's frame of reference, and the images that are meant where only some of the frame are.
    before, after
        4 x 4 matrices.
    vectors
        Displacements on a grid of the registered frame; None for a matrix registration.
    """

    frame_uid: str
    image_uids: frozenset[str]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    vectors: DisplacementField | None = None

    def source_mm(self, registered_mm: ArrayLike) -> NDArray[np.float64]:
        """Return where points (..., 3) of the registered frame lie in the source."""
        points = np.asarray(registered_mm, dtype=np.float64)
        moved = _apply(self.before, points)
        if self.vectors is not None:
            moved = moved + self.vectors.at(points)
        return _apply(self.after, moved)

    def registered_mm(self, source_mm: ArrayLike) -> NDArray[np.float64]:
        """Return where points (..., 3) of the source lie in the registered frame.

        Raises
        ------
        GeometryError
            If the vectors cannot be inverted there.
        """
        source = np.asarray(source_mm, dtype=np.float64)
        whole = np.asarray(np.linalg.inv(self.after @ self.before), dtype=np.float64)
        if self.vectors is None:
            return _apply(whole, source)
        points = _apply(whole, source)
        left = np.inf
        for _ in range(60):
            step = _apply(whole, source) - _apply(whole, self.source_mm(points)) + points
            left = float(np.abs(step - points).max(initial=0.0))
            points = step
            if left < 0.02:
                break
        if left > _INVERSION_MM:
            raise GeometryError(
                f"a registration object cannot be turned round (error of {left:.1f} mm)",
                where="REG",
                remedy="give one whose registered frame is that of the later CT, or let Cantlie register",
            )
        return points


@dataclass(frozen=True, slots=True, eq=False)
class RegistrationFile:
    """What a registration object says.

    Parameters
    ----------
    registered_frame_uid
        The frame in which all its images are placed.
    images
        One for each item.
    """

    registered_frame_uid: str
    images: tuple[RegisteredImages, ...]
    sop_instance_uid: str
    description: str = ""
    deformable: bool = False
    notes: tuple[Note, ...] = field(default=())

    def connects(self, reference_ct: Ct, moving_ct: Ct) -> bool:
        """Say whether it places both CTs in one frame, and does not only repeat that they share it."""
        first, second = self._placing(reference_ct), self._placing(moving_ct)
        return first is not None and second is not None and first is not second

    def field_between(self, reference_ct: Ct, moving_ct: Ct, grid: Grid) -> DisplacementField:
        """Return where each point of the reference lies in the moving CT, on a grid of the reference.

        Raises
        ------
        DicomError
            If the object does not connect both.
        GeometryError
            If a deformation has to be turned round and cannot be.
        """
        first, second = self._placing(reference_ct), self._placing(moving_ct)
        if first is None or second is None or first is second:
            raise DicomError(
                "the registration object does not connect these two CTs",
                where="REG",
                remedy="give one that names the frames of reference of both",
            )
        points = grid.points_mm()
        moving = second.source_mm(first.registered_mm(points))
        return DisplacementField(grid, (moving - points).astype(np.float32))

    def _placing(self, ct: Ct) -> RegisteredImages | None:
        own = {one.sop_instance_uid for one in ct.slices}
        for one in self.images:
            if one.image_uids & own:
                return one
        frame = ct.frame_of_reference_uid
        for one in self.images:
            if frame and one.frame_uid == frame and not one.image_uids:
                return one
        if frame and frame == self.registered_frame_uid:
            return RegisteredImages(frame, frozenset(), np.eye(4), np.eye(4))
        for one in self.images:
            if frame and one.frame_uid == frame:
                return one
        return None


def _apply(matrix: NDArray[np.floating], points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points_mm @ matrix[:3, :3].T + matrix[:3, 3])


def write_spatial_registration(
    reference_case: Case,
    moving: Case,
    moving_from_reference: NDArray[np.float64],
    path: Path,
    *,
    comment: str = "",
    moving_image_class: str = CT_IMAGE,
) -> str:
    """Write a rigid registration as a Spatial Registration; the registered frame is that of the reference CT.

    Parameters
    ----------
    moving_from_reference
        4 x 4 matrix from points of the reference to points of the moving CT, mm, LPS. The object holds its inverse, as
        the standard wants (C.20.2.1.1).
    moving_image_class
        SOP class of the moving images where they are not CT.

    Returns
    -------
    str
        SOP instance UID.

    Raises
    ------
    DicomError
        If the matrix is not rigid.
    """
    matrix = np.asarray(moving_from_reference, dtype=np.float64)
    rotation = matrix[:3, :3]
    if matrix.shape != (4, 4) or np.abs(rotation @ rotation.T - np.eye(3)).max() > _RIGID_TOLERANCE:
        raise DicomError("the matrix of a rigid registration is not a rotation and a shift", where=str(path))
    dataset = _begun(
        reference_case,
        moving,
        SPATIAL_REGISTRATION,
        comment or "rigid registration",
        digest(matrix),
        moving_image_class,
    )
    own = item(
        FrameOfReferenceUID=frame_uid(reference_case), **_images(reference_case, moving, reference_case, CT_IMAGE)
    )
    own.MatrixRegistrationSequence = sequence(_matrix_item(np.eye(4), comment))
    other = item(FrameOfReferenceUID=frame_uid(moving), **_images(reference_case, moving, moving, moving_image_class))
    other.MatrixRegistrationSequence = sequence(_matrix_item(np.linalg.inv(matrix), comment))
    dataset.RegistrationSequence = sequence(own, other)
    return write_object(dataset, path)


def write_deformable_registration(
    reference_case: Case,
    moving: Case,
    displacement: DisplacementField,
    path: Path,
    *,
    comment: str = "",
    moving_image_class: str = CT_IMAGE,
) -> str:
    """Write a displacement field as a Deformable Spatial Registration; the registered frame is that of the reference.

    The grid holds, for each point of the reference, the way to the same tissue in the moving CT, its rigid part
    included; both matrices are the identity and left out (C.20.3.1.1).

    Returns
    -------
    str
        SOP instance UID.
    """
    vectors = np.ascontiguousarray(displacement.displacement_mm, dtype="<f4")
    grid = displacement.grid
    dataset = _begun(
        reference_case, moving, DEFORMABLE_REGISTRATION, comment or "deformable registration",
        digest(vectors, grid.origin_mm, grid.spacing_mm), moving_image_class,
    )  # fmt: skip
    nk, nj, ni = grid.shape
    held = item(
        ImagePositionPatient=[decimal_string(value) for value in grid.origin_mm],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        GridDimensions=[ni, nj, nk],
        GridResolution=[float(value) for value in grid.spacing_mm],
        VectorGridData=vectors.tobytes(),
    )
    one = item(
        SourceFrameOfReferenceUID=frame_uid(moving),
        **_images(reference_case, moving, moving, moving_image_class),
        FrameOfReferenceTransformationComment=short(comment, 64),
        RegistrationTypeCodeSequence=sequence(),
        DeformableRegistrationGridSequence=sequence(held),
    )
    dataset.DeformableRegistrationSequence = sequence(one)
    return write_object(dataset, path)


def _begun(
    reference_case: Case, moving: Case, sop_class: str, what: str, content: bytes, moving_image_class: str
) -> Dataset:
    uid = uid_of("registration", sop_class, frame_uid(reference_case), frame_uid(moving),
                 reference_case.ct.series_instance_uid, moving.ct.series_instance_uid, content)  # fmt: skip
    deformable = sop_class == DEFORMABLE_REGISTRATION
    dataset = new_object(reference_case, sop_class, "REG", uid, description=what, series_number=9301 + int(deformable))
    dataset.Laterality, dataset.DeviceSerialNumber = "", "0"
    dataset.ContentDate, dataset.ContentTime = date_and_time(reference_case, None)
    dataset.ContentLabel = "DEFORMABLE" if deformable else "RIGID"
    dataset.ContentDescription = short(f"{RESEARCH_USE}. {what}", 64)
    dataset.ContentCreatorName = ""
    if frame_uid(reference_case) == frame_uid(moving):
        own, others = _same_and_other_study(reference_case, moving, moving_image_class)
        if own:
            dataset.ReferencedSeriesSequence = sequence(*own)
        if others:
            dataset.StudiesContainingOtherReferencedInstancesSequence = sequence(*others)
    return dataset


def _same_and_other_study(
    reference_case: Case, moving: Case, moving_image_class: str
) -> tuple[list[Dataset], list[Dataset]]:
    """Return the Common Instance Reference entries of the study of the object and of other studies."""
    own, others = [], []
    for case, image_class in ((reference_case, CT_IMAGE), (moving, moving_image_class)):
        uids = [one.sop_instance_uid for one in case.ct.slices]
        if not uids:
            continue
        entry = item(
            SeriesInstanceUID=case.ct.series_instance_uid,
            ReferencedInstanceSequence=sequence(*(reference(image_class, uid) for uid in uids)),
        )
        if case.ct.study_instance_uid == reference_case.ct.study_instance_uid:
            own.append(entry)
        else:
            study = item(StudyInstanceUID=case.ct.study_instance_uid)
            study.ReferencedSeriesSequence = sequence(entry)
            others.append(study)
    return own, others


def _images(reference_case: Case, moving: Case, of: Case, image_class: str) -> dict[str, Any]:
    """Return the references to images that tell two CTs of one frame of reference apart."""
    if frame_uid(reference_case) != frame_uid(moving) or not of.ct.slices:
        return {}
    images = (reference(image_class, one.sop_instance_uid) for one in of.ct.slices)
    return {"ReferencedImageSequence": sequence(*images)}


def _matrix_item(matrix: NDArray[np.floating], comment: str) -> Dataset:
    entry = item(
        FrameOfReferenceTransformationMatrixType="RIGID",
        FrameOfReferenceTransformationMatrix=[decimal_string(value) for value in matrix.reshape(-1).tolist()],
    )
    return item(
        FrameOfReferenceTransformationComment=short(comment, 64),
        RegistrationTypeCodeSequence=sequence(),
        MatrixSequence=sequence(entry),
    )


def read_registration_file(path: Path) -> RegistrationFile:
    """Read a REG file.

    Raises
    ------
    DicomError
        If it cannot be opened, is not a registration, or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DicomError(f"the registration cannot be opened: {error.strerror or error}", where=str(path)) from error
    return registration_of(parse(content, path.name, pixels=True), path.name)


def registration_of(dataset: Dataset, where: str) -> RegistrationFile:
    """Read a parsed registration object.

    Raises
    ------
    DicomError
        As `read_registration_file`.
    """
    sop_class = text(dataset, "SOPClassUID")
    notes: list[Note] = []
    if sop_class == SPATIAL_REGISTRATION:
        images = tuple(_matrix_images(one, where) for one in items(dataset, "RegistrationSequence"))
    elif sop_class == DEFORMABLE_REGISTRATION:
        images = tuple(_grid_images(one, where, notes) for one in items(dataset, "DeformableRegistrationSequence"))
    else:
        raise DicomError("this is not a registration object", where=where, remedy="give a REG file")
    if not images:
        raise DicomError("the registration object places no image", where=where, remedy="export it again")
    return RegistrationFile(
        registered_frame_uid=text(dataset, "FrameOfReferenceUID"),
        images=images,
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        description=text(dataset, "SeriesDescription") or text(dataset, "ContentDescription"),
        deformable=sop_class == DEFORMABLE_REGISTRATION,
        notes=tuple(notes),
    )


def registrations_of_case(path: Path, inventory: Inventory | None = None) -> tuple[RegistrationFile, ...]:
    """Read all registration objects of a case; a damaged one is an error.

    Parameters
    ----------
    path
        Folder or zip of the case.
    inventory
        What `scan` found there, where it is at hand.
    """
    found = inventory or scan(path)
    records = (*found.of_class(DEFORMABLE_REGISTRATION), *found.of_class(SPATIAL_REGISTRATION))
    own: dict[str, Record] = {record.sop_instance_uid or record.file.name: record for record in records}
    return tuple(
        registration_of(parse(record.file.read(), record.file.name, pixels=True), record.file.name)
        for record in own.values()
    )


def _matrix_images(one: Dataset, where: str) -> RegisteredImages:
    placed = np.eye(4)
    for held in items(one, "MatrixRegistrationSequence"):
        placed = placed @ _product(held, where)
    return RegisteredImages(text(one, "FrameOfReferenceUID"), _uids(one), np.eye(4), _inverse(placed, where))


def _grid_images(one: Dataset, where: str, notes: list[Note]) -> RegisteredImages:
    before, after = np.eye(4), np.eye(4)
    for held in items(one, "PreDeformationMatrixRegistrationSequence"):
        before = before @ _matrix(held, where)
    for held in items(one, "PostDeformationMatrixRegistrationSequence"):
        after = after @ _matrix(held, where)
    grids = items(one, "DeformableRegistrationGridSequence")
    vectors = _vectors(grids[0], where, notes) if grids else None
    return RegisteredImages(text(one, "SourceFrameOfReferenceUID"), _uids(one), before, after, vectors)


def _vectors(held: Dataset, where: str, notes: list[Note]) -> DisplacementField:
    counts = numbers(held, "GridDimensions", 3, where).astype(int)
    spacing = numbers(held, "GridResolution", 3, where)
    cosines = numbers(held, "ImageOrientationPatient", 6, where)
    origin = numbers(held, "ImagePositionPatient", 3, where)
    content = held.get("VectorGridData", b"") or b""
    wanted = int(np.prod(counts)) * 12
    if (counts < 1).any() or (spacing <= 0).any() or len(content) not in (wanted, wanted + wanted % 2):
        raise DicomError("the grid of a deformable registration does not fit its vectors", where=where)
    if np.abs(np.abs(cosines) - [1, 0, 0, 0, 1, 0]).max() > 1e-4:
        raise DicomError(
            "the grid of a deformable registration is oblique", where=where, remedy="export it on an axial grid"
        )
    stored = np.frombuffer(content[:wanted], "<f4").reshape(counts[2], counts[1], counts[0], 3)
    values = np.array(stored, dtype=np.float32)
    row, column = cosines[:3], cosines[3:]
    depth = np.cross(row, column)
    for axis, (cosine, along) in enumerate(((row, 2), (column, 1), (depth, 0))):
        if cosine[axis] < 0:
            values = np.flip(values, along)
            origin[axis] -= (counts[axis] - 1) * spacing[axis]
    lost = np.asarray(~np.isfinite(values).all(axis=-1))
    if lost.any():
        values = np.where(lost[..., None], np.float32(0), values)
        notes.append(
            Note(f"{100 * lost.mean():.1f} % of the vectors of a registration are undefined; taken as 0", "REG")
        )
    nk, nj, ni = values.shape[:3]
    (dx, dy, dz), (x, y, z) = spacing.tolist(), origin.tolist()
    grid = Grid((nk, nj, ni), (dx, dy, dz), (x, y, z))
    return DisplacementField(grid, np.ascontiguousarray(values))


def _product(held: Dataset, where: str) -> NDArray[np.float64]:
    """Return the product of the matrices of one registration, the first applied first (C.20.2.1.1)."""
    result = np.eye(4)
    for one in items(held, "MatrixSequence"):
        result = _matrix(one, where) @ result
    return result


def _matrix(held: Dataset, where: str) -> NDArray[np.float64]:
    kind = texts(held, "FrameOfReferenceTransformationMatrixType")
    if kind and kind[0].upper() not in ("RIGID", "RIGID_SCALE", "AFFINE"):
        raise DicomError(f"a registration has a matrix of the unknown type {kind[0]}", where=where)
    matrix = numbers(held, "FrameOfReferenceTransformationMatrix", 16, where).reshape(4, 4)
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise DicomError("the matrix of a registration is not affine", where=where, remedy="export it again")
    return matrix


def _inverse(matrix: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise DicomError("the matrix of a registration cannot be inverted", where=where, remedy="export it again")
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _uids(one: Dataset) -> frozenset[str]:
    return frozenset(text(image, "ReferencedSOPInstanceUID") for image in items(one, "ReferencedImageSequence"))
