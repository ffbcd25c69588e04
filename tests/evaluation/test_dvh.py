"""DVHs of shapes whose numbers are known, on several grids and offsets."""

import sys
import time
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import GeometryError, StructureError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.patient.masks import structure_fractions


def _load_shapes():
    specification = util.spec_from_file_location("dvh_shapes", Path(__file__).with_name("shapes.py"))
    module = util.module_from_spec(specification)
    sys.modules["dvh_shapes"] = module
    specification.loader.exec_module(module)
    return module


shapes = _load_shapes()
CENTRES = [(0.0, 0.0, 0.0), (0.37, -1.41, 0.83), (12.3, -7.7, 5.1)]
SLOPES = [(0.25, 0.0, 0.0), (0.0, 0.18, 0.0), (0.0, 0.0, 0.25), (0.12, -0.1, 0.15)]
LEVEL = 40.0


def _mask(solid, spacing_mm, slice_mm: float) -> tuple[np.ndarray, Grid]:
    nz, ny, nx = (round(110 / s) for s in spacing_mm[::-1])
    grid = Grid((nz, ny, nx), spacing_mm, (-55.0 + 0.3, -55.0 - 0.2, -55.0 + 0.7))
    return structure_fractions(solid.structure(slice_mm), grid), grid


def _solids(centre):
    return {
        "sphere": shapes.sphere(24.0, centre),
        "cylinder": shapes.cylinder(18.0, 42.0, centre),
        "cone": shapes.cone(24.0, 48.0, centre),
    }


@pytest.mark.parametrize("kind", ["sphere", "cylinder", "cone"])
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize(
    ("spacing_mm", "slice_mm", "dose_mm"),
    [((1.0, 1.0, 1.0), 1.0, 2.5), ((0.8, 0.8, 3.0), 1.0, 3.0), ((2.0, 2.0, 2.0), 2.0, 4.0)],
)
def test_dvh__against_analytic_shapes(kind, centre, slope, spacing_mm, slice_mm, dose_mm) -> None:
    solid = _solids(centre)[kind]
    fractions, grid = _mask(solid, spacing_mm, slice_mm)
    dose = shapes.linear_dose(LEVEL, slope, dose_mm, (0.4, -0.9, 0.6))
    ours = dvh(dose, fractions, grid)
    volume, doses, weights = solid.exact(LEVEL, slope)
    assert ours.volume_cc == pytest.approx(volume, rel=0.005)
    assert ours.mean_gy == pytest.approx(np.average(doses, weights=weights), rel=0.0005)
    order = np.argsort(-doses)
    hottest = np.cumsum(weights[order]) / weights.sum() * 100
    for percent in (2.0, 5.0, 50.0, 95.0, 98.0):
        expected = doses[order][np.searchsorted(hottest, percent)]
        assert float(ours.dose_at_percent_gy(percent)) == pytest.approx(expected, rel=0.005), percent
    for level in np.quantile(doses, [0.2, 0.5, 0.8]):
        expected = 100 * weights[doses >= level].sum() / weights.sum()
        assert float(ours.volume_at_dose_percent(level)) == pytest.approx(expected, abs=0.5)
    assert ours.max_gy == pytest.approx(doses.max(), rel=0.01)
    assert ours.min_gy == pytest.approx(doses.min(), rel=0.02)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("kind", ["sphere", "cylinder"])
def test_maximum_and_minimum__against_analytic_shapes(kind, slope) -> None:
    """With slices of 1 mm the extremes are right within 0.5 % too; coarser slices blunt the poles of a sphere."""
    solid = _solids(CENTRES[1])[kind]
    fractions, grid = _mask(solid, (1.0, 1.0, 1.0), 1.0)
    ours = dvh(shapes.linear_dose(LEVEL, slope, 3.0, (0.4, -0.9, 0.6)), fractions, grid)
    _, doses, _ = solid.exact(LEVEL, slope)
    assert ours.max_gy == pytest.approx(doses.max(), rel=0.005)
    assert ours.min_gy == pytest.approx(doses.min(), rel=0.0075)


def test_uniform_dose_is_a_step() -> None:
    fractions, grid = _mask(shapes.sphere(20.0, (0, 0, 0)), (1.0, 1.0, 2.0), 2.0)
    dose = Volume(grid, np.full(grid.shape, 30.0, dtype=np.float32))
    ours = dvh(dose, fractions, grid)
    assert (ours.min_gy, ours.mean_gy, ours.max_gy) == pytest.approx((30.0, 30.0, 30.0), rel=1e-6)
    np.testing.assert_allclose(ours.dose_at_percent_gy([1, 50, 99, 100]), 30.0, rtol=1e-4)
    np.testing.assert_allclose(ours.volume_at_dose_percent([0, 29.99, 30.01]), [100, 100, 0], atol=1e-6)


