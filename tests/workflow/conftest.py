"""Writes CT images for the tests of whole roads."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from cantlie.core.grid import Grid
from cantlie.patient.case import ImageSlice


@pytest.fixture
def make_images():
    """Return a function that writes an axial CT series and returns its slices."""

    def make(folder: Path, grid: Grid, hu: np.ndarray, position: str) -> tuple[ImageSlice, ...]:
        (folder / "CT").mkdir(parents=True)
        slices = []
        for k, z in enumerate(grid.z_mm):
            image = Dataset()
            image.file_meta = FileMetaDataset()
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.1{k:03d}"
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.Modality, image.PatientID, image.PatientName = "CT", "P1", ""
            image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
            image.PatientPosition = position
            image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            image.ImagePositionPatient = [*grid.origin_mm[:2], float(z)]
            image.PixelSpacing, image.SliceThickness = [grid.spacing_mm[1], grid.spacing_mm[0]], grid.spacing_mm[2]
            image.Rows, image.Columns = grid.shape[1], grid.shape[2]
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
            image.RescaleSlope, image.RescaleIntercept = 1, 0
            image.PixelData = hu[k].astype("<i2").tobytes()
            image.save_as(folder / "CT" / f"{k:03d}.dcm", enforce_file_format=True)
            slices.append(ImageSlice(image.SOPInstanceUID, float(z)))
        return tuple(slices)

    return make
