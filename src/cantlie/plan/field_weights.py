"""Weights of fields with fixed shapes: each stays near an equal share of the target's dose, sub-fields stay small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.apertures import FieldSegments
from cantlie.plan.fields import FieldSet
from cantlie.plan.goals import tighten
from cantlie.plan.segments import Segments, opening
from cantlie.plan.solver import minimise
from cantlie.plan.technique import Task

Array = NDArray[np.float64]

LEAST_SHARE, MOST_SHARE = 0.5, 1.6
"""Monitor units of an open field, of those that give the target an equal share of its mean dose."""
MOST_OF_SUBFIELD = 0.3
"""Monitor units of a sub-field, of the same measure for its open field."""


def weighted(
    task: Task, shapes: FieldSegments, iterations: int, *, harden: bool = False, rounds: int = 1
) -> FieldSegments:
    """Return the shapes with the monitor units that serve the objectives best, within the shares of this module.

    The first segment of each field is its open one, the others are sub-fields.

    Parameters
    ----------
    iterations
        Steps of each round; after a round the penalties of unmet goals rise where ``harden`` says so.
    """
    matrices = [_doses_per_mu(task, plan, fields) for plan, fields in zip(task.plans, shapes, strict=True)]
    bounds = [_bounds(task, number, shapes[number], matrix) for number, matrix in enumerate(matrices)]
    lower, upper = (np.concatenate([pair[n] for pair in bounds]) for n in (0, 1))
    ends = np.cumsum([0] + [len(matrix) for matrix in matrices])
    x = np.clip(np.concatenate([one.mu for fields in shapes for one in fields]), lower, upper)

    def doses(mu: Array) -> list[Array]:
        return [mu[a:b] @ matrix for a, b, matrix in zip(ends[:-1], ends[1:], matrices, strict=True)]

    def function(mu: Array) -> tuple[float, Array]:
        value, gradients = task.problem.evaluate(doses(mu))
        parts = [matrix @ gradient for matrix, gradient in zip(matrices, gradients, strict=True)]
        return value, np.concatenate(parts)

    for _ in range(rounds):
        result = minimise(
            function, x, lower=lower, upper=upper, iterations=iterations,
            inverse_curvature=np.square(np.maximum(upper, 1e-6)), tolerance=1e-5,
            watch=lambda _, value: task.log.add("weights", value),
        )  # fmt: skip
        x = np.clip(result.x, lower, upper)
        if harden:
            tighten(task.goals, task.problem, task.voxels, task.problem.seen(doses(x)))
    found: FieldSegments = []
    start = 0
    for fields in shapes:
        own: list[Segments] = []
        for one in fields:
            own.append(one.with_mu(x[start : start + len(one)].copy()))
            start += len(one)
        found.append(own)
    return found


def _doses_per_mu(task: Task, plan: FieldSet, fields: list[Segments]) -> Array:
    """Return the dose of the whole plan in each voxel for a monitor unit of each segment, shape (segments, voxels)."""
    mlc = task.machine.mlc
    assert mlc is not None
    closed = [np.zeros((raster.leaves, raster.shape[1])) for raster in plan.rasters]
    rows = []
    for number, (one, raster) in enumerate(zip(fields, plan.rasters, strict=True)):
        for n in range(len(one)):
            single = one.kept(np.array([n])).with_mu(np.ones(1))
            rows.append(plan.dose_gy([*closed[:number], opening(single, raster, mlc), *closed[number + 1 :]]))
    return np.stack(rows)


def _bounds(task: Task, number: int, fields: list[Segments], matrix: Array) -> tuple[Array, Array]:
    target = task.request.targets[number]
    volumes = task.voxels.volumes_cc[target.name]
    mean_per_mu = matrix @ volumes / volumes.sum()
    equal_gy = target.prescription_gy / max(sum(len(one) > 0 for one in fields), 1)
    least = task.machine.min_segment_mu
    lower, upper = [], []
    start = 0
    for one in fields:
        share = equal_gy / max(float(mean_per_mu[start]), 1e-9) if len(one) else 0.0
        for n in range(len(one)):
            lower.append(max(LEAST_SHARE * share, least) if n == 0 else least)
            upper.append(max(MOST_SHARE * share if n == 0 else MOST_OF_SUBFIELD * share, least))
        start += len(one)
    return np.asarray(lower), np.asarray(upper)
