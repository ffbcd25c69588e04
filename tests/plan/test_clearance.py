"""Where the treatment head is estimated to meet patient or couch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.clearance import is_clear, obstacle_mm

MACHINE = load_machine("generic-6mv-mlci")
GRID = Grid((20, 50, 80), (5.0, 5.0, 5.0), (-197.5, -122.5, -47.5))


def body() -> np.ndarray:
    x, y, _ = np.moveaxis(GRID.points_mm(), -1, 0)
    return ((x / 180) ** 2 + (y / 110) ** 2 < 1).astype(np.float32)


def clear(gantry: float, couch: float, position: str = "HFS", machine=MACHINE) -> bool:
    obstacle = obstacle_mm(GRID, body(), (0.0, 0.0, 0.0), position)
    return is_clear(BeamGeometry((0.0, 0.0, 0.0), gantry, 0.0, couch, 1000.0, position), machine, obstacle)


def test_coplanar_fields_of_a_central_isocentre_are_clear() -> None:
    assert all(clear(gantry, 0.0) for gantry in range(0, 360, 15))


@pytest.mark.parametrize("position", ["HFS", "FFS"])
def test_a_couch_at_90_leaves_the_front_and_forbids_the_ends(position: str) -> None:
    assert clear(0.0, 90.0, position) and clear(20.0, 90.0, position) and clear(340.0, 270.0, position)
    for gantry in (65.0, 90.0, 270.0, 295.0):
        assert not clear(gantry, 90.0, position)


def test_posterior_obliques_hit_a_turned_couch() -> None:
    assert not all(clear(gantry, 60.0) for gantry in (110.0, 120.0, 130.0, 230.0, 240.0, 250.0))
    assert clear(45.0, 30.0) and clear(315.0, 330.0)


def test_a_slimmer_head_passes_where_a_wide_one_does_not() -> None:
    slim = replace(MACHINE, head_radius_mm=60.0, head_distance_mm=500.0)
    gantries = [float(g) for g in range(0, 360, 5)]
    wide_ok = {g for g in gantries if clear(g, 90.0)}
    slim_ok = {g for g in gantries if clear(g, 90.0, machine=slim)}
    assert wide_ok < slim_ok


def test_the_couch_lies_behind_a_patient_on_the_back() -> None:
    on_back = obstacle_mm(GRID, body(), (0.0, 0.0, 0.0), "HFS")
    on_front = obstacle_mm(GRID, body(), (0.0, 0.0, 0.0), "HFP")
    # LPS: y grows to posterior
    assert on_back[:, 1].max() > 150 > -on_back[:, 1].min()
    assert on_front[:, 1].min() < -150 < -on_front[:, 1].max()
