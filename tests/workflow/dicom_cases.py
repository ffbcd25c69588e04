"""Small synthetic patients as DICOM: any number of CTs with their structure sets, deformed as a test asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.patient.case import Case, Ct, ImageSlice, PatientIdentity
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.structures import Structure, StructureSet

GRID = Grid((34, 40, 48), (4.0, 4.0, 4.0), (-94.0, -78.0, 40.0))
CENTRE = GRID.points_mm().mean(axis=(0, 1, 2))


def ellipsoid(at_mm, radii_mm, grid: Grid = GRID) -> NDArray[np.float32]:
    """Return the shares of an ellipsoid around a place relative to the centre."""
    radii = np.broadcast_to(np.asarray(radii_mm, float), 3)
    distance = np.linalg.norm((grid.points_mm() - CENTRE - np.asarray(at_mm)) / radii, axis=-1)
    return np.clip(0.5 + (1 - distance) * radii.min() / grid.spacing_mm[0], 0, 1).astype(np.float32)


def organs() -> dict[str, NDArray[np.float32]]:
    """Return the masks of a body with a liver, two lesions, cord and kidneys."""
    return {
        "BODY": ellipsoid((0, 0, 0), (86, 66, 1000)),
        "Liver": ellipsoid((-22, -6, 8), (42, 36, 34)),
        "GTV_1": ellipsoid((-26, -6, 10), 14),
        "GTV_2": ellipsoid((-2, -14, 0), 7),
        "SpinalCord": ellipsoid((0, 44, 0), (7, 7, 1000)),
        "Kidney_L": ellipsoid((44, 22, -30), (13, 13, 20)),
        "Kidney_R": ellipsoid((-44, 26, -34), (13, 13, 20)),
    }


def image_of(masks: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return HU with texture, so that registration has something to hold on to."""
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=GRID.shape), 2.5)
    hu = 20 + 40 * texture / texture.std()
    for name, extra in (("Liver", 60), ("GTV_1", -70), ("GTV_2", -70), ("Kidney_L", 120), ("Kidney_R", 120),
                        ("SpinalCord", -40)):  # fmt: skip
        hu = hu + extra * masks[name]
    return np.where(masks["BODY"] > 0.5, hu, -1000.0).astype(np.float32)


def bump(
    size_mm: float, reach_mm: float = 40.0, at_mm=(-22.0, -6.0, 8.0), along=(0.2, -0.3, 0.93)
) -> DisplacementField:
    """Return a smooth displacement, largest inside the liver."""
    away = GRID.points_mm() - CENTRE - np.asarray(at_mm)
    shape = np.exp(-0.5 * (away**2).sum(-1) / reach_mm**2)[..., None]
    return DisplacementField(GRID, (size_mm * shape * np.asarray(along)).astype(np.float32))


def inverse_of(field: DisplacementField) -> DisplacementField:
    """Return the field the other way round."""
    points = field.grid.points_mm()
    return DisplacementField(field.grid, (field.reference_points_mm(points)[0] - points).astype(np.float32))


def write_case(
    folder: Path,
    hu: NDArray[np.floating],
    masks: Mapping[str, NDArray[np.float32]],
    number: int = 0,
    *,
    frame: str = "",
    date: str = "20260105",
    tags: Mapping[str, object] | None = None,
    grid: Grid = GRID,
    file: str = "",
) -> Case:
    """Write a CT series and, where there are masks, its structure set; return the case as it was written."""
    (folder / f"CT{number}").mkdir(parents=True, exist_ok=True)
    frame = frame or f"2.25.3{number}"
    study, series = f"2.25.1{number}", f"2.25.2{number}"
    slices = []
    for k, z in enumerate(grid.z_mm):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}{k:03d}"
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.Modality, image.PatientID, image.PatientName = "CT", "P1", ""
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = date
        image.StudyTime = image.SeriesTime = image.AcquisitionTime = "101112"
        image.SeriesDescription = f"CT {number}"
        for keyword, value in (tags or {}).items():
            setattr(image, keyword, value)
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.PatientPosition, image.ImageOrientationPatient = "HFS", [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [*grid.origin_mm[:2], float(z)]
        image.PixelSpacing, image.SliceThickness = [grid.spacing_mm[1], grid.spacing_mm[0]], grid.spacing_mm[2]
        image.Rows, image.Columns = grid.shape[1], grid.shape[2]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.PixelData = np.round(hu[k]).astype("<i2").tobytes()
        image.save_as(folder / f"CT{number}" / f"{k:03d}.dcm", enforce_file_format=True)
        slices.append(ImageSlice(image.SOPInstanceUID, float(z)))
    ct = Ct(Volume(grid, np.asarray(hu, np.float32)), "HFS", study, series, frame, tuple(slices), study_date=date,
            study_time="101112")  # fmt: skip
    case = Case(ct, StructureSet(), PatientIdentity("P1"))
    structures = [
        Structure(name, contours_of_fractions(mask, grid), n + 1, slice_spacing_mm=grid.spacing_mm[2])
        for n, (name, mask) in enumerate(masks.items())
    ]
    if structures:
        write_rtstruct(case, structures, folder / (file or f"RS{number}.dcm"))
    return Case(ct, StructureSet(tuple(structures)), PatientIdentity("P1"))


def box(grid: Grid, *sides_mm: tuple[float, float]) -> NDArray[np.float32]:
    """Return the voxels of a grid whose centres lie within sides along x, y and z."""
    points = grid.points_mm()
    inside = np.ones(grid.shape, dtype=bool)
    for axis, (low, high) in enumerate(sides_mm):
        inside &= (points[..., axis] > low) & (points[..., axis] < high)
    return inside.astype(np.float32)


def deformed(
    hu: NDArray[np.float32], masks: Mapping[str, NDArray[np.float32]], back: DisplacementField
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Return image and masks as they look when each point shows what lay at ``point + back(point)``."""
    image = np.asarray(back.pull(Volume(GRID, hu), outside=-1000.0).values)
    moved = {n: np.asarray(back.pull(Volume(GRID, m)).values) for n, m in masks.items() if n != "BODY"}
    return image, {"BODY": masks["BODY"], **moved}
