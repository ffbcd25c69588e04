"""The Cox model: Efron, Breslow and exact ties, late entry, strata, weights, clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.concordance import Concordance, concordance
from cantlie.statistics.cox_exact import exact_likelihood
from cantlie.statistics.design import Design, check_varies, design
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.statistics.risk_sets import Likelihood, RiskSets, Ties, exposure, likelihood, risk_sets, risk_sums
from cantlie.statistics.wald import ratio_interval, ratio_table, two_sided_p

TiesMethod = Literal["efron", "breslow", "exact"]
_FIREBREAK_STEPS = 60
_VANISHED = 1e-6  # share of the information at zero below which an estimate is no maximum
_SINGULAR = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class CoxData:
    """What a fitted model was made from: sorted risk sets, centred covariates in sorted order, clusters."""

    sets: RiskSets
    x: NDArray[np.float64]
    centre: NDArray[np.float64]
    design: Design
    strata: tuple[Any, ...]
    cluster: NDArray[np.intp] | None


@dataclass(frozen=True, slots=True, eq=False)
class CoxModel:
    """A fitted Cox model.

    Parameters
    ----------
    terms
        Names of the coefficients.
    coef, se
        Log hazard ratios and the standard errors that the tests use (robust ones if asked for), shape (p,).
    naive_se
        Standard errors from the information, shape (p,); the same as ``se`` without clusters or weights.
    covariance, naive_covariance
        Their covariance matrices, shape (p, p).
    loglik_null, loglik
        Log partial likelihood at zero and at the estimate.
    likelihood_ratio_test, wald_test, score_test, robust_score_test
        Global tests.
    n, n_events, ties, level, notes
        Number of rows and events, treatment of ties, confidence level, remarks.
    """

    terms: tuple[str, ...]
    coef: NDArray[np.float64]
    se: NDArray[np.float64]
    naive_se: NDArray[np.float64]
    covariance: NDArray[np.float64]
    naive_covariance: NDArray[np.float64]
    loglik_null: float
    loglik: float
    likelihood_ratio_test: HypothesisTest
    wald_test: HypothesisTest
    score_test: HypothesisTest
    robust_score_test: HypothesisTest | None
    concordance: Concordance
    n: int
    n_events: int
    ties: TiesMethod
    robust: bool
    iterations: int
    level: float
    notes: tuple[Note, ...]
    data: CoxData

    @property
    def hazard_ratio(self) -> NDArray[np.float64]:
        """Hazard ratios, shape (p,)."""
        return np.exp(self.coef)

    @property
    def interval(self) -> NDArray[np.float64]:
        """Lower and upper limits of the hazard ratios, shape (p, 2)."""
        return ratio_interval(self.coef, self.se, self.level)

    @property
    def z(self) -> NDArray[np.float64]:
        """Wald statistics, shape (p,)."""
        return self.coef / self.se

    @property
    def p_value(self) -> NDArray[np.float64]:
        """Two-sided Wald p-values, shape (p,)."""
        return two_sided_p(self.z)

    @property
    def aic(self) -> float:
        """Akaike's information criterion, 2p − 2 log L."""
        return 2.0 * len(self.terms) - 2.0 * self.loglik

    def table(self) -> pd.DataFrame:
        """Return one row per coefficient: hazard ratio, interval, z, p."""
        table = ratio_table(self.terms, "hazard_ratio", self.coef, self.se, self.interval, self.p_value)
        table.insert(table.columns.size - 1, "z", self.z)
        return table

    def baseline_hazard(self) -> pd.DataFrame:
        """Return the cumulative baseline hazard (all covariates 0) at each distinct time, per stratum."""
        sets, sums = self.data.sets, risk_sums(self.data.sets, self.data.x, self.coef, self._step_ties)
        steps = np.add.reduceat(sums.increment, sets.group_start[:-1]) * np.exp(
            -sums.shift - self.data.centre @ self.coef
        )
        tables = []
        for code, name in enumerate(self.data.strata):
            times = np.unique(sets.time[sets.stratum == code])
            own = sets.group_stratum == code
            total = np.concatenate([[0.0], np.cumsum(steps[own])])
            hazard = total[np.searchsorted(sets.group_time[own], times, side="right")]
            tables.append(pd.DataFrame({"stratum": name, "time": times, "hazard": hazard}))
        return pd.concat(tables, ignore_index=True)

    @property
    def _step_ties(self) -> Ties:
        return "efron" if self.ties == "efron" else "breslow"


