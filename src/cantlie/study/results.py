"""What a study run gives: tables of cells with the printed number beside, curves, flow, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.cohort.eligibility import ArmFlow, FlowStep
from cantlie.cohort.response import CohortResponse
from cantlie.cohort.tables import Cohort
from cantlie.core.notes import Note
from cantlie.study.definition import FigureSpec, Study

Convention = Literal["as_published", "recommended"]


@dataclass(frozen=True, slots=True)
class StudyCell:
    """One cell: its text, the text that the paper prints there, and whether they agree (None: nothing printed)."""

    text: str
    printed: str | None = None
    agrees: bool | None = None

    @classmethod
    def compared(cls, text: str, printed: str | None) -> StudyCell:
        """Return a cell that agrees when both texts are the same."""
        return cls(text, printed, None if printed is None else text == printed)


@dataclass(frozen=True, slots=True)
class StudyTable:
    """A table in the layout of the paper; ``rows`` are cells under ``columns``.

    ``shown`` limits the rows in the report; the CSV file has all of them.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[StudyCell, ...], ...]
    notes: tuple[str, ...] = ()
    in_paper: bool = True
    shown: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CurveGroup:
    """One step curve with its band, censor marks and numbers at risk, as arrays ready to draw."""

    label: str
    n: int
    events: int
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    censor_time: NDArray[np.float64]
    censor_value: NDArray[np.float64]
    risk_time: NDArray[np.float64]
    at_risk: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StudyFigure:
    """A figure as data: curves for ``km`` and ``cif``, points for ``forest`` and ``love``, counts for ``response``.

    A ``waterfall`` has the responses of single patients as its source, a ``swimmer`` the cohort.
    """

    spec: FigureSpec
    groups: tuple[CurveGroup, ...] = ()
    text: str = ""
    points: tuple[Mapping[str, Any], ...] = ()
    in_paper: bool = True
    source: CohortResponse | Cohort | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StudyResult:
    """Everything that a study run found.

    ``recorded`` names the columns of the cohort that hold a value (``courses.dose_gy``); ``consent`` counts patients by
    what the cohort says of their consent.
    """

    study: Study
    cohort_label: str
    synthetic: bool
    size: int
    tables: tuple[StudyTable, ...]
    figures: tuple[StudyFigure, ...]
    flow: tuple[FlowStep, ...]
    arms: tuple[ArmFlow, ...]
    notes: tuple[Note, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    consent: Mapping[str, int] = field(default_factory=dict)

    def disagreements(self) -> list[dict[str, str]]:
        """Return every cell whose number is not the printed one: table, row, column, printed, found."""
        return [
            {
                "table": table.id,
                "row": " / ".join(c.text for c in row[:2] if c.text),
                "column": table.columns[number],
                "printed": str(cell.printed),
                "found": cell.text,
            }
            for table in self.tables
            for row in table.rows
            for number, cell in enumerate(row)
            if cell.agrees is False
        ]

    def compared(self) -> tuple[int, int]:
        """Return how many cells agree with print, and how many were compared."""
        verdicts = [c.agrees for t in self.tables for r in t.rows for c in r if c.agrees is not None]
        return sum(1 for v in verdicts if v), len(verdicts)
