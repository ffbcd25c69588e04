"""Kaplan–Meier: curves, intervals, medians, rates at times, numbers at risk, follow-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.wald import normal_quantile

ConfidenceType = Literal["plain", "log", "log-log"]
_ROUNDING = float(np.sqrt(np.finfo(np.float64).eps))


@dataclass(frozen=True, slots=True)
class Quantile:
    """A time by which a given share has had the event, with its interval; NaN where a curve does not reach it."""

    share: float
    time: float
    lower: float
    upper: float
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalCurve:
    """One Kaplan–Meier curve, a right-continuous step function over its distinct times.

    Parameters
    ----------
    label
        Name of the group.
    n, events
        Number of patients (or of intervals with entry times) and of events, unweighted.
    time
        Distinct times at which someone has the event or is censored, shape (m,), ascending.
    n_risk, n_event, n_censored
        Weighted counts just before and at each time, shape (m,).
    survival, std_err, lower, upper
        S(t), its standard error (Greenwood, or robust for clusters and weights) and interval, shape (m,).
    confidence_type, level
        How the interval was made.
    """

    label: Any
    n: int
    events: int
    time: NDArray[np.float64]
    n_risk: NDArray[np.float64]
    n_event: NDArray[np.float64]
    n_censored: NDArray[np.float64]
    survival: NDArray[np.float64]
    std_err: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    confidence_type: ConfidenceType
    level: float
    entered: NDArray[np.float64] | None = None
    left: NDArray[np.float64] | None = None
    weight: NDArray[np.float64] | None = None

    def at_risk(self, times: ArrayLike) -> NDArray[np.float64]:
        """Return the (weighted) number at risk just before each time, patients with exactly that time included."""
        asked = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if self.left is None or self.weight is None:
            raise StatisticsError("this curve was not made from patient data", where=str(self.label))
        order = np.argsort(self.left, kind="stable")
        tail = np.concatenate([np.cumsum(self.weight[order][::-1])[::-1], [0.0]])
        result = tail[np.searchsorted(self.left[order], asked, side="left")]
        if self.entered is not None:
            order = np.argsort(self.entered, kind="stable")
            tail = np.concatenate([np.cumsum(self.weight[order][::-1])[::-1], [0.0]])
            result = result - tail[np.searchsorted(self.entered[order], asked, side="left")]
        return result

    def rates(self, times: ArrayLike) -> pd.DataFrame:
        """Return S(t) with its interval and the number at risk at the given times; NaN beyond the last follow-up."""
        asked = np.atleast_1d(np.asarray(times, dtype=np.float64))
        index = np.searchsorted(self.time, asked, side="right")
        beyond = (asked > self.time[-1]) & (self.survival[-1] > 0)

        def step(values: NDArray[np.float64], start: float) -> NDArray[np.float64]:
            return np.where(beyond, np.nan, np.concatenate([[start], values])[index])

        return pd.DataFrame(
            {
                "time": asked,
                "n_risk": self.at_risk(asked),
                "survival": step(self.survival, 1.0),
                "std_err": step(self.std_err, 0.0),
                "lower": step(self.lower, 1.0),
                "upper": step(self.upper, 1.0),
            }
        )

    def quantile(self, share: float = 0.5) -> Quantile:
        """Return the time by which ``share`` have had the event, with the interval of Brookmeyer and Crowley.

        The limits are where the horizontal line at 1 − share meets the confidence band; where a curve runs exactly
        along the line, the middle of that step counts (as in R).

        References
        ----------
        Brookmeyer and Crowley 1982, doi:10.2307/2530286.
        """
        if not 0 < share < 1:
            raise StatisticsError(f"a quantile lies between 0 and 1, not {share:g}", where="quantile")
        height = 1 - share
        time, lower, upper = (_crossing(self.time, curve, height) for curve in (self.survival, self.lower, self.upper))
        return Quantile(share, time, lower, upper, f"Brookmeyer–Crowley, {self.confidence_type} band")

    @property
    def median(self) -> Quantile:
        """Median time with the interval of Brookmeyer and Crowley."""
        return self.quantile(0.5)

    def median_symmetric(self, share: float = 0.5) -> Quantile:
        """Return a quantile with the symmetric interval that SPSS prints: estimate ± z SE.

        SE = SE{S(t)} / f(t), with the density f estimated from the curve between S ≥ 1 − share + 0.05 and
        S ≤ 1 − share − 0.05; NaN where the curve does not fall that far.

        References
        ----------
        Collett, Modelling Survival Data in Medical Research, section 2.4; IBM SPSS Statistics Algorithms, KM.
        """
        height = 1 - share
        reached = np.flatnonzero(self.survival <= height + _ROUNDING)
        missing = Quantile(share, np.nan, np.nan, np.nan, "symmetric (SPSS)")
        if reached.size == 0:
            return missing
        time = float(self.time[reached[0]])
        had_event = self.n_event > 0
        steps = np.concatenate([[0.0], self.time[had_event]])
        values = np.concatenate([[1.0], self.survival[had_event]])
        before = np.flatnonzero(values >= height + 0.05 - _ROUNDING)
        after = np.flatnonzero(values <= height - 0.05 + _ROUNDING)
        if after.size == 0 or before.size == 0:
            return Quantile(share, time, np.nan, np.nan, "symmetric (SPSS)")
        first, last = before[-1], after[0]
        density = (values[first] - values[last]) / (steps[last] - steps[first])
        half = float(normal_quantile(self.level) * self.std_err[reached[0]] / density)
        return Quantile(share, time, time - half, time + half, "symmetric (SPSS)")

    def table(self) -> pd.DataFrame:
        """Return the whole curve as a table, one row per distinct time."""
        columns = ("time", "n_risk", "n_event", "n_censored", "survival", "std_err", "lower", "upper")
        return pd.DataFrame({name: getattr(self, name) for name in columns})


@dataclass(frozen=True, slots=True, eq=False)
class KaplanMeier:
    """Kaplan–Meier curves of one or more groups."""

    curves: tuple[SurvivalCurve, ...]
    notes: tuple[Note, ...] = ()

    def __getitem__(self, label: Any) -> SurvivalCurve:
        """Return the curve of a group by its label."""
        for curve in self.curves:
            if curve.label == label:
                return curve
        raise StatisticsError(
            f"there is no group {label!r}", where="group", remedy=f"choose from {[c.label for c in self.curves]}"
        )

    def table(self) -> pd.DataFrame:
        """Return one row per group: n, events, median and its interval."""
        rows = []
        for curve in self.curves:
            median = curve.median
            rows.append(
                {
                    "group": curve.label,
                    "n": curve.n,
                    "events": curve.events,
                    "median": median.time,
                    "median_lower": median.lower,
                    "median_upper": median.upper,
                }
            )
        return pd.DataFrame(rows)

    def rates(self, times: ArrayLike) -> pd.DataFrame:
        """Return the rates at the given times for every group."""
        tables = [curve.rates(times).assign(group=curve.label) for curve in self.curves]
        return pd.concat(tables, ignore_index=True).reindex(columns=["group", *tables[0].columns[:-1]])


def _crossing(time: NDArray[np.float64], curve: NDArray[np.float64], height: float) -> float:
    """Return where a falling step function meets a height: the middle of a step that lies exactly on it."""
    low = np.flatnonzero(curve <= height + _ROUNDING)
    if low.size == 0:
        return float("nan")
    first = low[0]
    if abs(curve[first] - height) < _ROUNDING:
        below = np.flatnonzero(curve < height - _ROUNDING)
        return float((time[first] + (time[below[0]] if below.size else time[-1])) / 2)
    return float(time[first])


def confidence_band(
    survival: NDArray[np.float64], std_err: NDArray[np.float64], kind: ConfidenceType, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper limits of S(t) from its standard error; NaN where a transformation is undefined.

    References
    ----------
    Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, section 1.4.
    """
    z = normal_quantile(inputs.level(level))
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "plain":
            return np.maximum(survival - z * std_err, 0.0), np.minimum(survival + z * std_err, 1.0)
        relative = std_err / survival
        if kind == "log":
            factor = np.exp(z * relative)
            lower = np.where(survival > 0, survival / factor, np.nan)
            return lower, np.where(survival > 0, np.minimum(survival * factor, 1.0), np.nan)
        if kind == "log-log":
            inside = (survival > 0) & (survival < 1)
            log_s = np.log(np.where(inside, survival, 0.5))
            power = np.exp(z * relative / np.abs(log_s))
            lower = np.where(inside, np.exp(log_s * power), np.nan)
            return lower, np.where(inside, np.exp(log_s / power), np.nan)
    raise StatisticsError(
        f"unknown confidence type {kind!r}", where="confidence_type", remedy="use plain, log or log-log"
    )


