"""Minimisation on a large influence matrix through the few voxels that pay.

Most voxels of a patient lie below every limit: they neither pay nor pull. An optimiser that multiplies only the rows of
voxels that pay, or soon may, does the same steps for a fraction of the work (an active-set strategy). After some steps
all voxels are looked at, and those that came near a limit join. Mean doses need no voxel at all: they are products with
the mean of every column. What comes out is a minimum of the whole problem, not of a sample of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.matrix import SparseInfluence
from cantlie.plan.objectives import (
    MeanDeviation,
    MeanDose,
    Objective,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
    VoxelSet,
)
from cantlie.plan.products import dot
from cantlie.plan.solver import Minimum, minimise

Vector = NDArray[np.float64]
Local = SquaredDeviation | SquaredOverdose | SquaredUnderdose
Mean = MeanDeviation | MeanDose

NEAR = 0.9
"""Voxels join from this share of a limit on."""
MEMORY = 20
"""Steps that the quasi-Newton method remembers."""


def minimise_on_matrix(
    matrix: SparseInfluence,
    objectives: Sequence[Local | Mean],
    start: Vector,
    *,
    rounds: int = 6,
    iterations: int = 90,
    tolerance: float = 2e-4,
    watch: Callable[[int, float], None] | None = None,
) -> Minimum:
    """Minimise the sum of objectives over fluences that are not negative.

    Parameters
    ----------
    matrix
        Dose in Gy of each beamlet in each voxel.
    objectives
        Objectives on the dose of the matrix's voxels.
    start
        Fluence to start from, shape (beamlets,).
    rounds, iterations
        How often all voxels are looked at, and the most steps between.
    tolerance
        The minimisation ends when a round lowers the value of the whole problem by less than this share.
    watch
        Called after every round with its number and the value of the whole problem; it may raise to cancel.

    Returns
    -------
    Minimum
        Its values are those of the whole problem after each round.
    """
    means = [one for one in objectives if isinstance(one, Mean)]
    local = [one for one in objectives if not isinstance(one, Mean)]
    voxels = matrix.shape[0]
    columns = [_mean_columns(matrix, one) for one in means]
    working = np.zeros(voxels, dtype=bool)
    x = np.maximum(np.asarray(start, dtype=np.float64), 0.0)
    values: list[float] = []
    evaluations = 0
    scaling: Vector | None = None
    converged = False
    for number in range(rounds + 1):
        dose = matrix.forward(x.astype(np.float32)).astype(np.float64)
        evaluations += 1
        values.append(whole_value(objectives, dose))
        if watch is not None:
            watch(number, values[-1])
        converged = number > 1 and values[-2] - values[-1] <= tolerance * abs(values[-1])
        if converged or number == rounds:
            break
        for one in local:
            working[one.voxels.index[_may_pay(one, dose[one.voxels.index])]] = True
        rows = np.flatnonzero(working)
        part = matrix.rows(rows)
        seen = [one for one in (_on_rows(one, rows, voxels) for one in local) if one is not None]
        if scaling is None:
            scaling = _inverse_curvature(part, seen)
        found = minimise(
            _function(part, seen, means, columns), x, inverse_curvature=scaling,
            iterations=iterations, tolerance=1e-6, memory=MEMORY,
        )  # fmt: skip
        evaluations += found.evaluations
        x = found.x
    return Minimum(x, values[-1], tuple(values), evaluations, converged)


def whole_value(objectives: Sequence[Objective], dose_gy: Vector) -> float:
    """Return the sum of all objectives in a dose."""
    gradient = np.zeros_like(dose_gy)
    return sum(one.add_gradient(dose_gy, gradient) for one in objectives)


def _may_pay(objective: Local, dose: Vector) -> NDArray[np.bool_]:
    """Say which voxels of an objective pay or lie near its limit."""
    if isinstance(objective, SquaredOverdose):
        return np.asarray(dose > NEAR * objective.limit_gy)
    if isinstance(objective, SquaredUnderdose):
        return np.asarray(dose < objective.limit_gy / NEAR)
    return np.ones(len(dose), dtype=bool)


def _on_rows(objective: Local, rows: NDArray[np.int64], voxels: int) -> Local | None:
    """Return an objective on some voxels, each of which weighs as before; None if none is left."""
    place = np.full(voxels, -1)
    place[rows] = np.arange(len(rows))
    kept = place[objective.voxels.index] >= 0
    if not kept.any():
        return None
    chosen = VoxelSet(place[objective.voxels.index[kept]], objective.voxels.weight[kept])
    if isinstance(objective, SquaredDeviation):
        level = objective.dose_gy
        return replace(objective, voxels=chosen, dose_gy=level[kept] if isinstance(level, np.ndarray) else level)
    limit = objective.limit_gy
    return replace(objective, voxels=chosen, limit_gy=limit[kept] if isinstance(limit, np.ndarray) else limit)


def _mean_columns(matrix: SparseInfluence, objective: Mean) -> Vector:
    """Return the mean dose in the objective's voxels that each beamlet gives."""
    weight = np.zeros(matrix.shape[0], dtype=np.float32)
    weight[objective.voxels.index] = objective.voxels.weight
    return matrix.adjoint(weight).astype(np.float64)


def _inverse_curvature(matrix: SparseInfluence, objectives: Sequence[Local]) -> Vector:
    weight = np.zeros(matrix.shape[0])
    for one in objectives:
        weight[one.voxels.index] += 2 * one.weight * one.voxels.weight / one.scale_gy**2
    curvature = matrix.squared_columns(weight)
    return np.asarray(1.0 / (curvature + 0.02 * max(float(curvature.max()), 1e-30)))


def _function(
    matrix: SparseInfluence, objectives: Sequence[Local], means: Sequence[Mean], columns: Sequence[Vector]
) -> Callable[[Vector], tuple[float, Vector]]:
    one_voxel = VoxelSet(np.zeros(1, dtype=np.int64), np.ones(1))
    alone = [replace(mean, voxels=one_voxel) for mean in means]

    def function(x: Vector) -> tuple[float, Vector]:
        dose = matrix.forward(x.astype(np.float32)).astype(np.float64)
        gradient = np.zeros(len(dose))
        value = sum(one.add_gradient(dose, gradient) for one in objectives)
        result = matrix.adjoint(gradient.astype(np.float32)).astype(np.float64)
        for mean, column in zip(alone, columns, strict=True):
            slope = np.zeros(1)
            value += mean.add_gradient(np.array([dot(column, x)]), slope)
            result += slope[0] * column
        return value, result

    return function
