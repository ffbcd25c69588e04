"""How an arc is delivered: gantry speed, dose rate, leaf speed and open area from one control point to the next."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.aperture import Aperture
from cantlie.machine.machine import Machine
from cantlie.plan.complexity import move_seconds, open_area_cm2
from cantlie.plan.pieces import aperture_between
from cantlie.plan.treatment import TreatmentBeam

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ArcProfile:
    """An arc interval by interval, arrays of shape (intervals,).

    Each interval takes as long as its slowest part needs at the machine's limits: monitor units at the nominal dose
    rate, the gantry, the leaves or the jaws. The others slow down with it.

    Parameters
    ----------
    gantry_deg
        Middle of the interval, from 0 to 360.
    mu, mu_per_deg
        Monitor units of one fraction.
    seconds, dose_rate_mu_min, gantry_deg_s, leaf_mm_s
        Estimated time, and the mean speeds that follow from it; of the leaves that of the fastest.
    open_cm2
        Open area in the middle of the interval, at the isocentre plane.
    """

    gantry_deg: Array
    mu: Array
    mu_per_deg: Array
    seconds: Array
    dose_rate_mu_min: Array
    gantry_deg_s: Array
    leaf_mm_s: Array
    open_cm2: Array

    def summary(self) -> dict[str, float]:
        """Return total time and the ranges, as plain values."""
        return {
            "seconds": float(self.seconds.sum()),
            "mu_per_deg_least": float(self.mu_per_deg.min()),
            "mu_per_deg_most": float(self.mu_per_deg.max()),
            "dose_rate_least_mu_min": float(self.dose_rate_mu_min.min()),
            "dose_rate_most_mu_min": float(self.dose_rate_mu_min.max()),
            "gantry_least_deg_s": float(self.gantry_deg_s.min()),
            "gantry_most_deg_s": float(self.gantry_deg_s.max()),
            "leaf_most_mm_s": float(self.leaf_mm_s.max()),
        }


def arc_profile(beam: TreatmentBeam, machine: Machine) -> ArcProfile:
    """Return how a dynamic beam is delivered."""
    rows = []
    for one, two in pairwise(beam.control_points):
        mu = two.cumulative_mu - one.cumulative_mu
        turn = abs(two.geometry.gantry_deg - one.geometry.gantry_deg)
        seconds = max(
            60.0 * mu / machine.max_dose_rate_mu_min,
            turn / machine.gantry_speed_deg_s,
            move_seconds(one.aperture, two.aperture, machine),
            1e-9,
        )
        middle = 0.5 * (one.geometry.gantry_deg + two.geometry.gantry_deg) % 360.0
        area = open_area_cm2(aperture_between(one.aperture, two.aperture, 0.5), machine)
        travel = _furthest_mm(one.aperture, two.aperture)
        rows.append(
            (middle, mu, mu / max(turn, 1e-9), seconds, 60.0 * mu / seconds, turn / seconds, travel / seconds, area)
        )
    return ArcProfile(*np.array(rows, dtype=np.float64).T)


def _furthest_mm(one: Aperture, two: Aperture) -> float:
    banks = ((one.leaf_lower_mm, two.leaf_lower_mm), (one.leaf_upper_mm, two.leaf_upper_mm))
    return max((float(np.abs(a - b).max()) for a, b in banks if a is not None and b is not None), default=0.0)
