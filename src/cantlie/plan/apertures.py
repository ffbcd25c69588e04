"""Direct aperture refinement: tips and monitor units of all segments follow the gradient of the dose objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.progress import Progress, silent
from cantlie.machine.machine import Machine
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence import Log
from cantlie.plan.goals import Goal, tighten
from cantlie.plan.normalise import rounded_mu
from cantlie.plan.problem import Problem
from cantlie.plan.segments import Segments, make_legal, opening, opening_gradient
from cantlie.plan.solver import minimise
from cantlie.plan.voxels import PlanningVoxels

Vector = NDArray[np.float64]
FieldSegments = list[list[Segments]]
"""The segments of every field of every plan."""
TIP_STEP = 0.3
"""How far tips move beside monitor units: of 0.03 to 100 tried on a C-shape and beside a bowel, 0.1 to 1 end lowest."""
LEAST_SHARE_OF_MU = 0.1
"""Share of the mean monitor units up to which a tip's step grows as the monitor units behind it get fewer."""


def tip_steps(mu: Vector, width_mm: float) -> Vector:
    """Return a first guess of the inverse curvature of tips with so many monitor units, shape of ``mu``.

    A millimetre of a tip changes one column by the share 1 / width of the segment's monitor units, so that curvature
    rises with their square, where that of monitor units rises with the columns that they open.
    """
    least = max(LEAST_SHARE_OF_MU * float(mu.mean()), 1e-9) if mu.size else 1.0
    return np.asarray(TIP_STEP * (width_mm / np.maximum(mu, least)) ** 2)


def openings_of(plan: FieldSet, fields: Sequence[Segments], machine: Machine) -> list[NDArray[np.float64]]:
    """Return what each field's segments open together."""
    mlc = machine.mlc
    assert mlc is not None
    return [opening(segments, raster, mlc) for segments, raster in zip(fields, plan.rasters, strict=True)]


def doses_of(plans: Sequence[FieldSet], segments: FieldSegments, machine: Machine) -> list[NDArray[np.float64]]:
    """Return the optimiser's dose of every plan's segments in its voxels."""
    return [plan.dose_gy(openings_of(plan, fields, machine)) for plan, fields in zip(plans, segments, strict=True)]


def with_settable_mu(
    segments: FieldSegments, machine: Machine, factors: Sequence[float] | None = None
) -> FieldSegments:
    """Return segments, each plan's times its factor, whose monitor units are whole steps of the machine."""

    def rounded(one: Segments, factor: float) -> Segments:
        return one.with_mu(rounded_mu(factor * one.mu, machine.mu_resolution, machine.min_segment_mu))

    factors = factors or [1.0] * len(segments)
    return [[rounded(one, factor) for one in fields] for fields, factor in zip(segments, factors, strict=True)]


