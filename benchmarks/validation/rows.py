"""Rows of the validation: what was measured, what it may be, what it was, and how it was measured."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One judged number.

    Parameters
    ----------
    part, what, how
        Chapter, quantity, and how it was measured.
    found, unit
        The number. nan is never a pass.
    limit, side
        Its limit, and how it is meant: ``within`` (absolute value), ``at most``, ``at least``; ``reported`` has none.
    sigma
        Standard uncertainty of the number by the noise of a Monte Carlo reference; two of them widen a limit.
    note
        What a reader must know to understand the verdict.
    """

    part: str
    what: str
    found: float
    unit: str
    limit: float
    side: str
    how: str
    sigma: float = 0.0
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the number keeps its limit; None where there is none."""
        if self.side == "reported":
            return None
        if not math.isfinite(self.found):
            return False
        if self.side == "within":
            return abs(self.found) <= self.limit + 2 * self.sigma
        if self.side == "at most":
            return self.found <= self.limit + 2 * self.sigma
        return self.found >= self.limit - 2 * self.sigma

    @property
    def verdict(self) -> str:
        """``pass``, ``FAIL`` or ``reported``."""
        return {True: "pass", False: "FAIL", None: "reported"}[self.passed]

    @property
    def limit_text(self) -> str:
        """The limit in words."""
        if self.side == "reported":
            return "–"
        sign = {"within": "±", "at most": "≤ ", "at least": "≥ "}[self.side]
        return f"{sign}{self.limit:g} {self.unit}" + (" + 2 σ" if self.sigma else "")

    @property
    def found_text(self) -> str:
        """The number with its uncertainty."""
        if not math.isfinite(self.found):
            return "not found"
        size = abs(self.found)
        digits = 1 if size >= 100 else 2 if size >= 0.01 or self.sigma else 4
        number = f"{self.found:.{digits}f}"
        if self.sigma:
            number += f" ({self.sigma:.2f})"
        return f"{number} {self.unit}"


@dataclass(slots=True)
class Chapter:
    """A chapter of the page: an introduction, rows, figures (name, caption) and closing remarks."""

    key: str
    title: str
    introduction: str
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(
        self, what: str, found: float, unit: str, limit: float, side: str, how: str, *, sigma: float = 0.0,
        note: str = "",
    ) -> None:  # fmt: skip
        """Add a row."""
        self.rows.append(Row(self.title, what, float(found), unit, float(limit), side, how, float(sigma), note))

    def count(self) -> tuple[int, int, int]:
        """Return how many rows passed, failed and are only reported."""
        verdicts = [row.passed for row in self.rows]
        return verdicts.count(True), verdicts.count(False), verdicts.count(None)


def table_csv(rows: Iterable[Row]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "what", "found", "sigma", "unit", "limit", "side", "verdict", "how", "note"])
    for row in rows:
        limit = "" if row.side == "reported" else f"{row.limit:g}"
        found = f"{row.found:.6g}" if np.isfinite(row.found) else ""
        sigma = f"{row.sigma:.3g}" if row.sigma else ""
        writer.writerow([row.part, row.what, found, sigma, row.unit, limit, row.side, row.verdict, row.how, row.note])
    return text.getvalue()
