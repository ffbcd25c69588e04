"""RTPLAN read: static, step-and-shoot, dynamic and arc photon plans; whatever else is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.core.notes import Note
from cantlie.dicom.inventory import RT_PLAN
from cantlie.dicom.values import integer, is_missing, items, number, numbers, parse, text
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan

RT_ION_PLAN = "1.2.840.10008.5.1.4.1.1.481.8"
OPEN_JAW_MM = 200.0
_JAWS = {"X": "x", "ASYMX": "x", "Y": "y", "ASYMY": "y"}
_ACCESSORIES = (
    ("NumberOfWedges", "WedgeSequence", "a wedge"),
    ("NumberOfBlocks", "BlockSequence", "a block"),
    ("NumberOfBoli", "ReferencedBolusSequence", "a bolus"),
    ("NumberOfCompensators", "CompensatorSequence", "a compensator"),
    ("", "ApplicatorSequence", "an applicator"),
)


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
        Nominal beam energy by beam number.
    fluence_mode
        ``STANDARD``, or the identifier of another mode such as flattening filter free, by beam number.
    """

    plan: TreatmentPlan
    leaf_boundaries_mm: dict[int, NDArray[np.float64]]
    mlc_axis: dict[int, str]
    energy_mv: dict[int, float]
    fluence_mode: dict[int, str]
    setup: PatientSetup
    structure_set_uid: str = ""
    dose_uids: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    patient_id: str = ""
    intent: str = ""
    approval: str = ""
    notes: tuple[Note, ...] = ()


def read_rtplan(path: Path) -> TreatmentPlan:
    """Read the plan of an RTPLAN file (see `read_plan_file`)."""
    return read_plan_file(path).plan


