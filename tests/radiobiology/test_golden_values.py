"""Every value of the golden list, to its printed digits or 1e-6 relative."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cantlie.radiobiology.high_dose import UniversalSurvivalCurve, lql_bed_gy
from cantlie.radiobiology.linear_quadratic import bed_gy, eqd2_from_bed_gy, eqd2_gy
from cantlie.radiobiology.ntcp import (
    RILD_METASTASES,
    RILD_METASTASES_1_5_GY,
    RILD_PRIMARY,
    RILD_PRIMARY_1_5_GY,
    hytec_enzyme_risk,
)
from cantlie.radiobiology.repair import Repair, pairwise_bed_gy, thames_h
from cantlie.radiobiology.tcp import hytec_local_control, poisson_tcp
from cantlie.radiobiology.volume_effect import effective_volume, geud_gy

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden_values.json").read_text(encoding="utf-8"))


def near(printed, digits):
    """Within half a unit of the last printed digit, or 1e-6 relative, whichever is wider."""
    return pytest.approx(printed, rel=1e-6, abs=0.5000001 * 10.0**-digits)


SCHEMES = {
    "semi_hepatic_30_15": (2.0, 15),
    "sbrt_42_3": (14.0, 3),
    "sbrt_48_3": (16.0, 3),
    "wlrt_30.6_18": (1.7, 18),
    "boost_22.8_12": (1.9, 12),
    "pei_30_10": (3.0, 10),
    "pei_52_13": (4.0, 13),
    "pei_52_10": (5.2, 10),
    "bone_8_1": (8.0, 1),
    "bone_20_5": (4.0, 5),
    "bone_30_10": (3.0, 10),
    "rtog_50_5": (10.0, 5),
    "60_3": (20.0, 3),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_bed_and_eqd2_of_schemes(name):
    dose, fractions = SCHEMES[name]
    for key, value in GOLDEN[name].items():
        kind, alpha_beta = key.split("_")
        function = bed_gy if kind == "BED" else eqd2_gy
        assert float(function(dose, fractions, float(alpha_beta))) == near(value, 4)


def test_whole_liver_plus_boost_is_summed_per_phase():
    golden = GOLDEN["wlrt+boost"]
    both = [(1.7, 18), (1.9, 12)]
    assert sum(d * n for d, n in both) == pytest.approx(golden["physical"])
    assert sum(float(bed_gy(d, n, 10)) for d, n in both) == near(golden["BED_10"], 4)
    assert sum(float(eqd2_gy(d, n, 10)) for d, n in both) == near(golden["EQD2_10"], 4)
    assert sum(float(eqd2_gy(d, n, 2.5)) for d, n in both) == near(golden["EQD2_2.5"], 4)


@pytest.mark.parametrize("half_time", GOLDEN["theta"])
def test_unrepaired_part_and_thames_factors(half_time):
    golden = GOLDEN["theta"][half_time]
    repair = Repair.mono(float(half_time))
    assert float(repair.unrepaired(6.0)) == near(golden["theta_6h"], 6)
    assert thames_h(2, 6.0, repair) == near(golden["h_2"], 6)
    assert thames_h(3, 6.0, repair) == near(golden["h_3_6h"], 6)


@pytest.mark.parametrize("row", GOLDEN["alternating_voxel_bed"], ids=str)
def test_alternating_voxel_bed(row):
    d1, d2, alpha_beta, n = row["d1"], row["d2"], row["ab"], row["n"]
    theta = float(Repair.mono(row["T_half_h"]).unrepaired(6.0))
    sequential = float(bed_gy(d1, n, alpha_beta) + bed_gy(d2, n, alpha_beta))
    assert sequential == near(row["sequential"], 4)
    assert sequential + n * 2 * d1 * d2 * theta / alpha_beta == near(row["alternating_6h"], 4)
    assert float(bed_gy(d1 + d2, n, alpha_beta)) == near(row["same_session"], 4)
    # the pairwise form with nights so long that everything is repaired gives the same day's value
    times = [t for day in range(n) for t in (1000.0 * day, 1000.0 * day + 6.0)]
    doses = [np.array([d1], np.float32), np.array([d2], np.float32)]
    pairwise = pairwise_bed_gy(doses, [0, 1] * n, times, alpha_beta, Repair.mono(row["T_half_h"]))
    assert float(pairwise[0]) == near(row["alternating_6h"], 4)


@pytest.mark.parametrize("row", GOLDEN["biexp_theta_6h"], ids=str)
def test_bi_exponential_repair(row):
    assert float(Repair.bi(row["phi"], row["Tf"], row["Ts"]).unrepaired(6.0)) == near(row["theta"], 6)


@pytest.mark.parametrize("half_time", [1.5, 2.5, 4.0])
def test_pairwise_bed_with_overnight_carry_over(half_time):
    # 15 treatment days from a Monday, weekends free, sessions 6 h apart
    times = [24.0 * day + hour for day in range(19) if day % 7 < 5 for hour in (0.0, 6.0)]
    doses = [np.array([2.0], np.float32), np.array([0.6], np.float32)]
    bed = pairwise_bed_gy(doses, [0, 1] * 15, times, 2.5, Repair.mono(half_time))
    assert float(bed[0]) == near(GOLDEN[f"pairwise_alt_15x(2,0.6)_T{half_time}"], 4)


@pytest.mark.parametrize("name", GOLDEN["lql"])
def test_lql(name):
    course, alpha_beta, transition = name.split("_")
    fractions, dose = course.split("x")
    bed = lql_bed_gy(float(dose), int(fractions), float(alpha_beta[2:]), float(transition[2:]))
    assert float(bed) == near(GOLDEN["lql"][name], 3)


def test_universal_survival_curve():
    curve = UniversalSurvivalCurve()
    for dose, value in GOLDEN["usc_lnS"].items():
        assert float(curve.minus_log_survival(float(dose))) == near(value, 4)
    smooth = UniversalSurvivalCurve(beta_per_gy2=None, transition_gy=None)
    at = smooth.transition
    assert float(smooth.minus_log_survival(at)) == pytest.approx((at - 1.8) / 1.25, rel=1e-12)
    # 3 x 14 Gy: (D - n Dq) / (alpha D0)
    assert float(curve.bed_gy(14.0, 3)) == pytest.approx((42 - 3 * 1.8) / (0.33 * 1.25), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("primary_TD50_39.8_m.12", RILD_PRIMARY_1_5_GY),
        ("mets_TD50_45.8_m.12", RILD_METASTASES_1_5_GY),
        ("primary_EQD2_TD50_35.38", RILD_PRIMARY),
        ("mets_EQD2_TD50_40.71", RILD_METASTASES),
    ],
)
def test_lkb_rild(name, model):
    for dose, value in GOLDEN["lkb_RILD"][name].items():
        assert float(model.probability(float(dose))) == near(value, 6)


def test_lkb_doses_of_five_percent():
    golden = GOLDEN["lkb_TD5"]
    for name, model in (
        ("primary_1.5Gy", RILD_PRIMARY_1_5_GY),
        ("mets_1.5Gy", RILD_METASTASES_1_5_GY),
        ("primary_EQD2", RILD_PRIMARY),
        ("mets_EQD2", RILD_METASTASES),
    ):
        assert model.td5_gy() == near(golden[name], 3)
        assert float(model.probability(model.td5_gy())) == pytest.approx(0.05, rel=1e-9)


def test_geud_and_effective_volume():
    doses = [0.0, 10.0, 20.0, 30.0, 40.0]
    for name, value in GOLDEN["geud_D0..40_equal"].items():
        assert geud_gy(doses, float(name.split("=")[1])) == near(value, 6)
    assert effective_volume(doses, 40.0, 0.97) == near(GOLDEN["veff_Dref40_n0.97"], 6)


def test_hytec():
    for dose, value in GOLDEN["hytec_liver_g3enz"].items():
        assert hytec_enzyme_risk(float(dose), 5).value == near(value, 6)
    for bed, value in GOLDEN["hytec_ohri_2y_LC_mets"].items():
        assert hytec_local_control(float(bed), 3).value == near(value, 6)


def test_poisson_tcp():
    golden = GOLDEN["tcp_poisson"]
    for scheme, value in (
        ((2.0, 15), golden["N0=1e7,al=.3,ab=10,30/15"]),
        ((14.0, 3), golden["42/3"]),
        ((16.0, 3), golden["48/3"]),
    ):
        assert poisson_tcp(bed_gy(*scheme, 10.0)) == near(value, 6)
    assert poisson_tcp(bed_gy(14.0, 3, 10.0)) == pytest.approx(math.exp(-1e7 * math.exp(-0.3 * 100.8)), rel=1e-9)


def test_eqd2_follows_from_bed():
    assert float(eqd2_from_bed_gy(100.8, 10.0)) == pytest.approx(84.0)
