"""Masks against shapes whose volume and coverage are known in closed form."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.patient.masks import gaps_of_structure, slabs_of_structure, structure_fractions
from cantlie.patient.structures import Structure


def circle(radius_mm, z_mm, centre_mm=(0.0, 0.0), points=360, turn=1):
    angle = turn * np.linspace(0, 2 * np.pi, points, endpoint=False)
    x, y = centre_mm[0] + radius_mm * np.cos(angle), centre_mm[1] + radius_mm * np.sin(angle)
    return np.column_stack([x, y, np.full(points, z_mm)])


def box(low_mm, high_mm, z_mm):
    (x0, y0), (x1, y1) = low_mm, high_mm
    return np.array([[x0, y0, z_mm], [x1, y0, z_mm], [x1, y1, z_mm], [x0, y1, z_mm]])


def volume_cc(contours, grid, **more):
    structure = Structure("test", tuple(contours), **more)
    return structure_fractions(structure, grid).sum(dtype=np.float64) * grid.voxel_cc


GRIDS = [
    Grid((60, 80, 80), (1.0, 1.0, 1.0), (-39.5, -39.5, -29.5)),
    Grid((21, 30, 41), (2.0, 2.7, 3.0), (-40.3, -39.1, -30.2)),
    Grid((12, 20, 24), (3.7, 4.1, 5.0), (-43.0, -39.0, -28.0)),
    Grid((101, 200, 170), (0.5, 0.4, 0.7), (-42.5, -39.8, -35.0)),
]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("spacing_mm", "offset_mm"), [(1.0, 0.5), (2.0, 0.3), (3.0, 1.5), (3.0, 0.4)])
def test_sphere_volume_within_half_a_per_cent(grid, spacing_mm, offset_mm):
    radius = 24.0
    planes = np.arange(-radius + offset_mm, radius, spacing_mm)
    contours = [circle(np.sqrt(radius**2 - z**2), z) for z in planes]
    assert volume_cc(contours, grid) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.005)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("spacing_mm", [1.0, 2.5, 5.0])
def test_cylinder_and_cone_volume_within_half_a_per_cent(grid, spacing_mm):
    planes = np.arange(-20 + spacing_mm / 2, 20, spacing_mm)
    cylinder = [circle(15.0, z, (3.3, -2.1)) for z in planes]
    assert volume_cc(cylinder, grid) == pytest.approx(np.pi * 15**2 * 40 / 1000, rel=0.005)
    cone = [circle(20.0 * (z + 20) / 40, z) for z in planes]
    assert volume_cc(cone, grid) == pytest.approx(np.pi * 20**2 * 40 / 3 / 1000, rel=0.005)


def test_coverage_of_single_pixels_is_exact():
    grid = Grid((1, 4, 4), (1.0, 2.0, 3.0), (0.5, 1.0, 0.0))
    fractions = structure_fractions(Structure("t", (box((0.25, 1.0), (2.5, 4.0), 0.0),)), grid)[0]
    expected = np.outer([0.5, 1.0, 0.0, 0.0], [0.75, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(fractions, expected, atol=1e-7)


def test_triangle_area_is_exact_in_every_pixel():
    grid = Grid((1, 3, 3), (1.0, 1.0, 1.0), (0.5, 0.5, 0.0))
    triangle = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    fractions = structure_fractions(Structure("t", (triangle,)), grid)[0]
    np.testing.assert_allclose(fractions, [[1, 1, 0.5], [1, 0.5, 0], [0.5, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("turn", [1, -1])
def test_hole_island_and_keyhole_agree(turn):
    grid = GRIDS[0]
    rings = [circle(20, 0.0), circle(12, 0.0, turn=turn), circle(5, 0.0)]
    expected = np.pi * (400 - 144 + 25) * 1.0 / 1000
    assert volume_cc(rings, grid) == pytest.approx(expected, rel=2e-4)
    outer, inner = circle(20, 0.0), circle(12, 0.0, turn=-1)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    np.testing.assert_allclose(
        structure_fractions(Structure("keyhole", (keyhole,)), grid),
        structure_fractions(Structure("hole", (outer, inner)), grid),
        atol=1e-6,
    )


def test_overlapping_polygons_combine_by_exclusive_or():
    grid = Grid((1, 10, 10), (1.0, 1.0, 1.0), (0.5, 0.5, 0.0))
    two = (box((1, 1), (6, 6), 0.0), box((4, 4), (9, 9), 0.0))
    fractions = structure_fractions(Structure("t", two), grid)[0]
    assert fractions.sum() == pytest.approx(25 + 25 - 2 * 4)
    assert (fractions[4:6, 4:6] == 0).all()


def test_crossing_edges_inside_a_pixel():
    grid = Grid((1, 1, 1), (2.0, 2.0, 1.0), (0.0, 0.0, 0.0))
    bow_tie = np.array([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    assert structure_fractions(Structure("t", (bow_tie,)), grid)[0, 0, 0] == pytest.approx(0.5, abs=0.01)


def test_sub_voxel_contours_keep_their_volume():
    grid = Grid((4, 4, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    planes = np.arange(6.1, 7.1, 0.25)
    expected = np.pi * 0.3**2 * planes.size * 0.25 / 1000
    contours = [circle(0.3, z, (6.2, 7.9)) for z in planes]
    assert volume_cc(contours, grid) == pytest.approx(expected, rel=1e-3)


def test_contours_off_the_slices_and_end_caps():
    grid = Grid((20, 10, 10), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    squares = [box((2, 2), (8, 8), z) for z in (5.2, 8.2, 11.2)]
    fractions = structure_fractions(Structure("t", tuple(squares)), grid)
    column = fractions[:, 5, 5]
    assert column.sum() == pytest.approx(9.0, abs=1e-5)
    np.testing.assert_allclose(column[[2, 3, 4, 11, 12, 13]], [0, 0.3, 1, 1, 0.7, 0], atol=1e-5)


def test_a_gap_is_real_and_each_piece_is_capped():
    grid = Grid((40, 10, 10), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    structure = Structure("t", tuple(box((2, 2), (8, 8), z) for z in (5.0, 7.0, 9.0, 15.0, 17.0)))
    column = structure_fractions(structure, grid)[:, 5, 5]
    assert column.sum() == pytest.approx(10.0, abs=1e-5)
    assert (column[10:14] == 0).all()
    assert gaps_of_structure(structure, 2.0) == ((9.0, 15.0),)


def test_single_plane_has_the_thickness_of_the_images():
    grid = Grid((40, 10, 10), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    assert volume_cc([box((2, 2), (8, 8), 10.0)], grid, slice_spacing_mm=5.0) == pytest.approx(0.180)
    apart = [box((2, 2), (8, 8), z) for z in (5.0, 35.0)]
    assert volume_cc(apart, grid, slice_spacing_mm=5.0) == pytest.approx(0.360)


def test_outside_the_grid_is_cut_and_never_wrong():
    grid = Grid((4, 10, 10), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    large = [circle(50.0, z, (5.0, 5.0)) for z in np.arange(-20.0, 30.0, 2.0)]
    assert (structure_fractions(Structure("t", tuple(large)), grid) == 1).all()
    away = [circle(3.0, z, (50.0, 5.0)) for z in (0.0, 2.0)]
    assert (structure_fractions(Structure("t", tuple(away)), grid) == 0).all()
    assert (structure_fractions(Structure("t", ()), grid) == 0).all()
    half = [box((-20, -20), (5, 30), z) for z in (0.0, 2.0, 4.0)]
    np.testing.assert_array_equal(structure_fractions(Structure("t", tuple(half)), grid)[:, :, 5:], 0)
    assert (structure_fractions(Structure("t", tuple(half)), grid)[:, :, :5] == 1).all()


def test_degenerate_contours_enclose_nothing():
    grid = GRIDS[0]
    point, line = np.zeros((1, 3)), np.array([[0.0, 0, 0], [5, 0, 0]])
    flat = np.array([[0.0, 0, 0], [5, 0, 0], [2, 0, 0]])
    assert volume_cc([point, line, flat], grid) == 0


def test_tilted_contour_is_refused_by_name():
    tilted = np.array([[0.0, 0, 0], [5, 0, 1], [2, 4, 2]])
    with pytest.raises(StructureError, match=r"axial plane \(Stomach\)"):
        slabs_of_structure(Structure("Stomach", (tilted,)), 3.0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-6, 16), st.floats(-6, 16)), min_size=3, max_size=12),
    st.integers(1, 5),
)
@example([(0.0, 0.0), (0.0, 0.0), (1.0, 2.2250738585e-313)], 1)
def test_area_agrees_with_dense_sampling_for_any_polygon(points, scale):
    grid = Grid((1, 2 * scale, 3 * scale), (9 / 3 / scale, 8 / 2 / scale, 1.0), (1.5 / scale, 2.0 / scale, 0.0))
    polygon = np.column_stack([np.array(points), np.zeros(len(points))])
    fractions = structure_fractions(Structure("t", (polygon,)), grid)
    assert ((fractions >= 0) & (fractions <= 1)).all()
    fine = Grid((1, 160, 180), (0.05, 0.05, 1.0), (0.025, 0.025, 0.0))
    x, y = np.meshgrid(fine.x_mm, fine.y_mm)
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crosses = (y0 <= y) != (y1 <= y)
        inside[crosses] ^= x[crosses] < x0 + (x1 - x0) * (y[crosses] - y0) / (y1 - y0)
    area = fractions.sum(dtype=np.float64) * grid.spacing_mm[0] * grid.spacing_mm[1]
    assert area == pytest.approx(inside.sum() * 0.0025, abs=1.2)
