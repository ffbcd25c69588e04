"""Firth's penalised Cox model: finite estimates where the ordinary likelihood has no maximum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.cox import CoxData, prepare
from cantlie.statistics.wald import ratio_table

_STEPS = 500


@dataclass(frozen=True, slots=True, eq=False)
class FirthCoxModel:
    """A Cox model with Firth's penalty (Breslow ties) and profile-likelihood intervals.

    Parameters
    ----------
    terms, coef, se
        Names, log hazard ratios and standard errors, shape (p,).
    lower, upper
        Limits of the hazard ratios from the profile of the penalised likelihood, shape (p,).
    p_value
        From the penalised likelihood ratio, shape (p,).
    loglik_null, loglik
        Penalised log likelihoods, with the penalty on covariates in units of their standard deviation (coxphf's
        constant).
    """

    terms: tuple[str, ...]
    coef: NDArray[np.float64]
    se: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    p_value: NDArray[np.float64]
    loglik_null: float
    loglik: float
    n: int
    n_events: int
    level: float
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per coefficient."""
        interval = np.column_stack([self.lower, self.upper])
        return ratio_table(self.terms, "hazard_ratio", self.coef, self.se, interval, self.p_value)


@njit(cache=True)
def _sums(
    x: NDArray[np.float64],
    eta: NDArray[np.float64],
    weight: NDArray[np.float64],
    leaves: NDArray[np.intp],
    joins: NDArray[np.intp],
    join_order: NDArray[np.intp],
    stratum_end: NDArray[np.intp],
    group_start: NDArray[np.intp],
    death_rows: NDArray[np.intp],
    score: NDArray[np.float64],
    information: NDArray[np.float64],
    third: NDArray[np.float64],
) -> float:
    """Add log likelihood, score, information and its derivative (third central moments) over all events."""
    p = x.shape[1]
    s0 = 0.0
    s1, s2, s3 = np.zeros(p), np.zeros((p, p)), np.zeros((p, p, p))
    groups = stratum_end.size
    late = join_order.size > 0
    value = 0.0
    row = joined = 0
    for k in range(groups - 1, -1, -1):
        if k == groups - 1 or stratum_end[k] != stratum_end[k + 1]:
            row = joined = stratum_end[k]
            s0 = 0.0
            s1[:] = 0.0
            s2[:] = 0.0
            s3[:] = 0.0
        while True:
            i, sign = -1, 1.0
            if row > 0 and leaves[row - 1] > k:
                row -= 1
                i = row
            elif late and joined > 0 and joins[join_order[joined - 1]] > k:
                joined -= 1
                i = join_order[joined]
                sign = -1.0
            if i < 0:
                break
            if leaves[i] <= joins[i]:
                continue
            r = sign * weight[i] * np.exp(eta[i])
            s0 += r
            for a in range(p):
                ra = r * x[i, a]
                s1[a] += ra
                for b in range(p):
                    rb = ra * x[i, b]
                    s2[a, b] += rb
                    for c in range(p):
                        s3[a, b, c] += rb * x[i, c]
        w = 0.0
        for j in range(group_start[k], group_start[k + 1]):
            i = death_rows[j]
            w += weight[i]
            value += weight[i] * eta[i]
            for a in range(p):
                score[a] += weight[i] * x[i, a]
        value -= w * np.log(s0)
        for a in range(p):
            ma = s1[a] / s0
            score[a] -= w * ma
            for b in range(p):
                mb = s1[b] / s0
                information[a, b] += w * (s2[a, b] / s0 - ma * mb)
                for c in range(p):
                    mc = s1[c] / s0
                    third[a, b, c] += w * (
                        s3[a, b, c] / s0 - (s2[a, b] * mc + s2[a, c] * mb + s2[b, c] * ma) / s0 + 2 * ma * mb * mc
                    )
    return value


