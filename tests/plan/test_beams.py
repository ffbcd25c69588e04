from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid
from cantlie.plan.beams import equispaced_deg, isocentre_mm, region_points_mm

GRID = Grid((40, 40, 40), (5.0, 5.0, 5.0), (-97.5, -97.5, -97.5))


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
