"""The plain difference of two doses, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DoseError
from cantlie.core.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class DoseDifference:
    """Evaluated minus reference dose.

    Attributes
    ----------
    difference
        On the reference grid, in Gy; NaN where the evaluated dose does not reach.
    judged
        Number of voxels in the statistics: at or above the threshold, in the region, reached by both doses.
    mean_gy, sd_gy, rms_gy, lowest_gy, highest_gy
        Of the difference over the judged voxels.
    largest_gy
        The largest absolute difference.
    within_percent
        Share of the judged voxels whose absolute difference is at most ``tolerance_gy``.
    uncovered
        Voxels above the threshold that the evaluated dose does not reach.
    """

    difference: Volume
    judged: int
    mean_gy: float
    sd_gy: float
    rms_gy: float
    lowest_gy: float
    highest_gy: float
    largest_gy: float
    within_percent: float
    tolerance_gy: float
    uncovered: int = 0


def dose_difference(
    reference: Volume,
    evaluated: Volume,
    *,
    threshold_percent: float = 10.0,
    tolerance_percent: float = 3.0,
    normalisation_gy: float | None = None,
    region: NDArray[np.bool_] | None = None,
) -> DoseDifference:
    """Return the difference of two doses on any two grids; the evaluated one is interpolated trilinearly.

    Parameters
    ----------
    threshold_percent
        The statistics leave out voxels whose reference dose is below this share of ``normalisation_gy``.
    tolerance_percent
        ``within_percent`` is the share of voxels whose difference is at most this share of ``normalisation_gy``.
    normalisation_gy
        The dose that is 100 %; the maximum of the reference when not given.
    region
        Judge only these voxels of the reference, shape of its grid.

    Raises
    ------
    DoseError
        If the reference dose is zero everywhere, or no voxel can be judged.
    """
    peak = float(reference.values.max()) if normalisation_gy is None else normalisation_gy
    if not peak > 0:
        raise DoseError("the reference dose is zero everywhere", where="dose difference")
    difference = evaluated.resample(reference.grid, outside=np.nan).values - reference.values
    wanted = reference.values >= threshold_percent / 100.0 * peak
    if region is not None:
        wanted &= region
    values = difference[wanted].astype(np.float64)
    judged = values[np.isfinite(values)]
    if not judged.size:
        raise DoseError(
            "no voxel can be judged",
            where="dose difference",
            remedy="check that both doses share a frame of reference and that the threshold is below the maximum",
        )
    tolerance = tolerance_percent / 100.0 * peak
    return DoseDifference(
        difference=Volume(reference.grid, difference),
        judged=int(judged.size),
        mean_gy=float(judged.mean()),
        sd_gy=float(judged.std()),
        rms_gy=float(np.sqrt((judged**2).mean())),
        lowest_gy=float(judged.min()),
        highest_gy=float(judged.max()),
        largest_gy=float(np.abs(judged).max()),
        within_percent=100.0 * float(np.mean(np.abs(judged) <= tolerance)),
        tolerance_gy=tolerance,
        uncovered=int(values.size - judged.size),
    )
