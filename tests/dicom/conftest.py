"""A small synthetic patient as DICOM, in any orientation and with any fault that a test asks for."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CT, RS, SC = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.7"
ORIENTATIONS = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "HFDR": (0, -1, 0, 1, 0, 0),
    "HFDL": (0, 1, 0, -1, 0, 0),
}
SHAPE = (8, 20, 26)
SPACING = (2.0, 2.5, 4.0)
ORIGIN = (-30.0, -20.0, 100.0)


def truth_hu() -> np.ndarray:
    """HU that tell every voxel apart, inside a body of soft tissue in air."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    body = (np.abs(j - 9.5) < 8) & (np.abs(i - 12.5) < 11)
    hu[body] = (k * 7 + j * 3 + i)[body] % 90
    return hu


def save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def base(sop_class: str, modality: str, uid: str, series: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = sop_class, uid, modality
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20210304", "101112", ""
    dataset.Manufacturer, dataset.ReferringPhysicianName = "test", ""
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Test^One", "P1", "", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.100", series
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "2.25.300", ""
    return dataset


def ct_images(position: str = "HFS", series: str = "2.25.200", hu: np.ndarray | None = None) -> list[Dataset]:
    """Images of the truth as a scanner stores them for a patient position."""
    hu = truth_hu() if hu is None else hu
    cosines = np.array(ORIENTATIONS[position], dtype=float).reshape(2, 3)
    row_axis, column_axis = (int(np.argmax(np.abs(c))) for c in cosines)
    counts = {0: hu.shape[2], 1: hu.shape[1]}
    images = []
    for k in range(hu.shape[0]):
        image = hu[k] if row_axis == 0 else hu[k].T
        corner = np.array([*ORIGIN[:2], ORIGIN[2] + SPACING[2] * k])
        for axis, cosine, along in ((row_axis, cosines[0], 1), (column_axis, cosines[1], 0)):
            if cosine[axis] < 0:
                image = np.flip(image, along)
                corner[axis] += (counts[axis] - 1) * SPACING[axis]
        dataset = base(CT, "CT", f"{series}.{k + 1}", series)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SeriesDescription = "planning CT"
        dataset.InstanceNumber = k + 1
        dataset.PatientPosition = position
        dataset.SliceThickness = "4"
        dataset.ImagePositionPatient = [float(v) for v in corner]
        dataset.ImageOrientationPatient = list(ORIENTATIONS[position])
        dataset.PixelSpacing = [SPACING[column_axis], SPACING[row_axis]]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = image.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.AcquisitionNumber, dataset.KVP = 1, "120"
        dataset.PixelData = np.ascontiguousarray(image + 1024).astype("<u2").tobytes()
        images.append(dataset)
    return images


def square(low, high, z):
    (x0, y0), (x1, y1) = low, high
    return [x0, y0, z, x1, y0, z, x1, y1, z, x0, y1, z]


def structure_set(names=("BODY", "Liver", "cord"), series: str = "2.25.200", planes=range(SHAPE[0])) -> Dataset:
    """An RTSTRUCT of boxes on the CT."""
    dataset = base(RS, "RTSTRUCT", "2.25.400", "2.25.500")
    dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = "RS1", "20210304", "101112"
    images = []
    for k in range(SHAPE[0]):
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = CT, f"{series}.{k + 1}"
        images.append(one)
    referenced = Dataset()
    referenced.SeriesInstanceUID, referenced.ContourImageSequence = series, Sequence(images)
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "2.25.100"
    study.RTReferencedSeriesSequence = Sequence([referenced])
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = "2.25.300", Sequence([study])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([frame])
    rois, contours, observations = [], [], []
    for n, name in enumerate(names, start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = n, name, "2.25.300"
        roi.ROIGenerationAlgorithm = ""
        rois.append(roi)
        drawn = Dataset()
        drawn.ROIDisplayColor, drawn.ReferencedROINumber = [255, 10 * n, 0], n
        low, high = ((-28, -18), (20, 25)) if n == 1 else ((-10 + n, -10), (10, 10 + n))
        sequence = []
        for k in planes:
            contour = Dataset()
            reference = Dataset()
            reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT, f"{series}.{k + 1}"
            contour.ContourImageSequence = Sequence([reference])
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
            contour.ContourData = square(low, high, ORIGIN[2] + SPACING[2] * k)
            sequence.append(contour)
        drawn.ContourSequence = Sequence(sequence)
        contours.append(drawn)
        seen = Dataset()
        seen.ObservationNumber, seen.ReferencedROINumber = n, n
        seen.RTROIInterpretedType = "EXTERNAL" if n == 1 else "ORGAN"
        seen.ROIInterpreter = ""
        observations.append(seen)
    dataset.StructureSetROISequence = Sequence(rois)
    dataset.ROIContourSequence = Sequence(contours)
    dataset.RTROIObservationsSequence = Sequence(observations)
    return dataset


@dataclass(frozen=True)
class Maker:
    """Writes synthetic cases below a folder."""

    folder: Path

    def write(self, images=None, structures=None) -> Path:
        for n, image in enumerate(ct_images() if images is None else images):
            save(image, self.folder / "CT" / f"CT{n:02d}.dcm")
        if structures is not False:
            save(structure_set() if structures is None else structures, self.folder / "RS.dcm")
        return self.folder

    images = staticmethod(ct_images)
    structures = staticmethod(structure_set)
    save = staticmethod(save)
    truth = staticmethod(truth_hu)
    square = staticmethod(square)
    base = staticmethod(base)
    orientations = ORIENTATIONS
    shape, spacing, origin = SHAPE, SPACING, ORIGIN


@pytest.fixture
def maker(tmp_path) -> Maker:
    return Maker(tmp_path / "case")


@pytest.fixture
def make_in():
    return Maker


@pytest.fixture(scope="session")
def check_dicom():
    """Hold a file against the DICOM standard with dciodvfy."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")

    def check(path: Path) -> None:
        for options in ([], ["-new"]):
            run = subprocess.run(
                [program, *options, str(path)], capture_output=True, text=True, timeout=60, check=False
            )
            lines = (run.stdout + run.stderr).splitlines()
            assert not [line for line in lines if "Error" in line], lines
            assert run.returncode == 0, (run.returncode, lines)

    return check
