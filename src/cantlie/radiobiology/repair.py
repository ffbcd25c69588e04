"""Incomplete repair between sessions: every pair of sessions interacts by what is not yet repaired between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import CantlieError


@dataclass(frozen=True, slots=True)
class Repair:
    """Repair of sublethal damage with one or several half-times.

    Parameters
    ----------
    half_times_h
        Half-times in hours.
    parts
        The part of the damage that each repairs, with sum 1.

    Raises
    ------
    CantlieError
        If a half-time is not positive or the parts do not add up to 1.

    References
    ----------
    Millar and Canney 1993, Int J Radiat Biol 64:275 (bi-exponential). For human liver no value is known; 1.5 to
    2.5 h with a band of 0.5 to 4 h is usual.
    """

    half_times_h: tuple[float, ...] = (2.0,)
    parts: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.half_times_h or len(self.half_times_h) != len(self.parts):
            raise CantlieError("repair needs one part for each half-time")
        if min(self.half_times_h) <= 0 or min(self.parts) < 0 or abs(sum(self.parts) - 1.0) > 1e-9:
            raise CantlieError("repair half-times must be positive and the parts must add up to 1")

    @classmethod
    def mono(cls, half_time_h: float) -> Repair:
        """Return repair with one half-time."""
        return cls((half_time_h,), (1.0,))

    @classmethod
    def bi(cls, fast_part: float, fast_h: float, slow_h: float) -> Repair:
        """Return repair with a fast and a slow part."""
        return cls((fast_h, slow_h), (fast_part, 1.0 - fast_part))

    def unrepaired(self, hours: ArrayLike) -> NDArray[np.float64]:
        """Return the part theta of the damage that is not repaired after a time, 0 to 1."""
        t = np.abs(np.asarray(hours, dtype=np.float64))
        total = np.zeros_like(t)
        for part, half in zip(self.parts, self.half_times_h, strict=True):
            total += part * np.exp2(-t / half)
        return total


def thames_h(sessions_per_day: int, interval_h: float, repair: Repair) -> float:
    """Return the factor h_m for m equal sessions a day with full repair overnight.

    BED = D (1 + (1 + h_m) d / (alpha/beta)), h_m = (2 / m) (theta / (1 - theta)) (m - (1 - theta^m) / (1 - theta)),
    written here as the sum over pairs, which also holds for repair with several half-times.

    References
    ----------
    Thames 1985, Int J Radiat Biol 47:319.
    """
    if sessions_per_day < 1:
        raise CantlieError(f"there is at least one session a day, not {sessions_per_day}")
    apart = np.arange(1, sessions_per_day)
    pairs = (sessions_per_day - apart) * repair.unrepaired(apart * interval_h)
    return float(2.0 * pairs.sum() / sessions_per_day)


def pair_matrix(
    which: Sequence[int], times_h: ArrayLike, repair: Repair, scales: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of the distinct session doses in the linear and in the quadratic term.

    Parameters
    ----------
    which
        For each session, the number of its dose among the distinct ones.
    times_h
        Time of each session in hours, in any order.
    scales
        Factor of each session on its dose; 1 where not given.

    Returns
    -------
    linear
        Sum of the factors per distinct dose, shape (m,).
    quadratic
        T[a, b] = sum over sessions i of dose a and j of dose b of s_i s_j theta(|t_i - t_j|), shape (m, m), symmetric.
    """
    number = np.asarray(which, dtype=int)
    times = np.asarray(times_h, dtype=np.float64)
    factor = np.ones(len(number)) if scales is None else np.asarray(scales, dtype=np.float64)
    if not (number.shape == times.shape == factor.shape) or number.ndim != 1:
        raise CantlieError("sessions need one dose, one time and one factor each")
    if len(number) == 0 or number.min() < 0 or not np.isfinite(times).all():
        raise CantlieError("a course needs at least one session at a known time")
    member = np.zeros((number.max() + 1, len(number)))
    member[number, np.arange(len(number))] = factor
    theta = repair.unrepaired(times[:, None] - times[None, :])
    return member.sum(axis=1), member @ theta @ member.T


def pairwise_bed_gy(
    doses_gy: Sequence[NDArray[np.floating]],
    which: Sequence[int],
    times_h: ArrayLike,
    alpha_beta_gy: float,
    repair: Repair,
    scales: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the BED per voxel of any schedule, with incomplete repair between all its sessions.

    BED = sum_i d_i + (sum_i d_i^2 + 2 sum_{i>j} d_i d_j theta(t_i - t_j)) / (alpha/beta). Sessions that share a dose
    array are collected first, so that the cost per voxel grows with the number of distinct arrays only.

    Parameters
    ----------
    doses_gy
        Distinct session doses, arrays of one shape.
    which, times_h, scales
        See `pair_matrix`.
    alpha_beta_gy
        alpha/beta in Gy.

    Raises
    ------
    CantlieError
        If shapes or numbers do not fit together.

    References
    ----------
    Lea and Catcheside 1942, doi:10.1007/BF02982830, for acute sessions; Thames 1985, Int J Radiat Biol 47:319.
    """
    if not alpha_beta_gy > 0:
        raise CantlieError(f"alpha/beta must be positive, not {alpha_beta_gy}")
    if not doses_gy or any(dose.shape != doses_gy[0].shape for dose in doses_gy):
        raise CantlieError("session doses must have one shape")
    linear, quadratic = pair_matrix(which, times_h, repair, scales)
    if len(linear) > len(doses_gy):
        raise CantlieError(f"a session refers to dose number {len(linear) - 1}, but there are only {len(doses_gy)}")
    used = len(linear)
    stack = np.stack([np.ascontiguousarray(dose, dtype=np.float32).ravel() for dose in doses_gy[:used]])
    return _sum_pairs(stack, linear, quadratic / alpha_beta_gy).reshape(doses_gy[0].shape)


@njit(cache=True)
def _sum_pairs(
    doses: NDArray[np.float32], linear: NDArray[np.float64], quadratic: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum L_a d_a + sum_ab Q_ab d_a d_b for every voxel, in blocks that stay in the cache."""
    count, size = doses.shape
    result = np.zeros(size)
    block = 1024
    for start in range(0, size, block):
        stop = min(start + block, size)
        for a in range(count):
            for n in range(start, stop):
                result[n] += doses[a, n] * (linear[a] + quadratic[a, a] * doses[a, n])
            for b in range(a):
                factor = 2.0 * quadratic[a, b]
                if factor != 0.0:
                    for n in range(start, stop):
                        result[n] += factor * doses[a, n] * doses[b, n]
    return result
