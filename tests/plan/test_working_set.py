"""A large matrix is minimised through the voxels that pay, to the minimum of the whole problem."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, sparse

from cantlie.core.errors import PlanningError
from cantlie.plan.matrix import SparseInfluence
from cantlie.plan.objectives import (
    MeanDeviation,
    MeanDose,
    SquaredDeviation,
    SquaredOverdose,
    SquaredUnderdose,
    VoxelSet,
)
from cantlie.plan.working_set import minimise_on_matrix, whole_value

VOXELS, BEAMLETS = 1200, 60


def pencil_beams(seed: int = 0) -> sparse.csc_matrix:
    """Return beamlets that each give dose around a place of their own, with a tail everywhere near."""
    rng = np.random.default_rng(seed)
    place = np.linspace(0, VOXELS, BEAMLETS)
    distance = np.abs(np.arange(VOXELS)[:, None] - place[None, :])
    dose = np.exp(-distance / 25.0) * rng.uniform(0.5, 1.5, (VOXELS, BEAMLETS))
    dose[distance > 150] = 0.0
    return sparse.csc_matrix(dose.astype(np.float32))


def voxel_set(first: int, last: int) -> VoxelSet:
    volumes = np.zeros(VOXELS)
    volumes[first:last] = 1.0
    return VoxelSet.of_volumes(volumes)


def influence() -> tuple[SparseInfluence, sparse.csc_matrix]:
    matrix = pencil_beams()
    return SparseInfluence.of_columns(matrix.data, matrix.indices, matrix.indptr, matrix.shape), matrix


def test_products__against_scipy() -> None:
    ours, matrix = influence()
    rng = np.random.default_rng(1)
    x, y = rng.random(BEAMLETS).astype(np.float32), rng.random(VOXELS).astype(np.float32)
    assert ours.shape == matrix.shape
    np.testing.assert_allclose(ours.forward(x), matrix @ x, rtol=1e-4)
    np.testing.assert_allclose(ours.adjoint(y), matrix.T @ y, rtol=1e-4)
    rows = np.flatnonzero(rng.random(VOXELS) < 0.3)
    np.testing.assert_allclose(ours.rows(rows).forward(x), matrix[rows] @ x, rtol=1e-4)
    np.testing.assert_allclose(ours.squared_columns(y), matrix.multiply(matrix).T @ y, rtol=1e-4)


@pytest.mark.parametrize("mean", ["squared", "linear"])
def test_the_minimum_is_that_of_all_voxels__against_scipy(mean: str) -> None:
    ours, matrix = influence()
    body = voxel_set(0, VOXELS)
    objectives = [
        SquaredUnderdose(voxel_set(500, 700), 10.0, 100.0),
        SquaredDeviation(voxel_set(550, 650), 10.0, 20.0),
        SquaredOverdose(voxel_set(700, 760), 4.0, 50.0),
        SquaredOverdose(body, 10.5, 80.0),
        MeanDeviation(body, 0.0, 0.0, 1.0) if mean == "squared" else MeanDose(body, 0.5),
    ]
    dense = matrix.toarray().astype(np.float64)

    def function(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        gradient = np.zeros(VOXELS)
        value = sum(one.add_gradient(dense @ x, gradient) for one in objectives)
        return value, dense.T @ gradient

    expected = optimize.minimize(
        function, np.ones(BEAMLETS), jac=True, bounds=[(0, None)] * BEAMLETS, method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-14, "gtol": 1e-10},
    )  # fmt: skip
    seen: list[float] = []
    found = minimise_on_matrix(
        ours, objectives, np.ones(BEAMLETS), rounds=8, iterations=300, tolerance=1e-7,
        watch=lambda number, value: seen.append(value),
    )  # fmt: skip
    assert found.x.min() >= 0
    assert found.value == pytest.approx(expected.fun, rel=2e-3)
    assert found.value == pytest.approx(whole_value(objectives, dense @ found.x), rel=1e-4)
    assert tuple(seen) == found.values


def test_arrays_that_are_no_matrix_are_refused() -> None:
    matrix = pencil_beams()
    with pytest.raises(PlanningError, match="compressed columns"):
        SparseInfluence.of_columns(matrix.data, matrix.indices, matrix.indptr[:-1], matrix.shape)
    with pytest.raises(PlanningError, match="compressed columns"):
        SparseInfluence.of_columns(matrix.data, matrix.indices + VOXELS, matrix.indptr, matrix.shape)
