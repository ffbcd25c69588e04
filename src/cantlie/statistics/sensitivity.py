"""How strong would an unmeasured confounder have to be: the E-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cantlie.core.errors import StatisticsError


@dataclass(frozen=True, slots=True)
class EValue:
    """E-values of an estimate and of the limit of its interval that is nearer to 1 (1 if the interval covers it)."""

    point: float
    interval: float | None
    risk_ratio: float

    def table(self) -> pd.DataFrame:
        """Return the E-values as a table of one row."""
        return pd.DataFrame([{"risk_ratio": self.risk_ratio, "evalue": self.point, "evalue_interval": self.interval}])


def _risk_ratio(hazard_ratio: float, rare: bool) -> float:
    if rare:
        return hazard_ratio
    root = np.sqrt(hazard_ratio)
    return float((1 - 0.5**root) / (1 - 0.5 ** (1 / root)))


def _strength(risk_ratio: float) -> float:
    rr = max(risk_ratio, 1 / risk_ratio)
    return float(rr + np.sqrt(rr * (rr - 1)))


def e_value(ratio: float, lower: float | None = None, upper: float | None = None, *, rare: bool = False) -> EValue:
    """Return the E-value of a hazard ratio (or risk ratio, with ``rare``).

    The smallest risk ratio by which an unmeasured confounder would have to be associated with both treatment and
    outcome to explain the estimate away. For an outcome that is not rare (more than 15 % by the end of follow-up) the
    hazard ratio is first turned into a risk ratio, (1 − 0.5^√HR)/(1 − 0.5^√(1/HR)).

    Raises
    ------
    StatisticsError
        If a ratio is not positive or lies outside its interval.

    References
    ----------
    VanderWeele and Ding 2017, doi:10.7326/M16-2607.
    """
    for value in (ratio, lower, upper):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise StatisticsError(f"a ratio is positive, not {value:g}", where="E-value")
    if (lower is not None and lower > ratio) or (upper is not None and upper < ratio):
        raise StatisticsError("the estimate lies outside its interval", where="E-value")
    rr = _risk_ratio(ratio, rare)
    near = lower if ratio > 1 else upper
    limit = None
    if near is not None:
        crosses = (near <= 1) if ratio > 1 else (near >= 1)
        limit = 1.0 if crosses else _strength(_risk_ratio(near, rare))
    return EValue(_strength(rr), limit, rr)
