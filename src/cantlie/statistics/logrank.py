"""Log-rank tests and their weighted relatives: k groups, strata, trend, pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.statistics import inputs
from cantlie.statistics.hypothesis import HypothesisTest

Weighting = Literal["log-rank", "peto", "gehan", "tarone-ware"]
_NAMES = {
    "log-rank": "log-rank test",
    "peto": "Peto–Peto test (weights S(t−))",
    "gehan": "Gehan–Breslow–Wilcoxon test",
    "tarone-ware": "Tarone–Ware test",
}


@dataclass(frozen=True, slots=True, eq=False)
class LogRankTest(HypothesisTest):
    """A log-rank test with the observed and expected (weighted) numbers of events per group."""

    groups: tuple[Any, ...] = ()
    n: tuple[int, ...] = ()
    observed: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()
    variance: tuple[tuple[float, ...], ...] = ()


def _accumulate(
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    codes: NDArray[np.intp],
    k: int,
    weighting: Weighting,
    rho: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return weighted observed, expected (k,) and the covariance (k, k) of one stratum."""
    steps, index = np.unique(time, return_inverse=True)
    leaving = np.zeros((steps.size, k))
    died = np.zeros((steps.size, k))
    np.add.at(leaving, (index, codes), 1.0)
    np.add.at(died, (index, codes), event.astype(np.float64))
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    deaths, n = died.sum(axis=1), at_risk.sum(axis=1)
    some = deaths > 0
    died, at_risk, deaths, n = died[some], at_risk[some], deaths[some], n[some]
    if weighting == "log-rank":
        w = np.ones(deaths.size)
    elif weighting == "peto":
        w = np.concatenate([[1.0], np.cumprod(1 - deaths / n)[:-1]]) ** rho
    else:
        w = n if weighting == "gehan" else np.sqrt(n)
    share = at_risk / n[:, None]
    spread = np.where(n > 1, w**2 * deaths * (n - deaths) / np.maximum(n - 1, 1), 0.0)
    covariance = np.diag((spread[:, None] * share).sum(axis=0)) - (share * spread[:, None]).T @ share
    return (w[:, None] * died).sum(axis=0), (w * deaths) @ share, covariance


def log_rank(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    weighting: Weighting = "log-rank",
    rho: float = 1.0,
) -> LogRankTest:
    """Compare survival between groups by the (weighted, stratified) log-rank test.

    Parameters
    ----------
    time, event, group
        Follow-up, event indicator (0/1) and label per patient.
    strata
        Stratum per patient: groups are compared within strata, the differences are added.
    weighting
        ``log-rank``; ``peto`` weighs early deaths by S(t−)^rho (R's survdiff with rho); ``gehan`` by the number at risk
        (SPSS's Breslow); ``tarone-ware`` by its square root.

    Raises
    ------
    StatisticsError
        If there is one group only or no event at all.

    References
    ----------
    Mantel 1966; Peto and Peto 1972, doi:10.2307/2344317; Harrington and Fleming 1982, doi:10.1093/biomet/69.3.553;
    Gehan 1965, doi:10.1093/biomet/52.1-2.203; Tarone and Ware 1977, doi:10.1093/biomet/64.1.156.
    """
    if weighting not in _NAMES:
        raise StatisticsError(f"unknown weighting {weighting!r}", where="log-rank", remedy=f"use {sorted(_NAMES)}")
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    codes, names = inputs.labels(group, length=t.size)
    if len(names) < 2:
        raise StatisticsError("a log-rank test needs at least two groups", where="group")
    if not d.any():
        raise StatisticsError("nobody had the event, so survival cannot be compared", where="event")
    (t,) = inputs.merge_tied(t)
    strata_codes = np.zeros(t.size, dtype=np.intp)
    if strata is not None:
        strata_codes = inputs.labels(strata, "strata", length=t.size)[0]
    k = len(names)
    observed, expected, covariance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    for stratum in range(int(strata_codes.max()) + 1):
        own = strata_codes == stratum
        parts = _accumulate(t[own], d[own], codes[own], k, weighting, rho)
        observed += parts[0]
        expected += parts[1]
        covariance += parts[2]
    used = np.flatnonzero(expected > 0)
    if used.size < 2:
        raise StatisticsError("fewer than two groups were at risk when events happened", where="group")
    difference = (observed - expected)[used[1:]]
    own_covariance = covariance[np.ix_(used[1:], used[1:])]
    statistic = float(difference @ np.linalg.pinv(own_covariance, hermitian=True) @ difference)
    df = int(np.linalg.matrix_rank(own_covariance, hermitian=True))
    name = _NAMES[weighting] + (", stratified" if strata is not None else "")
    return LogRankTest(
        name,
        statistic,
        used.size - 1 if df == 0 else df,
        float(stats.chi2.sf(statistic, max(df, 1))),
        (),
        tuple(names),
        tuple(np.bincount(codes, minlength=k).tolist()),
        tuple(observed.tolist()),
        tuple(expected.tolist()),
        tuple(tuple(row) for row in covariance.tolist()),
    )


