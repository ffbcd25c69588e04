"""From a protocol to objectives: its limits as constraints, then its targets' quality, then sparing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.objectives import (
    MaxDvh,
    MeanDeviation,
    MeanDose,
    MinDvh,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
    VoxelSet,
    dose_fall_off,
)
from cantlie.plan.points import PointOverdose, PointSet
from cantlie.plan.problem import COURSE, Problem, Term
from cantlie.plan.request import PlanTarget
from cantlie.plan.voxels import PlanningVoxels
from cantlie.protocol.metric import Metric
from cantlie.protocol.schema import Protocol

Dose = NDArray[np.float64]
Weighted = PointOverdose | SquaredOverdose | SquaredUnderdose | MaxDvh | MinDvh | MeanDeviation

FIRST_PENALTY = 50.0
PENALTY_STEP = 3.0
TARGET_PRIORITY = 10
"""Where the protocol says nothing else, what targets need comes after all limits of organs (priorities 1 to 9)."""
MOST_PENALTY = 1e4
MOST_PENALTY_OF_LIMITS = 1e5
"""Penalties end somewhere, so that rules which contradict each other come to rest. Those of limits end so much higher
that coverage gives way by nearly all that is missing."""
HOT_SPOT_CC = 1.0
"""A maximum is kept by the few cm³ beside the target, however large the organ is that they belong to."""
MEAN_FACTOR = 20.0
"""A mean is one number, where other rules add up what many voxels exceed."""
LEAST_PART = 0.25
LEAST_PART_OF_TARGETS = 0.1
"""Part of a voxel that a structure fills at least for its dose to count for the structure's maximum."""
LARGEST_BIAS = 0.3
"""Most that a metric on the CT grid is taken to differ from that in the optimiser's voxels, as a share of its limit."""
LEAST_RESERVE = 0.005
"""Share of a limit that lies between it and where it is pressed to."""
MOST_PRESS = 0.3
MARGIN_LEFT = 0.5
"""Share of the reserve that remains each time that the final dose has shown what a metric really is."""
SPARING = 0.03
"""Weight of sparing, beside 1 for a uniform target. Against 0.01 the cord's maximum falls by 5 and 6 Gy and the right
kidney's mean by 2 and 3 Gy on two livers; with 0.05 normal liver V30 comes to 49.5 % of 50 % in one of three."""
AFTER_THE_FIRST = 1 / 3
"""What each organ counts in sparing beside the one that the protocol names first."""
HOT_BESIDE = 0.97
"""Share of the prescription beyond which dose beside the target of modulated fields is as unwelcome as a hot target."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit that a protocol sets: on a structure's metric, in the course's dose or in that of one plan.

    ``kind`` says what the rule is: ``constraint``, ``coverage`` or ``normalisation``. Among rules that contradict each
    other those of a smaller ``priority`` hold.
    """

    structure: str
    metric: Metric
    op: str
    limit: float
    scope: str
    prescription_gy: float
    kind: str = "constraint"
    priority: int = 1

    @property
    def unit(self) -> str:
        """Unit of the limit."""
        return self.metric.unit

    @property
    def before_targets(self) -> bool:
        """Whether the rule holds before what targets need."""
        return self.priority < TARGET_PRIORITY

    @property
    def limits_hot_spots(self) -> bool:
        """Whether the rule is about the maximum or the hottest tenth (as D2%, D10%), and from above."""
        metric = self.metric
        share = metric.kind == "dose_at_volume" and metric.argument_unit == "%" and metric.argument <= 10.0
        return self.op.startswith("<") and (metric.kind == "max" or share)

    def sentence(self) -> str:
        """Return the rule in words."""
        scope = "" if self.scope == COURSE else f" in the plan of {self.scope}"
        return f"{self.structure} {self.metric} {self.op} {self.limit:g} {self.unit}{scope}"

    def met(self, value: float, slack: float = 0.0) -> bool:
        """Say whether a value keeps the rule; ``slack`` widens the limit, a negative one narrows it."""
        if self.op == "<":
            return value < self.limit + slack
        if self.op == ">":
            return value > self.limit - slack
        return value <= self.limit + slack + 1e-9 if self.op == "<=" else value >= self.limit - slack - 1e-9

    def excess(self, value: float) -> float:
        """Return by how much a value breaks the rule, in its unit; not positive when it is kept."""
        return value - self.limit if self.op.startswith("<") else self.limit - value


