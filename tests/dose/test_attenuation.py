"""Attenuation: which density is which medium, and that beams harden."""

import numpy as np
import pytest

from cantlie.dose.attenuation import (
    energy_released,
    mass_attenuation_cm2_g,
    relative_to_water,
    stopping_power_ratio,
    terma,
    water_equivalent_ratio,
)
from cantlie.machine.beam_model import BeamModel

POINT = BeamModel.named("reference-6mv-point")


def test_density_chooses_the_medium():
    known = relative_to_water(POINT)
    densities = np.array([0.05, 0.3, 0.549, 0.6, 0.651, 0.9, 1.0, 1.05, 1.129, 1.16, 1.191, 1.9])
    lung, tissue, water, bone = (known[name] for name in ("lung", "tissue", "water", "bone"))
    half, near_bone = 0.5 * (lung + tissue), 0.5 * (tissue + bone)
    expected = [lung, lung, lung, half, tissue, tissue, water, tissue, tissue, near_bone, bone, bone]
    assert water_equivalent_ratio(densities, POINT) == pytest.approx(expected, rel=1e-5)
    assert water == 1.0
    assert bone == pytest.approx(0.951, abs=0.002)


def test_stopping_powers_are_those_of_attenuation_but_in_bone():
    ratio = water_equivalent_ratio(np.array([0.3, 1.0, 1.05, 1.9]), POINT)
    found = stopping_power_ratio(ratio, POINT)
    assert found[:3] == pytest.approx(ratio[:3], rel=2e-3)
    assert found[3] == pytest.approx(0.893, abs=1e-3)


def test_attenuation_is_that_of_water_and_beams_harden():
    # μ/ρ of water without coherent scatter at 2 MeV: NIST XCOM, 0.04940 cm²/g.
    assert mass_attenuation_cm2_g("water", 2.0) == pytest.approx(0.0494, abs=1e-4)
    table = terma(POINT)
    deep = np.interp([100.0, 200.0, 300.0], table.depth_mm, table.gy_per_fluence)
    per_cm = -np.diff(np.log(deep)) / 10.0
    assert per_cm[1] < per_cm[0]
    energies, surface = energy_released(POINT, 0.0)
    _, below = energy_released(POINT, 200.0)
    assert (below @ energies) / below.sum() > (surface @ energies) / surface.sum()
    assert np.interp([0.0, 200.0], table.depth_mm, table.hardening) == pytest.approx([0.0, 1.0])
