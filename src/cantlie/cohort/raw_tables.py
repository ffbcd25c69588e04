"""From the cells of a file to a checked cohort."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cantlie.cohort.consistency import check_consistency
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort
from cantlie.cohort.validation import CheckedTable, InvalidCohort, Problem, RawTable, check_cohort
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note
from cantlie.core.spreadsheet import SheetError, read_sheet

_LONGEST_MONTHS = 480.0  # 40 years of follow-up
_ENOUGH = 5  # so many values before fractions are suspected


def read_text(file: Path) -> str:
    """Return the text of a file, refused with a clear sentence when it is not UTF-8 (with or without a mark)."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CohortError(f"cannot be read: {error.strerror}", where=file.name, remedy="check the file") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise InvalidCohort(
            [
                Problem(
                    file.name,
                    row,
                    "",
                    "encoding",
                    "the file is not UTF-8 text",
                    "save it as CSV UTF-8",
                )
            ]
        ) from error


def read_csv_table(file: Path, name: str) -> RawTable:
    """Read one CSV file (see `core.spreadsheet`) as text cells."""
    try:
        sheet = read_sheet(read_text(file), file.name)
    except SheetError as error:
        raise InvalidCohort([Problem(file.name, error.line, "", error.rule, error.what, error.remedy)]) from error
    cells = pd.DataFrame(sheet.rows, columns=pd.Index(sheet.header), dtype=object)
    return with_names(RawTable(name, file.name, cells, np.array(sheet.lines, dtype=int), sheet.decimal_comma))


def with_names(raw: RawTable) -> RawTable:
    """Return a raw table, refused where a column has no name or two have the same."""
    unnamed = [i for i, column in enumerate(raw.cells.columns) if not str(column).strip()]
    if unnamed:
        raise InvalidCohort(
            [
                Problem(
                    raw.file,
                    1,
                    f"number {unnamed[0] + 1}",
                    "unnamed-column",
                    "a column has no name",
                    "name it or remove it",
                )
            ]
        )
    names = list(raw.cells.columns)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidCohort(
            [Problem(raw.file, 1, repeated[0], "duplicate-column", "the column occurs twice", "keep one of the two")]
        )
    return raw


def build_cohort(
    raw: list[RawTable],
    label: str,
    *,
    synthetic: bool = False,
    sources: Mapping[str, str] | None = None,
    notes: tuple[Note, ...] = (),
    extra: Mapping[str, frozenset[str]] | None = None,
) -> Cohort:
    """Validate raw tables and return the cohort.

    Raises
    ------
    InvalidCohort
        If a rule is broken.
    """
    if not any(table.name == "patients" for table in raw):
        places = ", ".join(sorted({table.file for table in raw})) or label
        raise InvalidCohort(
            [Problem(places, None, "", "missing-table", "there is no table patients", "add it as patients.csv")]
        )
    checked, problems = check_cohort(raw, extra)
    if not problems:
        problems = check_consistency(checked)
    if problems:
        raise InvalidCohort(problems)
    tables = {name: checked[name].frame for name in TABLES if name in checked}
    suspected = (*_fractions(checked), *_days(checked))
    return Cohort(tables, label, synthetic, dict(sources or {}), (*notes, *suspected))


def _days(tables: Mapping[str, CheckedTable]) -> list[Note]:
    """Return a note for each endpoint whose longest time in months is longer than anybody is followed."""
    if "outcomes" not in tables:
        return []
    longest = tables["outcomes"].frame.groupby("endpoint")["time_months"].max()
    return [
        Note(f"times up to {months:g} months ({months / 12:.0f} years) look like days", f"outcomes, {endpoint}")
        for endpoint, months in longest[longest > _LONGEST_MONTHS].items()
    ]


def _fractions(tables: Mapping[str, CheckedTable]) -> list[Note]:
    """Return a note for each percentage that is nowhere above 1: a spreadsheet keeps 45 % as 0.45."""
    notes = []
    for name, table in tables.items():
        frame = table.frame
        columns = {str(c): frame[c] for c in frame if str(c).endswith("_percent") and frame[c].dtype.kind == "f"}
        if name == "dosimetry":
            rows = frame[frame["unit"] == "%"]
            columns = {f"{s} {m}": own["value"] for (s, m), own in rows.groupby(["structure", "metric"])}
        for column, values in columns.items():
            known = values.dropna()
            if len(known) >= _ENOUGH and 0 < known.max() <= 1 and (known % 1 != 0).any():
                message = f"all {len(known)} percentages are at most 1: they look like fractions (0.45 for 45 %)"
                notes.append(Note(message, f"{table.file}, {column}"))
    return notes
