"""Apertures of the beam's eye view: the shadow of a target with a margin, fitted by leaves, and the best collimator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.raster import Raster
from cantlie.plan.segments import Segments, make_legal
from cantlie.plan.shapes import leaf_rules

Array = NDArray[np.float64]

Margin = tuple[float, float]
"""Distance in mm around the shadow at the isocentre plane: across the patient, and along the patient (couch at 0)."""

COLLIMATOR_STEP_DEG = 10.0
_ROWS_PER_LEAF = 5
_LEAST_ROWS = 2


def shadow_mm(geometry: BeamGeometry, points_mm: Array, pixel_mm: float = 1.0) -> Array:
    """Return where a region lies in the beam's eye view, in the beam-limiting-device frame, shape (n, 2).

    Parameters
    ----------
    points_mm
        Points (x, y, z) that fill the region, shape (m, 3); those that fall into one pixel are taken once.
    """
    x, y, _ = geometry.project(points_mm)
    pixels = np.unique(np.round(np.stack([x, y], axis=1) / pixel_mm).astype(np.int64), axis=0)
    return pixel_mm * pixels.astype(np.float64)


def reach_mm(shadow: Array, across_mm: Array, margin_mm: Margin, collimator_deg: float, axis: str) -> Array:
    """Return how far a shadow with its margin reaches along the leaves on lines across them, shape (rows, 2).

    The margin is an ellipse whose axes lie across and along the patient, whatever the collimator; a line that misses
    the shadow gets (inf, -inf).

    Parameters
    ----------
    shadow
        Points of the shadow in the beam-limiting-device frame, shape (n, 2).
    across_mm
        Position of each line, shape (rows,).
    axis
        The direction in which the leaves move, ``X`` or ``Y``.
    """
    along, across = (shadow[:, 0], shadow[:, 1]) if axis == "X" else (shadow[:, 1], shadow[:, 0])
    turn = np.radians(collimator_deg)
    # gantry-frame axes (across, along the patient) in the beam-limiting-device frame
    unit = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scaled = unit / np.maximum(np.asarray(margin_mm), 1e-3)[:, None]
    form = scaled.T @ scaled
    a, b, c = (form[0, 0], form[0, 1], form[1, 1]) if axis == "X" else (form[1, 1], form[0, 1], form[0, 0])
    result = np.empty((len(across_mm), 2))
    for row, place in enumerate(across_mm):
        away = place - across
        inside = (b * away) ** 2 - a * (c * away**2 - 1.0)
        hit = inside >= 0
        if not hit.any():
            result[row] = np.inf, -np.inf
            continue
        centre, half = along[hit] - b * away[hit] / a, np.sqrt(inside[hit]) / a
        result[row] = (centre - half).min(), (centre + half).max()
    return result


def fitted(raster: Raster, machine: Machine, points_mm: Array, margin_mm: Margin) -> Segments:
    """Return one segment of one monitor unit whose leaves follow the target's shadow with a margin.

    Each tip stands at the mean reach of the margin over the leaf's width, so that as much is cut off as is opened
    beyond (Yu et al. 1995, doi:10.1016/0360-3016(95)00139-6, the leaf set-up of equal areas). Pairs between parts of a
    shadow close where the machine can close them, and otherwise bridge the gap.

    Raises
    ------
    PlanningError
        If no leaf sees the target.
    """
    mlc = machine.mlc
    assert mlc is not None
    edges = mlc.leaf_boundaries_mm[raster.first_leaf : raster.first_leaf + raster.leaves + 1]
    share = (np.arange(_ROWS_PER_LEAF) + 0.5) / _ROWS_PER_LEAF
    rows = (edges[:-1, None] + share * np.diff(edges)[:, None]).ravel()
    geometry = raster.geometry
    reach = reach_mm(shadow_mm(geometry, points_mm), rows, margin_mm, geometry.collimator_deg, raster.axis)
    reach = reach.reshape(raster.leaves, _ROWS_PER_LEAF, 2)
    hit = np.isfinite(reach[..., 0])
    is_open = hit.sum(axis=1) >= _LEAST_ROWS
    if not is_open.any():
        is_open = hit.any(axis=1)
    if not is_open.any():
        raise PlanningError("no leaf sees the target", where=f"gantry {geometry.gantry_deg:g} degrees")
    seen = np.where(hit[..., None], reach, 0.0).sum(axis=1) / np.maximum(hit.sum(axis=1), 1)[:, None]
    return one_segment(raster, machine, seen[:, 0], seen[:, 1], is_open)


def one_segment(raster: Raster, machine: Machine, lower: Array, upper: Array, is_open: NDArray[np.bool_]) -> Segments:
    """Return one legal segment of one monitor unit from tips, shapes (leaves,).

    Pairs that are closed between open ones stay closed where the machine allows it; else they bridge the gap.
    """
    rules = leaf_rules(machine, raster)
    opened = is_open.copy()
    pairs = np.flatnonzero(opened)
    if not rules.closable and pairs.size:
        opened[pairs[0] : pairs[-1] + 1] = True
    every = np.arange(len(opened))
    low = np.where(opened, np.interp(every, pairs, lower[pairs]), 0.0)
    high = np.where(opened, np.interp(every, pairs, upper[pairs]), 0.0)
    # jaws across the leaves cannot close beyond their travel: the aperture begins and ends where they reach
    starts, ends = np.flatnonzero(rules.can_start), np.flatnonzero(rules.can_end)
    first = min(int(pairs[0]), int(starts[-1])) if starts.size else int(pairs[0])
    last = max(int(pairs[-1]), int(ends[0])) if ends.size else int(pairs[-1])
    for leaf in (*range(first, int(pairs[0])), *range(int(pairs[-1]) + 1, last + 1)):
        nearest = pairs[0] if leaf < pairs[0] else pairs[-1]
        low[leaf], high[leaf], opened[leaf] = lower[nearest], upper[nearest], True
    segment = Segments(np.ones(1), low[None, :].copy(), high[None, :].copy(), opened[None, :].copy())
    make_legal(segment, machine)
    return segment


def best_collimator_deg(
    geometry: BeamGeometry, machine: Machine, points_mm: Array, margin_mm: Margin = (7.0, 7.0)
) -> float:
    """Return the collimator angle, from 0 to below 180 degrees, at which leaves follow the target's shadow best.

    The least area between the leaves and the margin counts, what they cut off as much as what they open beyond. Of
    angles that are equally good within 2 %, the one nearest to 0 is taken.
    """
    mlc = machine.mlc
    assert mlc is not None
    angles = np.arange(0.0, 180.0, COLLIMATOR_STEP_DEG)
    missed = np.array([_mismatch_mm2(replace(geometry, collimator_deg=float(a)), machine, points_mm, margin_mm)
                       for a in angles])  # fmt: skip
    if not np.isfinite(missed).any():
        return geometry.collimator_deg
    good = np.flatnonzero(missed <= 1.02 * missed.min())
    return float(angles[min(good, key=lambda n: min(angles[n], 180.0 - angles[n]))])


def _mismatch_mm2(geometry: BeamGeometry, machine: Machine, points_mm: Array, margin_mm: Margin) -> float:
    """Return the area between fitted leaves and the margin; infinite where leaves do not reach the shadow."""
    mlc = machine.mlc
    assert mlc is not None
    shadow = shadow_mm(geometry, points_mm, 4.0)
    edges = mlc.leaf_boundaries_mm
    across = shadow[:, 1] if mlc.axis == "X" else shadow[:, 0]
    if across.min() < edges[0] or across.max() > edges[-1]:
        return float("inf")
    near = (edges[1:] > across.min() - max(margin_mm)) & (edges[:-1] < across.max() + max(margin_mm))
    share = (np.arange(_ROWS_PER_LEAF) + 0.5) / _ROWS_PER_LEAF
    widths = np.diff(edges)[near]
    rows = edges[:-1][near][:, None] + share * widths[:, None]
    reach = reach_mm(shadow, rows.ravel(), margin_mm, geometry.collimator_deg, mlc.axis).reshape(*rows.shape, 2)
    hit = np.isfinite(reach[..., 0])
    is_open = hit.sum(axis=1) >= _LEAST_ROWS
    seen = np.where(hit[..., None], reach, 0.0)
    tips = seen.sum(axis=1) / np.maximum(hit.sum(axis=1), 1)[:, None]
    off = np.where(hit, np.abs(seen - tips[:, None]).sum(axis=2), (tips[:, 1] - tips[:, 0])[:, None])
    lost = np.where(hit, seen[..., 1] - seen[..., 0], 0.0)
    return float((np.where(is_open[:, None], off, lost).sum(axis=1) * widths / _ROWS_PER_LEAF).sum())
