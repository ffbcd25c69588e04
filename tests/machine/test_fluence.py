"""Fluence through jaws and leaves."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import MachineError
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres, summed_fluence
from cantlie.machine.mlc import Mlc

POINT = BeamModel.named("reference-6mv-point")
TYPICAL = BeamModel.named("generic-6mv")


def leaves(axis="X", transmission=0.02, tip_offset_mm=0.0):
    return Mlc(
        axis=axis,
        leaf_boundaries_mm=np.linspace(-200, 200, 41),
        retraction_mm=200,
        over_travel_mm=100,
        max_spread_mm=400,
        transmission=transmission,
        tip_offset_mm=tip_offset_mm,
    )


def test_open_area_counts_exactly_wherever_the_jaws_stand():
    x = pixel_centres(-60, 60, 2.5)
    fluence = aperture_fluence(Aperture((-33.3, 21.7), (-17.1, 40.9)), 7.0, None, POINT, x, x)
    assert fluence.values_mu.sum() * 2.5**2 == pytest.approx(7.0 * 55.0 * 58.0)
    assert fluence.values_mu.max() == pytest.approx(7.0)


@pytest.mark.parametrize("axis", ["X", "Y"])
def test_leaves_under_jaws_transmit_as_the_product(axis):
    x = pixel_centres(-100, 100, 1.0)
    lower = np.full(40, -12.25)
    upper = np.full(40, 7.5)
    lower[18:20] = upper[18:20] = 0.0  # two closed pairs, from -20 to 0 mm
    wide = (-30.0, 30.0)
    mlc = leaves(axis, tip_offset_mm=0.5)
    model = POINT.model_copy(update={"jaw_transmission": 0.1})
    values = aperture_fluence(Aperture(wide, wide, lower, upper), 1.0, mlc, model, x, x).values_mu
    if axis == "Y":
        values = values.T

    def at(along_mm, across_mm):
        return values[int(across_mm + 100), int(along_mm + 100)]

    assert at(0.5, 5.5) == pytest.approx(1.0)
    assert at(7.5, 5.5) == pytest.approx(1.0)
    assert at(8.5, 5.5) == pytest.approx(0.02)
    assert at(-12.5, 5.5) == pytest.approx(0.75 + 0.25 * 0.02)
    assert at(-13.5, 5.5) == pytest.approx(0.02)
    assert at(0.5, -10.5) == pytest.approx(0.02)
    assert at(0.5, 50.5) == pytest.approx(0.1)
    assert at(50.5, 50.5) == pytest.approx(0.002)


def test_segments_add_up():
    x = pixel_centres(-80, 80, 2.0)
    generator = np.random.default_rng(5)
    apertures = []
    for _ in range(6):
        lower = generator.uniform(-60, 0, 40)
        apertures.append(Aperture((-70, 70), (-60, 55), lower, lower + generator.uniform(0, 60, 40)))
    units = generator.uniform(1, 20, 6)
    together = summed_fluence(apertures, units, leaves(), TYPICAL, x, x).values_mu
    one_by_one = sum(
        aperture_fluence(a, u, leaves(), TYPICAL, x, x).values_mu for a, u in zip(apertures, units, strict=True)
    )
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12, atol=1e-12)


def test_penumbra_of_the_focal_spot_has_its_projected_width():
    x = pixel_centres(-50, 50, 0.5)
    y = pixel_centres(-50, 50, 5.0)
    model = POINT.model_copy(update={"focal_spot_sigma_mm": 2.0, "collimator_distance_mm": 400.0})
    values = aperture_fluence(Aperture((-200, 0), (-200, 200)), 1.0, None, model, x, y).values_mu
    profile = values[values.shape[0] // 2]
    slope = -np.gradient(profile, 0.5)
    near = np.abs(x) < 20
    width = np.sqrt((slope[near] * x[near] ** 2).sum() / slope[near].sum())
    assert width == pytest.approx(2.0 * 600 / 400, rel=0.02)


def test_extra_focal_source_makes_the_output_grow_with_the_field():
    x = pixel_centres(-200, 200, 2.5)
    output = [
        aperture_fluence(Aperture((-h, h), (-h, h)), 1.0, None, TYPICAL, x, x).values_mu[80, 80] for h in (20, 50, 100)
    ]
    assert output[0] < output[1] < output[2] < 1.001
    assert output[0] > 0.93


def test_leaves_that_the_machine_does_not_have_are_refused():
    x = pixel_centres(-20, 20, 5.0)
    with pytest.raises(MachineError, match="60 leaf pairs"):
        aperture_fluence(Aperture((-5, 5), (-5, 5), np.zeros(60), np.ones(60)), 1.0, leaves(), POINT, x, x)
    with pytest.raises(MachineError, match="no leaves"):
        aperture_fluence(Aperture((-5, 5), (-5, 5), np.zeros(60), np.ones(60)), 1.0, None, POINT, x, x)
