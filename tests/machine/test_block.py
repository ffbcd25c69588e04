"""Blocks: what passes them, by area and at the edges of the field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cantlie.machine.block import Block, passing

CENTRES = np.arange(-59.0, 60.0, 2.0)
TRIANGLE = np.array([[-40.0, -30.0], [50.0, -30.0], [0.0, 45.0]])


def area_mm2(outline: np.ndarray) -> float:
    x, y = outline.T
    return float(0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def test_a_block_takes_its_area_from_the_field() -> None:
    metal = passing([Block(TRIANGLE, False, 0.1)], CENTRES, CENTRES)
    assert (1.0 - metal).sum() * 4.0 == pytest.approx(0.9 * area_mm2(TRIANGLE), rel=2e-3)
    hole = passing([Block(TRIANGLE, True, 0.1)], CENTRES, CENTRES)
    np.testing.assert_allclose(metal + hole, 1.1, atol=1e-12)
    assert metal[30, 30] == pytest.approx(0.1) and hole[30, 30] == pytest.approx(1.0)


def test_holes_lie_side_by_side_and_metal_piles_up() -> None:
    left = np.array([[-40.0, -20.0], [-10.0, -20.0], [-10.0, 20.0], [-40.0, 20.0]])
    holes = passing([Block(left, True, 0.04), Block(-left, True, 0.04)], CENTRES, CENTRES)
    assert holes[30, 15] == holes[30, 45] == 1.0
    assert holes[30, 30] == pytest.approx(0.04)
    metal = passing([Block(left, False, 0.1), Block(left, False, 0.1)], CENTRES, CENTRES)
    assert metal[30, 15] == pytest.approx(0.01)


def test_a_block_beyond_the_field_covers_its_outermost_pixels() -> None:
    large = np.array([[-90.0, -90.0], [90.0, -90.0], [90.0, 90.0], [-90.0, 90.0]])
    np.testing.assert_allclose(passing([Block(large, False, 0.05)], CENTRES, CENTRES[:7]), 0.05, atol=1e-12)


@settings(deadline=None, max_examples=30)
@example(0.0, 0.0, 5.0, 6, 0.0, False)  # small, with edges along the rows
@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(5, 25), st.integers(3, 40), st.floats(0, 1), st.booleans())
def test_shares_stay_between_the_metal_and_the_open_field(
    x: float, y: float, radius: float, corners: int, transmission: float, opens: bool
) -> None:
    angle = 2 * np.pi * np.arange(corners) / corners
    outline = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
    share = passing([Block(outline, opens, transmission)], CENTRES, CENTRES)
    assert share.min() >= transmission - 1e-9 and share.max() <= 1 + 1e-9
    covered = (share - transmission if opens else 1 - share).sum() * 4.0
    assert covered == pytest.approx((1 - transmission) * area_mm2(outline), rel=0.02, abs=1.0)
