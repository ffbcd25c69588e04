"""Does the hazard stay proportional? The score test of Grambsch and Therneau, and Schoenfeld residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics.cox import CoxModel
from cantlie.statistics.risk_sets import exposure, risk_sums

TimeTransform = Literal["km", "rank", "identity", "log"]


@dataclass(frozen=True, slots=True, eq=False)
class ProportionalityTest:
    """Tests of proportional hazards per term and of all terms together (the last entry, GLOBAL)."""

    terms: tuple[str, ...]
    chi2: NDArray[np.float64]
    df: NDArray[np.intp]
    p_value: NDArray[np.float64]
    transform: TimeTransform
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per term."""
        return pd.DataFrame({"term": self.terms, "chi2": self.chi2, "df": self.df, "p_value": self.p_value})


def _transformed(model: CoxModel, transform: TimeTransform) -> NDArray[np.float64]:
    """Return g(t) at each event group, shape (K,)."""
    sets = model.data.sets
    time = sets.group_time
    if transform == "identity":
        return time.copy()
    if transform == "log":
        if (time <= 0).any():
            raise StatisticsError("an event at time 0 has no logarithm", where="proportionality", remedy="use km")
        return np.log(time)
    deaths = sets.time[sets.death_rows]
    if transform == "rank":
        ranks = np.asarray(stats.rankdata(sets.time), dtype=np.float64)
        return ranks[sets.death_rows[sets.group_start[:-1]]]
    if transform != "km":
        raise StatisticsError(f"unknown transformation {transform!r}", where="proportionality", remedy="use km")
    # The curve of all strata together, without case weights, as in R.
    steps = np.unique(time)
    died = np.bincount(np.searchsorted(steps, deaths), minlength=steps.size)
    at_risk = sets.time.size - np.searchsorted(np.sort(sets.time), steps, side="left")
    if sets.entry is not None:
        at_risk = at_risk - (sets.entry.size - np.searchsorted(np.sort(sets.entry), steps, side="left"))
    survival = np.concatenate([[1.0], np.cumprod(1 - died / at_risk)])
    return 1 - survival[np.searchsorted(steps, time)]


def proportional_hazards_test(
    model: CoxModel, *, transform: TimeTransform = "km", by_term: bool = False
) -> ProportionalityTest:
    """Test whether coefficients change with time, by the score test for adding x·g(t) to the model.

    Parameters
    ----------
    model
        A model with Efron or Breslow ties.
    transform
        g(t): ``km`` (1 − S(t−), robust against late outliers), ``rank``, ``identity`` or ``log``.
    by_term
        Test all columns of a categorical covariate together instead of one by one.

    Returns
    -------
    ProportionalityTest
        As cox.zph of R's survival since version 3; a note names the covariates with p < 0.05.

    References
    ----------
    Grambsch and Therneau 1994, doi:10.1093/biomet/81.3.515; the score test instead of its approximation: Therneau,
    survival 3.0.
    """
    if model.ties == "exact":
        raise StatisticsError("the test needs Efron or Breslow ties", where="proportionality")
    data, sets = model.data, model.data.sets
    g_group = _transformed(model, transform)
    size = np.diff(sets.group_start)
    g_group = g_group - float(np.average(g_group, weights=size))
    spread = float(np.abs(g_group).max())
    if spread == 0:
        raise StatisticsError("all events happened at one time", where="proportionality")
    g = np.repeat(g_group / spread, size)
    scale = np.where(data.x.std(axis=0) > 0, data.x.std(axis=0), 1.0)
    x = data.x / scale
    sums = risk_sums(sets, x, model.coef * scale, "efron" if model.ties == "efron" else "breslow")

    def information(multiplier: NDArray[np.float64]) -> NDArray[np.float64]:
        increment = sums.increment * multiplier
        expected = sets.weight * sums.hazard_ratio * exposure(sets, increment, increment * sums.share)
        return (x * expected[:, None]).T @ x - (sums.mean * (sums.part * multiplier)[:, None]).T @ sums.mean

    main, mixed, changing = information(np.ones(g.size)), information(g), information(g**2)
    deaths = sets.death_rows
    score = (sets.weight[deaths] * g) @ x[deaths] - (sums.part * g) @ sums.mean
    free = changing - mixed @ np.linalg.solve(main, mixed)
    columns = [np.flatnonzero(data.design.terms == term) for term in range(len(data.design.term_names))]
    names = list(data.design.term_names)
    if not by_term:
        columns = [np.array([column]) for column in range(score.size)]
        names = list(model.terms)
    columns.append(np.arange(score.size))
    names.append("GLOBAL")
    chi2, df = [], []
    for own in columns:
        # Only the tested terms change with time; all main effects stay in the model.
        u = score[own]
        chi2.append(float(u @ np.linalg.pinv(free[np.ix_(own, own)], hermitian=True) @ u))
        df.append(own.size)
    p_value = np.asarray(stats.chi2.sf(chi2, df), dtype=np.float64)
    notes = tuple(
        Note(f"the hazard ratio changes with time (p = {p:.2g})", where=f"Cox model, {name}")
        for name, p in zip(names, p_value, strict=True)
        if p < 0.05
    )
    return ProportionalityTest(tuple(names), np.array(chi2), np.array(df, dtype=np.intp), p_value, transform, notes)


@dataclass(frozen=True, slots=True, eq=False)
class SchoenfeldResiduals:
    """Residuals per event, shape (E, p), in order of time; scaled ones estimate β(t) when smoothed."""

    terms: tuple[str, ...]
    time: NDArray[np.float64]
    residual: NDArray[np.float64]
    scaled: NDArray[np.float64]

    def table(self) -> pd.DataFrame:
        """Return one row per event with the scaled residuals."""
        return pd.DataFrame(self.scaled, columns=list(self.terms)).assign(time=self.time)


def schoenfeld_residuals(model: CoxModel) -> SchoenfeldResiduals:
    """Return Schoenfeld residuals (observed minus expected covariates of those who died) and their scaled form.

    Scaled: residual × V × number of events + β.

    References
    ----------
    Schoenfeld 1982, doi:10.1093/biomet/69.1.239; Grambsch and Therneau 1994, doi:10.1093/biomet/81.3.515.
    """
    data, sets = model.data, model.data.sets
    sums = risk_sums(sets, data.x, model.coef, "efron" if model.ties == "efron" else "breslow")
    size = np.diff(sets.group_start)
    average = np.add.reduceat(sums.mean, sets.group_start[:-1], axis=0) / size[:, None]
    residual = data.x[sets.death_rows] - average[sets.group_of_death]
    scaled = residual @ model.naive_covariance * model.n_events + model.coef
    order = np.argsort(sets.time[sets.death_rows], kind="stable")
    return SchoenfeldResiduals(model.terms, sets.time[sets.death_rows][order], residual[order], scaled[order])
