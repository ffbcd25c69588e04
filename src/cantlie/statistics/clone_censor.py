"""Clone, censor, weight: strategies that start during follow-up compared as a trial would, without immortal time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.cox import CoxModel, cox
from cantlie.statistics.design import design
from cantlie.statistics.landmark import exposure_times
from cantlie.statistics.logistic import logistic

_MOST_CUTS = 24
_LARGE_WEIGHT = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class CloneCensorWeight:
    """The two strategies compared.

    Parameters
    ----------
    rows
        Start–stop rows of the clones: ``patient``, ``strategy`` (1 treat within the grace period, 0 do not), ``start``,
        ``stop``, ``event``, ``weight``.
    model, unweighted
        Cox models of the strategy with and without the weights; standard errors clustered by patient.
    naive
        Cox model of ever against never treated, with its immortal time, for comparison.
    grace
        Length of the grace period, in the unit of the times.
    censored
        Clones censored for leaving their strategy, by strategy.
    largest_weight
        Largest weight after truncation.
    """

    rows: pd.DataFrame
    model: CoxModel
    unweighted: CoxModel
    naive: CoxModel
    grace: float
    censored: dict[int, int]
    largest_weight: float
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per analysis: hazard ratio of treating with its interval."""
        models = [
            ("naive (ever/never)", self.naive),
            ("cloned and censored, unweighted", self.unweighted),
            ("cloned, censored and weighted", self.model),
        ]
        rows = [(name, float(m.hazard_ratio[0]), *m.interval[0].tolist()) for name, m in models]
        return pd.DataFrame(rows, columns=["analysis", "hazard_ratio", "lower", "upper"])


def clone_censor_weight(
    time: ArrayLike,
    event: ArrayLike,
    exposure_time: ArrayLike,
    covariates: pd.DataFrame | ArrayLike | None = None,
    *,
    grace: float,
    truncate: float | None = None,
) -> CloneCensorWeight:
    """Compare "start the treatment within the grace period" with "do not start it within the grace period".

    Every patient is copied into both strategies at time zero, so that what happens before the treatment counts in
    both. A copy is censored when its patient leaves its strategy: at the start of treatment in the second, at the end
    of the grace period without treatment in the first. As patients leave for reasons that bear on their outcome, those
    who stay are weighted by the inverse of their probability to stay, given the covariates at time zero: from a Cox
    model of the time to treatment (Breslow's baseline) in the second strategy, from a logistic regression among those
    alive at the end of the grace period in the first. Where treatments start at time zero itself, those who stay are
    weighted from just after it (Maringe et al.: a weight at time t is the inverse of the probability to be uncensored
    at t).

    Parameters
    ----------
    time, event
        Follow-up from time zero and event indicator.
    exposure_time
        When the treatment started; NaN for never.
    covariates
        What decides on treatment and outcome, known at time zero; None for weights from the times alone.
    grace
        Length of the grace period, in the unit of ``time``.
    truncate
        Quantile of all weights at which they are cut off; that steadies the estimate, but brings back a part of the
        confounding that the weights remove (in the tests a quantile of 0.99 leaves four fifths of it).

    Raises
    ------
    StatisticsError
        If nobody follows one of the strategies, or the models of the weights cannot be fitted.

    Notes
    -----
    The standard errors take the weights as known; a bootstrap over patients would be exact. A strategy with a grace
    period is one in which treatment starts within it as it did in the data.

    References
    ----------
    Hernán, Sauer, Hernández-Díaz, Platt and Shrier 2016, doi:10.1016/j.jclinepi.2016.04.014; Maringe et al. 2020,
    doi:10.1093/ije/dyaa057.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    start = exposure_times(exposure_time, t.size)
    if not grace > 0 or not np.isfinite(grace):
        raise StatisticsError(f"a grace period is positive, not {grace:g}", where="grace period")
    if (t == 0).any():
        raise StatisticsError(
            f"{int((t == 0).sum())} patients have no follow-up", where="time", remedy="give them half a day"
        )
    start = np.where(start > t, np.inf, start)
    within = start <= grace
    beyond = t > grace
    if not within.any() or not (beyond & ~within).any() or not (beyond & within).any():
        raise StatisticsError(
            f"nobody follows one of the strategies to {grace:g}",
            where="clone, censor, weight",
            remedy="choose another grace period",
        )
    x = None if covariates is None else design(covariates).matrix
    if x is not None and x.shape[0] != t.size:
        raise StatisticsError(f"{x.shape[0]} rows of covariates for {t.size} patients", where="covariates")
    cuts = _cuts(t, d, start, grace)
    late = _stay_untreated(t, start, x, grace, cuts)
    treat = _treated_rows(t, d, within, beyond, _stay_treated(within, beyond, x), grace)
    rows = pd.concat([treat, _untreated_rows(t, d, start, within, late, grace, cuts)], ignore_index=True)
    notes = []
    largest = float(rows["weight"].max())
    if truncate is not None:
        limit = float(np.quantile(rows["weight"], truncate))
        cut = int((rows["weight"] > limit).sum())
        if cut:
            notes.append(
                Note(
                    f"weights cut off at {limit:.2f} (quantile {truncate:g}), largest {largest:.1f}", "weights", "info"
                )
            )
        rows["weight"] = np.minimum(rows["weight"], limit)
        largest = min(largest, limit)
    if largest > _LARGE_WEIGHT:
        notes.append(
            Note(f"a weight of {largest:.0f}: few patients of some kind follow one strategy; truncate it", "weights")
        )
    if x is None:
        notes.append(Note("no covariates: whatever decides on treatment and outcome still confounds them", "weights"))

    def fit(weights: NDArray[np.float64] | None) -> CoxModel:
        return cox(
            rows["stop"], rows["event"], rows[["strategy"]].astype(float), entry=rows["start"],
            weights=weights, cluster=rows["patient"], names=["treat within grace"],
        )  # fmt: skip

    censored = {1: int((beyond & ~within).sum()), 0: int(within.sum())}
    ever = np.isfinite(start)
    naive = cox(t, d, ever.astype(np.float64), names=["ever treated"])
    weight = rows["weight"].to_numpy(dtype=np.float64)
    return CloneCensorWeight(rows, fit(weight), fit(None), naive, float(grace), censored, largest, tuple(notes))


def _cuts(
    t: NDArray[np.float64], d: NDArray[np.bool_], start: NDArray[np.float64], grace: float
) -> NDArray[np.float64]:
    """Return the times up to the end of the grace period at which weights change: some quantiles of the starts.

    Time zero is one of them where treatments start then: who is untreated just after it is weighted from there on.
    """
    starts = np.unique(start[start <= grace])
    if starts.size > _MOST_CUTS:
        starts = np.unique(np.quantile(starts, np.linspace(0, 1, _MOST_CUTS)))
    return np.unique(np.append(starts[starts < grace], grace))


def _stay_untreated(
    t: NDArray[np.float64],
    start: NDArray[np.float64],
    x: NDArray[np.float64] | None,
    grace: float,
    cuts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the probability to be untreated yet at each cut, shape (n, cuts)."""
    stop = np.minimum(np.minimum(start, t), grace)
    left = start <= np.minimum(t, grace)
    relative = np.ones(t.size)
    if x is not None:
        model = cox(stop, left, x, ties="breslow")
        relative = np.exp((x - x.mean(axis=0)) @ model.coef)
    order = np.argsort(stop, kind="stable")
    at_risk = np.cumsum(relative[order][::-1])[::-1]
    times, first_place = np.unique(stop[order], return_index=True)
    starts = np.add.reduceat(left[order].astype(float), first_place)
    hazard = np.cumsum(starts / at_risk[first_place])
    place = np.searchsorted(times, cuts, side="right") - 1
    baseline = np.where(place >= 0, hazard[np.maximum(place, 0)], 0.0)
    return np.asarray(np.exp(-relative[:, None] * baseline[None, :]), dtype=np.float64)


