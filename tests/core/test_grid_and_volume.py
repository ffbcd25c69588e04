"""Grids and volumes: coordinates, cropping, resampling and interpolation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume

GRID = Grid((5, 6, 7), (1.5, 2.0, 3.0), (-10.0, 4.0, 100.0))
numbers = st.floats(-500, 500, allow_nan=False)


@settings(deadline=None, max_examples=50)
@given(point=st.tuples(numbers, numbers, numbers))
def test_points_and_indices_are_inverse(point):
    np.testing.assert_allclose(GRID.mm_from_index(GRID.index_from_mm(point)), point, atol=1e-9)


def test_arrays_are_kji_and_points_xyz():
    np.testing.assert_allclose(GRID.mm_from_index([1, 2, 3]), (-10 + 4.5, 4 + 4, 103))
    assert GRID.points_mm().shape == (5, 6, 7, 3)
    np.testing.assert_allclose(GRID.points_mm()[1, 2, 3], (-5.5, 8, 103))
    assert GRID.voxel_cc == pytest.approx(0.009)


def test_a_crop_covers_the_box_and_keeps_the_lattice():
    part, slices = GRID.crop((-8, 5, 101), (-4, 9, 107))
    assert (part.lower_mm <= (-8, 5, 101)).all()
    assert (part.upper_mm >= (-4, 9, 107)).all()
    assert (part.lower_mm > np.array((-8, 5, 101)) - GRID.spacing_mm).all()  # and no voxel more
    assert (part.upper_mm < np.array((-4, 9, 107)) + GRID.spacing_mm).all()
    np.testing.assert_allclose(part.points_mm(), GRID.points_mm()[slices])
    with pytest.raises(GeometryError, match="outside"):
        GRID.crop((1000, 0, 0), (1001, 1, 1))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 2.5, 2.5), (4.0, 3.0, 10.0)])
def test_a_resampled_grid_covers_the_same_box_centred(spacing):
    other = GRID.resampled(spacing)
    assert (other.lower_mm <= GRID.lower_mm + 1e-6).all()
    assert (other.upper_mm >= GRID.upper_mm - 1e-6).all()
    np.testing.assert_allclose(other.lower_mm + other.upper_mm, GRID.lower_mm + GRID.upper_mm)


@pytest.mark.parametrize(("shape", "spacing", "origin"), [
    ((0, 1, 1), (1, 1, 1), (0, 0, 0)),
    ((1, 1, 1), (1, 0, 1), (0, 0, 0)),
    ((1, 1, 1), (1, 1, float("nan")), (0, 0, 0)),
    ((1, 1, 1), (1, 1, 1), (0, float("inf"), 0)),
])  # fmt: skip
def test_impossible_grids_are_refused(shape, spacing, origin):
    with pytest.raises(GeometryError):
        Grid(shape, spacing, origin)


def plane(points):
    return 3 + 0.2 * points[..., 0] - 0.1 * points[..., 1] + 0.05 * points[..., 2]


def test_interpolation_is_exact_for_a_plane_and_zero_outside():
    volume = Volume(GRID, plane(GRID.points_mm()))
    inside = GRID.mm_from_index(np.random.default_rng(0).uniform((0, 0, 0), (4, 5, 6), (50, 3)))
    np.testing.assert_allclose(volume.sample(inside), plane(inside))
    assert volume.sample([-100, 0, 0]) == 0
    finer = Grid((9, 11, 13), (0.75, 1.0, 1.5), GRID.origin_mm)
    np.testing.assert_allclose(volume.resample(finer).values, plane(finer.points_mm()))


def test_resampling_agrees_with_sampling_everywhere():
    volume = Volume(GRID, np.random.default_rng(1).random(GRID.shape))
    other = Grid((8, 9, 9), (1.7, 1.9, 2.1), (-13.0, 1.0, 97.0))
    np.testing.assert_allclose(volume.resample(other).values, volume.sample(other.points_mm()), atol=1e-12)


def test_a_volume_must_fit_its_grid():
    with pytest.raises(GeometryError, match="shape"):
        Volume(GRID, np.zeros((2, 2, 2)))
