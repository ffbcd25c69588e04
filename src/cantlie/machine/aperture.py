"""Apertures: what jaws and leaves leave open, and the photon fluence that comes through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Aperture:
    """Positions of jaws and leaves at the isocentre plane, in the beam-limiting-device frame.

    Parameters
    ----------
    jaw_x_mm, jaw_y_mm
        Lower and upper edge of the jaw opening along x and y.
    leaf_lower_mm, leaf_upper_mm
        Tip positions of the two leaf banks (lower bank, upper bank) along the direction in which the leaves move,
        one value per leaf pair in the order of the machine's leaf boundaries; None for a field without leaves.
    """

    jaw_x_mm: tuple[float, float]
    jaw_y_mm: tuple[float, float]
    leaf_lower_mm: NDArray[np.float64] | None = None
    leaf_upper_mm: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FluenceMap:
    """Primary photon fluence of a beam direction on square pixels of the isocentre plane.

    Parameters
    ----------
    x_mm, y_mm
        Pixel centres in the beam-limiting-device frame, evenly spaced, shapes (nx,) and (ny,).
    values_mu
        Monitor units that reach each pixel in full (1 in the open beam per MU), shape (ny, nx).
    """

    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    values_mu: NDArray[np.floating]

    @property
    def pixel_mm(self) -> float:
        """Width of a pixel."""
        return float(self.x_mm[1] - self.x_mm[0])
