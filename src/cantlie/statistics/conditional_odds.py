"""The conditional maximum-likelihood odds ratio of a 2 × 2 table and its exact interval, found as R finds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

R_ROOT_TOLERANCE = 2.0**-13
_EPS = float(np.finfo(np.float64).eps)


def brent_root(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Return a root between ``low`` and ``high``, where the function changes sign, by Brent's method.

    Written after Brent's description so that, with a coarse tolerance, it stops at the very point where R's uniroot
    stops (scipy's brentq stops elsewhere within the tolerance).

    References
    ----------
    Brent 1973, Algorithms for Minimization Without Derivatives, chapter 4.
    """
    old, best = low, high
    f_old, f_best = function(old), function(best)
    if f_old == 0.0:
        return old
    other, f_other = old, f_old
    for _ in range(1000):
        last_step = best - old
        if abs(f_other) < abs(f_best):
            old, best, other = best, other, best
            f_old, f_best, f_other = f_best, f_other, f_best
        accepted = 2.0 * _EPS * abs(best) + tolerance / 2.0
        step = (other - best) / 2.0
        if abs(step) <= accepted or f_best == 0.0:
            break
        if abs(last_step) >= accepted and abs(f_old) > abs(f_best):
            across = other - best
            if old == other:
                s = f_best / f_old
                p, q = across * s, 1.0 - s
            else:
                q, r, s = f_old / f_other, f_best / f_other, f_best / f_old
                p = s * (across * q * (q - r) - (best - old) * (r - 1.0))
                q = (q - 1.0) * (r - 1.0) * (s - 1.0)
            p, q = (p, -q) if p > 0 else (-p, q)
            if p < 0.75 * across * q - abs(accepted * q) / 2.0 and p < abs(last_step * q / 2.0):
                step = p / q
        if abs(step) < accepted:
            step = accepted if step > 0 else -accepted
        old, f_old = best, f_best
        best += step
        f_best = function(best)
        if (f_best > 0) == (f_other > 0) and f_best != 0.0:
            other, f_other = old, f_old
    return best


def conditional_odds_ratio(
    table: NDArray[np.int64], level: float, tolerance: float = R_ROOT_TOLERANCE
) -> tuple[float, tuple[float, float]]:
    """Return the conditional odds ratio of [[a, b], [c, d]] and its exact (Cornfield) interval.

    The count a has, given all margins, Fisher's noncentral hypergeometric distribution; the estimate makes its mean
    equal to a, the limits leave (1 − level)/2 in each tail. Both may be 0 or infinite. Roots are sought on (0, 1), in
    the odds or in their inverse, to ``tolerance``; the default is R's, so that R's digits come out.

    References
    ----------
    Cornfield 1956; Agresti 1992, doi:10.1214/ss/1177011454.
    """
    (a, b), (c, d) = table.astype(int).tolist()
    low, high = max(0, a - d), min(a + b, a + c)
    support = np.arange(low, high + 1, dtype=np.float64)
    log_central = -(
        special.gammaln(support + 1)
        + special.gammaln(a + b - support + 1)
        + special.gammaln(a + c - support + 1)
        + special.gammaln(d - a + support + 1)
    )

    def mean_of(weights: NDArray[np.float64]) -> Callable[[float], float]:
        def mean(odds: float) -> float:
            if odds == 0.0:
                return float(weights[0])
            value = log_central + support * np.log(odds)
            value = np.exp(value - value.max())
            return float((weights * value).sum() / value.sum())

        return mean

    def solve(weights: NDArray[np.float64], target: float) -> float:
        mean = mean_of(weights)
        at_one = mean(1.0)
        if at_one == target:
            return 1.0
        rising = weights[-1] > weights[0]
        if (at_one > target) == rising:
            return brent_root(lambda t: mean(t) - target, 0.0, 1.0, tolerance)
        return 1.0 / brent_root(lambda t: mean(1.0 / t) - target, _EPS, 1.0, tolerance)

    tail = (1 - level) / 2
    estimate = lower = 0.0
    upper = float("inf")
    if a == high:
        estimate = float("inf")
    elif a > low:
        estimate = solve(support, a)
    if a > low:
        lower = solve((support >= a).astype(float), tail)
    if a < high:
        upper = solve((support <= a).astype(float), tail)
    return estimate, (lower, upper)
