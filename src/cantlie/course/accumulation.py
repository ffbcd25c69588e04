"""The dose of a whole course: every session kept, physical sum, EQD2 per session, BED with repair between sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.course.calendar import Calendar
from cantlie.radiobiology.linear_quadratic import eqd2_from_bed_gy, eqd2_of_sessions_gy, high_dose_note
from cantlie.radiobiology.repair import Repair, pairwise_bed_gy

Dose = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class CourseDose:
    """The doses of all sessions of a course on one grid.

    A session's dose is its plan's dose over the plan's fractions, unless it was calculated by itself (set-up shift,
    other anatomy). Nothing is copied per session.

    Parameters
    ----------
    grid
        The grid of all doses.
    calendar
        The sessions; only given ones count.
    plan_dose_gy
        Target to the dose of its whole plan, shape ``grid.shape``.
    plan_fractions
        Target to the fractions that its plan dose stands for.
    session_dose_gy
        Session number to the dose of that session where it differs from its plan's.

    Raises
    ------
    DoseError
        If a session has no dose, or a shape is not that of the grid.
    """

    grid: Grid
    calendar: Calendar
    plan_dose_gy: Mapping[str, Dose]
    plan_fractions: Mapping[str, int]
    session_dose_gy: Mapping[int, Dose] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dose in [*self.plan_dose_gy.items(), *self.session_dose_gy.items()]:
            if dose.shape != self.grid.shape:
                raise DoseError(f"dose of shape {dose.shape} on a grid of shape {self.grid.shape}", where=str(name))
        for session in self.calendar.given:
            has_own = session.number in self.session_dose_gy
            if not has_own and not (
                session.target in self.plan_dose_gy and self.plan_fractions.get(session.target, 0) > 0
            ):
                raise DoseError(
                    "a session has no dose",
                    where=f"session {session.number}, {session.target}",
                    remedy="give the dose and the fractions of its plan",
                )

    def of_session(self, number: int) -> NDArray[np.float32]:
        """Return the dose of one session in Gy.

        Raises
        ------
        DoseError
            If that session is not given.
        """
        for session in self.calendar.given:
            if session.number == number:
                return self._dose(session.target, number)
        raise DoseError("there is no such session, or it is not given", where=f"session {number}")

    def physical_gy(self) -> NDArray[np.float32]:
        """Return the sum of all given sessions in Gy."""
        doses, _, counts = self._distinct()
        total = np.zeros(self.grid.shape, np.float32)
        for dose, count in zip(doses, counts, strict=True):
            total += np.float32(count) * dose
        return total

    def eqd2_gy(self, alpha_beta_gy: float) -> NDArray[np.float64]:
        """Return the EQD2 per voxel in Gy, summed session by session with full repair between them."""
        doses, _, counts = self._distinct()
        return eqd2_of_sessions_gy(doses, counts, alpha_beta_gy)

    def bed_gy(self, alpha_beta_gy: float, repair: Repair) -> NDArray[np.float64]:
        """Return the BED per voxel in Gy with incomplete repair between all sessions, at the calendar's times."""
        doses, which, _ = self._distinct()
        return pairwise_bed_gy(doses, which, self.calendar.hours(), alpha_beta_gy, repair)

    def eqd2_with_repair_gy(self, alpha_beta_gy: float, repair: Repair) -> NDArray[np.float64]:
        """Return the EQD2 per voxel in Gy with incomplete repair between all sessions."""
        return eqd2_from_bed_gy(self.bed_gy(alpha_beta_gy, repair), alpha_beta_gy)

    def largest_session_gy(self) -> float:
        """Return the largest dose of any voxel in one session."""
        doses, _, _ = self._distinct()
        return max(float(dose.max()) for dose in doses)

    def notes(self) -> tuple[Note, ...]:
        """Return what must be said about the course: the calendar's notes and doses beyond the models."""
        return (*self.calendar.notes, *high_dose_note(self.largest_session_gy(), "course dose"))

    def _dose(self, target: str, number: int) -> NDArray[np.float32]:
        if number in self.session_dose_gy:
            return np.asarray(self.session_dose_gy[number], dtype=np.float32)
        share = np.float32(1.0 / self.plan_fractions[target])
        return np.asarray(self.plan_dose_gy[target], dtype=np.float32) * share

    def _distinct(self) -> tuple[list[NDArray[np.float32]], list[int], list[int]]:
        """Return the distinct session doses, which of them each given session gives, and how many give each."""
        numbers: dict[str | int, int] = {}
        doses: list[NDArray[np.float32]] = []
        which = []
        for session in self.calendar.given:
            key: str | int = session.number if session.number in self.session_dose_gy else session.target
            if key not in numbers:
                numbers[key] = len(doses)
                doses.append(self._dose(session.target, session.number))
            which.append(numbers[key])
        if not doses:
            raise DoseError("the course gives no session", where="calendar")
        return doses, which, np.bincount(which, minlength=len(doses)).tolist()
