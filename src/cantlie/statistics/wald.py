"""Wald's test and interval: an estimate that is normal about its value, and the coefficients of a model as ratios."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def normal_quantile(level: float) -> float:
    """Return how many standard errors an interval of a two-sided confidence level reaches: 1.96 for 0.95."""
    return float(stats.norm.ppf(0.5 + level / 2))


def two_sided_p(z: ArrayLike) -> NDArray[np.float64]:
    """Return the two-sided p-value of standard normal statistics, of their shape."""
    return np.asarray(2 * stats.norm.sf(np.abs(z)))


def ratio_interval(coef: NDArray[np.float64], se: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Return the lower and upper limits of ratios from their logarithms and standard errors, shape (p, 2)."""
    half = normal_quantile(level) * se
    return np.exp(np.column_stack([coef - half, coef + half]))


def ratio_table(
    terms: Sequence[str],
    ratio: str,
    coef: NDArray[np.float64],
    se: NDArray[np.float64],
    interval: NDArray[np.float64],
    p_value: NDArray[np.float64],
) -> pd.DataFrame:
    """Return one row per coefficient of a model: log ratio, ratio, standard error, limits of the ratio and p-value.

    Parameters
    ----------
    ratio
        Name of the ratio's column, such as ``hazard_ratio``.
    coef, se, p_value
        Shape (p,).
    interval
        Limits of the ratios, shape (p, 2).
    """
    return pd.DataFrame(
        {
            "term": list(terms),
            "coef": coef,
            ratio: np.exp(coef),
            "se": se,
            "lower": interval[:, 0],
            "upper": interval[:, 1],
            "p_value": p_value,
        }
    )
