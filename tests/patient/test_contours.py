"""Masks to contours and back."""

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.patient.contours import contours_of_fractions, simplified
from cantlie.patient.masks import structure_fractions
from cantlie.patient.structures import Structure


def shape_fractions(grid, inside):
    """Sample a shape 4 x 4 times a pixel."""
    total = np.zeros(grid.shape)
    dx, dy, _ = grid.spacing_mm
    for sx in (-0.375, -0.125, 0.125, 0.375):
        for sy in (-0.375, -0.125, 0.125, 0.375):
            z, y, x = np.meshgrid(grid.z_mm, grid.y_mm + sy * dy, grid.x_mm + sx * dx, indexing="ij")
            total += inside(x, y, z)
    return (total / 16).astype(np.float32)


def back(contours, grid):
    return structure_fractions(Structure("t", contours, slice_spacing_mm=grid.spacing_mm[2]), grid)


GRID = Grid((24, 60, 70), (1.0, 1.2, 3.0), (-34.0, -33.0, -30.0))


def test_round_trip_keeps_volume_and_place():
    fractions = shape_fractions(GRID, lambda x, y, z: x**2 + y**2 + z**2 < 25**2)
    again = back(contours_of_fractions(fractions, GRID), GRID)
    assert again.sum() == pytest.approx(fractions.sum(), rel=0.002)
    assert np.abs(again - fractions).max() < 0.35
    assert np.minimum(again, fractions).sum() / fractions.sum() > 0.995


def test_hole_survives():
    fractions = shape_fractions(GRID, lambda x, y, z: (x**2 + y**2 < 25**2) & (x**2 + y**2 > 10**2))
    contours = contours_of_fractions(fractions, GRID)
    assert len(contours) == 2 * GRID.shape[0]
    assert back(contours, GRID).sum() == pytest.approx(fractions.sum(), rel=0.002)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_single_voxel_is_not_lost(share):
    fractions = np.zeros(GRID.shape, dtype=np.float32)
    fractions[5, 20, 30] = share
    fractions[10:15, 30:40, 30:40] = 1
    contours = contours_of_fractions(fractions, GRID)
    centre = GRID.mm_from_index([5, 20, 30])
    near = [c for c in contours if np.abs(c[:, :2].mean(axis=0) - centre[:2]).max() < 1 and c[0, 2] == centre[2]]
    assert len(near) == 1


def test_small_lesion_keeps_its_volume():
    fractions = shape_fractions(GRID, lambda x, y, z: (x - 3.3) ** 2 + (y + 2.2) ** 2 + z**2 < 3.1**2)
    again = back(contours_of_fractions(fractions, GRID), GRID)
    assert again.sum() == pytest.approx(fractions.sum(), rel=0.05)


def test_mask_at_the_border_of_the_grid_is_closed():
    contours = contours_of_fractions(np.ones(GRID.shape, dtype=np.float32), GRID)
    assert len(contours) == GRID.shape[0]
    assert back(contours, GRID).sum() == pytest.approx(GRID.size, rel=0.001)


def test_empty_mask_has_no_contours():
    assert contours_of_fractions(np.zeros(GRID.shape, dtype=np.float32), GRID) == ()


def test_simplified_stays_within_the_tolerance():
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    points = 40 * np.column_stack([np.cos(angle), np.sin(angle)])
    kept = simplified(points, 0.04)
    assert 30 < len(kept) < 150
    heads = np.roll(kept, -1, axis=0)
    middle = 0.5 * (kept + heads)
    assert (40 - np.linalg.norm(middle, axis=1)).max() < 0.045
