"""Logistic regression, by maximum likelihood and with Firth's penalty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.design import check_varies, design
from cantlie.statistics.wald import ratio_interval, ratio_table, two_sided_p

_STEPS = 100


@dataclass(frozen=True, slots=True, eq=False)
class LogisticModel:
    """A fitted logistic model; the first term is the intercept.

    Parameters
    ----------
    terms, coef, se
        Names, log odds (ratios) and standard errors, shape (p,).
    covariance
        Shape (p, p).
    loglik
        Log likelihood (penalised under Firth).
    deviance
        −2 log likelihood without the penalty.
    fitted
        Probability of the event per patient, shape (n,).
    linear
        Its logit, shape (n,).
    """

    terms: tuple[str, ...]
    coef: NDArray[np.float64]
    se: NDArray[np.float64]
    covariance: NDArray[np.float64]
    loglik: float
    deviance: float
    fitted: NDArray[np.float64]
    linear: NDArray[np.float64]
    n: int
    n_events: int
    method: str
    level: float
    notes: tuple[Note, ...]

    @property
    def p_value(self) -> NDArray[np.float64]:
        """Two-sided Wald p-values, shape (p,)."""
        return two_sided_p(self.coef / self.se)

    @property
    def interval(self) -> NDArray[np.float64]:
        """Lower and upper Wald limits of the odds ratios, shape (p, 2)."""
        return ratio_interval(self.coef, self.se, self.level)

    def table(self) -> pd.DataFrame:
        """Return one row per coefficient."""
        return ratio_table(self.terms, "odds_ratio", self.coef, self.se, self.interval, self.p_value)


def _log_likelihood(eta: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    return float((w * (y * eta - np.logaddexp(0.0, eta))).sum())


def _reweighted(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], tolerance: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Maximise the likelihood by iteratively reweighted least squares; None without a maximum."""
    eta = special.logit((w * y + 0.5) / (w + 1))
    deviance = -2 * _log_likelihood(eta, y, w)
    for _ in range(_STEPS):
        q = np.asarray(special.expit(eta), dtype=np.float64)
        v = np.maximum(q * (1 - q), 1e-300)
        weighted = x * (w * v)[:, None]
        information: NDArray[np.float64] = weighted.T @ x
        try:
            beta = np.asarray(np.linalg.solve(information, weighted.T @ (eta + (y - q) / v)), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None
        before, eta = deviance, x @ beta
        deviance = -2 * _log_likelihood(eta, y, w)
        if not np.isfinite(deviance):
            return None
        if abs(deviance - before) / (abs(deviance) + 0.1) < (1e-15 if tolerance is None else tolerance):
            return beta, information
    return None


def _penalised(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Solve Firth's modified score equations; None if the steps do not settle."""
    beta = np.zeros(x.shape[1])

    def value_at(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        eta = x @ b
        q = special.expit(eta)
        information = (x * (w * q * (1 - q))[:, None]).T @ x
        return _log_likelihood(eta, y, w) + 0.5 * float(np.linalg.slogdet(information)[1]), information

    value, information = value_at(beta)
    for _ in range(10 * _STEPS):
        q = special.expit(x @ beta)
        v = w * q * (1 - q)
        leverage = v * np.einsum("ij,jk,ik->i", x, np.linalg.pinv(information, hermitian=True), x)
        step = np.linalg.pinv(information, hermitian=True) @ (x.T @ (w * (y - q) + leverage * (0.5 - q)))
        largest = float(np.abs(step).max())
        step *= min(1.0, 5 / max(largest, 5e-300))
        factor = 1.0
        after, further = value_at(beta + step)
        while not after >= value - 1e-12 * abs(value) and factor > 1e-6:
            factor /= 2
            after, further = value_at(beta + factor * step)
        beta, value, information = beta + factor * step, after, further
        if largest < 1e-11:
            return beta, information
    return None


def logistic(
    outcome: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    weights: ArrayLike | None = None,
    firth: bool = False,
    tolerance: float | None = 1e-8,
    names: tuple[str, ...] | list[str] | None = None,
    level: float = 0.95,
) -> LogisticModel:
    """Fit a logistic regression with an intercept.

    Parameters
    ----------
    outcome
        0 or 1 per patient.
    covariates
        Table or array, one row per patient; text and categories become indicators against their first level.
    weights
        Case weights.
    firth
        Penalise the likelihood by Jeffreys' prior (Firth): finite estimates under separation.
    tolerance
        Without the penalty: stop when the deviance changes by less than this share, and take the errors from the last
        weights, as R's glm does; None goes on until rounding.

    Raises
    ------
    StatisticsError
        If all patients have the same outcome, or a covariate separates the outcomes (without ``firth``).

    References
    ----------
    Firth 1993, doi:10.1093/biomet/80.1.27; Heinze and Schemper 2002, doi:10.1002/sim.1047.
    """
    plan = design(covariates, names)
    y = inputs.events(outcome, "outcome", length=plan.matrix.shape[0]).astype(np.float64)
    w = inputs.weights(weights, y.size)
    if y.min() == y.max():
        raise StatisticsError("all patients have the same outcome", where="logistic model")
    check_varies(plan)
    centre, scale = plan.matrix.mean(axis=0), plan.matrix.std(axis=0)
    x = np.column_stack([np.ones(y.size), (plan.matrix - centre) / scale])
    p = x.shape[1]
    separated = StatisticsError(
        "the likelihood has no maximum: the outcomes are separated",
        where="logistic model",
        remedy="use Firth's penalty (firth=True), or leave a covariate out",
    )
    fit = _penalised(x, y, w) if firth else _reweighted(x, y, w, tolerance)
    if fit is None:
        raise separated
    beta, information = fit
    eta = x @ beta
    q = special.expit(eta)
    if not firth:
        full = (x * (w * q * (1 - q))[:, None]).T @ x
        try:
            further = np.linalg.solve(full, x.T @ (w * (y - q)))
        except np.linalg.LinAlgError:
            raise separated from None
        if np.abs(further).max() > 0.02 or np.abs(eta).min() > 15:
            raise separated
    back = np.eye(p)
    back[0, 1:] = -centre / scale
    back[1:, 1:] = np.diag(1 / scale)
    covariance = back @ np.linalg.inv(information) @ back.T
    plain = _log_likelihood(eta, y, w)
    n_events = int(y.sum())
    few = min(n_events, y.size - n_events)
    notes: tuple[Note, ...] = ()
    if few < 10 * (p - 1):
        notes = (Note(f"{few} events for {p - 1} coefficients: fewer than 10 per coefficient", where="logistic model"),)
    return LogisticModel(
        terms=("(Intercept)", *plan.names),
        coef=back @ beta,
        se=np.sqrt(np.diag(covariance)),
        covariance=covariance,
        loglik=plain + (0.5 * float(np.linalg.slogdet(information)[1]) if firth else 0.0),
        deviance=-2 * plain,
        fitted=q,
        linear=eta,
        n=y.size,
        n_events=n_events,
        method="logistic regression with Firth's penalty" if firth else "logistic regression",
        level=inputs.level(level),
        notes=notes,
    )