def _identified(information: NDArray[np.float64], start: NDArray[np.float64]) -> bool:
    """Return whether the information has not vanished in any direction on the way from zero.

    Where a combination of covariates separates those with the event, the steps may settle on a plateau far out: the
    likelihood is flat there, the naive error huge, and a robust error deceptively small.
    """
    if not np.isfinite(information).all() or not (np.diag(start) > 0).all():
        return False
    size = np.sqrt(np.diag(start))
    now, then = (float(np.linalg.eigvalsh(m / np.outer(size, size))[0]) for m in (information, start))
    return then > _SINGULAR and now > _VANISHED * then


def newton(
    evaluate: Callable[[NDArray[np.float64]], Likelihood], p: int, *, tolerance: float | None = None
) -> tuple[NDArray[np.float64], Likelihood, Likelihood, int, bool]:
    """Maximise a concave log likelihood from zero.

    Returns the estimate, the likelihood there and at zero, the number of steps and whether it has a maximum. Without a
    ``tolerance`` the steps go on until rounding; with one they stop as R does, when the likelihood changes by a
    smaller relative amount.
    """
    beta = np.zeros(p)
    start = now = evaluate(beta)
    if p == 0:
        return beta, start, start, 0, True
    for step_number in range(1, _FIREBREAK_STEPS + 1):
        try:
            step = np.linalg.solve(now.information, now.score)
        except np.linalg.LinAlgError:
            return beta, now, start, step_number, False
        gain = float(step @ now.score)
        if not np.isfinite(gain) or gain < 0:
            return beta, now, start, step_number, False
        factor = 1.0
        try:
            after = evaluate(beta + step)
            while not (after.value >= now.value - 1e-9 * abs(now.value)) and factor > 1e-8:
                factor /= 2
                after = evaluate(beta + factor * step)
        except ZeroDivisionError:  # hazard ratios beyond what floats hold: nobody is left in a risk set
            return beta, now, start, step_number, False
        before, now, beta = now, after, beta + factor * step
        change = abs(now.value - before.value)
        if tolerance is not None:
            if abs(1 - before.value / now.value) <= tolerance if now.value else change <= tolerance:
                return beta, now, start, step_number, True
            continue
        if factor == 1.0 and gain < 1e-9:
            return beta, now, start, step_number, _identified(now.information, start.information)
        if change < 1e-8 * max(abs(now.value), 1.0) and float(np.abs(step).max()) > 0.3:
            shrunk = np.diag(now.information) < 1e-4 * np.diag(start.information)
            if shrunk.any():
                return beta, now, start, step_number, False
    return beta, now, start, _FIREBREAK_STEPS, False


def score_residuals(data: CoxData, beta: NDArray[np.float64], ties: Ties) -> NDArray[np.float64]:
    """Return each row's (unweighted) contribution to the score, in sorted order, shape (n, p).

    References
    ----------
    Lin and Wei 1989, doi:10.1080/01621459.1989.10478874; Therneau and Grambsch, Modeling Survival Data, section 7.1.
    """
    sets, x = data.sets, data.x
    sums = risk_sums(sets, x, beta, ties)
    increment = sums.increment
    hazard = exposure(sets, increment, increment * sums.share)
    moment = sums.mean * increment[:, None]
    drift = exposure(sets, moment, moment * sums.share[:, None])
    result = sums.hazard_ratio[:, None] * (drift - x * hazard[:, None])
    size = np.diff(sets.group_start)
    average = np.add.reduceat(sums.mean, sets.group_start[:-1], axis=0) / size[:, None]
    result[sets.death_rows] += x[sets.death_rows] - average[sets.group_of_death]
    return result


def _grouped(values: NDArray[np.float64], cluster: NDArray[np.intp] | None) -> NDArray[np.float64]:
    if cluster is None:
        return values
    result = np.zeros((int(cluster.max()) + 1, values.shape[1]))
    np.add.at(result, cluster, values)
    return result


def _chi2(name: str, statistic: float, df: int) -> HypothesisTest:
    return HypothesisTest(name, statistic, df, float(stats.chi2.sf(statistic, df)))


