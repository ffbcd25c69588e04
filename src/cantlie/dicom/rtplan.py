"""RTPLAN: treatment plans as a record and verify system takes them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.dicom.inventory import RT_PLAN, RT_STRUCTURE_SET
from cantlie.dicom.plan_file import PatientSetup
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
from cantlie.machine.aperture import Aperture
from cantlie.machine.machine import Machine
from cantlie.patient.case import Case
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan

_SETUP_DESCRIPTION_LENGTH = 1024


def plan_uid(case: Case, plan: TreatmentPlan, machine: Machine, structure_set_uid: str) -> str:
    """Return the SOP instance UID that a plan gets: its own where it has one, else one that follows its content."""
    if plan.sop_instance_uid:
        return plan.sop_instance_uid
    parts: list[object] = [plan.label, machine.name, plan.fractions, plan.prescription_gy, plan.target_name]
    for beam in plan:
        parts += [beam.number, beam.name, beam.dynamic]
        for point in beam.control_points:
            parts += [point.geometry, point.cumulative_mu, point.aperture.jaw_x_mm, point.aperture.jaw_y_mm]
            leaves = (point.aperture.leaf_lower_mm, point.aperture.leaf_upper_mm)
            parts += [np.asarray(bank, dtype=np.float64) for bank in leaves if bank is not None]
    return uid_of("rtplan", case.ct.frame_of_reference_uid, structure_set_uid, digest(*parts))


def write_rtplan(
    case: Case,
    plan: TreatmentPlan,
    machine: Machine,
    structure_set_uid: str,
    path: Path,
    *,
    setup: PatientSetup | None = None,
    target_number: int | None = None,
    created: datetime | None = None,
) -> str:
    """Write a plan as RTPLAN: UNAPPROVED, intent RESEARCH.

    Parameters
    ----------
    case
        Patient, study and frame of reference.
    plan
        Beams with monitor units per fraction.
    machine
        Its name, energy, dose rate and leaf boundaries go into the file. The meterset of a cobalt machine is minutes
        of its timer, and the date of the plan the day that they hold for.
    structure_set_uid
        SOP instance UID of the RTSTRUCT that the plan refers to.
    path
        The file to write.
    setup
        How the patient lies and is held; without it the position of the CT.
    target_number
        ROI number of the target in that RTSTRUCT, where it has one.
    created
        Date and time of the file; without it those of the CT study.

    Returns
    -------
    str
        SOP instance UID.

    Raises
    ------
    DicomError
        If a beam has fewer than two control points, no monitor units, or leaves that do not fit the machine.
    OutputError
        If the file cannot be written.
    """
    where = str(path)
    for beam in plan:
        _check(beam, machine, where)
    uid = plan_uid(case, plan, machine, structure_set_uid)
    dataset = new_object(case, RT_PLAN, "RTPLAN", uid, description=plan.label, series_number=9101, created=created)
    dataset.RTPlanLabel = short(plan.label, 16) or "Cantlie"
    dataset.RTPlanName = short(plan.label, 64)
    dataset.RTPlanDescription = RESEARCH_USE_ONLY
    dataset.RTPlanDate, dataset.RTPlanTime = date_and_time(case, created)
    if machine.cobalt is not None and machine.cobalt.treatment_date is not None:  # the day that the timer holds for
        dataset.RTPlanDate = machine.cobalt.treatment_date.strftime("%Y%m%d")
        dataset.RTPlanDescription = f"{RESEARCH_USE_ONLY} Timer for the source on {machine.cobalt.treatment_date}."
    dataset.PlanIntent = "RESEARCH"
    dataset.RTPlanGeometry = "PATIENT"
    dose_reference = item(
        DoseReferenceNumber=1,
        DoseReferenceUID=uid_of("dose reference", uid),
        DoseReferenceStructureType="SITE" if target_number is None else "VOLUME",
        DoseReferenceDescription=short(plan.target_name or "target", 1024),
        DoseReferenceType="TARGET",
        TargetPrescriptionDose=decimal_string(plan.prescription_gy),
    )
    if target_number is not None:
        dose_reference.ReferencedROINumber = target_number
    dataset.DoseReferenceSequence = sequence(dose_reference)
    dataset.FractionGroupSequence = sequence(
        item(
            FractionGroupNumber=1,
            NumberOfFractionsPlanned=plan.fractions,
            NumberOfBeams=len(plan.beams),
            NumberOfBrachyApplicationSetups=0,
            ReferencedDoseReferenceSequence=sequence(item(ReferencedDoseReferenceNumber=1)),
            ReferencedBeamSequence=sequence(
                *(item(BeamMeterset=decimal_string(b.mu), ReferencedBeamNumber=b.number) for b in plan)
            ),
        )
    )
    dataset.BeamSequence = sequence(*(_beam(beam, machine) for beam in plan))
    dataset.PatientSetupSequence = sequence(_setup(setup or PatientSetup(case.ct.patient_position)))
    dataset.ReferencedStructureSetSequence = sequence(reference(RT_STRUCTURE_SET, structure_set_uid))
    dataset.ApprovalStatus = "UNAPPROVED"
    return write_object(dataset, path)


def _check(beam: TreatmentBeam, machine: Machine, where: str) -> None:
    place = f"{where}, beam {beam.number}"
    points = beam.control_points
    if len(points) < 2 or not beam.mu > 0:
        raise DicomError("a beam needs two control points and monitor units", where=place, remedy="leave the beam out")
    mu = np.array([point.cumulative_mu for point in points])
    if mu[0] != 0 or (np.diff(mu) < 0).any():
        raise DicomError("cumulative monitor units do not grow from 0", where=place, remedy="report this as a fault")
    pairs = 0 if machine.mlc is None else len(machine.mlc.leaf_boundaries_mm) - 1
    for point in points:
        for bank in (point.aperture.leaf_lower_mm, point.aperture.leaf_upper_mm):
            if bank is not None and len(bank) != pairs:
                raise DicomError(
                    f"{len(bank)} leaf pairs on a machine of {pairs}",
                    where=place,
                    remedy="plan and export for one machine",
                )


def _setup(setup: PatientSetup) -> Dataset:
    dataset = item(
        PatientSetupNumber=1,
        PatientPosition=setup.patient_position,
        SetupTechnique="ISOCENTRIC",
    )
    if setup.description:
        dataset.SetupTechniqueDescription = short(setup.description, _SETUP_DESCRIPTION_LENGTH)
    if setup.fixation:
        dataset.FixationDeviceSequence = sequence(
            *(
                item(
                    FixationDeviceType=kind,
                    FixationDeviceLabel=short(label or kind, 16),
                    FixationDeviceDescription=short(label, 1024),
                    FixationDevicePosition="",
                )
                for kind, label in setup.fixation
            )
        )
    return dataset


def _beam(beam: TreatmentBeam, machine: Machine) -> Dataset:
    first = beam.control_points[0]
    devices = [
        item(RTBeamLimitingDeviceType="ASYMX", NumberOfLeafJawPairs=1),
        item(RTBeamLimitingDeviceType="ASYMY", NumberOfLeafJawPairs=1),
    ]
    leaves = first.aperture.leaf_lower_mm is not None and machine.mlc is not None
    mlc_type = ""
    if leaves and machine.mlc is not None:
        mlc_type = f"MLC{machine.mlc.axis}"
        devices.append(
            item(
                RTBeamLimitingDeviceType=mlc_type,
                NumberOfLeafJawPairs=len(machine.mlc.leaf_boundaries_mm) - 1,
                LeafPositionBoundaries=[decimal_string(edge) for edge in machine.mlc.leaf_boundaries_mm],
            )
        )
    dataset = item(
        Manufacturer="Cantlie",
        TreatmentMachineName=short(machine.name, 16),
        PrimaryDosimeterUnit=machine.dosimeter_unit,
        SourceAxisDistance=decimal_string(first.geometry.sad_mm),
        BeamLimitingDeviceSequence=sequence(*devices),
        BeamNumber=beam.number,
        BeamName=short(beam.name, 64),
        BeamDescription=RESEARCH_USE,
        BeamType="DYNAMIC" if beam.dynamic else "STATIC",
        RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT",
        NumberOfWedges=0,
        NumberOfCompensators=0,
        NumberOfBoli=0,
        NumberOfBlocks=0,
        FinalCumulativeMetersetWeight=decimal_string(beam.mu),
        NumberOfControlPoints=len(beam.control_points),
        ReferencedPatientSetupNumber=1,
    )
    points = [_first_point(beam, machine, mlc_type)]
    for n in range(1, len(beam.control_points)):
        points.append(_next_point(beam, n, mlc_type))
    dataset.ControlPointSequence = sequence(*points)
    return dataset


def _positions(aperture: Aperture, mlc_type: str) -> dict[str, list[str]]:
    positions = {
        "ASYMX": [decimal_string(edge) for edge in aperture.jaw_x_mm],
        "ASYMY": [decimal_string(edge) for edge in aperture.jaw_y_mm],
    }
    if mlc_type and aperture.leaf_lower_mm is not None and aperture.leaf_upper_mm is not None:
        positions[mlc_type] = [decimal_string(tip) for tip in (*aperture.leaf_lower_mm, *aperture.leaf_upper_mm)]
    return positions


def _device_items(positions: dict[str, list[str]]) -> list[Dataset]:
    return [item(RTBeamLimitingDeviceType=kind, LeafJawPositions=values) for kind, values in positions.items()]


def _direction(now_deg: float, then_deg: float) -> str:
    """Sense of rotation from one control point to the next (IEC 61217: clockwise is growing)."""
    if abs(then_deg - now_deg) < 1e-9:
        return "NONE"
    return "CW" if then_deg > now_deg else "CC"


def _angle(degrees: float) -> str:
    return decimal_string(round(degrees % 360.0, 9) % 360.0)


def _first_point(beam: TreatmentBeam, machine: Machine, mlc_type: str) -> Dataset:
    point, following = beam.control_points[0], beam.control_points[1]
    now, then = point.geometry, following.geometry
    return item(
        ControlPointIndex=0,
        NominalBeamEnergy=decimal_string(machine.energy_mv),
        **({} if machine.cobalt else {"DoseRateSet": decimal_string(machine.max_dose_rate_mu_min)}),
        BeamLimitingDevicePositionSequence=sequence(*_device_items(_positions(point.aperture, mlc_type))),
        GantryAngle=_angle(now.gantry_deg),
        GantryRotationDirection=_direction(now.gantry_deg, then.gantry_deg),
        BeamLimitingDeviceAngle=_angle(now.collimator_deg),
        BeamLimitingDeviceRotationDirection=_direction(now.collimator_deg, then.collimator_deg),
        PatientSupportAngle=_angle(now.couch_deg),
        PatientSupportRotationDirection=_direction(now.couch_deg, then.couch_deg),
        TableTopEccentricAngle="0",
        TableTopEccentricRotationDirection="NONE",
        TableTopVerticalPosition=None,
        TableTopLongitudinalPosition=None,
        TableTopLateralPosition=None,
        IsocenterPosition=[decimal_string(value) for value in now.isocentre_mm],
        CumulativeMetersetWeight=decimal_string(point.cumulative_mu),
    )


def _next_point(beam: TreatmentBeam, n: int, mlc_type: str) -> Dataset:
    """Write what changes against the control point before."""
    before, point = beam.control_points[n - 1], beam.control_points[n]
    last = n == len(beam.control_points) - 1
    dataset = item(ControlPointIndex=n, CumulativeMetersetWeight=decimal_string(point.cumulative_mu))
    old = _positions(before.aperture, mlc_type)
    changed = {kind: values for kind, values in _positions(point.aperture, mlc_type).items() if old.get(kind) != values}
    if changed:
        dataset.BeamLimitingDevicePositionSequence = sequence(*_device_items(changed))
    _write_angle(dataset, beam, n, last, "gantry_deg", "GantryAngle", "GantryRotationDirection")
    _write_angle(
        dataset, beam, n, last, "collimator_deg", "BeamLimitingDeviceAngle", "BeamLimitingDeviceRotationDirection"
    )
    _write_angle(dataset, beam, n, last, "couch_deg", "PatientSupportAngle", "PatientSupportRotationDirection")
    if point.geometry.isocentre_mm != before.geometry.isocentre_mm:
        dataset.IsocenterPosition = [decimal_string(value) for value in point.geometry.isocentre_mm]
    return dataset


def _write_angle(
    dataset: Dataset, beam: TreatmentBeam, n: int, last: bool, name: str, angle_keyword: str, direction_keyword: str
) -> None:
    def at(point: ControlPoint) -> float:
        return float(getattr(point.geometry, name))

    points = beam.control_points
    angles = [at(point) for point in points]
    if len(set(angles)) == 1:
        return
    direction = "NONE" if last else _direction(angles[n], angles[n + 1])
    before = _direction(angles[n - 1], angles[n])
    if before != "NONE" or direction != before:
        setattr(dataset, angle_keyword, _angle(angles[n]))
        setattr(dataset, direction_keyword, direction)
