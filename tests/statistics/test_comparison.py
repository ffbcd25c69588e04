"""Comparisons of groups and intervals of proportions: analytic values and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.statistics.comparison import (
    describe,
    kruskal_wallis,
    mann_whitney,
    one_way_anova,
    t_test,
    t_test_from_summary,
    welch,
    welch_anova,
)
from cantlie.statistics.hypothesis import format_p
from cantlie.statistics.logrank import adjust_p
from cantlie.statistics.paired import compare_pairs, mcnemar_from_pairs, paired_t_test, wilcoxon_signed_rank
from cantlie.statistics.proportion import proportion_interval, ratio_p_from_interval, wilson

GENERATOR = np.random.default_rng(5)
FIRST, SECOND = GENERATOR.normal(size=23), GENERATOR.normal(0.4, 1.6, size=31)


def test_t_tests_against_scipy() -> None:
    assert t_test(FIRST, SECOND).p_value == pytest.approx(stats.ttest_ind(FIRST, SECOND).pvalue)
    theirs = stats.ttest_ind(FIRST, SECOND, equal_var=False)
    assert welch(FIRST, SECOND).p_value == pytest.approx(theirs.pvalue)
    assert welch(FIRST, SECOND).difference_ci == pytest.approx(tuple(theirs.confidence_interval()))


def test_t_test_from_summary_equals_that_of_the_data() -> None:
    summary = [(v.mean(), v.std(ddof=1), v.size) for v in (FIRST, SECOND)]
    assert t_test_from_summary(*summary[0], *summary[1]).p_value == pytest.approx(t_test(FIRST, SECOND).p_value)


def test_mann_whitney_exact_and_asymptotic() -> None:
    assert mann_whitney(FIRST, SECOND).p_value == pytest.approx(
        stats.mannwhitneyu(FIRST, SECOND, method="exact").pvalue
    )
    assert "exact" in mann_whitney(FIRST, SECOND).method
    tied = mann_whitney([1, 2, 2, 3], [2, 3, 4, 4])
    assert tied.p_value == pytest.approx(stats.mannwhitneyu([1, 2, 2, 3], [2, 3, 4, 4], method="asymptotic").pvalue)
    assert mann_whitney([1, 2], [3, 4]).u_first == 0


def test_of_two_groups_kruskal_is_mann_whitney_and_anova_is_t() -> None:
    plain = mann_whitney(FIRST, SECOND, method="asymptotic", continuity=False)
    assert kruskal_wallis(FIRST, SECOND).p_value == pytest.approx(plain.p_value)
    assert one_way_anova(FIRST, SECOND).p_value == pytest.approx(t_test(FIRST, SECOND).p_value)


def test_describe() -> None:
    found = describe([1, 2, 3, 4])
    assert (found.median, found.q1, found.q3, found.minimum, found.maximum) == (2.5, 1.75, 3.25, 1, 4)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.floats(0, 1))
def test_intervals_hold_the_estimate_and_mirror(n: int, share: float) -> None:
    x = round(share * n)
    for method in ("clopper-pearson", "wilson", "wilson-cc", "agresti-coull", "jeffreys", "wald"):
        found = proportion_interval(x, n, method=method)
        mirror = proportion_interval(n - x, n, method=method)
        assert 0 <= found.lower <= found.estimate + 1e-12 <= found.upper + 2e-12 <= 1 + 3e-12
        assert found.lower == pytest.approx(1 - mirror.upper, abs=1e-9)


def test_clopper_pearson_leaves_half_alpha_in_each_tail() -> None:
    found = proportion_interval(7, 20)
    assert stats.binom.sf(6, 20, found.lower) == pytest.approx(0.025)
    assert stats.binom.cdf(7, 20, found.upper) == pytest.approx(0.025)


def test_wilson_is_where_the_score_test_just_rejects() -> None:
    found = wilson(7, 20)
    for limit in (found.lower, found.upper):
        assert abs(0.35 - limit) / np.sqrt(limit * (1 - limit) / 20) == pytest.approx(1.959964, rel=1e-6)


def test_p_from_a_printed_hazard_ratio() -> None:
    error = 0.2
    limits = np.exp(np.log(0.7) + np.array([-1, 1]) * stats.norm.ppf(0.975) * error)
    found = ratio_p_from_interval(0.7, limits[0], limits[1])
    assert found.p_value == pytest.approx(2 * stats.norm.sf(-np.log(0.7) / error))
    with pytest.raises(StatisticsError, match="within its positive interval"):
        ratio_p_from_interval(2.0, 0.5, 1.5)


def test_pairs() -> None:
    x, y = FIRST, FIRST + GENERATOR.normal(0.3, 0.5, size=23)
    assert paired_t_test(x, y).p_value == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert wilcoxon_signed_rank(x, y).p_value == pytest.approx(stats.wilcoxon(x, y).pvalue)
    found = mcnemar_from_pairs(["a"] * 10 + ["b"] * 3 + ["a"] * 4, ["b"] * 10 + ["a"] * 3 + ["a"] * 4)
    assert {found.b, found.c} == {10, 3}


def test_matched_sets_are_compared_within_pairs() -> None:
    import pandas as pd

    data = pd.DataFrame({"age": np.arange(40.0), "male": [0, 1] * 20, "stage": list("abca") * 10})
    rows = {row.variable: row.method for row in compare_pairs(data, np.arange(0, 40, 2), np.arange(1, 40, 2)[::-1])}
    assert rows == {"age": "paired t-test", "male": "McNemar's exact test", "stage": "Bowker's test of symmetry"}


def test_adjusted_p_values() -> None:
    assert adjust_p([0.01, 0.04, 0.03], "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p([0.01, 0.04, 0.03], "bonferroni") == pytest.approx([0.03, 0.12, 0.09])
    assert adjust_p([0.01, 0.04, 0.03], "bh") == pytest.approx([0.03, 0.04, 0.04])


def test_missing_values_are_refused_in_one_sentence() -> None:
    with pytest.raises(StatisticsError, match=r"first group has 1 missing or infinite values, the first in row 1"):
        t_test([1, np.nan, 3], [1, 2, 3])


def test_p_values_are_printed_in_one_way():
    assert [format_p(p) for p in (0.0, 1e-300, 0.0007, 0.001, 0.0455, 1.0)] == [
        "<0.001",
        "<0.001",
        "<0.001",
        "0.001",
        "0.045",
        "1.000",
    ]
    assert format_p(float("nan")) == "–"


@pytest.mark.parametrize("test", [t_test, welch])
@pytest.mark.parametrize("other", [0.1, 0.3])
def test_a_column_of_constants_has_no_spread_but_rounding(test, other):
    """The standard deviation of three times 0.1 is 1.7e-17: t-tests of it gave p = 0.03, and 1e-130."""
    with pytest.raises(StatisticsError, match="constant"):
        test([0.1] * 3, [other] * 7)
    with pytest.raises(StatisticsError, match="constant"):
        welch_anova([0.1] * 3, [0.1] * 7, [0.2, 0.4])


def test_a_constant_difference_of_pairs_is_no_evidence():
    x = np.array([1.1, 2.2, 3.3, 4.7])
    with pytest.raises(StatisticsError, match="all differences are the same"):
        paired_t_test(x + 0.1, x)
    assert paired_t_test(x + np.array([0.1, 0.1, 0.1, 0.11]), x).p_value < 0.001
