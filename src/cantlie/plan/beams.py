"""Where beams aim: points that fill a target, the isocentre, equispaced gantry angles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid


def region_points_mm(grid: Grid, fractions: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float64]:
    """Return points (x, y, z) that fill a region about as densely as a spacing, shape (n, 3).

    Raises
    ------
    PlanningError
        If the region is empty.
    """
    inside = fractions >= 0.5
    if not inside.any():
        inside = fractions > 0
    if not inside.any():
        raise PlanningError("a target has no volume")
    steps = [max(1, int(spacing_mm / s)) for s in reversed(grid.spacing_mm)]
    thinned = np.zeros_like(inside)
    thinned[:: steps[0], :: steps[1], :: steps[2]] = inside[:: steps[0], :: steps[1], :: steps[2]]
    if not thinned.any():
        thinned = inside
    index = np.argwhere(thinned)
    points = grid.mm_from_index(index)
    thick = grid.spacing_mm[2]
    if thick <= spacing_mm:
        return points
    parts = int(np.ceil(thick / spacing_mm))
    offsets = (np.arange(parts) + 0.5) / parts * thick - 0.5 * thick
    spread = np.repeat(points, parts, axis=0)
    spread[:, 2] += np.tile(offsets, len(points))
    return spread


def isocentre_mm(points_mm: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the middle of the box around a target, rounded to whole millimetres."""
    x, y, z = np.round(0.5 * (points_mm.min(axis=0) + points_mm.max(axis=0)))
    return float(x), float(y), float(z)


def equispaced_deg(fields: int, start_deg: float = 0.0) -> tuple[float, ...]:
    """Return gantry angles that divide the circle evenly."""
    return tuple(float(a) for a in (start_deg + 360.0 / fields * np.arange(fields)) % 360.0)
