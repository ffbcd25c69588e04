"""What the chapters of a comparison share: columns of the protocols, probabilities and ranges in words."""

from __future__ import annotations

from collections.abc import Sequence

from cantlie.report.comparison_report import ArmView, BandedDvh
from cantlie.report.document import Column

MOST_COLUMNS = 4
"""So many pictures stand side by side."""


def arm_columns(arms: Sequence[ArmView], *, digits: int | None = None) -> list[Column | str]:
    """Return a column for each protocol."""
    return [Column(arm.id, align="right", digits=digits) for arm in arms]


def range_note(curve: BandedDvh) -> str:
    """Return the range of the mean with incomplete repair, empty where it was not calculated."""
    if curve.least is None or curve.most is None:
        return ""
    return f"{curve.least.mean_gy:.2f} to {curve.most.mean_gy:.2f} with incomplete repair"


def percent(value: float | None) -> str:
    """Return a probability (0 to 1) in per cent."""
    if value is None:
        return "–"
    return "< 0.1 %" if 0 <= value < 0.001 else f"{100 * value:.1f} %"
