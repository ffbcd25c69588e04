"""Robust planning: clinical targets keep their dose where they are displaced, in the mean or in the worst case.

The dose stays where the room has it, so a displaced target is the same objective on other voxels of the same dose: no
influence is calculated again. Limits of organs hold for the plan as it is; how they fare displaced is judged later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.evaluation.scenarios import Shift, setup_scenarios
from cantlie.plan.objectives import Array, Objective, SquaredOverdose, SquaredUnderdose, VoxelSet
from cantlie.plan.problem import Term
from cantlie.plan.request import PlanningRequest
from cantlie.plan.voxels import PlanningVoxels, coarse_fractions

WEIGHT = 300.0
"""Beside 1 for a uniform target and 10 for its underdose: coverage in scenarios comes before fall-off and sparing."""
LEAST_SHARE, MOST_SHARE = 0.97, 1.08
POWER = 8.0


@dataclass(slots=True)
class WorstOf:
    """The largest of several objectives, smoothly: their p-norm (Fredriksson 2011, Med Phys 38:1672, minimax)."""

    objectives: Sequence[Objective]
    power: float = POWER

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        """Return the value and add the gradient to an array of the shape of the dose."""
        values, slopes = self._all(dose_gy)
        total, shares = self._norm(values)
        for share, slope in zip(shares, slopes, strict=True):
            if share > 0:
                gradient += share * slope
        return total

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        """Return the Hessian times a direction, shape (voxels,)."""
        values, slopes = self._all(dose_gy)
        total, shares = self._norm(values)
        result = np.zeros(len(dose_gy))
        if total <= 0:
            return result
        along = np.array([float(slope @ direction) for slope in slopes])
        mean = float(shares @ along)
        for n, objective in enumerate(self.objectives):
            if shares[n] > 0:
                bend = (self.power - 1.0) * shares[n] * (along[n] / values[n] - mean / total)
                result += shares[n] * objective.hessian_vector(dose_gy, direction) + bend * slopes[n]
        return result

    def _all(self, dose_gy: Array) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        slopes = [np.zeros(len(dose_gy)) for _ in self.objectives]
        values = [o.add_gradient(dose_gy, slope) for o, slope in zip(self.objectives, slopes, strict=True)]
        return np.array(values), slopes

    def _norm(self, values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the p-norm and its derivative with respect to each value."""
        top = float(values.max())
        if top <= 0:
            return 0.0, np.zeros(len(values))
        scaled = values / top
        total = float((scaled**self.power).sum() ** (1.0 / self.power))
        return top * total, (scaled / total) ** (self.power - 1.0)


@dataclass(slots=True)
class MeanOf:
    """The mean of several objectives."""

    objectives: Sequence[Objective]

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        """Return the value and add the gradient to an array of the shape of the dose."""
        slope = np.zeros(len(dose_gy))
        value = sum(objective.add_gradient(dose_gy, slope) for objective in self.objectives)
        gradient += slope / len(self.objectives)
        return value / len(self.objectives)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        """Return the Hessian times a direction, shape (voxels,)."""
        parts = [objective.hessian_vector(dose_gy, direction) for objective in self.objectives]
        return np.asarray(np.mean(parts, axis=0), dtype=np.float64)


@dataclass(slots=True)
class _Both:
    """Coverage and hot spots of one scenario."""

    under: SquaredUnderdose
    over: SquaredOverdose

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        return self.under.add_gradient(dose_gy, gradient) + self.over.add_gradient(dose_gy, gradient)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        return self.under.hessian_vector(dose_gy, direction) + self.over.hessian_vector(dose_gy, direction)


def robust_terms(request: PlanningRequest, voxels: PlanningVoxels, body: str) -> list[Term]:
    """Return what the protocol's robust planning adds to the objectives; nothing for ``nominal``."""
    asked = request.protocol.robustness
    if asked.planning == "nominal":
        return []
    shifts: list[Shift] = [(0.0, 0.0, 0.0), *(s.shift_mm for s in setup_scenarios(asked.shift_mm))]
    scale = max(target.prescription_gy for target in request.targets)
    source = request.density.grid
    counts = _counts(request, voxels, body)
    terms = []
    for target in request.targets:
        clinical = request.protocol.target(target.name).ctv_id
        name = clinical if clinical in request.regions and request.regions[clinical].any() else target.name
        mask = request.regions[name]
        objectives: list[Objective] = []
        for shift in shifts:
            displaced = coarse_fractions(mask, _displaced(source, shift), voxels.grid).ravel()[voxels.index] * counts
            if not displaced.any():
                continue
            chosen = VoxelSet.of_volumes(displaced, name)
            dose = target.prescription_gy
            objectives.append(
                _Both(
                    SquaredUnderdose(chosen, LEAST_SHARE * dose, WEIGHT, scale),
                    SquaredOverdose(chosen, MOST_SHARE * dose, 0.1 * WEIGHT, scale),
                )
            )
        if objectives:
            one: Objective = WorstOf(objectives) if asked.planning == "minimax" else MeanOf(objectives)
            terms.append(Term(target.name, one, "robust"))
    return terms


def _displaced(grid: Grid, shift_mm: Shift) -> Grid:
    x, y, z = (float(o + s) for o, s in zip(grid.origin_mm, shift_mm, strict=True))
    return replace(grid, origin_mm=(x, y, z))


def _counts(request: PlanningRequest, voxels: PlanningVoxels, body: str) -> NDArray[np.float64]:
    """Return the volume in cm³ that each kept voxel stands for, thinned-out neighbours included."""
    share: NDArray[np.float32] = np.zeros(len(voxels), dtype=np.float32)
    if body in request.regions:
        share = coarse_fractions(request.regions[body], request.density.grid, voxels.grid).ravel()[voxels.index]
    volume = np.asarray(voxels.volumes_cc[body], dtype=np.float64)
    return np.where(share > 0.05, volume / np.maximum(share, 0.05), voxels.grid.voxel_cc)
