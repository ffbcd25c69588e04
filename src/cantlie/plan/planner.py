"""The automatic planner: all plans of a course together, from a protocol's rules to deliverable segments."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.dose.directions import SPAN_DEG
from cantlie.machine.aperture import FluenceMap
from cantlie.plan.apertures import openings_of
from cantlie.plan.conflicts import conflicts_of, contradictions
from cantlie.plan.delivery import ARC_STEP_DEG, doses_by_scope, judge_rules, plan_dose
from cantlie.plan.directions import BODY
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence import FluenceSolver, Log, Openings, optimise_fluence, spare_less
from cantlie.plan.goals import Goal, goal_of_rule, quality_terms
from cantlie.plan.normalise import best_factors, best_scaling, broken_by
from cantlie.plan.problem import Problem
from cantlie.plan.request import GoalOutcome, PlannedTarget, PlanningRequest, PlanningResult, Trade
from cantlie.plan.robust import robust_terms
from cantlie.plan.setup import Setup, prepare
from cantlie.plan.technique import Shapes, Task, Technique
from cantlie.plan.techniques import technique_of
from cantlie.plan.treatment import TreatmentPlan

Dose = NDArray[np.float64]

FIRST_DOSE, DRAFT_DOSE, LAST_DOSE = (16.0, 16.0), (4.0, 12.0), (ARC_STEP_DEG, SPAN_DEG)
"""Of arcs: degrees that count as one direction, and within which directions share the superposition, in the first dose,
while arcs are refined and in the last one. Drafts differ by 0.15 % of the prescription (one standard deviation)."""
MOST_OUT_OF_PROPORTION = 5e-4
"""Share of the monitor units up to which a scaled plan's dose is taken as scaled too."""
NEARLY_MET = 0.02
"""Share of limits missing, summed, up to which arcs are corrected by their last dose; farther off, drafts will do."""
LEAST_SCALINGS = (1e-6, 1e-3)
"""Least factors of the first and the second scaling: volumes on the CT grid follow those in the voxels only nearly, so
that the second starts from where the first ended."""


