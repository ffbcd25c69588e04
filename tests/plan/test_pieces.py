"""Pieces of a beam: static ones as they are, moving ones cut finely enough, and nothing lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.pieces import GANTRY_STEP_DEG, LEAF_STEP_MM, by_direction, pieces
from cantlie.plan.treatment import ControlPoint, TreatmentBeam


def point(gantry: float, tip: float, mu: float) -> ControlPoint:
    leaves = np.full(4, tip)
    return ControlPoint(BeamGeometry((0, 0, 0), gantry), Aperture((-50, 50), (-20, 20), leaves - 30, leaves + 30), mu)


def test_step_and_shoot_segments_come_back_as_they_are():
    beam = TreatmentBeam(1, "a", (point(0, 0, 0), point(0, 0, 10), point(0, 20, 10), point(0, 20, 25)))
    found = pieces(beam)
    assert [piece.mu for piece in found] == [10, 15]
    assert found[1].aperture.leaf_upper_mm[0] == 50


def test_a_sliding_window_opens_on_average_as_long_as_its_tips_say():
    beam = TreatmentBeam(1, "a", (point(0, -40, 0), point(0, 40, 100)), dynamic=True)
    x = np.arange(-80, 81, 1.0)
    fluence = np.zeros_like(x)
    for piece in pieces(beam):
        fluence += piece.mu * ((x > piece.aperture.leaf_lower_mm[0]) & (x < piece.aperture.leaf_upper_mm[0]))
    # a 60 mm gap that moves by 80 mm: at the middle it is open for 60/80 of the monitor units
    assert fluence[80] == pytest.approx(75, abs=100 * LEAF_STEP_MM / 80)


@settings(deadline=None, max_examples=50)
@given(turn=st.floats(0, 40), travel=st.floats(0, 60), mu=st.floats(0.1, 300))
def test_pieces_keep_all_monitor_units_and_are_fine_enough(turn, travel, mu):
    beam = TreatmentBeam(1, "a", (point(10, 0, 0), point(10 + turn, travel, mu)), dynamic=True)
    found = pieces(beam)
    assert sum(piece.mu for piece in found) == pytest.approx(mu)
    angles = np.array([piece.geometry.gantry_deg for piece in found])
    tips = np.array([piece.aperture.leaf_lower_mm[0] for piece in found])
    assert (np.diff(angles) <= GANTRY_STEP_DEG + 1e-6).all()
    assert (np.diff(tips) <= LEAF_STEP_MM + 1e-6).all()
    assert angles.mean() == pytest.approx(10 + turn / 2, abs=0.5 * GANTRY_STEP_DEG)
    assert np.average(tips) == pytest.approx(-30 + travel / 2)


@pytest.mark.parametrize(("step", "directions"), [(1.0, 24), (2.0, 12), (3.0, 12), (4.0, 6), (8.0, 3), (100.0, 1)])
def test_directions_are_as_fine_as_asked_for(step, directions):
    points = tuple(point(4.0 * n, 3.0 * n, 10.0 * n * (n + 1) / 2) for n in range(7))
    beam = TreatmentBeam(1, "a", points, dynamic=True)
    found = by_direction(beam, step)
    assert len(found) == directions
    assert sum(part.mu for _, parts in found for part in parts) == pytest.approx(beam.mu)
    angles = [geometry.gantry_deg for geometry, _ in found]
    assert angles == sorted(angles)
    for geometry, parts in found:
        own = np.array([part.geometry.gantry_deg for part in parts])
        assert np.abs(own - geometry.gantry_deg).max() <= step / 2 + 2.0
        assert np.ptp(own) <= step
