"""Delivered against prescribed: given, moved, incomplete, missed, stopped early, beyond the prescription."""

from datetime import date, timedelta

import pytest

from cantlie.core.errors import InputError
from cantlie.course.calendar import plan_calendar
from cantlie.course.delivered import Delivery, delivered_course
from cantlie.protocol.loading import load_protocol

PROTOCOL = load_protocol("zhang2021-alternating")


@pytest.fixture
def calendar():
    return plan_calendar(PROTOCOL, date(2026, 1, 5))


def _all(calendar):
    return [Delivery(s.target, s.fraction, s.start, 100.0, 100.0) for s in calendar.given]


def test_a_course_as_planned_stays_as_it_is(calendar):
    course = delivered_course(calendar, _all(calendar))
    assert {row.outcome for row in course.sessions} == {"as planned"}
    assert course.fractions == (("PTV1", 15, 15), ("PTV2", 15, 15))
    assert course.calendar.given == calendar.given
    assert course.notes == ()


def test_moved_missed_incomplete_and_stopped_early(calendar):
    found = _all(calendar)
    by = {(d.target, d.fraction): n for n, d in enumerate(found)}
    moved, partial = by["PTV1", 2], by["PTV2", 3]
    found[moved] = Delivery("PTV1", 2, found[moved].start + timedelta(days=4), 100.0, 100.0)
    found[partial] = Delivery("PTV2", 3, found[partial].start, 60.0, 100.0)
    dropped = {by["PTV1", 4], *(by["PTV2", n] for n in (13, 14, 15))}
    course = delivered_course(calendar, [d for n, d in enumerate(found) if n not in dropped])
    outcome = {(row.target, row.fraction): row.outcome for row in course.sessions}
    assert outcome["PTV1", 2] == "moved"
    assert outcome["PTV2", 3] == "incomplete"
    assert outcome["PTV1", 4] == "missed"
    assert [outcome["PTV2", n] for n in (12, 13, 15)] == ["as planned", "stopped early", "stopped early"]
    assert course.fractions == (("PTV1", 14, 15), ("PTV2", 12, 15))
    assert any("12 of 15" in note.message for note in course.notes)
    starts = [session.start for session in course.calendar.given]
    assert starts == sorted(starts)


def test_parts_of_one_fraction_are_added_and_more_than_prescribed_is_named(calendar):
    found = _all(calendar)
    first = found[0]
    found[0] = Delivery(first.target, first.fraction, first.start, 30.0, 100.0)
    found.append(Delivery(first.target, first.fraction, first.start + timedelta(hours=1), 70.0, 100.0))
    found.append(Delivery("PTV1", 16, None, 100.0, 100.0))
    course = delivered_course(calendar, found)
    assert course.sessions[0].share == pytest.approx(1.0)
    assert course.sessions[-1].outcome == "extra"


def test_records_of_another_plan_are_refused(calendar):
    with pytest.raises(InputError, match="no treatment record"):
        delivered_course(calendar, [Delivery("PTV9", 1, None, None, None)])
