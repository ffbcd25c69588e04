"""What if things go otherwise than planned: robustness, displaced sessions, breathing; and radiographs to see it by."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cantlie.core.errors import InputError
from cantlie.core.files import write_text
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.course.accumulation import CourseDose
from cantlie.course.breathing import Breathing
from cantlie.course.calendar import Calendar
from cantlie.dicom.plan_file import read_plan_file
from cantlie.evaluation.scenarios import Shift
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.machine import Machine
from cantlie.patient.case import Case
from cantlie.patient.regions import Regions
from cantlie.plan.scenario_dose import density_change
from cantlie.plan.treatment import TreatmentPlan
from cantlie.protocol.schema import Protocol
from cantlie.protocol.uncertainty import Robustness as ProtocolRobustness
from cantlie.report.case_pages import with_colours
from cantlie.report.case_report import StructureView
from cantlie.report.displaced_pages import displaced_section
from cantlie.report.document import Section
from cantlie.report.dvh_figure import colours_on_white
from cantlie.report.motion_pages import motion_section
from cantlie.report.radiograph_figure import radiograph_section
from cantlie.report.robustness_pages import robustness_section
from cantlie.target.recipes import matching
from cantlie.workflow.displaced_course import DisplacedCourse, displaced_course, displaced_results, shifts_for
from cantlie.workflow.displaced_engine import EngineChanges
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.motion_stage import REALISATIONS, MotionEffect, motion_effect, motion_results
from cantlie.workflow.radiograph_stage import Outline, TakenRadiograph, grouped, take_radiographs, write_radiographs
from cantlie.workflow.robustness_stage import (
    Level,
    Robustness,
    RobustnessRequest,
    bands_csv,
    robustness_of,
    robustness_results,
)
from cantlie.workflow.target_outline import outline_of_points, outline_points

BANDS_FILE = "dvh_bands.csv"
RADIOGRAPH_FOLDER = "radiographs"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a user wants to know beyond the plan; None stands for the protocol's value.

    ``simulated_mm`` are Sigma and sigma of a simulated course; ``shifts`` is a shift log; ``motion_mm`` is the motion
    of the liver from peak to peak.
    """

    robustness: Level = "quick"
    planning: Literal["nominal", "expectation", "minimax"] | None = None
    shift_mm: Shift | None = None
    shifts: Path | None = None
    simulated_mm: tuple[float, float] | None = None
    motion_mm: Shift | None = None
    radiographs: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What the questions are asked of.

    Parameters
    ----------
    doses
        Dose of the course and of each plan by its target.
    course
        The course with its sessions, where there is a calendar.
    plans, density, machine, model
        What doses can be calculated again from; without plans doses are only displaced.
    given_dose
        The part of the dose of the course that was given before, on another CT, and stays as it is.
    engine
        Calculates what displacements and density errors change in doses of plans made elsewhere.
    """

    protocol: Protocol
    regions: Regions
    doses: Mapping[str, Volume]
    prescriptions_gy: Mapping[str, float]
    fractions: Mapping[str, int]
    course: CourseDose | None = None
    plans: Mapping[str, TreatmentPlan] = field(default_factory=dict)
    density: Volume | None = None
    machine: Machine | None = None
    model: BeamModel | None = None
    case: Case | None = None
    given_dose: Volume | None = None
    engine: Callable[[RobustnessRequest, Progress], EngineChanges] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What was found; None for what was not asked."""

    robustness: Robustness | None = None
    displaced: DisplacedCourse | None = None
    motion: MotionEffect | None = None
    radiographs: tuple[TakenRadiograph, ...] = ()
    subject: Subject | None = None

    @property
    def notes(self) -> tuple[Note, ...]:
        """Remarks of all answers."""
        found = (self.robustness, self.displaced, self.motion)
        return tuple(note for one in found if one is not None for note in one.notes)

    def results(self) -> dict[str, Any]:
        """Return the sections of results.json."""
        sections: dict[str, Any] = {}
        if self.robustness is not None:
            sections["robustness"] = robustness_results(self.robustness)
        if self.displaced is not None:
            sections["displaced_course"] = displaced_results(self.displaced)
        if self.motion is not None:
            sections["motion"] = motion_results(self.motion)
        return sections

    def write(self, out: Path) -> None:
        """Write the files beside results.json; those of an earlier run that are not made again are removed."""
        (out / BANDS_FILE).unlink(missing_ok=True)
        if self.robustness is not None:
            write_text(out / BANDS_FILE, bands_csv(self.robustness.bands))
        folder = out / RADIOGRAPH_FOLDER
        if folder.is_dir():
            shutil.rmtree(folder)
        subject = self.subject
        if self.radiographs and subject is not None and subject.case is not None and subject.machine is not None:
            write_radiographs(folder, subject.case, self.radiographs, subject.machine, _plan_uids(out, subject.plans))

    def chapters(self, views: Sequence[StructureView]) -> tuple[Section, ...]:
        """Return the chapters of the report, given its structures."""
        sections = []
        if self.robustness is not None:
            names = [band.structure for band in self.robustness.bands]
            colours = colours_on_white(with_colours(views), names)
            sections.append(
                robustness_section(
                    self.robustness.metrics,
                    self.robustness.bands,
                    colours,
                    method=self.robustness.method,
                    varied=_varied(self.robustness),
                )
            )
        if self.displaced is not None:
            sections.append(
                displaced_section(
                    self.displaced.shifts.shifts_mm,
                    self.displaced.shifts.source,
                    self.displaced.metrics,
                    eqd2_liver_gy=self.displaced.eqd2_liver_gy,
                    alpha_beta_gy=self.displaced.alpha_beta_gy,
                    remarks=[note.sentence() for note in self.displaced.notes],
                )
            )
        if self.motion is not None:
            sections.append(
                motion_section(
                    self.motion.targets,
                    motion=_motion(self.motion.breathing),
                    margins_mm=self.motion.margins_mm,
                    realisations=REALISATIONS,
                )
            )
        if self.radiographs and self.subject is not None:
            labels = {name: plan.label for name, plan in self.subject.plans.items()}
            sections.append(radiograph_section(grouped(self.radiographs, labels)))
        return tuple(sections)


