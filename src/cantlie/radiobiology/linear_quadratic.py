"""The linear-quadratic model: BED and EQD2, per voxel and per session, with delivery time and repopulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import CantlieError
from cantlie.core.notes import Note

HIGH_DOSE_PER_FRACTION_GY = 10.0


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise CantlieError(f"{name} must be positive, not {value}", remedy="give a value above 0")
    return float(value)


def bed_gy(dose_per_fraction_gy: ArrayLike, fractions: float, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Return the biologically effective dose n d (1 + d / (alpha/beta)).

    Parameters
    ----------
    dose_per_fraction_gy
        Dose per fraction, any shape.
    fractions
        Number of fractions.
    alpha_beta_gy
        alpha/beta in Gy.

    References
    ----------
    Fowler 1989, doi:10.1259/0007-1285-62-740-679, equation 6.
    """
    d = np.asarray(dose_per_fraction_gy, dtype=np.float64)
    return fractions * d * (1.0 + d / _positive("alpha/beta", alpha_beta_gy))


def eqd2_from_bed_gy(bed: ArrayLike, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Return the dose in 2 Gy fractions of the same effect: BED / (1 + 2 / (alpha/beta))."""
    return np.asarray(bed, dtype=np.float64) / (1.0 + 2.0 / _positive("alpha/beta", alpha_beta_gy))


def eqd2_gy(dose_per_fraction_gy: ArrayLike, fractions: float, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Return the equivalent dose in 2 Gy fractions of equal fractions: n d (d + a/b) / (2 + a/b)."""
    return eqd2_from_bed_gy(bed_gy(dose_per_fraction_gy, fractions, alpha_beta_gy), alpha_beta_gy)


@njit(cache=True)
def _add_bed(total: NDArray[np.float64], dose: NDArray[np.floating], count: float, alpha_beta: float) -> None:
    for n in range(total.size):
        d = dose[n]
        total[n] += count * d * (1.0 + d / alpha_beta)


def bed_of_sessions_gy(
    doses_gy: Sequence[NDArray[np.floating]], counts: Sequence[float], alpha_beta_gy: float
) -> NDArray[np.float64]:
    """Return the BED per voxel of sessions of different dose: the sum over sessions of d (1 + d / (alpha/beta)).

    Repair between sessions is complete; see `repair.pairwise_bed_gy` where it is not.

    Parameters
    ----------
    doses_gy
        Distinct session doses, arrays of one shape.
    counts
        How many sessions give each of them.

    Raises
    ------
    CantlieError
        If the shapes differ.
    """
    _positive("alpha/beta", alpha_beta_gy)
    if not doses_gy or len(doses_gy) != len(counts) or any(d.shape != doses_gy[0].shape for d in doses_gy):
        raise CantlieError("session doses must have one shape and one count each")
    total = np.zeros(doses_gy[0].size)
    for dose, count in zip(doses_gy, counts, strict=True):
        _add_bed(total, np.ascontiguousarray(dose).ravel(), float(count), float(alpha_beta_gy))
    return total.reshape(doses_gy[0].shape)


def eqd2_of_sessions_gy(
    doses_gy: Sequence[NDArray[np.floating]], counts: Sequence[float], alpha_beta_gy: float
) -> NDArray[np.float64]:
    """Return the EQD2 per voxel of sessions of different dose, summed session by session."""
    return eqd2_from_bed_gy(bed_of_sessions_gy(doses_gy, counts, alpha_beta_gy), alpha_beta_gy)


def delivery_factor(delivery_h: float, repair_half_time_h: float) -> float:
    """Return the factor G on the quadratic term of a fraction that takes long: 2 (x - 1 + e^-x) / x^2, x = mu T.

    References
    ----------
    Lea and Catcheside 1942, doi:10.1007/BF02982830.
    """
    if not delivery_h >= 0:
        raise CantlieError(f"a delivery time is not negative, not {delivery_h} h", remedy="give 0 or more hours")
    x = np.log(2.0) / _positive("the repair half-time", repair_half_time_h) * delivery_h
    if x < 1e-4:
        return float(1.0 - x / 3.0)
    return float(2.0 * (x - 1.0 + np.exp(-x)) / x**2)


@dataclass(frozen=True, slots=True)
class Repopulation:
    """Loss of BED by proliferation: ``rate_gy_per_day`` for every day after ``kickoff_days``.

    References
    ----------
    Fowler 2010, doi:10.1259/bjr/31372149. For liver metastases no agreed values exist: the default is no loss.
    """

    rate_gy_per_day: float = 0.0
    kickoff_days: float = 28.0

    @classmethod
    def from_doubling_time(cls, alpha_per_gy: float, doubling_days: float, kickoff_days: float) -> Repopulation:
        """Return the loss for a potential doubling time: K = ln 2 / (alpha T_p)."""
        rate = np.log(2.0) / (_positive("alpha", alpha_per_gy) * _positive("the doubling time", doubling_days))
        return cls(float(rate), kickoff_days)

    def loss_gy(self, overall_days: float) -> float:
        """Return the BED that is lost in an overall time from the first to the last session."""
        return self.rate_gy_per_day * max(0.0, overall_days - self.kickoff_days)


@dataclass(frozen=True, slots=True)
class OverallTime:
    """The two ways to count the overall time of a course of two halves, and what each means for the tumour.

    Attributes
    ----------
    per_half_days
        From the first to the last session of each half.
    whole_course_days
        From the first to the last session of the course.
    start_delay_days
        Days until each half's own first session.
    """

    per_half_days: tuple[float, ...]
    whole_course_days: float
    start_delay_days: tuple[float, ...]

    def tumour_bed_gy(self, bed: float, repopulation: Repopulation) -> dict[str, tuple[float, ...]]:
        """Return the tumour BED after repopulation, counted per half and over the whole course."""
        return {
            "per half": tuple(bed - repopulation.loss_gy(days) for days in self.per_half_days),
            "whole course": tuple(bed - repopulation.loss_gy(self.whole_course_days) for _ in self.per_half_days),
        }

    def growth_before_start(self, doubling_days: float) -> tuple[float, ...]:
        """Return by what factor the untreated tumour of each half grows before its first session."""
        return tuple(
            float(2.0 ** (delay / _positive("the doubling time", doubling_days))) for delay in self.start_delay_days
        )


def high_dose_note(largest_dose_per_fraction_gy: float, where: str) -> tuple[Note, ...]:
    """Return a note where the linear-quadratic model is used beyond the doses that it is well tested for."""
    if largest_dose_per_fraction_gy <= HIGH_DOSE_PER_FRACTION_GY:
        return ()
    message = (
        f"up to {largest_dose_per_fraction_gy:.1f} Gy per fraction: the linear-quadratic model is well tested to about "
        "10 Gy (Brenner 2008, PMC2750078); beyond, compare LQ-L and USC"
    )
    return (Note(message, where),)
