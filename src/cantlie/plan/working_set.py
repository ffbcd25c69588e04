"""Minimisation on a large influence matrix through the few voxels that pay.

Most voxels of a patient lie below every limit: they neither pay nor pull. An optimiser that multiplies only the rows of
voxels that pay, or soon may, does the same steps for a fraction of the work (an active-set strategy). After some steps
all voxels are looked at, and those that came near a limit join. Mean doses need no voxel at all: they are products with
the mean of every column. Value and gradient come from one pass over the rows. What comes out is a minimum of the whole
problem, not of a sample of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.plan.matrix import THREADS, SparseInfluence
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
MEMORY = 30
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
    columns = [_mean_columns(matrix, one) for one in means]
    working = np.zeros(matrix.shape[0], dtype=bool)
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
        if scaling is None:
            scaling = _inverse_curvature(matrix, local, rows)
        with _Pass.of(matrix, local, rows) as one_pass:
            found = minimise(
                _function(one_pass, means, columns), x, inverse_curvature=scaling, iterations=iterations,
                tolerance=1e-6, memory=MEMORY,
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


def _mean_columns(matrix: SparseInfluence, objective: Mean) -> Vector:
    """Return the mean dose in the objective's voxels that each beamlet gives."""
    weight = np.zeros(matrix.shape[0], dtype=np.float32)
    weight[objective.voxels.index] = objective.voxels.weight
    return matrix.adjoint(weight).astype(np.float64)


def _inverse_curvature(matrix: SparseInfluence, objectives: Sequence[Local], rows: NDArray[np.int64]) -> Vector:
    weight = np.zeros(matrix.shape[0])
    for one in objectives:
        weight[one.voxels.index] += 2 * one.weight * one.voxels.weight / one.scale_gy**2
    seen = np.zeros(matrix.shape[0])
    seen[rows] = weight[rows]
    curvature = matrix.squared_columns(seen)
    return np.asarray(1.0 / (curvature + 0.02 * max(float(curvature.max()), 1e-30)))


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """Squared deviations of some rows of a matrix; value and gradient are made in one pass over them.

    Parameters
    ----------
    rows
        Rows of the matrix, shape (n,).
    first
        Place of the first deviation of every row and the end, shape (n + 1,).
    side, level_gy, factor
        Of every deviation: 1 where only dose above the level counts, -1 where only dose below, 0 where both; the level;
        what its square is multiplied by.
    shares
        Ranges of rows with about as many entries each.
    """

    matrix: SparseInfluence
    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    side: NDArray[np.int8]
    level_gy: NDArray[np.float32]
    factor: NDArray[np.float64]
    shares: tuple[tuple[int, int], ...]
    pool: ThreadPoolExecutor

    @classmethod
    def of(cls, matrix: SparseInfluence, objectives: Sequence[Local], rows: NDArray[np.int64]) -> _Pass:
        """Return the pass over some rows, each with the deviations of all objectives in it."""
        place = np.full(matrix.shape[0], -1)
        place[rows] = np.arange(len(rows))
        parts: list[tuple[NDArray[np.int64], NDArray[np.int8], Vector, Vector]] = []
        for one in objectives:
            index = one.voxels.index
            kept = place[index] >= 0
            level = np.broadcast_to(one.dose_gy if isinstance(one, SquaredDeviation) else one.limit_gy, index.shape)
            parts.append(
                (place[index[kept]], np.full(int(kept.sum()), _side(one), dtype=np.int8), level[kept],
                 one.weight * one.voxels.weight[kept] / one.scale_gy**2)
            )  # fmt: skip
        of_row, side, level, factor = (np.concatenate([part[n] for part in parts]) for n in range(4))
        order = np.argsort(of_row, kind="stable")
        first = np.searchsorted(of_row[order], np.arange(len(rows) + 1))
        reached = np.concatenate([[0], np.cumsum(np.diff(matrix.start)[rows])])
        cuts = np.searchsorted(reached, np.linspace(0, reached[-1], THREADS + 1))
        cuts[0], cuts[-1] = 0, len(rows)
        return cls(
            matrix, rows, first, side[order], level[order].astype(np.float32), factor[order],
            tuple((int(a), int(b)) for a, b in pairwise(cuts)), ThreadPoolExecutor(THREADS),
        )  # fmt: skip

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Return value and gradient at a fluence."""
        fluence = x.astype(np.float32)

        def share(limits: tuple[int, int]) -> tuple[float, NDArray[np.float32]]:
            gradient = np.zeros(len(x), dtype=np.float32)
            own = slice(*limits)
            value = _value_and_gradient(
                self.matrix.start, self.matrix.index, self.matrix.value, self.rows[own],
                self.first[limits[0] : limits[1] + 1], self.side, self.level_gy, self.factor, fluence, gradient,
            )  # fmt: skip
            return value, gradient

        found = list(self.pool.map(share, self.shares))
        return sum(value for value, _ in found), np.sum([one for _, one in found], axis=0, dtype=np.float64)


def _side(objective: Local) -> int:
    if isinstance(objective, SquaredDeviation):
        return 0
    return 1 if isinstance(objective, SquaredOverdose) else -1


def _function(
    one_pass: _Pass, means: Sequence[Mean], columns: Sequence[Vector]
) -> Callable[[Vector], tuple[float, Vector]]:
    one_voxel = VoxelSet(np.zeros(1, dtype=np.int64), np.ones(1))
    alone = [replace(mean, voxels=one_voxel) for mean in means]

    def function(x: Vector) -> tuple[float, Vector]:
        value, result = one_pass(x)
        for mean, column in zip(alone, columns, strict=True):
            slope = np.zeros(1)
            value += mean.add_gradient(np.array([dot(column, x)]), slope)
            result += slope[0] * column
        return value, result

    return function


@njit(cache=True, nogil=True, fastmath=True)
def _value_and_gradient(start, index, value, rows, first, side, level, factor, fluence, gradient):  # type: ignore[no-untyped-def]
    total = 0.0
    for n in range(len(rows)):
        own = value[start[rows[n]] : start[rows[n] + 1]]
        beamlet = index[start[rows[n]] : start[rows[n] + 1]]
        dose = np.float32(0.0)
        for place in range(len(own)):
            dose += own[place] * fluence[beamlet[place]]
        slope = np.float32(0.0)
        for term in range(first[n], first[n + 1]):
            beyond = dose - level[term]
            if side[term] * beyond >= 0:
                total += factor[term] * beyond * beyond
                slope += np.float32(2.0 * factor[term] * beyond)
        if slope != 0.0:
            for place in range(len(own)):
                gradient[beamlet[place]] += slope * own[place]
    return total
