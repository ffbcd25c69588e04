"""The best single aperture for a map of prices, exact under the rules of the leaves (dynamic programming)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.machine.machine import Machine
from cantlie.plan.raster import Raster

CLOSED_GAP_MM = 1.0
"""Opposed tips that may come this close count as closed: such pairs may stay closed inside an aperture."""


@dataclass(frozen=True, slots=True)
class LeafRules:
    """The rules of a machine's leaves counted in columns and leaf rows of a raster.

    Parameters
    ----------
    min_columns
        Least opening of an open pair.
    adjacent_columns
        Least overlap of the openings of neighbouring pairs; negative where leaves interdigitate.
    closable
        Whether pairs between the first and the last open one may stay closed.
    last_lower, first_upper
        Furthest column edges that the lower tips and the upper tips reach across the axis.
    spread_columns
        Largest spread of a bank.
    can_start, can_end
        Leaf rows that an aperture may begin and end at, for the jaws across the leaves to close upon, shape (leaves,).
    """

    min_columns: int
    adjacent_columns: int
    closable: bool
    last_lower: int
    first_upper: int
    spread_columns: int
    can_start: NDArray[np.bool_]
    can_end: NDArray[np.bool_]


def leaf_rules(machine: Machine, raster: Raster) -> LeafRules:
    """Return the rules of a machine on a raster, on the safe side of whole columns."""
    mlc = machine.mlc
    assert mlc is not None
    width = raster.width_mm
    columns = raster.shape[1]
    gap = int(np.ceil(mlc.min_gap_mm / width - 1e-9))
    adjacent = -1 if mlc.min_adjacent_gap_mm is None else int(np.ceil(mlc.min_adjacent_gap_mm / width - 1e-9))
    jaw = machine.jaw_y if mlc.axis == "X" else machine.jaw_x
    edges = mlc.leaf_boundaries_mm[raster.first_leaf : raster.first_leaf + raster.leaves + 1]
    return LeafRules(
        min_columns=max(gap, 1),
        adjacent_columns=adjacent,
        closable=mlc.min_adjacent_gap_mm is None and mlc.min_gap_mm <= CLOSED_GAP_MM,
        last_lower=int(np.clip(np.floor((mlc.over_travel_mm - raster.left_mm) / width + 1e-9), 0, columns)),
        first_upper=int(np.clip(np.ceil((-mlc.over_travel_mm - raster.left_mm) / width - 1e-9), 0, columns)),
        spread_columns=max(int(np.floor(mlc.max_spread_mm / width + 1e-9)), 1),
        can_start=edges[:-1] <= jaw.over_travel_mm + 1e-6,
        can_end=edges[1:] >= -jaw.over_travel_mm - 1e-6,
    )


def best_shape(price: NDArray[np.float64], rules: LeafRules) -> tuple[float, NDArray[np.int64], NDArray[np.int64]]:
    """Return the aperture whose columns hold the largest sum of prices.

    Parameters
    ----------
    price
        Worth of opening each column of each leaf pair, shape (leaves, columns).
    rules
        The rules of the leaves.

    Returns
    -------
    worth
        Sum of prices inside; 0 if no aperture is worth anything.
    lower, upper
        Column edges of the opening of each pair, shapes (leaves,); both -1 for a closed pair.
    """
    columns = price.shape[1]
    spread = rules.spread_columns
    starts = range(0, columns - spread + 1, 2) if spread < columns else range(1)
    best = 0.0
    lower = np.full(len(price), -1)
    upper = np.full(len(price), -1)
    for low_start in starts:
        for high_start in starts:
            low = (low_start, min(low_start + spread, rules.last_lower, columns))
            high = (max(high_start, rules.first_upper), min(high_start + spread, columns))
            if rules.closable:
                found = _best_rows(
                    price, low[0], low[1], high[0], high[1], rules.min_columns, rules.can_start, rules.can_end
                )
            else:
                found = _best_connected(
                    price, low[0], low[1], high[0], high[1], rules.min_columns, rules.adjacent_columns,
                    rules.can_start, rules.can_end,
                )  # fmt: skip
            if found[0] > best:
                best, lower, upper = found
    return best, lower, upper


@njit(cache=True)
def _best_connected(price, low_first, low_last, high_first, high_last, gap, adjacent, can_start, can_end):  # type: ignore[no-untyped-def]
    """Best run of neighbouring open pairs whose openings overlap by ``adjacent`` columns (any, if negative)."""
    rows, columns = price.shape
    n = columns + 1
    nothing = -1e300
    value = np.full((rows, n, n), nothing)
    parent = np.full((rows, n, n), -1)
    # reach[a, b]: best value of the pair before among those with lower <= a and upper >= b
    reach = np.full((n, n), nothing)
    reach_from = np.full((n, n), -1)
    best = 0.0
    best_row = -1
    best_state = -1
    total = np.zeros(n)
    for row in range(rows):
        for column in range(columns):
            total[column + 1] = total[column] + price[row, column]
        for low in range(low_first, low_last + 1):
            for high in range(max(low + gap, high_first), high_last + 1):
                own = total[high] - total[low]
                before = nothing
                state = -1
                if row > 0:
                    a = columns
                    b = 0
                    if adjacent >= 0:
                        a = high - adjacent
                        b = low + adjacent
                    if a >= 0 and b <= columns:
                        before = reach[min(a, columns), max(b, 0)]
                        state = reach_from[min(a, columns), max(b, 0)]
                if can_start[row] and before < 0.0:
                    before = 0.0
                    state = -1
                if before == nothing:
                    continue
                value[row, low, high] = own + before
                parent[row, low, high] = state
                if can_end[row] and own + before > best:
                    best = own + before
                    best_row = row
                    best_state = low * n + high
        for a in range(n):
            for b in range(n - 1, -1, -1):
                top = value[row, a, b]
                source = a * n + b
                if a > 0 and reach[a - 1, b] > top:
                    top = reach[a - 1, b]
                    source = reach_from[a - 1, b]
                if b < n - 1 and reach[a, b + 1] > top:
                    top = reach[a, b + 1]
                    source = reach_from[a, b + 1]
                reach[a, b] = top
                reach_from[a, b] = source
    lower = np.full(rows, -1)
    upper = np.full(rows, -1)
    row = best_row
    state = best_state
    while row >= 0 and state >= 0:
        lower[row] = state // n
        upper[row] = state % n
        state = parent[row, lower[row], upper[row]]
        row -= 1
    return best, lower, upper


@njit(cache=True)
def _best_rows(price, low_first, low_last, high_first, high_last, gap, can_start, can_end):  # type: ignore[no-untyped-def]
    """Best opening of each pair by itself, for leaves that interdigitate and close."""
    rows, columns = price.shape
    lower = np.full(rows, -1)
    upper = np.full(rows, -1)
    best = 0.0
    total = np.zeros(columns + 1)
    startable = False
    endable = False
    for row in range(rows):
        for column in range(columns):
            total[column + 1] = total[column] + price[row, column]
        top = 0.0
        for low in range(low_first, low_last + 1):
            for high in range(max(low + gap, high_first), high_last + 1):
                if total[high] - total[low] > top:
                    top = total[high] - total[low]
                    lower[row] = low
                    upper[row] = high
        if lower[row] >= 0:
            startable = startable or can_start[row]
            endable = endable or can_end[row]
            best += top
    if not (startable and endable):
        best = 0.0
    return best, lower, upper
