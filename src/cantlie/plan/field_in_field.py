"""Forward field-in-field: conformal fields and a few sub-fields that block hot spots or organs, by fixed rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part
from cantlie.plan.apertures import FieldSegments, doses_of
from cantlie.plan.beam_view import one_segment
from cantlie.plan.conformal import Conformal, value_of
from cantlie.plan.field_weights import weighted
from cantlie.plan.raster import Raster
from cantlie.plan.segments import Segments, opening
from cantlie.plan.technique import Task

Array = NDArray[np.float64]

MOST_SUBFIELDS = 3
"""Of each field, beside the open one."""
HOT_SHARES = (0.25, 0.5, 0.75)
"""Isodoses above which a sub-field blocks: shares of the way from the prescription to the largest dose."""
LEAST_HOT = 1.02
"""No isodose below this share of the prescription is blocked."""
BLOCK_MARGIN_MM = 3.0
"""How far around a hot spot or an organ a sub-field blocks."""
LEAST_GAIN = 0.005
"""Share by which the objective must fall for a sub-field to be kept."""


@dataclass(slots=True)
class FieldInField(Conformal):
    """Conformal fields with sub-fields (see `Technique`).

    1. Open fields as `Conformal` makes them.
    2. Candidates for each field: its open aperture without what lies in the shadow of the dose above an isodose, and
       without what lies in the shadow of each organ whose limit is not kept. Leaf pairs are closed from the side from
       which less of the opening is lost.
    3. The candidate that promises most (the derivative of the objective for its monitor units) is added with the
       machine's least monitor units, all weights are fitted again, and it is kept if the objective falls by half a
       per cent. Then again, until no candidate is kept or every field has three sub-fields.
    """

    modulates: ClassVar[bool] = False
    sharp: ClassVar[bool] = False

    def refined(self, task: Task, shapes: FieldSegments, progress: Progress) -> FieldSegments:
        """Return open fields with their sub-fields."""
        shapes = Conformal.refined(self, task, shapes, part(progress, 0.0, 0.4))
        most = min(MOST_SUBFIELDS, task.request.settings.max_segments - 1)
        refused: set[tuple[int, int, str]] = set()
        limit = most * sum(len(fields) for fields in shapes)
        value = value_of(task, shapes)
        for step in range(2 * limit):
            progress(0.4 + 0.6 * min(step / limit, 1.0), f"sub-fields, objective {value:.4g}")
            found = _most_promising(task, shapes, refused, most)
            if found is None:
                break
            plan, number, reason, segment = found
            trial = [list(fields) for fields in shapes]
            trial[plan][number] = _with(trial[plan][number], segment, task.machine.min_segment_mu)
            trial = weighted(task, trial, 30)
            after = value_of(task, trial)
            idle = trial[plan][number].mu[-1] < 1.25 * task.machine.min_segment_mu
            if after < (1.0 - LEAST_GAIN) * value and not idle:
                shapes, value = trial, after
                refused = {one for one in refused if one[:2] != (plan, number)}
            else:
                refused.add((plan, number, reason))
        return weighted(task, shapes, task.request.settings.aperture_iterations // 2, harden=True)

    def remarks(self) -> tuple[Note, ...]:
        """Return the margins that were chosen and how sub-fields were made."""
        rule = Note(
            f"sub-fields were added one by one, at most {MOST_SUBFIELDS} to a field: each blocks an isodose above the "
            f"prescription or an organ over its limit, with {BLOCK_MARGIN_MM:g} mm around it",
            "field-in-field",
            "info",
        )
        return (*Conformal.remarks(self), rule)


def _most_promising(
    task: Task, shapes: FieldSegments, refused: set[tuple[int, int, str]], most: int
) -> tuple[int, int, str, Segments] | None:
    """Return plan, field, reason and shape of the candidate with the steepest promise; None if none has any."""
    mlc = task.machine.mlc
    assert mlc is not None
    doses = doses_of(task.plans, shapes, task.machine)
    _, gradients = task.problem.evaluate(doses)
    best: tuple[int, int, str, Segments] | None = None
    steepest = 0.0
    points = task.voxels.grid.points_mm().reshape(-1, 3)[task.voxels.index]
    for plan, fields in enumerate(task.plans):
        slopes = fields.opening_gradients(gradients[plan])
        clouds = list(_to_block(task, plan, doses, points))
        for number, (raster, slope) in enumerate(zip(fields.rasters, slopes, strict=True)):
            own = shapes[plan][number]
            if len(own) == 0 or len(own) > most:
                continue
            # what a sub-field promises beyond the open field, whose weight stands at its optimum
            for reason, cloud in clouds:
                if (plan, number, reason) in refused:
                    continue
                segment = blocked(own.kept(np.array([0])), raster, task, cloud)
                if segment is None:
                    continue
                promise = -float((np.asarray(slope) * opening(segment, raster, mlc)).sum())
                if promise > steepest:
                    steepest, best = promise, (plan, number, reason, segment)
    return best


def _to_block(task: Task, plan: int, doses: list[Array], points_mm: Array) -> Iterator[tuple[str, Array]]:
    """Yield the reason and the points of what sub-fields of a plan may block."""
    target = task.request.targets[plan]
    seen = task.problem.seen(doses)
    dose = seen[plan]
    peak = float(dose.max())
    for share in HOT_SHARES:
        level = max(
            target.prescription_gy + share * (peak - target.prescription_gy), LEAST_HOT * target.prescription_gy
        )
        hot = dose > level
        if hot.any():
            yield f"isodose {share:g}", points_mm[hot]
    for goal in task.goals:
        rule = goal.rule
        name = rule.structure
        if rule.kind != "constraint" or name == target.name or rule.scope not in (target.name, "course"):
            continue
        if rule.met(goal.value(task.problem, task.voxels, doses)):
            continue
        inside = task.voxels.volumes_cc[name] > 0
        if inside.any():
            yield f"organ {name}", points_mm[inside]


def blocked(open_field: Segments, raster: Raster, task: Task, cloud_mm: Array) -> Segments | None:
    """Return an open field without the shadow of a cloud of points; None if nothing or too little is left.

    Parameters
    ----------
    open_field
        One segment.
    cloud_mm
        Points (x, y, z) to block, shape (n, 3).
    """
    mlc = task.machine.mlc
    assert mlc is not None
    x, y, _ = raster.geometry.project(cloud_mm)
    along, across = (x, y) if raster.axis == "X" else (y, x)
    edges = mlc.leaf_boundaries_mm[raster.first_leaf : raster.first_leaf + raster.leaves + 1]
    half = 0.5 * task.voxels.grid.spacing_mm[0]
    lower, upper = open_field.lower_mm[0].copy(), open_field.upper_mm[0].copy()
    is_open = open_field.is_open[0].copy()
    changed = False
    for leaf in np.flatnonzero(is_open):
        in_leaf = (across > edges[leaf] - half) & (across < edges[leaf + 1] + half)
        in_leaf &= (along > lower[leaf] - BLOCK_MARGIN_MM) & (along < upper[leaf] + BLOCK_MARGIN_MM)
        if not in_leaf.any():
            continue
        changed = True
        low, high = along[in_leaf].min() - BLOCK_MARGIN_MM, along[in_leaf].max() + BLOCK_MARGIN_MM
        # the opening left on either side of what is blocked: the larger one stays
        below, above = low - lower[leaf], upper[leaf] - high
        if max(below, above) < max(mlc.min_gap_mm, 5.0):
            is_open[leaf] = False
        elif below >= above:
            upper[leaf] = low
        else:
            lower[leaf] = high
    if not changed or not is_open.any():
        return None
    pairs = np.flatnonzero(is_open)
    runs = np.split(pairs, np.flatnonzero(np.diff(pairs) > 1) + 1)
    longest = max(runs, key=lambda run: float((upper[run] - lower[run]).sum()))
    kept = np.zeros_like(is_open)
    kept[longest] = True
    return one_segment(raster, task.machine, lower, upper, kept)


def _with(segments: Segments, added: Segments, mu: float) -> Segments:
    return Segments(
        np.append(segments.mu, mu),
        np.concatenate([segments.lower_mm, added.lower_mm]),
        np.concatenate([segments.upper_mm, added.upper_mm]),
        np.concatenate([segments.is_open, added.is_open]),
    )
