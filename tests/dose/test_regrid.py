"""Means over voxels keep the integral; refining keeps constants."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.grid import Grid
from cantlie.dose.regrid import add_refined, coarsen, voxel_means


@settings(deadline=None, max_examples=25)
@given(
    spacing=st.tuples(*[st.floats(0.7, 5.0)] * 3),
    wanted=st.tuples(*[st.floats(0.9, 7.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_means_keep_the_integral(spacing, wanted, seed):
    source = Grid((7, 9, 8), spacing, (1.0, -4.0, 30.0))
    values = np.random.default_rng(seed).random(source.shape).astype(np.float32)
    target = source.resampled(wanted)
    means = voxel_means(values, source, target)
    assert np.isclose(means.sum() * target.voxel_cc, values.sum() * source.voxel_cc, rtol=1e-3)
    assert means.max() <= values.max() + 1e-5


def test_coarsen_keeps_mass_and_energy_and_refining_keeps_a_constant():
    generator = np.random.default_rng(4)
    density, energy = generator.random((2, 5, 7, 6)).astype(np.float32)
    mass = np.zeros((3, 4, 3), dtype=np.float32)
    mean, twice = np.zeros_like(mass), np.zeros_like(mass)
    coarsen(density, energy, 2 * energy, (2, 2, 2), mass, mean, twice)
    assert np.isclose(8 * mass.sum(), density.sum(), rtol=1e-5)
    assert np.isclose(8 * (mass * mean).sum(), (density * energy).sum(), rtol=1e-5)
    np.testing.assert_allclose(twice, 2 * mean, rtol=1e-6)
    fine = np.zeros((5, 7, 6), dtype=np.float32)
    add_refined(np.full((3, 4, 3), 2.5, dtype=np.float32), (2, 2, 2), fine)
    np.testing.assert_allclose(fine, 2.5, rtol=1e-6)
