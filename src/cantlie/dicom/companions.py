"""The plans and doses that lie beside the CT in a case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.dicom.inventory import RT_DOSE, RT_PLAN, Inventory, Record, scan
from cantlie.dicom.plan_file import PlanFile, stated_plans_of
from cantlie.dicom.rtdose import DoseFile, dose_of
from cantlie.dicom.values import parse
from cantlie.patient.case import Case

_File = TypeVar("_File")


def plans_of_case(path: Path, case: Case, inventory: Inventory | None = None) -> tuple[PlanFile, ...]:
    """Read all photon plans of a case that were made on its CT; one for each fraction group of an RTPLAN.

    A plan that Cantlie cannot calculate (wedges, electrons ...) is read without its beams, and a note of it says so.

    Parameters
    ----------
    path
        Folder or zip of the case.
    case
        The case as read from it: patient and frame of reference must agree.
    inventory
        What `scan` found there, where it is at hand.

    Raises
    ------
    DicomError
        If a plan does not even say its fractions.
    """
    groups = _companions(path, case, inventory, RT_PLAN, stated_plans_of, "plan")
    return tuple(plan for own in groups for plan in own)


def doses_of_case(path: Path, case: Case, inventory: Inventory | None = None) -> tuple[DoseFile, ...]:
    """Read all doses of a case that were calculated on its CT (see `plans_of_case`).

    Raises
    ------
    DicomError
        If a dose is damaged, relative or not axial.
    """
    return _companions(path, case, inventory, RT_DOSE, dose_of, "dose")


def _companions(
    path: Path,
    case: Case,
    inventory: Inventory | None,
    sop_class_uid: str,
    read: Callable[[Dataset, str], _File],
    kind: str,
) -> tuple[_File, ...]:
    found = (inventory or scan(path)).of_class(sop_class_uid)
    own = {r.sop_instance_uid: r for r in found if _belongs(r, case)}
    if found and not own:
        raise DicomError(
            f"no {kind} of the case belongs to its CT: the patient or the frame of reference differs",
            where=found[0].file.name,
            remedy=f"give the {kind} of this patient and CT",
        )
    return tuple(read(parse(r.file.read(), r.file.name, pixels=True), r.file.name) for r in own.values())


def _belongs(record: Record, case: Case) -> bool:
    frame = case.ct.frame_of_reference_uid
    return record.patient_id == case.identity.patient_id and (not record.frame_uid or record.frame_uid == frame)
