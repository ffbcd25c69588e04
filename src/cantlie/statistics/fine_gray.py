"""Regression with competing risks: the subdistribution hazard of Fine and Gray, and cause-specific Cox models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.competing import causes
from cantlie.statistics.cox import CoxModel, TiesMethod, cox, newton
from cantlie.statistics.design import check_varies, design
from cantlie.statistics.risk_sets import Likelihood
from cantlie.statistics.wald import ratio_interval, ratio_table, two_sided_p


@dataclass(frozen=True, slots=True, eq=False)
class FineGrayModel:
    """A fitted subdistribution hazard model.

    Parameters
    ----------
    terms, coef, se
        Names, log subdistribution hazard ratios and robust standard errors, shape (p,).
    naive_se
        From the information alone, too small or too large because the rows are weighted, shape (p,).
    covariance
        Robust covariance, shape (p, p).
    loglik_null, loglik
        Log pseudo-likelihoods.
    event_time, baseline_jump
        Times of the events of interest and the jumps of the baseline subdistribution hazard there, shape (K,).
    mean
        Means of the covariates, shape (p,).
    """

    cause: int
    terms: tuple[str, ...]
    coef: NDArray[np.float64]
    se: NDArray[np.float64]
    naive_se: NDArray[np.float64]
    covariance: NDArray[np.float64]
    loglik_null: float
    loglik: float
    n: int
    n_events: int
    ties: Literal["breslow", "efron"]
    level: float
    event_time: NDArray[np.float64]
    baseline_jump: NDArray[np.float64]
    mean: NDArray[np.float64]
    notes: tuple[Note, ...]

    @property
    def p_value(self) -> NDArray[np.float64]:
        """Two-sided Wald p-values, shape (p,)."""
        return two_sided_p(self.coef / self.se)

    @property
    def interval(self) -> NDArray[np.float64]:
        """Lower and upper limits of the subdistribution hazard ratios, shape (p, 2)."""
        return ratio_interval(self.coef, self.se, self.level)

    def table(self) -> pd.DataFrame:
        """Return one row per coefficient."""
        return ratio_table(self.terms, "subdistribution_hazard_ratio", self.coef, self.se, self.interval, self.p_value)

    def predict(self, times: ArrayLike, covariates: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the cumulative incidence at the given times for one row of design columns (their means if None)."""
        x = self.mean if covariates is None else inputs.numbers(covariates, "covariates", length=self.coef.size)
        total = np.concatenate([[0.0], np.cumsum(self.baseline_jump)]) * np.exp(float(x @ self.coef))
        asked = np.atleast_1d(np.asarray(times, dtype=np.float64))
        return 1 - np.exp(-total[np.searchsorted(self.event_time, asked, side="right")])


