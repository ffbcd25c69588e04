"""Margins against the volumes that geometry gives for spheres and boxes, on isotropic and very anisotropic grids."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import GeometryError
from cantlie.target.margins import contract, contract_evenly, expand, expand_evenly, ring

_spec = importlib.util.spec_from_file_location("target_shapes", Path(__file__).with_name("shapes.py"))
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

SPACINGS = [(3.0, 3.0, 3.0), (0.8, 0.8, 5.0), (2.5, 2.5, 2.5), (4.0, 4.0, 4.0), (1.0, 1.0, 3.0)]


def _sphere_plus_ellipsoid_mm3(radius_mm, lower_mm, upper_mm):
    """Volume of a sphere grown by an ellipsoid with its own half axes in each octant, from its support function."""
    theta = (np.arange(600) + 0.5) / 600 * np.pi
    phi = np.arange(1200) / 1200 * 2 * np.pi
    t, p = np.meshgrid(theta, phi, indexing="ij")
    normal = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], axis=-1)
    axes = np.where(normal >= 0, upper_mm, lower_mm).astype(float)
    reach = np.sqrt(((axes * normal) ** 2).sum(axis=-1))
    surface = radius_mm * normal + axes**2 * normal / reach[..., None]
    a, b = surface[:-1], surface[1:]
    c, d = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    faces = np.einsum("...i,...i", a, np.cross(b, c)).sum() + np.einsum("...i,...i", b, np.cross(d, c)).sum()
    return abs(faces) / 6


def _box_plus_ellipsoid_mm3(length_mm, margin_mm):
    a, b, c = length_mm
    x, y, z = margin_mm
    faces = 2 * (a * b * z + a * c * y + b * c * x)
    edges = np.pi * (a * y * z + b * x * z + c * x * y)
    return a * b * c + faces + edges + 4 / 3 * np.pi * x * y * z


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize(
    ("lower_mm", "upper_mm"),
    [((3, 3, 3), (3, 3, 3)), ((3, 3, 5), (3, 3, 5)), ((10, 10, 10), (10, 10, 10)), ((2, 3, 4), (5, 6, 7))],
)
@pytest.mark.parametrize("radius_mm", [15.0, 30.0])
def test_grown_sphere_has_the_analytic_volume(spacing_mm, lower_mm, upper_mm, radius_mm):
    grid = shapes.grid_around(spacing_mm, radius_mm + 14)
    grown = expand(grid, shapes.sphere(grid, (0.3, 0.7, 1.1), radius_mm), lower_mm, upper_mm)
    expected = _sphere_plus_ellipsoid_mm3(radius_mm, lower_mm, upper_mm)
    assert shapes.volume_mm3(grid, grown) == pytest.approx(expected, rel=0.01)
    assert grown.max() <= 1 and grown.min() >= 0


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("margin_mm", [(3.0, 3.0, 3.0), (3.0, 3.0, 5.0), (8.0, 8.0, 12.0)])
def test_grown_box_has_the_analytic_volume(spacing_mm, margin_mm):
    grid = shapes.grid_around(spacing_mm, 40)
    length_mm = np.array([33.3, 41.7, 27.9])
    lower_mm = np.array([-15.3, -20.1, -12.2])
    grown = expand(grid, shapes.box(grid, lower_mm, lower_mm + length_mm), margin_mm, margin_mm)
    assert shapes.volume_mm3(grid, grown) == pytest.approx(_box_plus_ellipsoid_mm3(length_mm, margin_mm), rel=0.01)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_shrunk_sphere_has_the_analytic_volume(spacing_mm):
    grid = shapes.grid_around(spacing_mm, 34)
    shrunk = contract_evenly(grid, shapes.sphere(grid, (0.3, 0.7, 1.1), 30.0), 3.0)
    assert shapes.volume_mm3(grid, shrunk) == pytest.approx(4 / 3 * np.pi * 27**3, rel=0.01)


def test_shrunk_box_recedes_on_each_side_by_its_own_distance():
    grid = shapes.grid_around((2.0, 2.0, 3.0), 40)
    shrunk = contract(grid, shapes.box(grid, (-20, -20, -20), (20, 20, 20)), (2, 3, 4), (5, 6, 7))
    expected = shapes.box(grid, (-18, -17, -16), (15, 14, 13))
    assert np.abs(shrunk - expected).sum() * grid.voxel_cc < 0.02 * 33 * 31 * 29 / 1000


def test_octants_have_their_own_margins():
    grid = shapes.grid_around((1.5, 1.5, 2.0), 30)
    grown = expand(grid, shapes.sphere(grid, (0, 0, 0), 8.0), (2, 3, 4), (6, 9, 12))
    for axis, centres, low, high in ((2, grid.x_mm, 10, 14), (1, grid.y_mm, 11, 17), (0, grid.z_mm, 12, 20)):
        others = tuple(n for n in range(3) if n != axis)
        reached = centres[grown.max(axis=others) > 0.05]
        assert -low - 1.6 <= reached.min() <= -low + 1.6
        assert high - 1.6 <= reached.max() <= high + 1.6


def test_no_margin_along_an_axis_leaves_that_axis_alone():
    grid = shapes.grid_around((2.0, 2.0, 4.0), 30)
    lower, upper = (-10.0, -11.0, -9.0), (12.0, 9.0, 8.0)
    grown = expand(grid, shapes.box(grid, lower, upper), (4, 4, 0), (4, 4, 0))
    area = 22 * 20 + 2 * 4 * (22 + 20) + np.pi * 16
    assert shapes.volume_mm3(grid, grown) == pytest.approx(area * 17, rel=0.01)


def test_nothing_is_lost_and_zero_margins_change_nothing():
    grid = shapes.grid_around((2.0, 2.0, 3.0), 20)
    region = shapes.sphere(grid, (1, 2, 3), 9.0)
    assert np.array_equal(expand_evenly(grid, region, 0.0), region)
    assert (expand_evenly(grid, region, 4.0) >= region).all()
    assert (contract_evenly(grid, region, 4.0) <= region).all()
    assert not expand_evenly(grid, np.zeros_like(region), 5.0).any()
    assert not contract_evenly(grid, np.zeros_like(region), 5.0).any()


def test_a_region_thinner_than_a_voxel_still_grows_though_its_place_within_is_unknown():
    grid = shapes.grid_around((1.0, 1.0, 5.0), 25, offset_mm=(0.0, 0.0, 0.0))
    z = float(grid.z_mm[5])
    region = shapes.box(grid, (-10, -10, z - 1), (10, 10, z + 1))
    grown = expand(grid, region, (3, 3, 5), (3, 3, 5))
    assert shapes.volume_mm3(grid, grown) == pytest.approx(_box_plus_ellipsoid_mm3((20, 20, 2), (3, 3, 5)), rel=0.12)


def test_a_region_at_the_border_of_the_grid_is_cut_off_there():
    grid = shapes.grid_around((2.0, 2.0, 2.0), 20, offset_mm=(0, 0, 0))
    whole = np.ones(grid.shape, np.float32)
    assert np.array_equal(expand_evenly(grid, whole, 6.0), whole)
    shrunk = contract_evenly(grid, whole, 6.0)
    assert shapes.volume_mm3(grid, shrunk) == pytest.approx(28.0**3, rel=0.01)


def test_ring_is_the_difference_of_two_margins():
    grid = shapes.grid_around((2.0, 2.0, 2.5), 40)
    shell = ring(grid, shapes.sphere(grid, (0, 0, 0), 15.0), 3.0, 13.0)
    assert shapes.volume_mm3(grid, shell) == pytest.approx(4 / 3 * np.pi * (28**3 - 18**3), rel=0.01)
    with pytest.raises(GeometryError, match="empty"):
        ring(grid, shell, 5.0, 5.0)


def test_wrong_margins_are_refused():
    grid = shapes.grid_around((2.0, 2.0, 2.0), 10)
    with pytest.raises(GeometryError, match="not be negative"):
        expand(grid, np.zeros(grid.shape, np.float32), (1, 1, -1), (1, 1, 1))
    with pytest.raises(GeometryError, match="shape"):
        expand_evenly(grid, np.zeros((2, 2, 2), np.float32), 1.0)
