"""Models outside and inside their range, bands, repopulation, delivery time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cantlie.core.errors import CantlieError, StructureError
from cantlie.radiobiology.high_dose import lql_bed_gy
from cantlie.radiobiology.linear_quadratic import (
    OverallTime,
    Repopulation,
    bed_gy,
    bed_of_sessions_gy,
    delivery_factor,
    eqd2_of_sessions_gy,
    high_dose_note,
)
from cantlie.radiobiology.ntcp import (
    LKB_MODELS,
    RILD_METASTASES,
    hytec_enzyme_risk,
    parallel_risk,
    rild,
    spared_volume_cc,
)
from cantlie.radiobiology.sensitivity import band
from cantlie.radiobiology.tcp import hytec_local_control, logistic_tcp, poisson_tcp
from cantlie.radiobiology.volume_effect import effective_volume, geud_gy, mean_dose_gy


def test_rild_of_a_uniform_liver_is_that_of_its_dose():
    estimate = rild(np.full(100, 32.0))
    assert estimate.value == pytest.approx(0.037284, abs=1e-6)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.model.id == "rild-metastases-eqd2" and "S0360-3016(02)02846-8" in estimate.model.source
    assert rild([32.0], liver_disease="primary").value > estimate.value
    assert rild([40.0], largest_dose_per_fraction_gy=14.0).notes
    with pytest.raises(CantlieError, match="metastases or primary"):
        rild([1.0], liver_disease="cyst")


def test_models_warn_outside_their_range():
    assert any("3 to 6" in note.message for note in hytec_enzyme_risk(15.0, 15).notes)
    assert any("above the data" in note.message for note in hytec_enzyme_risk(30.0, 5).notes)
    assert any("not SBRT" in note.message for note in hytec_local_control(36.0, 15).notes)
    assert not hytec_local_control(100.0, 3).notes
    assert high_dose_note(14.0, "PTV") and not high_dose_note(9.0, "PTV")
    assert any("memory" in note.message for note in parallel_risk([10.0, 40.0]).notes)
    for model in LKB_MODELS:
        assert model.card.source and model.card.valid and model.card.formula and model.card.parameters


def test_bands_hold_the_value_and_name_their_driver():
    for estimate in (hytec_enzyme_risk(15.0, 3), parallel_risk([10.0, 40.0]), hytec_local_control(100.8, 3)):
        assert estimate.low <= estimate.value <= estimate.high
    result = band(
        lambda dose, alpha_beta: float(bed_gy(dose, 15, alpha_beta)),
        {"dose": 2.0, "alpha_beta": 2.5},
        {"alpha_beta": (2.0, 3.0), "dose": (1.99, 2.01)},
    )
    assert (result.nominal, result.driver) == (54.0, "alpha_beta")
    assert result.low == pytest.approx(float(bed_gy(1.99, 15, 3.0))) and result.high == pytest.approx(
        float(bed_gy(2.01, 15, 2.0))
    )
    with pytest.raises(CantlieError, match="nominal"):
        band(lambda x: x, {"x": 1.0}, {"x": (2.0, 3.0)})


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 80), min_size=1, max_size=30), st.floats(1, 20))
def test_geud_lies_between_mean_and_maximum(doses, a):
    value = geud_gy(doses, a)
    assert np.mean(doses) - 1e-9 <= value <= max(doses) + 1e-9
    assert geud_gy(doses, 1.0) == pytest.approx(mean_dose_gy(doses))


def test_geud_takes_volumes_and_refuses_nothing():
    assert geud_gy([10, 30], 2.0, [3, 1]) == pytest.approx(np.sqrt((3 * 100 + 900) / 4))
    assert geud_gy([10, 30], -10.0) == pytest.approx(10 * 0.5**-0.1, rel=1e-4)
    assert geud_gy([0.0, 10.0], -5.0) == 0.0
    assert effective_volume([40.0, 0.0], 40.0, 0.5) == pytest.approx(0.5)
    with pytest.raises(StructureError, match="at least one voxel"):
        geud_gy([], 1.0)


def test_delivery_factor_is_the_double_integral_over_the_fraction():
    mu, hours = np.log(2) / 1.5, 0.8
    inner, _ = integrate.dblquad(lambda s, t: np.exp(-mu * (t - s)), 0, hours, 0, lambda t: t)
    assert delivery_factor(hours, 1.5) == pytest.approx(2 * inner / hours**2, rel=1e-9)
    assert delivery_factor(1e-6, 1.5) == pytest.approx(1.0)


def test_sessions_of_different_dose_are_summed_one_by_one():
    doses = [np.array([1.7, 0.0]), np.array([1.9, 2.0])]
    assert bed_of_sessions_gy(doses, [18, 12], 10.0) == pytest.approx([62.934, 28.8])
    assert eqd2_of_sessions_gy(doses, [18, 12], 2.5)[0] == pytest.approx(50.8533, abs=1e-4)
    with pytest.raises(CantlieError, match="one shape"):
        bed_of_sessions_gy([np.ones(2), np.ones(3)], [1, 1], 10.0)


def test_repopulation_in_both_bookkeepings():
    loss = Repopulation(0.6, 21.0)
    alternating = OverallTime((18.0, 18.0), 18.25, (0.0, 0.25))
    sequential = OverallTime((18.0, 18.0), 39.0, (0.0, 21.0))
    assert alternating.tumour_bed_gy(36.0, loss) == {"per half": (36.0, 36.0), "whole course": (36.0, 36.0)}
    assert sequential.tumour_bed_gy(36.0, loss)["per half"] == (36.0, 36.0)
    assert sequential.tumour_bed_gy(36.0, loss)["whole course"] == pytest.approx((36 - 0.6 * 18, 36 - 0.6 * 18))
    assert sequential.growth_before_start(128.0)[1] == pytest.approx(2 ** (21 / 128))
    assert Repopulation.from_doubling_time(0.3, 5.0, 21.0).rate_gy_per_day == pytest.approx(np.log(2) / 1.5)
    assert Repopulation().loss_gy(100.0) == 0.0


def test_tumour_control():
    assert logistic_tcp(50.0, 50.0, 2.0) == pytest.approx(0.5)
    slope = (logistic_tcp(50.01, 50.0, 2.0) - logistic_tcp(49.99, 50.0, 2.0)) / 0.02 * 50.0
    assert slope == pytest.approx(2.0, rel=1e-3)  # gamma50 is the normalised slope at TCD50
    assert logistic_tcp(0.0, 50.0, 2.0) == 0.0
    one, two = poisson_tcp([60.0]), poisson_tcp([60.0, 40.0])
    assert two < one
    assert poisson_tcp([40.0, 60.0], [0.0, 1.0]) == pytest.approx(one)


def test_patients_of_different_sensitivity_are_averaged():
    normal = stats.norm(0.3, 0.05)
    mean, _ = integrate.quad(lambda alpha: poisson_tcp([55.0], alpha_per_gy=alpha) * normal.pdf(alpha), 0.1, 0.5)
    assert poisson_tcp([55.0], alpha_sd_per_gy=0.05) == pytest.approx(mean, rel=1e-3)


def test_spared_volume():
    assert spared_volume_cc([5.0, 14.9, 15.0, 30.0], [100.0, 200.0, 400.0, 800.0]) == 300.0
    assert RILD_METASTASES.td5_gy() == pytest.approx(32.675, abs=1e-3)


def test_models_refuse_what_is_no_dose_and_hold_at_the_ends():
    with pytest.raises(StructureError, match="not a number"):
        geud_gy([10.0, np.nan], 1.0)
    assert geud_gy([10.0, np.nan], 1.0, [1.0, 0.0]) == pytest.approx(10.0)
    assert logistic_tcp(1e-3, 50.0, 20.0) == 0.0
    assert logistic_tcp(50.0, 50.0, 2.0) == pytest.approx(0.5)
    assert logistic_tcp(60.0, 50.0, 2.0) == pytest.approx(1 / (1 + (50 / 60) ** 8))
    with pytest.raises(CantlieError, match="not negative"):
        delivery_factor(-1.0, 1.5)
    with pytest.raises(CantlieError, match="must be positive"):
        lql_bed_gy(10.0, 3, 0.0, 6.0)
