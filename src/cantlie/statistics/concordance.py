"""Harrell's concordance of a risk score with survival, and its standard error, in O(n log n)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.statistics.risk_sets import RiskSets


@dataclass(frozen=True, slots=True)
class Concordance:
    """Concordance index and its infinitesimal-jackknife standard error; NaN where no pair can be compared."""

    index: float
    std_err: float


@njit(cache=True)
def _add(tree: NDArray[np.float64], position: int, value: float) -> None:
    position += 1
    while position < tree.size:
        tree[position] += value
        position += position & -position


@njit(cache=True)
def _below(tree: NDArray[np.float64], position: int) -> float:
    """Return the sum of the positions before ``position``."""
    total = 0.0
    while position > 0:
        total += tree[position]
        position -= position & -position
    return total


@njit(cache=True)
def _pairs(
    leaves: NDArray[np.intp],
    joins: NDArray[np.intp],
    join_order: NDArray[np.intp],
    event: NDArray[np.bool_],
    rank: NDArray[np.intp],
    weight: NDArray[np.float64],
    group_start: NDArray[np.intp],
    death_rows: NDArray[np.intp],
    stratum_end: NDArray[np.intp],
    levels: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, per row, the weighted pairs that it is part of: (concordant + tied/2) and all comparable ones."""
    n = leaves.size
    good, all_pairs = np.zeros(n), np.zeros(n)
    groups = stratum_end.size
    late = join_order.size > 0
    tree = np.zeros(levels + 1)
    risk = 0.0
    row = joined = 0
    # Backwards in time: every death meets those who are still at risk after it.
    for k in range(groups - 1, -1, -1):
        if k == groups - 1 or stratum_end[k] != stratum_end[k + 1]:
            row = joined = stratum_end[k]
            tree[:] = 0.0
            risk = 0.0
        while row > 0 and leaves[row - 1] > k:
            row -= 1
            if leaves[row] > joins[row] and not (event[row] and leaves[row] == k + 1):
                _add(tree, rank[row], weight[row])
                risk += weight[row]
        if late:
            while joined > 0 and joins[join_order[joined - 1]] > k:
                joined -= 1
                i = join_order[joined]
                if leaves[i] > joins[i]:
                    _add(tree, rank[i], -weight[i])
                    risk -= weight[i]
        for j in range(group_start[k], group_start[k + 1]):
            i = death_rows[j]
            lower = _below(tree, rank[i])
            same = _below(tree, rank[i] + 1) - lower
            good[i] += lower + 0.5 * same
            all_pairs[i] += risk
        for j in range(group_start[k], group_start[k + 1]):
            i = death_rows[j]
            _add(tree, rank[i], weight[i])
            risk += weight[i]
    # Forwards in time: every row meets the deaths that happened while it was at risk.
    tree[:] = 0.0
    dead = 0.0
    row = joined = 0
    for k in range(groups):
        if k == 0 or stratum_end[k] != stratum_end[k - 1]:
            tree[:] = 0.0
            dead = 0.0
            row = joined = 0 if k == 0 else stratum_end[k - 1]
        if late:
            while joined < stratum_end[k] and joins[join_order[joined]] <= k:
                i = join_order[joined]
                if leaves[i] > joins[i]:
                    through = _below(tree, rank[i] + 1)
                    good[i] -= dead - through + 0.5 * (through - _below(tree, rank[i]))
                    all_pairs[i] -= dead
                joined += 1
        while row < stratum_end[k] and leaves[row] <= k:
            row += 1
        begin = row
        for after in (False, True):
            if after:
                for j in range(group_start[k], group_start[k + 1]):
                    _add(tree, rank[death_rows[j]], weight[death_rows[j]])
                    dead += weight[death_rows[j]]
            row = begin
            while row < stratum_end[k] and leaves[row] == k + 1:
                if leaves[row] > joins[row] and event[row] != after:
                    through = _below(tree, rank[row] + 1)
                    good[row] += dead - through + 0.5 * (through - _below(tree, rank[row]))
                    all_pairs[row] += dead
                row += 1
    return good, all_pairs


def concordance(sets: RiskSets, score: NDArray[np.float64], cluster: NDArray[np.intp] | None = None) -> Concordance:
    """Return how often, of two patients who can be compared, the one who dies first has the higher risk score.

    Parameters
    ----------
    sets
        Risk sets; pairs are formed within strata, between a death and everyone at risk beyond its time.
    score
        Risk score in sorted order, shape (n,); scores equal up to rounding are tied and count one half.
    cluster
        Patient of each sorted row, where rows are not independent.

    References
    ----------
    Harrell et al. 1982, doi:10.1001/jama.1982.03320430047030; Therneau and Watson 2015 (Mayo technical report 85).
    """
    scale = float(np.abs(score).max()) if score.size else 0.0
    rounded = np.round(score / scale, 11) if scale > 0 else score
    levels, rank = np.unique(rounded, return_inverse=True)
    good, comparable = _pairs(
        sets.leaves,
        sets.joins,
        sets.join_order,
        sets.event,
        rank.astype(np.intp),
        sets.weight,
        sets.group_start,
        sets.death_rows,
        sets.stratum_end,
        levels.size,
    )
    total = float((sets.weight * comparable).sum()) / 2
    if total <= 0:
        return Concordance(float("nan"), float("nan"))
    index = float((sets.weight * good).sum()) / 2 / total
    influence = sets.weight * (good - index * comparable) / total
    if cluster is not None:
        influence = np.bincount(cluster, weights=influence)
    return Concordance(index, float(np.sqrt((influence**2).sum())))