def plan_targets(request: PlanningRequest, progress: Progress = silent) -> PlanningResult:
    """Make the plans of a course together, each for its own target and with the other ones in mind.

    1. Beams, beamlets and their influence on a sample of voxels.
    2. Fluence of all beams of all plans: the protocol's rules as penalties that tighten until they hold, on each plan's
       own dose and on the sum; then uniform targets, steep fall-off and sparing.
    3. Leaf sequences, refined by the gradient of the same objectives.
    4. Collapsed-cone dose of the segments, before and after the refinement; what it finds more or less than the
       optimiser is added to the optimiser's dose, what metrics on the CT grid are more or less to the goals, and the
       segments are refined again until the rules hold in the delivered dose.
    5. Factors of the plans: a prescribed isodose is brought to its volume, and if a rule is still broken, limits of
       organs hold and coverage gives way.

    Rules that contradict each other do not fail: each broken rule is a row of the conflicts, which says by how much it
    is broken at least and what relaxing the others would buy.

    Raises
    ------
    PlanningError
        If no plan can be made: an empty target, a machine without leaves, a target out of reach.
    """
    work = _Work(request)
    technique = technique_of(request.protocol.technique.delivery)
    settings = request.settings
    with work.timed("influence"):
        setup = prepare(request, technique, part(progress, 0.0, 0.2))
        state = _State.of(request, setup, technique)
        task = Task(request, setup.plans, setup.voxels, state.problem, state.goals, work.log)
    with work.timed("fluence"):
        solver = FluenceSolver(
            setup.plans,
            state.problem,
            state.goals,
            setup.voxels,
            [target.prescription_gy for target in request.targets],
            sharp=technique.sharp and request.protocol.robustness.planning == "nominal",
            log=work.log,
        )
        promised: dict[int, float] = {}
        against: dict[int, tuple[float, tuple[Trade, ...]]] = {}
        if technique.modulates:
            optimise_fluence(solver, settings.fluence_iterations, part(progress, 0.2, 0.5))
            promised = state.metrics(solver.doses())
            against = {setup.rules.index(state.goals[n].rule): row for n, row in contradictions(solver).items()}
        openings = solver.openings
    with work.timed("sequencing"):
        shapes = technique.first(task, openings, part(progress, 0.5, 0.55))
    with work.timed("final dose"):
        final = _deliver(technique, task, setup, shapes, part(progress, 0.55, 0.6), FIRST_DOSE)
        state.correct(technique.doses_gy(task, final.shapes), final.in_voxels)
    with work.timed("apertures"):
        shapes = technique.refined(task, final.shapes, part(progress, 0.6, 0.75))
        if not technique.modulates:
            promised = state.metrics(state.problem.seen(technique.doses_gy(task, shapes)))
    final, outcomes = _deliver_and_judge(work, technique, task, setup, shapes, promised, part(progress, 0.75, 0.8))
    broken = state.broken_when_scaled(final.in_voxels, outcomes)
    if final.is_draft and not any(broken):
        final, outcomes = _deliver_and_judge(work, technique, task, setup, final.shapes, promised, silent, LAST_DOSE)
        broken = state.broken_when_scaled(final.in_voxels, outcomes)
    best = final, outcomes
    rounds = settings.feedback_rounds
    for number in range(rounds):
        if not any(broken):
            break
        start = 0.8 + 0.2 * number / rounds
        step = part(progress, start, start + 0.1 / rounds)
        shapes = _corrected(work, technique, task, state, final, outcomes, step)
        step = part(progress, start + 0.1 / rounds, start + 0.2 / rounds)
        of_arcs = LAST_DOSE if sum(broken) < NEARLY_MET else DRAFT_DOSE
        final, outcomes = _deliver_and_judge(work, technique, task, setup, shapes, promised, step, of_arcs)
        before, broken = broken, state.broken_when_scaled(final.in_voxels, outcomes)
        best = (final, outcomes) if broken < before else best
        broken = min(before, broken)
    finished = _finished(work, technique, task, state, best, promised)
    if not finished.all_met and not any(broken):  # scaling found what its forecast did not
        shapes = _corrected(work, technique, task, state, finished.final, finished.outcomes, silent)
        found = _deliver_and_judge(work, technique, task, setup, shapes, promised, silent, LAST_DOSE)
        again = _finished(work, technique, task, state, found, promised)
        finished = min(finished, again, key=lambda one: broken_by(setup.rules, one.outcomes))
    final, outcomes, factors = finished.final, finished.outcomes, finished.factors
    progress(1.0, "planned")
    conflicts = conflicts_of(outcomes, setup.rules, against)
    if not technique.modulates:
        openings = [
            openings_of(plan, fields, request.machine) for plan, fields in zip(setup.plans, final.shapes, strict=True)
        ]
    notes = (*setup.notes, *(conflict.note() for conflict in conflicts), *technique.remarks())
    return PlanningResult(
        _planned(request, setup, openings, final, factors, notes), outcomes, work.log.history(), work.seconds, notes,
        conflicts,
    )  # fmt: skip


@dataclass(slots=True)
class _State:
    """The problem and its goals."""

    problem: Problem
    goals: list[Goal]
    setup: Setup

    @classmethod
    def of(cls, request: PlanningRequest, setup: Setup, technique: Technique) -> _State:
        scale = max(target.prescription_gy for target in request.targets)
        goals = [
            goal_of_rule(rule, setup.voxels, scale, request.settings.constraint_margin)
            for rule in setup.rules
            if setup.voxels.holds(rule.structure)
        ]
        quality = quality_terms(request.targets, setup.minimise, setup.voxels, BODY, modulated=technique.modulates)
        names = tuple(target.name for target in request.targets)
        problem = Problem(names, [*goals, *quality, *robust_terms(request, setup.voxels, BODY)])
        if request.given_dose is not None:
            points = setup.voxels.grid.points_mm().reshape(-1, 3)[setup.voxels.index]
            problem.given_gy = request.given_dose.sample(points)
        return cls(problem, goals, setup)

    def metrics(self, doses_gy: Sequence[Dose]) -> dict[int, float]:
        """Return the metric of every rule that the optimiser sees, by the rule's position."""
        return {
            self.setup.rules.index(goal.rule): goal.value(self.problem, self.setup.voxels, doses_gy)
            for goal in self.goals
        }

    def correct(self, optimiser_gy: Sequence[Dose], final_gy: Sequence[Dose]) -> None:
        """Add to the optimiser's doses what the final dose found more or less in every voxel."""
        self.problem.offsets_gy = [final - own for final, own in zip(final_gy, optimiser_gy, strict=True)]

    def broken_when_scaled(self, final_gy: Sequence[Dose], outcomes: Sequence[GoalOutcome]) -> tuple[float, ...]:
        """Return by how much rules of each priority are broken when the plans are scaled as well as can be."""
        whole = replace(self.problem, offsets_gy=[])
        delivered = [outcome.delivered for outcome in outcomes]
        return best_scaling(self.setup.rules, whole, self.setup.voxels, final_gy, delivered)[1]

    def learn(self, final_gy: Sequence[Dose], outcomes: Sequence[GoalOutcome]) -> None:
        """Learn how every metric differs between voxels and CT grid, and work harder on rules that are broken."""
        spare_less(self.problem)
        for goal in self.goals:
            outcome = outcomes[self.setup.rules.index(goal.rule)]
            seen = goal.value(self.problem, self.setup.voxels, final_gy)
            if (outcome.met and goal.press) or not (outcome.met or goal.harden()):
                goal.push(seen)  # against where it was aimed at before
            goal.learn(seen, outcome.delivered)


