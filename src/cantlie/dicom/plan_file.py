"""RTPLAN read: static, step-and-shoot, dynamic and arc photon plans; whatever else is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.core.notes import Level, Note
from cantlie.dicom.inventory import RT_PLAN
from cantlie.dicom.plan_beams import BeamFile, read_beam
from cantlie.dicom.values import integer, is_missing, items, number, numbers, parse, text
from cantlie.machine.block import Block
from cantlie.machine.geometry import PATIENT_POSITIONS
from cantlie.plan.treatment import TreatmentPlan

RT_ION_PLAN = "1.2.840.10008.5.1.4.1.1.481.8"
_DELIVERED = ("TREATMENT", "CONTINUATION")
_MOST_FRACTIONS = 200
_AGAIN = "export the plan again"


@dataclass(frozen=True, slots=True)
class PatientSetup:
    """How the patient lies and is held.

    Parameters
    ----------
    patient_position
        DICOM patient position (``HFS`` ...), the same for all beams; empty where the plan does not say it: its beams
        are then read as HFS and must be placed as the CT says.
    description
        Setup technique in words: arms up, abdominal belt, breath hold.
    fixation
        Devices as pairs of DICOM fixation device type (``VACUUM_MOLD``, ``MASK``, ``BODY_FRAME`` ...) and description.
    """

    patient_position: str
    description: str = ""
    fixation: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BeamStatement:
    """What the system that made a plan says of a beam; a recalculation can be held against it. None where unsaid.

    Parameters
    ----------
    ssd_mm
        Distance from the source to the skin at the first control point.
    dose_gy
        Dose of the beam in one fraction at ``point_mm``, (x, y, z) in LPS.
    """

    ssd_mm: float | None = None
    dose_gy: float | None = None
    point_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlanFile:
    """A plan as read, with what belongs to the machine and to other objects.

    Parameters
    ----------
    plan
        Beams, fractions and prescription; ``machine_id`` is the treatment machine name of the file. Angles of arcs run
        on past 0 and 360 degrees, so that they change linearly between control points.
    leaf_boundaries_mm
        Edges of the leaves at the isocentre plane by beam number; absent for beams without leaves.
    mlc_axis
        ``X`` or ``Y``, along which leaves move, by beam number.
    energy_mv
        Nominal beam energy by beam number; 0 where the plan does not say it.
    fluence_mode
        ``STANDARD``, or the identifier of another mode such as flattening filter free, by beam number.
    blocks
        Blocks in the field by beam number; absent for beams without.
    dosimeter_unit
        What the meterset of all beams counts: ``MU``, or ``MINUTE`` of the timer of a cobalt machine.
    plan_date
        Date of the plan as DICOM writes it; empty where it has none.
    fraction_group, fraction_groups
        Number of the group that was read, and of all groups of the file.
    prescription_is_shared
        Whether the prescription is one dose for several fraction groups together.
    statements
        What the plan itself says about skin distance and dose, by beam number.
    """

    plan: TreatmentPlan
    leaf_boundaries_mm: dict[int, NDArray[np.float64]]
    mlc_axis: dict[int, str]
    energy_mv: dict[int, float]
    fluence_mode: dict[int, str]
    statements: dict[int, BeamStatement]
    setup: PatientSetup
    structure_set_uid: str = ""
    dose_uids: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    patient_id: str = ""
    blocks: Mapping[int, tuple[Block, ...]] = field(default_factory=dict)
    dosimeter_unit: str = "MU"
    plan_date: str = ""
    intent: str = ""
    approval: str = ""
    fraction_group: int = 1
    fraction_groups: tuple[int, ...] = (1,)
    prescription_is_shared: bool = False
    notes: tuple[Note, ...] = ()

    @property
    def name(self) -> str:
        """The label of the plan, with the number of the fraction group where the file has several."""
        label = self.plan.label
        return label if len(self.fraction_groups) == 1 else f"{label}, group {self.fraction_group}".lstrip(", ")


def read_rtplan(path: Path) -> TreatmentPlan:
    """Read the plan of an RTPLAN file (see `read_plan_file`)."""
    return read_plan_file(path).plan


def read_plan_file(path: Path, fraction_group: int | None = None) -> PlanFile:
    """Read one fraction group of an RTPLAN file, by its number; the only one where it is not given.

    Raises
    ------
    DicomError
        If it cannot be opened, is not a photon RTPLAN, is damaged, has several fraction groups and none was named, or
        has something that Cantlie cannot calculate: wedges, bolus, compensators, applicators, electrons, ions,
        brachytherapy, eccentric or tilted couches.
    """
    return plan_of(_parsed(path), str(path), fraction_group)


def read_plan_groups(path: Path, fraction_group: int | None = None) -> tuple[PlanFile, ...]:
    """Read all fraction groups of an RTPLAN file, or the one of a number (see `read_plan_file`)."""
    return plans_of(_parsed(path), str(path), fraction_group)


def read_stated_plans(path: Path) -> tuple[PlanFile, ...]:
    """Read an RTPLAN file for what it says of its dose (see `stated_plans_of`)."""
    return stated_plans_of(_parsed(path), str(path))


def _parsed(path: Path) -> Dataset:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DicomError(f"the plan cannot be opened: {error.strerror or error}", where=str(path)) from error
    return parse(content, str(path), pixels=True)


def plan_of(dataset: Dataset, where: str, fraction_group: int | None = None) -> PlanFile:
    """Read one fraction group of a parsed RTPLAN (DICOM PS3.3 A.20), by its number; the only one if it is not given.

    Raises
    ------
    DicomError
        As `read_plan_file`.
    """
    found = plans_of(dataset, where, fraction_group)
    if len(found) > 1:
        raise DicomError(
            f"the plan has {len(found)} fraction groups ({_listed(found[0].fraction_groups)}), and one is needed here",
            where=where,
            remedy="export a plan of one fraction group",
        )
    return found[0]


def plans_of(dataset: Dataset, where: str, fraction_group: int | None = None) -> tuple[PlanFile, ...]:
    """Read the fraction groups of a parsed RTPLAN, each as a plan with its own beams, monitor units and fractions.

    The dose of the whole plan is the sum over its groups (DICOM PS3.3 C.8.8.13): a beam may be in several of them.

    Parameters
    ----------
    fraction_group
        Number of the only group that is wanted.

    Raises
    ------
    DicomError
        As `read_plan_file`, or if it has no such group.
    """
    sop_class = text(dataset, "SOPClassUID")
    if sop_class == RT_ION_PLAN:
        raise DicomError("this is an ion plan", where=where, remedy="give a photon plan")
    if sop_class != RT_PLAN:
        raise DicomError("this is not an RTPLAN", where=where, remedy="give an RTPLAN file")
    groups = items(dataset, "FractionGroupSequence")
    if not groups:
        raise DicomError("the plan has no fraction group", where=where, remedy="export a plan with fractions and MU")
    only = len(groups) == 1
    numbered = [integer(one, "FractionGroupNumber", where, 1) if only else _group_number(one, where) for one in groups]
    if len(set(numbered)) < len(numbered):
        raise DicomError(f"two fraction groups have the number {_twice(numbered)}", where=where, remedy=_AGAIN)
    if fraction_group is not None and fraction_group not in numbered:
        raise DicomError(
            f"the plan has no fraction group {fraction_group}",
            where=where,
            remedy=f"it has the fraction group{'' if only else 's'} {_listed(numbered)}",
        )
    in_use = {n for one in groups for n in _referenced_beams(one, where)}
    return tuple(
        _plan_of_group(
            dataset, one, f"{where}{'' if only else f', fraction group {number}'}", number, tuple(numbered), in_use
        )
        for number, one in zip(numbered, groups, strict=True)
        if fraction_group in (None, number)
    )


def stated_plans_of(dataset: Dataset, where: str) -> tuple[PlanFile, ...]:
    """Read an RTPLAN for what it says of its dose: as `plans_of`, or without beams where those cannot be calculated.

    Raises
    ------
    DicomError
        If it is not an RTPLAN, or does not say its fractions.
    """
    try:
        return plans_of(dataset, where)
    except DicomError as error:
        groups = items(dataset, "FractionGroupSequence")
        if text(dataset, "SOPClassUID") != RT_PLAN or not groups:
            raise
        numbered = tuple(integer(one, "FractionGroupNumber", where, n + 1) for n, one in enumerate(groups))
        stated = []
        for number_, group in zip(numbered, groups, strict=True):
            fractions = integer(group, "NumberOfFractionsPlanned", where, 0)
            if not 1 <= fractions <= _MOST_FRACTIONS:
                raise
            notes = [Note(f"the beams of the plan were not read: {error.what}", Path(where).name)]
            prescription_gy, target_name = _prescription(dataset, group, where, notes)
            plan = TreatmentPlan(
                text(dataset, "RTPlanLabel"), "", (), fractions, prescription_gy, target_name,
                text(dataset, "SOPInstanceUID"), tuple(notes),
            )  # fmt: skip
            stated.append(
                PlanFile(
                    plan, {}, {}, {}, {}, {}, PatientSetup(""),
                    frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
                    patient_id=text(dataset, "PatientID"),
                    fraction_group=number_,
                    fraction_groups=numbered,
                    notes=tuple(notes),
                )
            )  # fmt: skip
        return tuple(stated)


def _group_number(group: Dataset, where: str) -> int:
    if is_missing(group, "FractionGroupNumber"):
        raise DicomError("a fraction group of the plan has no number", where=where, remedy=_AGAIN)
    return integer(group, "FractionGroupNumber", where)


def _twice(numbers_found: Sequence[int]) -> int:
    return next(n for n in numbers_found if list(numbers_found).count(n) > 1)


def _listed(found: Sequence[int]) -> str:
    *most, last = (str(n) for n in found)
    return f"{', '.join(most)} and {last}" if most else last


def _plan_of_group(
    dataset: Dataset, group: Dataset, where: str, group_number: int, group_numbers: tuple[int, ...], in_use: set[int]
) -> PlanFile:
    """Read a fraction group; ``in_use`` are the beams of all groups."""
    notes: list[Note] = []
    if integer(group, "NumberOfBrachyApplicationSetups", where, 0) > 0:
        raise DicomError("this is a brachytherapy plan", where=where, remedy="give a photon plan")
    fractions = integer(group, "NumberOfFractionsPlanned", where)
    if not 1 <= fractions <= _MOST_FRACTIONS:
        raise DicomError(f"the plan has {fractions} fractions", where=where, remedy="export it with its fractions")
    treated = _treated_beams(dataset, _referenced_beams(group, where), in_use, where, notes)
    machine_id, dosimeter_unit, setup = _common(treated, where)
    beams = treated.beams
    if not setup.patient_position:
        notes.append(Note("the plan does not say how the patient lies; the position of the CT is assumed", "RTPLAN"))
    prescription_gy, target_name = _prescription(dataset, group, where, notes)
    references = items(dataset, "ReferencedStructureSetSequence")
    plan = TreatmentPlan(
        label=text(dataset, "RTPlanLabel"),
        machine_id=machine_id,
        beams=tuple(one.beam for one in beams.values()),
        fractions=fractions,
        prescription_gy=prescription_gy,
        target_name=target_name,
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        notes=tuple(notes),
    )
    return PlanFile(
        plan=plan,
        leaf_boundaries_mm={n: b.leaf_boundaries_mm for n, b in beams.items() if b.leaf_boundaries_mm is not None},
        mlc_axis={n: b.mlc_axis for n, b in beams.items() if b.mlc_axis},
        energy_mv={n: b.energy_mv for n, b in beams.items()},
        fluence_mode={n: b.fluence_mode for n, b in beams.items()},
        statements=treated.statements,
        setup=setup,
        structure_set_uid=text(references[0], "ReferencedSOPInstanceUID") if references else "",
        dose_uids=tuple(text(one, "ReferencedSOPInstanceUID") for one in items(dataset, "ReferencedDoseSequence")),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        patient_id=text(dataset, "PatientID"),
        blocks={n: b.blocks for n, b in beams.items() if b.blocks},
        dosimeter_unit=dosimeter_unit,
        plan_date=text(dataset, "RTPlanDate"),
        intent=text(dataset, "PlanIntent"),
        approval=text(dataset, "ApprovalStatus"),
        fraction_group=group_number,
        fraction_groups=group_numbers,
        prescription_is_shared=_is_shared(dataset, group, where),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _TreatedBeams:
    """The treatment beams of a fraction group, by number, with the machines and the patient setups that they name."""

    beams: dict[int, BeamFile]
    statements: dict[int, BeamStatement]
    machines: set[str]
    setups: tuple[PatientSetup, ...]


def _treated_beams(
    dataset: Dataset, referenced: Mapping[int, Dataset], in_use: set[int], where: str, notes: list[Note]
) -> _TreatedBeams:
    """Read the beams that a fraction group gives monitor units; the others are left out, with a note."""
    setups = {_setup_number(one): _setup(one) for one in items(dataset, "PatientSetupSequence")}
    beams: dict[int, BeamFile] = {}
    statements: dict[int, BeamStatement] = {}
    machines: set[str] = set()
    used_setups: set[int] = set()
    seen: set[int] = set()
    for one in items(dataset, "BeamSequence"):
        beam_number = integer(one, "BeamNumber", where)
        place = f"{where}, beam {beam_number}"
        if beam_number in seen:
            raise DicomError(f"two beams of the plan have the number {beam_number}", where=where, remedy=_AGAIN)
        seen.add(beam_number)
        if beam_number in in_use and beam_number not in referenced:
            continue  # of another fraction group
        delivery = text(one, "TreatmentDeliveryType", "TREATMENT").upper()
        if delivery not in _DELIVERED or beam_number not in referenced:
            reason = "is not for treatment" if delivery not in _DELIVERED else "belongs to no fraction"
            level: Level = "info" if delivery not in _DELIVERED else "warning"
            notes.append(Note(f"the beam {reason} and was left out", f"beam {beam_number}", level))
            continue
        mention = referenced[beam_number]
        if is_missing(mention, "BeamMeterset"):
            raise DicomError("the beam has no monitor units", where=place, remedy="export the plan with MU")
        setup_number = integer(one, "ReferencedPatientSetupNumber", place, min(setups, default=1))
        used_setups.add(setup_number)
        position = (setups[setup_number].patient_position if setup_number in setups else "") or "HFS"
        if position not in PATIENT_POSITIONS:
            raise DicomError(
                f"the patient position {position!r} is not supported",
                where=place,
                remedy=f"supported are {', '.join(PATIENT_POSITIONS)}",
            )
        beam = read_beam(one, place, position, number(mention, "BeamMeterset", where), notes)
        beams[beam_number] = beam
        statements[beam_number] = _statement(mention, beam, place)
        machines.add(text(one, "TreatmentMachineName"))
    lost = sorted(set(referenced) - seen)
    if lost:
        raise DicomError(
            f"the plan gives monitor units of a beam {lost[0]} that it does not have", where=where, remedy=_AGAIN
        )
    if not beams:
        raise DicomError("the plan has no treatment beam with monitor units", where=where, remedy="export it with MU")
    used = tuple(setups.get(n, PatientSetup("")) for n in sorted(used_setups))
    return _TreatedBeams(beams, statements, machines, used)


def _common(treated: _TreatedBeams, where: str) -> tuple[str, str, PatientSetup]:
    """Return the machine, the unit of the meterset and the patient setup that all beams of a group share."""
    units = {one.dosimeter_unit for one in treated.beams.values()}
    if len(units) > 1:
        raise DicomError("some beams count MU, others MINUTE", where=where, remedy="give one plan for each machine")
    if len(treated.machines) > 1:
        raise DicomError("the beams of the plan are for different machines", where=where, remedy="give one machine")
    if len({one.patient_position for one in treated.setups}) > 1:
        positions = ", ".join(one.patient_position or "none given" for one in treated.setups)
        raise DicomError(
            f"the beams of the plan are for different patient positions ({positions})",
            where=where,
            remedy="export one plan for each position",
        )
    return next(iter(treated.machines)), next(iter(units)), treated.setups[0]


def _referenced_beams(group: Dataset, where: str) -> dict[int, Dataset]:
    """Return what a fraction group says of its beams, by beam number."""
    found: dict[int, Dataset] = {}
    mentions = items(group, "ReferencedBeamSequence")
    stated = integer(group, "NumberOfBeams", where, len(mentions))
    if stated > len(mentions):
        raise DicomError(
            f"the plan says that {stated} beams are treated, but names {len(mentions)}", where=where, remedy=_AGAIN
        )
    for one in mentions:
        beam_number = integer(one, "ReferencedBeamNumber", where)
        if beam_number in found:
            raise DicomError(f"the plan gives monitor units of beam {beam_number} twice", where=where, remedy=_AGAIN)
        found[beam_number] = one
    return found


def _statement(mention: Dataset, beam: BeamFile, where: str) -> BeamStatement:
    if is_missing(mention, "BeamDose") or is_missing(mention, "BeamDoseSpecificationPoint"):
        return BeamStatement(beam.ssd_mm)
    x, y, z = (float(v) for v in numbers(mention, "BeamDoseSpecificationPoint", 3, where))
    return BeamStatement(beam.ssd_mm, number(mention, "BeamDose", where), (x, y, z))


def _setup_number(one: Dataset) -> int:
    return integer(one, "PatientSetupNumber", "RTPLAN", 1)


def _setup(one: Dataset) -> PatientSetup:
    fixation = tuple(
        (
            text(device, "FixationDeviceType"),
            text(device, "FixationDeviceDescription") or text(device, "FixationDeviceLabel"),
        )
        for device in items(one, "FixationDeviceSequence")
    )
    return PatientSetup(
        patient_position=text(one, "PatientPosition").upper(),
        description=text(one, "SetupTechniqueDescription"),
        fixation=fixation,
    )


def _references(group: Dataset, where: str) -> set[int]:
    """Return the numbers of the dose references of a fraction group."""
    mentions = items(group, "ReferencedDoseReferenceSequence")
    return {integer(one, "ReferencedDoseReferenceNumber", where) for one in mentions}


def _is_shared(dataset: Dataset, group: Dataset, where: str) -> bool:
    own = _references(group, where)
    others = [one for one in items(dataset, "FractionGroupSequence") if one is not group]
    return any(own & _references(one, where) for one in others)


def _prescription(dataset: Dataset, group: Dataset, where: str, notes: list[Note]) -> tuple[float, str]:
    """Return the largest prescribed target dose in Gy and the name of its target.

    Where there are several fraction groups, only what a group refers to is its own.
    """
    found: list[tuple[float, str]] = []
    several = len(items(dataset, "FractionGroupSequence")) > 1
    own = _references(group, where)
    for one in items(dataset, "DoseReferenceSequence"):
        if several and integer(one, "DoseReferenceNumber", where, 0) not in own:
            continue
        if text(one, "DoseReferenceType").upper() == "TARGET" and not is_missing(one, "TargetPrescriptionDose"):
            found.append((number(one, "TargetPrescriptionDose", where), text(one, "DoseReferenceDescription")))
    if not found:
        notes.append(Note("the plan has no prescribed dose", "RTPLAN"))
        return 0.0, ""
    if len({dose for dose, _ in found}) > 1:
        notes.append(Note("the plan prescribes several target doses; the largest counts", "RTPLAN"))
    return max(found)
