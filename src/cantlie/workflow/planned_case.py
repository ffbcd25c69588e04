"""What the user asks of a planned case, and all that the road from DICOM to report makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.dose.device import Device
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_of
from cantlie.machine.machine import Machine
from cantlie.patient.case import Case
from cantlie.patient.masks import MASK_CONVENTION
from cantlie.plan.request import PlanningResult
from cantlie.plan.techniques import is_planned
from cantlie.protocol.schema import Protocol
from cantlie.report.case_report import CheckRow
from cantlie.target.build import TargetResult
from cantlie.workflow.course_stage import CourseResult
from cantlie.workflow.dosimetry import COURSE, Dosimetry
from cantlie.workflow.earlier_sessions import EarlierSessions
from cantlie.workflow.image_link import CITATIONS
from cantlie.workflow.patient_stage import CaseRequest, PreparedPatient
from cantlie.workflow.phases_stage import PlanningPhase, RespiratoryPhases
from cantlie.workflow.scheme_stage import ChosenScheme
from cantlie.workflow.what_if import Answers, WhatIf

MASKS = Note(MASK_CONVENTION, "structures", "info")


@dataclass(frozen=True, slots=True)
class PlanCase(CaseRequest):
    """What the user asks for; None stands for the protocol's or Cantlie's default.

    ``second_ct`` is the CT before a boost; ``previous``, ``previous_ct`` and ``given`` name an earlier run, its CT and
    how many of its sessions were given, where the rest of the course is planned on a new CT. ``new_ct`` says whether
    a protocol that wants a new CT looks for it in the case (``first``: this run is that of the first CT).
    """

    protocol: str
    out: Path
    machine: str | None = None
    fields: int | None = None
    delivery: str | None = None
    arcs: int | None = None
    gantry: str | None = None
    couch: str | None = None
    couch_most: float | None = None
    lesions: tuple[str, ...] = ()
    split: str | None = None
    junction: str | None = None
    junction_mm: float | None = None
    plane: str | None = None
    start: date | None = None
    scheme: str | None = None
    attributions: tuple[str, ...] = ()
    second_ct: Path | None = None
    previous: Path | None = None
    previous_ct: Path | None = None
    given: int | None = None
    planning_phase: PlanningPhase | None = None
    new_ct: Literal["look", "ignore", "first"] = "look"
    device: Device = "auto"
    what_if: WhatIf = field(default_factory=WhatIf)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlannedCourse:
    """What a road has planned, before it is judged.

    Parameters
    ----------
    protocol
        With the user's choices in it, and of one scheme.
    earlier, earlier_case, earlier_results
        For the rest of a course on a new CT: the sessions that were given, the case that they were planned on, and
        what results.json of that run holds.
    """

    request: PlanCase
    protocol: Protocol
    machine: Machine
    patient: PreparedPatient
    targets: TargetResult
    planning: PlanningResult
    course: CourseResult
    scheme: ChosenScheme | None = None
    phases: RespiratoryPhases | None = None
    earlier: EarlierSessions | None = None
    earlier_case: Case | None = None
    earlier_results: Mapping[str, Any] | None = None

    @property
    def course_dose(self) -> Volume:
        """The sum of all plans in Gy, with what was given on an earlier CT."""
        total = self.planning.total_dose
        if self.earlier is None:
            return total
        return Volume(total.grid, total.values + self.earlier.total.dose.values)

    @property
    def doses(self) -> dict[str, Volume]:
        """The course's dose first, then that of each plan by its target, in Gy."""
        return {COURSE: self.course_dose, **{one.target.name: one.dose for one in self.planning.plans}}

    @property
    def prescriptions_gy(self) -> dict[str, float]:
        """Target to the dose of its plan: on a new CT what was left of its prescription."""
        return {one.target.name: one.target.prescription_gy for one in self.planning.plans}

    @property
    def course_prescriptions_gy(self) -> dict[str, float]:
        """Target to the dose that the whole course prescribes to it."""
        return {name: self.protocol.prescription(name).total_gy for name in self.prescriptions_gy}

    @property
    def label(self) -> str:
        """What reports call the case."""
        return self.request.pseudonym(self.patient.case)

    @property
    def beam_model(self) -> BeamModel:
        """The beam model of the machine."""
        return beam_of(self.machine)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlannedCase(PlannedCourse):
    """All that the road produced."""

    dosimetry: Dosimetry
    checks: tuple[CheckRow, ...]
    notes: tuple[Note, ...]
    answers: Answers

    @classmethod
    def of(
        cls,
        planned: PlannedCourse,
        dosimetry: Dosimetry,
        checks: tuple[CheckRow, ...],
        notes: tuple[Note, ...],
        answers: Answers,
    ) -> PlannedCase:
        """Return a planned course with what judged it."""
        own = {one.name: getattr(planned, one.name) for one in fields(PlannedCourse)}
        return cls(**own, dosimetry=dosimetry, checks=checks, notes=notes, answers=answers)


def citations_of(planned: PlannedCourse) -> tuple[str, ...]:
    """Return what a paper that uses these results should cite."""
    return (
        planned.protocol.citation.sentence(),
        *planned.machine.sources,
        *(risk.model.source for risk in planned.course.risks),
        *(() if planned.earlier is None else CITATIONS),
    )


def beyond_the_planner(protocol: Protocol, machine: Machine, *, one_ct: bool = False) -> list[Note]:
    """Return what the protocol asks of the delivery and this plan does otherwise."""
    technique = protocol.technique
    notes = []
    if one_ct and protocol.schedule.new_ct_before:
        later = ", ".join(protocol.schedule.new_ct_before)
        message = f"the protocol asks for a new CT before {later}; there is one CT, so all is planned on it"
        notes.append(Note(message, "CT"))
    if not is_planned(technique.delivery):
        asked = technique.delivery.replace("_", " ")
        notes.append(Note(f"the protocol asks for {asked}; Cantlie planned step-and-shoot fields instead", "technique"))
    if abs(technique.energy_mv - machine.energy_mv) > 0.05:
        message = f"the protocol asks for {technique.energy_mv:g} MV; {machine.id} has {machine.energy_mv:g} MV"
        notes.append(Note(message, "technique"))
    if machine.cobalt is not None:
        message = (
            f"what is called MU is minutes of the timer, for the source on {machine.cobalt.treatment_date} with "
            f"{100.0 * machine.cobalt.remaining:.1f} % of the dose rate of {machine.cobalt.reference_date}; it loses "
            "1.1 % a month, and timer settings must follow"
        )
        notes.append(Note(message, machine.id))
    return notes


def levels_of(targets: TargetResult, protocol: Protocol) -> dict[str, NDArray[np.float32]]:
    """Return the levels of a feathered junction by target."""
    junction = targets.junction
    if junction is None or junction.right_level is None or junction.left_level is None:
        return {}
    by_recipe = {"right_half_liver": junction.right_level, "left_half_liver": junction.left_level}
    return {target.id: by_recipe[target.recipe] for target in protocol.targets if target.recipe in by_recipe}


def plain_settings(request: PlanCase) -> dict[str, Any]:
    """Return the settings for run.json; paths without the folders above them, which may name a patient."""
    return {
        name: value.name if isinstance(value, Path) else value
        for name, value in asdict(request).items()
        if value is not None and name not in ("case", "out", "patient", "new_ct", "what_if")
    }