def _robust_std_err(
    time: NDArray[np.float64],
    entry: NDArray[np.float64] | None,
    event: NDArray[np.bool_],
    weight: NDArray[np.float64],
    cluster: NDArray[np.intp],
    steps: NDArray[np.float64],
    at_risk: NDArray[np.float64],
    died: NDArray[np.float64],
    survival: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the infinitesimal-jackknife standard error of S at each step, summed over clusters."""
    with np.errstate(divide="ignore", invalid="ignore"):
        drift = np.where(died > 0, 1 / (at_risk - died) - 1 / at_risk, 0.0)
        jump = np.where(died > 0, 1 / (at_risk - died), 0.0)
    drift[~np.isfinite(drift)] = 0.0
    jump[~np.isfinite(jump)] = 0.0
    exit_step = np.searchsorted(steps, time, side="right") - 1
    entry_step = (
        np.searchsorted(steps, entry, side="right") if entry is not None else np.zeros(time.size, dtype=np.intp)
    )
    total = np.zeros(steps.size)
    running = np.zeros(int(cluster.max()) + 1)
    active = np.zeros(int(cluster.max()) + 1)
    by_exit = np.argsort(exit_step, kind="stable")
    by_entry = np.argsort(entry_step, kind="stable")
    gone = joined = 0
    n = time.size
    for k in range(steps.size):
        while joined < n and entry_step[by_entry[joined]] <= k:
            i = by_entry[joined]
            active[cluster[i]] += weight[i]
            joined += 1
        running += active * drift[k]
        while gone < n and exit_step[by_exit[gone]] <= k:
            i = by_exit[gone]
            active[cluster[i]] -= weight[i]
            if event[i]:
                running[cluster[i]] -= weight[i] * jump[k]
            gone += 1
        total[k] = (running**2).sum()
    return np.where(survival > 0, survival * np.sqrt(total), np.nan)


def _curve(
    label: Any,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None,
    weight: NDArray[np.float64],
    cluster: NDArray[np.intp] | None,
    kind: ConfidenceType,
    level: float,
) -> SurvivalCurve:
    steps, index = np.unique(time, return_inverse=True)
    died = inputs.sums(index, weight * event, steps.size)
    censored = inputs.sums(index, weight * ~event, steps.size)
    at_risk = np.cumsum((died + censored)[::-1])[::-1]
    if entry is not None:
        late = inputs.sums(np.searchsorted(steps, entry, side="right"), weight, steps.size + 1)
        at_risk = at_risk - (np.cumsum(late[::-1])[::-1])[1:]
        at_risk = np.maximum(at_risk, died)
    with np.errstate(divide="ignore", invalid="ignore"):
        survival: NDArray[np.float64] = np.cumprod(np.where(died > 0, (at_risk - died) / at_risk, 1.0)).astype(
            np.float64
        )
        survival[survival < 1e-15] = 0.0
        if cluster is None:
            greenwood = np.cumsum(np.where(died > 0, died / (at_risk * (at_risk - died)), 0.0))
            std_err = np.where(survival > 0, survival * np.sqrt(greenwood), np.nan)
        else:
            std_err = _robust_std_err(time, entry, event, weight, cluster, steps, at_risk, died, survival)
    lower, upper = confidence_band(survival, std_err, kind, level)
    return SurvivalCurve(
        label=label,
        n=time.size,
        events=int(event.sum()),
        time=steps,
        n_risk=at_risk,
        n_event=died,
        n_censored=censored,
        survival=survival,
        std_err=std_err,
        lower=lower,
        upper=upper,
        confidence_type=kind,
        level=level,
        entered=entry,
        left=time,
        weight=weight,
    )


def kaplan_meier(
    time: ArrayLike,
    event: ArrayLike,
    *,
    group: ArrayLike | None = None,
    entry: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    confidence_type: ConfidenceType = "log-log",
    level: float = 0.95,
) -> KaplanMeier:
    """Estimate survival by Kaplan and Meier, with Greenwood's standard error.

    Parameters
    ----------
    time
        Time to the event or to the last contact, in any one unit, not negative.
    event
        1 or True for the event, 0 or False for censored; censored patients count as at risk at their time.
    group
        One label per patient; a curve for each.
    entry
        Time at which a patient comes under observation (left truncation).
    weights
        Case weights; with them (or a ``cluster``) the standard error is the infinitesimal jackknife's.
    cluster
        Patient of each row, where rows (lesions, eyes) are not independent.
    confidence_type
        Transformation of the pointwise interval.

    Raises
    ------
    StatisticsError
        If a time is negative or missing, the event is not coded 0/1, or lengths differ.

    References
    ----------
    Kaplan and Meier 1958, doi:10.1080/01621459.1958.10501452; Greenwood 1926.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    e = None
    if entry is not None:
        e = inputs.numbers(entry, "entry", length=t.size)
        if (e >= t).any():
            row = int(np.flatnonzero(e >= t)[0])
            raise StatisticsError(f"entry is not before the end of follow-up in row {row}", where="entry")
        t, e = inputs.merge_tied(t, e)
    else:
        (t,) = inputs.merge_tied(t)
    w = inputs.weights(weights, t.size)
    codes, names = (np.zeros(t.size, dtype=np.intp), ["all"]) if group is None else inputs.labels(group, length=t.size)
    members: NDArray[np.intp] | None = None
    if cluster is not None:
        members = inputs.labels(cluster, "cluster", length=t.size)[0]
    elif weights is not None:
        members = np.arange(t.size, dtype=np.intp)
    curves, notes = [], []
    for code, name in enumerate(names):
        own = codes == code
        if not d[own].any():
            notes.append(Note("no events, so no median and no interval", where=f"Kaplan–Meier, group {name}"))
        curves.append(
            _curve(
                name,
                t[own],
                d[own],
                None if e is None else e[own],
                w[own],
                None if members is None else np.unique(members[own], return_inverse=True)[1],
                confidence_type,
                level,
            )
        )
    return KaplanMeier(tuple(curves), tuple(notes))


@dataclass(frozen=True, slots=True)
class FollowUp:
    """How long patients were followed, by the usual definitions that papers mix."""

    reverse_kaplan_meier: Quantile
    median_all: float
    median_survivors: float
    minimum: float
    maximum: float

    def table(self) -> pd.DataFrame:
        """Return one row per definition."""
        reverse = self.reverse_kaplan_meier
        rows = [
            ("reverse Kaplan–Meier median", reverse.time, reverse.lower, reverse.upper),
            ("median of all patients", self.median_all, self.minimum, self.maximum),
            ("median of patients without the event", self.median_survivors, np.nan, np.nan),
        ]
        return pd.DataFrame(rows, columns=["definition", "time", "lower", "upper"])


def follow_up(
    time: ArrayLike, event: ArrayLike, *, confidence_type: ConfidenceType = "plain", level: float = 0.95
) -> FollowUp:
    """Return the median follow-up by reverse Kaplan–Meier, of all patients (with range) and of those without the event.

    References
    ----------
    Schemper and Smith 1996, doi:10.1016/0197-2456(96)00075-X.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    reverse = kaplan_meier(t, ~d, confidence_type=confidence_type, level=level).curves[0].median
    alive = float(np.median(t[~d])) if (~d).any() else float("nan")
    return FollowUp(reverse, float(np.median(t)), alive, float(t.min()), float(t.max()))
