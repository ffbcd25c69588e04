"""Fluence optimisation: openings of all fields of all plans together, one vector with warm starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cantlie.core.progress import Progress, part, silent
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence_objectives import Smoothness
from cantlie.plan.goals import Goal, tighten
from cantlie.plan.problem import Problem
from cantlie.plan.request import History
from cantlie.plan.solver import Minimum, minimise
from cantlie.plan.voxels import PlanningVoxels

Vector = NDArray[np.float64]
Openings = list[list[NDArray[np.float64]]]


@dataclass(slots=True)
class Log:
    """What an optimisation went through: stage, value and time of every step, and some points of the DVHs.

    ``points`` holds the number of a step and the metric of every rule after it, in the order of the goals.
    """

    stages: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    points: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)
    rules: tuple[str, ...] = ()
    started: float = field(default_factory=time.perf_counter)

    def add(self, stage: str, value: float) -> None:
        """Note one step."""
        self.stages.append(stage)
        self.values.append(value)
        self.seconds.append(time.perf_counter() - self.started)

    def history(self) -> History:
        """Return all that was noted."""
        return History(
            tuple(self.stages), np.asarray(self.values), np.asarray(self.seconds), self.rules,
            np.array([at for at, _ in self.points], dtype=np.int64),
            np.array([metrics for _, metrics in self.points]).reshape(len(self.points), len(self.rules)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where the openings of every plan and field stand in one vector."""

    plans: tuple[FieldSet, ...]
    masks: tuple[tuple[NDArray[np.bool_], ...], ...]

    @classmethod
    def of(cls, plans: Sequence[FieldSet]) -> _Layout:
        return cls(tuple(plans), tuple(tuple(raster.leaf_used() for raster in plan.rasters) for plan in plans))

    @property
    def size(self) -> int:
        return sum(int(mask.sum()) for masks in self.masks for mask in masks)

    def openings(self, x: Vector) -> Openings:
        result: Openings = []
        start = 0
        for masks in self.masks:
            fields = []
            for mask in masks:
                opening = np.zeros(mask.shape)
                count = int(mask.sum())
                opening[mask] = x[start : start + count]
                start += count
                fields.append(opening)
            result.append(fields)
        return result

    def vector(self, openings: Sequence[Sequence[NDArray[np.floating]]]) -> Vector:
        parts = [
            opening[mask]
            for masks, fields in zip(self.masks, openings, strict=True)
            for mask, opening in zip(masks, fields, strict=True)
        ]
        return np.concatenate(parts).astype(np.float64)

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of positions in the vector that lie beside each other in a field."""
        first, second = [], []
        start = 0
        for masks in self.masks:
            for mask in masks:
                count = int(mask.sum())
                place = np.full(mask.shape, -1)
                place[mask] = start + np.arange(count)
                start += count
                for a, b in ((place[:, :-1], place[:, 1:]), (place[:-1], place[1:])):
                    both = (a >= 0) & (b >= 0)
                    first.append(a[both])
                    second.append(b[both])
        return np.concatenate(first), np.concatenate(second)


MORE_FOR_CONFLICTS = 2
TARGET_SLIP = 0.2
"""Share by which the targets' objective may rise for the sake of organs: their spread by half as much."""
FALL_OFF_SLIP = 1.0
"""The same for the fall-off beside targets, which keeps plans conformal where only the mean of an organ counts."""
SPARING_STEP = 1.6
SPARING_STEPS = 10
SPARING_ITERATIONS = 20
LEAST_CURVATURE = 0.02
"""Openings are stepped as what they give the target asks, those beside it as if by this share of the most. The root of
it took a third fewer steps to the same objective than none, in a C-shape, a lesion beside the bowel and half livers.
Arcs could not follow: two to GTV_6 of crlm_ct_1006 came out with 20 % more monitor units, Paddick 0.80 (0.86). Nor did
it serve robust plans: in 60 steps the worst displacement kept a D95 of 89 % with it and 92 % without."""
POINTS_EVERY = 10
"""Steps from one look at the rules' metrics to the next."""


