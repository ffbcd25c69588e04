"""Normalisation: factors that bring finished plans to the protocol's rules, and monitor units that machines can set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.plan.goals import TARGET_PRIORITY, Rule, metric_value
from cantlie.plan.problem import Problem
from cantlie.plan.request import GoalOutcome
from cantlie.plan.voxels import PlanningVoxels
from cantlie.protocol.metric import Metric

Dose = NDArray[np.float64]

REACH = 0.03
LEAST_FACTOR = 0.7
RESERVE = 5e-4
"""Share of a limit that scaling leaves, for monitor units come in whole steps."""


def factor_for_dose(metric: Metric, wanted_gy: float, dose_gy: Dose, volume_cc: NDArray[np.float64]) -> float:
    """Return the factor that brings a dose metric (Dmean, Dmax, D95%, D2cc ...) to a dose.

    Dose metrics scale with the dose, so the factor is exact.

    Raises
    ------
    PlanningError
        If the metric is a volume, or there is no dose.
    """
    if not metric.is_dose:
        raise PlanningError(f"{metric} is a volume; a plan is scaled to a dose")
    value = metric_value(metric, dose_gy, volume_cc, 1.0)
    if value <= 0:
        raise PlanningError("the plan gives no dose to its target")
    return wanted_gy / value


def factor_for_coverage(
    isodose_gy: float, volume_percent: float, dose_gy: Dose, volume_cc: NDArray[np.float64]
) -> float:
    """Return the factor at which an isodose just covers a share of a volume.

    That is the factor which brings the dose at that volume (D95% for 95 %) to the isodose.
    """
    return factor_for_dose(Metric("dose_at_volume", volume_percent, "%", "Gy"), isodose_gy, dose_gy, volume_cc)


def best_factors(
    rules: Sequence[Rule],
    problem: Problem,
    voxels: PlanningVoxels,
    doses_gy: Sequence[Dose],
    delivered: Sequence[float] = (),
) -> tuple[float, ...]:
    """Return the factors of all plans with which the rules are kept best (`best_scaling`)."""
    return best_scaling(rules, problem, voxels, doses_gy, delivered)[0]


def best_scaling(
    rules: Sequence[Rule],
    problem: Problem,
    voxels: PlanningVoxels,
    doses_gy: Sequence[Dose],
    delivered: Sequence[float] = (),
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the factors of all plans with which the rules are kept best, and by how much they are then broken.

    Factors within 1 ± 3 % are tried for each plan in turn, and for all plans together down to 0.7 where a limit that
    comes before what targets need is broken. What is broken by rules of a priority is compared before rules of the next
    one (`violations`). Among factors that are alike in this, those win that bring doses at a volume (the prescribed
    isodose that covers 95 % or 90 %) nearest to their prescription, then those nearest to 1.

    Parameters
    ----------
    doses_gy
        Final dose of each plan in the voxels.
    delivered
        Metric of every rule in the final dose on the CT grid; by how much it differs in the voxels is kept in mind.

    Returns
    -------
    factors
        One for each plan.
    broken
        By how much the rules of each priority are then expected to be broken (`violations`).
    """
    structures = {rule.structure: voxels.volumes_cc[rule.structure] for rule in rules if voxels.holds(rule.structure)}
    considered = [n for n, rule in enumerate(rules) if rule.structure in structures]
    kept = [rules[n] for n in considered]

    def metrics(trial: Sequence[float]) -> list[float]:
        seen = problem.seen([factor * dose for factor, dose in zip(trial, doses_gy, strict=True)])
        by_scope = {rule.scope: problem.scoped(rule.scope, seen) for rule in kept}
        values = []
        for rule in kept:
            volumes = structures[rule.structure]
            inside = volumes > 0
            dose = by_scope[rule.scope][inside]
            values.append(metric_value(rule.metric, dose, volumes[inside], rule.prescription_gy))
        return values

    ones = [1.0] * len(doses_gy)
    in_voxels = metrics(ones)
    known = [delivered[n] for n in considered] if len(delivered) else in_voxels

    def on_the_ct(values: Sequence[float]) -> list[float]:
        """Return metrics as on the CT grid: doses in proportion, as they scale, and volumes with their difference."""
        return [
            now * at_first / own if rule.metric.is_dose and own > 0 else now + at_first - own
            for rule, now, own, at_first in zip(kept, values, in_voxels, known, strict=True)
        ]

    def badness(trial: Sequence[float]) -> tuple[float, ...]:
        values = on_the_ct(metrics(trial))
        broken = violations(kept, values, RESERVE)
        off: dict[tuple[str, str], float] = {}  # from the middle between the lower and the upper limit
        for rule, value in zip(kept, values, strict=True):
            if rule.kind == "normalisation" and rule.metric.kind == "dose_at_volume":
                beyond = rule.excess(value) if rule.op.startswith("<") else -rule.excess(value)
                target = rule.scope, rule.structure
                off[target] = off.get(target, 0.0) + 0.5 * beyond / rule.prescription_gy
        isodose = sum(abs(one) for one in off.values())
        return (*broken, round(isodose, 4), float(np.sum(np.abs(np.log(trial)))))

    factors, best = ones, badness(ones)
    common = np.linspace(LEAST_FACTOR, 1.0, 61)[:-1] if any(best[: TARGET_PRIORITY - 1]) else ()
    for factor in common:
        trial = [float(factor)] * len(ones)
        worth = badness(trial)
        if worth < best:
            best, factors = worth, trial
    exact = _normalising(kept, known, problem.names)
    for reach, steps in ((REACH, 13), (0.004, 17)):
        for plan in range(len(factors)):
            middle = list(factors)
            for factor in (*(middle[plan] * np.linspace(1 - reach, 1 + reach, steps)), *exact[plan]):
                trial = [*middle[:plan], float(factor), *middle[plan + 1 :]]
                worth = badness(trial)
                if worth < best:
                    best, factors = worth, trial
    return tuple(factors), best[:TARGET_PRIORITY]