@dataclass(frozen=True, slots=True, eq=False)
class _Delivered:
    """Shapes as the machine delivers them, their plans, and their dose."""

    shapes: Shapes
    plans: list[TreatmentPlan]
    doses: list[Volume]
    in_voxels: list[Dose]
    is_draft: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Finished:
    """Plans with their last dose and factors, and what became of the rules."""

    final: _Delivered
    outcomes: tuple[GoalOutcome, ...]
    factors: tuple[float, ...]

    @property
    def all_met(self) -> bool:
        return all(outcome.met for outcome in self.outcomes)


@dataclass(slots=True)
class _Work:
    """Times and the log of a run."""

    request: PlanningRequest
    log: Log = field(default_factory=Log)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of what is done inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


def _deliver(
    technique: Technique,
    task: Task,
    setup: Setup,
    shapes: Shapes,
    progress: Progress,
    of_arcs: tuple[float, float] = DRAFT_DOSE,
) -> _Delivered:
    request, machine = task.request, task.machine
    grid = dose_grid(request)
    rounded = technique.settable(shapes, machine)
    plans: list[TreatmentPlan] = []
    doses: list[Volume] = []
    for number, (target, fields, own) in enumerate(zip(request.targets, setup.plans, rounded, strict=True)):
        label = f"{target.name} {request.protocol.id}"[:16].rstrip("-_ ")
        step = part(progress, number / len(setup.plans), (number + 1) / len(setup.plans))
        plans.append(technique.plan(target, fields, own, machine, label))
        doses.append(plan_dose(plans[-1], request.density, machine, setup.model, grid, step, *of_arcs))
    points = setup.voxels.grid.points_mm().reshape(-1, 3)[setup.voxels.index]
    is_draft = of_arcs != LAST_DOSE and any(beam.dynamic for plan in plans for beam in plan)
    return _Delivered(rounded, plans, doses, [dose.sample(points) for dose in doses], is_draft)


def _deliver_and_judge(
    work: _Work,
    technique: Technique,
    task: Task,
    setup: Setup,
    shapes: Shapes,
    promised: dict[int, float],
    progress: Progress,
    of_arcs: tuple[float, float] = DRAFT_DOSE,
) -> tuple[_Delivered, tuple[GoalOutcome, ...]]:
    with work.timed("final dose"):
        final = _deliver(technique, task, setup, shapes, progress, of_arcs)
    with work.timed("evaluation"):
        return final, _judged(task.request, setup, final, promised)


def _corrected(
    work: _Work,
    technique: Technique,
    task: Task,
    state: _State,
    final: _Delivered,
    outcomes: Sequence[GoalOutcome],
    progress: Progress,
) -> Shapes:
    """Return shapes refined by what their final dose taught."""
    state.correct(technique.doses_gy(task, final.shapes), final.in_voxels)
    state.learn(final.in_voxels, outcomes)
    with work.timed("feedback"):
        return technique.corrected(task, final.shapes, progress)


