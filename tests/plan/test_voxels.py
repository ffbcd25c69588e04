from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid
from cantlie.plan.voxels import LEAST_OF_ORGAN, coarse_fractions, planning_voxels

CT = Grid((30, 60, 60), (2.0, 2.0, 5.0), (-59.0, -59.0, -72.5))


def ball(radius_mm: float, x: float = 0.0) -> np.ndarray:
    points = CT.points_mm()
    distance = np.sqrt((points[..., 0] - x) ** 2 + points[..., 1] ** 2 + points[..., 2] ** 2)
    return np.clip((radius_mm - distance) / 2 + 0.5, 0, 1).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(spacing=st.floats(1.5, 12), seed=st.integers(0, 100))
def test_coarse_fractions_conserve_volume(spacing: float, seed: int) -> None:
    fractions = np.random.default_rng(seed).random(CT.shape).astype(np.float32)
    coarse = CT.resampled((spacing, spacing * 0.9, spacing * 1.2))
    result = coarse_fractions(fractions, CT, coarse)
    assert result.sum() * coarse.voxel_cc == pytest.approx(fractions.sum() * CT.voxel_cc, rel=1e-4)
    assert result.max() <= 1 + 1e-5


@pytest.mark.parametrize("most", [100_000, 4_000, 1_500])
def test_volumes_survive_thinning(most: int) -> None:
    regions = {"BODY": ball(55), "PTV": ball(25), "Cord": ball(8, 35)}
    voxels = planning_voxels(
        CT, regions, body="BODY", targets=("PTV",), organs=("Cord",), voxel_mm=4.0, max_voxels=most
    )
    assert len(voxels) <= 1.1 * most
    for name, tolerance in (("BODY", 0.03), ("PTV", 0.04), ("Cord", 0.15)):
        volume = regions[name].sum() * CT.voxel_cc
        assert voxels.volumes_cc[name].sum() == pytest.approx(volume, rel=tolerance)
    inside = voxels.volumes_cc["PTV"] > 0
    assert voxels.distance_mm["PTV"][inside].max() <= np.sqrt(3) * 4 + 1e-9
    assert voxels.of("PTV").weight.sum() == pytest.approx(1)


def test_a_small_organ_keeps_the_voxels_between_which_beams_would_pass_unseen() -> None:
    regions = {"BODY": ball(55), "PTV": ball(25), "Cord": ball(8, 45), "Liver": ball(45)}
    every, thinned = (
        planning_voxels(
            CT, regions, body="BODY", targets=("PTV",), organs=("Cord", "Liver"), voxel_mm=3.0, max_voxels=most
        )
        for most in (1_000_000, 3_000)
    )
    count, seen = ((voxels.volumes_cc["Cord"] > 0).sum() for voxels in (every, thinned))
    assert seen == count  # fewer than LEAST_OF_ORGAN
    liver = (thinned.volumes_cc["Liver"] > 0).sum()
    assert LEAST_OF_ORGAN <= liver < 0.5 * (every.volumes_cc["Liver"] > 0).sum()
    volume_cc = regions["Liver"].sum() * CT.voxel_cc
    assert thinned.volumes_cc["Liver"].sum() == pytest.approx(volume_cc, rel=0.05)


def test_an_organ_that_reaches_far_beyond_keeps_its_whole_volume() -> None:
    long = np.zeros(CT.shape, dtype=np.float32)
    long[:, 25:35, 25:35] = 1.0
    long[:10] = 0.0
    regions = {"BODY": np.ones(CT.shape, dtype=np.float32), "PTV": ball(12), "Organ": long}
    voxels = planning_voxels(
        CT, regions, body="BODY", targets=("PTV",), organs=("Organ",), voxel_mm=4.0, max_voxels=50_000, reach_mm=20.0
    )
    volumes = voxels.volumes_cc["Organ"]
    assert volumes.sum() == pytest.approx(long.sum() * CT.voxel_cc, rel=0.05)
    swollen = volumes > 1.01 * voxels.grid.voxel_cc
    assert voxels.distance_mm["PTV"][swollen].min() >= np.median(voxels.distance_mm["PTV"][volumes > 0])
    assert swollen.sum() > 5


def test_missing_structures() -> None:
    regions = {"BODY": ball(55), "PTV": ball(25), "None": 0 * ball(8)}
    voxels = planning_voxels(
        CT, regions, body="BODY", targets=("PTV",), organs=("None",), voxel_mm=5.0, max_voxels=9000
    )
    assert not voxels.holds("None")
    with pytest.raises(PlanningError, match="None"):
        voxels.of("None")
    with pytest.raises(PlanningError, match="targets have no volume"):
        planning_voxels(CT, regions, body="BODY", targets=("None",), organs=(), voxel_mm=5.0, max_voxels=9000)
