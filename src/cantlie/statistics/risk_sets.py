"""Risk sets of the Cox model: who is at risk at each event time, and the sums over them in one sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ties = Literal["efron", "breslow"]


@dataclass(frozen=True, slots=True, eq=False)
class RiskSets:
    """Rows sorted by stratum and time, and the groups of tied events.

    Parameters
    ----------
    order
        Rows in sorted order, shape (n,); all arrays below are in this order.
    time, event, weight, stratum
        Follow-up, event indicator, case weight and stratum code, shape (n,).
    leaves
        Number of event groups (over all strata, in order) up to and including each row's own time, shape (n,).
    joins
        Number of event groups up to and including each row's entry time, shape (n,); at risk are joins ≤ k < leaves.
    join_order
        Rows sorted by ``joins`` within strata, empty if nobody enters late.
    group_time, group_stratum
        Time and stratum of each event group, shape (K,).
    group_start
        First index into ``death_rows`` of each group, shape (K + 1,).
    death_rows
        Rows with an event, sorted by group, shape (E,).
    stratum_end
        End row of each event group's stratum, shape (K,).
    entry
        Entry time of each row, shape (n,); None if nobody enters late.
    """

    order: NDArray[np.intp]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    weight: NDArray[np.float64]
    stratum: NDArray[np.intp]
    leaves: NDArray[np.intp]
    joins: NDArray[np.intp]
    join_order: NDArray[np.intp]
    group_time: NDArray[np.float64]
    group_stratum: NDArray[np.intp]
    group_start: NDArray[np.intp]
    death_rows: NDArray[np.intp]
    stratum_end: NDArray[np.intp]
    entry: NDArray[np.float64] | None

    @property
    def group_of_death(self) -> NDArray[np.intp]:
        """Event group of each entry of ``death_rows``."""
        return np.repeat(np.arange(self.group_time.size), np.diff(self.group_start))


def risk_sets(
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None,
    stratum: NDArray[np.intp],
    weight: NDArray[np.float64],
) -> RiskSets:
    """Sort the rows and find the groups of tied events of each stratum."""
    order = np.lexsort((time, stratum)) if stratum.any() else np.argsort(time, kind="stable")
    t, d, s, w = time[order], event[order], stratum[order], weight[order]
    rows = np.flatnonzero(d)
    new = np.ones(rows.size, dtype=bool)
    new[1:] = (t[rows[1:]] != t[rows[:-1]]) | (s[rows[1:]] != s[rows[:-1]])
    first = np.flatnonzero(new)
    group_time, group_stratum = t[rows[first]], s[rows[first]]
    starts_group = np.zeros(t.size, dtype=np.intp)
    tied_from = rows[first]
    same = np.zeros(t.size, dtype=bool)
    same[1:] = (t[1:] == t[:-1]) & (s[1:] == s[:-1])
    run_start = np.maximum.accumulate(np.where(same, 0, np.arange(t.size)))
    starts_group[run_start[tied_from]] = 1
    leaves = np.cumsum(starts_group).astype(np.intp)
    joins = np.zeros(t.size, dtype=np.intp)
    join_order = np.empty(0, dtype=np.intp)
    offset = np.searchsorted(group_stratum, s, side="left")
    if entry is None:
        joins = offset.astype(np.intp)
    else:
        e = entry[order]
        for code in np.unique(s):
            own = s == code
            groups = group_time[group_stratum == code]
            joins[own] = offset[own] + np.searchsorted(groups, e[own], side="right")
        join_order = np.lexsort((joins, s))
    stratum_end = np.searchsorted(s, group_stratum, side="right")
    group_start = np.concatenate([first, [rows.size]]).astype(np.intp)
    late = None if entry is None else entry[order]
    return RiskSets(
        order, t, d, w, s, leaves, joins, join_order, group_time, group_stratum, group_start, rows, stratum_end, late
    )


@njit(cache=True)
def _sweep(
    x: NDArray[np.float64],
    risk: NDArray[np.float64],
    weight: NDArray[np.float64],
    leaves: NDArray[np.intp],
    joins: NDArray[np.intp],
    join_order: NDArray[np.intp],
    stratum_end: NDArray[np.intp],
    group_start: NDArray[np.intp],
    death_rows: NDArray[np.intp],
    efron: bool,
    total: NDArray[np.float64],
    mean: NDArray[np.float64],
    part: NDArray[np.float64],
) -> None:
    """Fill, per event, Efron's denominator, mean covariates and mean weight (``risk`` is weight × hazard ratio)."""
    p = x.shape[1]
    groups = stratum_end.size
    late = join_order.size > 0
    s0 = 0.0
    s1 = np.zeros(p)
    d1 = np.zeros(p)
    row = joined = 0
    for k in range(groups - 1, -1, -1):
        if k == groups - 1 or stratum_end[k] != stratum_end[k + 1]:
            row = joined = stratum_end[k]
            s0 = 0.0
            s1[:] = 0.0
        while row > 0 and leaves[row - 1] > k:
            row -= 1
            if leaves[row] > joins[row]:
                r = risk[row]
                s0 += r
                for m in range(p):
                    s1[m] += r * x[row, m]
        if late:
            while joined > 0 and joins[join_order[joined - 1]] > k:
                joined -= 1
                i = join_order[joined]
                if leaves[i] > joins[i]:
                    r = risk[i]
                    s0 -= r
                    for m in range(p):
                        s1[m] -= r * x[i, m]
        begin, end = group_start[k], group_start[k + 1]
        count = end - begin
        d0 = 0.0
        w = 0.0
        d1[:] = 0.0
        for j in range(begin, end):
            i = death_rows[j]
            w += weight[i]
            if efron and count > 1:
                d0 += risk[i]
                for m in range(p):
                    d1[m] += risk[i] * x[i, m]
        w /= count
        for j in range(begin, end):
            share = (j - begin) / count if efron else 0.0
            bottom = s0 - share * d0
            total[j] = bottom
            part[j] = w
            for m in range(p):
                mean[j, m] = (s1[m] - share * d1[m]) / bottom


