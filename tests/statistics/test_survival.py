"""Survival: what must hold without censoring, between tests and under changes of unit; what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import StatisticsError
from cantlie.statistics.competing import cumulative_incidence, gray_test
from cantlie.statistics.cox import cox
from cantlie.statistics.cox_diagnostics import proportional_hazards_test, schoenfeld_residuals
from cantlie.statistics.cox_firth import cox_firth
from cantlie.statistics.fine_gray import fine_gray
from cantlie.statistics.fine_gray_rows import fine_gray_rows
from cantlie.statistics.landmark import immortal_time, start_stop_rows
from cantlie.statistics.logrank import log_rank, log_rank_pairs, log_rank_trend
from cantlie.statistics.rmst import compare_rmst, restricted_mean
from cantlie.statistics.subgroup import subgroup_forest
from cantlie.statistics.survival import follow_up, kaplan_meier

SAMPLES = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.integers(0, 1)), min_size=8, max_size=40)


def simulated(n: int = 400, seed: int = 0, effect: float = 0.5) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    x, z = generator.normal(size=n), generator.integers(0, 2, size=n)
    latent = generator.exponential(size=n) * np.exp(-effect * x + 0.4 * z)
    lost = generator.exponential(2.0, size=n)
    time = np.ceil(40 * np.minimum(latent, lost))
    return pd.DataFrame({"time": time, "event": (latent <= lost).astype(int), "x": x, "z": z})


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=40))
def test_without_censoring_kaplan_meier_is_the_empirical_survival(times: list[int]) -> None:
    t = np.array(times, dtype=float)
    curve = kaplan_meier(t, np.ones(t.size), confidence_type="plain").curves[0]
    share = np.array([(t > s).mean() for s in curve.time])
    assert curve.survival == pytest.approx(share)
    inner = share > 0
    assert curve.std_err[inner] == pytest.approx(np.sqrt(share * (1 - share) / t.size)[inner])
    assert restricted_mean(curve, 50.0).rmst == pytest.approx(t.mean())


def test_kaplan_meier_by_hand() -> None:
    curve = kaplan_meier([1, 2, 2, 3, 4], [1, 1, 0, 0, 1], confidence_type="plain").curves[0]
    assert curve.survival == pytest.approx([0.8, 0.6, 0.6, 0.0])
    assert curve.n_risk == pytest.approx([5, 4, 2, 1])
    assert curve.rates([2])["survival"][0] == pytest.approx(0.6)
    assert curve.at_risk([2]) == pytest.approx([4])
    assert curve.median.time == 4


def test_a_median_on_a_level_step_is_its_middle() -> None:
    assert kaplan_meier([1, 2, 3, 4], [1, 1, 1, 1]).curves[0].median.time == 2.5


def test_late_entry_takes_patients_out_of_early_risk_sets() -> None:
    curve = kaplan_meier([2, 4, 5, 6], [1, 1, 1, 1], entry=[0, 3, 0, 0]).curves[0]
    assert curve.n_risk == pytest.approx([3, 3, 2, 1])
    assert curve.at_risk([2, 4]) == pytest.approx([3, 3])


def test_weights_of_two_are_two_patients() -> None:
    data = simulated(60)
    twice = pd.concat([data, data])
    weighted = kaplan_meier(data.time, data.event, weights=np.full(60, 2.0)).curves[0]
    assert weighted.survival == pytest.approx(kaplan_meier(twice.time, twice.event).curves[0].survival)
    model = cox(data.time, data.event, data[["x"]], weights=np.full(60, 2.0), ties="breslow")
    assert model.coef == pytest.approx(cox(twice.time, twice.event, twice[["x"]], ties="breslow").coef, rel=1e-8)
    assert model.naive_se == pytest.approx(cox(twice.time, twice.event, twice[["x"]], ties="breslow").se, rel=1e-8)


@settings(deadline=None, max_examples=30)
@given(SAMPLES)
def test_log_rank_is_the_score_test_of_the_exact_cox_model(rows: list[tuple[int, bool, int]]) -> None:
    t, d, g = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if g.min() == g.max() or d.sum() == 0:
        return
    try:
        model = cox(t, d, g, ties="exact", infinite="note")
        test = log_rank(t, d, g)
    except StatisticsError:
        return
    assert test.statistic == pytest.approx(model.score_test.statistic or 0, rel=1e-7, abs=1e-9)


def test_two_groups_observed_equals_expected_in_total_and_pairs_agree() -> None:
    data = simulated()
    group = np.array(list("abcd"))[np.arange(400) % 4]
    test = log_rank(data.time, data.event, group)
    assert sum(test.observed) == pytest.approx(sum(test.expected))
    assert test.df == 3
    pairs = log_rank_pairs(data.time, data.event, group)
    assert len(pairs) == 6
    assert (pairs.p_adjusted >= pairs.p_value).all()
    two = log_rank(data.time, data.event, data.z)
    assert log_rank_trend(data.time, data.event, data.z).statistic == pytest.approx(two.statistic)


def test_strata_of_copies_add_up() -> None:
    data = simulated(100)
    one = log_rank(data.time, data.event, data.z)
    both = pd.concat([data.assign(s=0), data.assign(s=1)])
    assert log_rank(both.time, both.event, both.z, strata=both.s).statistic == pytest.approx(2 * (one.statistic or 0))
    small = cox(data.time, data.event, data[["x", "z"]])
    large = cox(both.time, both.event, both[["x", "z"]], strata=both.s)
    assert large.coef == pytest.approx(small.coef, rel=1e-8)
    assert large.se == pytest.approx(small.se / np.sqrt(2), rel=1e-8)


def test_cox_does_not_depend_on_unit_or_location_and_methods_agree_without_ties() -> None:
    data = simulated()
    time = data.time + np.arange(400) * 1e-3
    base = cox(time, data.event, data[["x", "z"]])
    moved = cox(time * 30.4, data.event, data[["x", "z"]] * [10, 1] + [100, -3])
    assert moved.coef * [10, 1] == pytest.approx(base.coef, rel=1e-7)
    assert moved.loglik == pytest.approx(base.loglik, rel=1e-10)
    for ties in ("breslow", "exact"):
        assert cox(time, data.event, data[["x", "z"]], ties=ties).coef == pytest.approx(base.coef, rel=1e-7)
    assert base.concordance.index == pytest.approx(moved.concordance.index)


def test_splitting_follow_up_changes_nothing() -> None:
    data = simulated(150)
    cut = np.where(data.time > 10, 10.0, data.time / 2)
    rows = pd.concat(
        [
            data.assign(start=0.0, stop=cut, event=0),
            data.assign(start=cut, stop=data.time),
        ]
    )
    whole, split = cox(data.time, data.event, data[["x"]]), cox(rows.stop, rows.event, rows[["x"]], entry=rows.start)
    assert split.coef == pytest.approx(whole.coef, rel=1e-8)
    assert split.se == pytest.approx(whole.se, rel=1e-8)
    assert split.concordance.index == pytest.approx(whole.concordance.index)
    exact = cox(rows.stop, rows.event, rows[["x"]], entry=rows.start, ties="exact")
    assert exact.coef == pytest.approx(cox(data.time, data.event, data[["x"]], ties="exact").coef, rel=1e-7)


@pytest.mark.parametrize("ties", ["efron", "breslow", "exact"])
def test_the_score_is_the_gradient_of_the_likelihood(ties: str) -> None:
    from cantlie.statistics.cox import prepare
    from cantlie.statistics.cox_exact import exact_likelihood
    from cantlie.statistics.risk_sets import likelihood

    data = simulated(80)
    ready = prepare(data.time, data.event, data[["x", "z"]], None, data.z.to_numpy() % 2, None, None, None)
    beta, step = np.array([0.3, -0.2]), 1e-5

    def at(b: np.ndarray) -> object:
        return exact_likelihood(ready.sets, ready.x, b) if ties == "exact" else likelihood(ready.sets, ready.x, b, ties)

    here = at(beta)
    for j in range(2):
        e = step * np.eye(2)[j]
        assert (at(beta + e).value - at(beta - e).value) / (2 * step) == pytest.approx(
            here.score[j], rel=1e-6, abs=1e-6
        )
        slope = -(at(beta + e).score - at(beta - e).score) / (2 * step)
        assert slope == pytest.approx(here.information[j], rel=1e-6, abs=1e-6)


def test_separation_is_refused_and_firth_is_finite() -> None:
    t, d = np.arange(1.0, 21), np.r_[np.ones(10), np.zeros(10)]
    x = pd.DataFrame({"marker": np.r_[np.ones(10), np.zeros(10)]})
    with pytest.raises(StatisticsError, match=r"no maximum.*marker.*Firth"):
        cox(t, d, x)
    model = cox_firth(t, d, x)
    assert np.isfinite(model.coef).all()
    assert model.lower[0] > 1
    assert model.p_value[0] < 0.01


def test_a_hazard_ratio_that_changes_is_found() -> None:
    generator = np.random.default_rng(2)
    x = generator.integers(0, 2, 600)
    early, late = generator.exponential(1.0 - 0.6 * x), generator.exponential(1.0 + 1.5 * x)
    time = np.where(early < 0.5, early, 0.5 + late)
    model = cox(time, np.ones(600), x.astype(float), names=["treatment"])
    test = proportional_hazards_test(model)
    assert test.p_value[0] < 0.001
    assert "changes with time" in test.notes[0].message
    assert schoenfeld_residuals(model).residual.sum() == pytest.approx(0, abs=1e-6)


def test_with_one_cause_incidence_is_one_minus_kaplan_meier_and_fine_gray_is_cox() -> None:
    data = simulated(120)
    curve = cumulative_incidence(data.time, data.event).curve(1)
    km = kaplan_meier(data.time, data.event).curves[0]
    assert curve.incidence == pytest.approx(1 - km.survival)
    inside = km.survival > 0
    assert curve.std_err[inside] == pytest.approx(km.std_err[inside])
    ours = fine_gray(data.time, data.event, data[["x", "z"]])
    theirs = cox(data.time, data.event, data[["x", "z"]], ties="breslow")
    assert ours.coef == pytest.approx(theirs.coef, rel=1e-8)


def test_competing_risks_add_up_and_naive_is_too_high() -> None:
    data = simulated(300)
    code = np.where(data.event == 1, 1 + (np.arange(300) % 3 == 0), 0)
    found = cumulative_incidence(data.time, code)
    km = kaplan_meier(data.time, code > 0).curves[0]
    assert found.curve(1).incidence + found.curve(2).incidence == pytest.approx(1 - km.survival)
    assert (found.curve(1).naive >= found.curve(1).incidence - 1e-12).all()
    assert gray_test(data.time, code, data.z).df == 1
    rows = fine_gray_rows(data.time, code)
    fit = cox(
        rows.stop, rows.event, data[["x"]].iloc[rows.row], entry=rows.start, weights=rows.weight, cluster=rows.row
    )
    assert fit.coef == pytest.approx(fine_gray(data.time, code, data[["x"]], ties="efron").coef, rel=1e-6)


def test_immortal_time_of_a_useless_treatment_is_unmasked() -> None:
    generator = np.random.default_rng(9)
    time, wait = generator.exponential(10, 800), generator.exponential(10, 800)
    treated_at = np.where(wait < time, wait, np.nan)
    found = immortal_time(time, np.ones(800), treated_at, landmark=5.0)
    assert found.naive.interval[0, 1] < 0.8
    low, high = found.time_dependent.interval[0]
    assert low < 1 < high
    assert "immortal time" in found.notes[0].message
    rows = start_stop_rows(time, np.ones(800), treated_at)
    assert (rows.stop - rows.start).sum() == pytest.approx(time.sum())


def test_rmst_and_follow_up_and_forest_run_together() -> None:
    data = simulated()
    found = compare_rmst(data.time, data.event, data.z, tau=40)
    assert found.groups[0].rmst + found.groups[0].rmtl == pytest.approx(40)
    assert follow_up(data.time, data.event).median_all == np.median(data.time)
    forest = subgroup_forest(
        data.time, data.event, data.z, pd.DataFrame({"sex": np.arange(400) % 2, "alone": np.r_[np.zeros(399), 1]})
    )
    assert forest.rows[1].p_interaction is not None
    assert forest.rows[2].p_interaction is None
    assert np.isnan(forest.rows[-1].hazard_ratio)
    assert len(forest.table()) == 5


@pytest.mark.parametrize(
    ("time", "event", "x", "words"),
    [
        ([1, -2, 3], [1, 1, 0], [1, 2, 3], "negative"),
        ([1, 2, 3], [0, 0, 0], [1, 2, 3], "nobody had the event"),
        ([1, 2, 3], [1, 1, 0], [2, 2, 2], "same for all patients"),
        ([1, 2, 3], [1, 2, 0], [1, 2, 3], "0 \\(censored\\) and 1 \\(event\\), not 0, 1, 2"),
        ([1, 2, np.nan], [1, 1, 0], [1, 2, 3], "missing"),
        ([1, 2, 3], [1, 1, 0], [1, np.nan, 3], "missing"),
        ([1, 2, 3], [1, 1, 0], [1, 2], "2 rows of covariates for 3 times"),
        ([], [], [], "no patients"),
    ],
)
def test_what_cannot_be_modelled_is_refused_in_one_sentence(
    time: list[float], event: list[float], x: list[float], words: str
) -> None:
    with pytest.raises(StatisticsError, match=words):
        cox(time, event, np.array(x, dtype=float))


def test_a_redundant_covariate_is_named() -> None:
    data = simulated(50)
    with pytest.raises(StatisticsError, match=r"combination.*double"):
        cox(data.time, data.event, data[["x"]].assign(double=2 * data.x))


@pytest.mark.parametrize("more", [{}, {"cluster": [0, 0, 1, 1]}, {"weights": [1.78, 0.57, 0.35, 1.87]}])
def test_a_separating_combination_is_refused_whatever_the_errors(more: dict[str, list[float]]) -> None:
    """Each covariate alone varies among those at risk; together they order the four deaths perfectly.

    On the plateau the naive error is 3e4, the robust one 0.65: a hazard ratio of 2e4 would look certain.
    """
    x = pd.DataFrame({"x": [-0.9, 2.7, -0.9, 0.4], "z": [0, 1, 0, 1]})
    with pytest.raises(StatisticsError, match="separation"):
        cox([3.0, 7.8, 17.2, 20.4], [1, 1, 1, 1], x, **more)
    with pytest.raises(StatisticsError, match="separation"):
        fine_gray([3.0, 7.8, 17.2, 20.4], [1, 1, 1, 1], x)


def test_a_step_beyond_what_floats_hold_is_separation_not_a_crash() -> None:
    x = pd.DataFrame({"x": [0.5, 0.8, -0.2, -0.2], "z": [0, 0, 1, 0]})
    with pytest.raises(StatisticsError, match="separation"):
        cox([7.0, 14.0, 1.0, 2.0], [1, 0, 0, 0], x, weights=[1.82, 1.03, 0.55, 1.44])


def test_fewer_clusters_than_coefficients_give_no_crash() -> None:
    data = simulated(60)
    model = cox(data["time"], data["event"], data[["x", "z"]], cluster=[0] * 60)
    assert np.isfinite(model.coef).all()
    assert np.isfinite(model.wald_test.p_value)