def _penalised(
    data: CoxData, x: NDArray[np.float64], beta: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the penalised log likelihood, its score and the information."""
    sets = data.sets
    p = x.shape[1]
    score, information, third = np.zeros(p), np.zeros((p, p)), np.zeros((p, p, p))
    eta = x @ beta
    value = _sums(
        x, eta - eta.max(), sets.weight, sets.leaves, sets.joins, sets.join_order, sets.stratum_end, sets.group_start,
        sets.death_rows, score, information, third,
    )  # fmt: skip
    sign, logdet = np.linalg.slogdet(information)
    if sign <= 0:
        return -np.inf, score, information
    inverse = np.linalg.inv(information)
    return value + 0.5 * logdet, score + 0.5 * np.einsum("abc,ab->c", third, inverse), information


def _maximise(
    data: CoxData, x: NDArray[np.float64], start: NDArray[np.float64], fixed: int | None = None
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Maximise over all coefficients, or over all but one that keeps its starting value."""
    beta = start.copy()
    free = np.array([i for i in range(beta.size) if i != fixed], dtype=np.intp)
    value, score, information = _penalised(data, x, beta)
    if free.size == 0:
        return beta, value, information
    for _ in range(_STEPS):
        step = np.zeros(beta.size)
        step[free] = np.linalg.solve(information[np.ix_(free, free)], score[free])
        largest = float(np.abs(step).max())
        step *= min(1.0, 2.5 / max(largest, 1e-300))
        factor = 1.0
        after = _penalised(data, x, beta + step)
        while not after[0] >= value - 1e-12 * abs(value) and factor > 1e-7:
            factor /= 2
            after = _penalised(data, x, beta + factor * step)
        beta = beta + factor * step
        value, score, information = after
        if largest < 1e-10:
            return beta, value, information
    if float(np.abs(score[free]).max()) < 1e-5:
        return beta, value, information
    raise StatisticsError(
        "Firth's estimate did not settle", where="Firth's Cox model", remedy="use fewer or other covariates"
    )


def cox_firth(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    entry: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    names: tuple[str, ...] | list[str] | None = None,
    level: float = 0.95,
) -> FirthCoxModel:
    """Fit a Cox model with Firth's penalty, ½ log |information|, and Breslow ties.

    Use it when a covariate separates those with the event, or events are few: estimates stay finite. Intervals and
    p-values come from the profile of the penalised likelihood (Wald ones mislead here).

    Raises
    ------
    StatisticsError
        If there are no events, a covariate is constant, or the steps do not settle.

    References
    ----------
    Firth 1993, doi:10.1093/biomet/80.1.27; Heinze and Schemper 2001, doi:10.1111/j.0006-341X.2001.00114.x.
    """
    data = prepare(time, event, covariates, entry, strata, None, None, names)
    p = data.x.shape[1]
    scale = data.x.std(axis=0, ddof=1)
    x = np.ascontiguousarray(data.x / scale)
    null = _penalised(data, x, np.zeros(p))[0]
    beta, best, information = _maximise(data, x, np.zeros(p))
    inverse = np.linalg.inv(information)
    drop = float(stats.chi2.ppf(inputs.level(level), 1)) / 2
    lower, upper, p_value = np.empty(p), np.empty(p), np.empty(p)
    for j in range(p):
        at_zero = beta.copy()
        at_zero[j] = 0.0
        without = _maximise(data, x, at_zero, j)[1]
        p_value[j] = stats.chi2.sf(max(0.0, 2 * (best - without)), 1)
        lower[j] = _profile_limit(data, x, beta, best - drop, j, -float(np.sqrt(inverse[j, j])))
        upper[j] = _profile_limit(data, x, beta, best - drop, j, float(np.sqrt(inverse[j, j])))
    n_events = int(data.sets.event.sum())
    note = Note("intervals and p-values from the penalised profile likelihood", "Firth's Cox model", "info")
    return FirthCoxModel(
        terms=data.design.names,
        coef=beta / scale,
        se=np.sqrt(np.diag(inverse)) / scale,
        lower=np.exp(lower / scale),
        upper=np.exp(upper / scale),
        p_value=p_value,
        loglik_null=null,
        loglik=best,
        n=data.sets.time.size,
        n_events=n_events,
        level=level,
        notes=(note,),
    )


def _profile_limit(
    data: CoxData, x: NDArray[np.float64], beta: NDArray[np.float64], target: float, j: int, step: float
) -> float:
    """Return where the profile of coefficient j falls to the target, looking in the direction of ``step``."""
    place = beta.copy()

    def height(value: float) -> float:
        place[j] = value
        found, loglik, _ = _maximise(data, x, place, j)
        place[:] = found
        return loglik - target

    near, far = float(beta[j]), float(beta[j]) + 2 * step
    for _ in range(40):
        if height(far) < 0:
            break
        near, far = far, far + 2 * step
    else:
        return float(np.sign(step) * np.inf)
    return float(optimize.brentq(height, near, far, xtol=1e-9))
