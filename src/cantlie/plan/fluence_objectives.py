"""Objectives on the fluence itself: smoothness and total monitor units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.products import dot

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Smoothness:
    """Mean squared difference of neighbouring beamlets.

    Parameters
    ----------
    first, second
        Positions of the two beamlets of each neighbouring pair, shape (pairs,).
    weight
        Of the objective.
    scale_mu
        Fluence that differences are measured by.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: float = 1.0
    scale_mu: float = 1.0

    def add_gradient(self, fluence_mu: Array, gradient: Array) -> float:
        """Return the value and add the gradient to an array of the shape of the fluence."""
        if self.first.size == 0:
            return 0.0
        factor = self.weight / (self.first.size * self.scale_mu**2)
        difference = np.asarray(fluence_mu[self.first] - fluence_mu[self.second], dtype=np.float64)
        n = len(fluence_mu)
        gradient += 2 * factor * np.bincount(self.first, difference, n)
        gradient -= 2 * factor * np.bincount(self.second, difference, n)
        return factor * dot(difference, difference)

    def hessian_vector(self, fluence_mu: Array, direction: Array) -> NDArray[np.float64]:
        """Return the Hessian times a direction."""
        result = np.zeros(len(fluence_mu))
        self.add_gradient(np.asarray(direction, dtype=np.float64), result)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class TotalMu:
    """The sum of the fluence of all beamlets, a measure of the monitor units."""

    weight: float = 1.0
    scale_mu: float = 1.0

    def add_gradient(self, fluence_mu: Array, gradient: Array) -> float:
        """Return the value and add the gradient to an array of the shape of the fluence."""
        gradient += self.weight / (self.scale_mu * len(fluence_mu))
        return self.weight * float(np.mean(fluence_mu)) / self.scale_mu

    def hessian_vector(self, fluence_mu: Array, direction: Array) -> NDArray[np.float64]:
        """Return the Hessian times a direction: zero."""
        return np.zeros(len(fluence_mu))
