"""High doses per fraction: the linear-quadratic-linear model and the universal survival curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import CantlieError
from cantlie.radiobiology.linear_quadratic import bed_gy


def lql_bed_gy(
    dose_per_fraction_gy: ArrayLike,
    fractions: float,
    alpha_beta_gy: float,
    transition_gy: float,
    gamma_over_alpha: float | None = None,
) -> NDArray[np.float64]:
    """Return the BED of the linear-quadratic-linear model.

    Up to the transition dose it is linear-quadratic; beyond it each Gy adds gamma/alpha, by default the slope that the
    curve has there (1 + 2 D_T / (alpha/beta)).

    References
    ----------
    Astrahan 2008, doi:10.1118/1.2969065, equations 3 to 5.
    """
    if not (transition_gy > 0 and alpha_beta_gy > 0):
        raise CantlieError(
            f"transition dose and alpha/beta must be positive, not {transition_gy} and {alpha_beta_gy} Gy"
        )
    d = np.asarray(dose_per_fraction_gy, dtype=np.float64)
    slope = 1.0 + 2.0 * transition_gy / alpha_beta_gy if gamma_over_alpha is None else gamma_over_alpha
    below = bed_gy(np.minimum(d, transition_gy), fractions, alpha_beta_gy)
    return below + fractions * slope * np.maximum(d - transition_gy, 0.0)


@dataclass(frozen=True, slots=True)
class UniversalSurvivalCurve:
    """Survival that is linear-quadratic up to a transition dose and multitarget, a straight line, above it.

    Park 2008, doi:10.1016/j.ijrobp.2007.10.059. The default is the set for non-small-cell lung cancer, from memory; no
    set for the liver exists.

    Parameters
    ----------
    beta_per_gy2, transition_gy
        As published; where None they follow from the other three so that the curve is smooth:
        beta = (1 - alpha D0)^2 / (4 D0 Dq), D_T = 2 Dq / (1 - alpha D0).
    """

    alpha_per_gy: float = 0.33
    d0_gy: float = 1.25
    dq_gy: float = 1.8
    beta_per_gy2: float | None = 0.0385
    transition_gy: float | None = 6.2

    @property
    def beta(self) -> float:
        """beta in Gy⁻²."""
        if self.beta_per_gy2 is not None:
            return self.beta_per_gy2
        return (1.0 - self.alpha_per_gy * self.d0_gy) ** 2 / (4.0 * self.d0_gy * self.dq_gy)

    @property
    def transition(self) -> float:
        """Transition dose in Gy."""
        if self.transition_gy is not None:
            return self.transition_gy
        return 2.0 * self.dq_gy / (1.0 - self.alpha_per_gy * self.d0_gy)

    def minus_log_survival(self, dose_per_fraction_gy: ArrayLike) -> NDArray[np.float64]:
        """Return -ln S of one fraction."""
        d = np.asarray(dose_per_fraction_gy, dtype=np.float64)
        quadratic = self.alpha_per_gy * d + self.beta * d**2
        straight = (d - self.dq_gy) / self.d0_gy
        return np.where(d <= self.transition, quadratic, straight)

    def bed_gy(self, dose_per_fraction_gy: ArrayLike, fractions: float) -> NDArray[np.float64]:
        """Return the BED: -ln S of all fractions over alpha."""
        return fractions * self.minus_log_survival(dose_per_fraction_gy) / self.alpha_per_gy
