"""RTIMAGE: valid, upright, and to scale."""

import numpy as np
import pydicom
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.reading import read_case
from cantlie.dicom.rtimage import write_rtimage
from cantlie.dose.radiograph import attenuation_of, radiograph
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry


@pytest.fixture
def written(tmp_path, maker):
    grid = Grid((50, 50, 50), (4.0, 4.0, 4.0), (-98.0, -98.0, -98.0))
    hu = np.full(grid.shape, -1000.0, dtype=np.float32)
    hu[np.linalg.norm(grid.points_mm() - np.array([30.0, 0.0, 60.0]), axis=-1) < 8] = 1000.0
    image = radiograph(attenuation_of(Volume(grid, hu)), BeamGeometry((0.0, 0.0, 0.0), 0.0), size_mm=300, pixel_mm=2.0)
    path = tmp_path / "RI.dcm"
    case = read_case(maker.write())
    aperture = Aperture((-40.0, 50.0), (-30.0, 60.0))
    write_rtimage(case, image, path, label="DRR beam 1", plan_uid="2.25.77", beam_number=1, aperture=aperture)
    return path


def test_the_head_is_on_top_and_the_left_side_on_the_right(written):
    image = pydicom.dcmread(written)
    row, column = np.unravel_index(np.argmax(image.pixel_array), image.pixel_array.shape)
    x = image.RTImagePosition[0] + column * image.ImagePlanePixelSpacing[1]
    y = image.RTImagePosition[1] - row * image.ImagePlanePixelSpacing[0]
    assert (x, y) == pytest.approx((30, 60), abs=8)
    assert row < image.Rows / 2 < column
    assert list(image.RTImageOrientation) == [1, 0, 0, 0, -1, 0]
    assert image.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == "2.25.77"
    assert "Research use only" in image.SeriesDescription


def test_it_obeys_the_standard(written, check_dicom):
    check_dicom(written)
