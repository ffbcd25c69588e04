"""A planned case as DICOM: the structure set with the new targets, a plan and a dose per target, and the sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PatientSetup
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dicom.rtplan import write_rtplan
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.machine.machine import Machine
from cantlie.patient.case import Case
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.regions import Regions
from cantlie.patient.structures import Structure
from cantlie.plan.request import PlannedTarget
from cantlie.protocol.schema import Protocol

_COLOURS = ((213, 94, 0), (0, 114, 178), (204, 121, 167), (0, 158, 115), (230, 159, 0), (86, 180, 233))
_FIXATION = {"vacuum cushion": "VACUUM_MOLD", "vacuum bag": "VACUUM_MOLD", "mask": "MASK", "body frame": "BODY_FRAME"}


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One exported DICOM file."""

    path: Path
    modality: str
    content: str
    sop_instance_uid: str


def export_case(
    folder: Path,
    case: Case,
    regions: Regions,
    new_names: Sequence[str],
    plans: Sequence[PlannedTarget],
    total: Volume,
    machine: Machine,
    protocol: Protocol,
    progress: Progress = silent,
) -> tuple[ExportedFile, ...]:
    """Write RS, RP and RD files that refer to each other and to the CT.

    Parameters
    ----------
    folder
        Where the files go.
    regions, new_names
        Masks, and the names of those that become new contours.
    plans, total
        The plans with their doses, and the dose of the whole course in Gy.

    Returns
    -------
    tuple of ExportedFile
        What was written, in order.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    progress(0.0, "contours of the targets")
    structures = tuple(_structure(name, regions, number, protocol) for number, name in enumerate(new_names))
    numbers = _numbers(case, structures)
    path = folder / "RS.dcm"
    structure_set = write_rtstruct(case, structures, path)
    files = [ExportedFile(path, "RTSTRUCT", "structures with the new targets", structure_set)]
    setup = _setup(case, protocol)
    plan_uids = []
    for number, planned in enumerate(plans):
        progress(0.4 + 0.5 * number / len(plans), f"RTPLAN and RTDOSE of {planned.target.name}")
        name = planned.target.name
        path = folder / f"RP_{name}.dcm"
        uid = write_rtplan(
            case, planned.plan, machine, structure_set, path, setup=setup, target_number=numbers.get(name)
        )
        plan_uids.append(uid)
        files.append(ExportedFile(path, "RTPLAN", f"plan of {name}", uid))
        path = folder / f"RD_{name}.dcm"
        dose_uid = write_rtdose(case, planned.dose, path, plan_uids=[uid], comment=f"dose of the plan of {name}")
        files.append(ExportedFile(path, "RTDOSE", f"dose of the plan of {name}, all fractions", dose_uid))
    if len(plans) > 1:
        path = folder / "RD_sum.dcm"
        uid = write_rtdose(
            case, total, path, summation_type="MULTI_PLAN", plan_uids=plan_uids, comment="physical dose of the course"
        )
        files.append(ExportedFile(path, "RTDOSE", "physical dose of the whole course", uid))
    return tuple(files)


def _structure(name: str, regions: Regions, number: int, protocol: Protocol) -> Structure:
    targets = {target.id for target in protocol.targets}
    ctvs = {target.ctv_id for target in protocol.targets}
    kind = "PTV" if name in targets else "CTV" if name in ctvs else "GTV" if name.startswith("GTV") else "CONTROL"
    contours = contours_of_fractions(regions[name], regions.grid)
    return Structure(name, contours, dicom_type=kind, colour_rgb=_COLOURS[number % len(_COLOURS)])


def _numbers(case: Case, new: Sequence[Structure]) -> dict[str, int]:
    """Return the ROI numbers that `write_rtstruct` gives: first the case's structures that stay, then the new ones."""
    names = {structure.name for structure in new}
    kept = [structure for structure in case.structures if structure.name not in names]
    return {structure.name: number for number, structure in enumerate([*kept, *new], start=1)}


def _setup(case: Case, protocol: Protocol) -> PatientSetup:
    technique = protocol.technique
    devices = tuple((_FIXATION[name], name) for name in technique.immobilisation if name in _FIXATION)
    described = [*technique.immobilisation, technique.motion_management]
    return PatientSetup(case.ct.patient_position, "; ".join(dict.fromkeys(d for d in described if d)), devices)
