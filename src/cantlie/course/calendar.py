"""The treatment calendar: every session with date and time, weekends, holidays, missed and moved sessions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.notes import Note
from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Schedule
from cantlie.radiobiology.linear_quadratic import OverallTime

Status = Literal["planned", "missed", "moved", "made up", "cancelled"]
_LONGEST_COURSE_DAYS = 400


@dataclass(frozen=True, slots=True)
class Session:
    """One session: one fraction of one target's plan.

    Attributes
    ----------
    number
        From 1, in the order of the original calendar; made-up sessions go on counting.
    target, fraction
        Whose fraction it is, counted from 1 for each target.
    start
        Date and local time.
    status
        ``planned``, ``moved`` or ``made up`` are given; ``missed`` or ``cancelled`` are not.
    """

    number: int
    target: str
    fraction: int
    start: datetime
    status: Status = "planned"

    @property
    def is_given(self) -> bool:
        """Whether the session gives dose."""
        return self.status not in ("missed", "cancelled")


@dataclass(frozen=True, slots=True)
class Calendar:
    """All sessions of a course, in the order of their time.

    Attributes
    ----------
    sessions
        Given and not given ones.
    schedule
        The rules that they were placed by.
    holidays
        Days without treatment.
    prescribed
        Target to the number of its prescribed fractions.
    notes
        What is unusual.
    """

    sessions: tuple[Session, ...]
    schedule: Schedule
    holidays: frozenset[date]
    prescribed: tuple[tuple[str, int], ...]
    notes: tuple[Note, ...] = ()

    @property
    def given(self) -> tuple[Session, ...]:
        """The sessions that give dose."""
        return tuple(session for session in self.sessions if session.is_given)

    @property
    def calendar_days(self) -> int:
        """Days from the first to the last given session, both counted."""
        return _days(self.given)

    @property
    def treatment_days(self) -> int:
        """Number of days with at least one given session."""
        return len({session.start.date() for session in self.given})

    def of_target(self, target: str) -> tuple[Session, ...]:
        """Return the given sessions of one target."""
        return tuple(session for session in self.given if session.target == target)

    def hours(self) -> NDArray[np.float64]:
        """Return the times of the given sessions in hours after the first."""
        first = self.given[0].start if self.given else datetime.min
        return np.array([(session.start - first).total_seconds() / 3600.0 for session in self.given])

    def delivered(self) -> tuple[tuple[str, int, int], ...]:
        """Return (target, fractions given, fractions prescribed) for every target."""
        return tuple((target, len(self.of_target(target)), count) for target, count in self.prescribed)

    def overall_time(self) -> OverallTime:
        """Return the overall times, counted per target and over the whole course (last minus first session)."""
        groups = [self.of_target(target) for target, _ in self.prescribed]
        groups = [group for group in groups if group]
        first = min(group[0].start for group in groups)
        return OverallTime(
            tuple(_span_days(group) for group in groups),
            _span_days(self.given),
            tuple((group[0].start - first).total_seconds() / 86400.0 for group in groups),
        )

    def shortest_interval_h(self) -> float:
        """Return the shortest time between two given sessions in hours; infinite for a single one."""
        return float(np.diff(self.hours()).min()) if len(self.given) > 1 else float("inf")

    def miss(self, number: int, *, make_up: bool = True) -> Calendar:
        """Return the calendar with a session missed and, unless told otherwise, made up after its target's last one.

        Raises
        ------
        PlanningError
            If there is no such session, or it is not given anyway.
        """
        session = self._session(number)
        sessions = [replace(s, status="missed") if s.number == number else s for s in self.sessions]
        if make_up:
            last = max(s.start for s in self.of_target(session.target))
            day = self._next_treatment_day(max(last, session.start).date() + timedelta(days=self.schedule.every_days))
            highest = max(s.number for s in self.sessions)
            start = datetime.combine(day, session.start.time())
            sessions.append(Session(highest + 1, session.target, session.fraction, start, "made up"))
        return self._with(sessions)

    def move(self, number: int, start: datetime) -> Calendar:
        """Return the calendar with a session at another time.

        Raises
        ------
        PlanningError
            If there is no such session, it is not given, or another session has that time.
        """
        self._session(number)
        if any(s.start == start and s.number != number for s in self.given):
            raise PlanningError(f"another session is already at {start:%Y-%m-%d %H:%M}", where=f"session {number}")
        return self._with([replace(s, start=start, status="moved") if s.number == number else s for s in self.sessions])

    def stop_after(self, last_day: date) -> Calendar:
        """Return the calendar with all sessions after a day cancelled."""
        return self._with(
            [replace(s, status="cancelled") if s.is_given and s.start.date() > last_day else s for s in self.sessions]
        )

    def _session(self, number: int) -> Session:
        for session in self.sessions:
            if session.number == number:
                if not session.is_given:
                    raise PlanningError(f"session {number} is {session.status} already", where="calendar")
                return session
        raise PlanningError(
            f"there is no session {number}",
            where="calendar",
            remedy=f"sessions are numbered 1 to {max(s.number for s in self.sessions)}",
        )

    def _next_treatment_day(self, day: date) -> date:
        return _next_day(day, self.schedule, self.holidays)

    def _with(self, sessions: list[Session]) -> Calendar:
        ordered = tuple(sorted(sessions, key=lambda s: (s.start, s.number)))
        changed = replace(self, sessions=ordered, notes=())
        return replace(changed, notes=_notes(changed))


def plan_calendar(
    protocol: Protocol, start: date, *, holidays: Collection[date] = (), scheme: str | None = None
) -> Calendar:
    """Place all sessions of a protocol.

    ``alternating``: on every treatment day each target that has fractions left, in the protocol's order,
    ``interval_h`` apart. ``sequential``: one target after the other, each on the next treatment day after the last.
    Treatment days are the first ``days_per_week`` days from Monday, not holidays, and ``every_days`` apart.

    Parameters
    ----------
    start
        The first day; when it is not a treatment day, the next one that is.
    holidays
        Days without treatment.
    scheme
        The prescription scheme, where the protocol leaves a choice.

    Raises
    ------
    PlanningError
        If the sessions of a day do not fit into it, or no end can be found.
    """
    schedule = protocol.schedule
    counts = [(target, protocol.prescription(target, scheme).fractions) for target in protocol.target_ids]
    closed = frozenset(holidays)
    hour, minute = (int(part) for part in schedule.first_session.split(":"))
    first = time(hour, minute)
    day = _next_day(start, schedule, closed)
    sessions: list[Session] = []
    if schedule.order == "alternating":
        interval = timedelta(hours=schedule.interval_h or 0.0)
        last = datetime.combine(day, first) + interval * (len(counts) - 1)
        if last.date() != day:
            raise PlanningError(
                f"{len(counts)} sessions {schedule.interval_h:g} h apart from {schedule.first_session} exceed a day",
                where="schedule",
                remedy="start earlier or shorten the interval",
            )
        for fraction in range(1, max(count for _, count in counts) + 1):
            for position, (target, count) in enumerate(counts):
                if fraction <= count:
                    moment = datetime.combine(day, first) + position * interval
                    sessions.append(Session(len(sessions) + 1, target, fraction, moment))
            day = _next_day(day + timedelta(days=schedule.every_days), schedule, closed)
    else:
        for target, count in counts:
            for fraction in range(1, count + 1):
                sessions.append(Session(len(sessions) + 1, target, fraction, datetime.combine(day, first)))
                day = _next_day(day + timedelta(days=schedule.every_days), schedule, closed)
            day = _next_day(day + timedelta(days=schedule.pause_days), schedule, closed)
    calendar = Calendar(tuple(sessions), schedule, closed, tuple(counts))
    return replace(calendar, notes=_notes(calendar))


def next_monday(today: date) -> date:
    """Return the first Monday after a day."""
    return today + timedelta(days=7 - today.weekday())


def _next_day(day: date, schedule: Schedule, holidays: frozenset[date]) -> date:
    for _ in range(_LONGEST_COURSE_DAYS):
        if day.weekday() < schedule.days_per_week and day not in holidays:
            return day
        day += timedelta(days=1)
    raise PlanningError("there is no treatment day within a year", where="calendar", remedy="list fewer holidays")


def _days(sessions: tuple[Session, ...]) -> int:
    if not sessions:
        return 0
    return (sessions[-1].start.date() - sessions[0].start.date()).days + 1


def _span_days(sessions: tuple[Session, ...]) -> float:
    return (sessions[-1].start - sessions[0].start).total_seconds() / 86400.0


def _notes(calendar: Calendar) -> tuple[Note, ...]:
    notes = []
    schedule = calendar.schedule
    if schedule.interval_h is not None and calendar.shortest_interval_h() < schedule.interval_h - 1e-9:
        message = (
            f"two sessions are only {calendar.shortest_interval_h():.1f} h apart instead of {schedule.interval_h:g} h"
        )
        notes.append(Note(message, "calendar"))
    for target, given, prescribed in calendar.delivered():
        if given != prescribed:
            notes.append(Note(f"{given} of {prescribed} prescribed fractions are given", target))
        days = [session.start.date() for session in calendar.of_target(target)]
        longest = max(((b - a).days for a, b in pairwise(days)), default=0)
        usual = max(schedule.every_days, 3) + 1
        if longest > usual:
            notes.append(Note(f"a gap of {longest} days lies between two sessions", target))
    if schedule.maximum_days is not None and calendar.calendar_days > schedule.maximum_days:
        notes.append(
            Note(f"the course takes {calendar.calendar_days} days, more than {schedule.maximum_days}", "calendar")
        )
    return tuple(notes)
