"""Figures of single patients: waterfall of best change, swimmer of the time on study, spider of sizes over time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cantlie.cohort.response import CohortResponse
from cantlie.cohort.tables import Cohort
from cantlie.cohort.variables import DAYS_PER_MONTH
from cantlie.core.errors import CohortError
from cantlie.report import style

_COLOURS = {
    "CR": style.SERIES[2],
    "PR": style.SERIES[5],
    "SD": style.SERIES[9],
    "non-CR/non-PD": style.SERIES[9],
    "PD": style.SERIES[1],
    "NE": style.RULE,
}
_MARKS = {
    "local_progression": ("v", "local progression"),
    "new_liver_lesion": ("D", "new liver lesion"),
    "extrahepatic_progression": ("s", "extrahepatic progression"),
    "progression": ("^", "progression"),
    "death": ("X", "death"),
}


def _mark_synthetic(picture: Figure, synthetic: bool) -> None:
    if synthetic:
        picture.text(0.995, 0.995, "SYNTHETIC", fontsize=6.5, color=style.FAIL, ha="right", va="top", weight=600)


def best_change(response: CohortResponse) -> pd.Series:
    """Return each patient's best (most negative) change of the sum of target lesions in percent, before progression."""
    rows = response.timepoints[np.isfinite(response.timepoints["change_percent"].to_numpy(dtype=float))]
    changes = {}
    for patient, own in rows.groupby("patient_id", sort=True):
        progressed = (own["overall"] == "PD").to_numpy()
        stop = int(np.argmax(progressed)) if progressed.any() else len(own)
        kept = own["change_percent"].iloc[: max(stop, 1)]
        changes[str(patient)] = float(kept.min())
    return pd.Series(changes, dtype=float)


def waterfall_figure(response: CohortResponse, *, synthetic: bool = False) -> Figure:
    """Return a waterfall plot: one bar for each patient, in order, coloured by best overall response.

    Raises
    ------
    CohortError
        If no patient has a change to show.
    """
    changes = best_change(response).sort_values(ascending=False)
    if changes.empty:
        raise CohortError("no patient has measurements after baseline", where="waterfall", remedy="add measurements")
    with style.figure_style():
        picture = style.new_figure(6.4, 2.9)
        axes = picture.add_axes((0.09, 0.12, 0.89, 0.76))
        best = response.best.reindex(changes.index).astype(str)
        for name in dict.fromkeys(best):
            own = np.flatnonzero((best == name).to_numpy())
            axes.bar(
                own, np.clip(changes.to_numpy()[own], -100, 100), color=_COLOURS.get(name, style.MUTED), label=name
            )
        for number in np.flatnonzero(changes.to_numpy() > 100):
            axes.text(float(number), 101, "+", ha="center", va="bottom", fontsize=7)
        for level in (20, -30):
            axes.axhline(level, color=style.MUTED, linewidth=0.7, linestyle=(0, (4, 3)))
        axes.axhline(0, color=style.INK, linewidth=0.7)
        axes.set_ylim(-105, 112)
        axes.set_xticks([])
        axes.set_xlabel(f"{len(changes)} patients")
        axes.set_ylabel("Best change of target lesions (%)")
        axes.set_title(f"Best response by {response.criteria}")
        axes.legend(loc="upper right", ncols=4)
        _mark_synthetic(picture, synthetic)
    return picture


def swimmer_figure(cohort: Cohort, *, most: int = 60) -> Figure:
    """Return a swimmer plot: a lane for each patient from the start of treatment to the last day, with events on it.

    Parameters
    ----------
    most
        Lanes shown at most, longest first.

    Raises
    ------
    CohortError
        If no patient has a start and a last day.
    """
    events = cohort.table("events")
    last = events.groupby("patient_id")["date"].max()
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    months = ((last.reindex(starts.index) - starts).dt.days / DAYS_PER_MONTH).dropna().sort_values(ascending=False)
    if months.empty:
        raise CohortError("no patient has a start and a last day", where="swimmer", remedy="add the events")
    months = months.iloc[:most]
    arms = cohort.patients.set_index("patient_id")["arm"].reindex(months.index)
    names = [str(arm) for arm in dict.fromkeys(arms.dropna())]
    with style.figure_style():
        height = max(1.0 + 0.085 * len(months), 2.4)
        picture = style.new_figure(6.4, height)
        axes = picture.add_axes((0.04, 0.40 / height, 0.93, (height - 0.75) / height))
        for number, (arm, length) in enumerate(zip(arms, months, strict=True)):
            colour = style.SERIES[names.index(str(arm)) % len(style.SERIES)] if arm is not None else style.SERIES[0]
            axes.barh(number, length, height=0.62, color=colour, alpha=0.45, linewidth=0)
        place = {patient: number for number, patient in enumerate(months.index)}
        for kind, (mark, label) in _MARKS.items():
            own = events[(events["kind"] == kind) & events["patient_id"].isin(months.index)]
            if own.empty:
                continue
            x = (own["date"] - own["patient_id"].map(starts)).dt.days / DAYS_PER_MONTH
            y = [place[patient] for patient in own["patient_id"]]
            axes.plot(x, y, mark, color=style.INK, markersize=3.4, linestyle="none", label=label)
        alive = [p for p in months.index if p not in set(events.loc[events["kind"] == "death", "patient_id"])]
        axes.plot(
            [months[p] + 0.012 * months.max() for p in alive], [place[p] for p in alive], ">", color=style.ACCENT,
            markersize=3.4, linestyle="none", label="alive",
        )  # fmt: skip
        for number, name in enumerate(names):
            axes.barh(0, 0, color=style.SERIES[number % len(style.SERIES)], alpha=0.45, label=name)
        axes.set_ylim(len(months) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_xlim(left=0)
        axes.set_xlabel("Months from the start of treatment")
        axes.set_title(f"Course of {len(months)} of {len(cohort)} patients")
        axes.legend(loc="lower right")
        _mark_synthetic(picture, cohort.synthetic)
    return picture
