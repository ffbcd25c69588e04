"""Multileaf collimators and jaws: what they can form, and which rule an aperture breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.aperture import Aperture

Axis = Literal["X", "Y"]

TOLERANCE_MM = 1e-6


@dataclass(frozen=True, slots=True)
class JawPair:
    """The two jaws that move along one axis; positions at the isocentre plane.

    What passes a jaw belongs to the beam (``BeamModel.jaw_transmission``).

    Parameters
    ----------
    retraction_mm
        How far each jaw withdraws from the axis: the lower jaw reaches ``-retraction_mm``.
    over_travel_mm
        How far each jaw crosses the axis.
    independent
        Whether the two jaws move one without the other; otherwise they stand symmetrically.
    min_gap_mm
        Least opening.
    speed_mm_s
        Speed of a jaw.
    """

    retraction_mm: float
    over_travel_mm: float
    independent: bool = True
    min_gap_mm: float = 0.0
    speed_mm_s: float = 15.0

    def broken_rules(self, opening_mm: tuple[float, float], axis: Axis) -> list[str]:
        """Return one clause for each limit that an opening breaks; empty when it can be formed."""
        lower, upper = opening_mm
        rules = []
        if lower < -self.retraction_mm - TOLERANCE_MM or upper > self.retraction_mm + TOLERANCE_MM:
            rules.append(f"{axis} jaw opens beyond {self.retraction_mm:g} mm ({lower:.1f} to {upper:.1f} mm)")
        if lower > self.over_travel_mm + TOLERANCE_MM or upper < -self.over_travel_mm - TOLERANCE_MM:
            rules.append(f"{axis} jaw crosses the axis by more than {self.over_travel_mm:g} mm")
        if upper - lower < self.min_gap_mm - TOLERANCE_MM:
            rules.append(f"{axis} jaws stand closer than {self.min_gap_mm:g} mm")
        if not self.independent and abs(lower + upper) > 0.1:
            rules.append(f"{axis} jaws do not stand symmetrically")
        return rules


@dataclass(frozen=True, slots=True, eq=False)
class Mlc:
    """A multileaf collimator, all lengths at the isocentre plane.

    Parameters
    ----------
    axis
        The direction in which the leaves move, in the beam-limiting-device frame.
    leaf_boundaries_mm
        Edges of the leaf pairs across the direction of movement, shape (pairs + 1,), increasing.
    retraction_mm
        How far a tip withdraws from the axis: the lower bank reaches ``-retraction_mm``.
    over_travel_mm
        How far a tip crosses the axis.
    max_spread_mm
        Largest distance between the most extended and the most retracted tip of a bank.
    min_gap_mm
        Least gap between the opposed tips of a pair, everywhere, also under a jaw.
    min_adjacent_gap_mm
        Least gap between a tip and the opposed tips of the neighbouring pairs; None where leaves may interdigitate.
    transmission
        Share of the open beam behind a closed leaf, leakage between leaves included.
    tip_offset_mm
        How much further than its stated position a rounded tip lets the beam through (half the dosimetric leaf gap).
    tongue_and_groove_mm
        Width by which a leaf reaches under its neighbour.
    leaf_speed_mm_s
        Largest speed of a leaf.
    """

    axis: Axis
    leaf_boundaries_mm: NDArray[np.float64]
    retraction_mm: float
    over_travel_mm: float
    max_spread_mm: float
    min_gap_mm: float = 0.0
    min_adjacent_gap_mm: float | None = None
    transmission: float = 0.0
    tip_offset_mm: float = 0.0
    tongue_and_groove_mm: float = 0.0
    leaf_speed_mm_s: float = 20.0

    @property
    def pairs(self) -> int:
        """Number of leaf pairs."""
        return len(self.leaf_boundaries_mm) - 1

    @property
    def leaf_centres_mm(self) -> NDArray[np.float64]:
        """Middle of each leaf pair across the direction of movement, shape (pairs,)."""
        return 0.5 * (self.leaf_boundaries_mm[1:] + self.leaf_boundaries_mm[:-1])

    @property
    def leaf_widths_mm(self) -> NDArray[np.float64]:
        """Width of each leaf pair, shape (pairs,)."""
        return np.diff(self.leaf_boundaries_mm)

    def broken_rules(self, lower_mm: NDArray[np.float64], upper_mm: NDArray[np.float64]) -> list[str]:
        """Return one clause for each limit that the tips break, shapes (pairs,); empty when they can be formed."""
        if len(lower_mm) != self.pairs or len(upper_mm) != self.pairs:
            return [f"{len(lower_mm)} and {len(upper_mm)} leaves given for {self.pairs} leaf pairs"]
        rules: list[str] = []

        def check(excess_mm: NDArray[np.float64], clause: str) -> None:
            if excess_mm.size and excess_mm.max() > TOLERANCE_MM:
                rules.append(f"leaf pair {int(np.argmax(excess_mm)) + 1}: {clause} (by {excess_mm.max():.2f} mm)")

        check(-self.retraction_mm - lower_mm, f"lower tip retracted beyond {self.retraction_mm:g} mm")
        check(upper_mm - self.retraction_mm, f"upper tip retracted beyond {self.retraction_mm:g} mm")
        check(lower_mm - self.over_travel_mm, f"lower tip further across the axis than {self.over_travel_mm:g} mm")
        check(-upper_mm - self.over_travel_mm, f"upper tip further across the axis than {self.over_travel_mm:g} mm")
        check(self.min_gap_mm - (upper_mm - lower_mm), f"opposed tips closer than {self.min_gap_mm:g} mm")
        if self.min_adjacent_gap_mm is not None:
            gap = self.min_adjacent_gap_mm
            clause = f"tip closer than {gap:g} mm to the opposed tip of its neighbour"
            check(gap - (upper_mm[1:] - lower_mm[:-1]), clause)
            check(gap - (upper_mm[:-1] - lower_mm[1:]), clause)
        for bank, tips in (("lower", lower_mm), ("upper", upper_mm)):
            if np.ptp(tips) > self.max_spread_mm + TOLERANCE_MM:
                rules.append(f"{bank} bank spreads over {np.ptp(tips):.1f} mm, more than {self.max_spread_mm:g} mm")
        return rules


def pairs_in_jaws(mlc: Mlc, aperture: Aperture) -> slice:
    """Return the leaf pairs that stand at least partly in the jaw opening across the leaves."""
    low, high = aperture.jaw_y_mm if mlc.axis == "X" else aperture.jaw_x_mm
    first = int(np.searchsorted(mlc.leaf_boundaries_mm, low + 1e-6, side="right")) - 1
    last = int(np.searchsorted(mlc.leaf_boundaries_mm, high - 1e-6, side="left"))
    return slice(max(first, 0), min(max(last, first + 1), mlc.pairs))