def _finished(
    work: _Work,
    technique: Technique,
    task: Task,
    state: _State,
    best: tuple[_Delivered, tuple[GoalOutcome, ...]],
    promised: dict[int, float],
) -> _Finished:
    """Return plans with the last dose (of arcs a finer one than drafts), scaled so that the rules hold best."""
    request, setup = task.request, state.setup
    final, outcomes = best
    if final.is_draft:
        final, outcomes = _deliver_and_judge(work, technique, task, setup, final.shapes, promised, silent, LAST_DOSE)
    state.problem.offsets_gy = []
    done = _Finished(final, outcomes, (1.0,) * len(final.plans))
    for least in LEAST_SCALINGS:
        delivered = [outcome.delivered for outcome in done.outcomes]
        factors = best_factors(setup.rules, state.problem, setup.voxels, done.final.in_voxels, delivered)
        if max(abs(factor - 1.0) for factor in factors) <= least:
            break
        with work.timed("final dose"):
            scaled = _scaled(technique, task, setup, done.final, factors)
        with work.timed("evaluation"):
            then = _judged(request, setup, scaled, promised)
        if broken_by(setup.rules, then) > broken_by(setup.rules, done.outcomes):
            break
        done = _Finished(scaled, then, tuple(a * b for a, b in zip(done.factors, factors, strict=True)))
    return done


def _scaled(
    technique: Technique, task: Task, setup: Setup, final: _Delivered, factors: tuple[float, ...]
) -> _Delivered:
    """Return plans times factors.

    Dose is linear in monitor units, so that it need not be calculated again where rounding and limits leave them as
    good as in proportion.
    """
    shapes = technique.settable(final.shapes, task.machine, factors)
    plans, doses = [], []
    for target, fields, own, before, dose in zip(
        task.request.targets, setup.plans, shapes, final.plans, final.doses, strict=True
    ):
        plan = technique.plan(target, fields, own, task.machine, before.label)
        old, new = _mu_of(before), _mu_of(plan)
        if len(old) != len(new):
            return _deliver(technique, task, setup, shapes, silent, LAST_DOSE)
        ratio = float(new.sum() / old.sum())
        if float(np.abs(new - ratio * old).sum()) > MOST_OUT_OF_PROPORTION * float(new.sum()):
            return _deliver(technique, task, setup, shapes, silent, LAST_DOSE)
        plans.append(plan)
        doses.append(Volume(dose.grid, np.asarray(dose.values * np.float32(ratio), dtype=np.float32)))
    points = setup.voxels.grid.points_mm().reshape(-1, 3)[setup.voxels.index]
    return _Delivered(shapes, plans, doses, [dose.sample(points) for dose in doses])


def _mu_of(plan: TreatmentPlan) -> NDArray[np.float64]:
    """Return the monitor units between all control points."""
    return np.concatenate([np.diff([point.cumulative_mu for point in beam.control_points]) for beam in plan.beams])


def _judged(
    request: PlanningRequest, setup: Setup, final: _Delivered, promised: dict[int, float]
) -> tuple[GoalOutcome, ...]:
    doses = doses_by_scope([target.name for target in request.targets], final.doses, request.given_dose)
    return judge_rules(setup.rules, setup.masks, request.density.grid, doses, promised)


def dose_grid(request: PlanningRequest) -> Grid:
    """Return the grid of the final dose: the protocol's spacing over the whole CT."""
    spacing = request.settings.dose_grid_mm or request.protocol.technique.dose_grid_mm
    return request.density.grid.resampled(spacing)


def _planned(
    request: PlanningRequest,
    setup: Setup,
    openings: Openings,
    final: _Delivered,
    factors: tuple[float, ...],
    notes: Sequence[Note],
) -> tuple[PlannedTarget, ...]:
    planned = []
    for target, plan, treatment, dose, fields, factor in zip(
        request.targets, setup.plans, final.plans, final.doses, openings, factors, strict=True
    ):
        own = tuple(note for note in notes if note.where == target.name)
        planned.append(PlannedTarget(target, replace(treatment, notes=own), dose, _fluence_maps(plan, fields), factor))
    return tuple(planned)


def _fluence_maps(plan: FieldSet, openings: Sequence[NDArray[np.float64]]) -> tuple[FluenceMap, ...]:
    maps = []
    for raster, opening in zip(plan.rasters, openings, strict=True):
        values = raster.spread(opening)
        if raster.axis == "X":
            maps.append(FluenceMap(raster.along_mm, raster.across_mm, values))
        else:
            maps.append(FluenceMap(raster.across_mm, raster.along_mm, values.T))
    return tuple(maps)