def answers_to(what_if: WhatIf, subject: Subject, progress: Progress = silent) -> Answers:
    """Answer what was asked.

    Raises
    ------
    CantlieError
        If a shift log or a value cannot be used.
    """
    protocol = subject.protocol
    asked = protocol.robustness
    request = RobustnessRequest(
        level=what_if.robustness,
        shift_mm=what_if.shift_mm if what_if.shift_mm is not None else asked.shift_mm,
        density_percent=asked.density_percent,
        systematic_sd_mm=asked.systematic_sd_mm,
        random_sd_mm=asked.random_sd_mm,
        seed=what_if.seed,
    )
    shifts = None
    if subject.course is None and (what_if.shifts is not None or what_if.simulated_mm is not None):
        raise InputError(
            "sessions cannot be displaced: a target has no dose or no fractions of its own",
            where="--shifts",
            remedy="give the RTPLAN and RTDOSE of each target's plan",
        )
    if subject.course is not None:
        shifts = shifts_for(subject.course, what_if.shifts, what_if.simulated_mm, seed=what_if.seed)
    engine = EngineChanges()
    if subject.engine is not None and request.level != "off":
        engine = subject.engine(request, part(progress, 0.0, 0.2))
    changes = engine.density or _density_changes(subject, request, part(progress, 0.0, 0.2))
    robustness = robustness_of(
        request, protocol, subject.regions, subject.doses, subject.prescriptions_gy, subject.fractions, changes,
        part(progress, 0.2, 0.5), subject.given_dose, engine.setup, engine.method,
    )  # fmt: skip
    if robustness is not None:
        robustness = replace(robustness, notes=(*engine.notes, *robustness.notes))
    displaced = None
    if shifts is not None and subject.course is not None:
        displaced = displaced_course(
            protocol, subject.regions, subject.course, subject.prescriptions_gy, shifts, part(progress, 0.5, 0.6)
        )
    motion = _motion_effect(what_if, subject, request, part(progress, 0.6, 0.85))
    taken: tuple[TakenRadiograph, ...] = ()
    if what_if.radiographs and subject.case is not None and subject.machine is not None and subject.model is not None:
        outlines = {name: outline_function(subject.regions, name) for name in subject.plans if name in subject.regions}
        taken = take_radiographs(
            subject.case.ct.volume, subject.plans, subject.machine, subject.model, outlines, part(progress, 0.85, 1.0)
        )
    return Answers(robustness, displaced, motion, taken, subject)


def _motion_effect(
    what_if: WhatIf, subject: Subject, request: RobustnessRequest, progress: Progress
) -> MotionEffect | None:
    protocol = subject.protocol
    amplitude = what_if.motion_mm if what_if.motion_mm is not None else protocol.motion.amplitude_mm
    if amplitude is None or subject.density is None or subject.machine is None or subject.model is None:
        return None
    x, y, z = (float(value) * protocol.motion.managed_share for value in amplitude)
    exhale = "exhale" in protocol.technique.motion_management
    breathing = Breathing((x, y, z), reference="exhale" if exhale else "mean")
    clinical = [protocol.target(name).ctv_id for name in protocol.target_ids]
    names = dict.fromkeys([*clinical, *matching(subject.regions, protocol.gtv)])
    return motion_effect(
        breathing, subject.regions, list(names), subject.plans, subject.doses, subject.density, subject.machine,
        subject.model, request.systematic_sd_mm, request.random_sd_mm, seed=what_if.seed, progress=progress,
    )  # fmt: skip