def _normalising(rules: Sequence[Rule], values: Sequence[float], names: Sequence[str]) -> list[list[float]]:
    """Return the factors that bring each plan to the middle of what its normalisation allows."""
    found: list[list[float]] = []
    for name in names:
        own = [rule.limit / value for rule, value in zip(rules, values, strict=True)
               if rule.kind == "normalisation" and rule.scope == name and value > 0]  # fmt: skip
        found.append([float(np.clip(np.mean(own), LEAST_FACTOR, 1.0 / LEAST_FACTOR))] if own else [])
    return found


def violations(rules: Sequence[Rule], values: Sequence[float], reserve: float = 0.0) -> tuple[float, ...]:
    """Return by how much the rules of each priority are broken, relative to their limits, the most important first.

    Such tuples compare as priorities do: whatever is broken in a later place counts only where all before is equal
    (to a ten-thousandth).

    Parameters
    ----------
    values
        Metric of every rule.
    reserve
        Share of a limit that must be left for a rule to count as kept.
    """
    total = [0.0] * TARGET_PRIORITY
    for rule, value in zip(rules, values, strict=True):
        slack = reserve * max(abs(rule.limit), 1e-9)
        excess = rule.excess(value) + slack
        if np.isfinite(value) and (excess > 0 or not rule.met(value)):
            total[rule.priority - 1] += max(excess, 1e-4 * abs(rule.limit)) / max(abs(rule.limit), 1e-9)
    return tuple(round(one, 4) for one in total)


def broken_by(rules: Sequence[Rule], outcomes: Sequence[GoalOutcome]) -> tuple[float, ...]:
    """Return by how much judged rules are broken, priority by priority (`violations`)."""
    return violations(rules, [outcome.delivered for outcome in outcomes])


def rounded_mu(mu: NDArray[np.float64], resolution: float, least: float) -> NDArray[np.float64]:
    """Return monitor units in whole steps of a machine, at least ``least``, with the sum kept within half a step.

    What rounding takes from one segment is given to the next.
    """
    result = np.empty_like(mu)
    carried = 0.0
    least_steps = np.ceil(least / resolution - 1e-9)
    for n, value in enumerate(mu):
        steps = max(np.round((value + carried) / resolution), least_steps)
        result[n] = steps * resolution
        carried += value - result[n]
    return result
