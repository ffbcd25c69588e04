"""Arcs: tips at control points that move linearly in between, as segments of the directions that the optimiser sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.raster import Raster
from cantlie.plan.segments import Segments, aperture_of, make_legal

Array = NDArray[np.float64]

SAMPLES = 2
"""Apertures that stand for a moving interval: a tip's way of up to 13 mm as two openings of 5 mm columns."""
TRAVEL_RESERVE = 0.95
"""Share of the leaves' reach that is used: tips are rounded outwards to tenths of a millimetre afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Arc:
    """A dynamic beam: control points along a gantry rotation, intervals of monitor units between them.

    Parameters
    ----------
    geometries
        Of the control points; gantry angles run on past 0 and 360 degrees.
    raster
        The leaf pairs and columns that all directions of the arc share (``used`` and the geometry are the first's).
    per_field
        Intervals that share one direction of the optimiser.
    mu
        Monitor units of each interval per fraction, shape (intervals,).
    lower_mm, upper_mm
        Tips at the control points, shapes (intervals + 1, leaves).
    is_open
        Pairs that are not under the jaws, shape (intervals + 1, leaves): a run of neighbours at each control point.
    from_mm, to_mm
        Where the optimiser's beamlets lie at each control point and pair, shapes (intervals + 1, leaves): beyond,
        nothing tells it what dose an opening gives, so that tips are drawn back (`beyond_beamlets`).
    """

    geometries: tuple[BeamGeometry, ...]
    raster: Raster
    per_field: int
    mu: Array
    lower_mm: Array
    upper_mm: Array
    is_open: NDArray[np.bool_]
    from_mm: Array
    to_mm: Array

    @property
    def fields(self) -> int:
        """Number of directions that the optimiser sees."""
        return len(self.mu) // self.per_field

    @property
    def turns_deg(self) -> Array:
        """How far the gantry turns in each interval, shape (intervals,)."""
        return np.abs(np.diff([geometry.gantry_deg for geometry in self.geometries]))

    def with_values(self, mu: Array, lower_mm: Array, upper_mm: Array) -> Arc:
        """Return the arc with other monitor units and tips."""
        return replace(self, mu=mu, lower_mm=lower_mm, upper_mm=upper_mm)

    def segments(self) -> list[Segments]:
        """Return for each direction the segments that stand for the movement in its intervals."""
        share = _shares()[None, :, None]
        lower = (1 - share) * self.lower_mm[:-1, None] + share * self.lower_mm[1:, None]
        upper = (1 - share) * self.upper_mm[:-1, None] + share * self.upper_mm[1:, None]
        # a jaw that moves across a pair leaves it open for half of the interval
        is_open = np.where(share < 0.5, self.is_open[:-1, None], self.is_open[1:, None])
        mu = np.repeat(self.mu / SAMPLES, SAMPLES)
        count, leaves = self.per_field * SAMPLES, self.lower_mm.shape[1]
        rows = [values.reshape(self.fields, count, leaves) for values in (lower, upper, is_open)]
        return [Segments(mu[n * count : (n + 1) * count], *(part[n] for part in rows)) for n in range(self.fields)]

    def gradients(self, of_segments: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
        """Return derivatives with respect to intervals and control points from those of the `segments`."""
        leaves = self.lower_mm.shape[1]
        d_mu = np.concatenate([one[0] for one in of_segments]).reshape(-1, SAMPLES).sum(axis=1) / SAMPLES
        share = _shares()[None, :, None]
        moved = []
        for bank in (1, 2):
            d = np.concatenate([one[bank] for one in of_segments]).reshape(-1, SAMPLES, leaves)
            total = np.zeros_like(self.lower_mm)
            total[:-1] += ((1 - share) * d).sum(axis=1)
            total[1:] += (share * d).sum(axis=1)
            moved.append(total)
        return d_mu, moved[0], moved[1]


def _shares() -> Array:
    return (np.arange(SAMPLES) + 0.5) / SAMPLES


def make_deliverable(arc: Arc, machine: Machine) -> None:
    """Move tips, in place, to positions that the machine can form and reach in time.

    At each control point the leaf rules are mended by opening (`make_legal`), for pairs under the jaws too. Then each
    tip's way along the arc is replaced by the mean of the largest way below and the smallest way above it that keep the
    leaf speed (inf- and sup-convolution with the cone of reachable positions). Both keep the order of any two ways and
    shift with them, so that no gap narrows below its least, no spread widens beyond its most, and travel limits hold:
    one pass is enough.
    """
    everything = Segments(np.empty(0), arc.lower_mm, arc.upper_mm, np.ones_like(arc.is_open))
    make_legal(everything, machine)
    reach = TRAVEL_RESERVE * leaf_travel_mm_deg(machine) * arc.turns_deg
    _within_reach(arc.lower_mm, reach)
    _within_reach(arc.upper_mm, reach)


def leaf_travel_mm_deg(machine: Machine) -> float:
    """Return how far tips may move for each degree of the gantry at its full speed, jaws that follow them included."""
    mlc = machine.mlc
    assert mlc is not None
    jaws = machine.jaw_x if mlc.axis == "X" else machine.jaw_y
    return min(mlc.leaf_speed_mm_s, jaws.speed_mm_s) / machine.gantry_speed_deg_s


@njit(cache=True)
def _within_reach(tips, reach):  # type: ignore[no-untyped-def]
    points, leaves = tips.shape
    low = np.empty(points)
    high = np.empty(points)
    for leaf in range(leaves):
        for n in range(points):
            low[n] = tips[n, leaf]
            high[n] = tips[n, leaf]
        for n in range(1, points):
            low[n] = min(low[n], low[n - 1] + reach[n - 1])
            high[n] = max(high[n], high[n - 1] - reach[n - 1])
        for n in range(points - 2, -1, -1):
            low[n] = min(low[n], low[n + 1] + reach[n])
            high[n] = max(high[n], high[n + 1] - reach[n])
        for n in range(points):
            tips[n, leaf] = 0.5 * (low[n] + high[n])


def beyond_beamlets(arc: Arc) -> tuple[float, Array, Array]:
    """Return the sum of squares of how far tips stand beyond the beamlets, and its derivatives for both banks."""
    lower = np.minimum(arc.lower_mm - arc.from_mm, 0.0)
    upper = np.maximum(arc.upper_mm - arc.to_mm, 0.0)
    return float(np.sum(lower**2) + np.sum(upper**2)), 2 * lower, 2 * upper


def mu_bounds(arc: Arc, machine: Machine) -> tuple[Array, Array]:
    """Return least and most monitor units of each interval, shapes (intervals,)."""
    return machine.min_mu_per_deg * arc.turns_deg, machine.max_mu_per_deg * arc.turns_deg


def aperture_at(arc: Arc, n: int, machine: Machine) -> Aperture:
    """Return the aperture at a control point; pairs that are not open stand under the jaws where they are.

    Pairs beyond those of the raster stand in line with the outermost ones of the raster.
    """
    point = slice(n, n + 1)
    tips = (np.zeros(1), arc.lower_mm[point], arc.upper_mm[point])
    leaves = aperture_of(Segments(*tips, np.ones_like(arc.is_open[point])), 0, arc.raster, machine)
    jaws = aperture_of(Segments(*tips, arc.is_open[point]), 0, arc.raster, machine)
    return replace(leaves, jaw_x_mm=jaws.jaw_x_mm, jaw_y_mm=jaws.jaw_y_mm)


def on_common_leaves(rasters: Sequence[Raster]) -> tuple[Raster, ...]:
    """Return rasters of one collimator angle over the leaf pairs and columns of them all; ``used`` stays each's own."""
    width = rasters[0].width_mm
    along = _covering([raster.along_mm for raster in rasters], width)
    across = _covering([raster.across_mm for raster in rasters], width)
    leaf_of: dict[int, int] = {}
    for raster in rasters:
        rows = np.round(raster.across_mm / width - 0.5).astype(int)
        leaf_of.update(zip(rows.tolist(), (raster.first_leaf + raster.leaf_rows).tolist(), strict=True))
    leaves = np.array([leaf_of[round(row / width - 0.5)] for row in across.tolist()])
    result = []
    for raster in rasters:
        used = np.zeros((len(across), len(along)), dtype=bool)
        row = round((raster.across_mm[0] - across[0]) / width)
        column = round((raster.along_mm[0] - along[0]) / width)
        used[row : row + raster.shape[0], column : column + raster.shape[1]] = raster.used
        result.append(
            replace(
                raster, along_mm=along, across_mm=across, used=used, first_leaf=int(leaves[0]),
                leaf_rows=leaves - leaves[0],
            )
        )  # fmt: skip
    return tuple(result)


def _covering(centres: Sequence[Array], width: float) -> Array:
    first = min(round(one[0] / width - 0.5) for one in centres)
    last = max(round(one[-1] / width - 0.5) for one in centres)
    return np.asarray((np.arange(first, last + 1) + 0.5) * width, dtype=np.float64)