def _motion(breathing: Breathing) -> str:
    x, y, z = (f"{value:g}" for value in breathing.amplitude_mm)
    place = "exhale" if breathing.reference == "exhale" else "the mean position"
    return (
        f"Breathing with {x}, {y} and {z} mm peak to peak along x, y and z in {breathing.period_s:g} s, leaving exhale "
        f"as cos to the power {2 * breathing.power}; the planning CT is taken to show {place}."
    )


def _plan_uids(out: Path, plans: Mapping[str, TreatmentPlan]) -> dict[str, str]:
    """Return the UIDs of the exported plans, which the radiographs refer to."""
    found = {}
    for name in plans:
        path = out / "dicom" / f"RP_{name}.dcm"
        if path.is_file():
            found[name] = read_plan_file(path).plan.sop_instance_uid
    return found


def with_robust_planning(protocol: Protocol, what_if: WhatIf) -> tuple[Protocol, tuple[Note, ...]]:
    """Return the protocol with the user's robust planning and displacements in place of its own, and a note on it."""
    update: dict[str, Any] = {}
    if what_if.planning is not None:
        update["planning"] = what_if.planning
    if what_if.shift_mm is not None:
        update["shift_mm"] = what_if.shift_mm
    if update:
        section = ProtocolRobustness.model_validate({**protocol.robustness.model_dump(), **update})
        protocol = protocol.model_copy(update={"robustness": section})
    asked = protocol.robustness
    if asked.planning == "nominal":
        return protocol, ()
    x, y, z = asked.shift_mm
    counted = "worst" if asked.planning == "minimax" else "mean"
    message = (
        f"planned robustly ({asked.planning}): the {counted} of clinical targets displaced by {x:g}, {y:g} and {z:g} "
        "mm each way counts; limits of organs hold without displacement"
    )
    return protocol, (Note(message, "robustness", "info"),)


def course_of_doses(
    protocol: Protocol, doses: Mapping[str, Volume], fractions: Mapping[str, int], calendar: Calendar
) -> CourseDose | None:
    """Return the course of plans made elsewhere; None where a target has no dose of its own.

    Parameters
    ----------
    doses
        Dose of the course and of each plan by its target.
    fractions
        Target to the fractions that its dose stands for.
    """
    own = {name: doses[name] for name in protocol.target_ids if name in doses}
    if len(own) < len(protocol.target_ids) or set(own) - set(fractions):
        return None
    grid = doses[COURSE].grid
    values = {name: np.asarray(dose.resample(grid).values, dtype=np.float32) for name, dose in own.items()}
    return CourseDose(grid, calendar, values, dict(fractions))


def outline_function(regions: Regions, name: str) -> Outline:
    """Return a function that projects the outline of a region into the frame of a direction."""
    points = outline_points(regions, name)
    return lambda geometry: outline_of_points(geometry, points)


def _density_changes(subject: Subject, request: RobustnessRequest, progress: Progress) -> dict[str, Volume]:
    if request.level == "off" or request.density_percent == 0:
        return {}
    if subject.density is None or subject.machine is None or subject.model is None:
        return {}
    changes = {}
    for number, (name, plan) in enumerate(subject.plans.items()):
        start, stop = number / len(subject.plans), (number + 1) / len(subject.plans)
        progress(start, f"density errors of {name}")
        changes[name] = density_change(
            plan, subject.density, subject.machine, subject.model, request.density_percent,
            progress=part(progress, start, stop),
        )  # fmt: skip
    return changes


def _varied(robustness: Robustness) -> str:
    request = robustness.request
    x, y, z = request.shift_mm
    has_density = any(scenario.kind == "density" for scenario in robustness.scenarios)
    text = f"The plan with the anatomy displaced by {x:g}, {y:g} and {z:g} mm each way along x, y and z in all sessions"
    if has_density:
        text += f", and with all densities {request.density_percent:g} % higher and lower"
    text += "."
    if request.level == "full":
        systematic = ", ".join(f"{v:g}" for v in request.systematic_sd_mm)
        random = ", ".join(f"{v:g}" for v in request.random_sd_mm)
        text += (
            f" Beside them {request.courses} courses drawn with systematic errors of {systematic} mm and random errors "
            f"of {random} mm (standard deviations along x, y, z; seed {request.seed})."
        )
    return text
