"""A case: one patient's planning CT and structures, with all that is needed to write linked DICOM again."""

from __future__ import annotations

from dataclasses import dataclass, field

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.patient.structures import StructureSet


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """The identifying attributes that exported DICOM must repeat. Never written to logs or reports."""

    patient_id: str = ""
    patient_name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = ""


@dataclass(frozen=True, slots=True)
class ImageSlice:
    """One CT image as DICOM refers to it."""

    sop_instance_uid: str
    z_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Ct:
    """A planning CT.

    Parameters
    ----------
    volume
        Hounsfield units on an LPS-aligned grid.
    patient_position
        DICOM patient position (``HFS``, ``FFS``, ``HFP`` ...): how the patient lies on the couch.
    slices
        The CT images in the order of growing z, for references from RTSTRUCT.
    """

    volume: Volume
    patient_position: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    slices: tuple[ImageSlice, ...] = ()
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A patient's CT and structures, and the notes of their reading."""

    ct: Ct
    structures: StructureSet
    identity: PatientIdentity = PatientIdentity()
    label: str = ""
    notes: tuple[Note, ...] = ()
    input_sha256: str = ""

    @property
    def pseudonym(self) -> str:
        """What reports call the case: a folder may bear the patient's name, so it is never used."""
        return f"case {self.input_sha256[:8]}"
