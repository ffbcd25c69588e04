"""Image guidance judged session by session: was an image due and taken, was the action level kept, and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.cohort.shift_log import ShiftEntry, ShiftLog, Three
from cantlie.core.notes import Note
from cantlie.course.calendar import Calendar, Session
from cantlie.protocol.uncertainty import Guidance
from cantlie.target.setup_errors import SetupErrors, setup_errors, van_herk_margin_mm

Verdict = Literal["pass", "fail", "not evaluable"]

AXES = ("left-right", "anterior-posterior", "craniocaudal")
COVERED_SHARE = 0.90
AFTER_THE_LOG = "after the last row of the log"


@dataclass(frozen=True, slots=True)
class GuidanceRow:
    """One session: what was due, what was done, and the verdict with its reasons.

    ``entry`` is None where the log has no row for a session of the calendar; ``session`` is None for a row without a
    session.
    """

    patient: str
    number: int | None
    start: datetime | None
    target: str
    due: bool | None
    entry: ShiftEntry | None
    over_axes: tuple[str, ...]
    action: str
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AxisStatistics:
    """Displacements of one patient along one axis before correction, in mm.

    ``absolute_mean_mm`` and ``absolute_sd_mm`` are the form in which Pei 2019 prints them. ``covering_mm`` is the
    margin that would have covered 90 % of the images without any correction.
    """

    axis: str
    images: int
    mean_mm: float
    sd_mm: float | None
    absolute_mean_mm: float
    absolute_sd_mm: float | None
    largest_mm: float
    covering_mm: float


@dataclass(frozen=True, slots=True)
class PopulationErrors:
    """Systematic and random errors of a group of patients, and van Herk's margin, before and after correction."""

    before: SetupErrors
    margin_before_mm: Three
    after: SetupErrors
    margin_after_mm: Three


def judge_guidance(log: ShiftLog, patient: str, rule: Guidance, calendar: Calendar | None) -> tuple[GuidanceRow, ...]:
    """Judge one patient's log against the protocol's image guidance.

    Where an image is due none may be missing; a displacement that reaches the action level along any axis must be
    corrected; matching must end with what the protocol matches last; approval must be there where the protocol wants
    it. Sessions before the day on which guidance became available need no image. Sessions after the last row of the
    log are not judged: the course may be under way.
    """
    entries = log.of_patient(patient)
    if calendar is None:
        return tuple(_judged(patient, None, entry, None, rule) for entry in entries)
    matched = match_sessions(entries, calendar)
    due = due_sessions(calendar, rule)
    last = max(matched, default=0)
    rows = [
        _judged(patient, session, matched.get(session.number), due.get(session.number), rule, session.number > last)
        for session in calendar.given
    ]
    used = {entry.row for entry in matched.values()}
    rows += [_judged(patient, None, entry, None, rule) for entry in entries if entry.row not in used]
    return tuple(rows)


def due_sessions(calendar: Calendar, rule: Guidance) -> dict[int, bool]:
    """Return for every given session whether the protocol wants an image; empty where it does not say."""
    if not rule.frequency:
        return {}
    due: dict[int, bool] = {}
    weeks: set[tuple[str, int, int]] = set()
    counts: dict[str, int] = {}
    for session in calendar.given:
        day = session.start.date()
        if rule.available_from is not None and day < rule.available_from:
            due[session.number] = False
            continue
        counts[session.target] = counts.get(session.target, 0) + 1
        week = (session.target, *day.isocalendar()[:2])
        new_week = week not in weeks
        weeks.add(week)
        early = rule.frequency == "first_then_weekly" and counts[session.target] <= rule.first_sessions
        due[session.number] = rule.frequency == "every_session" or early or new_week
    return due


def match_sessions(entries: Sequence[ShiftEntry], calendar: Calendar) -> dict[int, ShiftEntry]:
    """Return the row of the log for each given session: by its number, else by day, target and clock."""
    result: dict[int, ShiftEntry] = {}
    by_number = {entry.session: entry for entry in entries if entry.session is not None}
    free = [entry for entry in entries if entry.session is None]
    for session in calendar.given:
        if session.number in by_number:
            result[session.number] = by_number[session.number]
            continue
        fitting = [e for e in free if e.day == session.start.date() and e.target in ("", session.target)]
        if fitting:
            best = min(fitting, key=lambda e: (e.target != session.target, _apart_s(e, session)))
            result[session.number] = best
            free.remove(best)
    return result


def _apart_s(entry: ShiftEntry, session: Session) -> float:
    if entry.clock is None or entry.day is None:
        return 0.0
    return abs((datetime.combine(entry.day, entry.clock) - session.start).total_seconds())


