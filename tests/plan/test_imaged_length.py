"""Targets near the end of the CT."""

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.plan.imaged_length import imaged_length_notes

GRID = Grid((30, 8, 8), (5.0, 5.0, 3.0), (0.0, 0.0, 0.0))


def target(first: int, last: int) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=np.float32)
    mask[first : last + 1, 3:5, 3:5] = 1.0
    return mask


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (10, 18, None),
        (7, 22, None),  # 21 mm on both sides
        (10, 25, "lies 12 mm from the highest slice of the CT: beams"),
        (0, 12, "reaches the lowest slice of the CT: its margin is cut off there"),
        (2, 29, "lies 6 mm from the lowest slice and reaches the highest slice"),
    ],
)
def test_the_end_of_the_ct_is_told_where_it_is_near(first: int, last: int, words: str | None) -> None:
    notes = imaged_length_notes("PTV", target(first, last), GRID)
    assert len(notes) == (words is not None)
    if words:
        assert words in notes[0].message and notes[0].where == "PTV" and notes[0].level == "warning"


def test_nothing_is_said_of_an_empty_target() -> None:
    assert imaged_length_notes("PTV", np.zeros(GRID.shape, dtype=np.float32), GRID) == ()
