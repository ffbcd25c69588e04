"""Matched pairs: tests that respect the pairing, for numbers, yes/no and categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.association import McNemarTest, bowker, mcnemar
from cantlie.statistics.comparison import MeanTest, is_constant
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.statistics.wald import two_sided_p


@dataclass(frozen=True, slots=True, eq=False)
class PairTable:
    """Counts of pairs by the category of the first (rows) and of the second member (columns)."""

    levels: tuple[Any, ...]
    counts: NDArray[np.int64]

    def table(self) -> pd.DataFrame:
        """Return the counts as a table."""
        return pd.DataFrame(self.counts, index=list(self.levels), columns=list(self.levels))


def pair_table(first: ArrayLike, second: ArrayLike) -> PairTable:
    """Count pairs by the categories of their members."""
    a, b = pd.Series(first).reset_index(drop=True), pd.Series(second).reset_index(drop=True)
    if len(a) != len(b):
        raise StatisticsError(f"{len(a)} and {len(b)} values do not make pairs", where="pairs")
    codes, levels = inputs.labels(pd.concat([a, b], ignore_index=True), "category")
    k = len(levels)
    counts = np.zeros((k, k), dtype=np.int64)
    np.add.at(counts, (codes[: len(a)], codes[len(a) :]), 1)
    return PairTable(tuple(levels), counts)


def mcnemar_from_pairs(first: ArrayLike, second: ArrayLike) -> McNemarTest:
    """McNemar's test of a yes/no property of the two members of each pair.

    Raises
    ------
    StatisticsError
        If more than two categories occur.
    """
    table = pair_table(first, second)
    if len(table.levels) > 2:
        raise StatisticsError(
            f"McNemar's test knows two categories, not {len(table.levels)}", where="pairs", remedy="use Bowker's test"
        )
    if len(table.levels) < 2:
        return mcnemar(0, 0)
    return mcnemar(int(table.counts[0, 1]), int(table.counts[1, 0]))


def bowker_from_pairs(first: ArrayLike, second: ArrayLike) -> HypothesisTest:
    """Bowker's test of symmetry of a category of the two members of each pair."""
    table = pair_table(first, second)
    if len(table.levels) < 2:
        return HypothesisTest("Bowker's test of symmetry", 0.0, 0, 1.0, (Note("no discordant pairs", "Bowker"),))
    return bowker(table.counts)


def paired_t_test(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> MeanTest:
    """Student's t-test of the differences (first minus second) within pairs, with their mean and interval.

    Raises
    ------
    StatisticsError
        If there are fewer than two pairs or all differences are equal.
    """
    x = inputs.sample(first, "first", least=2)
    y = inputs.numbers(second, "second", length=x.size)
    difference = x - y
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(x.size))
    if is_constant(error, mean, float(np.abs(x).max()), float(np.abs(y).max())):
        raise StatisticsError("all differences are the same", where="paired t-test")
    t, df = mean / error, x.size - 1
    half = float(stats.t.ppf(0.5 + inputs.level(level) / 2, df)) * error
    p_value = float(2 * stats.t.sf(abs(t), df))
    return MeanTest("paired t-test", t, df, p_value, (), mean, (mean - half, mean + half))


