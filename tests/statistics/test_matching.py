"""Matching, weights, logistic regression, tables, reconstruction, pooling, power: properties and hand cases."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cantlie.core.errors import StatisticsError
from cantlie.statistics.balance import balance, effective_sample_size, propensity_weights
from cantlie.statistics.guyot import reconstruct
from cantlie.statistics.imputation import pool
from cantlie.statistics.logistic import logistic
from cantlie.statistics.matching import match, propensity_score
from cantlie.statistics.power import (
    events_for_hazard_ratio,
    patients_for_means,
    patients_for_proportions,
    power_of_events,
)
from cantlie.statistics.sensitivity import e_value
from cantlie.statistics.summary_table import Variable, baseline_table
from cantlie.statistics.survival import kaplan_meier

GENERATOR = np.random.default_rng(11)
N = 600
X = pd.DataFrame(
    {"age": GENERATOR.normal(60, 9, N), "stage": GENERATOR.choice(list("abc"), N), "male": GENERATOR.integers(0, 2, N)}
)
TREATED = (GENERATOR.random(N) < 1 / (1 + np.exp(-(0.08 * (X.age - 68) + (X.stage == "c"))))).astype(int)
MODEL = propensity_score(TREATED, X)


def brute_force(z: np.ndarray, score: np.ndarray, caliper: float, order: np.ndarray) -> set[tuple[int, int]]:
    free, pairs = set(np.flatnonzero(z == 0).tolist()), set()
    for t in order:
        best = min(free, key=lambda c: (abs(score[c] - score[t]), c), default=None)
        if best is not None and abs(score[best] - score[t]) <= caliper:
            pairs.add((int(t), int(best)))
            free.remove(best)
    return pairs


@pytest.mark.parametrize("order", ["largest", "smallest", "data"])
def test_nearest_neighbours_are_those_of_brute_force(order: str) -> None:
    found = match(TREATED, MODEL.linear, order=order)
    treated = np.flatnonzero(TREATED == 1)
    sign = {"largest": -1, "smallest": 1}.get(order)
    if sign:
        treated = treated[np.argsort(sign * MODEL.linear[treated], kind="stable")]
    assert found.caliper == pytest.approx(0.2 * MODEL.linear.std(ddof=1))
    theirs = brute_force(TREATED, MODEL.linear, found.caliper or 0, treated)
    assert set(zip(found.treated.tolist(), found.control.tolist(), strict=True)) == theirs


def test_closest_first_serves_the_closest_pair_of_all() -> None:
    found = match(TREATED, MODEL.linear, order="closest", caliper=None)
    gaps = np.abs(MODEL.linear[TREATED == 1][:, None] - MODEL.linear[TREATED == 0][None, :])
    assert found.distance.min() == pytest.approx(gaps.min())
    assert np.unique(found.control).size == found.pairs == TREATED.sum()


def test_optimal_matching_is_not_worse_than_greedy() -> None:
    greedy = match(TREATED, MODEL.linear, caliper=None)
    optimal = match(TREATED, MODEL.linear, caliper=None, method="optimal")
    assert optimal.pairs == greedy.pairs
    assert optimal.distance.sum() <= greedy.distance.sum() + 1e-9
    tight = match(TREATED, MODEL.linear, method="optimal", caliper=0.05)
    assert (tight.distance <= (tight.caliper or 0)).all()
    assert tight.pairs >= match(TREATED, MODEL.linear, caliper=0.05).pairs


def test_replacement_ratio_exact_and_weights() -> None:
    again = match(TREATED, MODEL.linear, replace=True, caliper=None)
    gaps = np.abs(MODEL.linear[TREATED == 1][:, None] - MODEL.linear[TREATED == 0][None, :])
    assert again.distance == pytest.approx(gaps.min(axis=1))
    two = match(TREATED, MODEL.linear, ratio=2, caliper=0.2)
    assert np.bincount(two.treated).max() == 2
    assert np.unique(two.control).size == two.pairs
    own = match(TREATED, MODEL.linear, exact=X.stage)
    assert (X.stage.to_numpy()[own.treated] == X.stage.to_numpy()[own.control]).all()
    assert own.weight[TREATED == 0].sum() == pytest.approx(own.pairs)
    assert (
        match(TREATED, MODEL.linear, order="random", seed=4).pairs
        == match(TREATED, MODEL.linear, order="random", seed=4).pairs
    )


def test_the_caliper_says_which_sd() -> None:
    pooled = match(TREATED, MODEL.linear, caliper_sd="pooled")
    assert any("pooled within groups" in note.message for note in pooled.notes)
    assert match(TREATED, MODEL.linear, caliper=0.1, caliper_sd=None).caliper == 0.1


def test_matching_and_overlap_weights_balance() -> None:
    found = balance(TREATED, X, weights=match(TREATED, MODEL.linear).weight)
    assert found.worst < np.abs(found.before).max()
    exact = logistic(TREATED, X, tolerance=None)
    overlap = balance(TREATED, X, weights=propensity_weights(TREATED, exact.fitted, estimand="overlap"))
    assert overlap.worst < 1e-10
    assert effective_sample_size(np.ones(7)) == pytest.approx(7)
    stabilised = propensity_weights(TREATED, MODEL.fitted, estimand="ate-stabilised")
    assert stabilised.sum() == pytest.approx(N, rel=0.1)


def test_logistic_of_one_binary_covariate_is_the_odds_ratio_and_separation_is_refused() -> None:
    y = [1] * 10 + [0] * 20 + [1] * 15 + [0] * 5
    x = [0.0] * 30 + [1.0] * 20
    model = logistic(y, x, names=["x"])
    assert model.coef[1] == pytest.approx(np.log(15 * 20 / (5 * 10)), rel=1e-6)
    assert model.se[1] == pytest.approx(np.sqrt(1 / 10 + 1 / 20 + 1 / 15 + 1 / 5), rel=1e-3)
    with pytest.raises(StatisticsError, match=r"separated.*Firth"):
        logistic([0, 0, 0, 1, 1, 1], [1.0, 2, 3, 4, 5, 6])
    assert np.isfinite(logistic([0, 0, 0, 1, 1, 1], [1.0, 2, 3, 4, 5, 6], firth=True).coef).all()


def test_firth_of_a_proportion_adds_half() -> None:
    x = [0.0] * 12 + [1.0] * 9
    y = [0] * 12 + [1] * 4 + [0] * 5
    model = logistic(y, x, firth=True)
    assert model.coef[0] == pytest.approx(np.log(0.5 / 12.5), rel=1e-8)
    assert model.coef.sum() == pytest.approx(np.log(4.5 / 5.5), rel=1e-8)


def test_reconstruction_gives_back_a_digitised_curve() -> None:
    time = np.ceil(GENERATOR.exponential(20, 200))
    lost = np.ceil(GENERATOR.uniform(5, 60, 200))
    seen, died = np.minimum(time, lost), time <= lost
    curve = kaplan_meier(seen, died).curves[0]
    grid = np.arange(0, seen.max() + 1)
    clicks = curve.rates(grid)["survival"].round(3)
    table = np.arange(0, seen.max(), 12)
    found = reconstruct(grid, clicks, table, curve.at_risk(table), total_events=int(died.sum()))
    again = kaplan_meier(found.time, found.event).curves[0]
    assert found.time.size == 200
    assert abs(found.event.sum() - died.sum()) <= 4
    inside = grid <= found.time.max()
    assert np.abs(again.rates(grid[inside])["survival"] - clicks[inside]).max() < 0.01
    with pytest.raises(StatisticsError, match="divide by 100"):
        reconstruct([0, 1], [100, 90], [0], [10])


def test_pooling_without_spread_is_the_single_analysis() -> None:
    found = pool([0.4, 0.4, 0.4], [0.04, 0.04, 0.04])
    assert found.std_err == pytest.approx(0.2)
    assert found.missing_information == pytest.approx(0)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(2))


def test_e_value_is_symmetric_and_one_at_one() -> None:
    assert e_value(2.0, 1.2, 3.0).point == pytest.approx(e_value(0.5, 1 / 3, 1 / 1.2).point)
    assert e_value(1.0).point == 1.0
    assert e_value(0.7, 0.4, 1.1).interval == 1.0


def test_sample_sizes_reach_their_power() -> None:
    found = events_for_hazard_ratio(0.7, power=0.9)
    assert power_of_events(found.exact, 0.7) == pytest.approx(0.9)
    assert patients_for_proportions(0.5, 0.7).needed == 186
    assert patients_for_means(0.5, 1.0).needed == 128
    with pytest.raises(StatisticsError, match="not 1"):
        events_for_hazard_ratio(1.0)


def test_baseline_table_names_its_tests_and_counts_missing() -> None:
    data = X.assign(arm=TREATED, note=["x"] * 3 + [None] * 7 + ["y"] * (N - 10))
    found = baseline_table(
        data,
        ["stage", Variable("age", "mean"), Variable("age", "median-range", test="mann-whitney"), "note"],
        group=TREATED,
    )
    table = found.table()
    assert list(table["test"][table["test"] != ""])[:3] == [
        "Pearson χ² test without continuity correction",
        "Welch's t-test",
        "Mann–Whitney U test, asymptotic, with continuity correction",
    ]
    assert "Fisher's exact test" in set(table["test"])
    assert table.loc[table["level"] == "missing", found.columns[0]].iloc[0] == "7"
    share = (X.stage == "a").mean()
    assert f"({100 * share:.1f} %)" in table.loc[table["level"] == "a", found.columns[0]].iloc[0]
    assert baseline_table(data, ["male"]).rows[0].p_value is None
    with pytest.raises(StatisticsError, match="no such column"):
        baseline_table(data, ["ages"])


def test_a_constant_covariate_is_balanced_whatever_its_rounding() -> None:
    z = [1] * 3 + [0] * 7
    found = balance(z, pd.DataFrame({"same": [61.3] * 10, "other": list(range(10))}), weights=[0.3] * 3 + [0.7] * 7)
    assert found.before[0] == 0.0
    assert found.after is not None
    assert found.after[0] == 0.0
    assert abs(found.before[1]) > 1
