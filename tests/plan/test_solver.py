from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from cantlie.plan.solver import minimise

Vector = NDArray[np.float64]


def least_squares(seed: int, rows: int = 60, columns: int = 40) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) * rng.uniform(0.1, 3, columns), rng.normal(size=rows)


def test_unbounded_quadratic_reaches_its_minimum() -> None:
    a, b = least_squares(1)
    result = minimise(
        lambda x: (0.5 * float(np.sum((a @ x - b) ** 2)), a.T @ (a @ x - b)),
        np.zeros(40), lower=-np.inf, iterations=500, tolerance=1e-14,
    )  # fmt: skip
    np.testing.assert_allclose(result.x, np.linalg.lstsq(a, b)[0], atol=1e-5)
    assert result.converged


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_nonnegative_least_squares__against_scipy_nnls(seed: int) -> None:
    a, b = least_squares(seed)
    _, norm = optimize.nnls(a, b)
    result = minimise(
        lambda x: (0.5 * float(np.sum((a @ x - b) ** 2)), a.T @ (a @ x - b)),
        np.ones(40),
        inverse_curvature=1 / np.sum(a**2, axis=0),
        iterations=800,
        tolerance=1e-14,
    )
    assert result.x.min() >= 0
    assert result.value == pytest.approx(0.5 * norm**2, rel=1e-6)


def test_values_never_rise_and_both_bounds_hold() -> None:
    def rosenbrock(x: Vector) -> tuple[float, Vector]:
        return float(optimize.rosen(x)), optimize.rosen_der(x)

    result = minimise(rosenbrock, np.full(10, 0.2), lower=0.0, upper=0.9, iterations=500, tolerance=1e-12)
    assert (np.diff(result.values) <= 0).all()
    assert result.x.min() >= 0 and result.x.max() <= 0.9
    expected = optimize.minimize(
        optimize.rosen, np.full(10, 0.2), jac=optimize.rosen_der, bounds=[(0, 0.9)] * 10, method="L-BFGS-B"
    )
    assert result.value <= expected.fun * 1.001 + 1e-9


def test_a_watcher_can_cancel() -> None:
    def watch(step: int, value: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minimise(lambda x: (float(optimize.rosen(x)), optimize.rosen_der(x)), np.zeros(5), lower=-9.0, watch=watch)


def test_a_warm_start_at_the_minimum_stays_there() -> None:
    result = minimise(lambda x: (float(x @ x), 2 * x), np.zeros(3), lower=-1.0)
    assert result.converged and result.evaluations == 1 and result.value == 0