class _Pseudo:
    """Sums over Fine and Gray's risk sets: at risk, plus those with another event, weighed by G(t−)/G(X−)."""

    def __init__(
        self,
        time: NDArray[np.float64],
        code: NDArray[np.int64],
        group: NDArray[np.intp],
        x: NDArray[np.float64],
        efron: bool,
    ) -> None:
        self.time, self.code, self.group, self.x, self.efron = time, code, group, x, efron
        self.dead = np.flatnonzero(code == 1)
        self.steps, first, size = np.unique(time[self.dead], return_index=True, return_counts=True)
        self.first, self.size = first, size
        self.step_of_event = np.repeat(np.arange(self.steps.size), size)
        self.share = np.zeros(self.dead.size)
        if efron:
            self.share = (np.arange(self.dead.size) - np.repeat(first, size)) / np.repeat(size, size)
        self.first_at_risk = np.searchsorted(time, self.steps, side="left")
        self.passed = np.searchsorted(self.steps, time, side="right")
        groups = int(group.max()) + 1
        self.free_at_step = np.empty((groups, self.steps.size))
        self.free = np.empty(time.size)
        self.censored_time: list[NDArray[np.float64]] = []
        for g in range(groups):
            own = group == g
            distinct, index = np.unique(time[own], return_inverse=True)
            n = np.cumsum(np.bincount(index)[::-1])[::-1].astype(np.float64)
            lost = np.bincount(index, weights=(code[own] == 0).astype(np.float64))
            if efron:
                # R's finegray lets censoring at a time follow the events at that time.
                n = n - np.bincount(index, weights=(code[own] > 0).astype(np.float64))
            factor = np.where(lost > 0, 1 - lost / np.where(n > 0, n, 1.0), 1.0)
            survival = np.concatenate([[1.0], np.cumprod(factor)])
            self.free_at_step[g] = survival[np.searchsorted(distinct, self.steps, side="left")]
            self.free[own] = survival[np.searchsorted(distinct, time[own], side="left")]
            self.censored_time.append(distinct[lost > 0])
        self.other = np.flatnonzero(code == 2)
        self.before = np.searchsorted(time[self.other], self.steps, side="left")

    def sums(self, beta: NDArray[np.float64]) -> None:
        """Compute denominators and means at every event for one β."""
        eta = self.x @ beta
        self.eta = eta - eta.max()
        self.shift = float(eta.max())
        self.ratio = np.exp(self.eta)
        risk = self.ratio[:, None] * np.column_stack([np.ones(eta.size), self.x])
        tail = np.cumsum(risk[::-1], axis=0)[::-1]
        total = tail[self.first_at_risk]
        self.kept = self.ratio[self.other] / self.free[self.other]
        for g in range(self.free_at_step.shape[0]):
            mine = (self.group[self.other] == g) * self.kept
            held = mine[:, None] * np.column_stack([np.ones(self.other.size), self.x[self.other]])
            running = np.concatenate([np.zeros((1, held.shape[1])), np.cumsum(held, axis=0)])
            total = total + self.free_at_step[g][:, None] * running[self.before]
        own = np.add.reduceat(risk[self.dead], self.first, axis=0)
        each = total[self.step_of_event] - self.share[:, None] * own[self.step_of_event]
        self.bottom = each[:, 0]
        self.mean = each[:, 1:] / each[:, :1]
        self.increment = 1 / self.bottom

    def _gather(self, per_event: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add ``ratio × weight × per_event`` over the events that each row is at risk for, shape (n, q)."""
        groups = np.add.reduceat(per_event, self.first, axis=0)
        running = np.concatenate([np.zeros((1, groups.shape[1])), np.cumsum(groups, axis=0)])
        result = running[self.passed]
        if self.efron:
            shared = np.add.reduceat(per_event * self.share[:, None], self.first, axis=0)
            result[self.dead] -= shared[self.step_of_event]
        result = result * self.ratio[:, None]
        for g in range(self.free_at_step.shape[0]):
            weighed = groups * self.free_at_step[g][:, None]
            running = np.concatenate([np.zeros((1, groups.shape[1])), np.cumsum(weighed, axis=0)])
            mine = self.group[self.other] == g
            rows = self.other[mine]
            result[rows] += self.kept[mine][:, None] * (running[-1] - running[self.passed[rows]])
        return result

    def likelihood(self, beta: NDArray[np.float64]) -> Likelihood:
        """Return the log pseudo-likelihood with its derivatives."""
        self.sums(beta)
        value = float(self.eta[self.dead].sum() - np.log(self.bottom).sum())
        expected = self._gather(self.increment[:, None])[:, 0]
        score = self.x.T @ ((self.code == 1) - expected)
        information = (self.x * expected[:, None]).T @ self.x - self.mean.T @ self.mean
        return Likelihood(value, score, information)

    def influence(self) -> NDArray[np.float64]:
        """Return each row's contribution to the score with the share due to estimating G, shape (n, p)."""
        expected = self._gather(self.increment[:, None])[:, 0]
        drift = self._gather(self.mean * self.increment[:, None])
        result = drift - self.x * expected[:, None]
        average = np.add.reduceat(self.mean, self.first, axis=0) / self.size[:, None]
        result[self.dead] += self.x[self.dead] - average[self.step_of_event]
        both = np.column_stack([self.increment, self.mean * self.increment[:, None]])
        groups = np.add.reduceat(both, self.first, axis=0)
        for g, lost_time in enumerate(self.censored_time):
            if lost_time.size == 0:
                continue
            own = self.group == g
            weighed = groups * self.free_at_step[g][:, None]
            running = np.concatenate([np.zeros((1, weighed.shape[1])), np.cumsum(weighed, axis=0)])
            # Events at or after the censoring time; others' events before it.
            ahead = running[-1] - running[np.searchsorted(self.steps, lost_time, side="left")]
            mine = self.group[self.other] == g
            rows, kept = self.other[mine], self.kept[mine]
            held = kept[:, None] * np.column_stack([np.ones(rows.size), self.x[rows]])
            total = np.concatenate([np.zeros((1, held.shape[1])), np.cumsum(held, axis=0)])
            gone = total[np.searchsorted(self.time[rows], lost_time, side="left")]
            q = gone[:, 1:] * ahead[:, :1] - gone[:, :1] * ahead[:, 1:]
            own_time = self.time[own]
            at_risk = own_time.size - np.searchsorted(own_time, lost_time, side="left")
            lost = own & (self.code == 0)
            count = np.bincount(np.searchsorted(lost_time, self.time[lost]), minlength=lost_time.size)
            per = q / at_risk[:, None]
            compensator = np.concatenate(
                [np.zeros((1, q.shape[1])), np.cumsum(per * (count / at_risk)[:, None], axis=0)]
            )
            result[own] -= compensator[np.searchsorted(lost_time, own_time, side="right")]
            result[lost] += per[np.searchsorted(lost_time, self.time[lost])]
        return result


def fine_gray(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    cause: int = 1,
    ties: Literal["breslow", "efron"] = "breslow",
    censoring_group: ArrayLike | None = None,
    names: tuple[str, ...] | list[str] | None = None,
    level: float = 0.95,
) -> FineGrayModel:
    """Fit Fine and Gray's model for the cumulative incidence of one cause.

    Parameters
    ----------
    time, event
        Follow-up and event code per patient: 0 censored, else the cause.
    covariates
        Table or array, one row per patient.
    cause
        The cause of interest.
    ties
        ``breslow`` gives R cmprsk's crr; ``efron`` the coefficients of survival's finegray with a weighted coxph (see
        ``fine_gray_rows`` for its standard errors).
    censoring_group
        Label per patient within which the censoring distribution is estimated.

    Raises
    ------
    StatisticsError
        If there is no event of this cause, a covariate is constant or separates.

    References
    ----------
    Fine and Gray 1999, doi:10.1080/01621459.1999.10474144.
    """
    t = inputs.times(time)
    code = causes(event, length=t.size)
    plan = design(covariates, names)
    if plan.matrix.shape[0] != t.size:
        raise StatisticsError(f"{plan.matrix.shape[0]} rows of covariates for {t.size} times", where="covariates")
    if ties not in ("breslow", "efron"):
        raise StatisticsError(f"unknown treatment of ties {ties!r}", where="ties", remedy="use breslow or efron")
    if not (code == cause).any():
        raise StatisticsError(f"nobody had the event {cause}", where="event")
    check_varies(plan)
    (t,) = inputs.merge_tied(t)
    groups = np.zeros(t.size, dtype=np.intp)
    if censoring_group is not None:
        groups = inputs.labels(censoring_group, "censoring group", length=t.size)[0]
    order = np.argsort(t, kind="stable")
    kind = np.where(code == cause, 1, np.where(code > 0, 2, 0))[order]
    mean = plan.matrix.mean(axis=0)
    scale = plan.matrix.std(axis=0)
    pseudo = _Pseudo(t[order], kind, groups[order], (plan.matrix[order] - mean) / scale, ties == "efron")
    beta, fit, null, _, finite = newton(pseudo.likelihood, plan.matrix.shape[1])
    if not finite:
        raise StatisticsError(
            "the likelihood has no maximum: a coefficient grows without limit (separation)",
            where=f"Fine–Gray model, covariate {plan.names[int(np.argmax(np.abs(beta)))]}",
            remedy="leave the covariate out or use fewer categories",
        )
    pseudo.sums(beta)
    inverse = np.linalg.inv(fit.information)
    influence = pseudo.influence()
    rescale = np.outer(scale, scale)
    covariance = inverse @ (influence.T @ influence) @ inverse / rescale
    coef = beta / scale
    jump = np.add.reduceat(pseudo.increment, pseudo.first) * np.exp(-pseudo.shift - mean @ coef)
    n_events = int((kind == 1).sum())
    notes: list[Note] = []
    if not (kind == 2).any():
        notes.append(Note("nobody had a competing event: this is an ordinary Cox model", where="Fine–Gray"))
    return FineGrayModel(
        cause=cause,
        terms=plan.names,
        coef=coef,
        se=np.sqrt(np.diag(covariance)),
        naive_se=np.sqrt(np.diag(inverse)) / scale,
        covariance=covariance,
        loglik_null=null.value,
        loglik=fit.value,
        n=t.size,
        n_events=n_events,
        ties=ties,
        level=inputs.level(level),
        event_time=pseudo.steps,
        baseline_jump=jump,
        mean=mean,
        notes=tuple(notes),
    )


def cause_specific_cox(
    time: ArrayLike,
    event: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    cause: int = 1,
    ties: TiesMethod = "efron",
    level: float = 0.95,
) -> CoxModel:
    """Fit a Cox model for the hazard of one cause, with all other causes censored.

    References
    ----------
    Putter, Fiocco and Geskus 2007, doi:10.1002/sim.2712.
    """
    t = inputs.times(time)
    code = causes(event, length=t.size)
    return cox(t, code == cause, covariates, ties=ties, level=level)
