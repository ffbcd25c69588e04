"""Association of two categories: χ², likelihood ratio, Fisher, trend, McNemar, Bowker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics.conditional_odds import R_ROOT_TOLERANCE, conditional_odds_ratio
from cantlie.statistics.freeman_halton import freeman_halton_p
from cantlie.statistics.hypothesis import HypothesisTest


@dataclass(frozen=True, slots=True)
class ContingencyTest(HypothesisTest):
    """A test of a contingency table, with the counts that independence would give."""

    expected: tuple[tuple[float, ...], ...] = ()

    @property
    def min_expected(self) -> float:
        """Smallest expected count."""
        return min(min(row) for row in self.expected)


@dataclass(frozen=True, slots=True)
class FisherTest(HypothesisTest):
    """Fisher's exact test; for 2 × 2 tables with the conditional odds ratio and its exact interval."""

    odds_ratio: float | None = None
    odds_ratio_ci: tuple[float, float] | None = None


def counts(table: ArrayLike, *, least: int = 2) -> NDArray[np.int64]:
    """Return a table of counts after checking it; empty rows and columns are dropped.

    Raises
    ------
    StatisticsError
        If it has no two dimensions, holds something else than counts, or too few rows or columns are not empty.
    """
    try:
        given = np.asarray(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError("a contingency table holds counts", where="table") from error
    if given.ndim != 2:
        raise StatisticsError(f"a contingency table has rows and columns, not {given.ndim} dimensions", where="table")
    if not np.isfinite(given).all() or (given < 0).any() or (given != np.rint(given)).any():
        raise StatisticsError(
            "a contingency table holds whole numbers from 0 up", where="table", remedy="give counts, not percentages"
        )
    whole = np.rint(given).astype(np.int64)
    kept: NDArray[np.int64] = whole[whole.sum(axis=1) > 0][:, whole.sum(axis=0) > 0]
    if min(kept.shape) < least:
        raise StatisticsError(
            f"only {kept.shape[0]} rows and {kept.shape[1]} columns of the table are not empty",
            where="table",
            remedy="compare at least two categories in at least two groups",
        )
    return kept


def expected_counts(table: ArrayLike) -> NDArray[np.float64]:
    """Return the counts that independence of rows and columns would give, same shape as the table."""
    observed = counts(table)
    return np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()


def _small_counts(expected: NDArray[np.float64]) -> tuple[Note, ...]:
    few = int((expected < 5).sum())
    if not few:
        return ()
    share = 100 * few / expected.size
    return (
        Note(
            f"small expected counts: {few} of {expected.size} cells ({share:.0f} %) are below 5, the smallest is "
            f"{expected.min():.2f}; prefer Fisher's exact test",
            where="χ² test",
        ),
    )


def _rows(values: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in values)


def pearson_chi2(table: ArrayLike, *, yates: bool = False) -> ContingencyTest:
    """Pearson's χ² test of independence.

    Parameters
    ----------
    table
        Counts, shape (rows, columns).
    yates
        Apply Yates' continuity correction (to 2 × 2 tables only, never by more than |observed − expected|, as R).

    Returns
    -------
    ContingencyTest
        χ², degrees of freedom, p, expected counts; a note warns of small expected counts.

    Raises
    ------
    StatisticsError
        If the table does not hold counts of at least two rows and two columns.

    References
    ----------
    Pearson 1900, doi:10.1080/14786440009463897; Yates 1934, doi:10.2307/2983604.
    """
    observed = counts(table)
    expected = expected_counts(observed)
    difference = np.abs(observed - expected)
    corrected = yates and observed.shape == (2, 2)
    if corrected:
        difference = difference - min(0.5, float(difference.min()))
    statistic = float((difference**2 / expected).sum())
    df = (observed.shape[0] - 1) * (observed.shape[1] - 1)
    name = "Pearson χ² test with Yates' correction" if corrected else "Pearson χ² test without continuity correction"
    return ContingencyTest(
        name, statistic, df, float(stats.chi2.sf(statistic, df)), _small_counts(expected), _rows(expected)
    )


def likelihood_ratio(table: ArrayLike) -> ContingencyTest:
    """Likelihood-ratio test of independence, G² = 2 Σ O ln(O/E).

    References
    ----------
    Wilks 1935, doi:10.1214/aoms/1177732564.
    """
    observed = counts(table)
    expected = expected_counts(observed)
    statistic = float(2.0 * special.xlogy(observed, observed / expected).sum())
    df = (observed.shape[0] - 1) * (observed.shape[1] - 1)
    p_value = float(stats.chi2.sf(statistic, df))
    return ContingencyTest("likelihood-ratio χ² test", statistic, df, p_value, _small_counts(expected), _rows(expected))


def fisher_exact(table: ArrayLike, *, level: float = 0.95, root_tolerance: float = R_ROOT_TOLERANCE) -> FisherTest:
    """Fisher's exact test, two-sided; larger tables by Freeman and Halton.

    The p-value adds the probabilities of all tables with these margins that are no more probable than the observed one
    (up to a relative 1e-7, as R). For 2 × 2 tables the odds ratio is the conditional maximum-likelihood estimate with
    the exact interval of the noncentral hypergeometric distribution; both are solved to R's tolerance (2⁻¹³ in the
    odds or their inverse) unless a finer ``root_tolerance`` is given.

    Raises
    ------
    StatisticsError
        If the table does not hold counts of at least two rows and two columns.

    References
    ----------
    Freeman and Halton 1951, doi:10.1093/biomet/38.1-2.141; Mehta and Patel 1983, doi:10.1080/01621459.1983.10477989.
    """
    observed = counts(table)
    if observed.shape != (2, 2):
        p_value, exact = freeman_halton_p(observed)
        if exact:
            return FisherTest("Fisher–Freeman–Halton exact test", None, None, p_value)
        note = Note("the table is too large for enumeration; p from 200,000 random tables (seed 0)", where="exact test")
        return FisherTest("Fisher–Freeman–Halton test (Monte Carlo)", None, None, p_value, (note,))
    (a, b), (c, d) = observed
    low, high = max(0, int(a - d)), int(min(a + b, a + c))
    support = np.arange(low, high + 1)
    probability = stats.hypergeom.pmf(support, a + b + c + d, a + c, a + b)
    seen = probability[int(a) - low]
    p_value = min(1.0, float(probability[probability <= seen * (1 + 1e-7)].sum()))
    estimate, interval = conditional_odds_ratio(observed, level, root_tolerance)
    return FisherTest("Fisher's exact test", None, None, p_value, (), estimate, interval)


def trend(table: ArrayLike, scores: Sequence[float] | None = None) -> HypothesisTest:
    """Cochran–Armitage test for a trend of proportions over ordered groups.

    Parameters
    ----------
    table
        Counts, shape (groups, 2): event and no event per ordered group; a (2, groups) table is turned.
    scores
        One score per group; 1, 2, 3, ... if not given.

    References
    ----------
    Armitage 1955, doi:10.2307/3001775 (variance with N in the denominator, as R's prop.trend.test and SPSS's
    linear-by-linear test up to (N−1)/N).
    """
    given = np.asarray(table, dtype=np.float64)
    if given.ndim == 2 and given.shape[1] != 2 and given.shape[0] == 2:
        given = given.T
    if given.ndim != 2 or given.shape[1] != 2:
        raise StatisticsError("a trend test needs a table of groups × (event, no event)", where="table")
    weight = np.arange(1, given.shape[0] + 1, dtype=np.float64) if scores is None else np.asarray(scores, float)
    if weight.shape != (given.shape[0],):
        raise StatisticsError(f"{weight.size} scores for {given.shape[0]} groups", where="scores")
    total = given.sum(axis=1)
    counts(given[total > 0])
    n = total.sum()
    share = given[:, 0].sum() / n
    variance = share * (1 - share) * ((total * weight**2).sum() - (total * weight).sum() ** 2 / n)
    if variance <= 0:
        raise StatisticsError("all patients have the same score, there is no trend to test", where="scores")
    statistic = float((weight * (given[:, 0] - total * share)).sum() ** 2 / variance)
    return HypothesisTest("Cochran–Armitage test for trend", statistic, 1, float(stats.chi2.sf(statistic, 1)))


@dataclass(frozen=True, slots=True)
class McNemarTest(HypothesisTest):
    """McNemar's test with all its usual p-values, so that a reader sees which one a paper printed."""

    b: int = 0
    c: int = 0
    exact_p: float = 1.0
    mid_p: float = 1.0
    asymptotic_p: float = 1.0
    corrected_p: float = 1.0


def mcnemar(b: int, c: int) -> McNemarTest:
    """McNemar's test for paired yes/no data, from the two discordant counts.

    The ``p_value`` is the exact (binomial) one; mid-p, asymptotic and Edwards' continuity-corrected p stand beside it.
    Without discordant pairs every p is 1.

    Raises
    ------
    StatisticsError
        If a count is negative or not whole.

    References
    ----------
    McNemar 1947, doi:10.1007/BF02295996; Edwards 1948, doi:10.1007/BF02289261; mid-p: Fagerland 2013,
    doi:10.1186/1471-2288-13-91.
    """
    for value in (b, c):
        if value < 0 or value != int(value):
            raise StatisticsError(f"discordant pairs are counts from 0 up, not {value}", where="b, c")
    b, c = int(b), int(c)
    n = b + c
    name = "McNemar's exact test"
    if n == 0:
        note = Note("there are no discordant pairs", where="McNemar's test")
        return McNemarTest(name, 0.0, 1, 1.0, (note,), b, c)
    tail = float(stats.binom.cdf(min(b, c), n, 0.5))
    exact = min(1.0, 2 * tail)
    mid = min(1.0, 2 * tail - float(stats.binom.pmf(min(b, c), n, 0.5)))
    statistic = (b - c) ** 2 / n
    corrected = max(abs(b - c) - 1, 0) ** 2 / n
    plain_p, corrected_p = float(stats.chi2.sf(statistic, 1)), float(stats.chi2.sf(corrected, 1))
    return McNemarTest(name, statistic, 1, exact, (), b, c, exact, mid, plain_p, corrected_p)


def bowker(table: ArrayLike) -> HypothesisTest:
    """Bowker's test of symmetry for a square table of paired categories (McNemar's for more than two).

    References
    ----------
    Bowker 1948, doi:10.1080/01621459.1948.10483284.
    """
    given = np.asarray(table, dtype=np.float64)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or given.shape[0] < 2:
        raise StatisticsError("a symmetry test needs a square table of paired categories", where="table")
    if not np.isfinite(given).all() or (given < 0).any() or (given != np.rint(given)).any():
        raise StatisticsError("a contingency table holds whole numbers from 0 up", where="table")
    upper, lower = given[np.triu_indices_from(given, 1)], given.T[np.triu_indices_from(given, 1)]
    pairs = upper + lower
    used = pairs > 0
    df = int(used.sum())
    if df == 0:
        return HypothesisTest("Bowker's test of symmetry", 0.0, 0, 1.0, (Note("no discordant pairs", "Bowker"),))
    statistic = float(((upper - lower)[used] ** 2 / pairs[used]).sum())
    notes = () if df == pairs.size else (Note(f"{pairs.size - df} empty pairs of cells reduce the df", "Bowker"),)
    return HypothesisTest("Bowker's test of symmetry", statistic, df, float(stats.chi2.sf(statistic, df)), notes)
