"""Made-up levels and values that reproduce the printed counts, means, standard deviations, medians and ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cantlie.study.definition import Row, Study, TableSpec, VariableSpec

Cells = dict[tuple[str, str], dict[str, int]]
"""Counts of levels by (set, group)."""


def row_cells(study: Study, table: TableSpec, row: Row) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return the printed numbers of a row by (set, group)."""
    result = {}
    for key, numbers in row.printed.items():
        set_name, _, group = key.rpartition(":")
        result[(set_name or table.sets[0], group)] = numbers
    return result


def printed_levels(study: Study) -> dict[str, Cells]:
    """Return all printed counts of levels: variable to (set, group) to level to count.

    A row of several levels (ORR) repeats others and is left out; grades count as the levels "1" to "4".
    """
    result: dict[str, Cells] = {}
    for table in study.tables:
        for row in table.rows:
            if not row.variable or row.statistic != "counts" or isinstance(row.level, tuple):
                continue
            spec = study.variable(row.variable)
            if table.kind == "grades":
                names: Sequence[str] = ("1", "2", "3", "4")
            elif table.kind == "events":
                names = (str(row.level),)
            else:
                names = spec.levels
            cells = result.setdefault(row.variable, {})
            for place, numbers in row_cells(study, table, row).items():
                own = cells.setdefault(place, {})
                own.update({name: int(number) for name, number in zip(names, numbers, strict=True)})
    return result


def rest_level(spec: VariableSpec) -> str | None:
    """Return the level of those whom the printed counts leave over: that of the default, else none."""
    if spec.cuts and spec.default is not None:
        return spec.levels[int(np.searchsorted(spec.cuts, float(spec.default), side="right"))]
    return None if spec.default is None else str(spec.default)


def deal(
    counts: Mapping[str, int], members: NDArray[np.intp], rest: str | None, rng: np.random.Generator
) -> tuple[dict[int, str | None], str]:
    """Give exact counts of levels to members in random order; returns the levels and what did not fit."""
    total = sum(counts.values())
    fault = "" if total <= len(members) else f"{total} patients in the levels, but only {len(members)} there are"
    pool: list[str | None] = [level for level, count in counts.items() for _ in range(count)]
    pool = pool[: len(members)] + [rest] * max(0, len(members) - total)
    order = rng.permutation(len(members))
    return {int(members[i]): level for i, level in zip(order, pool, strict=True)}, fault


def paired_yes(
    first_yes: int, second_yes: int, size: int, p_printed: float | str | None, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], bool]:
    """Return who has a property in both members of matched pairs, so that McNemar's exact p is the printed one.

    Returns
    -------
    first, second, met
        Shape (size,) each, in the order of the pairs.
    """
    difference = first_yes - second_yes
    most = min(first_yes, size - second_yes) + min(second_yes, size - first_yes)
    candidates = [d for d in range(abs(difference), most + 1) if (d - difference) % 2 == 0]
    fitting = []
    if isinstance(p_printed, float):
        for discordant in candidates:
            b = (discordant + difference) // 2
            p = min(1.0, 2 * float(stats.binom.cdf(min(b, discordant - b), discordant, 0.5))) if discordant else 1.0
            if abs(p - p_printed) < 0.0005 + 1e-9:
                fitting.append(discordant)
    usual = 2 * first_yes * (size - second_yes) / size  # expected when the pairs are independent
    pool = fitting or candidates
    discordant = min(pool, key=lambda d: abs(d - usual))
    b = (discordant + difference) // 2
    both = first_yes - b
    first, second = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    first[: both + b] = True
    second[:both] = True
    second[both + b : both + discordant] = True
    order = rng.permutation(size)
    return first[order], second[order], bool(fitting)


def level_interval(spec: VariableSpec, level: str) -> tuple[float, float]:
    """Return the values (in units of the table) that belong to a level, within the bounds."""
    low, high = spec.bounds or (spec.cuts[0] - 2 * abs(spec.cuts[0]) - 1, spec.cuts[-1] * 2 + 1)
    edges = [low, *(cut / spec.factor for cut in spec.cuts), high]
    position = spec.levels.index(level)
    return edges[position], edges[position + 1]


def values_in_levels(spec: VariableSpec, levels: Sequence[str], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a value for each level, strictly inside its interval (limits go where ``closed`` puts them)."""
    result = np.empty(len(levels))
    for i, level in enumerate(levels):
        low, high = level_interval(spec, level)
        if spec.whole:
            last = spec.levels.index(level) == len(spec.levels) - 1
            first = int(np.ceil(low)) if spec.closed == "left" else int(np.floor(low)) + 1
            if spec.closed == "right" and spec.levels.index(level) == 0:
                first = int(np.ceil(low))
            final = int(np.floor(high)) if last or spec.closed == "right" else int(np.ceil(high)) - 1
            result[i] = rng.integers(first, max(first, final) + 1)
        else:
            width = high - low
            result[i] = rng.uniform(low + 0.02 * width, high - 0.02 * width)
    return result


def with_median_and_range(
    values: NDArray[np.float64], median: float, low: float, high: float, *, digits: int
) -> NDArray[np.float64]:
    """Return the values with their middle, lowest and highest moved onto the printed ones; the order stays."""
    order = np.argsort(values, kind="stable")
    ranked = np.clip(values[order], low, high)
    count = len(ranked)
    ranked[0], ranked[-1] = low, high
    middle = {(count - 1) // 2, count // 2}
    first, last = min(middle), max(middle)
    below, above = ranked[1:first], ranked[last + 1 : -1]
    ranked[1:first] = np.where(below > median, median - 0.01 * (median - low), below)
    ranked[last + 1 : -1] = np.where(above < median, median + 0.01 * (high - median), above)
    ranked[list(middle)] = median
    result = np.empty(count)
    result[order] = np.round(ranked, digits + 1)
    return result


def with_mean_and_sd(
    size: int, mean: float, sd: float, *, lowest: float, whole: bool, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return values of exactly this mean and sample standard deviation, none below ``lowest`` where that can be."""
    if size < 2 or sd == 0:
        return np.full(size, mean)
    quantiles = (np.arange(size) + 0.5) / size
    z = stats.norm.ppf(quantiles)
    shape = max(((mean - lowest) / sd) ** 2, 0.02) if mean > lowest else 1.0
    for _ in range(25):
        z = (z - z.mean()) / z.std(ddof=1)
        if mean + sd * float(z.min()) >= lowest:
            break
        z = stats.gamma.ppf(quantiles, shape)
        shape *= 0.8
    values = mean + sd * rng.permutation(z)
    return np.round(values) if whole else np.round(values, 6)