def _judged(
    patient: str,
    session: Session | None,
    entry: ShiftEntry | None,
    due: bool | None,
    rule: Guidance,
    after_the_log: bool = False,
) -> GuidanceRow:
    reasons: list[str] = []
    verdict: Verdict = "pass"
    over: tuple[str, ...] = ()
    action = ""
    if entry is None or entry.shift_mm is None:
        if after_the_log and due is not False:
            verdict, reasons = "not evaluable", [AFTER_THE_LOG]
        elif due:
            verdict, reasons = "fail", ["an image is due and none is in the log"]
        elif due is None:
            verdict = "not evaluable"
            reasons = ["no image; the protocol does not say which sessions are imaged"]
        else:
            reasons = ["no image is due"]
    else:
        level = rule.action_level_mm
        if level is not None:
            over = tuple(axis for axis, mm in zip(AXES, entry.shift_mm, strict=True) if abs(mm) >= level - 1e-9)
            action = "correct" if over else "treat"
            verdict, reasons = _kept(entry, over, level)
        else:
            verdict, reasons = "not evaluable", ["the protocol has no action level"]
        if rule.match_sequence and entry.match and entry.match != tuple(m.lower() for m in rule.match_sequence):
            verdict = "fail"
            reasons.append(f"matched {' > '.join(entry.match)}, not {' > '.join(rule.match_sequence)}")
        if rule.approval and not entry.approved_by:
            verdict = "fail"
            reasons.append("nobody approved")
    number = session.number if session is not None else entry.session if entry is not None else None
    start = session.start if session is not None else _start_of(entry)
    target = session.target if session is not None else entry.target if entry is not None else ""
    return GuidanceRow(patient, number, start, target, due, entry, over, action, verdict, tuple(reasons))


def _kept(entry: ShiftEntry, over: tuple[str, ...], level: float) -> tuple[Verdict, list[str]]:
    if not over:
        extra = ["corrected although below the action level"] if entry.corrected else []
        return "pass", extra
    if entry.corrected is None:
        return "not evaluable", [f"{', '.join(over)} reaches {level:g} mm; the log does not say whether one corrected"]
    if not entry.corrected:
        return "fail", [f"{', '.join(over)} reaches {level:g} mm and was not corrected"]
    if entry.residual_mm is not None and max(abs(mm) for mm in entry.residual_mm) >= level - 1e-9:
        return "fail", [f"corrected, but {max(abs(mm) for mm in entry.residual_mm):g} mm remained"]
    return "pass", []


def _start_of(entry: ShiftEntry | None) -> datetime | None:
    if entry is None or entry.day is None:
        return None
    return datetime.combine(entry.day, entry.clock) if entry.clock else datetime.combine(entry.day, datetime.min.time())


def axis_statistics(log: ShiftLog, patient: str) -> tuple[AxisStatistics, ...]:
    """Return the statistics of one patient's images along every axis; empty without any image."""
    shifts = log.shifts_mm(patient)
    if not len(shifts):
        return ()
    several = len(shifts) > 1
    result = []
    for n, axis in enumerate(AXES):
        own, sizes = shifts[:, n], np.abs(shifts[:, n])
        result.append(
            AxisStatistics(
                axis, len(own), float(own.mean()), float(own.std(ddof=1)) if several else None, float(sizes.mean()),
                float(sizes.std(ddof=1)) if several else None, float(sizes.max()),
                float(np.quantile(sizes, COVERED_SHARE, method="higher")),
            )
        )  # fmt: skip
    return tuple(result)


def population_errors(log: ShiftLog) -> tuple[PopulationErrors | None, tuple[Note, ...]]:
    """Return systematic and random errors of all patients with at least two images, before and after correction."""
    before = [log.shifts_mm(patient) for patient in log.patients]
    after = [_remaining(log, patient) for patient in log.patients]
    usable = [len(own) > 1 for own in before]
    notes = []
    left_out = len(usable) - sum(usable)
    if left_out and sum(usable) > 1:
        notes.append(
            Note(f"{left_out} patients with fewer than two images are left out of the statistics", "shift log")
        )
    if sum(usable) < 2:
        return None, (Note("systematic and random errors need two patients with two images each", "shift log", "info"),)
    first = setup_errors([own for own, use in zip(before, usable, strict=True) if use])
    second = setup_errors([own for own, use in zip(after, usable, strict=True) if use])
    return PopulationErrors(first, _margin(first), second, _margin(second)), tuple(notes)


def _remaining(log: ShiftLog, patient: str) -> NDArray[np.float64]:
    found = [entry.remaining_mm for entry in log.of_patient(patient) if entry.remaining_mm is not None and entry.imaged]
    return np.array(found, dtype=np.float64).reshape(-1, 3)


def _margin(errors: SetupErrors) -> Three:
    x, y, z = (float(v) for v in van_herk_margin_mm(errors.systematic_mm, errors.random_mm))
    return x, y, z


def first_day(log: ShiftLog, patient: str) -> date | None:
    """Return the first day of one patient's log."""
    days = [entry.day for entry in log.of_patient(patient) if entry.day is not None]
    return min(days) if days else None
