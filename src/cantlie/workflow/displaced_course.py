"""A course with the displacement of every session, logged or simulated, beside the course as planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.cohort.shift_log import ShiftLog, read_shift_log
from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.course.accumulation import CourseDose
from cantlie.course.session_shifts import SessionShifts, drawn_shifts, logged_shifts, with_shifts
from cantlie.evaluation.bands import JudgedMetric
from cantlie.evaluation.dvh import dvh
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.target.build import NORMAL_LIVER
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.rule_judge import RuleJudge


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """One metric in the course as planned and as displaced."""

    structure: str
    metric: str
    unit: str
    scope: str
    op: str
    limit: float | None
    planned: float
    displaced: float
    verdict: str


@dataclass(frozen=True, slots=True, eq=False)
class DisplacedCourse:
    """The course with every session where it was."""

    shifts: SessionShifts
    metrics: tuple[ComparedMetric, ...]
    eqd2_liver_gy: tuple[float, float] | None
    alpha_beta_gy: float
    dose: Volume
    notes: tuple[Note, ...]


def shift_log_for(
    log: Path | None, simulated_mm: tuple[float, float] | None, *, patient: str | None = None
) -> ShiftLog | None:
    """Return the shift log that the user gives, readable and of one patient; None without one.

    Called before anything is planned or judged too: what is wrong with a log is said at once, not after minutes.

    Raises
    ------
    InputError
        If simulated shifts are given as well, or the log has several patients and none is chosen.
    """
    if log is None:
        return None
    if simulated_mm is not None:
        raise InputError("a shift log and simulated shifts are both given", where="--shifts", remedy="give one of them")
    read = read_shift_log(log)
    if patient is None and len(read.patients) > 1:
        raise InputError(
            f"the log has {len(read.patients)} patients", where=log.name, remedy="leave this patient's rows only"
        )
    return read


def shifts_for(
    course: CourseDose,
    log: Path | None,
    simulated_mm: tuple[float, float] | None,
    *,
    patient: str | None = None,
    seed: int = 1,
) -> SessionShifts | None:
    """Return the displacements that the user asks for: of a log, or drawn with Sigma and sigma; None for neither.

    Raises
    ------
    InputError
        If both are given, or the log has several patients and none is chosen.
    """
    read = shift_log_for(log, simulated_mm, patient=patient)
    if read is not None:
        found = logged_shifts(read.of_patient(read.patients[0] if patient is None else patient), course.calendar)
        return SessionShifts(found.shifts_mm, found.source, (*read.notes, *found.notes))
    if simulated_mm is not None:
        systematic, random = simulated_mm
        return drawn_shifts(course.calendar, (systematic,) * 3, (random,) * 3, seed)
    return None


def displaced_course(
    protocol: Protocol,
    regions: Regions,
    course: CourseDose,
    prescriptions_gy: Mapping[str, float],
    shifts: SessionShifts,
    progress: Progress = silent,
) -> DisplacedCourse:
    """Return the course with every session displaced, judged beside the planned one."""
    progress(0.0, "displaced sessions")
    moved = with_shifts(course, shifts)
    planned_doses, moved_doses = _doses(course), _doses(moved)
    progress(0.5, "judging the displaced course")
    judge = RuleJudge.of(protocol, regions, planned_doses, prescriptions_gy)
    planned, displaced = judge.values(judge.curves(planned_doses)), judge.values(judge.curves(moved_doses))
    rows = tuple(_row(row, value, displaced[row]) for row, value in planned.items() if row in displaced)
    alpha_beta = protocol.biology.alpha_beta_liver_gy
    liver: tuple[float, float] | None = None
    if NORMAL_LIVER in regions and regions[NORMAL_LIVER].any():
        before, after = (
            dvh(
                Volume(course.grid, np.asarray(one.eqd2_gy(alpha_beta), dtype=np.float32)),
                regions[NORMAL_LIVER],
                regions.grid,
            ).mean_gy
            for one in (course, moved)
        )
        liver = (before, after)
    notes = [*shifts.notes]
    return DisplacedCourse(shifts, rows, liver, alpha_beta, moved_doses[COURSE], tuple(notes))


def _row(row: JudgedMetric, planned: float, displaced: float) -> ComparedMetric:
    verdict = "not evaluable" if row.limit is None else "pass" if row.is_met(displaced, planned) else "fail"
    return ComparedMetric(
        row.structure, row.metric, row.unit, row.scope, row.op, row.limit, planned, displaced, verdict
    )


def _doses(course: CourseDose) -> dict[str, Volume]:
    """Return the given dose of the course and of each target's sessions."""
    totals: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    for session in course.calendar.given:
        if session.target not in totals:
            totals[session.target] = np.zeros(course.grid.shape, dtype=np.float32)
        totals[session.target] += course.of_session(session.number)
    total = np.zeros(course.grid.shape, dtype=np.float32)
    for own in totals.values():
        total += own
    return {COURSE: Volume(course.grid, total), **{name: Volume(course.grid, own) for name, own in totals.items()}}


def displaced_results(course: DisplacedCourse) -> dict[str, Any]:
    """Return results.json's section on displaced sessions."""
    return {
        "source": course.shifts.source,
        "sessions": [
            {"number": number, "shift_mm": shift} for number, shift in sorted(course.shifts.shifts_mm.items())
        ],
        "metrics": [asdict(row) for row in course.metrics],
        "normal_liver": None
        if course.eqd2_liver_gy is None
        else {
            f"mean_eqd2_alpha_beta_{course.alpha_beta_gy:g}_gy_planned": course.eqd2_liver_gy[0],
            f"mean_eqd2_alpha_beta_{course.alpha_beta_gy:g}_gy_displaced": course.eqd2_liver_gy[1],
        },
        "notes": [note.sentence() for note in course.notes],
    }
