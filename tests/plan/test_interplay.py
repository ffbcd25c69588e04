"""Breathing and interplay: the motion's statistics, and doses of segments against their own calculations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import InputError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.breathing import Breathing, states_of_shifts
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model_file import load_beam_model
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.delivery import beam_fields, plan_dose
from cantlie.plan.interplay import piece_doses
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan
from cantlie.target.setup_errors import BREATHING_SD_PER_AMPLITUDE

MACHINE = load_machine("generic-6mv-mlci")
MODEL = load_beam_model(MACHINE.beam_model)
GRID = Grid((24, 24, 24), (6.0, 6.0, 6.0), (-69.0, -69.0, -69.0))


def _segments(*windows, mu=60.0):
    """One beam whose segments open one strip each, along x."""
    geometry = BeamGeometry((0.0, 0.0, 0.0), 0.0, 90.0)  # leaves move from head to feet
    pairs = len(MACHINE.mlc.leaf_boundaries_mm) - 1
    points, total = [], 0.0
    for low, high in windows:
        aperture = Aperture((-40.0, 40.0), (-40.0, 40.0), np.full(pairs, low), np.full(pairs, high))
        points += [ControlPoint(geometry, aperture, total), ControlPoint(geometry, aperture, total + mu)]
        total += mu
    return TreatmentBeam(1, "G000", tuple(points))


@pytest.fixture(scope="module")
def water():
    density = np.zeros(GRID.shape, dtype=np.float32)
    density[2:-2, 2:-2, 2:-2] = 1.0
    return Volume(GRID, density)


@pytest.fixture(scope="module")
def plan():
    return TreatmentPlan("test", MACHINE.id, (_segments((-40, -5), (-12, 12), (5, 40)),), 5, 10.0)


@settings(deadline=None, max_examples=20)
@given(st.floats(1, 40), st.integers(3, 20))
def test_states_keep_the_mean_and_the_spread_of_the_cycle(amplitude, count):
    states = Breathing((0.0, 0.0, amplitude)).states(count)
    z = states.shift_mm[:, 2]
    assert states.dwell.sum() == pytest.approx(1)
    assert states.dwell @ z == pytest.approx(0, abs=1e-6 * amplitude + 1e-9)
    spread = np.sqrt(states.dwell @ z**2)
    exact = np.sqrt(35 / 128 - (3 / 8) ** 2)  # of cos^4
    assert spread == pytest.approx(exact * amplitude, rel=0.001 + 0.8 / count**2)
    assert exact == pytest.approx(BREATHING_SD_PER_AMPLITUDE, rel=0.02)
    assert z[np.argmax(states.dwell)] > 0  # it dwells in exhale, with the liver nearer to the head


def test_exhale_as_reference_leaves_exhale_where_it_is():
    states = Breathing((2.0, 4.0, 10.0), reference="exhale").states(8)
    assert np.abs(states.shift_mm[0]).max() < 0.6
    assert states.shift_mm[-1] @ np.array([2.0, -4.0, -10.0]) > 0


def test_impossible_motion_is_refused():
    with pytest.raises(InputError, match="motion"):
        Breathing((0, 0, 0))
    with pytest.raises(InputError, match="period"):
        Breathing((0, 0, 9), period_s=0)
    with pytest.raises(InputError, match="phase"):
        states_of_shifts([])


def test_segments_add_up_to_the_plan_in_every_state(water, plan):
    states = states_of_shifts([(0, 0, 0), (0, -2, -9)])
    points = np.array([[0.0, 0.0, z] for z in np.arange(-45, 46, 3.0)])
    table = piece_doses(plan, water, MACHINE, MODEL, GRID, points, states)
    whole = plan_dose(plan, water, MACHINE, MODEL, GRID)
    for number, shift in enumerate(states.shift_mm):
        np.testing.assert_allclose(table.dose_gy[:, number].sum(axis=0), whole.sample(points + shift), rtol=1e-4)


def test_the_dose_of_a_segment_is_near_its_own_calculation(water, plan):
    points = np.array([[x, 0.0, z] for z in np.arange(-45, 46, 3.0) for x in (-20.0, 0.0, 20.0)])
    table = piece_doses(plan, water, MACHINE, MODEL, GRID, points, states_of_shifts([(0, 0, 0)]))
    for number, window in enumerate(((-40, -5), (-12, 12), (5, 40))):
        fields = beam_fields(_segments(window), MACHINE, MODEL)
        own = 5 * collapsed_cone_dose(water, fields, MODEL, grid=GRID).sample(points)
        wrong = np.abs(table.dose_gy[number, 0] - own)
        assert wrong.max() < 0.08 * own.max()
        assert wrong.mean() < 0.02 * own.max()


def test_slow_breathing_meets_one_state_and_many_fractions_blur(water, plan):
    breathing = Breathing((0.0, 0.0, 20.0))
    states = breathing.states(6)
    points = np.array([[0.0, 0.0, z] for z in np.arange(-30, 31, 5.0)])
    table = piece_doses(plan, water, MACHINE, MODEL, GRID, points, states)
    random = np.random.default_rng(2)
    blurred = table.blurred_gy(states)
    one = table.course_gy(breathing, states, 1, random)
    many = table.course_gy(breathing, states, 400, random)
    np.testing.assert_allclose(many, blurred, rtol=0.01)
    assert np.abs(one - blurred).max() > 3 * np.abs(many - blurred).max()
    shares = table.state_shares(breathing, states, np.zeros(1))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    still = Breathing((0.0, 0.0, 20.0), period_s=20.0, power=1)
    assert still.share(0.0) == 1.0
