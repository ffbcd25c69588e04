"""RTIMAGE: digitally reconstructed radiographs as DICOM (PS3.3 C.8.8.2)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from cantlie.dicom.inventory import RT_PLAN
from cantlie.dicom.writing import (
    date_and_time,
    decimal_string,
    decimal_strings,
    digest,
    item,
    new_object,
    reference,
    sequence,
    short,
    uid_of,
    write_object,
)
from cantlie.dose.radiograph import Radiograph
from cantlie.machine.aperture import Aperture
from cantlie.patient.case import Case

RT_IMAGE = "1.2.840.10008.5.1.4.1.1.481.1"
_WHITE = 4095


def write_rtimage(
    case: Case,
    image: Radiograph,
    path: Path,
    *,
    label: str,
    machine_name: str = "",
    plan_uid: str = "",
    beam_number: int | None = None,
    aperture: Aperture | None = None,
    created: datetime | None = None,
) -> str:
    """Write a radiograph; the upper left pixel comes first, seen from the source.

    Parameters
    ----------
    case
        Patient, study and frame of reference.
    label
        RT image label, at most 16 characters are kept.
    plan_uid, beam_number
        The plan and beam that it belongs to; neither for a set-up image.
    aperture
        Jaws to be written into the exposure.

    Returns
    -------
    str
        SOP instance UID.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    geometry = image.geometry
    top = float(image.attenuation.max())
    scale = _WHITE / top if top > 0 else 0.0
    pixels = np.rint(image.attenuation[::-1] * scale).astype("<u2")
    uid = uid_of("rtimage", case.ct.frame_of_reference_uid, label, plan_uid, digest(geometry, pixels))
    dataset = new_object(case, RT_IMAGE, "RTIMAGE", uid, description=label, series_number=9301, created=created)
    date, time = date_and_time(case, created)
    pixel_mm = float(image.x_mm[1] - image.x_mm[0])
    dataset.update(
        item(
            ContentDate=date,
            ContentTime=time,
            PatientOrientation="",
            ImageType="DERIVED\\SECONDARY\\DRR",
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
            Rows=pixels.shape[0],
            Columns=pixels.shape[1],
            BitsAllocated=16,
            BitsStored=12,
            HighBit=11,
            PixelRepresentation=0,
            WindowCenter=decimal_string(_WHITE / 2),
            WindowWidth=decimal_string(_WHITE),
            RTImageLabel=short(label, 16) or "DRR",
            RTImageDescription="digitally reconstructed radiograph, research use only",
            ConversionType="WSD",
            RTImagePlane="NORMAL",
            XRayImageReceptorTranslation=decimal_strings([0.0, 0.0, 0.0]),
            XRayImageReceptorAngle=decimal_string(0.0),
            RTImageOrientation=decimal_strings([1, 0, 0, 0, -1, 0]),
            ImagePlanePixelSpacing=decimal_strings([pixel_mm, pixel_mm]),
            RTImagePosition=decimal_strings([image.x_mm[0], image.y_mm[-1]]),
            RadiationMachineName=short(machine_name, 16),
            RadiationMachineSAD=decimal_string(geometry.sad_mm),
            RTImageSID=decimal_string(geometry.sad_mm),
            PrimaryDosimeterUnit="MU",
            GantryAngle=decimal_string(geometry.gantry_deg),
            BeamLimitingDeviceAngle=decimal_string(geometry.collimator_deg),
            PatientSupportAngle=decimal_string(geometry.couch_deg),
            IsocenterPosition=decimal_strings(geometry.isocentre_mm),
            PatientPosition=geometry.patient_position,
        )
    )
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    if plan_uid:
        plan = reference(RT_PLAN, plan_uid)
        dataset.ReferencedRTPlanSequence = sequence(plan)
        if beam_number is not None:
            dataset.ReferencedBeamNumber = beam_number
            dataset.ReferencedFractionGroupNumber = 1
    if aperture is not None:
        devices = [
            item(
                RTBeamLimitingDeviceType=kind,
                NumberOfLeafJawPairs=1,
                LeafJawPositions=decimal_strings(jaws),
            )
            for kind, jaws in (("ASYMX", aperture.jaw_x_mm), ("ASYMY", aperture.jaw_y_mm))
        ]
        dataset.ExposureSequence = sequence(
            item(
                BeamLimitingDeviceSequence=sequence(*devices),
                GantryAngle=decimal_string(geometry.gantry_deg),
                NumberOfBlocks=0,
            )
        )
    return write_object(dataset, path)
