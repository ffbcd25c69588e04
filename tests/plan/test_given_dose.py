"""Dose of earlier sessions: the course's limits hold for the sum, the plan's own rules for the plan alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.planner import plan_targets
from cantlie.plan.problem import COURSE, Problem
from cantlie.plan.request import PlannerSettings, PlanningRequest, PlanTarget
from cantlie.protocol.loading import load_protocol

CT = Grid((28, 44, 52), (5.0, 5.0, 5.0), (-127.5, -107.5, -70.0))
QUICK = PlannerSettings(
    voxel_mm=7.0, max_voxels=5000, dose_grid_mm=(7.0, 7.0, 7.0), fluence_iterations=60,
    aperture_iterations=40, max_segments=6, feedback_rounds=1,
)  # fmt: skip
ANGLES = (0.0, 70.0, 140.0, 210.0, 290.0)


def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.float32]:
    radius = np.linalg.norm((CT.points_mm() - np.array(centre)) / np.array(radii), axis=-1)
    return np.clip((1 - radius) * min(radii) / 5 + 0.5, 0, 1).astype(np.float32)


def test_limits_of_the_course_hold_for_the_sum() -> None:
    body, cord = ball((0, 0, 0), (120, 95, 400)), ball((0, 50, 0), (9, 9, 400))
    boost = ball((-10, -5, 0), (25, 25, 25))
    regions = Regions(
        CT, {"BODY": body, "PTV_boost": boost, "SpinalCord": cord, "Liver": ball((-20, -5, 0), (60,) * 3)}
    )
    protocol = load_protocol("yin2014-boost")
    asked = PlanningRequest(
        Volume(CT, np.where(body > 0.5, 1.0, 0.0012).astype(np.float32)), regions, protocol,
        load_machine("generic-6mv-mlci"), "HFS", (PlanTarget("PTV_boost", 22.8, 12, gantry_deg=ANGLES),), QUICK,
    )  # fmt: skip
    alone = plan_targets(asked)
    before = Volume(CT, (32.0 * ball((0, 50, 0), (25, 25, 400))).astype(np.float32))
    both = plan_targets(replace(asked, given_dose=before))
    cord_limit = {o.structure: o for o in both.outcomes if o.structure == "SpinalCord"}["SpinalCord"]
    own = {o.structure: o for o in alone.outcomes if o.structure == "SpinalCord"}["SpinalCord"]
    assert own.delivered > 9.0  # without knowing of it the sum would break 40 Gy
    assert cord_limit.scope == COURSE
    assert 32.0 < cord_limit.delivered <= 40.0
    grid = both.plans[0].dose.grid
    inside = Volume(CT, cord).resample(grid).values > 0.9
    summed = both.plans[0].dose.values + before.resample(grid).values
    assert summed[inside].max() <= cord_limit.delivered + 0.5


def test_given_dose_counts_in_the_course_only() -> None:
    problem = Problem(("A", "B"), (), given_gy=np.array([5.0, 0.0]))
    doses = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    assert problem.scoped(COURSE, doses).tolist() == [9.0, 6.0]
    assert problem.scoped("A", doses).tolist() == [1.0, 2.0]
