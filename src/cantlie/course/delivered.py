"""What was delivered against what was prescribed: records of sessions put into the calendar of a course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.course.calendar import Calendar, Session

Outcome = Literal["as planned", "moved", "incomplete", "missed", "stopped early", "extra"]
COMPLETE_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Delivery:
    """A session as the machine recorded it: a fraction of a target's plan, when, and its monitor units."""

    target: str
    fraction: int
    start: datetime | None
    delivered_mu: float | None
    planned_mu: float | None

    @property
    def share(self) -> float:
        """Delivered monitor units as a share of the planned ones; 1 where the record does not say."""
        if self.delivered_mu is None or not self.planned_mu:
            return 1.0
        return self.delivered_mu / self.planned_mu


@dataclass(frozen=True, slots=True)
class DeliveredSession:
    """A session of the calendar, or one beyond it, with what became of it."""

    number: int | None
    target: str
    fraction: int
    planned: datetime | None
    delivered: datetime | None
    share: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DeliveredCourse:
    """A course as it was delivered: its calendar, session by session, and how much of each target's fractions."""

    calendar: Calendar
    sessions: tuple[DeliveredSession, ...]
    fractions: tuple[tuple[str, int, int], ...]
    notes: tuple[Note, ...]


def delivered_course(calendar: Calendar, deliveries: Sequence[Delivery]) -> DeliveredCourse:
    """Return the calendar as it was delivered.

    A fraction that was recorded is given, at its own time; parts of one fraction (a session taken up again) are added.
    A fraction without a record before the target's last recorded one was missed; later ones were not given because
    the course ended. Doses count whole: a note names sessions with less than 99 % of their monitor units.

    Raises
    ------
    InputError
        If no record belongs to the calendar.
    """
    by_fraction: dict[tuple[str, int], Delivery] = {}
    for one in deliveries:
        key = (one.target, one.fraction)
        if key in by_fraction:
            by_fraction[key] = _together(by_fraction[key], one)
        else:
            by_fraction[key] = one
    known = {(session.target, session.fraction) for session in calendar.given}
    if not known & set(by_fraction):
        raise InputError(
            "no treatment record belongs to a session of the calendar",
            where="RTRECORD",
            remedy="give the protocol that was treated, with its plans",
        )
    last = {target: max(n for t, n in by_fraction if t == target) for target in {t for t, _ in by_fraction}}
    rows: list[DeliveredSession] = []
    sessions: list[Session] = []
    for session in calendar.sessions:
        found = by_fraction.pop((session.target, session.fraction), None) if session.is_given else None
        if not session.is_given:
            sessions.append(session)
            continue
        if found is None:
            missed = session.fraction < last.get(session.target, 0)
            outcome: Outcome = "missed" if missed else "stopped early"
            sessions.append(replace(session, status="missed" if missed else "cancelled"))
            rows.append(_row(session, None, 0.0, outcome))
            continue
        start = found.start or session.start
        moved = start.date() != session.start.date()
        share = found.share
        outcome = "incomplete" if share < COMPLETE_SHARE else "moved" if moved else "as planned"
        sessions.append(replace(session, start=start, status="moved" if moved else session.status))
        rows.append(_row(session, start, share, outcome))
    for (target, fraction), extra in by_fraction.items():
        rows.append(DeliveredSession(None, target, fraction, None, extra.start, extra.share, "extra"))
    ordered = tuple(sorted(sessions, key=lambda s: (s.start, s.number)))
    result = replace(calendar, sessions=ordered, notes=())
    return DeliveredCourse(result, tuple(rows), result.delivered(), _notes(rows, result))


def _together(one: Delivery, other: Delivery) -> Delivery:
    known = [d.delivered_mu for d in (one, other) if d.delivered_mu is not None]
    starts = [d.start for d in (one, other) if d.start is not None]
    return replace(one, delivered_mu=sum(known) if known else None, start=min(starts) if starts else None)


def _row(session: Session, start: datetime | None, share: float, outcome: Outcome) -> DeliveredSession:
    return DeliveredSession(session.number, session.target, session.fraction, session.start, start, share, outcome)


def _notes(rows: Sequence[DeliveredSession], calendar: Calendar) -> tuple[Note, ...]:
    notes = []
    for target, given, prescribed in calendar.delivered():
        if given < prescribed:
            notes.append(Note(f"{given} of {prescribed} fractions were delivered", target))
    for outcome, message in (
        ("missed", "were missed"),
        ("incomplete", "have less than 99 % of their monitor units, but count whole"),
        ("extra", "are beyond the prescribed fractions and do not count"),
    ):
        count = sum(row.outcome == outcome for row in rows)
        if count:
            notes.append(Note(f"{count} sessions {message}", "RTRECORD"))
    return tuple(notes)
