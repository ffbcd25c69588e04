"""Sessions that an earlier plan gave on an earlier CT: read from its run folder, carried over to the new CT."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import InputError
from cantlie.core.files import read_text
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.course.calendar import Calendar, Session
from cantlie.course.deformed_dose import DeformedDose, accumulate, deformed_dose
from cantlie.dicom.plan_file import read_plan_file
from cantlie.dicom.rtdose import read_dose_file
from cantlie.plan.request import PlannedTarget, PlanTarget
from cantlie.plan.treatment import TreatmentPlan
from cantlie.workflow.image_link import ImageLink

FIRST_CT = "first_ct"
"""Folder of the run on the first CT of a course over two, below that of the whole course."""


@dataclass(frozen=True, slots=True, eq=False)
class EarlierPlan:
    """A plan made on an earlier CT.

    Parameters
    ----------
    dose
        Gy on the earlier CT, for ``plan.fractions`` fractions.
    given
        How many of its fractions are given.
    """

    target: str
    plan: TreatmentPlan
    dose: Volume
    given: int
    frame_uid: str = ""

    @property
    def given_gy(self) -> float:
        """The prescribed dose of the given fractions."""
        return self.plan.prescription_gy * self.given / self.plan.fractions


@dataclass(frozen=True, slots=True, eq=False)
class PreviousRun:
    """What an earlier ``cantlie plan`` left: its plans with their doses, its protocol and its calendar."""

    protocol_id: str
    plans: tuple[EarlierPlan, ...]
    sessions: tuple[Session, ...]
    results: Mapping[str, Any]

    @property
    def start(self) -> date:
        """The first treatment day."""
        return self.sessions[0].start.date()

    def with_given(self, sessions: int) -> PreviousRun:
        """Return the run after the first sessions of its calendar.

        Raises
        ------
        InputError
            If there are not so many, or none is left to plan.
        """
        if not 0 < sessions < len(self.sessions):
            raise InputError(
                f"{sessions} sessions cannot have been given of {len(self.sessions)}",
                where="--given",
                remedy=f"give 1 to {len(self.sessions) - 1}; after the last there is nothing to plan",
            )
        done = [session.target for session in self.sessions[:sessions]]
        return replace(self, plans=tuple(replace(plan, given=done.count(plan.target)) for plan in self.plans))

    def sessions_before(self, targets: Sequence[str]) -> int:
        """Return how many sessions come before the first one of some targets."""
        return next((n for n, session in enumerate(self.sessions) if session.target in targets), len(self.sessions))


def read_previous_run(folder: Path) -> PreviousRun:
    """Read the run folder of an earlier plan.

    Raises
    ------
    CantlieError
        If it is not the folder of a finished ``cantlie plan``, or a file of it is damaged.
    """
    if not (folder / "results.json").is_file():
        raise InputError(
            "this is not the folder of a finished cantlie plan", where=str(folder), remedy="give its --out folder"
        )
    try:
        results = json.loads(read_text(folder / "results.json", "result of the earlier run"))
        protocol_id = str(results["protocol"]["id"])
        rows = results["course"]["sessions"]
        sessions = tuple(
            Session(int(row["number"]), str(row["target"]), int(row["fraction"]), datetime.fromisoformat(row["start"]))
            for row in rows
            if row["status"] not in ("missed", "cancelled")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this is not the folder of a finished cantlie plan", where=str(folder), remedy="give its --out folder"
        ) from error
    plans = []
    for target in dict.fromkeys(session.target for session in sessions):
        file = read_plan_file(folder / "dicom" / f"RP_{target}.dcm")
        dose = read_dose_file(folder / "dicom" / f"RD_{target}.dcm")
        plan = replace(file.plan, target_name=target)
        plans.append(EarlierPlan(target, plan, dose.dose, plan.fractions, dose.frame_of_reference_uid))
    if not sessions:
        raise InputError("the earlier run has no session", where=str(folder), remedy="give its --out folder")
    return PreviousRun(protocol_id, tuple(plans), sessions, results)


@dataclass(frozen=True, slots=True, eq=False)
class EarlierSessions:
    """Sessions given on an earlier CT, their dose carried over to the new one.

    Parameters
    ----------
    plans
        The plans that gave them.
    carried
        The dose of each plan's given fractions on the new anatomy, with its uncertainty, in the order of ``plans``.
    total
        Their sum.
    link
        How the two CTs hang together.
    """

    plans: tuple[EarlierPlan, ...]
    carried: tuple[DeformedDose, ...]
    total: DeformedDose
    link: ImageLink

    @property
    def sessions(self) -> int:
        """Number of sessions given."""
        return sum(plan.given for plan in self.plans)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must be said about it."""
        return tuple(dict.fromkeys((*self.link.notes, *self.total.notes)))

    def fraction_gy(self) -> dict[str, float]:
        """Return the prescribed dose per fraction of each plan, by the name of its sessions in the calendar."""
        return {session_name(p.target): p.plan.prescription_gy / p.plan.fractions for p in self.plans}

    def as_plans(self) -> tuple[PlannedTarget, ...]:
        """Return the given sessions as plans on the new anatomy, for the course."""
        return tuple(
            PlannedTarget(PlanTarget(session_name(plan.target), plan.given_gy, plan.given), plan.plan, carried.dose, ())
            for plan, carried in zip(self.plans, self.carried, strict=True)
        )


def session_name(target: str) -> str:
    """Return the name in the calendar of sessions that were given on the earlier CT."""
    return f"{target} (earlier CT)"


def carry_over(run: PreviousRun, link: ImageLink, grid: Grid) -> EarlierSessions:
    """Carry the dose of all given sessions over to the new anatomy, by interpolation.

    Parameters
    ----------
    link
        Where each point of the new CT (reference) lies in the earlier one (moving).
    grid
        Dose grid on the new CT.

    Raises
    ------
    InputError
        If no session is given.
    """
    plans = tuple(plan for plan in run.plans if plan.given)
    if not plans:
        raise InputError("no session was given on the earlier CT", where="earlier sessions")
    carried = []
    for plan in plans:
        share = np.float32(plan.given / plan.plan.fractions)
        given = Volume(plan.dose.grid, np.asarray(plan.dose.values, np.float32) * share)
        carried.append(deformed_dose(given, link.field, grid, registration_mm=link.uncertainty_mm))
    return EarlierSessions(plans, tuple(carried), accumulate(carried), link)


def calendar_with_given(calendar: Calendar, earlier: EarlierSessions) -> Calendar:
    """Return a calendar in which the first fractions of each target are those given on the earlier CT."""
    given = {plan.target: plan.given for plan in earlier.plans}
    sessions = tuple(
        replace(session, target=session_name(session.target))
        if session.fraction <= given.get(session.target, 0)
        else session
        for session in calendar.sessions
    )
    prescribed: list[tuple[str, int]] = []
    for target, count in calendar.prescribed:
        before = given.get(target, 0)
        prescribed += [(session_name(target), before)] if before else []
        prescribed += [(target, count - before)] if count > before else []
    return replace(calendar, sessions=sessions, prescribed=tuple(prescribed))
