"""The source of a cobalt machine: how its dose rate falls with the years."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

HALF_LIFE_DAYS = 1925.2
"""Half-life of cobalt-60: 5.271 years (evaluated nuclear data, LNHB 2006)."""


@dataclass(frozen=True, slots=True)
class CobaltSource:
    """A decaying source whose beam model states the dose per minute of the timer on a reference day.

    Parameters
    ----------
    reference_date
        The day on which the dose rate of the beam model's calibration was measured.
    half_life_days
        Half-life of the source.
    treatment_date
        The day for which timer settings hold; None for the reference day.
    """

    reference_date: date
    half_life_days: float = HALF_LIFE_DAYS
    treatment_date: date | None = None

    @property
    def remaining(self) -> float:
        """Dose rate on the day of treatment relative to the reference day; above 1 before it."""
        if self.treatment_date is None:
            return 1.0
        days = (self.treatment_date - self.reference_date).days
        return float(0.5 ** (days / self.half_life_days))
