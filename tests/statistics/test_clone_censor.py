"""Clone, censor, weight on simulated cohorts in which the treatment does nothing, or a known something."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cantlie.core.errors import StatisticsError
from cantlie.statistics.clone_censor import clone_censor_weight

GRACE = 3.0
DATA = Path(__file__).parents[1] / "data" / "statistics"


def simulated(seed, n=4000, *, frailty=1.0, effect=1.0):
    """Patients with a frail half, who die sooner and are treated later; treatment multiplies the hazard by effect."""
    rng = np.random.default_rng(seed)
    frail = rng.integers(0, 2, n)
    hazard = 0.06 * np.exp(frailty * frail)
    wait = rng.exponential(4.0 * np.exp(0.9 * frail))
    wait = np.where(rng.random(n) < 0.7, wait, np.inf)
    # Piecewise: the hazard changes when the treatment starts.
    need = rng.exponential(1.0, n)
    before = hazard * np.minimum(wait, 1e9)
    death = np.where(need <= before, need / hazard, np.where(np.isinf(wait), need / hazard, 0))
    death = np.where(need > before, wait + (need - before) / (hazard * effect), death)
    stop = rng.uniform(20, 40, n)
    time = np.minimum(death, stop)
    exposure = np.where(wait < time, wait, np.nan)
    return time, death <= stop, exposure, pd.DataFrame({"frail": frail.astype(float)})


def test_a_useless_treatment_looks_good_naively_and_useless_after_weighting():
    naive, unweighted, weighted, cut = [], [], [], []
    for seed in range(5):
        time, event, exposure, covariates = simulated(seed)
        found = clone_censor_weight(time, event, exposure, covariates, grace=GRACE)
        naive.append(found.naive.coef[0])
        unweighted.append(found.unweighted.coef[0])
        weighted.append(found.model.coef[0])
        cut.append(clone_censor_weight(time, event, exposure, covariates, grace=GRACE, truncate=0.99).model.coef[0])
    assert np.exp(np.mean(naive)) < 0.65
    assert np.exp(np.mean(unweighted)) < 0.93
    assert np.exp(np.mean(weighted)) == pytest.approx(1.0, abs=0.04)
    # Cutting weights off brings a part of the confounding back.
    assert np.mean(unweighted) < np.mean(cut) < np.mean(weighted)


def test_intervals_cover_no_effect_about_as_often_as_they_say():
    covered = 0
    for seed in range(25):
        time, event, exposure, covariates = simulated(100 + seed, n=400)
        low, high = clone_censor_weight(time, event, exposure, covariates, grace=GRACE).model.interval[0]
        covered += low <= 1 <= high
    assert covered >= 22


def test_without_confounding_the_times_alone_suffice():
    found = [clone_censor_weight(*simulated(seed, frailty=0.0)[:3], grace=GRACE) for seed in range(5)]
    assert np.exp(np.mean([f.naive.coef[0] for f in found])) < 0.75
    assert np.exp(np.mean([f.model.coef[0] for f in found])) == pytest.approx(1.0, abs=0.04)
    assert any("no covariates" in note.message for note in found[0].notes)


def test_a_treatment_that_helps_is_seen_to_help():
    time, event, exposure, covariates = simulated(3, effect=0.5)
    found = clone_censor_weight(time, event, exposure, covariates, grace=GRACE)
    assert found.model.interval[0][1] < 1
    assert list(found.table()["hazard_ratio"]) == [
        float(m.hazard_ratio[0]) for m in (found.naive, found.unweighted, found.model)
    ]


def test_every_patient_is_in_both_strategies_and_leaves_one_of_them():
    time = [1.0, 2.0, 6.0, 8.0, 9.0, 7.0]
    event = [1, 1, 1, 0, 1, 1]
    exposure = [np.nan, 1.0, 2.0, np.nan, 5.0, 1.5]
    found = clone_censor_weight(time, event, exposure, grace=3.0, truncate=None)
    rows = found.rows
    last = rows.groupby(["strategy", "patient"])[["stop", "event"]].max()
    # Strategy 1 ends at 3 for those not treated by then; strategy 0 at the start of treatment.
    assert last.loc[1, "stop"].tolist() == [1, 2, 6, 3, 3, 7]
    assert last.loc[0, "stop"].tolist() == [1, 1, 2, 8, 9, 1.5]
    assert last.loc[1, "event"].tolist() == [1, 1, 1, 0, 0, 1]
    assert last.loc[0, "event"].tolist() == [1, 0, 0, 0, 1, 0]
    # Alive at 3: four, of whom two were treated by then.
    assert rows[(rows["strategy"] == 1) & (rows["start"] == 3)]["weight"].tolist() == [2.0, 2.0]
    assert found.censored == {1: 2, 0: 3}
    assert (rows["stop"] > rows["start"]).all()


def test_a_start_at_time_zero_counts_as_one_just_after_it():
    time, event, exposure, covariates = simulated(4, n=600)
    time, exposure = np.ceil(4 * time) / 4, np.ceil(4 * exposure) / 4 - 0.05  # nobody dies before others start
    exposure[exposure >= time] = np.nan
    at_once = np.arange(600) % 7 == 0
    found = [
        clone_censor_weight(time, event, np.where(at_once, when, exposure), covariates, grace=GRACE, truncate=None)
        for when in (0.0, 0.01)
    ]
    assert found[0].model.coef == pytest.approx(found[1].model.coef, abs=1e-9)
    assert found[0].largest_weight == pytest.approx(found[1].largest_weight, rel=1e-9)


def test_who_does_not_start_at_time_zero_is_weighted_from_there_on():
    """Some die before the first later start: they count with the same weight as if the others started an instant on."""
    time, event, exposure, covariates = simulated(4, n=600)
    exposure = np.ceil(2 * exposure) / 2
    exposure[exposure >= time] = np.nan
    at_once = np.arange(600) % 7 == 0
    assert (event & (time < np.nanmin(exposure)) & ~at_once).any()
    found = [
        clone_censor_weight(time, event, np.where(at_once, when, exposure), covariates, grace=GRACE)
        for when in (0.0, 1e-9)
    ]
    assert found[0].model.coef == pytest.approx(found[1].model.coef, abs=1e-9)
    rows = found[0].rows[found[0].rows["strategy"] == 0]
    assert (rows.loc[rows["start"] == 0, "weight"] > 1).all()
    assert (found[0].rows["stop"] > found[0].rows["start"]).all()


def test_treatments_at_time_zero_and_later__against_r():
    """Values that clone_censor.R beside the data prints (R 4.2.2, survival 3.5-3)."""
    data = pd.read_csv(DATA / "clone_censor.csv")
    assert (data["exposure"] == 0).sum() == 20
    covariates = data[["frail", "age"]].astype(float)
    found = clone_censor_weight(data["time"], data["event"], data["exposure"], covariates, grace=GRACE)
    assert found.model.coef[0] == pytest.approx(0.051619422361, abs=1e-9)
    assert found.model.se[0] == pytest.approx(0.195354037574, abs=1e-9)
    assert found.largest_weight == pytest.approx(2.638434211311, abs=1e-9)


@pytest.mark.parametrize("grace", [0.0, 0.5, 100.0, np.nan])
def test_a_grace_period_that_leaves_a_strategy_empty_is_refused(grace):
    with pytest.raises(StatisticsError):
        clone_censor_weight([1.0, 2, 6, 8], [1, 1, 1, 0], [np.nan, 1.0, 2.0, np.nan], grace=grace)
