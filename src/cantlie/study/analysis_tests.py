"""Which test runs in which convention: as the paper's software did it, and as is recommended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.core.errors import StatisticsError
from cantlie.statistics import association, comparison
from cantlie.statistics.hypothesis import HypothesisTest, format_p
from cantlie.study.results import Convention, StudyCell

SMALL_EXPECTED = 5.0


def compare_counts(table: Sequence[Sequence[int]] | NDArray[np.int64], convention: Convention) -> HypothesisTest | None:
    """Compare counts (levels by groups): uncorrected Pearson as published; an exact test where counts are small.

    None where there is nothing to compare.
    """
    counts = np.asarray(table, dtype=np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    if counts.shape[0] < 2 or counts.shape[1] < 2 or (counts.sum(axis=0) == 0).any():
        return None
    if convention == "as_published":
        return association.pearson_chi2(counts)
    if float(association.expected_counts(counts).min()) < SMALL_EXPECTED:
        return association.fisher_exact(counts)
    return association.pearson_chi2(counts)


def compare_numbers(
    groups: Sequence[NDArray[np.float64]], convention: Convention, *, normal: bool
) -> HypothesisTest | None:
    """Compare numbers of groups, those missing left out; None where a group has less than two.

    Means by Student's t as published (Welch recommended), of three groups or more by analysis of variance (Welch's
    recommended); else Mann-Whitney, of three groups or more Kruskal-Wallis.
    """
    filled = [values[~np.isnan(values)] for values in groups]
    if len(filled) < 2 or min(len(values) for values in filled) < 2:
        return None
    try:
        if len(filled) > 2 and not normal:
            return comparison.kruskal_wallis(*filled)
        if len(filled) > 2:
            return (comparison.one_way_anova if convention == "as_published" else comparison.welch_anova)(*filled)
        if not normal:
            return comparison.mann_whitney(*filled, continuity=convention == "recommended")
        return comparison.t_test(*filled) if convention == "as_published" else comparison.welch(*filled)
    except StatisticsError:
        return None


def compare_pairs(first: pd.Series, second: pd.Series, levels: Sequence[str]) -> HypothesisTest | None:
    """Compare the levels of matched pairs: McNemar's exact test for two levels, Bowker's for more."""
    table = np.array(
        [[int(((first.to_numpy() == a) & (second.to_numpy() == b)).sum()) for b in levels] for a in levels]
    )
    if len(levels) == 2:
        return association.mcnemar(int(table[0, 1]), int(table[1, 0]))
    return association.bowker(table)


def p_cell(test: HypothesisTest | None, printed: float | str | None = None) -> StudyCell:
    """Return a p-value beside the printed one, rounded as printed; agreement up to one unit of its last digit.

    One unit, because papers round, cut off, and some statistics packages differ in the last digit.
    """
    if test is None:
        return StudyCell("–", None if printed is None else _p_text(printed), None)
    p = test.p_value
    if printed is None:
        return StudyCell(format_p(p))
    if isinstance(printed, float):
        decimals = min(3, max(2, len(repr(printed).partition(".")[2])))
        return StudyCell(format_p(p), f"{printed:g}", abs(round(p, decimals) - printed) <= 10.0**-decimals + 1e-9)
    text = printed.replace(" ", "")
    if text.startswith("<"):
        return StudyCell(format_p(p), printed, p < float(text[1:]))
    if text.startswith(">"):
        return StudyCell(format_p(p), printed, p > float(text[1:]))
    return StudyCell(format_p(p), printed, abs(round(p, 3) - float(text)) <= 0.001 + 1e-9)


def _p_text(printed: float | str) -> str:
    return printed if isinstance(printed, str) else f"{printed:.3f}"


def percent_text(count: int, total: int, digits: int) -> str:
    """Return a share in per cent, a half rounded up as papers do (1 of 8 is 13 %)."""
    tenths = (2 * 100 * 10**digits * count + total) // (2 * total)
    return f"{tenths / 10**digits:.{digits}f}%"


def count_cell(
    count: int, total: int, digits: int, printed: float | None, percent: float | None, *, size: int | None = None
) -> StudyCell:
    """Return ``n (percent)``, compared with the printed count, and with the printed percentage where there is one.

    A percentage agrees when it is the exact one rounded half up or half to even. Where ``size``, the number of patients
    that the column names, is not the denominator, it stands in the cell: ``15/39 (38.5%)``.
    """
    share = 100.0 * count / total if total else float("nan")
    head = f"{count}" if size is None or size == total else f"{count}/{total}"
    text = f"{head} ({percent_text(count, total, digits)})" if total else head
    if printed is None:
        return StudyCell(text)
    same = count == int(printed)
    shown = f"{int(printed)}"
    if percent is not None:
        printed_digits = 0 if digits == 0 else len(repr(float(percent)).partition(".")[2])
        same = same and bool(total) and abs(share - percent) <= 0.5 * 10.0**-printed_digits + 1e-9
        shown += f" ({percent:.{printed_digits}f}%)"
    elif total:
        shown += f" ({100.0 * printed / total:.{digits}f}%)"
    return StudyCell(text, shown, same)


def standardised_difference(first: Sequence[object], second: Sequence[object], level: object) -> float:
    """Return the standardised difference of the share of a level in two groups (Austin 2009, 10.1002/sim.3697).

    Infinite where all of one group and none of the other have the level, NaN where a group is empty.
    """
    if not len(first) or not len(second):
        return float("nan")
    a = float(np.mean([x == level for x in first]))
    b = float(np.mean([x == level for x in second]))
    spread = np.sqrt((a * (1 - a) + b * (1 - b)) / 2)
    if a == b:
        return 0.0
    return float((a - b) / spread) if spread > 0 else float(np.copysign(np.inf, a - b))