def _stay_treated(
    within: NDArray[np.bool_], beyond: NDArray[np.bool_], x: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the probability that the treatment had started by the end of the grace period, given life to it."""
    probability = np.full(within.size, float(within[beyond].mean()))
    if x is not None:
        probability[beyond] = logistic(within[beyond].astype(float), x[beyond]).fitted
    return probability


def _treated_rows(
    t: NDArray[np.float64],
    d: NDArray[np.bool_],
    within: NDArray[np.bool_],
    beyond: NDArray[np.bool_],
    stay: NDArray[np.float64],
    grace: float,
) -> pd.DataFrame:
    everyone = np.arange(t.size)
    later = np.flatnonzero(beyond & within)
    return pd.DataFrame(
        {
            "patient": np.concatenate([everyone, later]),
            "strategy": 1,
            "start": np.concatenate([np.zeros(t.size), np.full(later.size, grace)]),
            "stop": np.concatenate([np.minimum(t, grace), t[later]]),
            "event": np.concatenate([d & ~beyond, d[later]]).astype(int),
            "weight": np.concatenate([np.ones(t.size), 1 / stay[later]]),
        }
    )


def _untreated_rows(
    t: NDArray[np.float64],
    d: NDArray[np.bool_],
    start: NDArray[np.float64],
    within: NDArray[np.bool_],
    stay: NDArray[np.float64],
    grace: float,
    cuts: NDArray[np.float64],
) -> pd.DataFrame:
    stop = np.where(within, np.minimum(start, t), t)
    happened = d & (~within | (start > t))
    frames = []
    for number in range(cuts.size + 1):
        low = 0.0 if number == 0 else float(cuts[number - 1])
        high = np.inf if number == cuts.size else float(cuts[number])
        if high == 0:
            continue
        own = np.flatnonzero(stop > low)
        weight = np.ones(own.size) if number == 0 else 1 / stay[own, number - 1]
        end = np.minimum(stop[own], high)
        frames.append(
            pd.DataFrame(
                {
                    "patient": own,
                    "strategy": 0,
                    "start": low,
                    "stop": end,
                    "event": (happened[own] & (stop[own] <= high)).astype(int),
                    "weight": weight,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
