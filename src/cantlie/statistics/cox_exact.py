"""The exact partial likelihood of the Cox model for discrete times, by Gail's recursion."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.statistics.risk_sets import Likelihood, RiskSets


@njit(cache=True)
def _add_row(
    ratio: float,
    x: NDArray[np.float64],
    most: int,
    b: NDArray[np.float64],
    b1: NDArray[np.float64],
    b2: NDArray[np.float64],
) -> None:
    """Let one more patient into the sums over all subsets of sizes up to ``most`` (value, gradient, Hessian)."""
    p = x.size
    for size in range(most, 0, -1):
        below = size - 1
        for m in range(p):
            for q in range(m + 1):
                b2[size, m, q] += ratio * (
                    b2[below, m, q] + x[m] * b1[below, q] + x[q] * b1[below, m] + x[m] * x[q] * b[below]
                )
        for m in range(p):
            b1[size, m] += ratio * (b1[below, m] + x[m] * b[below])
        b[size] += ratio * b[below]


@njit(cache=True)
def _exact(
    x: NDArray[np.float64],
    eta: NDArray[np.float64],
    leaves: NDArray[np.intp],
    joins: NDArray[np.intp],
    late: bool,
    stratum_end: NDArray[np.intp],
    group_start: NDArray[np.intp],
    death_rows: NDArray[np.intp],
    score: NDArray[np.float64],
    information: NDArray[np.float64],
) -> float:
    p = x.shape[1]
    groups = stratum_end.size
    value = 0.0
    row = 0
    b = np.zeros(1)
    b1 = np.zeros((1, p))
    b2 = np.zeros((1, p, p))
    level = 0.0
    for k in range(groups - 1, -1, -1):
        begin, end = group_start[k], group_start[k + 1]
        most = end - begin
        # The sums over subsets of a size below the largest stay valid from one time to the next, so that they are
        # built once per stratum when nobody enters late; a fresh start is needed for late entries.
        fresh = k == groups - 1 or stratum_end[k] != stratum_end[k + 1]
        if fresh or late:
            largest = most
            if not late:
                for g in range(k, -1, -1):
                    if stratum_end[g] != stratum_end[k]:
                        break
                    largest = max(largest, group_start[g + 1] - group_start[g])
            b = np.zeros(largest + 1)
            b1 = np.zeros((largest + 1, p))
            b2 = np.zeros((largest + 1, p, p))
            b[0] = 1.0
            row = stratum_end[k]
            level = 0.0
        while row > 0 and leaves[row - 1] > k:
            row -= 1
            if joins[row] <= k:
                _add_row(np.exp(eta[row] - level), x[row], b.size - 1, b, b1, b2)
                if b.max() > 1e200:
                    # Scale sums of size s by exp(-s c): the same as a smaller baseline for everybody.
                    c = np.log(b.max()) / max(b.size - 1, 1)
                    for size in range(b.size):
                        factor = np.exp(-size * c)
                        b[size] *= factor
                        b1[size] *= factor
                        b2[size] *= factor
                    level += c
        value -= np.log(b[most]) + most * level
        mean = b1[most] / b[most]
        for m in range(p):
            score[m] -= mean[m]
            for q in range(m + 1):
                information[m, q] += b2[most, m, q] / b[most] - mean[m] * mean[q]
        for j in range(begin, end):
            i = death_rows[j]
            for m in range(p):
                score[m] += x[i, m]
    for m in range(p):
        for q in range(m):
            information[q, m] = information[m, q]
    return value


def exact_likelihood(sets: RiskSets, x: NDArray[np.float64], beta: NDArray[np.float64]) -> Likelihood:
    """Return the exact partial likelihood: which of the patients at risk died, given how many, at each time.

    Of cost O(n d p²) with d tied deaths. Case weights are not possible here.

    References
    ----------
    Gail, Lubin and Rubinstein 1981, doi:10.1093/biomet/68.3.703.
    """
    eta = x @ beta
    eta = eta - eta.mean()
    p = x.shape[1]
    score, information = np.zeros(p), np.zeros((p, p))
    dead = float(eta[sets.death_rows].sum())
    value = _exact(
        x,
        eta,
        sets.leaves,
        sets.joins,
        sets.join_order.size > 0,
        sets.stratum_end,
        sets.group_start,
        sets.death_rows,
        score,
        information,
    )
    return Likelihood(value + dead, score, information)
