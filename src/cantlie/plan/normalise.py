"""Normalisation: factors that bring finished plans to the protocol's rules, and monitor units that machines can set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.plan.goals import Rule, metric_value
from cantlie.plan.problem import COURSE, Problem
from cantlie.plan.voxels import PlanningVoxels
from cantlie.protocol.metric import Metric

Dose = NDArray[np.float64]


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
    *,
    reach: float = 0.03,
    steps: int = 13,
) -> tuple[float, ...]:
    """Return the factors of all plans with which the fewest rules are broken, and by the least.

    Tries factors within ``1 ± reach`` for each plan in turn until nothing gets better. Rules count by how far they are
    broken relative to their limit, a broken rule of the first priority more than others; among factors that keep all
    rules, those nearest to 1 win.

    Parameters
    ----------
    doses_gy
        Final dose of each plan in the voxels.
    """
    factors = [1.0] * len(doses_gy)
    structures = {rule.structure: voxels.volumes_cc[rule.structure] for rule in rules if voxels.holds(rule.structure)}
    considered = [rule for rule in rules if rule.structure in structures]

    def badness(trial: Sequence[float]) -> float:
        scaled = [factor * dose for factor, dose in zip(trial, doses_gy, strict=True)]
        by_scope = {name: scaled[n] for n, name in enumerate(problem.names)}
        by_scope[COURSE] = problem.scoped(COURSE, scaled)
        total = 0.0
        for rule in considered:
            volumes = structures[rule.structure]
            inside = volumes > 0
            value = metric_value(rule.metric, by_scope[rule.scope][inside], volumes[inside], rule.prescription_gy)
            excess = rule.excess(value) / max(abs(rule.limit), 1e-9)
            if excess > 0 or not rule.met(value):
                total += (1.0 + 100 * max(excess, 0.0)) / rule.priority
        return total + 0.01 * float(np.sum(np.abs(np.log(trial))))

    best = badness(factors)
    if best < 1e-9:
        return tuple(factors)
    for _ in range(3):
        before = best
        for plan in range(len(factors)):
            for factor in np.linspace(1 - reach, 1 + reach, steps):
                trial = [*factors[:plan], float(factor), *factors[plan + 1 :]]
                worth = badness(trial)
                if worth < best - 1e-12:
                    best, factors = worth, trial
        if best >= before - 1e-12:
            break
    return tuple(factors)


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