def metric_value(metric: Metric, dose_gy: Dose, volume_cc: NDArray[np.float64], prescription_gy: float) -> float:
    """Return a DVH metric of voxels with their volumes.

    Parameters
    ----------
    dose_gy, volume_cc
        Dose of each voxel of the structure, and the volume that it stands for, shapes (n,).
    prescription_gy
        What percentages of dose refer to.
    """
    total = float(volume_cc.sum())
    if metric.kind in ("max", "min", "mean", "dose_at_volume"):
        if metric.kind == "max":
            dose = float(dose_gy.max())
        elif metric.kind == "min":
            dose = float(dose_gy.min())
        elif metric.kind == "mean":
            dose = float(dose_gy @ volume_cc) / total
        else:
            wanted = metric.argument if metric.argument_unit == "cc" else metric.argument / 100 * total
            order = np.argsort(-dose_gy, kind="stable")
            reached = np.cumsum(volume_cc[order])
            place = min(int(np.searchsorted(reached, min(wanted, total) * (1 - 1e-12))), len(order) - 1)
            dose = float(dose_gy[order[place]])
        return dose if metric.unit == "Gy" else 100 * dose / prescription_gy
    level = metric.argument if metric.argument_unit == "Gy" else metric.argument / 100 * prescription_gy
    above = float(volume_cc[dose_gy >= level].sum())
    volume = above if metric.kind == "volume_at_dose" else total - above
    return volume if metric.unit == "cc" else 100 * volume / total


def rules_of_protocol(protocol: Protocol, targets: Sequence[PlanTarget], scheme: str | None = None) -> list[Rule]:
    """Return all rules that a protocol sets for the plans of some of its targets.

    Coverage counts in the plan's own dose even where the protocol counts it in the course: what the other plans add
    must not be what covers a target.
    """
    rules: list[Rule] = []
    by_name = {target.name: target for target in targets}
    for target in targets:
        prescription = protocol.prescription(target.name, scheme)
        scope = target.name if prescription.normalise_dose == "plan" else COURSE
        wanted = target.prescription_gy * prescription.normalise_percent / 100
        band = max(prescription.tolerance_percent, 0.1) / 100 * wanted
        for op, limit in (("<=", wanted + band), (">=", wanted - band)):
            rules.append(
                Rule(
                    target.name, prescription.metric, op, limit, scope, target.prescription_gy, "normalisation",
                    prescription.priority or TARGET_PRIORITY,
                )
            )  # fmt: skip
    for coverage in protocol.coverage:
        if coverage.target in by_name:
            target = by_name[coverage.target]
            rules.append(
                Rule(
                    target.name, coverage.metric, ">=", coverage.volume_percent, target.name, target.prescription_gy,
                    "coverage", coverage.priority or TARGET_PRIORITY,
                )
            )  # fmt: skip
    total = sum(target.prescription_gy for target in targets) if len(targets) == 1 else targets[0].prescription_gy
    for constraint in protocol.constraints:
        scopes = [constraint.scope]
        if constraint.scope == "plan":
            scopes = list(by_name)
        elif constraint.scope != COURSE and constraint.scope not in by_name:
            continue
        for scope in scopes:
            dose = by_name[scope].prescription_gy if scope in by_name else total
            rules.append(
                Rule(
                    constraint.structure, constraint.parsed_metric, constraint.op, constraint.limit, scope, dose,
                    "constraint", constraint.priority,
                )
            )  # fmt: skip
    return rules


