"""Patient-level survival data from a published Kaplan–Meier figure and its numbers at risk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs


@dataclass(frozen=True, slots=True, eq=False)
class ReconstructedData:
    """Times and event indicators that give back a published curve, shape (n,)."""

    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return one row per reconstructed patient."""
        return pd.DataFrame({"time": self.time, "event": self.event.astype(int)})


@njit(cache=True)
def _walk(
    survival: NDArray[np.float64], gap: NDArray[np.float64], at_risk: int, height: float, censored: int
) -> tuple[int, int]:
    """Lose ``censored`` patients evenly over an interval; return who remains at risk and how many died."""
    total = gap.sum()
    lost = deaths = 0
    passed = 0.0
    for k in range(gap.size):
        passed += gap[k]
        due = int(np.floor(censored * passed / total + 0.5)) if total > 0 else censored
        step = min(due - lost, at_risk)
        lost += step
        at_risk -= step
        if k < survival.size and at_risk > 0 and height > 0:
            died = min(int(np.rint(at_risk * (1 - survival[k] / height))), at_risk)
            deaths += died
            height *= 1 - died / at_risk
            at_risk -= died
    return at_risk, deaths


@njit(cache=True)
def _place(
    survival: NDArray[np.float64],
    gap: NDArray[np.float64],
    start: int,
    height: float,
    censored: int,
    error: float,
    end: int,
    deaths_wanted: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp], float]:
    """Find the losses before and the deaths at every click that explain the drops best.

    A shortest path over (click, number at risk): each click costs the squared distance of the curve, in units of the
    reading error, each loss its squared distance from an even spread, in units of its Poisson variance. The path ends
    with ``end`` patients at risk, or, if that is negative, with ``deaths_wanted`` deaths (any number if negative).
    """
    clicks = survival.size
    infinite = 1e300
    cost = np.full(start + 1, infinite)
    level = np.zeros(start + 1)
    died_by = np.zeros(start + 1, dtype=np.intp)
    cost[start], level[start] = 0.0, height
    from_state = np.full((clicks + 1, start + 1), -1)
    lost_at = np.zeros((clicks + 1, start + 1), dtype=np.intp)
    died_at = np.zeros((clicks + 1, start + 1), dtype=np.intp)
    whole = max(gap.sum(), 1e-300)
    for k in range(clicks + 1):
        new_cost = np.full(start + 1, infinite)
        new_level = np.zeros(start + 1)
        new_died = np.zeros(start + 1, dtype=np.intp)
        even = censored * gap[k] / whole
        most = int(even + 6 * np.sqrt(even + 1) + 3)
        for n in range(start + 1):
            if cost[n] >= infinite:
                continue
            for lost in range(min(n, most) + 1 if gap[k] > 0 else 1):
                m = n - lost
                base = cost[n] + (lost - even) ** 2 / max(even, 0.5)
                if k == clicks:
                    if base < new_cost[m]:
                        new_cost[m], new_level[m], new_died[m] = base, level[n], died_by[n]
                        from_state[k, m], lost_at[k, m] = n, lost
                    continue
                wish = m * (1 - survival[k] / level[n]) if level[n] > 0 else 0.0
                for up in range(2):
                    died = min(max(int(np.floor(wish)) + up, 0), m)
                    after = level[n] * (1 - died / m) if m > 0 else level[n]
                    total = base + ((after - survival[k]) / error) ** 2
                    if total < new_cost[m - died]:
                        new_cost[m - died], new_level[m - died] = total, after
                        new_died[m - died] = died_by[n] + died
                        from_state[k, m - died], lost_at[k, m - died], died_at[k, m - died] = n, lost, died
        cost, level, died_by = new_cost, new_level, new_died
    best, best_cost = -1, infinite
    for n in range(start + 1):
        if cost[n] >= infinite:
            continue
        total = cost[n]
        if end >= 0:
            total += 1e6 * abs(n - end)
        elif deaths_wanted >= 0:
            total += 1e6 * abs(died_by[n] - deaths_wanted)
        if total < best_cost:
            best, best_cost = n, total
    lost_path, died_path = np.zeros(clicks + 1, dtype=np.intp), np.zeros(clicks + 1, dtype=np.intp)
    final = level[best]
    for k in range(clicks, -1, -1):
        lost_path[k], died_path[k] = lost_at[k, best], died_at[k, best]
        best = from_state[k, best]
    return lost_path, died_path, final


