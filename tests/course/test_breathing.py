"""Breathing after Lujan: how long it dwells where; states keep the mean and nearly the spread of the motion."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import InputError
from cantlie.course.breathing import Breathing, states_of_shifts


def test_the_curve_dwells_in_exhale():
    motion = Breathing((0.0, 0.0, 12.0), period_s=4.0)
    assert motion.share([0.0, 2.0, 4.0]) == pytest.approx([1.0, 0.0, 1.0])
    assert motion.share(1.0) == pytest.approx(0.25)  # cos⁴ 45°
    assert motion.share(0.0, phase=0.5) == pytest.approx(0.0)
    assert motion.inhale_mm.tolist() == [0.0, 0.0, -12.0]


@pytest.mark.parametrize("count", [2, 5, 12])
def test_states_keep_the_mean_of_the_motion(count):
    exhale = Breathing((2.0, 4.0, 10.0), reference="exhale").states(count)
    assert exhale.dwell.sum() == pytest.approx(1.0)
    assert exhale.dwell[0] == exhale.dwell.max()
    # The mean of cos⁴ is 3/8, its variance 35/128 - 9/64.
    assert exhale.dwell @ exhale.shift_mm == pytest.approx([0.375 * 2, -0.375 * 4, -0.375 * 10], abs=1e-3)
    mean = Breathing((2.0, 4.0, 10.0)).states(count)
    assert mean.dwell @ mean.shift_mm == pytest.approx([0.0, 0.0, 0.0], abs=1e-3)
    variance = float(mean.dwell @ mean.shift_mm[:, 2] ** 2)
    whole = 100 * (35 / 128 - 9 / 64)
    assert whole * (1 - 1 / count**2) * 0.9 < variance <= whole * 1.001


def test_states_of_measured_phases():
    states = states_of_shifts([(0, 0, 0), (0, 0, -5), (0, -2, -9)], dwell=[2, 1, 1])
    assert len(states) == 3
    assert states.dwell.tolist() == [0.5, 0.25, 0.25]
    assert states.of(np.array([0.0, 0.32, 0.34, 0.66, 0.67, 1.0])).tolist() == [0, 0, 1, 1, 2, 2]
    for shifts, dwell in (([], None), ([(0, 0, 1)], [1, 2]), ([(0, 0, 1)], [0])):
        with pytest.raises(InputError):
            states_of_shifts(shifts, dwell)


@pytest.mark.parametrize("asked", [{"amplitude_mm": (0, 0, 0)}, {"amplitude_mm": (0, 0, 90)}, {"period_s": 0.1}])
def test_impossible_breathing_is_refused(asked):
    with pytest.raises(InputError):
        Breathing(**{"amplitude_mm": (0, 0, 10), **asked})