def read_plan_file(path: Path) -> PlanFile:
    """Read an RTPLAN file.

    Raises
    ------
    DicomError
        If it cannot be opened, is not a photon RTPLAN, is damaged, or has something that Cantlie cannot calculate:
        wedges, blocks, bolus, compensators, applicators, electrons, ions, brachytherapy, eccentric or tilted couches.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DicomError(f"the plan cannot be opened: {error.strerror or error}", where=str(path)) from error
    return plan_of(parse(content, str(path), pixels=True), str(path))


def plan_of(dataset: Dataset, where: str) -> PlanFile:
    """Read the plan of a parsed RTPLAN (DICOM PS3.3 A.20).

    Raises
    ------
    DicomError
        As `read_plan_file`.
    """
    sop_class = text(dataset, "SOPClassUID")
    if sop_class == RT_ION_PLAN:
        raise DicomError("this is an ion plan", where=where, remedy="give a photon plan")
    if sop_class != RT_PLAN:
        raise DicomError("this is not an RTPLAN", where=where, remedy="give an RTPLAN file")
    notes: list[Note] = []
    groups = items(dataset, "FractionGroupSequence")
    if len(groups) != 1:
        raise DicomError(
            f"the plan has {len(groups)} fraction groups", where=where, remedy="export a plan of one fraction group"
        )
    group = groups[0]
    if integer(group, "NumberOfBrachyApplicationSetups", where, 0) > 0:
        raise DicomError("this is a brachytherapy plan", where=where, remedy="give a photon plan")
    metersets: dict[int, float] = {}
    for one in items(group, "ReferencedBeamSequence"):
        if not is_missing(one, "BeamMeterset"):
            metersets[integer(one, "ReferencedBeamNumber", where)] = number(one, "BeamMeterset", where)
    setups = {_setup_number(one): _setup(one) for one in items(dataset, "PatientSetupSequence")}
    beams: list[TreatmentBeam] = []
    boundaries: dict[int, NDArray[np.float64]] = {}
    axes: dict[int, str] = {}
    energies: dict[int, float] = {}
    modes: dict[int, str] = {}
    machines: set[str] = set()
    used_setups: set[int] = set()
    for one in items(dataset, "BeamSequence"):
        beam_number = integer(one, "BeamNumber", where)
        place = f"{where}, beam {beam_number}"
        delivery = text(one, "TreatmentDeliveryType", "TREATMENT").upper()
        if delivery != "TREATMENT" or beam_number not in metersets:
            notes.append(Note("the beam is not for treatment and was left out", f"beam {beam_number}", "info"))
            continue
        _refuse_what_is_not_modelled(one, place)
        setup_number = integer(one, "ReferencedPatientSetupNumber", place, min(setups, default=1))
        used_setups.add(setup_number)
        position = (setups[setup_number].patient_position if setup_number in setups else "") or "HFS"
        reader = _BeamReader(one, place, position, notes)
        beams.append(reader.beam(beam_number, metersets[beam_number]))
        if reader.leaf_boundaries_mm is not None:
            boundaries[beam_number], axes[beam_number] = reader.leaf_boundaries_mm, reader.mlc_axis
        energies[beam_number] = reader.energy_mv
        modes[beam_number] = _fluence_mode(one)
        machines.add(text(one, "TreatmentMachineName"))
    if not beams:
        raise DicomError("the plan has no treatment beam with monitor units", where=where, remedy="export it with MU")
    if len(machines) > 1:
        raise DicomError("the beams of the plan are for different machines", where=where, remedy="give one machine")
    used = [setups.get(n, PatientSetup("")) for n in sorted(used_setups)]
    if len({one.patient_position for one in used}) > 1:
        positions = ", ".join(one.patient_position or "none given" for one in used)
        raise DicomError(
            f"the beams of the plan are for different patient positions ({positions})",
            where=where,
            remedy="export one plan for each position",
        )
    setup = used[0]
    if not setup.patient_position:
        notes.append(Note("the plan does not say how the patient lies; the position of the CT is assumed", "RTPLAN"))
    prescription_gy, target_name = _prescription(dataset, where, notes)
    references = items(dataset, "ReferencedStructureSetSequence")
    plan = TreatmentPlan(
        label=text(dataset, "RTPlanLabel"),
        machine_id=next(iter(machines)),
        beams=tuple(beams),
        fractions=integer(group, "NumberOfFractionsPlanned", where),
        prescription_gy=prescription_gy,
        target_name=target_name,
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        notes=tuple(notes),
    )
    return PlanFile(
        plan=plan,
        leaf_boundaries_mm=boundaries,
        mlc_axis=axes,
        energy_mv=energies,
        fluence_mode=modes,
        setup=setup,
        structure_set_uid=text(references[0], "ReferencedSOPInstanceUID") if references else "",
        dose_uids=tuple(text(one, "ReferencedSOPInstanceUID") for one in items(dataset, "ReferencedDoseSequence")),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        patient_id=text(dataset, "PatientID"),
        intent=text(dataset, "PlanIntent"),
        approval=text(dataset, "ApprovalStatus"),
        notes=tuple(notes),
    )


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


def _prescription(dataset: Dataset, where: str, notes: list[Note]) -> tuple[float, str]:
    """Return the largest prescribed target dose in Gy and the name of its target."""
    found: list[tuple[float, str]] = []
    for one in items(dataset, "DoseReferenceSequence"):
        if text(one, "DoseReferenceType").upper() == "TARGET" and not is_missing(one, "TargetPrescriptionDose"):
            found.append((number(one, "TargetPrescriptionDose", where), text(one, "DoseReferenceDescription")))
    if not found:
        notes.append(Note("the plan has no prescribed dose", "RTPLAN"))
        return 0.0, ""
    if len({dose for dose, _ in found}) > 1:
        notes.append(Note("the plan prescribes several target doses; the largest counts", "RTPLAN"))
    return max(found)


def _fluence_mode(one: Dataset) -> str:
    for mode in items(one, "PrimaryFluenceModeSequence"):
        if text(mode, "FluenceMode").upper() == "NON_STANDARD":
            return text(mode, "FluenceModeID") or "NON_STANDARD"
    return "STANDARD"


def _refuse_what_is_not_modelled(one: Dataset, where: str) -> None:
    radiation = text(one, "RadiationType", "PHOTON").upper()
    if radiation != "PHOTON":
        raise DicomError(f"the beam is of {radiation.lower()}s", where=where, remedy="give a photon plan")
    unit = text(one, "PrimaryDosimeterUnit", "MU").upper()
    if unit != "MU":
        raise DicomError(f"the beam is metered in {unit}, not MU", where=where, remedy="give a plan in monitor units")
    for count_keyword, sequence_keyword, name in _ACCESSORIES:
        count = integer(one, count_keyword, where, 0) if count_keyword else 0
        if count > 0 or items(one, sequence_keyword):
            raise DicomError(
                f"the beam has {name}, which Cantlie does not calculate", where=where, remedy="give a plan without it"
            )


def _forward(degrees: float) -> float:
    """Return a rotation between 0 and 360 degrees; a step back by rounding is no whole turn."""
    turn = degrees % 360.0
    return turn - 360.0 if turn > 360.0 - 1e-3 else turn


class _BeamReader:
    """Reads the control points of a beam, carrying on what does not change from one to the next."""

    def __init__(self, one: Dataset, where: str, patient_position: str, notes: list[Note]) -> None:
        self.one = one
        self.where = where
        self.patient_position = patient_position
        self.notes = notes
        self.leaf_boundaries_mm: NDArray[np.float64] | None = None
        self.mlc_axis = ""
        self.energy_mv = 0.0
        self.jaws: dict[str, tuple[float, float]] = {}
        self.leaves: NDArray[np.float64] | None = None
        self.angles: dict[str, float] = {}
        self.directions: dict[str, str] = {}
        self.isocentre: tuple[float, float, float] | None = None
        self.jaw_types: set[str] = set()
        self._devices()

    def _error(self, what: str, remedy: str = "export the plan again") -> DicomError:
        return DicomError(what, where=self.where, remedy=remedy)

    def _devices(self) -> None:
        for device in items(self.one, "BeamLimitingDeviceSequence"):
            kind = text(device, "RTBeamLimitingDeviceType").upper()
            if kind in _JAWS:
                self.jaw_types.add(_JAWS[kind])
            elif kind in ("MLCX", "MLCY"):
                if self.leaf_boundaries_mm is not None:
                    raise self._error("the beam has two multileaf collimators", "give a machine with one")
                pairs = integer(device, "NumberOfLeafJawPairs", self.where)
                edges = numbers(device, "LeafPositionBoundaries", pairs + 1, self.where)
                if (np.diff(edges) <= 0).any():
                    raise self._error("the leaf boundaries do not grow")
                self.leaf_boundaries_mm, self.mlc_axis = edges, kind[-1]
            else:
                raise self._error(f"the beam has a beam limiting device of type {kind!r}", "give a machine without it")
        for axis in ("x", "y"):
            if axis not in self.jaw_types:
                self.jaws[axis] = (-OPEN_JAW_MM, OPEN_JAW_MM)
                note = f"the beam has no {axis.upper()} jaws; they are taken as open to {OPEN_JAW_MM:g} mm"
                self.notes.append(Note(note, self.where.rsplit(", ", 1)[-1], "info"))

    def beam(self, beam_number: int, meterset: float) -> TreatmentBeam:
        one = self.one
        points = items(one, "ControlPointSequence")
        if len(points) < 2:
            raise self._error("the beam has fewer than two control points")
        final = number(one, "FinalCumulativeMetersetWeight", self.where)
        if not (final > 0 and meterset > 0):
            raise self._error(f"the beam has {meterset:g} MU and a final weight of {final:g}")
        sad_mm = number(one, "SourceAxisDistance", self.where, 1000.0)
        control_points = []
        weight = 0.0
        for point in points:
            self._update(point)
            weight = number(point, "CumulativeMetersetWeight", self.where, weight)
            assert self.isocentre is not None
            geometry = BeamGeometry(
                isocentre_mm=self.isocentre,
                gantry_deg=self.angles["GantryAngle"],
                collimator_deg=self.angles["BeamLimitingDeviceAngle"],
                couch_deg=self.angles["PatientSupportAngle"],
                sad_mm=sad_mm,
                patient_position=self.patient_position,
            )
            mu = weight if final == meterset else weight * meterset / final
            control_points.append(ControlPoint(geometry, self._aperture(), mu))
        mu_steps = np.diff([point.cumulative_mu for point in control_points])
        if control_points[0].cumulative_mu != 0 or (mu_steps < 0).any():
            raise self._error("the cumulative meterset weights do not grow from 0")
        return TreatmentBeam(
            number=beam_number,
            name=text(one, "BeamName") or f"{beam_number}",
            control_points=tuple(control_points),
            dynamic=text(one, "BeamType").upper() == "DYNAMIC",
        )

    def _aperture(self) -> Aperture:
        if set(self.jaws) != {"x", "y"} or (self.leaf_boundaries_mm is not None and self.leaves is None):
            raise self._error("the first control point lacks positions of jaws or leaves")
        if self.leaves is None:
            return Aperture(self.jaws["x"], self.jaws["y"])
        lower, upper = self.leaves.reshape(2, -1)
        return Aperture(self.jaws["x"], self.jaws["y"], lower, upper)

    def _update(self, point: Dataset) -> None:
        if not is_missing(point, "NominalBeamEnergy"):
            energy = number(point, "NominalBeamEnergy", self.where)
            if self.energy_mv not in (0.0, energy):
                raise self._error("the energy changes within the beam", "give a plan of one energy a beam")
            self.energy_mv = energy
        for device in items(point, "BeamLimitingDevicePositionSequence"):
            kind = text(device, "RTBeamLimitingDeviceType").upper()
            if kind in _JAWS:
                low, high = (float(v) for v in numbers(device, "LeafJawPositions", 2, self.where))
                if low > high:
                    raise self._error(f"the {kind} jaws are crossed: {low:g}, {high:g} mm")
                self.jaws[_JAWS[kind]] = (low, high)
            elif self.leaf_boundaries_mm is not None and kind == f"MLC{self.mlc_axis}":
                self.leaves = numbers(device, "LeafJawPositions", 2 * (len(self.leaf_boundaries_mm) - 1), self.where)
                if (self.leaves.reshape(2, -1)[0] > self.leaves.reshape(2, -1)[1] + 1e-6).any():
                    raise self._error("leaves of the two banks are crossed")
            else:
                raise self._error(f"positions for {kind!r}, which the beam does not have")
        for angle, direction in (
            ("GantryAngle", "GantryRotationDirection"),
            ("BeamLimitingDeviceAngle", "BeamLimitingDeviceRotationDirection"),
            ("PatientSupportAngle", "PatientSupportRotationDirection"),
        ):
            self._turn(point, angle, direction)
        for keyword in ("TableTopEccentricAngle", "TableTopPitchAngle", "TableTopRollAngle", "GantryPitchAngle"):
            if abs((number(point, keyword, self.where, 0.0) + 180) % 360 - 180) > 1e-3:
                raise self._error(f"{keyword} is not 0, which Cantlie does not calculate", "give a plan without it")
        if not is_missing(point, "IsocenterPosition"):
            x, y, z = numbers(point, "IsocenterPosition", 3, self.where)
            self.isocentre = (float(x), float(y), float(z))
        if self.isocentre is None:
            raise self._error("the beam has no isocentre")

    def _turn(self, point: Dataset, keyword: str, direction_keyword: str) -> None:
        """Follow an angle so that it changes linearly between control points, past 360 degrees if need be."""
        if not is_missing(point, keyword):
            value = number(point, keyword, self.where)
            if keyword in self.angles:
                before = self.angles[keyword]
                direction = self.directions.get(keyword, "NONE")
                if direction == "CW":
                    value = before + _forward(value - before)
                elif direction == "CC":
                    value = before - _forward(before - value)
                else:
                    value = before + (value - before + 180.0) % 360.0 - 180.0
            self.angles[keyword] = value
        elif keyword not in self.angles:
            if keyword == "GantryAngle":
                raise self._error("the beam has no gantry angle")
            self.angles[keyword] = 0.0
        if not is_missing(point, direction_keyword):
            self.directions[keyword] = text(point, direction_keyword).upper()
