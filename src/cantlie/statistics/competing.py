"""Competing risks: Aalen–Johansen cumulative incidence and Gray's test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.statistics.survival import kaplan_meier
from cantlie.statistics.wald import normal_quantile

VarianceMethod = Literal["delta", "aalen"]


@dataclass(frozen=True, slots=True, eq=False)
class IncidenceCurve:
    """Cumulative incidence of one cause in one group, a step function over its distinct times.

    Parameters
    ----------
    label, cause
        Group and cause (event code).
    n, events
        Patients and events of this cause.
    time, n_risk, n_event, incidence, std_err
        Arrays of shape (m,).
    naive
        1 − Kaplan–Meier with the other causes censored: too high, printed only to show how much.
    """

    label: Any
    cause: int
    n: int
    events: int
    time: NDArray[np.float64]
    n_risk: NDArray[np.float64]
    n_event: NDArray[np.float64]
    incidence: NDArray[np.float64]
    std_err: NDArray[np.float64]
    naive: NDArray[np.float64]
    level: float

    def _step(self, values: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([[0.0], values])[np.searchsorted(self.time, times, side="right")]

    def rates(self, times: ArrayLike) -> pd.DataFrame:
        """Return the cumulative incidence at the given times with its log(−log) interval and the naive 1 − KM.

        Beyond the last follow-up of the group the rates are NaN.
        """
        asked = np.atleast_1d(np.asarray(times, dtype=np.float64))
        value, error = self._step(self.incidence, asked), self._step(self.std_err, asked)
        z = normal_quantile(self.level)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = z * error / (value * np.log(value))
            lower, upper = value ** np.exp(-spread), value ** np.exp(spread)
        none = (value <= 0) | (value >= 1)
        lower, upper = np.where(none, value, lower), np.where(none, value, upper)
        frame = pd.DataFrame(
            {
                "time": asked,
                "incidence": value,
                "std_err": error,
                "lower": lower,
                "upper": upper,
                "naive": self._step(self.naive, asked),
            }
        )
        frame.loc[asked > self.time[-1], frame.columns[1:]] = np.nan
        return frame

    def table(self) -> pd.DataFrame:
        """Return the whole curve as a table."""
        columns = ("time", "n_risk", "n_event", "incidence", "std_err", "naive")
        return pd.DataFrame({name: getattr(self, name) for name in columns})


@dataclass(frozen=True, slots=True, eq=False)
class CumulativeIncidence:
    """Cumulative incidence of every cause in every group."""

    curves: tuple[IncidenceCurve, ...]
    notes: tuple[Note, ...] = ()

    def curve(self, cause: int, label: Any = "all") -> IncidenceCurve:
        """Return the curve of a cause in a group."""
        for curve in self.curves:
            if curve.cause == cause and curve.label == label:
                return curve
        raise StatisticsError(f"there is no cause {cause} in group {label!r}", where="cumulative incidence")

    def rates(self, times: ArrayLike) -> pd.DataFrame:
        """Return the rates at the given times for every cause and group."""
        tables = [curve.rates(times).assign(group=curve.label, cause=curve.cause) for curve in self.curves]
        return pd.concat(tables, ignore_index=True)


def causes(values: ArrayLike, *, length: int) -> NDArray[np.int64]:
    """Return event codes (0 censored; 1, 2, ... the causes) after checking them."""
    code = inputs.numbers(values, "event", length=length)
    if (code < 0).any() or (code != np.rint(code)).any():
        raise StatisticsError(
            "an event code is 0 (censored) or a whole number for the cause", where="event", remedy="code it so"
        )
    return np.asarray(np.rint(code), dtype=np.int64)


def _delta_variance(
    s_before: NDArray[np.float64], n: NDArray[np.float64], d: NDArray[np.float64], own: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Variance of the Aalen–Johansen estimator by the delta method, equal to the infinitesimal jackknife."""
    incidence = np.cumsum(s_before * own / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = np.where(n > d, d / (n * (n - d)), 0.0)
    square = np.cumsum(hazard)
    first = np.cumsum(hazard * incidence)
    second = np.cumsum(hazard * incidence**2)
    own_part = np.cumsum(s_before**2 * own * (n - own) / n**3)
    cross = s_before * own / n**2
    mixed, mixed_first = np.cumsum(cross), np.cumsum(cross * incidence)
    spread = incidence**2 * square - 2 * incidence * first + second
    return spread + own_part - 2 * (incidence * mixed - mixed_first)


def _aalen_variance(
    s_before: NDArray[np.float64], n: NDArray[np.float64], d: NDArray[np.float64], own: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Aalen's variance with the correction for ties of the hypergeometric distribution, as Gray's cuminc."""
    incidence = np.cumsum(s_before * own / n)
    s_after = s_before * (n - d) / n
    other = d - own
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(s_after > 0, 1 / s_after, 0.0)
        tied_other = np.where(other > 1, 1 - (other - 1) / (n - 1), 1.0)
        tied_own = np.where(own > 1, 1 - (own - 1) / (n - 1), 1.0)
    from_other = np.where(s_after > 0, s_before**2 * tied_other * other / n**2, 0.0)
    from_own = s_before**2 * tied_own * own / n**2
    reach_other = incidence * inverse
    reach_own = 1 + incidence * inverse
    v1 = np.cumsum(reach_other**2 * from_other + reach_own**2 * from_own)
    v2 = np.cumsum(inverse * (reach_other * from_other + reach_own * from_own))
    v3 = np.cumsum(inverse**2 * (from_other + from_own))
    return v1 - 2 * incidence * v2 + incidence**2 * v3


def cumulative_incidence(
    time: ArrayLike,
    event: ArrayLike,
    *,
    group: ArrayLike | None = None,
    variance: VarianceMethod = "delta",
    level: float = 0.95,
) -> CumulativeIncidence:
    """Estimate the cumulative incidence of every cause by Aalen and Johansen.

    Parameters
    ----------
    time
        Time to the first event of any cause or to the last contact.
    event
        0 censored; 1, 2, ... the cause.
    group
        One label per patient.
    variance
        ``delta`` (equal to R survfit's infinitesimal jackknife) or ``aalen`` (R cmprsk's cuminc).

    Raises
    ------
    StatisticsError
        If times are negative, codes are not whole or there is no event.

    References
    ----------
    Aalen and Johansen 1978; Aalen 1978, doi:10.1214/aos/1176344247; delta method: Dinse and Larson 1986,
    doi:10.1093/biomet/73.2.379.
    """
    if variance not in ("delta", "aalen"):
        raise StatisticsError(f"unknown variance {variance!r}", where="variance", remedy="use delta or aalen")
    t = inputs.times(time)
    code = causes(event, length=t.size)
    (t,) = inputs.merge_tied(t)
    groups, names = (np.zeros(t.size, dtype=np.intp), ["all"]) if group is None else inputs.labels(group, length=t.size)
    kinds = np.unique(code[code > 0])
    if kinds.size == 0:
        raise StatisticsError("nobody had an event of any cause", where="event")
    curves = []
    for index, name in enumerate(names):
        own_rows = groups == index
        own_time, own_code = t[own_rows], code[own_rows]
        steps, step = np.unique(own_time, return_inverse=True)
        n = np.cumsum(np.bincount(step, minlength=steps.size)[::-1])[::-1].astype(np.float64)
        d = inputs.sums(step, (own_code > 0).astype(np.float64), steps.size)
        s_before = np.concatenate([[1.0], np.cumprod(1 - d / n)[:-1]])
        for kind in kinds:
            own = inputs.sums(step, (own_code == kind).astype(np.float64), steps.size)
            spread = (_delta_variance if variance == "delta" else _aalen_variance)(s_before, n, d, own)
            curves.append(
                IncidenceCurve(
                    label=name,
                    cause=int(kind),
                    n=own_time.size,
                    events=int(own.sum()),
                    time=steps,
                    n_risk=n,
                    n_event=own,
                    incidence=np.cumsum(s_before * own / n),
                    std_err=np.sqrt(np.maximum(spread, 0.0)),
                    naive=1 - kaplan_meier(own_time, own_code == kind).curves[0].survival,
                    level=inputs.level(level),
                )
            )
    return CumulativeIncidence(tuple(curves))


def gray_test(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    *,
    cause: int = 1,
    strata: ArrayLike | None = None,
    rho: float = 0.0,
) -> HypothesisTest:
    """Gray's test for equal cumulative incidence of one cause in k groups.

    Parameters
    ----------
    time, event, group
        Follow-up, event code (0 censored, else the cause) and group per patient.
    cause
        The cause of interest; all others compete.
    strata
        Stratum per patient; scores and variances are added over strata.
    rho
        Weight (1 − F(t−))^rho.

    Raises
    ------
    StatisticsError
        If there is one group only, or no event of this cause.

    References
    ----------
    Gray 1988, doi:10.1214/aos/1176350951.
    """
    t = inputs.times(time)
    code = causes(event, length=t.size)
    groups, names = inputs.labels(group, length=t.size)
    if len(names) < 2:
        raise StatisticsError("Gray's test needs at least two groups", where="group")
    if not (code == cause).any():
        raise StatisticsError(f"nobody had the event {cause}", where="event")
    (t,) = inputs.merge_tied(t)
    blocks = np.zeros(t.size, dtype=np.intp) if strata is None else inputs.labels(strata, "strata", length=t.size)[0]
    k = len(names)
    score, covariance = np.zeros(k), np.zeros((k, k))
    for block in range(int(blocks.max()) + 1):
        own = blocks == block
        parts = _gray_parts(t[own], np.where(code[own] == cause, 1, np.where(code[own] > 0, 2, 0)), groups[own], k, rho)
        score += parts[0]
        covariance += parts[1]
    inner = covariance[:-1, :-1]
    statistic = float(score[:-1] @ np.linalg.pinv(inner, hermitian=True) @ score[:-1])
    df = int(np.linalg.matrix_rank(inner, hermitian=True))
    name = "Gray's test" + (", stratified" if strata is not None else "")
    return HypothesisTest(name, statistic, df, float(stats.chi2.sf(statistic, max(df, 1))))


def _gray_parts(
    time: NDArray[np.float64], code: NDArray[np.int64], group: NDArray[np.intp], k: int, rho: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scores (k,) and their covariance (k, k) of one stratum (Gray 1988, equations 2.2 and 3.7).

    With Y at risk, S survival and F incidence of group j just before t, and the pooled F0 of the null hypothesis
    (dF0 = dN / Σ Y/S), the score of group i changes by dN_i − dN R_i/R, where R_i = Y_i (1 − F_i)/S_i. Its variance
    collects, per group j, what each of that group's own events of either cause moves: directly by the weight
    a_ij, and later through the survival S_j by c_ij(∞) − c_ij(t), c the running integral of a_ij dF0/(1 − F0).
    """
    steps, index = np.unique(time, return_inverse=True)
    leaving = np.zeros((steps.size, k))
    np.add.at(leaving, (index, group), 1.0)
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    died1, died2 = np.zeros((steps.size, k)), np.zeros((steps.size, k))
    np.add.at(died1, (index, group), (code == 1).astype(np.float64))
    np.add.at(died2, (index, group), (code == 2).astype(np.float64))
    busy = (died1 + died2).sum(axis=1) > 0
    score = np.zeros(k)
    survival, incidence, pooled = np.ones(k), np.zeros(k), 0.0
    passed = np.zeros((k, k))
    v0, v1, v2 = np.zeros((k, k, k)), np.zeros((k, k)), np.zeros(k)
    for y, d1, d2 in zip(at_risk[busy], died1[busy], died2[busy], strict=True):
        alive = y > 0
        y_safe = np.where(alive, y, 1.0)
        after = np.where(alive, survival * (y - d1 - d2) / y_safe, survival)
        per_survival = y / np.where(alive, survival, 1.0)
        r = per_survival * (1 - incidence)
        total, all1 = float(per_survival.sum()), float(d1.sum())
        weight = (1 - pooled) ** rho
        pooled_after = pooled + all1 / total
        direct = weight * (np.diag(per_survival) - np.outer(per_survival, per_survival) / total)
        passed += direct * all1 / (total * (1 - pooled))
        if all1 > 0:
            score += weight * (d1 - all1 * r / r.sum())
            # Under the null hypothesis group j's share of the events of this cause is Y_j/S_j of the pooled ones.
            fits = alive & (after > 0)
            reach = np.where(fits, 1 - (1 - pooled_after) / np.where(fits, after, 1.0), 1.0)
            expected = total * survival
            tie = np.where((all1 > 1) & (expected > 1), 1 - (all1 - 1) / np.where(expected > 1, expected - 1, 1.0), 1.0)
            spread = np.where(alive, tie * survival * all1 / (total * y_safe), 0.0)
            moved = direct - reach * passed
            v0 += np.einsum("ij,lj,j->jil", moved, moved, spread)
            v1 += moved * (reach * spread)
            v2 += reach**2 * spread
        if d2.sum() > 0:
            fits = alive & (after > 0) & (d2 > 0)
            reach = np.where(fits, (1 - pooled_after) / np.where(fits, after, 1.0), 0.0)
            tie = np.where(d2 > 1, 1 - (d2 - 1) / np.where(y > 1, y - 1, 1.0), 1.0)
            spread = np.where(fits, tie * survival**2 * d2 / y_safe**2, 0.0)
            moved = reach * passed
            v0 += np.einsum("ij,lj,j->jil", moved, moved, spread)
            v1 -= moved * (reach * spread)
            v2 += reach**2 * spread
        incidence = np.where(alive, incidence + survival * d1 / y_safe, incidence)
        survival, pooled = after, pooled_after
    covariance = v0.sum(axis=0)
    covariance += (passed * v2) @ passed.T + passed @ v1.T + v1 @ passed.T
    return score, covariance
