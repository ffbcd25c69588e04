"""The dose of a course: sessions, sums, EQD2 per session, BED with repair at the calendar's times."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.course.accumulation import CourseDose
from cantlie.course.calendar import plan_calendar
from cantlie.protocol.loading import load_protocol
from cantlie.radiobiology.repair import Repair

GRID = Grid((1, 1, 3), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
MONDAY = date(2026, 11, 23)


def _plan(*gy):
    return np.array(gy, np.float32).reshape(GRID.shape)


@pytest.fixture
def course():
    calendar = plan_calendar(load_protocol("zhang2021-alternating"), MONDAY)
    doses = {"PTV1": _plan(30.0, 9.0, 30.0), "PTV2": _plan(9.0, 30.0, 30.0)}
    return CourseDose(GRID, calendar, doses, {"PTV1": 15, "PTV2": 15})


def test_physical_dose_is_the_sum_of_the_sessions(course):
    assert course.physical_gy().ravel() == pytest.approx([39.0, 39.0, 60.0], rel=1e-6)
    sessions = sum(course.of_session(s.number) for s in course.calendar.given)
    assert np.allclose(sessions, course.physical_gy(), rtol=1e-6)
    assert course.largest_session_gy() == pytest.approx(2.0)


def test_eqd2_is_summed_per_session_not_from_the_total(course):
    # 15 x 2 Gy and 15 x 0.6 Gy for alpha/beta 2.5; a plan of 39 Gy in 15 fractions would give more
    expected = 15 * 2 * (2 + 2.5) / 4.5 + 15 * 0.6 * (0.6 + 2.5) / 4.5
    assert course.eqd2_gy(2.5).ravel() == pytest.approx([expected, expected, 60.0], rel=1e-6)
    assert expected < 39 * (39 / 15 + 2.5) / 4.5


def test_alternating_repair_gives_the_golden_voxel(course):
    bed = course.bed_gy(2.5, Repair.mono(2.5)).ravel()
    golden = json.loads((Path(__file__).parents[1] / "data" / "golden_values.json").read_text(encoding="utf-8"))
    assert bed[0] == pytest.approx(golden["pairwise_alt_15x(2,0.6)_T2.5"], rel=1e-6)
    assert bed[0] == pytest.approx(bed[1], rel=1e-6)
    sequential = plan_calendar(load_protocol("zhang2021-sequential"), MONDAY)
    other = CourseDose(GRID, sequential, course.plan_dose_gy, course.plan_fractions)
    assert other.bed_gy(2.5, Repair.mono(0.5)).ravel()[0] == pytest.approx(65.16, rel=1e-5)
    assert other.bed_gy(2.5, Repair.mono(2.5)).ravel()[0] < bed[0]
    assert course.eqd2_with_repair_gy(2.5, Repair.mono(2.5)).ravel()[0] == pytest.approx(bed[0] / 1.8)


def test_missed_sessions_give_no_dose_and_own_doses_count(course):
    stopped = CourseDose(GRID, course.calendar.stop_after(MONDAY), course.plan_dose_gy, course.plan_fractions)
    assert stopped.physical_gy().ravel() == pytest.approx([2.6, 2.6, 4.0], rel=1e-6)
    with pytest.raises(DoseError, match="not given"):
        stopped.of_session(30)
    shifted = CourseDose(GRID, course.calendar, course.plan_dose_gy, course.plan_fractions, {1: _plan(0.0, 0.0, 0.0)})
    assert shifted.physical_gy().ravel() == pytest.approx([37.0, 38.4, 58.0], rel=1e-6)
    assert (shifted.bed_gy(2.5, Repair()) < course.bed_gy(2.5, Repair())).all()


def test_wrong_doses_are_refused(course):
    with pytest.raises(DoseError, match="shape"):
        CourseDose(GRID, course.calendar, {"PTV1": np.zeros((2, 2, 2))}, {"PTV1": 15})
    with pytest.raises(DoseError, match="has no dose"):
        CourseDose(GRID, course.calendar, {"PTV1": _plan(1, 1, 1)}, {"PTV1": 15})
