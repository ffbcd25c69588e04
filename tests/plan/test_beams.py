from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.beams import (
    ATTENUATION_PER_MM,
    _arriving,
    choose_directions,
    choose_gantry_deg,
    direction_cost,
    equispaced_deg,
    isocentre_mm,
    region_points_mm,
)

GRID = Grid((40, 40, 40), (5.0, 5.0, 5.0), (-97.5, -97.5, -97.5))
WATER = Volume(GRID, np.ones(GRID.shape, dtype=np.float32))


def block(x: tuple[float, float]) -> np.ndarray:
    points = GRID.points_mm()
    inside = (points[..., 0] > x[0]) & (points[..., 0] < x[1]) & (np.abs(points[..., 1:]) < 30).all(axis=-1)
    return inside.astype(np.float32)


def test_isocentre_is_the_middle_of_the_box() -> None:
    assert isocentre_mm(np.array([[0.0, 0, 0], [10.2, 4.9, -7]])) == (5.0, 2.0, -4.0)


def test_equispaced() -> None:
    assert equispaced_deg(4, 10) == (10, 100, 190, 280)


def test_points_fill_thick_slices() -> None:
    points = region_points_mm(GRID, block((-30, 30)), 2.5)
    assert len(np.unique(points[:, 2])) == 2 * 12
    with pytest.raises(PlanningError, match="no volume"):
        region_points_mm(GRID, 0 * block((0, 1)), 2.0)


def test_attenuation_in_water_by_hand() -> None:
    geometry = BeamGeometry((0.0, 0.0, 0.0), 0.0)
    found = _arriving(WATER, np.array([[0.0, 0.0, 0.0], [0.0, -50.0, 0.0]]), geometry)
    np.testing.assert_allclose(found[0], np.exp(-ATTENUATION_PER_MM * 100), rtol=0.03)
    np.testing.assert_allclose(found[1], np.exp(-ATTENUATION_PER_MM * 50) * (1000 / 950) ** 2, rtol=0.03)


def test_a_direction_through_what_is_to_be_spared_costs_more() -> None:
    target = region_points_mm(GRID, block((-60, 0)), 5.0)
    other = {"other": region_points_mm(GRID, block((5, 60)), 8.0)}
    costs = {
        angle: direction_cost(WATER, target, other, {"other": 1.0}, BeamGeometry((-30.0, 0, 0), angle))
        for angle in (0.0, 90.0, 180.0, 270.0)
    }
    assert costs[90.0] > 5 * costs[0.0]  # at gantry 90 the source stands on the patient's left, beyond the other
    assert costs[270.0] > costs[0.0]
    assert costs[90.0] > costs[270.0]


@pytest.mark.parametrize("fields", [3, 5, 7, 9])
def test_chosen_angles_stand_apart_and_avoid_the_dear_side(fields: int) -> None:
    angles = np.arange(0, 360, 5.0)
    costs = 1 + 2 * np.clip(np.cos(np.radians(angles - 90)), 0, 1)
    chosen = np.array(choose_gantry_deg(costs, angles, fields))
    assert len(chosen) == fields
    apart = np.abs((chosen[:, None] - chosen[None, :] + 180) % 360 - 180)[~np.eye(fields, dtype=bool)]
    assert apart.min() >= 16
    assert np.interp(chosen, angles, costs).mean() < costs.mean()
    with pytest.raises(PlanningError, match="cannot stand"):
        choose_gantry_deg(costs, angles, 40)


def test_directions_in_space_stand_apart_and_avoid_what_is_dear_or_impossible() -> None:
    rng = np.random.default_rng(2)
    axes = rng.normal(size=(200, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    costs = np.where(axes[:, 2] > 0.2, 1.0, 4.0)
    costs[axes[:, 0] > 0.5] = np.inf
    chosen = list(choose_directions(costs, axes, 6))
    assert len(chosen) == 6 and np.isfinite(costs[chosen]).all() and (costs[chosen] == 1.0).mean() > 0.6
    apart = np.degrees(np.arccos(np.clip(axes[chosen] @ axes[chosen].T, -1, 1))) + 180 * np.eye(6)
    assert apart.min() >= 16


def test_directions_on_a_circle_are_those_of_the_gantry_choice() -> None:
    angles = np.arange(0.0, 360.0, 5.0)
    costs = 1.5 + np.cos(np.radians(angles - 40))
    axes = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles)), 0 * angles], axis=1)
    assert tuple(angles[list(choose_directions(costs, axes, 5))]) == choose_gantry_deg(costs, angles, 5)


def test_too_few_possible_directions_are_said() -> None:
    with pytest.raises(PlanningError, match="only 2 directions"):
        choose_directions(np.array([1.0, 1.0, np.inf]), np.eye(3), 3)
    with pytest.raises(PlanningError, match="apart"):
        choose_directions(np.ones(3), np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]), 3)
