"""Gamma against exhaustive search and against cases that can be worked out by hand."""

import time

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.gamma import gamma_index


def _smooth(seed: int, grid: Grid, spread_gy: float = 10.0) -> Volume:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=grid.shape), 2.0)
    values = 20 + spread_gy * noise / noise.std()
    return Volume(grid, np.maximum(values, 0).astype(np.float32))


def _linear(slope_gy_per_mm: float, offset_gy: float, spacing_mm: float, nx: int = 41) -> Volume:
    grid = Grid((7, 9, nx), (spacing_mm,) * 3, (-spacing_mm * (nx // 2), -4 * spacing_mm, -3 * spacing_mm))
    line = 50 + offset_gy + slope_gy_per_mm * grid.x_mm
    return Volume(grid, np.broadcast_to(line, grid.shape).astype(np.float32))


def test_identical_doses_have_gamma_zero() -> None:
    dose = _smooth(1, Grid((10, 12, 14), (3.0, 3.0, 3.0), (0, 0, 0)))
    result = gamma_index(dose, dose)
    assert result.pass_percent == 100.0
    assert result.p95 == 0.0


@pytest.mark.parametrize("local", [False, True])
def test_uniform_doses_differ_by_the_dose_criterion_alone(local: bool) -> None:
    grid = Grid((6, 6, 6), (2.0, 2.0, 2.0), (0, 0, 0))
    ones = np.ones(grid.shape, dtype=np.float32)
    result = gamma_index(
        Volume(grid, 40 * ones),
        Volume(grid, 41 * ones),
        dose_percent=2,
        distance_mm=2,
        local=local,
        normalisation_gy=50,
    )
    expected = 1.0 / (0.8 if local else 1.0)
    np.testing.assert_allclose(result.gamma, expected, rtol=1e-5)


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 1.0), (2.0, 3.0), (0.1, 1.2), (5.0, 2.0)])
def test_gamma__against_the_analytic_value_in_a_gradient(slope: float, offset: float) -> None:
    """In a linear dose, gamma = |difference| / sqrt(criterion² + (slope · distance)²) (Low 1998, equation 6)."""
    reference, evaluated = _linear(slope, 0.0, 1.0), _linear(slope, offset, 1.5, 61)
    result = gamma_index(
        reference, evaluated, dose_percent=3, distance_mm=2, normalisation_gy=60, limit=3, threshold_percent=0
    )
    expected = offset / np.hypot(0.03 * 60, slope * 2)
    centre = result.gamma[3, 4, 15:26]
    np.testing.assert_allclose(centre, expected, atol=0.02)
    assert (centre >= expected - 1e-4).all()


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_gamma__against_exhaustive_search(local: bool, flat: bool) -> None:
    grid = Grid((8, 9, 10), (2.5, 2.5, 2.5), (0, 0, 0))
    other = Grid((7, 7, 8), (2.3, 2.7, 2.6), (0.5, 0.6, 0.4))
    reference, evaluated = _smooth(3, grid, 2.0), _smooth(3, grid, 2.0).resample(other)
    evaluated = Volume(other, (evaluated.values * 1.03 + 0.2).astype(np.float32))
    ours = gamma_index(
        reference,
        evaluated,
        dose_percent=2,
        distance_mm=2,
        local=local,
        threshold_percent=30,
        two_dimensional=flat,
        limit=1.25,
    )
    line = np.arange(-2.5, 2.501, 0.05 if flat else 0.1)
    offsets = np.stack(np.meshgrid([0.0] if flat else line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets, axis=1) <= 2.5]
    peak = float(reference.values.max())
    voxels = np.argwhere(np.isfinite(ours.gamma))[::7]
    brute = []
    for k, j, i in voxels:
        point = grid.mm_from_index([k, j, i])
        dose = evaluated.sample(point + offsets[:, ::-1], outside=np.inf)
        criterion = 0.02 * (reference.values[k, j, i] if local else peak)
        squares = (offsets**2).sum(axis=1) / 4.0 + ((dose - reference.values[k, j, i]) / criterion) ** 2
        brute.append(min(1.25, float(np.sqrt(squares.min()))))
    found = ours.gamma[tuple(voxels.T)]
    assert len(voxels) > 20
    np.testing.assert_allclose(found, brute, atol=0.05)
    assert np.mean((found <= 1) == (np.array(brute) <= 1)) > 0.97


def test_a_shift_by_less_than_the_distance_passes() -> None:
    grid = Grid((20, 20, 20), (2.0, 2.0, 2.0), (0, 0, 0))
    dose = _smooth(5, grid)
    moved = Volume(Grid(grid.shape, grid.spacing_mm, (1.5, 0.0, 0.0)), dose.values)
    inner = np.zeros(grid.shape, dtype=bool)
    inner[3:-3, 3:-3, 3:-3] = True
    result = gamma_index(dose, moved, dose_percent=1, distance_mm=2, region=inner)
    assert result.pass_percent == 100.0
    assert result.gamma[inner & np.isfinite(result.gamma)].max() <= 1.5 / 2 + 0.05


def test_voxels_outside_the_evaluated_dose_are_not_judged() -> None:
    grid = Grid((5, 5, 10), (2.0, 2.0, 2.0), (0, 0, 0))
    small = Grid((5, 5, 5), (2.0, 2.0, 2.0), (0, 0, 0))
    result = gamma_index(Volume(grid, np.ones(grid.shape, np.float32)), Volume(small, np.ones(small.shape, np.float32)))
    assert result.judged == 125
    assert result.uncovered == 125
    far = Grid(small.shape, small.spacing_mm, (500.0, 0.0, 0.0))
    with pytest.raises(DoseError, match="no voxel"):
        gamma_index(Volume(grid, np.ones(grid.shape, np.float32)), Volume(far, np.ones(small.shape, np.float32)))


def test_bad_criteria_are_refused() -> None:
    dose = _smooth(1, Grid((4, 4, 4), (2.0, 2.0, 2.0), (0, 0, 0)))
    with pytest.raises(DoseError):
        gamma_index(dose, dose, dose_percent=0)
    with pytest.raises(DoseError):
        gamma_index(Volume(dose.grid, np.zeros(dose.grid.shape, np.float32)), dose)


def test_a_plan_sized_gamma_is_quick() -> None:
    grid = Grid((60, 70, 90), (3.0, 3.0, 3.0), (0, 0, 0))
    dose = _smooth(7, grid)
    other = Volume(grid, (dose.values * 1.015).astype(np.float32))
    gamma_index(Volume(Grid((2, 2, 2), (3.0,) * 3, (0, 0, 0)), dose.values[:2, :2, :2]), other)
    start = time.process_time()
    result = gamma_index(dose, other, dose_percent=3, distance_mm=2)
    assert time.process_time() - start < 10.0
    assert result.pass_percent == 100.0
