from __future__ import annotations

import numpy as np
import pytest

from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.complexity import complexity
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan

MACHINE = load_machine("generic-6mv-mlci")


def field(half_mm: float) -> Aperture:
    return Aperture((-half_mm, half_mm), (-50, 50), np.full(40, -half_mm), np.full(40, half_mm))


def beam(number: int, gantry_deg: float, *pieces: tuple[Aperture, float]) -> TreatmentBeam:
    geometry = BeamGeometry((0, 0, 0), gantry_deg)
    points, mu = [], 0.0
    for aperture, more in pieces:
        points.append(ControlPoint(geometry, aperture, mu))
        mu += more
        points.append(ControlPoint(geometry, aperture, mu))
    return TreatmentBeam(number, f"G{gantry_deg}", tuple(points))


def plan(*beams: TreatmentBeam) -> TreatmentPlan:
    return TreatmentPlan("p", MACHINE.id, beams, 15, 30.0)


def test_open_field() -> None:
    found = complexity(plan(beam(1, 0, (field(50), 200.0))), MACHINE)
    assert (found.mu, found.mu_per_gy, found.beams, found.segments) == (200, 100, 1, 1)
    assert found.mean_aperture_cm2 == pytest.approx(100)
    assert found.small_aperture_score == 0
    assert found.modulation == pytest.approx(0)
    assert found.delivery_s == pytest.approx(200 / MACHINE.max_dose_rate_mu_min * 60)


def test_segments_are_weighted_by_their_monitor_units() -> None:
    found = complexity(plan(beam(1, 0, (field(50), 100.0), (field(5), 300.0))), MACHINE)
    assert found.segments == 2
    assert found.mean_aperture_cm2 == pytest.approx((100 * 100 + 300 * 10) / 400)
    assert found.small_aperture_score == pytest.approx(0.75)
    assert found.modulation == pytest.approx(1 - 32.5 / 100)
    on = 400 / MACHINE.max_dose_rate_mu_min * 60
    assert found.delivery_s == pytest.approx(on + 45 / MACHINE.jaw_x.speed_mm_s + MACHINE.segment_overhead_s)


def test_the_gantry_does_not_cross_180_degrees() -> None:
    near = complexity(plan(beam(1, 170, (field(50), 10.0)), beam(2, 160, (field(50), 10.0))), MACHINE)
    far = complexity(plan(beam(1, 170, (field(50), 10.0)), beam(2, 190, (field(50), 10.0))), MACHINE)
    assert near.delivery_s == pytest.approx(3 + 10 / 6 + MACHINE.segment_overhead_s)
    assert far.delivery_s == pytest.approx(3 + 340 / 6 + MACHINE.segment_overhead_s)
