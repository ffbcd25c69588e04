"""RT Beams Treatment Record: what a machine delivered, session by session (PS3.3 A.20, C.8.8.21)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.dicom.inventory import Inventory, Record, scan
from cantlie.dicom.values import integer, is_missing, items, number, parse, text
from cantlie.patient.case import Case

RT_BEAMS_RECORD = "1.2.840.10008.5.1.4.1.1.481.4"
End = Literal["normal", "operator", "machine", "unknown"]
_ENDS: dict[str, End] = {"NORMAL": "normal", "OPERATOR": "operator", "MACHINE": "machine"}
_NOT_TREATMENT = ("SETUP", "OPEN_PORTFILM", "TRMT_PORTFILM")


@dataclass(frozen=True, slots=True)
class BeamRecord:
    """One beam of one session; monitor units are None where the file does not have them."""

    number: int
    name: str
    fraction: int
    specified_mu: float | None
    delivered_mu: float | None
    end: End


@dataclass(frozen=True, slots=True)
class TreatmentRecord:
    """One session of one plan."""

    plan_uid: str
    start: datetime | None
    beams: tuple[BeamRecord, ...]
    where: str

    @property
    def fraction(self) -> int:
        """The fraction that most beams say they belong to."""
        numbers = [beam.fraction for beam in self.beams]
        return max(set(numbers), key=numbers.count)


def records_of_case(path: Path, case: Case, inventory: Inventory | None = None) -> tuple[TreatmentRecord, ...]:
    """Read the treatment records of a case's patient, in the order of their time.

    Raises
    ------
    DicomError
        If a record is damaged or names no plan or no fraction.
    """
    found = [r for r in (inventory or scan(path)).of_class(RT_BEAMS_RECORD) if _belongs(r, case)]
    own = {record.sop_instance_uid: record for record in found}
    read = [treatment_record_of(parse(r.file.read(), r.file.name), r.file.name) for r in own.values()]
    return tuple(sorted((one for one in read if one.beams), key=lambda one: (one.start or datetime.max, one.fraction)))


def treatment_record_of(dataset: Dataset, where: str) -> TreatmentRecord:
    """Return a treatment record from a data set; images and set-up beams are left out.

    Raises
    ------
    DicomError
        If it is another kind of object, or names no plan or no fraction.
    """
    if text(dataset, "SOPClassUID") != RT_BEAMS_RECORD:
        raise DicomError("the file is no RT Beams Treatment Record", where=where)
    plans = [text(one, "ReferencedSOPInstanceUID") for one in items(dataset, "ReferencedRTPlanSequence")]
    if not plans or not plans[0]:
        raise DicomError("the treatment record names no plan", where=where, remedy="export it with its RTPLAN")
    beams: list[BeamRecord] = []
    for one in items(dataset, "TreatmentSessionBeamSequence"):
        if text(one, "TreatmentDeliveryType", "TREATMENT").upper() in _NOT_TREATMENT:
            continue
        place = f"{where}, beam {len(beams) + 1}"
        beams.append(
            BeamRecord(
                number=integer(one, "ReferencedBeamNumber", place, default=len(beams) + 1),
                name=text(one, "BeamName"),
                fraction=integer(one, "CurrentFractionNumber", place),
                specified_mu=_mu(one, "SpecifiedPrimaryMeterset", place),
                delivered_mu=_delivered(one, place),
                end=_ENDS.get(text(one, "TreatmentTerminationStatus").upper(), "unknown"),
            )
        )
    return TreatmentRecord(plans[0], _start(dataset, where), tuple(beams), where)


def _delivered(beam: Dataset, where: str) -> float | None:
    """Return what was delivered: the beam's own value, else that of its last control point."""
    total = _mu(beam, "DeliveredPrimaryMeterset", where)
    if total is not None:
        return total
    found = [_mu(point, "DeliveredMeterset", where) for point in items(beam, "ControlPointDeliverySequence")]
    known = [value for value in found if value is not None]
    return max(known) if known else None


def _mu(dataset: Dataset, keyword: str, where: str) -> float | None:
    if is_missing(dataset, keyword):
        return None
    value = number(dataset, keyword, where)
    if value < 0:
        raise DicomError(f"{keyword} is negative", where=where, remedy="export the record again")
    return value


def _start(dataset: Dataset, where: str) -> datetime | None:
    day, clock = text(dataset, "TreatmentDate"), text(dataset, "TreatmentTime", "000000")
    if not day:
        return None
    try:
        return datetime.strptime(day + clock.split(".")[0][:6].ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        raise DicomError(
            "TreatmentDate or TreatmentTime cannot be read", where=where, remedy="export the record again"
        ) from None


def _belongs(record: Record, case: Case) -> bool:
    return record.patient_id == case.identity.patient_id
