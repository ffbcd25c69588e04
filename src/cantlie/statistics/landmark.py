"""Treatments that start during follow-up: landmark and time-dependent analyses, and the immortal time of naive ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.cox import CoxModel, TiesMethod, cox
from cantlie.statistics.logrank import LogRankTest, log_rank


@dataclass(frozen=True, slots=True, eq=False)
class LandmarkAnalysis:
    """Survival from a landmark on, groups fixed by what had happened by then."""

    landmark: float
    rows: NDArray[np.intp]
    exposed: NDArray[np.bool_]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    model: CoxModel
    test: LogRankTest
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ImmortalTimeReport:
    """The naive ever/never analysis beside those that do not give the treated a guarantee of survival."""

    naive: CoxModel
    time_dependent: CoxModel
    landmark: LandmarkAnalysis | None
    immortal_time: float
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per analysis: hazard ratio of the treatment with its interval."""
        models = [("naive (ever/never)", self.naive), ("time-dependent", self.time_dependent)]
        if self.landmark is not None:
            models.append((f"landmark at {self.landmark.landmark:g}", self.landmark.model))
        rows = [(name, m.n, m.n_events, float(m.hazard_ratio[0]), *m.interval[0].tolist()) for name, m in models]
        return pd.DataFrame(rows, columns=["analysis", "rows", "events", "hazard_ratio", "lower", "upper"])


def exposure_times(values: ArrayLike, length: int) -> NDArray[np.float64]:
    """Return the time at which exposure starts, infinity where it never does (missing values)."""
    start = np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)
    if start.size != length:
        raise StatisticsError(f"{start.size} exposure times for {length} patients", where="exposure time")
    start = np.where(np.isnan(start), np.inf, start)
    if (start < 0).any():
        raise StatisticsError(
            "an exposure starts before time zero", where="exposure time", remedy="count from the start of follow-up"
        )
    return start


