"""Restricted mean survival time: area under the curve up to a horizon, its error, and differences and ratios of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.survival import SurvivalCurve, kaplan_meier
from cantlie.statistics.wald import normal_quantile, two_sided_p


@dataclass(frozen=True, slots=True)
class RestrictedMean:
    """Restricted mean survival time (rmst) and time lost (rmtl = tau − rmst) of one group."""

    label: Any
    tau: float
    rmst: float
    std_err: float
    level: float

    @property
    def interval(self) -> tuple[float, float]:
        """Normal interval of the rmst."""
        half = normal_quantile(self.level) * self.std_err
        return self.rmst - half, self.rmst + half

    @property
    def rmtl(self) -> float:
        """Restricted mean time lost."""
        return self.tau - self.rmst

    @property
    def rmtl_interval(self) -> tuple[float, float]:
        """Normal interval of the time lost."""
        low, high = self.interval
        return self.tau - high, self.tau - low


@dataclass(frozen=True, slots=True)
class Contrast:
    """A contrast of two groups: estimate, interval, p-value."""

    name: str
    estimate: float
    lower: float
    upper: float
    std_err: float
    p_value: float


@dataclass(frozen=True, slots=True)
class RmstComparison:
    """Restricted means of the groups and, for two groups, the second compared with the first."""

    tau: float
    groups: tuple[RestrictedMean, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per group."""
        rows = [(g.label, g.rmst, g.std_err, *g.interval, g.rmtl, *g.rmtl_interval) for g in self.groups]
        columns = ["group", "rmst", "std_err", "lower", "upper", "rmtl", "rmtl_lower", "rmtl_upper"]
        return pd.DataFrame(rows, columns=columns)


def restricted_mean(curve: SurvivalCurve, tau: float) -> RestrictedMean:
    """Return the area under a Kaplan–Meier curve up to ``tau`` with Greenwood's standard error.

    References
    ----------
    Irwin 1949; Klein and Moeschberger, Survival Analysis, section 4.5; Royston and Parmar 2013,
    doi:10.1186/1471-2288-13-152.
    """
    if not tau > 0:
        raise StatisticsError(f"the horizon must be positive, not {tau:g}", where="tau")
    inside = curve.time < tau
    edges = np.concatenate([[0.0], curve.time[inside], [tau]])
    height = np.concatenate([[1.0], curve.survival[inside]])
    area = np.diff(edges) * height
    remaining = area[::-1].cumsum()[::-1][1:]
    d, n = curve.n_event[inside], curve.n_risk[inside]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where((d > 0) & (n > d), remaining**2 * d / (n * (n - d)), 0.0).sum()
    return RestrictedMean(curve.label, float(tau), float(area.sum()), float(np.sqrt(variance)), curve.level)


def _difference(first: RestrictedMean, second: RestrictedMean, z: float) -> Contrast:
    value = second.rmst - first.rmst
    error = float(np.hypot(first.std_err, second.std_err))
    p = float(two_sided_p(value / error)) if error > 0 else float("nan")
    return Contrast("RMST difference", value, value - z * error, value + z * error, error, p)


def _ratio(name: str, a: float, ea: float, b: float, eb: float, z: float) -> Contrast:
    if a <= 0 or b <= 0:
        return Contrast(name, float("nan"), float("nan"), float("nan"), float("nan"), float("nan"))
    log, error = float(np.log(b / a)), float(np.hypot(ea / a, eb / b))
    p = float(two_sided_p(log / error)) if error > 0 else float("nan")
    return Contrast(name, b / a, float(np.exp(log - z * error)), float(np.exp(log + z * error)), error, p)


def compare_rmst(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, *, tau: float | None = None, level: float = 0.95
) -> RmstComparison:
    """Compare restricted mean survival between groups.

    Parameters
    ----------
    time, event, group
        Follow-up, event indicator (0/1) and label per patient.
    tau
        Horizon; the smallest of the groups' longest follow-ups if not given. The second group is compared with the
        first by difference, ratio, and ratio of the time lost.

    Raises
    ------
    StatisticsError
        If a group's curve ends above zero before ``tau``.

    References
    ----------
    Royston and Parmar 2013, doi:10.1186/1471-2288-13-152; Uno et al. 2014, doi:10.1200/JCO.2014.55.2208.
    """
    curves = kaplan_meier(time, event, group=group, level=level).curves
    longest = [float(c.time[-1]) for c in curves]
    notes: list[Note] = []
    if tau is None:
        tau = min(longest)
        notes.append(Note(f"horizon set to the shortest of the groups' follow-ups, {tau:g}", "RMST", "info"))
    for curve, last in zip(curves, longest, strict=True):
        if tau > last and curve.survival[-1] > 0:
            notes.append(
                Note(
                    f"group {curve.label} was followed to {last:g} only; its curve is held level up to {tau:g}", "RMST"
                )
            )
    groups = tuple(restricted_mean(curve, tau) for curve in curves)
    contrasts: tuple[Contrast, ...] = ()
    if len(groups) == 2:
        z = normal_quantile(inputs.level(level))
        a, b = groups
        contrasts = (
            _difference(a, b, z),
            _ratio("RMST ratio", a.rmst, a.std_err, b.rmst, b.std_err, z),
            _ratio("RMTL ratio", a.rmtl, a.std_err, b.rmtl, b.std_err, z),
        )
    return RmstComparison(tau, groups, contrasts, tuple(notes))
