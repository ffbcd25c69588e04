"""Fluence optimisation: openings of all fields of all plans together, with penalties that tighten until rules hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cantlie.core.progress import Progress, silent
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence_objectives import Smoothness
from cantlie.plan.goals import Goal, tighten
from cantlie.plan.problem import Problem
from cantlie.plan.solver import minimise
from cantlie.plan.voxels import PlanningVoxels

Vector = NDArray[np.float64]
Openings = list[list[NDArray[np.float64]]]


@dataclass(slots=True)
class Log:
    """What an optimisation went through: stage, value and time of every step."""

    stages: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, stage: str, value: float) -> None:
        """Note one step."""
        self.stages.append(stage)
        self.values.append(value)
        self.seconds.append(time.perf_counter() - self.started)


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


def optimise_fluence(
    plans: Sequence[FieldSet],
    problem: Problem,
    goals: Sequence[Goal],
    voxels: PlanningVoxels,
    prescriptions_gy: Sequence[float],
    *,
    iterations: int,
    start: Openings | None = None,
    smoothness: float = 0.002,
    log: Log | None = None,
    progress: Progress = silent,
) -> Openings:
    """Return the fluence of all fields that serves the problem best.

    Parameters
    ----------
    plans
        The fields of each plan.
    problem
        Objectives on the doses; it holds the objectives of ``goals`` too, whose penalties are raised here.
    prescriptions_gy
        Prescribed dose of each plan's target.
    iterations
        Steps altogether; a third of them before penalties are first looked at.
    start
        Fluence to start from (a warm start); by default the open fields that give each target its mean dose.
    smoothness
        Weight of the mean squared difference of neighbours, relative to the mean fluence.
    """
    log = log if log is not None else Log()
    layout = _Layout.of(plans)
    x = layout.vector(start) if start is not None else _open_fields(layout, problem, voxels, prescriptions_gy)
    scale = max(float(x.mean()), 1e-9)
    smooth = Smoothness(*layout.neighbours(), smoothness, scale)

    def function(z: Vector) -> tuple[float, Vector]:
        openings = layout.openings(scale * z)
        doses = [plan.dose_gy(fields) for plan, fields in zip(plans, openings, strict=True)]
        value, dose_gradients = problem.evaluate(doses)
        gradient = layout.vector([plan.opening_gradients(g) for plan, g in zip(plans, dose_gradients, strict=True)])
        value += smooth.add_gradient(scale * z, gradient)
        return value, scale * gradient

    done = 0

    def watch(step: int, value: float) -> None:
        log.add("fluence", value)
        progress(min((done + step) / iterations, 1.0), f"fluence, objective {value:.4g}")

    share = max(iterations // 3, 10)
    z = x / scale
    while done < iterations:
        result = minimise(function, z, iterations=min(share, iterations - done), tolerance=2e-4, watch=watch)
        z = result.x
        done += max(len(result.values) - 1, 5)
        share = max(iterations // 6, 10)
        openings = layout.openings(scale * z)
        seen = problem.seen([plan.dose_gy(fields) for plan, fields in zip(plans, openings, strict=True)])
        raised = tighten(goals, problem, voxels, seen)
        if not raised and result.converged:
            break
    return layout.openings(scale * z)


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