def landmark_analysis(
    time: ArrayLike,
    event: ArrayLike,
    exposure_time: ArrayLike,
    *,
    landmark: float,
    ties: TiesMethod = "efron",
) -> LandmarkAnalysis:
    """Compare those exposed by the landmark with those not, among patients still followed after it.

    Parameters
    ----------
    time, event
        Follow-up from time zero and event indicator.
    exposure_time
        When the treatment started; NaN for never. It counts if it started at or before the landmark.
    landmark
        Time from which survival is counted anew; patients with follow-up up to it are left out.

    Raises
    ------
    StatisticsError
        If too few patients remain, or one group is empty.

    References
    ----------
    Anderson, Cain and Gelber 1983, doi:10.1200/JCO.1983.1.11.710.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    start = exposure_times(exposure_time, t.size)
    rows = np.flatnonzero(t > landmark)
    exposed = start[rows] <= landmark
    if rows.size == 0 or exposed.all() or not exposed.any():
        raise StatisticsError(
            f"at the landmark {landmark:g} one group is empty",
            where="landmark analysis",
            remedy="choose another landmark",
        )
    later = t[rows] - landmark
    model = cox(later, d[rows], exposed.astype(np.float64), names=["exposed"], ties=ties)
    test = log_rank(later, d[rows], exposed.astype(int))
    switched = int((np.isfinite(start[rows]) & ~exposed).sum())
    notes = [Note(f"{t.size - rows.size} patients with follow-up up to {landmark:g} are left out", "landmark", "info")]
    if switched:
        notes.append(Note(f"{switched} patients were treated after the landmark and count as untreated", "landmark"))
    return LandmarkAnalysis(landmark, rows, exposed, later, d[rows], model, test, tuple(notes))


def start_stop_rows(
    time: ArrayLike, event: ArrayLike, exposure_time: ArrayLike, *, count_first_day: bool = False
) -> pd.DataFrame:
    """Split each patient's follow-up where the exposure starts.

    An exposure at time 0 holds from the start; one at the very end of follow-up is put half a unit (half the shortest
    follow-up, if that is less) before it, so that the event is counted while exposed. With ``count_first_day`` the day
    of entry is day 1, all times grow by one, and an exposure on it starts after one unexposed day (the convention of
    Crowley and Hu's heart transplant data).

    Returns
    -------
    pandas.DataFrame
        Columns ``row``, ``start``, ``stop``, ``event``, ``exposed``.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    start = exposure_times(exposure_time, t.size)
    if count_first_day:
        t, start = t + 1, start + 1
    if (t == 0).any():
        raise StatisticsError(
            f"{int((t == 0).sum())} patients have no follow-up",
            where="time",
            remedy="give them half a day, or drop them",
        )
    at_end = start == t
    start = np.where(at_end, t - 0.5 * min(1.0, float(t.min())), start)
    split = (start > 0) & (start < t)
    first = pd.DataFrame(
        {
            "row": np.arange(t.size),
            "start": 0.0,
            "stop": np.where(split, start, t),
            "event": np.where(split, 0, d).astype(int),
            "exposed": (start <= 0).astype(int),
        }
    )
    second = pd.DataFrame(
        {
            "row": np.flatnonzero(split),
            "start": start[split],
            "stop": t[split],
            "event": d[split].astype(int),
            "exposed": 1,
        }
    )
    return pd.concat([first, second], ignore_index=True).sort_values(["row", "start"], ignore_index=True)


def immortal_time(
    time: ArrayLike,
    event: ArrayLike,
    exposure_time: ArrayLike,
    *,
    landmark: float | None = None,
    exposed_ever: ArrayLike | None = None,
    count_first_day: bool = False,
    ties: TiesMethod = "efron",
) -> ImmortalTimeReport:
    """Show what counting patients as treated before their treatment does to a hazard ratio.

    Parameters
    ----------
    time, event
        Follow-up from diagnosis (or whatever time zero) and event indicator.
    exposure_time
        When the treatment started; NaN for never.
    landmark
        Also analyse from this time on.
    exposed_ever
        0/1, who counts as treated in the naive analysis; those with an exposure time if not given.
    count_first_day
        See ``start_stop_rows``.

    Raises
    ------
    StatisticsError
        If nobody or everybody was treated.

    References
    ----------
    Suissa 2008, doi:10.1093/aje/kwm324; Crowley and Hu 1977, doi:10.1080/01621459.1977.10479903.
    """
    t = inputs.times(time)
    d = inputs.events(event, length=t.size)
    start = exposure_times(exposure_time, t.size)
    ever = np.isfinite(start) if exposed_ever is None else inputs.events(exposed_ever, "exposed", length=t.size)
    if ever.all() or not ever.any():
        raise StatisticsError("everybody or nobody was treated, so there is nothing to compare", where="exposure")
    naive = cox(t, d, ever.astype(np.float64), names=["exposed"], ties=ties)
    rows = start_stop_rows(t, d, exposure_time, count_first_day=count_first_day)
    changing = cox(rows["stop"], rows["event"], rows[["exposed"]], entry=rows["start"], ties=ties)
    fixed = None if landmark is None else landmark_analysis(t, d, exposure_time, landmark=landmark, ties=ties)
    waited = float(np.minimum(start, t)[np.isfinite(start)].sum())
    notes = []
    if waited > 0:
        share = 100 * waited / t[ever].sum()
        notes.append(
            Note(
                f"immortal time: the treated waited {waited:g} in all ({share:.0f} % of their follow-up) for a "
                f"treatment that they had to live to receive; the naive hazard ratio {naive.hazard_ratio[0]:.2f} "
                f"counts it as treated, the time-dependent one is {changing.hazard_ratio[0]:.2f}",
                where="immortal time",
            )
        )
    return ImmortalTimeReport(naive, changing, fixed, waited, tuple(notes))
