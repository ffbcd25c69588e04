"""Where voxels read on the planes of a beam: against the projection of their centres, and the transpose."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.dose.plane_reading import add_read, read_places, rows_read, write
from cantlie.machine.geometry import BeamGeometry

GRID = Grid((9, 14, 17), (4.0, 5.0, 6.0), (-50.0, -30.0, 12.0))
GEOMETRY = BeamGeometry((3.0, -4.0, 20.0), 70.0, 25.0, 10.0)
POSITIONS = (
    np.arange(900.0, 1121.0, 15.0),
    np.concatenate([[-300.0, -90.0], np.arange(-40.0, 41.0, 2.5), [95.0, 300.0]]),
    np.concatenate([[-300.0, -80.0], np.arange(-50.0, 61.0, 2.5), [90.0, 300.0]]),
)


@pytest.fixture(scope="module")
def voxels():
    return np.sort(np.random.default_rng(0).choice(GRID.size, 700, replace=False))


def test_places_are_those_of_the_projected_centres(voxels):
    positions, kept, index, part = read_places(GRID, voxels, GEOMETRY, POSITIONS)
    x, y, axial = GEOMETRY.project(GRID.mm_from_index(np.stack(np.unravel_index(voxels, GRID.shape), axis=-1)))
    for axis, value in enumerate((axial, y, x)):
        low, high = positions[axis][index[:, axis]], positions[axis][index[:, axis] + 1]
        np.testing.assert_allclose(low + part[:, axis] * (high - low), value, atol=1e-4)
        np.testing.assert_array_equal(positions[axis], POSITIONS[axis][kept[axis]])
        assert index[:, axis].min() == 0
        assert index[:, axis].max() == positions[axis].size - 2


def test_voxels_beyond_all_positions_read_the_outermost(voxels):
    short = (np.array([1000.0, 1001.0]), np.array([-1.0, 1.0]), np.array([-1.0, 0.0, 1.0]))
    _, _, index, part = read_places(GRID, voxels, GEOMETRY, short)
    assert index.min() >= 0
    assert index[:, 2].max() == 1
    assert part.min() == 0.0
    assert part.max() == 1.0


def test_rows_that_are_read_hold_every_reading(voxels):
    positions, _, index, _ = read_places(GRID, voxels, GEOMETRY, POSITIONS)
    rows = rows_read(index, positions[0].size)
    for plane in range(positions[0].size):
        read = index[(index[:, 0] == plane) | (index[:, 0] == plane - 1), 1]
        assert rows[plane].tolist() == ([read.min(), read.max() + 2] if read.size else [0, 0])


def test_linear_functions_are_read_exactly_and_written_by_the_transpose(voxels):
    (z, y, x), _, index, part = read_places(GRID, voxels, GEOMETRY, POSITIONS)
    base = np.ravel_multi_index(tuple(index.T), (z.size, y.size, x.size)).astype(np.int32)
    planes = (0.3 * (z[:, None, None] - 1000) + 0.2 * y[:, None] - 0.1 * x + 5).astype(np.float32)
    factor = np.linspace(0.5, 1.5, voxels.size).astype(np.float32)
    dose = np.ones(voxels.size, dtype=np.float32)
    add_read(planes, base, part, factor, dose)
    px, py, axial = GEOMETRY.project(GRID.mm_from_index(np.stack(np.unravel_index(voxels, GRID.shape), axis=-1)))
    np.testing.assert_allclose(dose, 1 + factor * (0.3 * (axial - 1000) + 0.2 * py - 0.1 * px + 5), atol=1e-3)
    values = np.random.default_rng(1).normal(size=voxels.size).astype(np.float32)
    back = np.zeros_like(planes)
    write(back, base, part, factor, values)
    assert np.sum(back.astype(np.float64) * planes) == pytest.approx(float((dose - 1) @ values), rel=1e-3)