@dataclass(slots=True)
class Goal:
    """A rule together with the objective that works towards it, somewhat stricter than the rule.

    ``bias`` is what the metric is more in the delivered dose on the CT grid than in the optimiser's voxels; the
    objective aims that much lower. ``press`` is how much further it aims beyond a limit because other objectives pull
    the other way: with it the limit itself holds although penalties are finite (the method of multipliers; Nocedal and
    Wright, Numerical Optimization, section 17.3).
    """

    rule: Rule
    objective: Weighted
    volume_cc: float
    margin: float
    bias: float = 0.0
    press: float = 0.0

    def value(self, problem: Problem, voxels: PlanningVoxels, seen_gy: Sequence[Dose]) -> float:
        """Return the metric in the doses of the optimiser."""
        dose = problem.scoped(self.rule.scope, seen_gy)
        points = self.objective.voxels
        if isinstance(points, PointSet):
            found = points.doses_gy(dose)
            return metric_value(self.rule.metric, found, points.weight, self.rule.prescription_gy)
        volumes = volumes_that_count(self.rule, voxels)
        inside = volumes > 0
        return metric_value(self.rule.metric, dose[inside], volumes[inside], self.rule.prescription_gy)

    @property
    def scope(self) -> str:
        """The dose that the rule is about."""
        return self.rule.scope

    @property
    def seen_rule(self) -> Rule:
        """The rule as it must hold in the optimiser's voxels."""
        return replace(self.rule, limit=self.rule.limit - self.bias)

    def push(self, seen: float) -> None:
        """Aim further beyond an organ's limit that does not hold, and less far beyond one that holds easily."""
        if not self.rule.before_targets:
            return
        excess = self.seen_rule.excess(seen) + LEAST_RESERVE * abs(self.rule.limit)
        most = MOST_PRESS * max(abs(self.rule.limit), 1.0)
        before = self.press
        self.press = float(np.clip(self.press + excess, 0.0, most))
        if self.press != before:
            self._aim()

    def learn(self, seen: float, delivered: float) -> None:
        """Take note of what the metric was in the optimiser's voxels and on the CT grid, both in the final dose."""
        largest = LARGEST_BIAS * max(abs(self.rule.limit), 1.0)
        self.bias = float(np.clip(delivered - seen, -largest, largest))
        self.margin *= MARGIN_LEFT
        self._aim()

    def relaxed(self, by: float) -> Goal:
        """Return a goal of the same penalty for a limit that allows so much more, in the unit of the rule."""
        limit = self.rule.limit + by if self.rule.op.startswith("<") else self.rule.limit - by
        goal = replace(self, rule=replace(self.rule, limit=limit))
        goal._aim()
        return goal

    def exactly(self) -> Goal:
        """Return a goal of the same penalty that keeps nothing in reserve."""
        goal = replace(self, margin=0.0)
        goal._aim()
        return goal

    def harden(self) -> bool:
        """Raise the penalty by a step; say whether it could still rise."""
        most, step = MOST_PENALTY, PENALTY_STEP
        if self.rule.before_targets:
            most, step = MOST_PENALTY_OF_LIMITS, PENALTY_STEP**2
        most *= self.emphasis
        before = self.objective.weight
        self.objective.weight = min(before * step, most)
        return self.objective.weight > before

    @property
    def emphasis(self) -> float:
        """What the penalty is multiplied by, for it to weigh as much as that of rules on whole volumes."""
        metric = self.rule.metric
        if metric.kind == "mean":
            return MEAN_FACTOR
        small_cc = metric.argument if metric.argument_unit == "cc" else metric.argument / 100 * self.volume_cc
        hot = metric.kind == "max" or (metric.kind == "dose_at_volume" and small_cc <= HOT_SPOT_CC)
        return max(self.volume_cc / HOT_SPOT_CC, 1.0) if hot and self.rule.op.startswith("<") else 1.0

    def _aim(self) -> None:
        towards = -self.press if self.rule.op.startswith("<") else self.press
        aimed = replace(self.seen_rule, limit=self.seen_rule.limit + towards)
        self.objective = _objective(
            aimed, self.objective.voxels, self.volume_cc, self.objective.scale_gy, self.margin,
            self.objective.weight,
        )  # fmt: skip


