"""The CTs of a case: what each one is, when it was taken, and which structure set was drawn on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cantlie.core.errors import DicomError
from cantlie.dicom.contours import image_references
from cantlie.dicom.ct import read_ct
from cantlie.dicom.inventory import Inventory, Record, scan
from cantlie.dicom.reading import ct_series, refers, structure_sets
from cantlie.dicom.series_label import SeriesLabel, label_of
from cantlie.dicom.values import text
from cantlie.patient.case import Ct


@dataclass(frozen=True, slots=True, eq=False)
class CaseImage:
    """One CT series of a case.

    Parameters
    ----------
    series_uid, frame_uid
        Its identifiers.
    description
        The series description.
    label
        Phase of breathing, projection, or phase of contrast.
    taken
        Date and time of acquisition (or of the series, or the study) as ``YYYYMMDDHHMMSS``; empty where unknown.
    images
        Number of images.
    structure_sets
        SOP instance UIDs of the structure sets that name its images; those that only share its frame of reference
        follow.
    """

    series_uid: str
    frame_uid: str
    description: str
    label: SeriesLabel
    taken: str
    images: int
    structure_sets: tuple[str, ...]


def images_of_case(
    path: Path, *, patient_id: str | None = None, inventory: Inventory | None = None
) -> tuple[CaseImage, ...]:
    """List the CTs of a case in the order in which they were taken.

    Raises
    ------
    DicomError
        If the case cannot be opened, has no CT, or has CTs of several patients.
    """
    found = inventory or scan(path)
    series = ct_series(found, patient_id)
    if len({one[0].patient for one in series}) > 1:
        raise DicomError(
            "the case has CTs of more than one patient",
            where=str(path),
            remedy="give the folder of one patient, or choose one with --patient ID",
        )
    drawn = structure_sets(found, None, patient_id)
    images = []
    for one in series:
        first = one[0]
        own = {record.sop_instance_uid for record in one}
        named = [
            r.sop_instance_uid
            for r in drawn
            if image_references(r).image_uids & own and refers(image_references(r), r, one)
        ]
        shared = [
            r.sop_instance_uid for r in drawn
            if r.sop_instance_uid not in named and refers(image_references(r), r, one)
        ]  # fmt: skip
        images.append(
            CaseImage(
                first.series_uid, first.frame_uid, text(first.header, "SeriesDescription"), label_of(first),
                _taken(first), len(one), (*named, *shared),
            )
        )  # fmt: skip
    return tuple(sorted(images, key=lambda image: (image.taken or "9", image.series_uid)))


def phases_of(images: tuple[CaseImage, ...]) -> tuple[CaseImage, ...]:
    """Return the phases of a 4D-CT among images, in their order in the breathing cycle; empty for fewer than two.

    Of two series of one phase (another reconstruction) the one with contours counts.
    """
    phases = [image for image in images if image.label.kind == "phase"]
    frames = [image.frame_uid for image in phases]
    if len(phases) < 2:
        return ()
    common = max(frames, key=frames.count)
    own: list[CaseImage] = []
    for image in sorted(phases, key=lambda one: not one.structure_sets):
        place = (image.label.phase_percent, image.label.position if image.label.phase_percent is None else None)
        taken = [(o.label.phase_percent, o.label.position if o.label.phase_percent is None else None) for o in own]
        if image.frame_uid == common and place not in taken:
            own.append(image)
    own.sort(key=lambda image: (image.label.phase_percent if image.label.phase_percent is not None else 1e3,
                                image.label.position or 0))  # fmt: skip
    return tuple(own) if len(own) > 1 else ()


def read_image(path: Path, series_uid: str, *, patient_id: str | None = None) -> Ct:
    """Read one CT series of a case without its structures.

    Raises
    ------
    DicomError
        If there is no such series, or it cannot be read.
    """
    for one in ct_series(scan(path), patient_id):
        if one[0].series_uid == series_uid:
            return read_ct(one)[0]
    raise DicomError(f"there is no CT series {series_uid}", where=str(path))


def _taken(record: Record) -> str:
    for date, time in (
        ("AcquisitionDate", "AcquisitionTime"), ("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"),
    ):  # fmt: skip
        day = text(record.header, date)
        if len(day) == 8 and day.isdigit():
            clock = text(record.header, time).split(".")[0]
            return day + (clock if clock.isdigit() else "").ljust(6, "0")[:6]
    return ""