def refine(
    plans: Sequence[FieldSet],
    segments: FieldSegments,
    problem: Problem,
    goals: Sequence[Goal],
    voxels: PlanningVoxels,
    machine: Machine,
    *,
    iterations: int,
    rounds: int = 3,
    prune: bool = True,
    harden: bool = True,
    stage: str = "apertures",
    log: Log | None = None,
    progress: Progress = silent,
) -> FieldSegments:
    """Move tips and monitor units of all segments so that the objectives fall.

    The leaf rules are kept at every step by `make_legal`.

    Parameters
    ----------
    segments
        The segments to start from; they are not changed.
    iterations
        Steps altogether, shared out to the rounds; between rounds the penalties of unmet goals rise.
    prune
        Whether segments may fall below the machine's least monitor units in the first round and are then given up;
        otherwise all are held above it.
    harden
        Whether the penalties of unmet goals rise after every round.
    """
    mlc = machine.mlc
    assert mlc is not None
    log = log if log is not None else Log()
    current = segments
    share = max(iterations // rounds, 1)
    for number in range(rounds):
        layout = _Layout(current)
        least = 0.0 if number == 0 and prune else machine.min_segment_mu
        lower, scaling = layout.bounds_and_scaling(least, plans)
        start = number * share

        def function(x: Vector, layout: _Layout = layout) -> tuple[float, Vector]:
            fields = layout.segments(x)
            doses = doses_of(plans, fields, machine)
            value, dose_gradients = problem.evaluate(doses)
            parts: list[Vector] = []
            for plan, plan_fields, gradient in zip(plans, fields, dose_gradients, strict=True):
                for one, raster, g in zip(plan_fields, plan.rasters, plan.opening_gradients(gradient), strict=True):
                    d_mu, d_lower, d_upper = opening_gradient(one, raster, mlc, np.asarray(g, dtype=np.float64))
                    parts += [d_mu, d_lower.ravel(), d_upper.ravel()]
            return value, np.concatenate(parts)

        def project(x: Vector, layout: _Layout = layout, lower: Vector = lower) -> Vector:
            y = np.maximum(x, lower)
            for fields in layout.segments(y):
                for one in fields:
                    make_legal(one, machine)
            return y

        def watch(step: int, value: float, start: int = start) -> None:
            log.add(stage, value)
            progress(min((start + step) / iterations, 1.0), f"{stage}, objective {value:.4g}")

        result = minimise(
            function, layout.vector, lower=lower, project=project, inverse_curvature=scaling, iterations=share,
            tolerance=1e-4, watch=watch,
        )  # fmt: skip
        current = layout.segments(result.x)
        if number == 0 and prune:
            current = [[one.kept(one.mu >= 0.5 * machine.min_segment_mu) for one in fields] for fields in current]
        if harden:
            tighten(goals, problem, voxels, problem.seen(doses_of(plans, current, machine)))
    for fields in current:
        for one in fields:
            np.maximum(one.mu, machine.min_segment_mu, out=one.mu)
    return current


class _Layout:
    """Where monitor units and tips of every segment stand in one vector."""

    def __init__(self, segments: FieldSegments) -> None:
        self.like = segments
        parts = [
            part
            for fields in segments
            for one in fields
            for part in (one.mu, one.lower_mm.ravel(), one.upper_mm.ravel())
        ]
        self.vector: Vector = np.concatenate(parts) if parts else np.zeros(0)

    def segments(self, x: Vector) -> FieldSegments:
        """Return segments that look at a vector (views, not copies)."""
        result: FieldSegments = []
        start = 0
        for fields in self.like:
            seen = []
            for one in fields:
                shape = one.lower_mm.shape
                sizes = (len(one), one.lower_mm.size, one.upper_mm.size)
                mu, lower, upper = (x[start + sum(sizes[:n]) : start + sum(sizes[: n + 1])] for n in range(3))
                start += sum(sizes)
                seen.append(Segments(mu, lower.reshape(shape), upper.reshape(shape), one.is_open))
            result.append(seen)
        return result

    def bounds_and_scaling(self, least_mu: float, plans: Sequence[FieldSet]) -> tuple[Vector, Vector]:
        """Return lower bounds and a first guess of how far each variable should move for a unit of gradient."""
        lower = np.full(self.vector.size, -np.inf)
        scaling = np.ones(self.vector.size)
        bounds, scales = self.segments(lower), self.segments(scaling)
        for plan, fields, field_bounds, field_scales in zip(plans, self.like, bounds, scales, strict=True):
            for raster, one, bound, scale in zip(plan.rasters, fields, field_bounds, field_scales, strict=True):
                bound.mu[:] = least_mu
                columns = (one.is_open * (one.upper_mm - one.lower_mm) / raster.width_mm).sum(axis=1)
                scale.mu[:] = 1.0 / np.maximum(columns, 1.0)
                scale.lower_mm[:] = tip_steps(one.mu, raster.width_mm)[:, None]
                scale.upper_mm[:] = scale.lower_mm
        return lower, scaling
