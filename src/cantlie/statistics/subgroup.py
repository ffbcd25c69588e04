"""Subgroup analysis: the treatment's hazard ratio in every subgroup, and a test of interaction for each variable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from cantlie.core.errors import CantlieError, StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.cox import TiesMethod, cox


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of a forest plot; the hazard ratio is NaN where it cannot be estimated."""

    variable: str
    level: Any
    n: int
    events: int
    n_treated: int
    events_treated: int
    hazard_ratio: float
    lower: float
    upper: float
    p_value: float
    p_interaction: float | None


@dataclass(frozen=True, slots=True)
class Forest:
    """All lines of a forest plot, the whole sample first."""

    rows: tuple[ForestRow, ...]
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per line."""
        return pd.DataFrame([{name: getattr(row, name) for name in ForestRow.__slots__} for row in self.rows])


def subgroup_forest(
    time: ArrayLike,
    event: ArrayLike,
    treatment: ArrayLike,
    subgroups: pd.DataFrame,
    *,
    ties: TiesMethod = "efron",
    level: float = 0.95,
) -> Forest:
    """Estimate the hazard ratio of a treatment in every level of every variable, and test interactions.

    The p-value of interaction is that of the likelihood-ratio test between the Cox model with treatment, variable and
    their products and the one without the products. A difference between subgroups is shown by it alone, not by one
    subgroup being significant and another not.

    Parameters
    ----------
    time, event, treatment
        Follow-up, event indicator (0/1) and treatment (1 treated, 0 control) per patient.
    subgroups
        Categorical columns, one row per patient; patients with a missing value are left out of that variable.

    Raises
    ------
    StatisticsError
        If treatment does not vary.

    References
    ----------
    Wang et al. 2007, doi:10.1056/NEJMsr077003.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    z = inputs.events(treatment, "treatment", length=t.size).astype(np.float64)
    if len(subgroups) != t.size:
        raise StatisticsError(f"{len(subgroups)} rows of subgroups for {t.size} patients", where="subgroups")
    notes = [
        Note(
            "subgroups are exploratory: no adjustment for their number; look at the interaction p", "subgroups", "info"
        )
    ]

    def line(variable: str, value: Any, own: np.ndarray[Any, np.dtype[np.bool_]], p: float | None) -> ForestRow:
        treated = own & (z == 1)
        counts = (int(own.sum()), int(d[own].sum()), int(treated.sum()), int(d[treated].sum()))
        try:
            model = cox(t[own], d[own], z[own], names=["treatment"], ties=ties, level=level)
        except CantlieError as error:
            notes.append(Note(error.what, where=f"subgroup {variable} = {value}"))
            return ForestRow(variable, value, *counts, np.nan, np.nan, np.nan, np.nan, p)
        low, high = model.interval[0].tolist()
        return ForestRow(variable, value, *counts, float(model.hazard_ratio[0]), low, high, float(model.p_value[0]), p)

    rows = [line("all", "all", np.ones(t.size, dtype=bool), None)]
    for name in subgroups.columns:
        known = subgroups[name].notna().to_numpy()
        codes, levels = inputs.labels(subgroups[name][known], str(name))
        if len(levels) < 2:
            notes.append(Note("has one level only", where=f"subgroup variable {name}"))
            continue
        dummies = np.column_stack([(codes == k).astype(np.float64) for k in range(1, len(levels))])
        main = np.column_stack([z[known], dummies])
        p_interaction: float | None = None
        try:
            small = cox(t[known], d[known], main, ties=ties)
            large = cox(t[known], d[known], np.column_stack([main, dummies * z[known][:, None]]), ties=ties)
            p_interaction = float(stats.chi2.sf(2 * (large.loglik - small.loglik), len(levels) - 1))
        except CantlieError as error:
            notes.append(Note(f"no test of interaction: {error.what}", where=f"subgroup variable {name}"))
        every = np.full(t.size, -1)
        every[known] = codes
        rows.extend(
            line(str(name), value, every == code, p_interaction if code == 0 else None)
            for code, value in enumerate(levels)
        )
    return Forest(tuple(rows), tuple(notes))
