"""Tests of association: hand calculations, symmetries, limits."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import StatisticsError
from cantlie.statistics.association import (
    bowker,
    expected_counts,
    fisher_exact,
    likelihood_ratio,
    mcnemar,
    pearson_chi2,
    trend,
)

TABLES = st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=3), min_size=2, max_size=3)


def all_tables(table: np.ndarray) -> list[np.ndarray]:
    """Every table with the margins of a small one, by brute force."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    free = [range(int(min(r, c)) + 1) for r in rows[:-1] for c in columns[:-1]]
    found = []
    for cells in itertools.product(*free):
        inner = np.array(cells).reshape(rows.size - 1, columns.size - 1)
        full = np.zeros_like(table)
        full[:-1, :-1] = inner
        full[:-1, -1] = rows[:-1] - inner.sum(axis=1)
        full[-1] = columns - full[:-1].sum(axis=0)
        if (full >= 0).all():
            found.append(full)
    return found


def probability(table: np.ndarray) -> float:
    parts = [math.factorial(int(v)) for v in (*table.sum(axis=0), *table.sum(axis=1))]
    below = [math.factorial(int(v)) for v in table.ravel()]
    return math.prod(parts) / math.factorial(int(table.sum())) / math.prod(below)


def test_pearson_of_a_table_by_hand() -> None:
    result = pearson_chi2([[10, 20], [30, 40]])
    assert result.statistic == pytest.approx(100 * (10 * 40 - 20 * 30) ** 2 / (30 * 70 * 40 * 60))
    assert result.df == 1
    assert expected_counts([[10, 20], [30, 40]])[0, 0] == pytest.approx(12)


def test_yates_by_hand() -> None:
    result = pearson_chi2([[10, 20], [30, 40]], yates=True)
    assert result.statistic == pytest.approx(100 * (abs(10 * 40 - 20 * 30) - 50) ** 2 / (30 * 70 * 40 * 60))


def test_small_expected_counts_are_noted() -> None:
    assert "small expected counts: 2 of 4" in pearson_chi2([[5, 0], [27, 33]]).notes[0].message
    assert pearson_chi2([[50, 40], [27, 33]]).notes == ()


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_association_does_not_depend_on_order_or_orientation(rows: list[list[int]]) -> None:
    table = np.array(rows)
    for test in (pearson_chi2, likelihood_ratio, fisher_exact):
        p = test(table).p_value
        assert test(table.T).p_value == pytest.approx(p, rel=1e-9)
        assert test(table[::-1, ::-1]).p_value == pytest.approx(p, rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=3, max_size=3))
def test_freeman_halton_equals_brute_force(rows: list[list[int]]) -> None:
    table = np.array(rows) + np.eye(3, dtype=int)
    seen = probability(table)
    brute = sum(p for p in map(probability, all_tables(table)) if p <= seen * (1 + 1e-7))
    assert fisher_exact(table).p_value == pytest.approx(min(brute, 1.0), rel=1e-9)


def test_a_table_too_large_for_enumeration_gets_a_monte_carlo_p_and_says_so() -> None:
    table = np.random.default_rng(3).integers(15, 40, size=(6, 6))
    result = fisher_exact(table)
    assert "Monte Carlo" in result.method
    assert result.notes
    assert result.p_value == pytest.approx(pearson_chi2(table).p_value, abs=0.02)


def test_the_conditional_odds_ratio_solves_its_equation() -> None:
    fine = fisher_exact([[6, 18], [7, 5]], root_tolerance=1e-14)
    assert fine.odds_ratio == pytest.approx(0.24904757719793, rel=1e-9)
    swapped = fisher_exact([[18, 6], [5, 7]], root_tolerance=1e-14)
    assert fine.odds_ratio is not None
    assert swapped.odds_ratio == pytest.approx(1 / fine.odds_ratio, rel=1e-9)
    assert fisher_exact([[5, 0], [27, 33]]).odds_ratio == float("inf")


def test_mcnemar_by_hand() -> None:
    result = mcnemar(10, 3)
    tail = sum(math.comb(13, k) for k in range(4)) / 2**13
    assert result.p_value == pytest.approx(2 * tail)
    assert result.mid_p == pytest.approx(2 * tail - math.comb(13, 3) / 2**13)
    assert result.statistic == pytest.approx(49 / 13)
    assert mcnemar(0, 0).p_value == 1.0
    assert mcnemar(4, 4).p_value == 1.0


def test_bowker_of_two_categories_is_mcnemar() -> None:
    assert bowker([[5, 10], [3, 7]]).p_value == pytest.approx(mcnemar(10, 3).asymptotic_p)


def test_trend_of_two_groups_is_pearson() -> None:
    table = [[10, 20], [30, 40]]
    assert trend(table).statistic == pytest.approx(pearson_chi2(table).statistic)
    assert trend([[1, 9], [5, 5], [9, 1]]).p_value < pearson_chi2([[1, 9], [5, 5], [9, 1]]).p_value


@pytest.mark.parametrize(
    "table", [[[1.5, 2], [3, 4]], [[-1, 2], [3, 4]], [1, 2, 3], [[1, 2], [0, 0]], [["a", 1], [2, 3]]]
)
def test_what_is_no_table_is_refused(table: object) -> None:
    with pytest.raises(StatisticsError):
        pearson_chi2(table)  # type: ignore[arg-type]
