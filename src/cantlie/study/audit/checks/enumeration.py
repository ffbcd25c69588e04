"""Which Kaplan–Meier estimates are possible at all: enumeration of every order of events and censorings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.study.audit.printed import Printed

LARGEST = 60
_FINE, _COARSE = 1e-10, 1e-5
_MANY = 20_000
_States = dict[tuple[int, int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Events and censorings before the last landmark that give the printed rates."""

    events: int
    censored: int


def reachable_pattern(patients: int, rates: list[Printed], *, events: int | None = None) -> Pattern | None:
    """Find the pattern with fewest censorings whose Kaplan–Meier curve takes the printed values in turn.

    Each event among r patients at risk multiplies the curve by (r - 1)/r; a censoring lowers r alone (Kaplan and
    Meier 1958, doi 10.1080/01621459.1958.10501452). All orders are followed. Where more than 20 000 values of the curve
    are possible at one step they are kept on a grid of 1e-5, with a slack that can only turn an impossible rate into a
    possible one.

    Parameters
    ----------
    patients
        Patients at the start; at most `LARGEST`.
    rates
        Printed rates in percent at increasing times.
    events
        The most events that may happen in all.

    Returns
    -------
    Pattern or None
        None if no order of events and censorings gives the rates.
    """
    most = patients if events is None else min(events, patients)
    tried = -1
    for allowed in (0, 1, 2, 3, 5, 8, 13, 21, 34, patients):
        censorings = min(allowed, patients)
        if censorings == tried:
            continue
        tried = censorings
        states: _States = {(0, 0): np.array([1.0])}
        coarse = False
        for rate in rates:
            widest = patients * _COARSE / 2 + 1e-9
            states, rounded_now = _run(states, patients, most, censorings, rate.low / 100 - widest)
            coarse = coarse or rounded_now
            slack = widest if coarse else 1e-9
            low, high = rate.low / 100 - slack, rate.high / 100 + slack
            states = {k: kept for k, curve in states.items() if (kept := curve[(curve >= low) & (curve <= high)]).size}
            if not states:
                break
        if states:
            best = min(states, key=lambda key: (key[1], key[0]))
            return Pattern(*best)
    return None


def _run(start: _States, patients: int, most_events: int, most_censored: int, low: float) -> tuple[_States, bool]:
    """Follow every further event and censoring as long as the curve stays at or above ``low``.

    Also returns whether values had to be put on the coarse grid.
    """
    coarse = False
    layers: dict[int, dict[tuple[int, int], list[NDArray[np.float64]]]] = {}
    for (events, censored), curve in start.items():
        layers.setdefault(events + censored, {}).setdefault((events, censored), []).append(curve)
    found: _States = {}
    for gone in range(patients + 1):
        for (events, censored), pieces in layers.pop(gone, {}).items():
            curve = _distinct(np.concatenate(pieces), _FINE) if len(pieces) > 1 else pieces[0]
            curve = curve[curve >= low]
            if curve.size > _MANY:
                curve, coarse = _distinct(curve, _COARSE), True
            if not curve.size:
                continue
            found[events, censored] = curve
            at_risk = patients - gone
            if at_risk == 0:
                continue
            following = layers.setdefault(gone + 1, {})
            if events < most_events:
                following.setdefault((events + 1, censored), []).append(curve * (at_risk - 1) / at_risk)
            if censored < most_censored:
                following.setdefault((events, censored + 1), []).append(curve)
    return found, coarse


def _distinct(values: NDArray[np.float64], grid: float) -> NDArray[np.float64]:
    return np.unique(np.round(values / grid)) * grid


@dataclass(frozen=True, slots=True)
class Stratum:
    """One group of a partition: its patients and its printed rate in percent."""

    name: str
    patients: int
    rate: Printed


def joint_pattern(
    pooled: Stratum, partitions: list[list[Stratum]], *, longest: int = 7, nodes: int = 100_000
) -> str | None:
    """Find one course of events that gives the pooled rate and the rates of all strata of all partitions at once.

    Returns a description such as ``4 events, 1 censored``, or None when none of at most ``longest`` steps is found
    within the allowed number of nodes (which proves nothing).
    """
    groups = [stratum for partition in partitions for stratum in partition]
    offsets = np.cumsum([0, *[len(partition) for partition in partitions]])
    choices: list[tuple[int, ...]] = [()]
    for number, partition in enumerate(partitions):
        choices = [(*choice, int(offsets[number]) + i) for choice in choices for i in range(len(partition))]
    lows = [pooled.rate.low / 100, *[stratum.rate.low / 100 for stratum in groups]]
    highs = [pooled.rate.high / 100, *[stratum.rate.high / 100 for stratum in groups]]
    budget = nodes

    def search(at_risk: tuple[int, ...], curve: tuple[float, ...], left: int, events: int, censored: int) -> str | None:
        nonlocal budget
        budget -= 1
        if budget < 0:
            return None
        if all(low - 1e-9 <= value <= high + 1e-9 for low, value, high in zip(lows, curve, highs, strict=True)):
            return f"{events} events and {censored} censored"
        if left == 0:
            return None
        for choice in choices:
            touched = (0, *(index + 1 for index in choice))
            if any(at_risk[index] == 0 for index in touched):
                continue
            after = tuple(count - (index in touched) for index, count in enumerate(at_risk))
            falling = tuple(
                value * (at_risk[index] - 1) / at_risk[index] if index in touched else value
                for index, value in enumerate(curve)
            )
            if all(value >= low - 1e-9 for value, low in zip(falling, lows, strict=True)):
                found = search(after, falling, left - 1, events + 1, censored)
                if found:
                    return found
            if censored < 2:
                found = search(after, curve, left - 1, events, censored + 1)
                if found:
                    return found
        return None

    start = (pooled.patients, *(stratum.patients for stratum in groups))
    for length in range(1, longest + 1):
        found = search(start, tuple(1.0 for _ in start), length, 0, 0)
        if found or budget < 0:
            return found
    return None
