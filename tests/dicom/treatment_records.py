"""Writes synthetic RT Beams Treatment Records."""

from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cantlie.dicom.treatment_record import RT_BEAMS_RECORD

RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"


def _item(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def treatment_record(base: Dataset, plan_uid: str, fraction: int, start: datetime, mu, *, end="NORMAL") -> Dataset:
    """Return a record of one session; ``mu`` is (specified, delivered) of each beam."""
    record = base
    record.SOPClassUID, record.Modality = RT_BEAMS_RECORD, "RTRECORD"
    record.SOPInstanceUID = f"{plan_uid}.9.{fraction}"
    del record.FrameOfReferenceUID, record.PositionReferenceIndicator
    record.OperatorsName = ""
    record.InstanceNumber = fraction
    record.TreatmentDate, record.TreatmentTime = f"{start:%Y%m%d}", f"{start:%H%M%S}"
    record.ReferencedRTPlanSequence = Sequence(
        [_item(ReferencedSOPClassUID=RT_PLAN, ReferencedSOPInstanceUID=plan_uid)]
    )
    record.NumberOfFractionsPlanned = 5
    record.PrimaryDosimeterUnit = "MU"
    machine = _item(Manufacturer="test", InstitutionName="", TreatmentMachineName="linac", ManufacturerModelName="m",
                    DeviceSerialNumber="1")  # fmt: skip
    record.TreatmentMachineSequence = Sequence([machine])
    beams = []
    for number, (specified, delivered) in enumerate(mu, 1):
        point = _item(
            ReferencedControlPointIndex=0, TreatmentControlPointDate=f"{start:%Y%m%d}",
            TreatmentControlPointTime=f"{start:%H%M%S}", SpecifiedMeterset="0", DeliveredMeterset="0",
            DoseRateSet="400", DoseRateDelivered="400", NominalBeamEnergy="6", NominalBeamEnergyUnit="MV",
            GantryAngle="0",
            GantryRotationDirection="NONE", BeamLimitingDeviceAngle="0", BeamLimitingDeviceRotationDirection="NONE",
            PatientSupportAngle="0", PatientSupportRotationDirection="NONE", TableTopEccentricAngle="0",
            TableTopEccentricRotationDirection="NONE", TableTopVerticalPosition="", TableTopLongitudinalPosition="",
            TableTopLateralPosition="", TableTopPitchAngle=0.0, TableTopPitchRotationDirection="NONE",
            TableTopRollAngle=0.0, TableTopRollRotationDirection="NONE",
            BeamLimitingDevicePositionSequence=Sequence(
                [_item(RTBeamLimitingDeviceType="ASYMX", LeafJawPositions=["-50", "50"])]
            ),
        )  # fmt: skip
        last = _item(
            ReferencedControlPointIndex=1, TreatmentControlPointDate=f"{start:%Y%m%d}",
            TreatmentControlPointTime=f"{start:%H%M%S}", SpecifiedMeterset=str(specified),
            DeliveredMeterset=str(delivered), DoseRateSet="400", DoseRateDelivered="400",
        )  # fmt: skip
        beams.append(
            _item(
                ReferencedBeamNumber=number, BeamName=f"G{number}", BeamType="STATIC", RadiationType="PHOTON",
                TreatmentDeliveryType="TREATMENT", CurrentFractionNumber=fraction, TreatmentTerminationStatus=end,
                TreatmentVerificationStatus="VERIFIED_OVR", SpecifiedPrimaryMeterset=str(specified),
                DeliveredPrimaryMeterset=str(delivered), NumberOfWedges=0, NumberOfCompensators=0, NumberOfBoli=0,
                NumberOfBlocks=0, NumberOfControlPoints=2,
                BeamLimitingDeviceLeafPairsSequence=Sequence(
                    [_item(RTBeamLimitingDeviceType="ASYMX", NumberOfLeafJawPairs=1)]
                ),
                ControlPointDeliverySequence=Sequence([point, last]),
            )
        )  # fmt: skip
    record.TreatmentSessionBeamSequence = Sequence(beams)
    return record
