"""Pooling over multiply imputed data sets by Rubin's rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.statistics import inputs


@dataclass(frozen=True, slots=True)
class PooledEstimate:
    """One estimate pooled over m imputed data sets.

    Parameters
    ----------
    estimate, within, between, total
        Mean estimate; mean variance, variance of the estimates, total variance.
    df
        Degrees of freedom (Barnard and Rubin).
    relative_increase, missing_information
        Relative increase of variance due to missing data, and fraction of missing information.
    """

    m: int
    estimate: float
    within: float
    between: float
    total: float
    df: float
    relative_increase: float
    missing_information: float
    level: float

    @property
    def std_err(self) -> float:
        """Standard error of the pooled estimate."""
        return float(np.sqrt(self.total))

    @property
    def interval(self) -> tuple[float, float]:
        """Interval from the t distribution."""
        half = float(stats.t.ppf(0.5 + self.level / 2, self.df)) * self.std_err
        return self.estimate - half, self.estimate + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value against zero."""
        return float(2 * stats.t.sf(abs(self.estimate) / self.std_err, self.df))

    def table(self) -> pd.DataFrame:
        """Return the estimate as a table of one row."""
        low, high = self.interval
        row = {"estimate": self.estimate, "std_err": self.std_err, "df": self.df, "lower": low, "upper": high}
        return pd.DataFrame([row | {"p_value": self.p_value, "fmi": self.missing_information}])


def pool(
    estimates: ArrayLike,
    variances: ArrayLike,
    *,
    n: float = float("inf"),
    parameters: int = 1,
    level: float = 0.95,
) -> PooledEstimate:
    """Pool estimates and their variances from m imputed data sets.

    Parameters
    ----------
    estimates, variances
        One per data set, on a scale on which they are normal (log hazard ratio), shape (m,).
    n, parameters
        Patients and parameters of the complete-data model, for the degrees of freedom; infinite n gives Rubin's 1987.

    Raises
    ------
    StatisticsError
        If there are fewer than two data sets or a variance is not positive.

    References
    ----------
    Rubin 1987, doi:10.1002/9780470316696; Barnard and Rubin 1999, doi:10.1093/biomet/86.4.948.
    """
    q = inputs.sample(estimates, "estimates", least=2)
    u = inputs.numbers(variances, "variances", length=q.size)
    if (u <= 0).any():
        raise StatisticsError("variances must be positive", where="variances", remedy="give squared standard errors")
    m = q.size
    within, between = float(u.mean()), float(q.var(ddof=1))
    total = within + (1 + 1 / m) * between
    increase = (1 + 1 / m) * between / within
    share = (1 + 1 / m) * between / total
    complete = n - parameters
    old = (m - 1) / share**2 if share > 0 else float("inf")
    if np.isinf(complete):
        df = old
    else:
        if complete <= 0:
            raise StatisticsError("there are not more patients than parameters", where="n")
        observed = (complete + 1) / (complete + 3) * complete * (1 - share)
        df = observed if np.isinf(old) else old * observed / (old + observed)
    missing = (increase + 2 / (df + 3)) / (increase + 1)
    return PooledEstimate(
        m, float(q.mean()), within, between, total, float(df), increase, float(missing), inputs.level(level)
    )
