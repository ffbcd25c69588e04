"""Statistics by hand: a trial that every textbook has, brute force, and formulas written out a second time."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cantlie.statistics.association import mcnemar
from cantlie.statistics.competing import cumulative_incidence, gray_test
from cantlie.statistics.concordance import concordance
from cantlie.statistics.cox import cox
from cantlie.statistics.logrank import log_rank
from cantlie.statistics.paired import bowker_from_pairs, mcnemar_from_pairs, paired_t_test
from cantlie.statistics.power import patients_for_proportions
from cantlie.statistics.risk_sets import risk_sets
from cantlie.statistics.rmst import compare_rmst
from cantlie.statistics.survival import kaplan_meier

# Freireich et al. 1963 (doi:10.1182/blood.V21.6.699.699): weeks in remission of acute leukaemia, 6-mercaptopurine and
# placebo; the results are those of Collett, Modelling Survival Data in Medical Research.
MERCAPTOPURINE = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TIME = np.array(MERCAPTOPURINE + PLACEBO, dtype=float)
EVENT = np.array([1] * 9 + [0] * 12 + [1] * 21)
ARM = np.array([0] * 21 + [1] * 21)


def test_remission_of_leukaemia() -> None:
    drug, placebo = kaplan_meier(TIME, EVENT, group=ARM, confidence_type="plain").curves
    rates = drug.rates([6, 7, 10, 13, 16, 22, 23])
    assert rates["survival"].round(3).tolist() == [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert rates["std_err"].round(4).tolist() == [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    assert (drug.median.time, placebo.median.time) == (23, 8)
    test = log_rank(TIME, EVENT, ARM)
    assert test.statistic == pytest.approx(16.79, abs=0.005)
    assert cox(TIME, EVENT, ARM, ties="efron").coef == pytest.approx(1.572, abs=5e-4)
    breslow = cox(TIME, EVENT, ARM, ties="breslow")
    assert breslow.coef == pytest.approx(1.509, abs=5e-4)
    assert breslow.se == pytest.approx(0.410, abs=5e-4)
    assert breslow.hazard_ratio == pytest.approx(4.523, abs=5e-3)


def test_the_median_of_spss_has_the_error_of_the_curve_over_its_slope() -> None:
    curve = kaplan_meier(TIME[ARM == 1], EVENT[ARM == 1], confidence_type="plain").curves[0]
    # S falls from 12/21 after week 5 to 8/21 after week 8: the last height above 0.55 and the first below 0.45.
    density = (12 / 21 - 8 / 21) / (8 - 5)
    error = np.sqrt(8 / 21 * 13 / 21 / 21) / density
    found = curve.median_symmetric()
    assert found.time == 8
    assert (found.lower, found.upper) == pytest.approx((8 - 1.959964 * error, 8 + 1.959964 * error))


def test_without_censoring_the_restricted_mean_is_a_mean() -> None:
    first, second = TIME[ARM == 1], 1.3 * TIME[ARM == 1] + 1
    found = compare_rmst(np.concatenate([first, second]), np.ones(42), ARM, tau=50.0)
    for group, times in zip(found.groups, (first, second), strict=True):
        assert group.rmst == pytest.approx(times.mean())
        assert group.std_err == pytest.approx(times.std() / np.sqrt(21))
    difference, ratio, _ = found.contrasts
    error = np.hypot(first.std(), second.std()) / np.sqrt(21)
    off = second.mean() - first.mean()
    assert difference.p_value == pytest.approx(2 * stats.norm.sf(off / error))
    assert (difference.lower, difference.upper) == pytest.approx((off - 1.959964 * error, off + 1.959964 * error))
    relative = np.hypot(first.std() / first.mean(), second.std() / second.mean()) / np.sqrt(21)
    log = np.log(second.mean() / first.mean())
    assert ratio.p_value == pytest.approx(2 * stats.norm.sf(log / relative))
    assert (ratio.lower, ratio.upper) == pytest.approx(
        tuple(np.exp([log - 1.959964 * relative, log + 1.959964 * relative]))
    )


def test_incidence_has_log_log_limits() -> None:
    cause = np.where(EVENT == 0, 0, 1 + np.arange(42) % 2)
    curve = cumulative_incidence(TIME, cause).curve(1)
    row = curve.rates([12]).iloc[0]
    f, error = row["incidence"], row["std_err"]
    reach = 1.959964 * error / (f * np.log(f))
    assert row["lower"] < f < row["upper"]
    assert (row["lower"], row["upper"]) == pytest.approx((f ** np.exp(-reach), f ** np.exp(reach)), rel=1e-6)


def test_gray_test_rejects_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    p_values = []
    for _ in range(400):
        time = np.ceil(generator.exponential(8.0, size=60))  # with ties
        cause = generator.integers(0, 3, size=60)
        p_values.append(gray_test(time, cause, np.arange(60) % 2).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=6, max_size=25))
def test_concordance_equals_brute_force(rows: list[tuple[int, bool, int]]) -> None:
    time, event, x = (np.array(column) for column in zip(*rows, strict=True))
    good = pairs = 0.0
    for i, j in itertools.permutations(range(len(rows)), 2):
        if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
            pairs += 1
            good += 1.0 if x[i] > x[j] else 0.5 * (x[i] == x[j])
    score = x.astype(float)
    if pairs == 0 or len(set(x)) < 2:
        return
    one = np.ones(time.size)
    sets = risk_sets(time.astype(float), event, None, np.zeros(time.size, dtype=np.intp), one)
    assert concordance(sets, score[sets.order]).index == pytest.approx(good / pairs)


def test_few_events_are_told() -> None:
    generator = np.random.default_rng(0)
    x = pd.DataFrame(generator.normal(size=(42, 3)), columns=["a", "b", "c"])
    assert not cox(TIME, EVENT, x).notes
    assert any("fewer than 10 events" in note.message for note in cox(TIME, EVENT, x.assign(d=x.a**2)).notes)


def test_pairs_by_hand() -> None:
    x = np.array([10.0, 12.0, 9.5, 14.0, 11.0, 13.5])
    y = np.array([9.0, 12.5, 8.0, 11.0, 10.5, 12.0])
    found, other = paired_t_test(x, y), stats.ttest_rel(x, y).confidence_interval(0.95)
    assert found.difference_ci == pytest.approx((other.low, other.high))
    corrected = (abs(10 - 3) - 1) ** 2 / 13
    assert mcnemar(10, 3).corrected_p == pytest.approx(stats.chi2.sf(corrected, 1))
    same = ["a"] * 5
    assert mcnemar_from_pairs(same, same).p_value == 1.0
    assert bowker_from_pairs(same, same).p_value == 1.0


def test_patients_for_two_proportions_in_unequal_groups() -> None:
    found = patients_for_proportions(0.5, 0.7, power=0.9, allocation=2 / 3)
    one = found.exact / 3  # in the smaller group; twice as many in the other
    pooled = (0.5 + 2 * 0.7) / 3
    z = np.sqrt(one) * 0.2 - stats.norm.isf(0.025) * np.sqrt(1.5 * pooled * (1 - pooled))
    assert stats.norm.cdf(z / np.sqrt(0.25 + 0.21 / 2)) == pytest.approx(0.9)
    assert found.needed == 3 * int(np.ceil(one))
