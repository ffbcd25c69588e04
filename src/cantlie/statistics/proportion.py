"""Confidence intervals of a proportion, and the p-value behind a printed ratio and its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.statistics import inputs
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.statistics.wald import two_sided_p

IntervalMethod = Literal["clopper-pearson", "wilson", "wilson-cc", "agresti-coull", "jeffreys", "wald"]


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its confidence interval; both as fractions of 1."""

    events: int
    n: int
    estimate: float
    lower: float
    upper: float
    level: float
    method: str

    def table(self) -> pd.DataFrame:
        """Return the proportion as a table of one row."""
        return pd.DataFrame([{name: getattr(self, name) for name in self.__slots__}])


def _check(events: float, n: float, level: float) -> tuple[int, int, float]:
    if n != int(n) or events != int(events) or n < 1 or not 0 <= events <= n:
        raise StatisticsError(
            f"a proportion needs whole counts with 0 ≤ events ≤ n and n ≥ 1, not {events} of {n}", where="proportion"
        )
    return int(events), int(n), inputs.level(level)


def clopper_pearson(events: int, n: int, *, level: float = 0.95) -> Proportion:
    """Exact interval of Clopper and Pearson (conservative; R's binom.test).

    References
    ----------
    Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    x, n, level = _check(events, n, level)
    tail = (1 - level) / 2
    lower = float(stats.beta.ppf(tail, x, n - x + 1)) if x > 0 else 0.0
    upper = float(stats.beta.isf(tail, x + 1, n - x)) if x < n else 1.0
    return Proportion(x, n, x / n, lower, upper, level, "Clopper–Pearson")


def wilson(events: int, n: int, *, level: float = 0.95, continuity: bool = False) -> Proportion:
    """Wilson's score interval, with R's continuity correction (prop.test) if asked for.

    References
    ----------
    Wilson 1927, doi:10.1080/01621459.1927.10502953; correction: Newcombe 1998,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E.
    """
    x, n, level = _check(events, n, level)
    z = float(stats.norm.isf((1 - level) / 2))
    share = x / n
    shift = min(0.5, abs(x - n / 2)) / n if continuity else 0.0

    def limit(centre: float, sign: int) -> float:
        inner = centre * (1 - centre) / n + z * z / (4 * n * n)
        return float((centre + z * z / (2 * n) + sign * z * np.sqrt(inner)) / (1 + z * z / n))

    lower = 0.0 if share - shift <= 0 else max(0.0, limit(share - shift, -1))
    upper = 1.0 if share + shift >= 1 else min(1.0, limit(share + shift, 1))
    return Proportion(x, n, share, lower, upper, level, "Wilson with continuity correction" if continuity else "Wilson")


def agresti_coull(events: int, n: int, *, level: float = 0.95) -> Proportion:
    """Agresti and Coull's adjusted Wald interval.

    References
    ----------
    Agresti and Coull 1998, doi:10.1080/00031305.1998.10480550.
    """
    x, n, level = _check(events, n, level)
    z = float(stats.norm.isf((1 - level) / 2))
    total = n + z * z
    centre = (x + z * z / 2) / total
    half = z * float(np.sqrt(centre * (1 - centre) / total))
    return Proportion(x, n, x / n, max(0.0, centre - half), min(1.0, centre + half), level, "Agresti–Coull")


def jeffreys(events: int, n: int, *, level: float = 0.95) -> Proportion:
    """Jeffreys' equal-tailed interval: Beta(x + ½, n − x + ½), its end put to 0 or 1 where x is 0 or n.

    References
    ----------
    Brown, Cai and DasGupta 2001, doi:10.1214/ss/1009213286.
    """
    x, n, level = _check(events, n, level)
    tail = (1 - level) / 2
    lower = float(stats.beta.ppf(tail, x + 0.5, n - x + 0.5)) if x > 0 else 0.0
    upper = float(stats.beta.isf(tail, x + 0.5, n - x + 0.5)) if x < n else 1.0
    return Proportion(x, n, x / n, lower, upper, level, "Jeffreys")


def wald(events: int, n: int, *, level: float = 0.95) -> Proportion:
    """The textbook interval p ± z √(p(1−p)/n): poor for small samples, here to recognise it in papers."""
    x, n, level = _check(events, n, level)
    share = x / n
    half = float(stats.norm.isf((1 - level) / 2)) * float(np.sqrt(share * (1 - share) / n))
    return Proportion(x, n, share, max(0.0, share - half), min(1.0, share + half), level, "Wald")


def _corrected(events: int, n: int, *, level: float = 0.95) -> Proportion:
    return wilson(events, n, level=level, continuity=True)


_METHODS: dict[str, Callable[..., Proportion]] = {
    "clopper-pearson": clopper_pearson,
    "wilson": wilson,
    "wilson-cc": _corrected,
    "agresti-coull": agresti_coull,
    "jeffreys": jeffreys,
    "wald": wald,
}


def proportion_interval(
    events: int, n: int, *, method: IntervalMethod = "clopper-pearson", level: float = 0.95
) -> Proportion:
    """Return a proportion with the interval of the named method.

    Raises
    ------
    StatisticsError
        If the counts or the method make no sense.
    """
    if method not in _METHODS:
        raise StatisticsError(f"unknown interval {method!r}", where="method", remedy=f"use one of {sorted(_METHODS)}")
    return _METHODS[method](events, n, level=level)


def ratio_p_from_interval(ratio: float, lower: float, upper: float, *, level: float = 0.95) -> HypothesisTest:
    """Return the Wald p-value that belongs to a printed ratio (HR, OR, RR) and its confidence interval.

    The standard error is ln(upper/lower) / (2 z), z for the given level; p = 2 Φ(−|ln ratio|/SE).

    References
    ----------
    Altman and Bland 2011, doi:10.1136/bmj.d2304.
    """
    inputs.level(level)
    if not (0 < lower <= ratio <= upper and np.isfinite(upper)):
        raise StatisticsError(
            f"a ratio lies within its positive interval, not {ratio} in {lower} to {upper}", where="ratio"
        )
    if lower == upper:
        raise StatisticsError("the interval has no width", where="ratio", remedy="give more decimals")
    error = float(np.log(upper / lower) / (2 * stats.norm.isf((1 - level) / 2)))
    z = float(np.log(ratio) / error)
    return HypothesisTest("Wald test from a ratio and its interval", z, None, float(two_sided_p(z)))
