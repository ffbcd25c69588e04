"""Maxima of organs at points of the CT: as the DVH finds them, where voxels miss them."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.plan.points import MOST_POINTS
from cantlie.plan.voxels import PlanningVoxels, planning_voxels

CT = Grid((20, 70, 70), (1.0, 1.0, 5.0), (-34.5, -34.5, -47.5))
MASKS: dict[str, np.ndarray] = {}
X, Y, Z = (CT.points_mm()[..., axis] for axis in range(3))
MASKS["BODY"] = np.ones(CT.shape, dtype=np.float32)
MASKS["PTV"] = (np.hypot(np.hypot(X + 10, Y), Z) <= 12).astype(np.float32)
MASKS["Bowel"] = ((X > 7) & (X < 25) & (np.abs(Y) < 15) & (Z > -20)).astype(np.float32)


def planned(max_voxels: int = 200_000) -> PlanningVoxels:
    return planning_voxels(
        CT, MASKS, body="BODY", targets=("PTV",), organs=("Bowel",), voxel_mm=3.0, max_voxels=max_voxels,
        maxima=("Bowel",),
    )  # fmt: skip


def falling_gy(x_mm: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
    """Return a dose that falls by 2 Gy per mm away from the target, and by 1 Gy per mm towards the head."""
    return 60.0 - 2.0 * (x_mm + 10.0) - 1.0 * np.maximum(z_mm + 20.0, 0.0)


@pytest.mark.parametrize("max_voxels", [200_000, 6_000])
def test_the_maximum_is_that_of_the_dvh_although_voxels_are_coarse_and_slices_thick(max_voxels: int) -> None:
    voxels = planned(max_voxels)
    grid = CT.resampled((1.0, 1.0, 1.0))
    at = grid.points_mm()
    fine = np.maximum(falling_gy(at[..., 0], at[..., 2]), 0.0).astype(np.float32)
    wanted = dvh(Volume(grid, fine), MASKS["Bowel"], CT, name="Bowel").max_gy
    own = voxels.grid.points_mm().reshape(-1, 3)[voxels.index]
    dose = np.maximum(falling_gy(own[:, 0], own[:, 2]), 0.0)
    inside = voxels.volumes_cc["Bowel"] >= 0.5 * voxels.grid.voxel_cc
    found = voxels.points["Bowel"].doses_gy(dose).max()
    assert found == pytest.approx(wanted, abs=1.2)  # half of a point's distance of 1 to 1.25 mm, at 2 and 1 Gy per mm
    assert abs(found - wanted) < 0.5 * abs(dose[inside].max() - wanted)


def test_every_point_is_a_mean_of_voxels_and_the_organ_is_whole() -> None:
    voxels = planned()
    points = voxels.points["Bowel"]
    np.testing.assert_allclose(points.from_voxels.sum(axis=1), 1.0, rtol=1e-12)
    assert points.weight.sum() == pytest.approx(1.0)
    assert len(points) <= MOST_POINTS + len(voxels)
    linear = voxels.grid.points_mm().reshape(-1, 3)[voxels.index] @ np.array([0.3, -0.2, 0.1])
    at = points.doses_gy(linear)
    assert at.min() < np.quantile(linear[voxels.volumes_cc["Bowel"] > 0], 0.05)
    far = voxels.distance_mm["PTV"] > 12.0
    held = (voxels.volumes_cc["Bowel"] > 0) & far
    alone = np.diff(points.from_voxels.indptr) == 1
    assert held.sum() <= alone.sum()


def test_points_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = planned().points["Bowel"]
    monkeypatch.setattr("cantlie.plan.points.MOST_POINTS", 200)
    thinned = planned().points["Bowel"]
    interpolated = [int((np.diff(one.from_voxels.indptr) > 1).sum()) for one in (whole, thinned)]
    assert interpolated[1] <= 200 < interpolated[0]


def test_an_organ_away_from_the_targets_has_no_points() -> None:
    masks = {**MASKS, "Bowel": ((X > 20) & (Z > 20)).astype(np.float32)}
    voxels = planning_voxels(
        CT, masks, body="BODY", targets=("PTV",), organs=("Bowel",), voxel_mm=3.0, max_voxels=200_000,
        maxima=("Bowel",),
    )  # fmt: skip
    assert "Bowel" not in voxels.points
