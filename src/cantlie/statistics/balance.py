"""Balance of covariates: standardised mean differences, before and after matching or weighting, and the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.statistics import inputs
from cantlie.statistics.design import design

Estimand = Literal["ate", "ate-stabilised", "att", "overlap", "matching"]
Denominator = Literal["treated", "pooled"]


def propensity_weights(treatment: ArrayLike, score: ArrayLike, *, estimand: Estimand = "ate") -> NDArray[np.float64]:
    """Return the weight of each patient from the propensity score (the probability, not its logit).

    Parameters
    ----------
    treatment
        1 for treated, 0 for control.
    score
        Probability of treatment, strictly between 0 and 1.
    estimand
        ``ate`` 1/e and 1/(1−e); ``ate-stabilised`` the same times the share of the own group; ``att`` 1 and e/(1−e);
        ``overlap`` 1−e and e; ``matching`` min(e, 1−e) over the probability of the own group.

    References
    ----------
    Li, Morgan and Zaslavsky 2018, doi:10.1080/01621459.2016.1260466; Li and Greene 2013, doi:10.1515/ijb-2012-0030.
    """
    e = inputs.numbers(score, "propensity score")
    z = inputs.events(treatment, "treatment", length=e.size)
    if (e <= 0).any() or (e >= 1).any():
        raise StatisticsError("a propensity score lies strictly between 0 and 1", where="propensity score")
    own = np.where(z, e, 1 - e)
    if estimand == "ate":
        return 1 / own
    if estimand == "ate-stabilised":
        return np.where(z, z.mean(), 1 - z.mean()) / own
    if estimand == "att":
        return np.where(z, 1.0, e / (1 - e))
    if estimand == "overlap":
        return 1 - own
    if estimand == "matching":
        return np.minimum(e, 1 - e) / own
    raise StatisticsError(f"unknown estimand {estimand!r}", where="weights", remedy="use ate, att, overlap or matching")


def effective_sample_size(weights: ArrayLike) -> float:
    """Return Kish's effective sample size, (Σw)² / Σw²."""
    w = inputs.numbers(weights, "weights")
    return float(w.sum() ** 2 / (w**2).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """Standardised mean differences (treated minus control), shape (columns,)."""

    terms: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64] | None
    denominator: str

    @property
    def worst(self) -> float:
        """Largest absolute difference after adjustment (before it, if there is none)."""
        return float(np.abs(self.before if self.after is None else self.after).max())

    def table(self) -> pd.DataFrame:
        """Return one row per column of the design: SMD before and after, and whether it is within 0.1."""
        frame = pd.DataFrame({"term": self.terms, "smd_before": self.before})
        if self.after is not None:
            frame["smd_after"] = self.after
            frame["balanced"] = np.abs(self.after) < 0.1
        return frame


def all_levels(covariates: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which every category has one indicator per level, as balance tables print them."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name in covariates.columns:
        column = covariates[name]
        if isinstance(column.dtype, pd.CategoricalDtype) or not (
            pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
        ):
            category = column.astype("category").cat.remove_unused_categories()
            for level in category.cat.categories:
                columns[f"{name}{level}"] = (category == level).to_numpy(dtype=np.float64)
        else:
            columns[str(name)] = column.to_numpy(dtype=np.float64)
    return pd.DataFrame(columns, index=covariates.index)


def _mean_difference(x: NDArray[np.float64], z: NDArray[np.bool_], w: NDArray[np.float64]) -> NDArray[np.float64]:
    for name, own in (("treated", z), ("control", ~z)):
        if not w[own].sum() > 0:
            raise StatisticsError(f"the {name} group is empty or has no weight", where="balance")
    return np.average(x[z], axis=0, weights=w[z]) - np.average(x[~z], axis=0, weights=w[~z])


def balance(
    treatment: ArrayLike,
    covariates: pd.DataFrame | ArrayLike,
    *,
    weights: ArrayLike | None = None,
    denominator: Denominator = "pooled",
    binary_from_share: bool = False,
) -> Balance:
    """Return the standardised mean differences before and after weighting or matching.

    The standard deviation below the line is always that of the full, unweighted sample, so that a difference cannot
    shrink because the spread grew.

    Parameters
    ----------
    treatment
        1 for treated, 0 for control.
    covariates
        Table or array; categories become indicators.
    weights
        Weights after adjustment (``Matching.weight`` or ``propensity_weights``).
    denominator
        SD of the ``treated`` (for the ATT, MatchIt) or ``pooled``, √((s₁² + s₀²)/2).
    binary_from_share
        Take √(p(1−p)) as the SD of 0/1 columns, as MatchIt's summary does, instead of the sample SD.

    References
    ----------
    Austin 2009, doi:10.1002/sim.3697; Stuart 2010, doi:10.1214/09-STS313.
    """
    plan = design(covariates)
    x = plan.matrix
    z = inputs.events(treatment, "treatment", length=x.shape[0])
    if min(int(z.sum()), int((~z).sum())) < 2:
        raise StatisticsError("balance needs at least two patients in each group", where="treatment")
    v1, v0 = x[z].var(axis=0, ddof=1), x[~z].var(axis=0, ddof=1)
    if binary_from_share:
        binary = np.isin(x, (0.0, 1.0)).all(axis=0)
        m1, m0 = x[z].mean(axis=0), x[~z].mean(axis=0)
        v1, v0 = np.where(binary, m1 * (1 - m1), v1), np.where(binary, m0 * (1 - m0), v0)
    if denominator not in ("treated", "pooled"):
        raise StatisticsError(f"unknown denominator {denominator!r}", where="balance", remedy="treated or pooled")
    sd = np.sqrt(v1 if denominator == "treated" else (v1 + v0) / 2)

    def smd(w: NDArray[np.float64]) -> NDArray[np.float64]:
        difference = _mean_difference(x, z, w)
        difference[np.ptp(x, axis=0) == 0] = 0.0  # of a constant only rounding is left
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(difference == 0, 0.0, difference / sd)

    before = smd(np.ones(z.size))
    after = None if weights is None else smd(inputs.weights(weights, z.size))
    return Balance(plan.names, before, after, denominator)
