"""Robust planning: the objectives' derivatives, and a worst case that improves over the nominal plan."""

from dataclasses import replace

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.scenarios import moved, setup_scenarios
from cantlie.machine.machine import load_machine
from cantlie.patient.regions import Regions
from cantlie.plan.objectives import SquaredOverdose, SquaredUnderdose, VoxelSet
from cantlie.plan.planner import plan_targets
from cantlie.plan.request import PlannerSettings, PlanningRequest
from cantlie.plan.robust import MeanOf, WorstOf
from cantlie.protocol.loading import load_protocol
from cantlie.protocol.uncertainty import Robustness

SHIFT = (6.0, 6.0, 6.0)
RANDOM = np.random.default_rng(4)
DOSE = RANDOM.uniform(5, 60, 200)


def _objectives():
    sets = [VoxelSet.of_volumes(np.where(RANDOM.random(200) < 0.5, RANDOM.random(200), 0.0)) for _ in range(4)]
    return [*(SquaredUnderdose(s, 40.0, 3.0, 30.0) for s in sets), SquaredOverdose(sets[0], 50.0, 2.0, 30.0)]


@pytest.mark.parametrize("kind", [WorstOf, MeanOf])
def test_taylor_series(kind):
    objective = kind(_objectives())
    direction = RANDOM.normal(size=200)
    gradient = np.zeros(200)
    start = objective.add_gradient(DOSE, gradient)
    bend = objective.hessian_vector(DOSE, direction)
    first, second = [], []
    for step in (1e-2, 5e-3):
        value = objective.add_gradient(DOSE + step * direction, np.zeros(200))
        linear = value - start - step * gradient @ direction
        first.append(abs(linear))
        second.append(abs(linear - 0.5 * step**2 * bend @ direction))
    assert first[0] / first[1] == pytest.approx(4, rel=0.1)
    assert second[0] < 0.05 * first[0]


def test_the_worst_lies_between_the_largest_and_a_little_above():
    parts = _objectives()
    values = [part.add_gradient(DOSE, np.zeros(200)) for part in parts]
    found = WorstOf(parts).add_gradient(DOSE, np.zeros(200))
    assert max(values) <= found <= max(values) * len(values) ** (1 / 8)
    high = np.full(200, 45.0)
    assert WorstOf(parts[:4]).add_gradient(high, np.zeros(200)) == 0


def _request(planning):
    grid = Grid((30, 44, 50), (4.0, 4.0, 4.0), (-98.0, -86.0, -58.0))
    points = grid.points_mm()

    def ball(centre, radius):
        far = np.linalg.norm(points - np.array(centre), axis=-1)
        return np.clip((radius - far) / 4 + 0.5, 0, 1).astype(np.float32)

    body = (np.hypot(points[..., 0] / 90, points[..., 1] / 75) < 1).astype(np.float32)
    target = ball((-20, -10, 0), 20)
    masks = {"BODY": body, "Liver": ball((-20, -10, 0), 45), "PTV_boost": target, "CTV_boost": target}
    base = load_protocol("yin2014-boost")
    ids = base.target_ids
    masks |= dict.fromkeys(ids, target)
    masks |= {base.target(name).ctv_id: target for name in ids}
    protocol = base.model_copy(update={"constraints": (), "robustness": Robustness(shift_mm=SHIFT, planning=planning)})
    settings = PlannerSettings(
        voxel_mm=4.0, max_voxels=9000, dose_grid_mm=(4.0, 4.0, 4.0), fluence_iterations=60,
        aperture_iterations=45, max_segments=6, feedback_rounds=1,
    )  # fmt: skip
    density = Volume(grid, np.where(body > 0.5, 1.0, 0.0012).astype(np.float32))
    made = PlanningRequest.of_protocol(
        density, Regions(grid, masks), protocol, load_machine("generic-6mv-mlci"), "HFS", settings=settings
    )
    angles = (200.0, 250.0, 300.0, 350.0, 40.0)
    return replace(made, targets=tuple(replace(t, gantry_deg=angles) for t in made.targets[-1:]))


def _worst_d95(planning):
    request = _request(planning)
    name = request.targets[0].name
    dose = plan_targets(request).plans[0].dose
    mask = request.regions[name]
    values = [
        float(dvh(moved(dose, s.shift_mm), mask, request.regions.grid).dose_at_percent_gy(95))
        for s in setup_scenarios(SHIFT)
    ]
    return min(values) / request.targets[0].prescription_gy


@pytest.mark.parametrize(
    ("planning", "gain"), [("minimax", 0.05), pytest.param("expectation", 0.03, marks=pytest.mark.slow)]
)
def test_the_worst_displacement_is_covered_better_than_by_the_nominal_plan(planning, gain):
    assert _worst_d95(planning) > _worst_d95("nominal") + gain