@dataclass(frozen=True, slots=True, eq=False)
class RiskSums:
    """Sums over the risk sets at one β.

    Parameters
    ----------
    hazard_ratio
        exp(xβ − shift) per sorted row, shape (n,).
    shift
        The constant taken off before the exponential.
    total, mean, part
        Per event: Efron's denominator, mean covariates there and mean case weight of its tied group.
    share
        Efron's fraction l/d per event (0 under Breslow).
    """

    hazard_ratio: NDArray[np.float64]
    shift: float
    total: NDArray[np.float64]
    mean: NDArray[np.float64]
    part: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def increment(self) -> NDArray[np.float64]:
        """Weight over denominator per event: the pieces of the cumulative baseline hazard (times exp(−shift))."""
        return self.part / self.total


def risk_sums(sets: RiskSets, x: NDArray[np.float64], beta: NDArray[np.float64], ties: Ties) -> RiskSums:
    """Sweep once through the risk sets; ``x`` is in sorted order."""
    eta = x @ beta
    shift = float(eta.max()) if eta.size else 0.0
    ratio = np.exp(eta - shift)
    e = sets.death_rows.size
    total, mean, part = np.empty(e), np.empty((e, x.shape[1])), np.empty(e)
    _sweep(
        x, sets.weight * ratio, sets.weight, sets.leaves, sets.joins, sets.join_order, sets.stratum_end,
        sets.group_start, sets.death_rows, ties == "efron", total, mean, part,
    )  # fmt: skip
    share = np.zeros(e)
    if ties == "efron":
        size = np.diff(sets.group_start)
        share = (np.arange(e) - np.repeat(sets.group_start[:-1], size)) / np.repeat(size, size)
    return RiskSums(ratio, shift, total, mean, part, share)


def exposure(sets: RiskSets, values: NDArray[np.float64], shared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add a quantity over the events at which each row is at risk.

    Parameters
    ----------
    values
        Per event, shape (E,) or (E, q).
    shared
        The part of it that a row's own tied events do not get (Efron's fraction times the value), same shape.

    Returns
    -------
    NDArray
        Per sorted row, shape (n,) or (n, q).
    """
    groups = np.add.reduceat(values, sets.group_start[:-1], axis=0)
    running = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(groups, axis=0)])
    result: NDArray[np.float64] = running[sets.leaves]
    if sets.joins.any():
        result = result - running[sets.joins]
    if shared.any():
        own = np.add.reduceat(shared, sets.group_start[:-1], axis=0)
        result[sets.event] -= own[sets.leaves[sets.event] - 1]
    return result


_BLOCK_ROWS = 2048


def weighted_gram(x: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return X′ diag(weight) X for weights that are not negative, in blocks that stay in the cache."""
    result = np.zeros((x.shape[1], x.shape[1]))
    root = np.sqrt(weight)
    for start in range(0, x.shape[0], _BLOCK_ROWS):
        block = x[start : start + _BLOCK_ROWS] * root[start : start + _BLOCK_ROWS, None]
        result += block.T @ block
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """Log partial likelihood, score (p,) and information (p, p)."""

    value: float
    score: NDArray[np.float64]
    information: NDArray[np.float64]


def likelihood(sets: RiskSets, x: NDArray[np.float64], beta: NDArray[np.float64], ties: Ties) -> Likelihood:
    """Return the log partial likelihood with its derivatives, in O(n p) sums and two matrix products.

    The score is X′ of the weighted martingale residuals; the information is X′ diag(w e^η Λ) X − Σ x̄x̄′.

    References
    ----------
    Cox 1972, doi:10.1111/j.2517-6161.1972.tb00899.x; Efron 1977, doi:10.1080/01621459.1977.10480613; Breslow 1974,
    doi:10.2307/2529620.
    """
    sums = risk_sums(sets, x, beta, ties)
    deaths = sets.death_rows
    eta_dead = np.log(sums.hazard_ratio[deaths])
    value = float((sets.weight[deaths] * eta_dead).sum() - (sums.part * np.log(sums.total)).sum())
    increment = sums.increment
    expected = sets.weight * sums.hazard_ratio * exposure(sets, increment, increment * sums.share)
    score = x.T @ (sets.weight * sets.event - expected)
    information = weighted_gram(x, np.maximum(expected, 0.0)) - weighted_gram(sums.mean, sums.part)
    return Likelihood(value, score, information)