def volumes_that_count(rule: Rule, voxels: PlanningVoxels) -> NDArray[np.float64]:
    """Return the volume of a rule's structure in each voxel.

    For a maximum, voxels count alike, and those that the structure barely touches do not count: their mean dose is
    that of what lies beside it. What the maximum is on the CT grid the final dose tells.
    """
    volumes = voxels.volumes_cc[rule.structure]
    if rule.metric.kind != "max":
        return volumes
    least = LEAST_PART_OF_TARGETS if rule.structure in voxels.distance_mm else LEAST_PART
    own = np.where(volumes >= least * voxels.grid.voxel_cc, np.minimum(volumes, voxels.grid.voxel_cc), 0.0)
    return own if own.any() else volumes


def goal_of_rule(rule: Rule, voxels: PlanningVoxels, scale_gy: float, margin: float) -> Goal:
    """Return the goal of a rule, with a share of its limit kept in reserve."""
    counted = volumes_that_count(rule, voxels)
    of_maximum = voxels.points.get(rule.structure) if rule.metric.kind == "max" and rule.op.startswith("<") else None
    chosen = of_maximum or VoxelSet.of_volumes(counted, rule.structure)
    volume_cc = len(of_maximum) * voxels.grid.voxel_cc if of_maximum else float(counted.sum())
    goal = Goal(rule, _objective(rule, chosen, volume_cc, scale_gy, margin, FIRST_PENALTY), volume_cc, margin)
    goal.objective.weight *= goal.emphasis
    return goal


def _objective(
    rule: Rule, chosen: VoxelSet | PointSet, volume_cc: float, scale_gy: float, margin: float, weight: float
) -> Weighted:
    metric = rule.metric
    at_most = rule.op.startswith("<")
    percent_gy = rule.prescription_gy / 100
    if isinstance(chosen, PointSet):
        limit = rule.limit if metric.unit == "Gy" else rule.limit * percent_gy
        return PointOverdose(chosen, limit * (1 - 0.5 * margin), weight, scale_gy)
    if metric.is_dose:
        limit = rule.limit if metric.unit == "Gy" else rule.limit * percent_gy
        if rule.kind == "normalisation":
            tight = 0.005 * rule.prescription_gy
            limit = limit - tight if at_most else limit + tight
        else:
            limit *= 1 - 0.5 * margin if at_most else 1 + 0.2 * margin
        if metric.kind == "mean":
            bounds = (-np.inf, limit) if at_most else (limit, np.inf)
            return MeanDeviation(chosen, *bounds, weight, scale_gy)
        if metric.kind in ("max", "min"):
            return (SquaredOverdose if at_most else SquaredUnderdose)(chosen, limit, weight, scale_gy)
        share = metric.argument / volume_cc if metric.argument_unit == "cc" else metric.argument / 100
        share = min(share, 1.0)
        if at_most:
            return MaxDvh(chosen, limit, share * (1 - margin), weight, scale_gy)
        return MinDvh(chosen, limit, share + (1 - share) * 0.3, weight, scale_gy)
    level = metric.argument if metric.argument_unit == "Gy" else metric.argument * percent_gy
    share = rule.limit / volume_cc if metric.unit == "cc" else rule.limit / 100
    hot_limited = at_most == (metric.kind == "volume_at_dose")
    if metric.kind == "volume_below_dose":
        share = 1.0 - share
    share = float(np.clip(share, 0.0, 1.0))
    if hot_limited:  # at most this share above the level
        return MaxDvh(chosen, level * (1 - 0.5 * margin), share * (1 - 2 * margin), weight, scale_gy)
    return MinDvh(chosen, level * (1 + 0.3 * margin), share + (1 - share) * 0.5, weight, scale_gy)


