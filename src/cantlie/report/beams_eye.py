"""What pictures in the beam's eye view share: target outlines, a square frame around the axis, the scale bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cantlie.report import style

_OUTLINE = "#d55e00"


def outlined(axes: Axes, outlines_mm: Sequence[NDArray[np.float64]]) -> None:
    """Draw the outlines of a target, each an array of points (x, y) at the isocentre plane, shape (n, 2)."""
    for outline in outlines_mm:
        closed = np.vstack([outline, outline[:1]])
        axes.plot(closed[:, 0], closed[:, 1], color=_OUTLINE, linewidth=1.0)


def framed(axes: Axes, half_mm: float, title: str) -> None:
    """Show a square of the isocentre plane around the axis, framed and without ticks."""
    axes.set_xlim(-half_mm, half_mm)
    axes.set_ylim(-half_mm, half_mm)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(style.RULE)
    axes.set_title(title, fontsize=7, pad=3)


def scale_bar(axes: Axes, half_mm: float, length_mm: float) -> None:
    """Draw a scale bar into the lower left corner."""
    left, low = -0.92 * half_mm, -0.9 * half_mm
    axes.plot([left, left + length_mm], [low, low], color=style.INK, linewidth=1.5)
    axes.text(left, low + 0.05 * half_mm, f"{length_mm / 10:g} cm", fontsize=6, va="bottom")
