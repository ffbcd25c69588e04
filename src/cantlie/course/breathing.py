"""Breathing as a displacement of the liver in time, and how long it dwells where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import InputError

Reference = Literal["mean", "exhale"]


@dataclass(frozen=True, slots=True)
class Breathing:
    """Regular breathing: the liver leaves exhale along a line and returns, as cos to the power 2n of the time.

    u(t) = cos^(2n)(pi t / T + phase) runs from 0 (exhale, where it dwells) to 1 (inhale); the displacement is u times
    the amplitude, towards the feet and the front (Lujan 1999, Med Phys 26:715; n = 2 as in van Herk 2003).

    Parameters
    ----------
    amplitude_mm
        Peak to peak along x, y and z, sizes only: inhale is towards the feet (-z) and the front (-y); x to the left.
    period_s, power
        T and n.
    reference
        Where the planning CT shows the liver: at the mean over time, or in exhale.
    """

    amplitude_mm: tuple[float, float, float]
    period_s: float = 4.0
    power: int = 2
    reference: Reference = "mean"

    def __post_init__(self) -> None:
        if not all(np.isfinite(a) and 0 <= a <= 80 for a in self.amplitude_mm) or not any(self.amplitude_mm):
            raise InputError(
                f"a motion of {', '.join(f'{a:g}' for a in self.amplitude_mm)} mm is not possible",
                where="motion",
                remedy="give the peak-to-peak motion along x, y and z, 0 to 80 mm",
            )
        if not 0.5 <= self.period_s <= 20 or self.power < 1:
            raise InputError("a breathing period must be 0.5 to 20 s and the power at least 1", where="motion")

    @property
    def inhale_mm(self) -> NDArray[np.float64]:
        """Displacement from exhale to inhale (x left, y posterior, z head)."""
        x, y, z = self.amplitude_mm
        return np.array([x, -y, -z], dtype=np.float64)

    def share(self, time_s: ArrayLike, phase: float = 0.0) -> NDArray[np.float64]:
        """Return u, 0 in exhale and 1 in inhale, at times in s; ``phase`` from 0 to 1 shifts the cycle."""
        angle = np.pi * (np.asarray(time_s, dtype=np.float64) / self.period_s + phase)
        result: NDArray[np.float64] = np.cos(angle) ** (2 * self.power)
        return result

    def states(self, count: int) -> BreathingStates:
        """Return the motion as a few states with equal steps of u, how long it dwells in each, and where they lie."""
        edges = np.linspace(0.0, 1.0, count + 1)
        samples = self.share((np.arange(20000) + 0.5) / 20000 * self.period_s)
        state = np.clip(np.searchsorted(edges, samples, side="right") - 1, 0, count - 1)
        dwell = np.bincount(state, minlength=count) / len(samples)
        means = np.bincount(state, samples, count) / np.maximum(np.bincount(state, minlength=count), 1)
        means = np.where(dwell > 0, means, 0.5 * (edges[:-1] + edges[1:]))
        middle = float(samples.mean()) if self.reference == "mean" else 0.0
        return BreathingStates(edges, dwell, (means - middle)[:, None] * self.inhale_mm)


@dataclass(frozen=True, slots=True, eq=False)
class BreathingStates:
    """States of breathing.

    Parameters
    ----------
    edges
        Bounds of u, shape (n + 1,).
    dwell
        Share of the time in each state, shape (n,); they add up to 1.
    shift_mm
        Displacement of the liver from its place on the planning CT, shape (n, 3).
    """

    edges: NDArray[np.float64]
    dwell: NDArray[np.float64]
    shift_mm: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.dwell)

    def of(self, share: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the state of each value of u."""
        found = np.searchsorted(self.edges, share, side="right") - 1
        return np.clip(found, 0, len(self.dwell) - 1).astype(np.int64)


def states_of_shifts(shifts_mm: Sequence[Sequence[float]], dwell: Sequence[float] | None = None) -> BreathingStates:
    """Return states from measured displacements, as those of the phases of a 4D-CT (evenly long without ``dwell``)."""
    shifts = np.asarray(shifts_mm, dtype=np.float64).reshape(-1, 3)
    if not len(shifts):
        raise InputError("there is no phase", where="motion")
    shares = np.full(len(shifts), 1.0 / len(shifts)) if dwell is None else np.asarray(dwell, dtype=np.float64)
    if len(shares) != len(shifts) or (shares < 0).any() or not shares.sum() > 0:
        raise InputError("the phases and their durations do not fit", where="motion")
    return BreathingStates(np.linspace(0, 1, len(shifts) + 1), shares / shares.sum(), shifts)
