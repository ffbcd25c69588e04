"""Made-up survival times that reproduce printed rates, medians and counts of events."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from cantlie.study.synthesis_kernels import log_rank_chi2, rate_or_median

DAYS_PER_MONTH = 365.25 / 12
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_SMALL = 60


@dataclass(frozen=True, slots=True)
class Target:
    """One printed number.

    A rate in percent at a month, a median in months, a number of events or of those alive at a month, a log-rank p.

    ``tolerance`` is half a unit of the last printed digit.
    """

    kind: Literal["rate", "median", "events", "p", "alive"]
    value: float
    month: float = 0.0
    tolerance: float = 0.05
    label: str = ""


def miss(time: Floats, event: Bools, members: Bools, target: Target, other: Bools | None = None) -> float:
    """Return how far a target is missed, in units of its tolerance; 0 when it is met.

    ``other`` is the second group of a comparison.
    """
    if target.kind == "events":
        return 4.0 * abs(float(event[members].sum()) - target.value)
    if target.kind == "alive":
        return 4.0 * abs(float((time[members] > target.month).sum()) - target.value)
    if target.kind == "p":
        found = float(special.chdtrc(1.0, log_rank_chi2(time, event, members, members if other is None else other)))
    elif target.kind == "rate":
        found = 100.0 * float(rate_or_median(time, event, members, target.month))
    else:
        found = float(rate_or_median(time, event, members, -1.0))
    return max(0.0, abs(found - target.value) / target.tolerance - 1.0)


def penalty(missed: float) -> float:
    """Return the weight of a miss in the search: large ones count less than in proportion."""
    return 3.0 * math.log1p(missed)


def plan_times(
    size: int,
    targets: Sequence[Target],
    *,
    deaths: int | None,
    first_month: float,
    last_month: float,
    rng: np.random.Generator,
) -> tuple[Floats, Bools, list[str]]:
    """Return times (months) and events of one group that meet its rates and its median exactly, where that can be.

    Between two landmarks the numbers of deaths and of censored are searched so that the product-limit estimate rounds
    to the printed rate with as few censored as possible; a death falls on the median.

    Returns
    -------
    time, event, missed
        Shape (size,) each, and the targets that could not be met.
    """
    marks: list[tuple[float, Target]] = sorted(
        ((t.month if t.kind == "rate" else t.value, t) for t in targets if t.kind != "events"), key=lambda m: m[0]
    )
    if size <= _SMALL and marks and all(t.tolerance > 1e-3 for _, t in marks):
        shuffled = _shuffled(size, marks, deaths, first_month, last_month, rng)
        if shuffled is not None:
            return (*shuffled, [])
        if deaths is not None:
            shuffled = _shuffled(size, marks, None, first_month, last_month, rng)
            if shuffled is not None:
                made = int(shuffled[1].sum())
                return (*shuffled, [f"{deaths} deaths in {size} with the printed rates: {made} were made"])
    at_risk, survival, now = size, 1.0, first_month
    times: list[float] = []
    events: list[bool] = []
    missed = []
    for month, target in marks:
        if target.kind == "median":
            step = _to_median(at_risk, survival)
            if step is None:
                missed.append(f"{target.label}: the median {target.value:g} cannot be at {month:g} months")
                continue
            count, together = step
            inner = _spread(now, month, count - 1, rng)
            times += [*inner, *[float(whole_days(month))] * together]
            events += [True] * (count - 1 + together)
            gone = count - 1 + together
            survival *= (at_risk - gone) / at_risk
            at_risk -= gone
        else:
            found = _to_rate(at_risk, survival, target)
            if found is None:
                missed.append(f"{target.label}: {target.value:g} % at {month:g} months")
                continue
            before, censored, after = found
            sequence = [True] * before + [False] * censored + [True] * after
            days = _spread(now, month, len(sequence), rng)
            if censored:
                last = days[before + censored - 1]
                days[before : before + censored] = last
                days[before + censored :] = np.maximum(days[before + censored :], last + 1 / DAYS_PER_MONTH)
            times += list(days)
            events += sequence
            survival *= (at_risk - before) / at_risk
            rest = at_risk - before - censored
            if after:
                survival *= (rest - after) / rest
            at_risk = rest - after
        now = max(now, month)
    more = 0 if deaths is None else deaths - sum(events)
    if more < 0 or more > at_risk:
        missed.append(f"{deaths} deaths in {size}: the rates need {sum(events)} with {at_risk} left")
        more = min(max(more, 0), at_risk)
    tail = whole_days(np.sort(rng.uniform(now + 0.5, max(last_month, now + 2.0), at_risk)))
    dying = np.zeros(at_risk, dtype=bool)
    dying[rng.permutation(at_risk)[:more]] = True
    return np.array([*times, *tail]), np.array([*events, *dying], dtype=bool), missed


def _shuffled(
    size: int,
    marks: Sequence[tuple[float, Target]],
    deaths: int | None,
    first_month: float,
    last_month: float,
    rng: np.random.Generator,
) -> tuple[Floats, Bools] | None:
    """Draw orders of deaths and censored until all rates and the median of a small group are met, else None."""
    at_risk = size - np.arange(size)
    for _ in range(500):
        count = deaths if deaths is not None else int(rng.integers(size // 2, size))
        base = np.arange(size) < count
        orders = rng.permuted(np.broadcast_to(base, (4000, size)), axis=1)
        survival = np.cumprod(np.where(orders, 1.0 - 1.0 / at_risk, 1.0), axis=1)
        fits = np.ones(len(orders), dtype=bool)
        places = np.zeros((len(orders), len(marks)), dtype=int)
        for number, (_, target) in enumerate(marks):
            if target.kind == "median":
                places[:, number] = np.argmax(survival <= 0.5, axis=1)
                fits &= survival.min(axis=1) < 0.5 - 1e-9
                fits &= np.abs(survival - 0.5).min(axis=1) > 1e-9
            else:
                hit = np.abs(100 * survival - target.value) <= target.tolerance * 0.98
                fits &= hit.any(axis=1)
                places[:, number] = np.argmax(hit, axis=1)
        for number in range(1, len(marks)):
            least = 1 if marks[number][1].kind == "median" else 0
            fits &= places[:, number] - places[:, number - 1] >= least
        if fits.any():
            row = int(np.argmax(fits))
            return _timed(orders[row], places[row], marks, first_month, last_month, rng), orders[row].copy()
    return None


def _timed(
    order: Bools,
    places: NDArray[np.int64],
    marks: Sequence[tuple[float, Target]],
    first_month: float,
    last_month: float,
    rng: np.random.Generator,
) -> Floats:
    """Give distinct days to an order of events, so that each landmark falls after its place."""
    days = np.zeros(len(order))
    start, now = 0, int(first_month * DAYS_PER_MONTH)
    for place, (month, target) in zip(places, marks, strict=True):
        stop = int(np.floor(month * DAYS_PER_MONTH))
        exact = target.kind == "median"
        count = place - start + (0 if exact else 1)
        days[start : start + count] = np.sort(rng.choice(np.arange(now + 1, stop), count, replace=False))
        if exact:
            days[place] = np.round(month * DAYS_PER_MONTH)
        start, now = int(place) + 1, stop + 1
    end = max(int(last_month * DAYS_PER_MONTH), now + 2 * len(order))
    days[start:] = np.sort(rng.choice(np.arange(now + 1, end), len(order) - start, replace=False))
    return days / DAYS_PER_MONTH


def _spread(start: float, stop: float, count: int, rng: np.random.Generator) -> Floats:
    room = (stop - start) * 0.03
    return whole_days(np.sort(rng.uniform(start + room, stop - room, count)))


def whole_days(months: Floats | float) -> Floats:
    """Return months rounded to whole days."""
    return np.round(np.asarray(months) * DAYS_PER_MONTH) / DAYS_PER_MONTH


def _to_median(at_risk: int, survival: float) -> tuple[int, int] | None:
    for count in range(1, at_risk + 1):
        after = survival * (at_risk - count) / at_risk
        if after <= 0.5 + 1e-12 and survival * (at_risk - count + 1) / at_risk > 0.5 + 1e-12:
            exact = abs(after - 0.5) < 1e-9 and count < at_risk
            return count, 2 if exact else 1
    return None


def _to_rate(at_risk: int, survival: float, target: Target) -> tuple[int, int, int] | None:
    low, high = (target.value - target.tolerance) / 100, (target.value + target.tolerance) / 100
    most = min(at_risk - 1, max(12, at_risk // 3))
    for censored in range(most + 1):
        for before in range(at_risk - censored + 1) if censored else (0,):
            left = survival * (at_risk - before) / at_risk
            rest = at_risk - before - censored
            if rest <= 0 or left < low - 1e-12:
                break
            fewest = int(np.ceil(rest * (1 - high / left) - 1e-9))
            after = max(fewest, 0)
            if after <= rest and low - 1e-12 <= left * (rest - after) / rest <= high + 1e-12:
                return before, censored, after
    return None


@dataclass(frozen=True, slots=True)
class Subset:
    """A target for some of the patients; ``other`` is the second group when the target is a comparison."""

    members: Bools
    target: Target
    other: Bools | None = None
    weight: float = 1.0

    @property
    def concerned(self) -> Bools:
        """Patients on whom the target depends."""
        return self.members if self.other is None else self.members | self.other


def search_times(
    time: Floats,
    event: Bools,
    subsets: Sequence[Subset],
    strata: NDArray[np.int64],
    landmarks: Sequence[float],
    *,
    rng: np.random.Generator,
    rounds: int,
    pinned: Sequence[float] = (),
) -> tuple[Floats, Bools, list[str]]:
    """Exchange times between patients of a stratum, move times and turn events, until the subsets fit.

    Simulated annealing; what fits best is kept. ``pinned`` times (medians) stay. Targets that must not be lost are
    to be among the subsets.

    Returns
    -------
    time, event, missed
        The targets that are still not met are named.
    """
    time, event = time.copy(), event.copy()
    concern = np.array([s.concerned for s in subsets], dtype=np.bool_).reshape(len(subsets), len(time))
    sides = np.array([s.members for s in subsets], dtype=np.bool_).reshape(len(subsets), len(time))
    misses = np.array([s.weight * penalty(miss(time, event, s.members, s.target, s.other)) for s in subsets])
    by_stratum = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    by_stratum = [rows for rows in by_stratum if len(rows) > 1]
    weights = np.array([len(rows) for rows in by_stratum], dtype=float)
    edges = np.array([0.0, *sorted(landmarks), np.inf])
    fixed = whole_days(np.array(sorted(pinned), dtype=float))
    shortest, longest = float(time.min()), float(time.max())
    best = float(misses.sum())
    kept = time.copy(), event.copy(), misses.copy()
    for number in range(rounds):
        if best <= 0:
            break
        rows = by_stratum[int(rng.choice(len(by_stratum), p=weights / weights.sum()))]
        a, b = rng.choice(rows, 2, replace=False)
        old = time[[a, b]].copy(), event[[a, b]].copy()
        move = rng.random()
        if move < 0.55:
            time[[a, b]], event[[a, b]] = time[[b, a]], event[[b, a]]
            changed = (concern[:, a] != concern[:, b]) | (sides[:, a] != sides[:, b])
        else:
            if len(fixed) and np.min(np.abs(fixed - time[a])) < 1e-9:
                continue
            if move < 0.75:
                place = int(np.searchsorted(edges, time[a], side="left"))
                low, high = edges[max(place - 1, 0)], min(edges[max(place, 1)], longest)
                time[a] = whole_days(rng.uniform(max(low + 0.1, shortest), max(high - 0.1, low + 0.2, shortest + 0.1)))
            elif move < 0.9:
                time[a] = whole_days(rng.uniform(shortest, longest))
            else:
                event[a] = not event[a]
            changed = concern[:, a]
        touched = np.flatnonzero(changed)
        chosen = [subsets[int(k)] for k in touched]
        fresh = np.array([s.weight * penalty(miss(time, event, s.members, s.target, s.other)) for s in chosen])
        loss = float(fresh.sum() - misses[touched].sum())
        heat = 0.4 * (1.0 - number / rounds) ** 2
        if loss <= 0 or rng.random() < np.exp(-loss / max(heat, 1e-6)):
            misses[touched] = fresh
            total = float(misses.sum())
            if total < best:
                best = total
                kept = time.copy(), event.copy(), misses.copy()
        else:
            time[[a, b]], event[[a, b]] = old
    time, event, misses = kept
    return time, event, [subsets[int(k)].target.label for k in np.flatnonzero(misses)]


def search_progressions(
    os_time: Floats,
    failing: Bools,
    score: Callable[[Floats, NDArray[np.intp]], float],
    *,
    first_month: float,
    rng: np.random.Generator,
    rounds: int,
) -> tuple[Floats, NDArray[np.intp], float]:
    """Find times of first failure before death, and who fails in which way, for the lowest score.

    Parameters
    ----------
    os_time
        Months to death or last day seen, shape (n,).
    failing
        Patients who fail; exchanges of ways happen among all patients of equal ``score`` rules.
    score
        Function of the times (infinity without failure) and of the permutation of the ways of failing.

    Returns
    -------
    times, ways, score
    """
    count = len(os_time)
    ways = np.arange(count)
    times = np.full(count, np.inf)
    times[failing] = whole_days(rng.uniform(min(first_month, 1.0), os_time[failing]))
    now = score(times, ways)
    best = times.copy(), ways.copy(), now
    for number in range(rounds):
        if best[2] <= 0:
            break
        new_times, new_ways = times.copy(), ways.copy()
        if rng.random() < 0.75:
            who = int(rng.choice(np.flatnonzero(np.isfinite(times))))
            new_times[who] = whole_days(rng.uniform(min(first_month, os_time[who] * 0.5), os_time[who]))
        else:
            a, b = rng.integers(0, count, 2)
            new_ways[[a, b]] = new_ways[[b, a]]
            finite = np.isfinite(new_times[[b, a]])
            drawn = whole_days(rng.uniform(0.3, 1.0, 2) * os_time[[a, b]])
            new_times[[a, b]] = np.where(finite, drawn, np.inf)
        found = score(new_times, new_ways)
        heat = 0.8 * (1.0 - number / rounds) ** 2
        if found <= now or rng.random() < np.exp(-(found - now) / max(heat, 1e-6)):
            times, ways, now = new_times, new_ways, found
            if now < best[2]:
                best = times.copy(), ways.copy(), now
    return best
