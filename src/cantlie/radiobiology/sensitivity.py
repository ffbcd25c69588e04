"""Sensitivity: a result over all corners of the ranges of its uncertain parameters, and which parameter drives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from cantlie.core.errors import CantlieError

# How far the parameters of the models are uncertain, for bands by default.
ALPHA_BETA_LIVER_GY = (2.0, 3.0)
ALPHA_BETA_TUMOUR_GY = (3.0, 15.0)
REPAIR_HALF_TIME_H = (0.5, 4.0)


@dataclass(frozen=True, slots=True)
class Band:
    """A result with its range.

    Attributes
    ----------
    nominal
        The result for the nominal parameters.
    low, high
        The least and largest result over all combinations of the parameters' ends and nominal values.
    swings
        Parameter to the two results when it alone goes to its ends.
    """

    nominal: float
    low: float
    high: float
    swings: Mapping[str, tuple[float, float]]

    @property
    def driver(self) -> str:
        """The parameter with the largest swing; empty where nothing varies."""
        if not self.swings:
            return ""
        return max(self.swings, key=lambda name: abs(self.swings[name][1] - self.swings[name][0]))


def band(result: Callable[..., float], nominal: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> Band:
    """Return a result with its range over uncertain parameters.

    Parameters
    ----------
    result
        A function of keyword parameters.
    nominal
        The nominal value of every parameter.
    ranges
        The low and the high end of the uncertain ones, at most 6 of them.

    Raises
    ------
    CantlieError
        If a range does not hold its nominal value or names no parameter.
    """
    for name, (low, high) in ranges.items():
        if name not in nominal or not low <= nominal[name] <= high:
            raise CantlieError(f"the range {low:g} to {high:g} of {name} does not hold its nominal value")
    if len(ranges) > 6:
        raise CantlieError("a band over more than 6 parameters takes too long", remedy="vary the important ones")
    names = list(ranges)
    levels = [(ranges[name][0], nominal[name], ranges[name][1]) for name in names]
    values = {corner: result(**{**nominal, **dict(zip(names, corner, strict=True))}) for corner in product(*levels)}
    centre = tuple(nominal[name] for name in names)
    swings = {}
    for n, name in enumerate(names):
        low, high = (values[(*centre[:n], end, *centre[n + 1 :])] for end in ranges[name])
        swings[name] = (low, high)
    return Band(values[centre], min(values.values()), max(values.values()), swings)
