"""Targets that reach the skin, where megavoltage photons have not built up their dose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cantlie.core.grid import Grid
from cantlie.core.notes import Note

BUILD_UP_MM = 5.0
"""Depth to which targets near the skin are usually cut back where there is no bolus."""
LEAST_SHARE = 0.005
"""Share of a target below the skin from which it is worth a remark."""


def skin_notes(target: str, fractions: NDArray[np.float32], body: NDArray[np.float32], grid: Grid) -> tuple[Note, ...]:
    """Return a warning where part of a target lies less than 5 mm below the skin.

    Dose at the skin rises from about a third of its maximum over the first millimetres, whatever the fluence, so that
    rules on the coverage of such a target cannot hold without bolus.

    Parameters
    ----------
    fractions, body
        Partial-volume masks of the target and of the patient, shape ``grid.shape``.
    """
    inside = np.argwhere(fractions > 0)
    if not len(inside):
        return ()
    spacing_kji = np.asarray(grid.spacing_mm)[::-1]
    reach = np.ceil(2 * BUILD_UP_MM / spacing_kji).astype(int)
    low = np.maximum(inside.min(axis=0) - reach, 0)
    high = np.minimum(inside.max(axis=0) + reach + 1, grid.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    is_body = body[box] > 0.5
    if is_body.all():
        return ()
    # distances are from centre to centre; the skin lies about half a voxel before the first centre outside
    depth_mm = distance_transform_edt(is_body, sampling=spacing_kji) - 0.5 * float(spacing_kji.min())
    shallow = np.where(depth_mm < BUILD_UP_MM, fractions[box], 0.0)
    near_cc = float(shallow.sum(dtype=np.float64)) * grid.voxel_cc
    share = float(shallow.sum(dtype=np.float64)) / float(fractions[box].sum(dtype=np.float64))
    if share < LEAST_SHARE:
        return ()
    return (
        Note(
            f"{near_cc:.1f} cm³ ({100 * share:.0f} %) lie less than {BUILD_UP_MM:g} mm below the skin, where the dose "
            "of megavoltage photons builds up: covering them takes bolus, or a target that is cut back from the skin",
            target,
        ),
    )