def log_rank_trend(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    strata: ArrayLike | None = None,
) -> HypothesisTest:
    """Log-rank test for a trend over ordered groups (in sorted order, or that of a pandas categorical).

    χ² = {Σ c (O − E)}² / c′Vc with one degree of freedom; scores c are 1, 2, 3, ... if not given.

    References
    ----------
    Tarone 1975, doi:10.1093/biomet/62.3.679; Collett, Modelling Survival Data in Medical Research, section 2.8.
    """
    test = log_rank(time, event, group, strata=strata)
    c = np.arange(1.0, len(test.groups) + 1) if scores is None else inputs.numbers(scores, "scores")
    if c.size != len(test.groups):
        raise StatisticsError(f"{c.size} scores for {len(test.groups)} groups", where="scores")
    spread = float(c @ np.asarray(test.variance) @ c)
    if spread <= 0:
        raise StatisticsError("all groups have the same score, there is no trend to test", where="scores")
    statistic = float((c @ (np.asarray(test.observed) - np.asarray(test.expected))) ** 2 / spread)
    return HypothesisTest("log-rank test for trend", statistic, 1, float(stats.chi2.sf(statistic, 1)))


def adjust_p(p_values: ArrayLike, method: Literal["holm", "bonferroni", "bh", "none"] = "holm") -> NDArray[np.float64]:
    """Adjust p-values for how many were looked at: Holm, Bonferroni or Benjamini–Hochberg.

    References
    ----------
    Holm 1979; Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    p = inputs.numbers(p_values, "p-values")
    m = p.size
    if method == "none":
        return p
    if method == "bonferroni":
        return np.minimum(1.0, p * m)
    order = np.argsort(p)
    result = np.empty(m)
    if method == "holm":
        result[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (m - np.arange(m))))
    elif method == "bh":
        falling = (p[order] * m / np.arange(1, m + 1))[::-1]
        result[order] = np.minimum(1.0, np.minimum.accumulate(falling)[::-1])
    else:
        raise StatisticsError(f"unknown adjustment {method!r}", where="p-values", remedy="use holm, bonferroni or bh")
    return result


def log_rank_pairs(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    weighting: Weighting = "log-rank",
    adjust: Literal["holm", "bonferroni", "bh", "none"] = "holm",
) -> pd.DataFrame:
    """Compare every two groups by a log-rank test of these two alone; p-values raw and adjusted."""
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    codes, names = inputs.labels(group, length=t.size)
    blocks = None if strata is None else inputs.labels(strata, "strata", length=t.size)[0]
    rows = []
    for first, second in combinations(range(len(names)), 2):
        own = (codes == first) | (codes == second)
        test = log_rank(t[own], d[own], codes[own], strata=None if blocks is None else blocks[own], weighting=weighting)
        rows.append((names[first], names[second], test.statistic, test.p_value))
    result = pd.DataFrame(rows, columns=["first", "second", "chi2", "p_value"])
    result["p_adjusted"] = adjust_p(result["p_value"].to_numpy(), adjust)
    return result