def cox(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    entry: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    robust: bool | None = None,
    ties: TiesMethod = "efron",
    names: tuple[str, ...] | list[str] | None = None,
    level: float = 0.95,
    infinite: Literal["error", "note"] = "error",
) -> CoxModel:
    """Fit a Cox proportional hazards model.

    Parameters
    ----------
    time, event
        Follow-up and event indicator (0/1) per row.
    covariates
        Table or array, one row per patient (or per interval); text and categorical columns become indicators against
        their first level.
    entry
        Start of each interval, for late entry and covariates that change with time (start–stop rows).
    strata
        Label per row; each stratum has its own baseline hazard.
    weights
        Case weights (matching, inverse probability).
    cluster
        Patient of each row; standard errors become robust (grouped sandwich).
    robust
        Ask for robust standard errors without clusters; on by default if weights are not whole numbers, as in R.
    ties
        ``efron`` (default), ``breslow`` (SPSS's), ``exact`` (discrete times; no weights).
    infinite
        What to do if a coefficient has no finite maximum: an error, or stop where R stops and say so in a note.

    Raises
    ------
    StatisticsError
        If there are no events, a covariate is constant or redundant, or one separates those with the event.

    References
    ----------
    Cox 1972, doi:10.1111/j.2517-6161.1972.tb00899.x; Efron 1977, doi:10.1080/01621459.1977.10480613; robust errors: Lin
    and Wei 1989, doi:10.1080/01621459.1989.10478874.
    """
    if ties not in ("efron", "breslow", "exact"):
        raise StatisticsError(f"unknown treatment of ties {ties!r}", where="ties", remedy="efron, breslow or exact")
    data = prepare(time, event, covariates, entry, strata, weights, cluster, names)
    sets, x = data.sets, data.x
    p = x.shape[1]
    whole = bool((sets.weight == np.rint(sets.weight)).all())
    if robust is None:
        robust = cluster is not None or (weights is not None and not whole)
    if ties == "exact" and (robust or not (sets.weight == 1).all()):
        raise StatisticsError(
            "exact ties cannot be combined with weights or clusters", where="ties", remedy="use Efron's method"
        )
    spread = np.sqrt(np.einsum("ij,ij->j", x, x) / x.shape[0])
    scale = np.where(spread > 0, spread, 1.0)
    scaled = x / scale

    def evaluate(beta: NDArray[np.float64]) -> Likelihood:
        return exact_likelihood(sets, scaled, beta) if ties == "exact" else likelihood(sets, scaled, beta, ties)

    notes: list[Note] = []
    beta, fit, null, steps = _maximum(evaluate, p, data.design.names, infinite, notes)
    try:
        inverse = np.linalg.inv(fit.information)
    except np.linalg.LinAlgError as error:
        raise StatisticsError("the information matrix is singular", where="Cox model", remedy="use fewer") from error
    naive = inverse / np.outer(scale, scale)
    coef = beta / scale
    covariance, robust_score = naive, None
    if robust and ties != "exact":
        covariance, robust_score = _sandwich(data, coef, naive, ties)
    likelihood_ratio = _chi2("likelihood-ratio test", 2 * (fit.value - null.value), p)
    # With fewer clusters than coefficients a robust covariance has no inverse.
    inverted = np.linalg.pinv(covariance, hermitian=True) if robust else np.linalg.inv(covariance)
    wald = _chi2("Wald test", float(coef @ inverted @ coef) if p else 0.0, p)
    score = _chi2("score test", float(null.score @ np.linalg.solve(null.information, null.score)) if p else 0.0, p)
    n_events = int(sets.event.sum())
    if p and n_events < 10 * p:
        notes.append(
            Note(f"{n_events} events for {p} coefficients: fewer than 10 events per coefficient", where="Cox model")
        )
    return CoxModel(
        terms=data.design.names,
        coef=coef,
        se=np.sqrt(np.diag(covariance)),
        naive_se=np.sqrt(np.diag(naive)),
        covariance=covariance,
        naive_covariance=naive,
        loglik_null=null.value,
        loglik=fit.value,
        likelihood_ratio_test=likelihood_ratio,
        wald_test=wald,
        score_test=score,
        robust_score_test=robust_score,
        concordance=concordance(sets, x @ coef, data.cluster if cluster is not None else None),
        n=sets.time.size,
        n_events=n_events,
        ties=ties,
        robust=robust,
        iterations=steps,
        level=inputs.level(level),
        notes=tuple(notes),
        data=data,
    )


