"""The exact p-value of an r × c table, by a depth-first search that exact bounds keep small."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import special, stats

_LARGEST_NETWORK = 4_000_000
_LARGEST_SEARCH = 400_000_000
_MONTE_CARLO_BATCHES, _MONTE_CARLO_BATCH = 20, 10_000


@njit(cache=True)
def _next_column(x: NDArray[np.int64], room: NDArray[np.int64], total: int, first: bool) -> bool:
    """Put the next way to share ``total`` over cells of at most ``room`` into x; the first one if ``first``."""
    r = x.size
    if first:
        left = total
        for i in range(r - 1, -1, -1):
            x[i] = min(room[i], left)
            left -= x[i]
        return left == 0
    behind = x[r - 1]
    for i in range(r - 2, -1, -1):
        if behind > 0 and x[i] < room[i]:
            x[i] += 1
            left = behind - 1
            for m in range(r - 1, i, -1):
                x[m] = min(room[m], left)
                left -= x[m]
            return True
        behind += x[i]
    return False


@njit(cache=True)
def _bounds(
    rows: NDArray[np.int64], columns: NDArray[np.int64], radix: NDArray[np.int64], lf: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, per stage and state of row totals still free, the largest and smallest Σ −ln x! of what remains."""
    r, stages = rows.size, columns.size
    size = 1
    for i in range(r):
        size *= rows[i] + 1
    longest = np.full((stages + 1, size), -np.inf)
    shortest = np.full((stages + 1, size), np.inf)
    longest[stages, 0] = 0.0
    shortest[stages, 0] = 0.0
    x = np.zeros(r, dtype=np.int64)
    state = np.zeros(r, dtype=np.int64)
    remaining = 0
    for j in range(stages - 1, -1, -1):
        remaining += columns[j]
        good = _next_column(state, rows, remaining, True)
        while good:
            index = 0
            for i in range(r):
                index += state[i] * radix[i]
            more = _next_column(x, state, columns[j], True)
            while more:
                step = 0.0
                after = 0
                for i in range(r):
                    step -= lf[x[i]]
                    after += (state[i] - x[i]) * radix[i]
                longest[j, index] = max(longest[j, index], step + longest[j + 1, after])
                shortest[j, index] = min(shortest[j, index], step + shortest[j + 1, after])
                more = _next_column(x, state, columns[j], False)
            good = _next_column(state, rows, remaining, False)
    return longest, shortest


@njit(cache=True)
def _search(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    radix: NDArray[np.int64],
    lf: NDArray[np.float64],
    longest: NDArray[np.float64],
    shortest: NDArray[np.float64],
    limit: float,
    constant: float,
    largest_search: int,
) -> float:
    """Return the summed probability of tables whose Σ −ln x! is at most ``limit``, or −1 if the search is too long."""
    r, stages = rows.size, columns.size
    free = np.zeros(stages + 1, dtype=np.int64)
    for j in range(stages - 1, -1, -1):
        free[j] = free[j + 1] + columns[j]
    column_factor = np.zeros(stages + 1)
    for j in range(stages - 1, -1, -1):
        column_factor[j] = column_factor[j + 1] + lf[columns[j]]
    x = np.zeros((stages, r), dtype=np.int64)
    state = np.zeros((stages + 1, r), dtype=np.int64)
    past = np.zeros(stages + 1)
    state[0] = rows
    started = np.zeros(stages, dtype=np.bool_)
    total = 0.0
    visited = 0
    j = 0
    while j >= 0:
        found = _next_column(x[j], state[j], columns[j], not started[j])
        started[j] = True
        if not found:
            started[j] = False
            j -= 1
            continue
        visited += 1
        if visited > largest_search:
            return -1.0
        so_far = past[j]
        index = 0
        for i in range(r):
            so_far -= lf[x[j, i]]
            state[j + 1, i] = state[j, i] - x[j, i]
            index += state[j + 1, i] * radix[i]
        if so_far + shortest[j + 1, index] > limit:
            continue
        if so_far + longest[j + 1, index] <= limit:
            rest = lf[free[j + 1]] - column_factor[j + 1]
            for i in range(r):
                rest -= lf[state[j + 1, i]]
            total += np.exp(constant + so_far + rest)
            continue
        j += 1
        past[j] = so_far
    return total


def freeman_halton_p(table: NDArray[np.int64], *, seed: int = 0) -> tuple[float, bool]:
    """Return the two-sided exact p-value of a table of counts, and whether it is exact.

    Tables are searched column by column; a branch ends where the largest (smallest) probability that it can still
    reach lies below (above) the observed one. Tables beyond a few seconds of search get a Monte Carlo p (200,000 random
    tables with the same margins, (hits + 1) / (tables + 1)).

    References
    ----------
    Freeman and Halton 1951, doi:10.1093/biomet/38.1-2.141; the idea of bounding paths: Mehta and Patel 1983,
    doi:10.1080/01621459.1983.10477989.
    """
    observed = table if table.shape[0] <= table.shape[1] else table.T
    rows, columns = observed.sum(axis=1), np.sort(observed.sum(axis=0))[::-1].copy()
    n = int(observed.sum())
    log_factorial = special.gammaln(np.arange(n + 1, dtype=np.float64) + 1)
    constant = float(log_factorial[rows].sum() + log_factorial[columns].sum() - log_factorial[n])
    seen = float(-log_factorial[observed].sum())
    limit = seen + np.log1p(1e-7)
    states = np.prod((rows + 1).astype(np.float64))
    ways = np.prod(np.minimum(np.sort(rows)[:-1] + 1, columns[0] + 1).astype(np.float64))
    if states * columns.size <= _LARGEST_NETWORK and states * ways / max(n, 1) <= _LARGEST_SEARCH:
        radix = np.concatenate([[1], np.cumprod(rows[:-1] + 1)]).astype(np.int64)
        longest, shortest = _bounds(rows, columns, radix, log_factorial)
        p_value = _search(rows, columns, radix, log_factorial, longest, shortest, limit, constant, _LARGEST_SEARCH)
        if p_value >= 0:
            return min(1.0, float(p_value)), True
    generator = np.random.default_rng(seed)
    hits = 0
    for _ in range(_MONTE_CARLO_BATCHES):
        tables = stats.random_table(rows, columns).rvs(_MONTE_CARLO_BATCH, random_state=generator)
        hits += int((-log_factorial[tables.astype(np.int64)].sum(axis=(1, 2)) <= limit).sum())
    return (hits + 1) / (_MONTE_CARLO_BATCHES * _MONTE_CARLO_BATCH + 1), False
