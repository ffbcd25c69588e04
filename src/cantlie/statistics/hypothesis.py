"""The result of a test: which test ran, its statistic, its p-value and what to know beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cantlie.core.notes import Note


@dataclass(frozen=True, slots=True)
class HypothesisTest:
    """One test that ran.

    Parameters
    ----------
    method
        The test's name as it belongs into a paper's method section.
    statistic
        Its value (χ², t, z, U ...); None for exact tests that have none.
    df
        Degrees of freedom; None where there are none.
    p_value
        Two-sided p-value.
    notes
        What a careful reader must know, such as small expected counts.
    """

    method: str
    statistic: float | None
    df: float | None
    p_value: float
    notes: tuple[Note, ...] = ()

    def table(self) -> pd.DataFrame:
        """Return the test as a table of one row."""
        return pd.DataFrame(
            [{"method": self.method, "statistic": self.statistic, "df": self.df, "p_value": self.p_value}]
        )


def format_p(p_value: float, digits: int = 3) -> str:
    """Return a p-value as papers print it: three decimals, ``<0.001`` below that, a dash where there is none."""
    if np.isnan(p_value):
        return "–"
    limit = 10.0**-digits
    return f"<{limit:.{digits}f}" if p_value < limit else f"{p_value:.{digits}f}"