def _maximum(
    evaluate: Callable[[NDArray[np.float64]], Likelihood],
    size: int,
    names: Sequence[str],
    infinite: Literal["error", "note"],
    notes: list[Note],
) -> tuple[NDArray[np.float64], Likelihood, Likelihood, int]:
    """Return coefficients, the likelihood at them and at zero, and the steps; an infinite one is said or refused."""
    beta, fit, null, steps, finite = newton(evaluate, size)
    if finite:
        return beta, fit, null, steps
    worst = names[int(np.argmax(np.abs(beta)))]
    if infinite == "error":
        raise StatisticsError(
            "the likelihood has no maximum: the coefficient grows without limit (separation)",
            where=f"Cox model, covariate {worst}",
            remedy="use Firth's penalised Cox model, or leave the covariate out",
        )
    beta, fit, null, steps, _ = newton(evaluate, size, tolerance=1e-9)
    notes.append(Note(f"the coefficient of {worst} is infinite; its printed value means nothing", where="Cox model"))
    return beta, fit, null, steps


def _sandwich(
    data: CoxData, coef: NDArray[np.float64], naive: NDArray[np.float64], ties: Ties
) -> tuple[NDArray[np.float64], HypothesisTest]:
    """Return the robust covariance (grouped by patient) and the robust score test."""
    weight = data.sets.weight[:, None]
    grouped = _grouped((score_residuals(data, coef, ties) * weight) @ naive, data.cluster)
    start = _grouped(score_residuals(data, np.zeros(coef.size), ties) * weight, data.cluster)
    total = start.sum(axis=0)
    statistic = float(total @ np.linalg.pinv(start.T @ start, hermitian=True) @ total)
    return grouped.T @ grouped, _chi2("robust score test", statistic, coef.size)


def prepare(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    entry: ArrayLike | None,
    strata: ArrayLike | None,
    weights: ArrayLike | None,
    cluster: ArrayLike | None,
    names: tuple[str, ...] | list[str] | None,
) -> CoxData:
    """Check and sort what a Cox model needs; rows of weight zero are dropped."""
    t = inputs.numbers(time, "time") if entry is not None else inputs.times(time)
    d = inputs.events(event, length=t.size)
    plan = design(covariates, names)
    if plan.matrix.shape[0] != t.size:
        raise StatisticsError(f"{plan.matrix.shape[0]} rows of covariates for {t.size} times", where="covariates")
    e = None
    if entry is not None:
        e = inputs.numbers(entry, "entry", length=t.size)
        bad = np.flatnonzero(e >= t)
        if bad.size:
            raise StatisticsError(
                f"{bad.size} rows do not start before they end, the first is row {bad[0]}",
                where="entry",
                remedy="drop rows of no duration or mend their times",
            )
        t, e = inputs.merge_tied(t, e)
    else:
        (t,) = inputs.merge_tied(t)
    w = inputs.weights(weights, t.size)
    codes, labels = (np.zeros(t.size, dtype=np.intp), ["all"]) if strata is None else inputs.labels(strata, "strata")
    members = None if cluster is None else inputs.labels(cluster, "cluster", length=t.size)[0]
    if codes.size != t.size:
        raise StatisticsError(f"{codes.size} strata for {t.size} times", where="strata")
    kept = w > 0
    if not kept.all():
        t, d, w, codes = t[kept], d[kept], w[kept], codes[kept]
        e = None if e is None else e[kept]
        members = None if members is None else np.unique(members[kept], return_inverse=True)[1]
        plan = Design(plan.matrix[kept], plan.names, plan.terms, plan.term_names)
    if not d.any():
        raise StatisticsError("nobody had the event, so there is nothing to model", where="event")
    check_varies(plan)
    sets = risk_sets(t, d, e, codes, w)
    centre = w @ plan.matrix / w.sum()
    x = plan.matrix[sets.order]
    x -= centre
    return CoxData(sets, x, centre, plan, tuple(labels), None if members is None else members[sets.order])
