"""Every objective against its own Taylor series: value, gradient and Hessian-vector product agree to second order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from cantlie.core.errors import PlanningError
from cantlie.plan.fluence_objectives import Smoothness, TotalMu
from cantlie.plan.objectives import (
    Geud,
    MaxDvh,
    MeanDeviation,
    MeanDose,
    MinDvh,
    Objective,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
    Uniformity,
    VoxelSet,
    dose_fall_off,
    value,
)
from cantlie.plan.points import PointOverdose, PointSet

RNG = np.random.default_rng(7)
N = 300
DOSE = RNG.uniform(5, 60, N)
VOLUMES = np.where(RNG.random(N) < 0.7, RNG.random(N), 0.0)
SET = VoxelSet.of_volumes(VOLUMES)
DISTANCE = RNG.uniform(0, 40, len(SET.index))
_MEANS = sparse.csr_array(sparse.random_array((120, N), density=0.03, rng=np.random.default_rng(2)) * (VOLUMES > 0))
POINTS = PointSet(_MEANS, sparse.csr_array(_MEANS.T), np.full(120, 1 / 120))

OBJECTIVES: dict[str, Objective] = {
    "overdose": SquaredOverdose(SET, 30.0, 2.0, 30.0),
    "underdose": SquaredUnderdose(SET, 40.0, 3.0, 30.0),
    "deviation": SquaredDeviation(SET, 30.0, 0.7, 30.0),
    "mean": MeanDose(SET, 2.0, 30.0),
    "fall-off": dose_fall_off(SET, DISTANCE, edge_gy=30, far_gy=5, half_distance_mm=10, weight=2.0, scale_gy=30.0),
    "maximum DVH": MaxDvh(SET, 20.0, 0.3, 5.0, 30.0),
    "minimum DVH": MinDvh(SET, 45.0, 0.8, 5.0, 30.0),
    "mean above": MeanDeviation(SET, 20.0, 25.0, 5.0, 30.0),
    "mean below": MeanDeviation(SET, 40.0, 50.0, 5.0, 30.0),
    "uniformity": Uniformity(SET, 2.0, 30.0),
    "gEUD of an organ": Geud(SET, 8.0, 20.0, 2.0, 30.0),
    "gEUD of a target": Geud(SET, -10.0, 40.0, 2.0, 30.0),
    "gEUD mean": Geud(SET, 1.0, 20.0, 2.0, 30.0),
    "overdose of points": PointOverdose(POINTS, 25.0, 2.0, 30.0),
}


def taylor_orders(
    function: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    hessian_vector: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    at: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the remainders of the first- and second-order series relative to their leading terms."""
    direction = np.random.default_rng(3).normal(size=at.size)
    gradient = np.zeros(at.size)
    f0 = function(at, gradient)
    h = 1e-4
    f1 = function(at + h * direction, np.zeros(at.size))
    linear = h * float(gradient @ direction)
    curved = 0.5 * h**2 * float(direction @ hessian_vector(at, direction))
    gradient_ahead = np.zeros(at.size)
    function(at + h * direction, gradient_ahead)
    change = gradient_ahead - gradient
    expected = h * hessian_vector(at, direction)
    scale = max(float(np.abs(change).max()), float(np.abs(gradient).max()) * 1e-9, 1e-300)
    return abs(f1 - f0 - linear - curved) / max(abs(linear), 1e-300), float(np.abs(change - expected).max()) / scale


@pytest.mark.parametrize("name", OBJECTIVES)
def test_taylor_series_of_second_order(name: str) -> None:
    objective = OBJECTIVES[name]
    first, second = taylor_orders(objective.add_gradient, objective.hessian_vector, DOSE)
    assert first < 1e-6
    assert second < 1e-3
    assert value(objective, DOSE) > 0


@pytest.mark.parametrize(
    "objective",
    [Smoothness(np.arange(N - 1), np.arange(1, N), 3.0, 2.0), TotalMu(2.0, 5.0)],
    ids=["smoothness", "total MU"],
)
def test_taylor_series_of_fluence_objectives(objective: Smoothness | TotalMu) -> None:
    first, second = taylor_orders(objective.add_gradient, objective.hessian_vector, DOSE)
    assert first < 1e-6
    assert second < 1e-3


def test_gradient_is_added_and_only_to_the_voxels_of_the_set() -> None:
    for objective in OBJECTIVES.values():
        gradient = np.ones(N)
        objective.add_gradient(DOSE, gradient)
        assert (gradient[VOLUMES == 0] == 1).all()
        assert (gradient != 1).any()


def test_values_by_hand() -> None:
    voxels = VoxelSet.of_volumes(np.array([1.0, 0.0, 3.0]))
    dose = np.array([10.0, 99.0, 30.0])
    assert value(SquaredOverdose(voxels, 20.0), dose) == pytest.approx(0.75 * 100)
    assert value(SquaredUnderdose(voxels, 20.0), dose) == pytest.approx(0.25 * 100)
    assert value(MeanDose(voxels), dose) == pytest.approx(25)
    assert value(Uniformity(voxels), dose) == pytest.approx(0.25 * 15**2 + 0.75 * 5**2)
    assert Geud(voxels, 1.0, 0.0).geud_gy(dose) == pytest.approx(25)
    assert Geud(voxels, 200.0, 0.0).geud_gy(dose) == pytest.approx(30, rel=2e-3)
    assert value(MeanDeviation(voxels, 20, 30), dose) == 0


def test_dvh_objectives_vanish_exactly_when_the_dvh_point_holds() -> None:
    hot = float(VOLUMES[DOSE > 35].sum() / VOLUMES.sum())
    assert value(MaxDvh(SET, 35.0, hot + 1e-9), DOSE) == 0
    assert value(MaxDvh(SET, 35.0, hot - 0.02), DOSE) > 0
    covered = float(VOLUMES[DOSE >= 35].sum() / VOLUMES.sum())
    assert value(MinDvh(SET, 35.0, covered - 1e-9), DOSE) == 0
    assert value(MinDvh(SET, 35.0, covered + 0.02), DOSE) > 0


def test_partial_volumes_count_as_their_share() -> None:
    whole = VoxelSet.of_volumes(np.ones(4))
    halves = VoxelSet.of_volumes(np.full(8, 0.5))
    dose = np.array([10.0, 20, 30, 40])
    assert value(SquaredOverdose(whole, 15), dose) == pytest.approx(
        value(SquaredOverdose(halves, 15), np.repeat(dose, 2))
    )


def test_an_empty_structure_is_refused() -> None:
    with pytest.raises(PlanningError, match=r"no voxel .*Stomach"):
        VoxelSet.of_volumes(np.zeros(5), "Stomach")
    with pytest.raises(PlanningError, match="exponent"):
        Geud(SET, 0.0, 1.0)
