"""Targets near the first or last slice of a CT, where beams and scatter leave what is imaged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.notes import Note

LEAST_BEYOND_MM = 20.0
"""Length of CT beyond a target below which its dose lacks scatter from tissue that is not imaged."""
WANTED_MM = 50.0
"""Least length beyond the field borders (AAPM TG-101, Benedict 2010, doi:10.1118/1.3438081: 5 to 10 cm)."""


def imaged_length_notes(target: str, fractions: NDArray[np.float32], grid: Grid) -> tuple[Note, ...]:
    """Return a warning where the CT ends within 20 mm of a target, or within it.

    Parameters
    ----------
    fractions
        Partial-volume mask of the target, shape ``grid.shape``.
    """
    slices = np.flatnonzero((fractions > 0).any(axis=(1, 2)))
    if not len(slices):
        return ()
    thickness_mm = grid.spacing_mm[2]
    gaps = {"lowest": slices[0] * thickness_mm, "highest": (grid.shape[0] - 1 - slices[-1]) * thickness_mm}
    near = {name: gap for name, gap in gaps.items() if gap < LEAST_BEYOND_MM}
    if not near:
        return ()
    said = " and ".join(
        f"lies {gap:.0f} mm from the {name} slice" if gap > 0 else f"reaches the {name} slice"
        for name, gap in near.items()
    )
    cut = "its margin is cut off there, and " if min(near.values()) <= 0 else ""
    return (
        Note(
            f"{said} of the CT: {cut}beams and scatter beyond it are not calculated; "
            f"{WANTED_MM:.0f} mm or more beyond the fields are usual (TG-101)",
            target,
        ),
    )
