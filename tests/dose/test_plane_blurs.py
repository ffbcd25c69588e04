"""Blurs onto planes: the bands and modes give what the whole matrices give, and the transpose of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from cantlie.dose.pencil import SIGMA_MM
from cantlie.dose.plane_blurs import PlaneBlurs

WIDTH_MM = 5.0
AMOUNTS = np.array([0.5, 0.25, 0.12, 0.05, 0.04, 0.03, 0.01])


def matrices(rows, columns, planes=5):
    """Whole matrices of a beam whose blurs grow with depth, and are five times as wide on one plane (lung)."""
    stretch = np.linspace(0.9, 1.3, planes)
    stretch[planes // 2] = 5.0

    def shares(count):
        centres = WIDTH_MM * (np.arange(count) - 0.5 * (count - 1))
        fine = np.arange(centres[0] - 17.5, centres[-1] + 18.0, 2.5)
        outside = np.geomspace(12.5, 200.0, 10)
        nodes = np.concatenate([fine[0] - outside[::-1], fine, fine[-1] + outside])
        sigma = (SIGMA_MM * stretch[:, None])[:, :, None, None]
        distance = centres[None, :] - nodes[:, None]
        return ndtr((distance + 0.5 * WIDTH_MM) / sigma) - ndtr((distance - 0.5 * WIDTH_MM) / sigma)

    depth = np.exp(-0.08 * np.arange(planes))
    return shares(columns) * (depth[:, None] * AMOUNTS)[:, :, None, None], shares(rows)


def blurs(rows, columns):
    x, y = matrices(rows, columns)
    needed = np.tile(np.array([0, y.shape[2]], dtype=np.int32), (len(x), 1))
    return PlaneBlurs.of(x, y, needed), x, y


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 1000))
def test_bands_and_modes_give_what_whole_matrices_give(rows, columns, seed):
    made, x, y = blurs(rows, columns)
    generator = np.random.default_rng(seed)
    fluence = np.where(generator.random((rows, columns)) < 0.6, generator.random((rows, columns)), 0.0)
    fluence[0, 0] = 1.0
    row, column = np.nonzero(fluence)
    exact = np.einsum("zkjr,zkic,rc->zji", y, x, fluence, optimize=True)
    found = made.forward(row, column, fluence[row, column].astype(np.float32))
    assert found.shape == made.plane_shape
    assert np.abs(found[:, : y.shape[2], : x.shape[2]] - exact).max() < 1e-4 * exact.max()
    values = generator.random(made.plane_shape).astype(np.float32)
    back = np.einsum("zkjr,zkic,zji->rc", y, x, values[:, : y.shape[2], : x.shape[2]], optimize=True)[row, column]
    assert np.abs(made.adjoint(row, column, values) - back).max() < 1e-4 * back.max()


def test_adjoint_is_the_transpose():
    made, _, _ = blurs(31, 24)
    generator = np.random.default_rng(4)
    row, column = (a.ravel() for a in np.indices((31, 24)))
    weights = generator.random(row.size).astype(np.float32)
    values = generator.normal(size=made.plane_shape).astype(np.float32)
    left = np.sum(made.forward(row, column, weights).astype(np.float64) * values)
    right = np.sum(made.adjoint(row, column, values).astype(np.float64) * weights)
    assert left == pytest.approx(right, rel=1e-4)


def test_rows_that_nobody_reads_are_not_calculated():
    x, y = matrices(20, 20)
    needed = np.tile(np.array([12, 30], dtype=np.int32), (len(x), 1))
    needed[1] = 0
    row, column = (a.ravel() for a in np.indices((20, 20)))
    part = PlaneBlurs.of(x, y, needed)
    dose = part.forward(row, column, np.ones(400, dtype=np.float32))
    whole = np.einsum("zkjr,zkic->zji", y, x, optimize=True)
    np.testing.assert_allclose(dose[0, 12:30, : x.shape[2]], whole[0, 12:30], rtol=0.0, atol=1e-4 * whole.max())
    assert not dose[1].any()
    assert not dose[:, :12].any()
    assert not dose[:, 30:].any()


def test_bands_and_modes_take_less_memory():
    made, x, y = blurs(40, 40)
    assert made.nbytes < 0.7 * 4 * (x.size + y.size)
