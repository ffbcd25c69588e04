"""The calendar: known lengths, weekends and holidays, missed, moved and cancelled sessions."""

import json
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import PlanningError
from cantlie.course.calendar import next_monday, plan_calendar
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.sections import Prescription, Schedule

MONDAY = date(2026, 11, 23)
GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden_values.json").read_text(encoding="utf-8"))
ALTERNATING = load_protocol("zhang2021-alternating")
SEQUENTIAL = load_protocol("zhang2021-sequential")


def _single(fractions, **schedule):
    prescription = Prescription(target="PTV1", dose_per_fraction_gy=2.0, fractions=fractions)
    order = Schedule(order="sequential", targets=("PTV1",), **schedule)
    return ALTERNATING.model_copy(update={"prescriptions": (prescription,), "schedule": order})


@pytest.mark.parametrize("name", GOLDEN["calendar_days_monday_start"])
def test_courses_from_a_monday_take_the_known_number_of_days(name):
    calendar = plan_calendar(_single(int(name.removesuffix("fx"))), MONDAY)
    assert calendar.calendar_days == GOLDEN["calendar_days_monday_start"][name]


def test_alternating_gives_both_halves_each_day_six_hours_apart():
    calendar = plan_calendar(ALTERNATING, MONDAY)
    assert len(calendar.given) == 30
    assert (calendar.treatment_days, calendar.calendar_days) == (15, 19)
    assert [s.target for s in calendar.given[:4]] == ["PTV1", "PTV2", "PTV1", "PTV2"]
    assert calendar.given[1].start == datetime(2026, 11, 23, 15)
    assert calendar.shortest_interval_h() == 6.0
    assert calendar.overall_time().start_delay_days == (0.0, 0.25)
    assert calendar.overall_time().per_half_days == (18.0, 18.0)
    assert calendar.notes == ()


def test_sequential_gives_one_half_after_the_other():
    calendar = plan_calendar(SEQUENTIAL, MONDAY)
    assert (calendar.treatment_days, calendar.calendar_days) == (30, 40)
    assert [s.target for s in calendar.given] == ["PTV1"] * 15 + ["PTV2"] * 15
    assert calendar.overall_time().start_delay_days == (0.0, 21.0)
    assert calendar.delivered() == (("PTV1", 15, 15), ("PTV2", 15, 15))


def test_every_other_day_skips_a_day_and_the_weekend():
    calendar = plan_calendar(_single(4, every_days=2), MONDAY)
    assert [s.start.date().isoformat()[5:] for s in calendar.given] == ["11-23", "11-25", "11-27", "11-30"]


def test_holidays_and_weekends_move_the_start_and_the_rest():
    calendar = plan_calendar(_single(3), date(2026, 11, 21), holidays=[MONDAY, date(2026, 11, 25)])
    assert [s.start.day for s in calendar.given] == [24, 26, 27]
    assert next_monday(date(2026, 11, 21)) == MONDAY and next_monday(MONDAY) == date(2026, 11, 30)


def test_a_missed_session_is_made_up_at_the_end_or_dropped():
    planned = plan_calendar(ALTERNATING, MONDAY)
    made_up = planned.miss(4)
    assert made_up.delivered() == (("PTV1", 15, 15), ("PTV2", 15, 15))
    last = made_up.given[-1]
    assert (last.target, last.fraction, last.status) == ("PTV2", 2, "made up")
    assert last.start == datetime(2026, 12, 14, 15)
    dropped = planned.miss(4, make_up=False)
    assert dropped.delivered() == (("PTV1", 15, 15), ("PTV2", 14, 15))
    assert any("14 of 15" in note.message for note in dropped.notes)
    with pytest.raises(PlanningError, match="missed already"):
        dropped.miss(4)
    with pytest.raises(PlanningError, match="no session 99"):
        planned.miss(99)


def test_a_moved_session_that_comes_too_close_is_noted():
    planned = plan_calendar(ALTERNATING, MONDAY)
    moved = planned.move(2, datetime(2026, 11, 23, 11))
    assert moved.given[1].status == "moved"
    assert any("2.0 h apart instead of 6 h" in note.message for note in moved.notes)
    with pytest.raises(PlanningError, match="another session"):
        planned.move(2, datetime(2026, 11, 23, 9))


def test_an_early_stop_cancels_the_rest():
    stopped = plan_calendar(SEQUENTIAL, MONDAY).stop_after(date(2026, 12, 15))
    assert stopped.delivered() == (("PTV1", 15, 15), ("PTV2", 2, 15))
    assert [note.where for note in stopped.notes] == ["PTV2"]
    with pytest.raises(PlanningError, match="cancelled"):
        stopped.miss(30)


def test_a_long_gap_is_noted():
    planned = plan_calendar(_single(5), MONDAY)
    moved = planned.move(5, datetime(2026, 12, 10, 9))
    assert any("gap of 14 days" in note.message for note in moved.notes)


def test_sessions_that_do_not_fit_a_day_are_refused():
    late = ALTERNATING.schedule.model_copy(update={"first_session": "20:00"})
    with pytest.raises(PlanningError, match="exceed a day"):
        plan_calendar(ALTERNATING.model_copy(update={"schedule": late}), MONDAY)


@settings(deadline=None, max_examples=60)
@given(
    start=st.dates(date(2024, 1, 1), date(2030, 1, 1)),
    holidays=st.lists(st.integers(0, 60), max_size=15),
    days_per_week=st.integers(1, 7),
    every_days=st.integers(1, 3),
    fractions=st.integers(1, 20),
)
def test_no_session_falls_on_a_closed_day(start, holidays, days_per_week, every_days, fractions):
    closed = {start + timedelta(days=n) for n in holidays}
    calendar = plan_calendar(
        _single(fractions, days_per_week=days_per_week, every_days=every_days), start, holidays=closed
    )
    days = [session.start.date() for session in calendar.given]
    assert len(days) == fractions == len(set(days))
    assert all(day.weekday() < days_per_week and day not in closed and day >= start for day in days)
    assert all((b - a).days >= every_days for a, b in pairwise(days))
