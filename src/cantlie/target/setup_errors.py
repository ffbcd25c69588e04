"""Set-up errors and breathing: their statistics from shift logs, and the margins that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import GeometryError
from cantlie.core.notes import Note

PENUMBRA_SD_MM = 3.2
BREATHING_SD_PER_AMPLITUDE = 0.358


@dataclass(frozen=True, slots=True)
class SetupErrors:
    """Errors of a group of patients along x (left), y (posterior), z (head), in mm.

    Attributes
    ----------
    mean_mm
        Mean over the patients' means.
    systematic_mm
        Standard deviation of the patients' means (Sigma).
    random_mm
        Root mean square of the patients' standard deviations (sigma).
    patients, sessions
        How many there are.
    """

    mean_mm: tuple[float, float, float]
    systematic_mm: tuple[float, float, float]
    random_mm: tuple[float, float, float]
    patients: int
    sessions: int


def setup_errors(shifts_mm: Sequence[ArrayLike]) -> SetupErrors:
    """Return the statistics of measured shifts.

    Parameters
    ----------
    shifts_mm
        One array per patient, shape (sessions, 3), (x, y, z) in mm.

    Raises
    ------
    GeometryError
        With fewer than two patients or fewer than two sessions of any patient.

    References
    ----------
    van Herk 2004, Semin Radiat Oncol 14:52.
    """
    logs = [np.asarray(log, dtype=np.float64) for log in shifts_mm]
    if len(logs) < 2 or any(log.ndim != 2 or log.shape[1] != 3 or len(log) < 2 for log in logs):
        raise GeometryError(
            "systematic and random errors need at least two patients with two sessions each",
            where="shift log",
            remedy="give x, y and z in mm for every session of every patient",
        )
    means = np.array([log.mean(axis=0) for log in logs])
    spreads = np.array([log.std(axis=0, ddof=1) for log in logs])
    return SetupErrors(
        _three(means.mean(axis=0)),
        _three(means.std(axis=0, ddof=1)),
        _three(np.sqrt((spreads**2).mean(axis=0))),
        len(logs),
        sum(len(log) for log in logs),
    )


def share_beyond(shifts_mm: Sequence[ArrayLike], action_level_mm: float) -> float:
    """Return the share of sessions whose shift reaches an action level along any axis."""
    logs = np.concatenate([np.asarray(log, dtype=np.float64).reshape(-1, 3) for log in shifts_mm])
    return float((np.abs(logs) >= action_level_mm).any(axis=1).mean())


def sd_from_absolute_errors(mean_mm: float, sd_mm: float) -> float:
    """Return the standard deviation of errors around 0 from the printed mean and SD of their absolute values.

    The second moment is the same: s^2 = mean^2 + SD^2. How much of it is systematic is not known.
    """
    return float(np.hypot(mean_mm, sd_mm))


def van_herk_margin_mm(systematic_mm: ArrayLike, random_mm: ArrayLike) -> NDArray[np.float64]:
    """Return the margin 2.5 Sigma + 0.7 sigma: 90 % of patients get 95 % of the dose in all of the CTV.

    References
    ----------
    van Herk 2000, doi:10.1016/S0360-3016(00)00518-6.
    """
    return 2.5 * np.asarray(systematic_mm, dtype=np.float64) + 0.7 * np.asarray(random_mm, dtype=np.float64)


def margin_with_breathing_mm(
    systematic_mm: ArrayLike,
    random_mm: ArrayLike,
    amplitude_mm: ArrayLike,
    *,
    penumbra_sd_mm: float = PENUMBRA_SD_MM,
    dose_level: float = 0.95,
) -> NDArray[np.float64]:
    """Return the margin for a plan on the mid-position of the breathing cycle.

    2.5 Sigma + b (sqrt(sigma^2 + (0.358 A)^2 + sigma_p^2) - sigma_p), b = 1.64 for the 95 % level.

    Parameters
    ----------
    amplitude_mm
        Peak-to-peak amplitude A of breathing; 0.358 A is the standard deviation of a cos^4 cycle.
    penumbra_sd_mm
        Width of the penumbra: 3.2 mm in water, more in lung.
    dose_level
        Isodose that must cover the CTV, as a share of the prescription.

    References
    ----------
    van Herk 2003, Int J Radiat Oncol Biol Phys 57 (suppl): S384; Sonke 2009, doi:10.1016/j.ijrobp.2008.08.017.
    """
    from scipy.special import ndtri

    b = float(ndtri(dose_level))
    random = np.asarray(random_mm, dtype=np.float64)
    breathing = BREATHING_SD_PER_AMPLITUDE * np.asarray(amplitude_mm, dtype=np.float64)
    blur = np.sqrt(random**2 + breathing**2 + penumbra_sd_mm**2) - penumbra_sd_mm
    return 2.5 * np.asarray(systematic_mm, dtype=np.float64) + b * blur


def margin_note(margin_mm: Sequence[float], needed_mm: Sequence[float]) -> tuple[Note, ...]:
    """Return a note for each axis whose margin is smaller than the errors ask for."""
    axes = ("left-right", "anterior-posterior", "craniocaudal")
    return tuple(
        Note(f"a margin of {given:g} mm is less than the {needed:.1f} mm that the errors ask for", axis)
        for axis, given, needed in zip(axes, margin_mm, needed_mm, strict=True)
        if given < needed - 0.05
    )


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
