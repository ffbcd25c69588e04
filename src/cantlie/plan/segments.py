"""Segments of a step-and-shoot field: tips over a raster, their fluence and its derivatives, their apertures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.machine.aperture import Aperture
from cantlie.machine.machine import Machine
from cantlie.machine.mlc import Mlc
from cantlie.plan.raster import Raster

Array = NDArray[np.float64]

JAW_BEHIND_TIP_MM = 2.0
"""How far the jaws along the leaves stay behind the furthest retracted tip."""


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The segments of one field, over the leaf pairs of its raster.

    Parameters
    ----------
    mu
        Monitor units per fraction, shape (segments,).
    lower_mm, upper_mm
        Tips, shapes (segments, leaves).
    is_open
        Pairs that are open, shape (segments, leaves).
    """

    mu: Array
    lower_mm: Array
    upper_mm: Array
    is_open: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.mu)

    def kept(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Segments:
        """Return a part of the segments, or the segments in another order."""
        return Segments(self.mu[which], self.lower_mm[which], self.upper_mm[which], self.is_open[which])

    def with_mu(self, mu: Array) -> Segments:
        """Return the same shapes with other monitor units."""
        return replace(self, mu=mu)


def opening(segments: Segments, raster: Raster, mlc: Mlc) -> Array:
    """Return the monitor units that reach each column of each leaf pair, shape (leaves, columns).

    Inside the jaws, closed leaves let their transmission through; rounded tips open by their offset.
    """
    result = np.zeros((raster.leaves, raster.shape[1]))
    _add_opening(
        result, segments.mu, segments.lower_mm, segments.upper_mm, segments.is_open, raster.left_mm, raster.width_mm,
        mlc.tip_offset_mm, mlc.transmission,
    )  # fmt: skip
    return result


def opening_gradient(segments: Segments, raster: Raster, mlc: Mlc, gradient: Array) -> tuple[Array, Array, Array]:
    """Return derivatives with respect to monitor units, lower tips and upper tips.

    Parameters
    ----------
    gradient
        Derivative with respect to the result of `opening`, shape (leaves, columns).

    Returns
    -------
    mu, lower, upper
        Shapes (segments,), (segments, leaves) and (segments, leaves); zero for closed pairs.
    """
    d_mu = np.zeros_like(segments.mu)
    d_lower = np.zeros_like(segments.lower_mm)
    d_upper = np.zeros_like(segments.upper_mm)
    _opening_gradient(
        np.asarray(gradient, dtype=np.float64), segments.mu, segments.lower_mm, segments.upper_mm, segments.is_open,
        raster.left_mm, raster.width_mm, mlc.tip_offset_mm, mlc.transmission, d_mu, d_lower, d_upper,
    )  # fmt: skip
    return d_mu, d_lower, d_upper


@njit(cache=True)
def _jaw_range(lower, upper, is_open):  # type: ignore[no-untyped-def]
    low, high = 1e9, -1e9
    first, last = -1, -1
    for leaf in range(len(lower)):
        if is_open[leaf]:
            low = min(low, lower[leaf])
            high = max(high, upper[leaf])
            if first < 0:
                first = leaf
            last = leaf
    return low - JAW_BEHIND_TIP_MM, high + JAW_BEHIND_TIP_MM, first, last


@njit(cache=True)
def _share(low, high, column, left, width):  # type: ignore[no-untyped-def]
    edge = left + column * width
    return max(0.0, min(high, edge + width) - max(low, edge)) / width


@njit(cache=True)
def _add_opening(result, mu, lower, upper, is_open, left, width, tip, transmission):  # type: ignore[no-untyped-def]
    columns = result.shape[1]
    for n in range(len(mu)):
        jaw_low, jaw_high, first, last = _jaw_range(lower[n], upper[n], is_open[n])
        if first < 0:
            continue
        start = max(int(np.floor((jaw_low - left) / width)), 0)
        stop = min(int(np.ceil((jaw_high - left) / width)), columns)
        for leaf in range(first, last + 1):
            for column in range(start, stop):
                passed = transmission * _share(jaw_low, jaw_high, column, left, width)
                if is_open[n, leaf]:
                    passed += (1.0 - transmission) * _share(
                        lower[n, leaf] - tip, upper[n, leaf] + tip, column, left, width
                    )
                result[leaf, column] += mu[n] * passed


@njit(cache=True)
def _opening_gradient(gradient, mu, lower, upper, is_open, left, width, tip, transmission, d_mu, d_lower, d_upper):  # type: ignore[no-untyped-def]
    columns = gradient.shape[1]
    for n in range(len(mu)):
        jaw_low, jaw_high, first, last = _jaw_range(lower[n], upper[n], is_open[n])
        if first < 0:
            continue
        start = max(int(np.floor((jaw_low - left) / width)), 0)
        stop = min(int(np.ceil((jaw_high - left) / width)), columns)
        for leaf in range(first, last + 1):
            for column in range(start, stop):
                passed = transmission * _share(jaw_low, jaw_high, column, left, width)
                if is_open[n, leaf]:
                    passed += (1.0 - transmission) * _share(
                        lower[n, leaf] - tip, upper[n, leaf] + tip, column, left, width
                    )
                d_mu[n] += gradient[leaf, column] * passed
            if is_open[n, leaf]:
                factor = mu[n] * (1.0 - transmission) / width
                column = int(np.floor((lower[n, leaf] - tip - left) / width))
                if 0 <= column < columns:
                    d_lower[n, leaf] = -factor * gradient[leaf, column]
                column = int(np.ceil((upper[n, leaf] + tip - left) / width)) - 1
                if 0 <= column < columns:
                    d_upper[n, leaf] = factor * gradient[leaf, column]


def make_legal(segments: Segments, machine: Machine) -> None:
    """Move tips, in place, to the nearest larger opening that the machine can form.

    Only limits of travel move a tip inwards; gaps between opposed and adjacent leaves and the spread of a bank are
    mended by opening, which never breaks another rule, so that one pass is enough.
    """
    mlc = machine.mlc
    assert mlc is not None
    adjacent = -1.0 if mlc.min_adjacent_gap_mm is None else mlc.min_adjacent_gap_mm
    _make_legal(
        segments.lower_mm, segments.upper_mm, segments.is_open, mlc.retraction_mm, mlc.over_travel_mm, mlc.min_gap_mm,
        adjacent, mlc.max_spread_mm,
    )  # fmt: skip


@njit(cache=True)
def _make_legal(lower, upper, is_open, retraction, over_travel, gap, adjacent, spread):  # type: ignore[no-untyped-def]
    for n in range(lower.shape[0]):
        lowest, highest = 1e9, -1e9
        for leaf in range(lower.shape[1]):
            if not is_open[n, leaf]:
                continue
            lower[n, leaf] = min(max(lower[n, leaf], -retraction), over_travel)
            upper[n, leaf] = max(min(upper[n, leaf], retraction), -over_travel)
            for other in (leaf, leaf - 1):
                if other < 0 or not is_open[n, other]:
                    continue
                least = gap if other == leaf else adjacent
                if least < 0:
                    continue
                for a, b in ((leaf, other), (other, leaf)):
                    lack = least - (upper[n, b] - lower[n, a])
                    if lack > 0:
                        lower[n, a] -= 0.5 * lack
                        upper[n, b] += 0.5 * lack
                        if lower[n, a] < -retraction:
                            upper[n, b] += -retraction - lower[n, a]
                            lower[n, a] = -retraction
                        if upper[n, b] > retraction:
                            lower[n, a] -= upper[n, b] - retraction
                            upper[n, b] = retraction
        for leaf in range(lower.shape[1]):
            if is_open[n, leaf]:
                lowest = min(lowest, lower[n, leaf])
        # wider than that, pairs of a bank of limited spread could not close any more
        for leaf in range(lower.shape[1]):
            if is_open[n, leaf]:
                upper[n, leaf] = min(upper[n, leaf], lowest + 2 * spread - max(gap, 1.0))
                highest = max(highest, upper[n, leaf])
        for leaf in range(lower.shape[1]):
            if is_open[n, leaf]:
                lower[n, leaf] = min(lower[n, leaf], lowest + spread)
                upper[n, leaf] = max(upper[n, leaf], highest - spread)


def aperture_of(segments: Segments, n: int, raster: Raster, machine: Machine, resolution_mm: float = 0.1) -> Aperture:
    """Return the aperture of one segment: all leaf pairs of the machine, and jaws that follow the opening.

    Pairs beyond the first and the last open one stand under the jaws, as narrow as the machine allows, in line with
    the open pair next to them. Closed pairs inside the aperture (only of leaves that interdigitate and close) stand
    behind the jaw. Tips are given in whole tenths of a millimetre.
    """
    mlc = machine.mlc
    assert mlc is not None
    pairs = np.flatnonzero(segments.is_open[n])
    first, last = int(pairs[0]), int(pairs[-1])
    # rounding outwards never narrows a gap
    lower = np.floor(segments.lower_mm[n] / resolution_mm + 1e-6) * resolution_mm
    upper = np.ceil(segments.upper_mm[n] / resolution_mm - 1e-6) * resolution_mm
    low, high = float(lower[pairs].min()), float(upper[pairs].max())
    along = machine.jaw_x if mlc.axis == "X" else machine.jaw_y
    across = machine.jaw_y if mlc.axis == "X" else machine.jaw_x
    jaw_along = (
        max(min(low - JAW_BEHIND_TIP_MM, along.over_travel_mm), -along.retraction_mm),
        min(max(high + JAW_BEHIND_TIP_MM, -along.over_travel_mm), along.retraction_mm),
    )
    start, stop = raster.first_leaf + first, raster.first_leaf + last
    edges = mlc.leaf_boundaries_mm
    jaw_across = (
        max(min(float(edges[start]), across.over_travel_mm), -across.retraction_mm),
        min(max(float(edges[stop + 1]), -across.over_travel_mm), across.retraction_mm),
    )
    jaw_along = _symmetric(jaw_along) if not along.independent else jaw_along
    jaw_across = _symmetric(jaw_across) if not across.independent else jaw_across
    gap = mlc.min_gap_mm
    spread = mlc.max_spread_mm
    all_lower = np.empty(mlc.pairs)
    all_upper = np.empty(mlc.pairs)
    most_extended = min(mlc.over_travel_mm, low + spread)
    least_upper = max(-mlc.over_travel_mm, high - spread)
    most_lower = float(lower[pairs].max())
    for neighbour, outside in ((first, slice(0, start)), (last, slice(stop + 1, mlc.pairs))):
        middle = 0.5 * (lower[neighbour] + upper[neighbour]) - 0.5 * gap
        tip = float(np.clip(middle, least_upper - gap, most_extended))
        all_lower[outside], all_upper[outside] = tip, tip + gap
    for leaf in range(first, last + 1):
        place = raster.first_leaf + leaf
        if segments.is_open[n, leaf]:
            all_lower[place], all_upper[place] = lower[leaf], upper[leaf]
        else:
            behind = max(jaw_along[0] - gap - 5.0, -mlc.retraction_mm, most_lower - spread)
            tip = behind if behind + gap >= least_upper else float(np.clip(low - gap, least_upper - gap, most_extended))
            all_lower[place], all_upper[place] = tip, tip + gap
    if mlc.axis == "X":
        return Aperture(jaw_along, jaw_across, all_lower, all_upper)
    return Aperture(jaw_across, jaw_along, all_lower, all_upper)


def _symmetric(opening_mm: tuple[float, float]) -> tuple[float, float]:
    half = max(abs(opening_mm[0]), abs(opening_mm[1]))
    return -half, half
