"""Displacements of single sessions, measured or drawn, applied to the dose of each session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cantlie.cohort.shift_log import ShiftEntry
from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.course.accumulation import CourseDose
from cantlie.course.calendar import Calendar
from cantlie.course.image_guidance import match_sessions
from cantlie.evaluation.scenarios import Shift, moved_values


@dataclass(frozen=True, slots=True)
class SessionShifts:
    """The displacement (x left, y posterior, z head) in mm that each session's dose saw, and where it is known from."""

    shifts_mm: Mapping[int, Shift]
    source: str
    notes: tuple[Note, ...] = ()


def logged_shifts(entries: Sequence[ShiftEntry], calendar: Calendar) -> SessionShifts:
    """Return what remained in each session of a calendar after what one patient's log says was done.

    A session without an image was not corrected: it is taken to have lain where this patient lay on average before
    correction, and a note says how many.

    Raises
    ------
    InputError
        If no row of the log belongs to a session.
    """
    matched = match_sessions(entries, calendar)
    if not matched:
        raise InputError(
            "no row of the shift log belongs to a session of the calendar",
            where="shift log",
            remedy="number the sessions from 1, or give --start so that the dates agree",
        )
    measured = [entry.shift_mm for entry in entries if entry.shift_mm is not None]
    x, y, z = (float(v) for v in np.mean(measured, axis=0)) if measured else (0.0, 0.0, 0.0)
    mean = (x, y, z)
    shifts: dict[int, Shift] = {}
    unseen = 0
    for session in calendar.given:
        entry = matched.get(session.number)
        remaining = entry.remaining_mm if entry is not None else None
        if remaining is None:
            unseen += 1
        shifts[session.number] = mean if remaining is None else remaining
    notes = []
    if unseen:
        place = ", ".join(f"{value:.1f}" for value in mean)
        message = f"{unseen} of {len(calendar.given)} sessions have no image; they are taken at the mean of the images"
        notes.append(Note(f"{message} before correction ({place} mm)", "shift log"))
    strange = len(entries) - len(matched)
    if strange > 0:
        notes.append(Note(f"{strange} rows of the log belong to no session of the calendar", "shift log"))
    return SessionShifts(shifts, "shift log", tuple(notes))


def drawn_shifts(
    calendar: Calendar, systematic_sd_mm: Sequence[float], random_sd_mm: Sequence[float], seed: int
) -> SessionShifts:
    """Return displacements of one simulated course: one systematic error, and a random one in every session."""
    random = np.random.default_rng(seed)
    systematic = random.normal(0.0, 1.0, 3) * np.asarray(systematic_sd_mm, dtype=np.float64)
    shifts: dict[int, Shift] = {}
    for session in calendar.given:
        x, y, z = (float(v) for v in systematic + random.normal(0.0, 1.0, 3) * np.asarray(random_sd_mm))
        shifts[session.number] = (x, y, z)
    return SessionShifts(shifts, f"simulated, seed {seed}")


def with_shifts(course: CourseDose, shifts: SessionShifts) -> CourseDose:
    """Return a course whose every session is displaced; sessions that are not displaced keep their plan's dose.

    A session is interpolated from its plan's dose by cubic convolution.
    """
    doses = dict(course.session_dose_gy)
    for session in course.calendar.given:
        shift = shifts.shifts_mm.get(session.number, (0.0, 0.0, 0.0))
        if any(abs(value) > 1e-6 for value in shift):
            doses[session.number] = moved_values(course.of_session(session.number), course.grid, shift)
    return replace(course, session_dose_gy=doses)
