"""Scenarios of set-up and density: which way things move, what is conserved, and bands around the plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.bands import BandCollector
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.scenarios import (
    Scenario,
    blurred,
    course_scenarios,
    moved,
    moved_values,
    setup_scenarios,
)

GRID = Grid((30, 24, 20), (3.0, 2.0, 4.0), (-30.0, -20.0, -60.0))


def _parabola(grid: Grid) -> np.ndarray:
    p = grid.points_mm()
    return (50 + 0.3 * p[..., 0] - 0.2 * p[..., 1] + 0.1 * p[..., 2] + 0.004 * p[..., 2] ** 2).astype(np.float32)


def test_anatomy_displaced_to_the_left_gets_what_lies_further_left():
    dose = Volume(GRID, _parabola(GRID))
    point = np.array([3.0, 5.0, 10.0])
    shift = (4.0, -3.0, 6.0)
    expected = dose.sample(point + np.asarray(shift))
    assert moved(dose, shift).sample(point) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shift", [(4.0, -3.0, 6.0), (-4.0, 3.0, -6.0)])
def test_the_anatomy_stays_covered_at_the_edge_of_the_dose(shift):
    dose = Volume(GRID, _parabola(GRID))
    found = moved(dose, shift)
    corners = np.array([GRID.lower_mm + 0.1, GRID.upper_mm - 0.1])
    assert (found.sample(corners, outside=-1.0) > 0).all()


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.floats(-9, 9) for _ in range(3)]))
def test_cubic_convolution_is_exact_for_parabolas_inside(shift):
    found = moved_values(_parabola(GRID), GRID, shift)
    p = GRID.points_mm() + np.asarray(shift)
    exact = 50 + 0.3 * p[..., 0] - 0.2 * p[..., 1] + 0.1 * p[..., 2] + 0.004 * p[..., 2] ** 2
    inner = (slice(6, -6), slice(8, -8), slice(6, -6))
    np.testing.assert_allclose(found[inner], exact[inner], rtol=2e-5)


def test_six_displacements_and_two_densities():
    scenarios = setup_scenarios((2.0, 3.0, 5.0), 3.0)
    assert [s.name for s in scenarios][:2] == ["2 mm to left", "2 mm to right"]
    assert {s.shift_mm for s in scenarios if s.kind == "set-up"} == {
        (2, 0, 0), (-2, 0, 0), (0, 3, 0), (0, -3, 0), (0, 0, 5), (0, 0, -5),
    }  # fmt: skip
    assert [s.density_factor for s in scenarios if s.kind == "density"] == pytest.approx([1.03, 0.97])
    assert [s.name for s in scenarios if s.kind == "set-up"][-2:] == ["5 mm to head", "5 mm to feet"]


def test_an_impossible_shift_is_refused():
    with pytest.raises(InputError, match="shift"):
        setup_scenarios((np.nan, 0, 0))
    with pytest.raises(InputError, match="density"):
        setup_scenarios((1, 1, 1), -3)


def test_drawn_courses_have_the_second_moments_of_sessions():
    drawn = course_scenarios((2, 2, 2), (3, 3, 3), {"PTV": 5}, count=4000, seed=3)
    means = np.array([s.shift_of("PTV") for s in drawn])
    assert means.std(axis=0) == pytest.approx(np.hypot(2, 3 / np.sqrt(5)) * np.ones(3), rel=0.05)
    assert drawn[0].random_sd_mm == pytest.approx((3 * np.sqrt(0.8),) * 3)
    assert course_scenarios((2, 2, 2), (3, 3, 3), {"PTV": 5}, seed=3)[0] == drawn[0]


def test_blur_of_an_edge_is_the_error_function():
    grid = Grid((5, 5, 81), (1.0, 1.0, 1.0), (-40.0, 0.0, 0.0))
    edge = np.broadcast_to((grid.x_mm < 0.5).astype(np.float32), grid.shape)
    found = blurred(Volume(grid, edge), (4.0, 0.0, 0.0)).values[2, 2]
    np.testing.assert_allclose(found[15:-15], ndtr((0.5 - grid.x_mm) / 4.0)[15:-15], atol=0.015)


def test_a_band_holds_the_plan_and_every_scenario():
    centre = GRID.points_mm().mean(axis=(0, 1, 2))
    far = np.linalg.norm(GRID.points_mm() - centre, axis=-1)
    dose = Volume(GRID, (60 * np.exp(-((far / 25) ** 2))).astype(np.float32))
    mask = (far < 12).astype(np.float32)
    nominal = {("CTV", "course"): dvh(dose, mask, GRID, name="CTV")}
    collector = BandCollector(nominal)
    for scenario in setup_scenarios((5, 5, 5)):
        collector.add(scenario, {("CTV", "course"): dvh(moved(dose, scenario.shift_mm), mask, GRID, name="CTV")})
    collector.add(Scenario("course 1", "course"), nominal)
    (band,) = collector.bands()
    assert (band.low_percent <= band.nominal_percent).all()
    assert (band.high_percent >= band.nominal_percent).all()
    assert (band.nominal_percent - band.low_percent).max() > 10
    np.testing.assert_allclose(band.median_percent, band.nominal_percent)
