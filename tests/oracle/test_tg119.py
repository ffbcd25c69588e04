"""The planner on the C-shape of TG-119: the report's goals, and what its institutions reached."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cantlie.evaluation.dvh import dvh
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.planner import plan_targets
from cantlie.plan.request import PlannerSettings, PlanningRequest, PlanTarget

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from validation import tg119


@pytest.mark.slow
def test_the_c_shape_is_planned_within_the_spread_of_the_institutions__against_tg119() -> None:
    """Ezzell 2009, doi:10.1118/1.3238104, table III: mean and standard deviation, all scaled to the same D95."""
    case = tg119.CASES[0]
    density, masks = tg119.shapes(case)
    machine = load_machine(tg119.MACHINE)
    target = PlanTarget("PTV", case.prescription_gy, case.fractions, gantry_deg=case.gantry_deg)
    settings = PlannerSettings(voxel_mm=4.0, max_voxels=20000, dose_grid_mm=(4.0, 4.0, 4.0), feedback_rounds=2)
    asked = PlanningRequest(
        density, Regions(density.grid, masks), tg119.protocol(case), machine, "HFS", (target,), settings
    )
    planned = plan_targets(asked)
    curves = {name: dvh(planned.total_dose, masks[name], density.grid, name=name) for name in ("PTV", "Core")}
    factor = case.prescription_gy / float(curves["PTV"].dose_at_percent_gy(95.0))
    for goal in case.goals:
        if goal.op == "<=":
            found = factor * float(curves[goal.structure].dose_at_percent_gy(goal.volume_percent))
            mean, deviation = goal.reached_gy
            assert found <= goal.limit_gy
            assert found <= mean + deviation
    assert max(len(beam.control_points) // 2 for beam in planned.plans[0].plan.beams) <= 12