def reconstruct(
    time: ArrayLike,
    survival: ArrayLike,
    risk_times: ArrayLike,
    n_risk: ArrayLike,
    *,
    total_events: int | None = None,
    reading_error: float = 0.001,
) -> ReconstructedData:
    """Reconstruct patient data from the clicks on a published curve and the table of numbers at risk.

    Within each interval between two numbers at risk it is first found how many patients, lost evenly, leave the printed
    number at risk when deaths are rounded to whole patients (Guyot's algorithm). Since the height of a drop also tells
    how many were at risk, losses are then moved to where they explain the drops best (a shortest path). The last
    interval is fitted to the total number of events, if that is printed.

    Parameters
    ----------
    time, survival
        Points read off the figure, survival from 0 to 1 (small rises from reading are flattened).
    risk_times, n_risk
        The table under the figure; its first time is the start.
    total_events
        Number of events of the group, if printed.
    reading_error
        Standard error of a click's survival, from 0 to 1.

    Returns
    -------
    ReconstructedData
        Exactly ``n_risk[0]`` patients; notes tell where the printed numbers could not be met.

    Raises
    ------
    StatisticsError
        If the table grows with time, survival is not within 0 to 1, or lengths differ.

    References
    ----------
    Guyot et al. 2012, doi:10.1186/1471-2288-12-9.
    """
    t = inputs.times(time, "clicked time")
    s = inputs.numbers(survival, "clicked survival", length=t.size)
    at = inputs.numbers(risk_times, "risk times")
    n = np.rint(inputs.numbers(n_risk, "numbers at risk", length=at.size)).astype(int)
    if (s < -1e-9).any() or (s > 1 + 1e-9).any():
        raise StatisticsError("survival must lie between 0 and 1", where="clicked survival", remedy="divide by 100")
    if at.size == 0 or (np.diff(at) <= 0).any():
        raise StatisticsError("risk times must grow", where="risk times")
    if (np.diff(n) > 0).any() or (n < 0).any() or n[0] < 1:
        raise StatisticsError("numbers at risk must not grow", where="numbers at risk")
    if not reading_error > 0:
        raise StatisticsError("the reading error must be positive", where="reading_error")
    order = np.lexsort((-s, t))
    t, s = t[order], np.minimum.accumulate(np.clip(s[order], 0.0, 1.0))
    end = max(float(t[-1]), float(at[-1]))
    notes: list[Note] = []
    event_times, censor_times = [np.empty(0)], [np.empty(0)]
    at_risk, height, events, lost_before = int(n[0]), 1.0, 0, 0
    for i, start in enumerate(at):
        last = i == at.size - 1
        stop = end if last else float(at[i + 1])
        own = (t >= start) & ((t <= stop) if last else (t < stop))
        clicks = t[own]
        edges = np.concatenate([[start], clicks, [stop]])
        gap = np.diff(edges)
        wanted, deaths_wanted = -1, -1
        if not last:
            wanted = int(n[i + 1])
            censored = _nearest([_walk(s[own], gap, at_risk, height, c)[0] - wanted for c in range(at_risk + 1)])
        elif total_events is not None:
            deaths_wanted = max(int(total_events) - events, 0)
            censored = _nearest([_walk(s[own], gap, at_risk, height, c)[1] - deaths_wanted for c in range(at_risk + 1)])
        else:
            elapsed = float(start - at[0])
            censored = int(min(at_risk, np.rint(lost_before / elapsed * (stop - start)))) if elapsed > 0 else 0
        lost, died, height = _place(s[own], gap, at_risk, height, censored, reading_error, wanted, deaths_wanted)
        for k in np.flatnonzero(lost):
            share = np.arange(1, lost[k] + 1) / (lost[k] + 1)
            censor_times.append(edges[k] + (edges[k + 1] - edges[k]) * share)
        event_times.append(np.repeat(clicks, died[:-1]))
        events += int(died.sum())
        lost_before += int(lost.sum())
        at_risk -= int(died.sum() + lost.sum())
        if not last and at_risk != wanted:
            notes.append(
                Note(f"{at_risk} instead of the printed {wanted} remain at risk at {stop:g}", "reconstruction")
            )
        if last and total_events is not None and events != total_events:
            notes.append(Note(f"{events} instead of the printed {total_events} events", "reconstruction"))
    happened = np.concatenate(event_times)
    lost_at = np.concatenate([*censor_times, np.full(at_risk, end)])
    both = np.concatenate([happened, lost_at])
    is_event = np.concatenate([np.ones(happened.size, dtype=bool), np.zeros(lost_at.size, dtype=bool)])
    place = np.argsort(both, kind="stable")
    return ReconstructedData(both[place], is_event[place], tuple(notes))


def _nearest(excess: list[int]) -> int:
    """Return the first index at which a list comes nearest to zero."""
    return int(np.argmin(np.abs(np.asarray(excess))))
