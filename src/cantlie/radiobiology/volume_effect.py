"""One dose for a whole organ: generalised equivalent uniform dose and effective volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StructureError


def _weighted(doses_gy: ArrayLike, weights: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    doses = np.asarray(doses_gy, dtype=np.float64).ravel()
    parts = np.ones_like(doses) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    inside = parts > 0
    if parts.shape != doses.shape or not inside.any():
        raise StructureError("an equivalent dose needs at least one voxel with a volume")
    if not np.isfinite(doses[inside]).all():
        raise StructureError("the dose of a voxel is not a number", remedy="calculate the dose in the whole organ")
    return doses[inside], parts[inside] / parts[inside].sum()


def mean_dose_gy(doses_gy: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean dose of voxels with the given volumes (any common unit)."""
    doses, parts = _weighted(doses_gy, weights)
    return float(parts @ doses)


def geud_gy(doses_gy: ArrayLike, a: float, weights: ArrayLike | None = None) -> float:
    """Return the generalised equivalent uniform dose (sum v_i D_i^a)^(1/a).

    Parameters
    ----------
    doses_gy
        Doses of voxels or of the bins of a differential DVH.
    a
        1 is the mean; large values approach the maximum, large negative ones the minimum. For an organ a = 1/n.
    weights
        Volumes, any common unit; equal where not given.

    References
    ----------
    Niemierko 1999 (abstract), Med Phys 26:1100.
    """
    doses, parts = _weighted(doses_gy, weights)
    if a == 0:
        raise StructureError("gEUD needs an exponent other than 0")
    top = float(doses.max()) if a > 0 else float(doses.min())
    if top <= 0:
        return 0.0
    return float(top * (parts @ (np.maximum(doses, 0.0) / top) ** a) ** (1.0 / a))


def effective_volume(doses_gy: ArrayLike, reference_gy: float, n: float, weights: ArrayLike | None = None) -> float:
    """Return the part of the organ that would fare the same if it alone got the reference dose.

    V_eff = sum v_i (D_i / D_ref)^(1/n).

    References
    ----------
    Kutcher and Burman 1989, doi:10.1016/0360-3016(89)90972-3.
    """
    doses, parts = _weighted(doses_gy, weights)
    if reference_gy <= 0 or n <= 0:
        raise StructureError("the effective volume needs a positive reference dose and n")
    return float(parts @ (np.maximum(doses, 0.0) / reference_gy) ** (1.0 / n))