def wilcoxon_signed_rank(first: ArrayLike, second: ArrayLike, *, continuity: bool = True) -> HypothesisTest:
    """Wilcoxon's signed-rank test of pairs; zero differences are dropped, the variance is corrected for ties.

    Exact for fewer than 50 differences without ties or zeros, else the normal approximation (with R's continuity
    correction, which SPSS lacks). The statistic is V, the sum of the ranks of positive differences.

    References
    ----------
    Wilcoxon 1945, doi:10.2307/3001968.
    """
    x = inputs.sample(first, "first")
    y = inputs.numbers(second, "second", length=x.size)
    difference = x - y
    kept = difference[difference != 0]
    n = kept.size
    if n == 0:
        return HypothesisTest("Wilcoxon signed-rank test", 0.0, None, 1.0, (Note("all differences are 0", "Wilcoxon"),))
    ranks = stats.rankdata(np.abs(kept))
    v = float(ranks[kept > 0].sum())
    _, tied = np.unique(ranks, return_counts=True)
    if n < 50 and n == x.size and tied.max() == 1:
        p_value = float(stats.wilcoxon(x, y, method="exact").pvalue)
        return HypothesisTest("Wilcoxon signed-rank test, exact", v, None, p_value)
    away = v - n * (n + 1) / 4
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((tied**3 - tied).sum()) / 48
    z = float((away - (0.5 * np.sign(away) if continuity else 0.0)) / np.sqrt(variance))
    name = f"Wilcoxon signed-rank test, asymptotic, {'with' if continuity else 'without'} continuity correction"
    return HypothesisTest(name, v, None, min(1.0, float(two_sided_p(z))))


def friedman(*samples: ArrayLike) -> HypothesisTest:
    """Friedman's rank test of three or more measurements of the same patients, corrected for ties (R's friedman.test).

    Raises
    ------
    StatisticsError
        If there are fewer than three measurements or two patients, or no patient's measurements differ.

    References
    ----------
    Friedman 1937, doi:10.1080/01621459.1937.10503522.
    """
    if len(samples) < 3:
        raise StatisticsError("at least three measurements of each patient are needed", where="Friedman's test")
    first = inputs.sample(samples[0], "first", least=2)
    rows = np.column_stack([first, *(inputs.numbers(s, "samples", length=first.size) for s in samples[1:])])
    n, k = rows.shape
    ranks = stats.rankdata(rows, axis=1)
    spread = float(((ranks - (k + 1) / 2) ** 2).sum())
    if spread == 0:
        raise StatisticsError("no patient's measurements differ", where="Friedman's test")
    statistic = float((k - 1) * ((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum() / spread)
    return HypothesisTest("Friedman's test", statistic, k - 1, float(stats.chi2.sf(statistic, k - 1)))


@dataclass(frozen=True, slots=True)
class PairedRow:
    """One line of the analysis of a matched sample."""

    variable: str
    method: str
    p_value: float
    unpaired_p: float


def compare_pairs(data: pd.DataFrame, first_rows: ArrayLike, second_rows: ArrayLike) -> tuple[PairedRow, ...]:
    """Test every column between the members of matched pairs, by the right paired test, with the unpaired p beside it.

    Numbers with more than two values: paired t-test (Welch's unpaired); two categories: exact McNemar (Pearson's χ²);
    more: Bowker (Pearson's χ²).

    Parameters
    ----------
    data
        One row per patient.
    first_rows, second_rows
        Row positions of the members of each pair, shape (pairs,).
    """
    from cantlie.statistics.association import pearson_chi2
    from cantlie.statistics.comparison import welch

    a, b = np.asarray(first_rows, dtype=np.intp), np.asarray(second_rows, dtype=np.intp)
    rows = []
    for name in data.columns:
        first, second = data[name].iloc[a], data[name].iloc[b]
        usable = (first.notna().to_numpy()) & (second.notna().to_numpy())
        first, second = first[usable], second[usable]
        both = pd.concat([first, second])
        if pd.api.types.is_numeric_dtype(both) and both.nunique() > 2:
            test: HypothesisTest = paired_t_test(first, second)
            unpaired = welch(first, second).p_value
        else:
            table = pair_table(first, second)
            if len(table.levels) < 2:
                continue
            test = mcnemar_from_pairs(first, second) if len(table.levels) == 2 else bowker_from_pairs(first, second)
            unpaired = pearson_chi2(np.vstack([table.counts.sum(axis=1), table.counts.sum(axis=0)])).p_value
        rows.append(PairedRow(str(name), test.method, test.p_value, unpaired))
    return tuple(rows)