def test_a_dose_of_zero_is_allowed() -> None:
    fractions, grid = _mask(shapes.sphere(10.0, (0, 0, 0)), (2.0, 2.0, 2.0), 2.0)
    ours = dvh(Volume(grid, np.zeros(grid.shape, dtype=np.float32)), fractions, grid)
    assert ours.mean_gy == ours.max_gy == 0.0
    assert float(ours.dose_at_percent_gy(50)) == 0.0
    assert float(ours.volume_at_dose_percent(1.0)) == 0.0


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_properties_of_any_dvh(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid((5, 7, 6), (2.0, 2.5, 3.0), (-5.0, -6.0, -7.0))
    fractions = np.clip(rng.normal(0.3, 0.5, grid.shape), 0, 1).astype(np.float32)
    fractions[2, 3, 3] = 1.0
    dose_grid = Grid((9, 9, 9), (2.7, 2.7, 2.7), (-8.0, -8.0, -9.0))
    dose = Volume(dose_grid, rng.gamma(2.0, 10.0, dose_grid.shape).astype(np.float32))
    ours = dvh(dose, fractions, grid)
    assert ours.volume_cc == pytest.approx(float(fractions.sum(dtype=float)) * grid.voxel_cc, rel=1e-6)
    assert (np.diff(ours.cumulative_cc) <= 1e-9).all()
    assert ours.cumulative_cc[0] == pytest.approx(ours.volume_cc)
    assert ours.differential_cc.sum() == pytest.approx(ours.volume_cc)
    assert ours.min_gy <= ours.mean_gy <= ours.max_gy <= dose.values.max() * (1 + 1e-6)
    centres = 0.5 * (ours.dose_gy[1:] + ours.dose_gy[:-1])
    assert np.average(centres, weights=ours.differential_cc) == pytest.approx(ours.mean_gy, rel=0.02)
    percents = np.array([1.0, 20.0, 50.0, 80.0, 99.0])
    doses = ours.dose_at_percent_gy(percents)
    assert (np.diff(doses) <= 1e-9).all()


def test_what_lies_outside_the_dose_grid_counts_as_zero_and_is_noted() -> None:
    grid = Grid((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    fractions = np.ones(grid.shape, dtype=np.float32)
    small = Grid((10, 10, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    ours = dvh(Volume(small, np.full(small.shape, 10.0, dtype=np.float32)), fractions, grid, name="Liver")
    assert ours.uncovered_cc == pytest.approx(0.5 * ours.volume_cc)
    assert ours.mean_gy == pytest.approx(5.0)
    assert "outside the dose grid" in ours.notes[0].sentence()


def test_bad_input_is_refused_in_plain_words() -> None:
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    dose = Volume(grid, np.ones(grid.shape, dtype=np.float32))
    with pytest.raises(StructureError, match="no volume"):
        dvh(dose, np.zeros(grid.shape, dtype=np.float32), grid, name="GTV")
    with pytest.raises(GeometryError):
        dvh(dose, np.zeros((3, 4, 4), dtype=np.float32), grid)
    for bad in (np.nan, -1.0):
        values = np.ones(grid.shape, dtype=np.float32)
        values[1, 1, 1] = bad
        with pytest.raises(StructureError):
            dvh(Volume(grid, values), np.ones(grid.shape, dtype=np.float32), grid)


def test_a_large_structure_is_quick() -> None:
    grid = Grid((51, 256, 256), (1.6, 1.6, 5.0), (-200.0, -200.0, -125.0))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij", sparse=True)
    fractions = np.clip(100.5 - np.sqrt(x**2 + y**2 + z**2), 0, 1).astype(np.float32)
    dose_grid = Grid((85, 134, 134), (3.0, 3.0, 3.0), (-200.0, -200.0, -126.0))
    dose = Volume(dose_grid, np.full(dose_grid.shape, 20.0, dtype=np.float32))
    dvh(dose, fractions[:, :8, :8] + 1.0, Grid((51, 8, 8), grid.spacing_mm, grid.origin_mm))
    start = time.process_time()
    result: Dvh = dvh(dose, fractions, grid)
    assert time.process_time() - start < 2.0
    assert result.volume_cc == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.01)
