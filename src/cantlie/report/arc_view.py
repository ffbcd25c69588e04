"""What a report shows of an arc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.arc_profile import ArcProfile


@dataclass(frozen=True, slots=True, eq=False)
class ApertureView:
    """The opening at one gantry angle, as rectangles (x low, x high, y low, y high) in mm, shape (n, 4).

    With it the outlines of the target as seen from there, in the same frame.
    """

    gantry_deg: float
    open_mm: NDArray[np.float64]
    target_outlines_mm: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ArcView:
    """One arc: its name, its delivery interval by interval, and openings along the way."""

    name: str
    profile: ArcProfile
    apertures: Sequence[ApertureView]
