"""Direct aperture refinement of arcs: tips and monitor units of all control points follow the gradient of the dose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cantlie.core.progress import Progress, silent
from cantlie.machine.machine import Machine
from cantlie.plan.apertures import openings_of
from cantlie.plan.arcs import Arc, beyond_beamlets, make_deliverable, mu_bounds
from cantlie.plan.fields import FieldSet
from cantlie.plan.goals import tighten
from cantlie.plan.segments import opening_gradient
from cantlie.plan.solver import minimise
from cantlie.plan.technique import Task

Vector = NDArray[np.float64]
BEYOND_WEIGHT = 0.01
"""Weight of the mean square of how far, in mm, tips stand beyond the beamlets, beside the objectives at the start."""
PlanArcs = list[list[Arc]]
"""The arcs of every plan."""


def arc_doses(task: Task, arcs: PlanArcs) -> list[Vector]:
    """Return the optimiser's dose of every plan's arcs in its voxels."""
    return [
        plan.dose_gy(openings_of(plan, [one for arc in own for one in arc.segments()], task.machine))
        for plan, own in zip(task.plans, arcs, strict=True)
    ]


def refine_arcs(
    task: Task,
    arcs: PlanArcs,
    *,
    iterations: int,
    rounds: int = 1,
    harden: bool = True,
    stage: str = "apertures",
    tolerance: float = 1e-4,
    progress: Progress = silent,
) -> PlanArcs:
    """Return arcs with tips and monitor units that lower the objectives.

    The rules of leaves and their speed hold at every step (`make_deliverable`), those of monitor units per degree too.

    Parameters
    ----------
    arcs
        The arcs to start from; they are not changed.
    iterations
        Steps altogether, shared out to the rounds.
    harden
        Whether the penalties of unmet goals rise after every round.
    tolerance
        A round ends when ten steps together lower the objectives by less than this share.
    """
    machine = task.machine
    share = max(iterations // rounds, 1)
    current = arcs
    for number in range(rounds):
        layout = _Layout(current)
        lower, upper, scaling = layout.bounds_and_scaling(machine)
        start = number * share

        at_start, _ = task.problem.evaluate(arc_doses(task, current))
        pull = BEYOND_WEIGHT * min(at_start, 1.0) / layout.vector.size

        def function(x: Vector, layout: _Layout = layout, pull: float = pull) -> tuple[float, Vector]:
            moved = layout.arcs(x)
            value, dose_gradients = task.problem.evaluate(arc_doses(task, moved))
            parts: list[Vector] = []
            for plan, own, gradient in zip(task.plans, moved, dose_gradients, strict=True):
                parts += _plan_gradient(plan, own, gradient, machine)
            result = np.concatenate(parts)
            for own, of_arcs in zip(moved, layout.arcs(result), strict=True):
                for arc, d in zip(own, of_arcs, strict=True):
                    beyond, d_lower, d_upper = beyond_beamlets(arc)
                    value += pull * beyond
                    d.lower_mm[...] += pull * d_lower
                    d.upper_mm[...] += pull * d_upper
            return value, result

        def project(x: Vector, layout: _Layout = layout, low: Vector = lower, high: Vector = upper) -> Vector:
            y = np.clip(x, low, high)
            for own in layout.arcs(y):
                for arc in own:
                    make_deliverable(arc, machine)
            return y

        def watch(step: int, value: float, start: int = start) -> None:
            task.log.add(stage, value)
            progress(min((start + step) / iterations, 1.0), f"{stage}, objective {value:.4g}")

        result = minimise(
            function, layout.vector, lower=lower, upper=upper, project=project, inverse_curvature=scaling,
            iterations=share, tolerance=tolerance, watch=watch,
        )  # fmt: skip
        current = layout.arcs(result.x)
        if harden:
            tighten(task.goals, task.problem, task.voxels, task.problem.seen(arc_doses(task, current)))
    return current


def _plan_gradient(plan: FieldSet, arcs: Sequence[Arc], dose_gradient: Vector, machine: Machine) -> list[Vector]:
    mlc = machine.mlc
    assert mlc is not None
    of_openings = plan.opening_gradients(dose_gradient)
    parts: list[Vector] = []
    first = 0
    for arc in arcs:
        last = first + arc.fields
        of_segments = [
            opening_gradient(one, raster, mlc, np.asarray(g, dtype=np.float64))
            for one, raster, g in zip(arc.segments(), plan.rasters[first:last], of_openings[first:last], strict=True)
        ]
        d_mu, d_lower, d_upper = arc.gradients(of_segments)
        parts += [d_mu, d_lower.ravel(), d_upper.ravel()]
        first = last
    return parts


class _Layout:
    """Where monitor units and tips of every arc stand in one vector."""

    def __init__(self, arcs: PlanArcs) -> None:
        self.like = arcs
        self.vector: Vector = np.concatenate(
            [part for own in arcs for arc in own for part in (arc.mu, arc.lower_mm.ravel(), arc.upper_mm.ravel())]
        )

    def arcs(self, x: Vector) -> PlanArcs:
        """Return arcs that look at a vector (views, not copies)."""
        result: PlanArcs = []
        start = 0
        for own in self.like:
            seen = []
            for arc in own:
                tips = arc.lower_mm.size
                ends = np.cumsum([start, len(arc.mu), tips, tips])
                mu, lower, upper = (x[a:b] for a, b in pairwise(ends))
                shape = arc.lower_mm.shape
                seen.append(arc.with_values(mu, lower.reshape(shape), upper.reshape(shape)))
                start = int(ends[-1])
            result.append(seen)
        return result

    def bounds_and_scaling(self, machine: Machine) -> tuple[Vector, Vector, Vector]:
        """Return bounds, and how far each variable should move for a unit of gradient as a first guess."""
        lower = np.full(self.vector.size, -np.inf)
        upper = np.full(self.vector.size, np.inf)
        scaling = np.ones(self.vector.size)
        views = (self.arcs(lower), self.arcs(upper), self.arcs(scaling))
        for own, lows, highs, scales in zip(self.like, *views, strict=True):
            for arc, low, high, scale in zip(own, lows, highs, scales, strict=True):
                low.mu[:], high.mu[:] = mu_bounds(arc, machine)
                opened = (arc.is_open * (arc.upper_mm - arc.lower_mm) / arc.raster.width_mm).sum(axis=1)
                scale.mu[:] = 1.0 / np.maximum(0.5 * (opened[:-1] + opened[1:]), 1.0)
        return lower, upper, scaling
