"""The independent check agrees where it should, and notices what it must."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.independent import independent_check, independent_dose
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

POINT = BeamModel.named("reference-6mv-point")


def fields(mu=100.0):
    pixels = pixel_centres(-60, 60, 2.0)
    fluence = aperture_fluence(Aperture((-40, 40), (-35, 35)), mu, None, POINT, pixels, pixels)
    return [Field(BeamGeometry((0.0, 0.0, 0.0), angle), fluence) for angle in (10.0, 130.0, 250.0)]


@pytest.fixture(scope="module")
def cylinder():
    grid = Grid((44, 54, 64), (4.0, 4.0, 4.0), (-126.0, -106.0, -86.0))
    _, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    return Volume(grid, np.where((x / 120) ** 2 + (y / 100) ** 2 < 1, 1.04, 0.0012).astype(np.float32))


def test_calibration_point_gets_its_dose():
    grid = Grid((60, 60, 60), (5.0, 5.0, 5.0), (-147.5, -97.5, -147.5))
    water = Volume(grid, np.ones(grid.shape, dtype=np.float32))
    pixels = pixel_centres(-60, 60, 2.0)
    fluence = aperture_fluence(Aperture((-50, 50), (-50, 50)), 100.0, None, POINT, pixels, pixels)
    dose = independent_dose(water, [Field(BeamGeometry((0.0, 0.0, 0.0), 0.0), fluence)], POINT, [[0.0, 0.0, 0.0]])
    assert dose[0] == pytest.approx(1.0, abs=0.01)


def test_plan_agrees_and_a_wrong_number_of_monitor_units_shows(cylinder):
    dose = collapsed_cone_dose(cylinder, fields(), POINT)
    check = independent_check(cylinder, fields(), POINT, dose)
    assert abs(check.median_percent) < 2.0
    assert check.share_within(4.0) > 0.95
    wrong = independent_check(cylinder, fields(110.0), POINT, dose)
    assert wrong.median_percent == pytest.approx(check.median_percent + 10.0, abs=0.5)


@pytest.mark.parametrize("density", [0.3, 1.8])
def test_behind_a_slab_both_algorithms_attenuate_alike(density):
    grid = Grid((50, 60, 50), (4.0, 4.0, 4.0), (-98.0, -98.0, -98.0))
    values = np.ones(grid.shape, dtype=np.float32)
    values[:, 5:15] = density  # lung or bone from 2 to 6 cm
    slab = Volume(grid, values)
    water = Volume(grid, np.ones(grid.shape, dtype=np.float32))
    pixels = pixel_centres(-60, 60, 2.0)
    fluence = aperture_fluence(Aperture((-50, 50), (-50, 50)), 100.0, None, POINT, pixels, pixels)
    beam = [Field(BeamGeometry((0.0, 0.0, 0.0), 0.0), fluence)]
    point = [[0.0, 60.0, 0.0]]
    ratios = [
        [independent_dose(slab, beam, POINT, point)[0], independent_dose(water, beam, POINT, point)[0]],
        [collapsed_cone_dose(one, beam, POINT).sample(point)[0] for one in (slab, water)],
    ]
    assert ratios[0][0] / ratios[0][1] == pytest.approx(ratios[1][0] / ratios[1][1], rel=0.015)
