"""Targets near the skin are pointed out, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.plan.skin import skin_notes

CT = Grid((20, 40, 40), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))


def masks(first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """A body whose skin is the plane before row 5, and a target of 10 rows (20 mm) that begins at a row."""
    body = np.zeros(CT.shape, dtype=np.float32)
    body[:, 5:, :] = 1.0
    target = np.zeros(CT.shape, dtype=np.float32)
    target[5:15, first_row : first_row + 10, 10:20] = 1.0
    return target, body


def test_what_lies_below_the_skin_is_counted() -> None:
    target, body = masks(5)
    (note,) = skin_notes("PTV", target, body, CT)
    # centres 1 and 3 mm below the skin count, and those at 5 mm do not: 2 of 10 rows, 0.2 of 6 cm³
    assert note.where == "PTV" and note.level == "warning"
    assert "1.2 cm³ (20 %)" in note.message


@pytest.mark.parametrize("first_row", [8, 20])
def test_deeper_targets_are_left_alone(first_row: int) -> None:
    assert skin_notes("PTV", *masks(first_row), CT) == ()


def test_where_the_ct_ends_is_no_skin() -> None:
    target, body = masks(5)
    body[:] = 1.0
    target[0] = 1.0
    assert skin_notes("PTV", target, body, CT) == ()


def test_an_empty_target_says_nothing() -> None:
    target, body = masks(5)
    assert skin_notes("PTV", np.zeros_like(target), body, CT) == ()