class FluenceSolver:
    """The fluence of all fields of all plans as one vector, and how it is made better from where it stands.

    Parameters
    ----------
    plans
        The fields of each plan.
    problem
        Objectives on the doses.
    goals
        The rules' goals; their objectives are among those of the problem.
    prescriptions_gy
        Prescribed dose of each plan's target.
    start
        Fluence to start from (a warm start); by default the open fields that give each target its mean dose.
    sharp
        Whether openings at the edges of targets step further than those through their middle.
    smoothness
        Weight of the mean squared difference of neighbours, relative to the mean fluence.
    """

    def __init__(
        self,
        plans: Sequence[FieldSet],
        problem: Problem,
        goals: Sequence[Goal],
        voxels: PlanningVoxels,
        prescriptions_gy: Sequence[float],
        *,
        start: Openings | None = None,
        sharp: bool = True,
        smoothness: float = 0.002,
        log: Log | None = None,
    ) -> None:
        self.plans, self.problem, self.goals, self.voxels = plans, problem, goals, voxels
        self.log = log if log is not None else Log()
        self.log.rules = tuple(goal.rule.sentence() for goal in goals)
        self._layout = _Layout.of(plans)
        x = (
            self._layout.vector(start)
            if start is not None
            else _open_fields(self._layout, problem, voxels, prescriptions_gy)
        )
        self._scale = max(float(x.mean()), 1e-9)
        self.sharp = sharp
        self._inverse_curvature = _inverse_curvature(self._layout, problem, voxels) if sharp else None
        self._smooth = Smoothness(*self._layout.neighbours(), smoothness, self._scale)
        self._doses: list[NDArray[np.float64]] = []
        self.x: Vector = x / self._scale
        """The fluence in units of its first mean."""

    @property
    def openings(self) -> Openings:
        """The fluence of every field of every plan."""
        return self._layout.openings(self._scale * self.x)

    def doses(self) -> list[NDArray[np.float64]]:
        """Return the dose of every plan in the voxels."""
        return [plan.dose_gy(fields) for plan, fields in zip(self.plans, self.openings, strict=True)]

    def metrics(self, goals: Sequence[Goal] | None = None) -> list[float]:
        """Return the metric of every goal."""
        seen = self.problem.seen(self.doses())
        return [goal.value(self.problem, self.voxels, seen) for goal in (self.goals if goals is None else goals)]

    def unmet(self) -> list[Goal]:
        """Return the goals whose rule does not hold in the optimiser's voxels."""
        return [g for g, value in zip(self.goals, self.metrics(), strict=True) if not g.seen_rule.met(value)]

    def improve(self, iterations: int, progress: Progress = silent, *, tolerance: float = 2e-4) -> Minimum:
        """Lower the objective from where the fluence stands, for some steps or until it falls no more."""

        def watch(step: int, value: float) -> None:
            self.log.add("fluence", value)
            words = f"fluence, objective {value:.4g}"
            if step % POINTS_EVERY == 0:
                seen = self.problem.seen(self._doses)
                metrics = tuple(goal.value(self.problem, self.voxels, seen) for goal in self.goals)
                self.log.points.append((len(self.log.values) - 1, metrics))
                words += points_in_words(self.goals, metrics)
            progress(min(step / iterations, 1.0), words)

        result = minimise(
            self._function, self.x, inverse_curvature=self._inverse_curvature, iterations=iterations,
            tolerance=tolerance, watch=watch,
        )  # fmt: skip
        self.x = result.x
        return result

    def tighten(self) -> bool:
        """Raise the penalties of rules that do not hold yet; say whether any was raised."""
        return tighten(self.goals, self.problem, self.voxels, self.problem.seen(self.doses()))

    def _function(self, z: Vector) -> tuple[float, Vector]:
        openings = self._layout.openings(self._scale * z)
        self._doses = [plan.dose_gy(fields) for plan, fields in zip(self.plans, openings, strict=True)]
        value, dose_gradients = self.problem.evaluate(self._doses)
        gradient = self._layout.vector(
            [plan.opening_gradients(g) for plan, g in zip(self.plans, dose_gradients, strict=True)]
        )
        value += self._smooth.add_gradient(self._scale * z, gradient)
        return value, self._scale * gradient


