"""From the fluence of an arc's directions to its control points: leaf shapes in an order of little travel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.arcs import Arc, leaf_travel_mm_deg, make_deliverable, mu_bounds
from cantlie.plan.raster import Raster
from cantlie.plan.segments import Segments
from cantlie.plan.sequencing import sequence

Array = NDArray[np.float64]

MOST_GROUP_DEG = 24.0
"""Directions further apart see too different targets to share their shapes (Bzdusek et al. 2009, doi:10.1118/1.3132234,
and Otto 2008, doi:10.1118/1.2818738, start from directions about as far apart)."""


def sequence_arc(
    openings: Sequence[NDArray[np.floating]],
    rasters: Sequence[Raster],
    geometries: tuple[BeamGeometry, ...],
    per_field: int,
    machine: Machine,
) -> Arc:
    """Return an arc whose control points deliver about the fluence of its directions.

    Directions are taken together in groups, wide enough for the leaves to cross the target within one. The fluence of
    a group is divided into as many shapes as it has control points, which stand in the order of their middle: from
    left to right in one group, back in the next. The refinement does the rest.

    Parameters
    ----------
    openings
        Monitor units under the leaves of each direction, shapes (leaves, columns), all of one shape.
    rasters
        The beamlets of each direction, on common leaves.
    geometries
        Of the control points, ``per_field`` intervals for each direction.
    """
    fields = len(openings)
    intervals = fields * per_field
    span_deg = abs(geometries[-1].gantry_deg - geometries[0].gantry_deg)
    together = _fields_together(rasters, span_deg / fields, machine)
    group_of = np.minimum(np.arange(intervals + 1) // per_field, fields - 1) // together
    leaves = rasters[0].leaves
    lower, upper = np.zeros((intervals + 1, leaves)), np.zeros((intervals + 1, leaves))
    is_open = np.zeros((intervals + 1, leaves), dtype=bool)
    point_mu = np.zeros(intervals + 1)
    done = np.zeros(intervals + 1, dtype=bool)
    for group in range(int(group_of[-1]) + 1):
        places = np.flatnonzero(group_of == group)
        fluence = np.sum(openings[group * together : (group + 1) * together], axis=0)
        found = sequence(fluence, rasters[group * together], machine, max_segments=len(places))
        if len(found) == 0:
            continue
        found = _in_order(_split_to(found, len(places)), backwards=group % 2 == 1)
        tips = _closed_in_line(found, machine)
        lower[places], upper[places], is_open[places] = tips[0], tips[1], _runs(found.is_open)
        point_mu[places] = found.mu
        done[places] = True
    if not done.any():
        lower[:], upper[:], is_open[:] = -10.0, 10.0, rasters[0].leaf_used().any(axis=1)
    else:  # where nothing is worth delivering, the leaves wait where they are needed next
        nearest = np.array(
            [np.flatnonzero(done)[np.argmin(np.abs(np.flatnonzero(done) - n))] for n in range(len(done))]
        )
        lower, upper, is_open = lower[nearest], upper[nearest], is_open[nearest]
    inner = np.full(intervals + 1, 0.5)
    inner[0] = inner[-1] = 1.0
    halves = inner * point_mu
    bounds = _beamlet_ranges(rasters, per_field)
    arc = Arc(geometries, rasters[0], per_field, halves[:-1] + halves[1:], lower, upper, is_open, *bounds)
    least, most = mu_bounds(arc, machine)
    np.clip(arc.mu, least, most, out=arc.mu)
    make_deliverable(arc, machine)
    return arc


def _fields_together(rasters: Sequence[Raster], field_deg: float, machine: Machine) -> int:
    widths = [np.ptp(raster.along_mm[raster.used.any(axis=0)]) + raster.width_mm for raster in rasters]
    needed_deg = 0.5 * float(np.mean(widths)) / leaf_travel_mm_deg(machine)
    return max(1, round(min(needed_deg, MOST_GROUP_DEG) / field_deg))


def _beamlet_ranges(rasters: Sequence[Raster], per_field: int) -> tuple[Array, Array]:
    """Return between which positions beamlets lie at each control point and pair, in either direction beside it.

    Pairs without any have the range of the nearest pair that has some.
    """
    first, last = [], []
    for raster in rasters:
        used = raster.leaf_used()
        rows = np.flatnonzero(used.any(axis=1))
        nearest = rows[np.argmin(np.abs(rows[None, :] - np.arange(raster.leaves)[:, None]), axis=1)]
        used = used[nearest]
        first.append(raster.left_mm + raster.width_mm * used.argmax(axis=1))
        last.append(raster.left_mm + raster.width_mm * (used.shape[1] - used[:, ::-1].argmax(axis=1)))
    point = np.arange(len(rasters) * per_field + 1)
    before = np.clip((point - 1) // per_field, 0, len(rasters) - 1)
    after = np.clip(point // per_field, 0, len(rasters) - 1)
    low, high = np.array(first), np.array(last)
    return np.minimum(low[before], low[after]), np.maximum(high[before], high[after])


def _split_to(segments: Segments, count: int) -> Segments:
    """Return as many segments as asked for: those of most monitor units are delivered in several parts."""
    parts = np.ones(len(segments), dtype=np.int64)
    while parts.sum() < count:
        parts[np.argmax(segments.mu / parts)] += 1
    repeated = segments.kept(np.repeat(np.arange(len(segments)), parts))
    return repeated.with_mu(repeated.mu / np.repeat(parts, parts))


def _in_order(segments: Segments, *, backwards: bool) -> Segments:
    middle = np.array(
        [
            float((low + high)[opened].mean())
            for low, high, opened in zip(segments.lower_mm, segments.upper_mm, segments.is_open, strict=True)
        ]
    )
    order = np.argsort(-middle if backwards else middle, kind="stable")
    return segments.kept(order)


def _runs(is_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return masks from the first to the last open pair."""
    forward = np.maximum.accumulate(is_open, axis=1)
    backward = np.maximum.accumulate(is_open[:, ::-1], axis=1)[:, ::-1]
    return forward & backward


def _closed_in_line(segments: Segments, machine: Machine) -> tuple[Array, Array]:
    """Return tips in which closed pairs stand, as narrow as they may, in the middle of the nearest open pair."""
    mlc = machine.mlc
    assert mlc is not None
    lower, upper = segments.lower_mm.copy(), segments.upper_mm.copy()
    for n in range(len(segments)):
        opened = np.flatnonzero(segments.is_open[n])
        for leaf in np.flatnonzero(~segments.is_open[n]):
            nearest = opened[np.argmin(np.abs(opened - leaf))]
            middle = 0.5 * (lower[n, nearest] + upper[n, nearest])
            lower[n, leaf], upper[n, leaf] = middle - 0.5 * mlc.min_gap_mm, middle + 0.5 * mlc.min_gap_mm
    return lower, upper
