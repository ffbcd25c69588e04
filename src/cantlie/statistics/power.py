"""Sample size and power: survival, proportions, means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from cantlie.core.errors import StatisticsError


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What a trial needs; ``exact`` before rounding up."""

    method: str
    what: Literal["events", "patients"]
    exact: float
    needed: int

    def table(self) -> pd.DataFrame:
        """Return the sample size as a table of one row."""
        return pd.DataFrame([{"method": self.method, "what": self.what, "needed": self.needed, "exact": self.exact}])


def _check(power: float | None, alpha: float, allocation: float) -> None:
    for name, value in (("power", power), ("alpha", alpha), ("allocation", allocation)):
        if value is not None and not 0 < value < 1:
            raise StatisticsError(f"{name} lies between 0 and 1, not {value:g}", where="sample size")


def _quantiles(power: float, alpha: float) -> float:
    return float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))


def _up(value: float) -> int:
    return int(np.ceil(value - 1e-9))


def events_for_hazard_ratio(
    hazard_ratio: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    allocation: float = 0.5,
    method: Literal["schoenfeld", "freedman"] = "schoenfeld",
) -> SampleSize:
    """Return how many events a two-sided log-rank test needs to show a hazard ratio.

    Parameters
    ----------
    hazard_ratio
        Not 1.
    power, alpha
        Power and two-sided significance level.
    allocation
        Share of the patients in the experimental group.
    method
        ``schoenfeld``: (z_α/2 + z_β)² / {a (1−a) (ln HR)²}; ``freedman``: (z_α/2 + z_β)² {(1 + φ HR)/(1 − HR)}² / φ
        with φ = a/(1−a), for equal groups ((1 + HR)/(1 − HR))².

    References
    ----------
    Schoenfeld 1981, doi:10.1093/biomet/68.1.316; Freedman 1982, doi:10.1002/sim.4780010204.
    """
    _check(power, alpha, allocation)
    if not hazard_ratio > 0 or hazard_ratio == 1:
        raise StatisticsError(f"a hazard ratio is positive and not 1, not {hazard_ratio:g}", where="sample size")
    z = _quantiles(power, alpha)
    if method == "schoenfeld":
        exact = z**2 / (allocation * (1 - allocation) * np.log(hazard_ratio) ** 2)
    elif method == "freedman":
        phi = allocation / (1 - allocation)
        exact = z**2 * (1 + phi * hazard_ratio) ** 2 / (phi * (1 - hazard_ratio) ** 2)
    else:
        raise StatisticsError(f"unknown method {method!r}", where="sample size", remedy="use schoenfeld or freedman")
    return SampleSize(method.capitalize(), "events", float(exact), _up(float(exact)))


def power_of_events(events: float, hazard_ratio: float, *, alpha: float = 0.05, allocation: float = 0.5) -> float:
    """Return the power of a two-sided log-rank test with a number of events (Schoenfeld)."""
    _check(None, alpha, allocation)
    if not events > 0 or not hazard_ratio > 0:
        raise StatisticsError("events and hazard ratio must be positive", where="power")
    z = abs(np.log(hazard_ratio)) * np.sqrt(events * allocation * (1 - allocation))
    return float(stats.norm.cdf(z - stats.norm.isf(alpha / 2)))


def patients_for_proportions(
    first: float, second: float, *, power: float = 0.8, alpha: float = 0.05, allocation: float = 0.5
) -> SampleSize:
    """Return how many patients a two-sided comparison of two proportions needs (no continuity correction).

    References
    ----------
    Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, equation 4.14 and 4.19.
    """
    _check(power, alpha, allocation)
    for value in (first, second):
        if not 0 <= value <= 1:
            raise StatisticsError(f"a proportion lies between 0 and 1, not {value:g}", where="sample size")
    if first == second:
        raise StatisticsError("the proportions are the same", where="sample size")
    ratio = allocation / (1 - allocation)
    pooled = (first + ratio * second) / (1 + ratio)
    a = float(stats.norm.isf(alpha / 2)) * np.sqrt((1 + 1 / ratio) * pooled * (1 - pooled))
    b = float(stats.norm.ppf(power)) * np.sqrt(first * (1 - first) + second * (1 - second) / ratio)
    one = ((a + b) / (first - second)) ** 2
    total = _up(one) + _up(_up(one) * ratio)
    return SampleSize("two proportions, normal approximation", "patients", float(one * (1 + ratio)), total)


def patients_for_means(difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> SampleSize:
    """Return how many patients (two equal groups) a two-sided t-test needs, by the noncentral t distribution."""
    _check(power, alpha, 0.5)
    if difference == 0 or not sd > 0:
        raise StatisticsError("a difference other than 0 and a positive SD are needed", where="sample size")
    effect = abs(difference) / sd

    def reached(n: float) -> float:
        df = 2 * n - 2
        t = stats.t.isf(alpha / 2, df)
        shift = effect * np.sqrt(n / 2)
        return float(stats.nct.sf(t, df, shift) + stats.nct.cdf(-t, df, shift))

    start = max(2.0, 2 * (_quantiles(power, alpha) / effect) ** 2)
    n = max(2, int(start) - 2)
    while n > 2 and reached(n - 1) >= power:
        n -= 1
    while reached(n) < power:
        n += 1
    return SampleSize("two means, noncentral t", "patients", 2 * float(start), 2 * n)
