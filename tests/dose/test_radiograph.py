"""Radiographs: attenuation of known objects, and nothing flipped."""

from dataclasses import replace

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.radiograph import WATER_PER_MM, attenuation_of, radiograph
from cantlie.machine.geometry import PATIENT_POSITIONS, BeamGeometry

GRID = Grid((50, 60, 60), (4.0, 4.0, 4.0), (-118.0, -118.0, -98.0))


def _ct_with_pellet(centre_mm) -> Volume:
    hu = np.full(GRID.shape, -1000.0, dtype=np.float32)
    hu[np.linalg.norm(GRID.points_mm() - np.asarray(centre_mm), axis=-1) < 8] = 3000.0
    return attenuation_of(Volume(GRID, hu))


def _spot(image):
    total = image.attenuation.sum()
    return (image.attenuation @ image.x_mm).sum() / total, (image.y_mm @ image.attenuation).sum() / total


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
@pytest.mark.parametrize(("gantry", "collimator", "couch"), [(0, 0, 0), (90, 0, 0), (215, 0, 20), (320, 35, 0)])
def test_a_pellet_appears_where_the_beam_sees_it(position, gantry, collimator, couch):
    pellet = (30.0, -42.0, 55.0)
    geometry = BeamGeometry((5.0, -10.0, 3.0), gantry, collimator, couch, 1000.0, position)
    x, y = _spot(radiograph(_ct_with_pellet(pellet), geometry, pixel_mm=2.0))
    expected_x, expected_y, _ = geometry.project(pellet)
    assert (x, y) == pytest.approx((float(expected_x), float(expected_y)), abs=1.0)


def test_from_the_front_the_left_side_is_on_the_right_and_the_head_on_top():
    x, y = _spot(radiograph(_ct_with_pellet((40.0, 0.0, 60.0)), BeamGeometry((0, 0, 0), 0.0)))
    assert x > 30  # the patient's left
    assert y > 50  # the head


def test_from_the_patients_left_the_front_is_on_the_left():
    x, y = _spot(radiograph(_ct_with_pellet((0.0, -40.0, 60.0)), BeamGeometry((0, 0, 0), 90.0)))
    assert abs(x) > 30
    from_left = BeamGeometry((0, 0, 0), 90.0)
    assert from_left.source_mm[0] > 900  # gantry 90 stands at the left of a patient lying supine, head first
    # looking from the left side towards the right, the head up: the front is on the left of the viewer
    assert x < -30
    assert y > 50


def test_water_attenuates_as_long_as_the_ray_is_inside():
    hu = np.full(GRID.shape, -1000.0, dtype=np.float32)
    hu[:, 10:40, :] = 0.0  # 120 mm along y
    image = radiograph(
        attenuation_of(Volume(GRID, hu)), BeamGeometry((0, 0, 0), 0.0), size_mm=40, pixel_mm=4, step_mm=0.5
    )
    slant = np.sqrt(1 + (image.x_mm[None, :] ** 2 + image.y_mm[:, None] ** 2) / 1000.0**2)
    np.testing.assert_allclose(image.attenuation, 120 * WATER_PER_MM * slant, rtol=6e-3)


def test_an_image_beside_the_patient_is_empty_and_no_pixels_are_refused():
    far = replace(BeamGeometry((0, 0, 0), 0.0), isocentre_mm=(3000.0, 0.0, 0.0))
    assert radiograph(_ct_with_pellet((0, 0, 0)), far, size_mm=100).attenuation.max() == 0
    with pytest.raises(DoseError, match="pixels"):
        radiograph(_ct_with_pellet((0, 0, 0)), far, size_mm=100, pixel_mm=0)