def optimise_fluence(solver: FluenceSolver, iterations: int, progress: Progress = silent) -> None:
    """Bring a fluence to where the rules hold as well as they can, then targets are uniform and organs are spared.

    Parameters
    ----------
    solver
        The fluence and its problem; the penalties of its goals are raised here.
    iterations
        Steps altogether, a third of them before penalties are first looked at; twice as many if rules remain unmet.
    """
    done, most = 0, iterations
    share = max(iterations // 3, 10)
    while done < most:
        steps = min(share, most - done)
        result = solver.improve(steps, part(progress, 0.8 * done / most, 0.8 * (done + steps) / most))
        done += max(len(result.values) - 1, 5)
        share = max(iterations // 12, 8)
        raised = solver.tighten()
        if done >= iterations and solver.unmet():
            most = MORE_FOR_CONFLICTS * iterations  # rules that pull against each other take longer to come to rest
        if not raised and result.converged and not solver.unmet():
            break
    spare_further(solver, part(progress, 0.8, 1.0))


def spare_further(solver: FluenceSolver, progress: Progress = silent) -> float:
    """Lower the doses of organs as far as the rules and uniform targets allow; return what sparing weighs now.

    This is the last stage of the order of priorities (as the wish-list of Breedveld et al. 2007,
    doi:10.1088/0031-9155/52/20/016): sparing is given more and more weight until a rule that held no longer holds, or
    the objective of targets (displaced ones among them) or of the fall-off around them rises by more than a slip; then
    the step before is taken. Targets whose maximum has a rule with room to spare may become as uneven as it allows.

    Returns
    -------
    float
        What the weights of sparing were multiplied by.
    """
    held = {id(goal) for goal in solver.goals} - {id(goal) for goal in solver.unmet()}
    names = solver.problem.names
    roomy = _with_room(solver)

    def quality() -> tuple[float, float]:
        seen = solver.problem.seen(solver.doses())
        robust = solver.problem.value_of("robust", seen, names)
        uneven = solver.problem.value_of("target", seen, set(names) - roomy)
        return robust + uneven, solver.problem.value_of("outside", seen, names)

    spread, fall_off = quality()
    most = (1.0 + TARGET_SLIP) * spread, (1.0 + FALL_OFF_SLIP) * fall_off
    factor = 1.0
    for step in range(SPARING_STEPS):
        before = solver.x
        _weigh(solver.problem, SPARING_STEP)
        steps = part(progress, step / SPARING_STEPS, (step + 1) / SPARING_STEPS)
        solver.improve(SPARING_ITERATIONS, part(steps, 0.0, 0.6))
        lost = any(id(goal) in held for goal in solver.unmet())
        if lost:  # by less than a step perhaps: the rule pulls harder once
            solver.tighten()
            solver.improve(SPARING_ITERATIONS // 2, part(steps, 0.6, 1.0))
            lost = any(id(goal) in held for goal in solver.unmet())
        worse = any(value > bound for value, bound in zip(quality(), most, strict=True))
        if lost or worse or not roomy <= _with_room(solver):
            solver.x = before
            _weigh(solver.problem, 1.0 / SPARING_STEP)
            break
        factor *= SPARING_STEP
    return factor


def _with_room(solver: FluenceSolver) -> set[str]:
    """Return the structures whose maximum has a rule and keeps below what the rule's goal aims at."""
    return {
        goal.rule.structure
        for goal, value in zip(solver.goals, solver.metrics(), strict=True)
        if goal.rule.limits_hot_spots and goal.seen_rule.met(value, -0.5 * goal.margin * goal.rule.limit)
    }


def spare_less(problem: Problem) -> None:
    """Take back one step of sparing, where rules do not hold in the delivered dose."""
    _weigh(problem, 1.0 / SPARING_STEP)


def _weigh(problem: Problem, factor: float) -> None:
    for term in problem.of_purpose("spare"):
        term.objective.weight *= factor  # type: ignore[attr-defined]


def points_in_words(goals: Sequence[Goal], metrics: Sequence[float]) -> str:
    """Return the two rules that lie nearest to their limits, or beyond them, for the line of progress."""
    order = sorted(
        range(len(goals)),
        key=lambda n: -goals[n].rule.excess(metrics[n]) / max(abs(goals[n].rule.limit), 1e-9),
    )
    words = [f"{goals[n].rule.structure} {goals[n].rule.metric} {metrics[n]:.3g} {goals[n].rule.unit}" for n in order]
    return "".join(f", {word}" for word in dict.fromkeys(words[:2]))


def _inverse_curvature(layout: _Layout, problem: Problem, voxels: PlanningVoxels) -> Vector:
    """Return by how much each opening may be stepped: what gives its target little, at the edge, may go further."""
    to_target = []
    for plan, name in zip(layout.plans, problem.names, strict=True):
        volumes = voxels.volumes_cc[name]
        to_target.append(plan.opening_gradients(volumes / volumes.sum()))
    vector = layout.vector(to_target)
    return np.asarray(np.maximum(vector / vector.max(), LEAST_CURVATURE) ** -0.5)


def _open_fields(
    layout: _Layout, problem: Problem, voxels: PlanningVoxels, prescriptions_gy: Sequence[float]
) -> Vector:
    openings = layout.openings(np.ones(layout.size))
    for plan, name, fields, wanted in zip(layout.plans, problem.names, openings, prescriptions_gy, strict=True):
        volumes = voxels.volumes_cc[name]
        mean = float(plan.dose_gy(fields) @ volumes) / float(volumes.sum())
        for opening in fields:
            opening *= wanted / max(mean, 1e-12)
    return layout.vector(openings)