def quality_terms(
    targets: Sequence[PlanTarget], minimise: Sequence[str], voxels: PlanningVoxels, body: str, *, modulated: bool = True
) -> list[Term]:
    """Return what is wanted beyond the rules: uniform targets, steep fall-off, and doses as low as possible.

    Of the structures to ``minimise`` the first counts three times as much as each of the others. What the fluence of
    modulated fields can avoid beside targets weighs more than what open fields cannot.
    """
    terms: list[Term] = []
    scale = max(target.prescription_gy for target in targets)
    for target in targets:
        dose = target.prescription_gy
        chosen = voxels.of(target.name)
        level = _level(target.name, voxels, chosen)
        terms.append(Term(target.name, SquaredDeviation(chosen, dose * level, 1.0, scale), "target"))
        terms.append(Term(target.name, SquaredUnderdose(chosen, 0.94 * dose * level, 10.0, scale), "target"))
        terms.append(Term(target.name, SquaredOverdose(chosen, 1.07 * dose * level, 10.0, scale), "target"))
        outside_cc = np.where(voxels.distance_mm[target.name] > 0, voxels.volumes_cc[body], 0.0)
        outside_cc = np.minimum(outside_cc, np.maximum(voxels.volumes_cc[body] - voxels.volumes_cc[target.name], 0.0))
        near_cc = np.where(voxels.distance_mm[target.name] <= 50.0, outside_cc, 0.0)
        if near_cc.any():
            outside = VoxelSet.of_volumes(near_cc)
            distance = voxels.distance_mm[target.name][outside.index]
            terms.append(
                Term(
                    target.name,
                    dose_fall_off(
                        outside, distance, edge_gy=0.95 * dose, far_gy=0.2 * dose, half_distance_mm=10.0, weight=1.0,
                        scale_gy=scale,
                    ),
                    "outside",
                )
            )  # fmt: skip
        if outside_cc.any():
            outside = VoxelSet.of_volumes(outside_cc)
            alike = float(outside_cc.sum() / voxels.volumes_cc[target.name].sum())  # a cc counts as one of the target
            share, weight = (HOT_BESIDE, 10.0 * alike) if modulated else (1.03, 10.0)
            terms.append(Term(target.name, SquaredOverdose(outside, share * dose, weight, scale), "outside"))
            terms.append(Term(target.name, MeanDose(outside, 0.02, scale), "outside"))
    weight = SPARING
    for name in minimise:
        outside_cc = _outside_targets(name, targets, voxels)
        if outside_cc.any():
            chosen = VoxelSet.of_volumes(outside_cc, name)
            terms.append(Term(COURSE, MeanDose(chosen, weight, scale), "spare"))
            terms.append(Term(COURSE, SquaredOverdose(chosen, 0.0, weight, scale), "spare"))
            weight = SPARING * AFTER_THE_FIRST
    return terms


def _outside_targets(name: str, targets: Sequence[PlanTarget], voxels: PlanningVoxels) -> NDArray[np.float64]:
    """Return the volume of a structure outside all targets in each voxel: inside, the prescription decides."""
    volumes = voxels.volumes_cc.get(name)
    if volumes is None:
        return np.zeros(len(voxels))
    inside = np.sum([voxels.volumes_cc[target.name] for target in targets], axis=0)
    return np.asarray(np.maximum(volumes - inside, 0.0))


def full_part(target: str) -> str:
    """Return the name of the part of a target that its plan treats with the whole prescription."""
    return f"{target} beside the junction"


def graded_part(target: str) -> str:
    """Return the name of a target weighted by the level of its prescription."""
    return f"{target} by level"


def _level(target: str, voxels: PlanningVoxels, chosen: VoxelSet) -> float | NDArray[np.float64]:
    """Return the part of the prescription that each voxel of a target is to get: 1 but in a feathered junction."""
    graded = voxels.volumes_cc.get(graded_part(target))
    if graded is None:
        return 1.0
    return np.asarray(graded[chosen.index] / voxels.volumes_cc[target][chosen.index])


def tighten(goals: Sequence[Goal], problem: Problem, voxels: PlanningVoxels, seen_gy: Sequence[Dose]) -> bool:
    """Raise the penalty of every goal whose rule does not hold; say whether any was raised."""
    raised = False
    for goal in goals:
        value = goal.value(problem, voxels, seen_gy)
        met = goal.seen_rule.met(value, -1e-3 * abs(goal.rule.limit))
        hardened = not met and goal.harden()
        raised = raised or hardened
        if not hardened and (not met or goal.press):
            goal.push(value)
    return raised
