"""HU to density."""

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.patient.density import (
    AIR_G_CM3,
    DensityCurve,
    DensityCurveError,
    default_density_curve,
    density_volume,
)

GOOD = "HU,g_cm3\n-1000,0.0012\n0,1.0\n1000,1.6\n"


def test_curve_is_straight_between_points_and_constant_beyond():
    curve = DensityCurve.from_csv_text(GOOD)
    np.testing.assert_allclose(
        curve([-2000, -1000, -500, 0, 500, 3000]), [0.0012, 0.0012, 0.5006, 1, 1.3, 1.6], rtol=1e-6
    )


@pytest.mark.parametrize("text", [GOOD, GOOD.replace(",", ";"), "\ufeff# scanner\n" + GOOD, GOOD.replace(",", "\t")])
def test_csv_dialects(text):
    assert DensityCurve.from_csv_text(text)(0) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HU,g_cm3\n0,1\n0,1.1\n", "do not grow: 0 follows 0"),
        ("HU,g_cm3\n0,1\n-5,1.1\n", "do not grow: -5 follows 0"),
        ("HU,g_cm3\n0,1\nx,1.1\n", r"not two numbers \(c\.csv, line 3\)"),
        ("HU,g_cm3\n0,1\n5\n", r"1 cell, the header 2 \(c\.csv, row 3\)"),
        ("HU,g_cm3\n0,1\n", "at least two points"),
        ("", "the file is empty"),
        ("HU,g_cm3\n0,-1\n1,1\n", "not possible"),
        ("HU,kg_m3\n0,1000\n100,1100\n", "not possible"),
        ("HU,g_cm3\n0,nan\n1,1\n", "not a number"),
    ],
)
def test_wrong_curve_is_one_clear_sentence(text, words):
    with pytest.raises(DensityCurveError, match=words) as caught:
        DensityCurve.from_csv_text(text, "c.csv")
    assert caught.value.remedy


def test_default_curve_knows_water_and_air():
    curve = default_density_curve()
    np.testing.assert_allclose(curve([-1000, 0]), [AIR_G_CM3, 1.0])
    assert curve(55) == pytest.approx(1.065, abs=0.01)


def test_default_curve_of_tissues__against_schneider():
    # Schneider et al. 2000, doi:10.1088/0031-9155/45/2/314: human tissues at 120 kVp, from fat to cortical bone.
    hu = np.array([-98.0, -50.0, 0.0, 14.0, 30.0, 60.0, 100.0, 240.0, 500.0, 910.0, 1500.0])
    tissue = [1.018 + 0.893e-3 * h if h < 20 else 1.003 + 1.169e-3 * h for h in hu[:7]]
    bone = 1.017 + 0.592e-3 * hu[7:]
    assert default_density_curve()(hu) == pytest.approx([*tissue, *bone], rel=0.04)


def test_outside_body_is_air_and_partial_voxels_mix():
    grid = Grid((1, 1, 3), (1, 1, 1), (0, 0, 0))
    ct = Volume(grid, np.array([[[0.0, 0.0, 500.0]]], dtype=np.float32))
    body = np.array([[[1.0, 0.25, 0.0]]], dtype=np.float32)
    density = density_volume(ct, body, default_density_curve())
    np.testing.assert_allclose(density.values[0, 0], [1.0, 0.25 + 0.75 * AIR_G_CM3, AIR_G_CM3], rtol=1e-6)
    assert density.values.dtype == np.float32


def test_a_curve_as_a_german_spreadsheet_saves_it():
    curve = DensityCurve.from_csv_text(
        "sep=;\r\n# scanner 1\r\nHU;g_cm3;\r\n-1000;0,0012;\r\n0;1,0;\r\n;;\r\n100;1,08;\r\n"
    )
    assert curve.density_g_cm3.tolist() == [0.0012, 1.0, 1.08]


def test_a_curve_of_electron_density_is_refused():
    with pytest.raises(DensityCurveError, match="electron density, not of mass density"):
        DensityCurve.from_csv_text("HU,relative electron density\n-1000,0\n0,1\n")
