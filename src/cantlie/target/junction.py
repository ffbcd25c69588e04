"""What happens where the two half livers' PTVs meet: overlap as printed, abut, gap, or feather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.protocol.sections import Split
from cantlie.target.halves import right_share_within
from cantlie.target.plane import Plane

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Junction:
    """The two PTVs as they meet.

    Attributes
    ----------
    right, left
        Shares of the PTVs of the right and the left half.
    overlap
        Share of each voxel in both PTVs.
    overlap_cc
        Its volume.
    right_level, left_level
        With ``feather``: the part of the prescription, 0 to 1, that each half's plan gives each voxel; their sum is 1.
        Otherwise None, and every voxel of a PTV gets the whole prescription from its plan.
    untreated_cc
        With ``gap``: volume of both PTVs that neither plan treats.
    explanation
        What the policy does, in one sentence.
    """

    right: Fractions
    left: Fractions
    overlap: Fractions
    overlap_cc: float
    right_level: Fractions | None
    left_level: Fractions | None
    untreated_cc: float
    explanation: str


def feather_offsets_mm(split: Split) -> tuple[float, ...]:
    """Return the positions of the junction along the plane's normal, in mm, evenly spread over ``feather_mm``."""
    steps = split.feather_steps
    return tuple(float((n + 0.5) / steps - 0.5) * split.feather_mm for n in range(steps))


def feather_offset_of_session(split: Split, session: int) -> float:
    """Return the position of the junction in the session number ``session`` (from 0) of either half.

    Both halves move together, so that they abut in every pair of sessions: session n has position n modulo the number
    of steps.
    """
    return feather_offsets_mm(split)[session % split.feather_steps]


def meet(grid: Grid, right: Fractions, left: Fractions, plane: Plane, split: Split) -> Junction:
    """Apply the junction policy of a protocol to the PTVs of the right and the left half.

    Parameters
    ----------
    grid
        The grid of the masks.
    right, left
        Shares of both PTVs with their printed margins, which reach beyond the plane.
    plane
        The plane between the halves, its normal to the left.
    split
        The policy. ``overlap``: nothing is cut. ``abut``: both end at the plane. ``gap``: both end half of ``gap_mm``
        before it. ``feather``: the junction takes ``feather_steps`` positions, evenly spread over ``feather_mm`` around
        the plane, session after session and for both halves together; each voxel's level is the share of positions at
        which a half's plan treats it. Planned as one plan per half, every session gives that graded level.
    """
    before_cc = _volume_cc(grid, np.maximum(right, left))
    right_level = left_level = None
    if split.junction == "overlap":
        explanation = "each PTV reaches beyond the plane by its margin, so both overlap there (as printed)"
    elif split.junction == "abut":
        right, left = _cut(grid, right, left, plane, plane)
        explanation = "both PTVs end at the plane"
    elif split.junction == "gap":
        half = 0.5 * split.gap_mm
        right, left = _cut(grid, right, left, plane.shifted(-half), plane.shifted(half))
        explanation = f"both PTVs end {half:g} mm before the plane, which leaves a gap of {split.gap_mm:g} mm"
    else:
        offsets = feather_offsets_mm(split)
        both = np.maximum(right, left)
        shares = [right_share_within(grid, plane.shifted(offset), both) for offset in offsets]
        right_level = np.asarray(np.mean(shares, axis=0), dtype=np.float32)
        left_level = np.where(both > 0, np.float32(1) - right_level, np.float32(0))
        right, left = _cut(grid, both, both, plane.shifted(max(offsets)), plane.shifted(min(offsets)))
        places = ", ".join(f"{offset:+.1f}" for offset in offsets)
        explanation = (
            f"the junction moves through {len(offsets)} positions ({places} mm from the plane, + to the left), one "
            "session after the other and the same for both halves; averaged, each half's dose falls in steps across it"
        )
    overlap = np.minimum(right, left)
    if split.junction in ("abut", "gap"):
        overlap = np.zeros_like(right)  # voxels that both share are divided by a plane, not doubly treated
    treated_cc = _volume_cc(grid, np.minimum(right + left, np.maximum(right, left) if overlap.any() else np.float32(1)))
    untreated_cc = max(before_cc - treated_cc, 0.0) if split.junction == "gap" else 0.0
    return Junction(right, left, overlap, _volume_cc(grid, overlap), right_level, left_level, untreated_cc, explanation)


def _cut(
    grid: Grid, right: Fractions, left: Fractions, right_end: Plane, left_end: Plane
) -> tuple[Fractions, Fractions]:
    return (
        right * right_share_within(grid, right_end, right),
        left * np.where(left > 0, np.float32(1) - right_share_within(grid, left_end, left), np.float32(0)),
    )


def _volume_cc(grid: Grid, fractions: Fractions) -> float:
    return float(fractions.sum(dtype=np.float64)) * grid.voxel_cc
