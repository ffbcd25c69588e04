"""Cell rules of a cohort's tables: every problem is named with file, row, column and rule."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd

from cantlie.cohort.schema import EXTRA_PREFIX, IDENTIFYING, LABS, TABLES, Column, Table
from cantlie.cohort.tables import empty_series
from cantlie.cohort.units import TESTS, lab_test, unit_factor
from cantlie.core.errors import CohortError
from cantlie.core.spreadsheet import number_of

MISSING = frozenset({"", "na", "n/a", "nan", "null", ".", "-", "missing", "unknown", "not done", "nd"})
YES = frozenset({"yes", "y", "true", "1"})
_MOST_ROWS = 5
NO = frozenset({"no", "n", "false", "0"})
_TEST = LABS.column("test")
_SHEET_ERRORS = frozenset({"#n/a", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: where it is, which rule, and what to do."""

    file: str
    row: int | None
    column: str
    rule: str
    message: str
    remedy: str = ""

    @property
    def where(self) -> str:
        """The place in words: file, row, column and rule."""
        parts = [self.file]
        if self.row is not None:
            parts.append(f"row {self.row}")
        if self.column:
            parts.append(f"column {self.column}")
        return ", ".join([*parts, f"rule {self.rule}"])


class InvalidCohort(CohortError):
    """A cohort that breaks rules; ``problems`` lists all of them, the sentence tells the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        others = len(self.problems) - 1
        more = "" if not others else f" (and {others} more problem{'s' if others > 1 else ''})"
        super().__init__(first.message + more, where=first.where, remedy=first.remedy)

    @property
    def further(self) -> tuple[str, ...]:
        """All problems but the first, each with its place and what to do; the same one in many rows is told once."""
        alike: dict[tuple[str, ...], list[Problem]] = {}
        for one in self.problems[1:]:
            alike.setdefault((one.file, one.column, one.rule, one.message, one.remedy), []).append(one)
        lines = []
        for same in alike.values():
            first = same[0]
            rows = [str(one.row) for one in same if one.row is not None]
            place = first.where
            if len(rows) > 1:
                named = ", ".join(rows[:_MOST_ROWS]) + (
                    f" and {len(rows) - _MOST_ROWS} more" * (len(rows) > _MOST_ROWS)
                )
                place = place.replace(f"row {rows[0]}", f"rows {named}", 1)
            lines.append(f"{first.message} ({place})" + (f"; {first.remedy}" if first.remedy else ""))
        return tuple(lines)


@dataclass(frozen=True, slots=True, eq=False)
class RawTable:
    """A table as read: text cells, the row of the file of each, and whether its numbers have a decimal comma."""

    name: str
    file: str
    cells: pd.DataFrame
    rows: np.ndarray
    decimal_comma: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CheckedTable:
    """A table with typed columns, and the row of the file that each row came from."""

    name: str
    file: str
    frame: pd.DataFrame
    rows: np.ndarray

    def problem(self, position: int, column: str, rule: str, message: str, remedy: str = "") -> Problem:
        """Return a problem in one row of this table."""
        return Problem(self.file, int(self.rows[position]), column, rule, message, remedy)


def check_table(raw: RawTable, extra_columns: frozenset[str] = frozenset()) -> tuple[CheckedTable, list[Problem]]:
    """Turn text cells into typed columns, and list every cell that breaks a rule of the schema."""
    table = TABLES[raw.name]
    problems = _check_header(raw, table, extra_columns)
    columns: dict[str, pd.Series] = {}
    given = list(raw.cells.columns)
    if len(raw.cells) == 0 and raw.name == "patients":
        problems.append(Problem(raw.file, None, "", "empty-table", "the table has no rows", "add the patients"))
    for column in table.columns:
        if column.name not in given:
            columns[column.name] = empty_series(column, len(raw.cells))
            continue
        texts = raw.cells[column.name].tolist()
        columns[column.name] = _check_column(raw, column, texts, problems)
    for name in given:
        if name not in columns and (name.startswith(EXTRA_PREFIX) or name in extra_columns):
            columns[name] = _free_column(raw, name, problems)
    checked = CheckedTable(raw.name, raw.file, pd.DataFrame(columns), raw.rows)
    if table is LABS and not problems:
        checked = _check_labs(checked, problems)
    _check_duplicates(checked, table, problems)
    return checked, problems


def _check_header(raw: RawTable, table: Table, extra_columns: frozenset[str]) -> list[Problem]:
    problems = []
    known = [column.name for column in table.columns]
    names = list(raw.cells.columns)
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(
            Problem(raw.file, 1, name, "duplicate-column", "the column occurs twice", "keep one of the two")
        )
    for name in names:
        if name.strip().lower().replace(" ", "_") in IDENTIFYING:
            problems.append(
                Problem(
                    raw.file,
                    1,
                    name,
                    "identifying-column",
                    "the column identifies persons",
                    "remove it; Cantlie keeps pseudonymous data only",
                )
            )
        elif name not in known and name not in extra_columns and not name.startswith(EXTRA_PREFIX):
            near = _likeliest(name.lower(), known)
            advice = f"did you mean {near}? Else " if near else ""
            problems.append(
                Problem(
                    raw.file,
                    1,
                    name,
                    "unknown-column",
                    f"table {table.name} has no column {name!r}",
                    f"{advice}a column of your own begins with {EXTRA_PREFIX}",
                )
            )
    for column in table.columns:
        if column.required and column.name not in names:
            problems.append(
                Problem(raw.file, 1, column.name, "missing-column", "a required column is missing", "add it")
            )
    return problems


def _check_column(raw: RawTable, column: Column, texts: list[str], problems: list[Problem]) -> pd.Series:
    values: list[object] = []
    memory: dict[str, tuple[object, tuple[str, str, str] | None]] = {}
    for position, text in enumerate(texts):
        if text not in memory:
            memory[text] = _parse_cell(column, text, raw.decimal_comma)
        value, fault = memory[text]
        if fault is not None:
            rule, message, remedy = fault
            problems.append(Problem(raw.file, int(raw.rows[position]), column.name, rule, message, remedy))
        values.append(value)
    if column.kind == "date":
        return pd.Series(pd.to_datetime(pd.Series(values, dtype=object)).astype("datetime64[ns]"), name=column.name)
    if column.kind in ("number", "integer", "flag"):
        return pd.Series(np.array([np.nan if v is None else v for v in values], dtype=float), name=column.name)
    return pd.Series(values, dtype=object, name=column.name)


def _parse_cell(column: Column, text: str, decimal_comma: bool = False) -> tuple[object, tuple[str, str, str] | None]:
    text = text.strip()
    # "none" and "0" are findings where they are codes, and NA is sodium among the laboratory tests
    a_test = column is _TEST and lab_test(text) is not None
    if text.lower() in MISSING and text.lower() not in column.codes and not a_test:
        if column.required:
            return None, ("missing-value", "a required value is missing", "fill it in or leave the row out")
        return None, None
    if text.lower() in _SHEET_ERRORS:
        return None, _sheet_error(text)
    if column.kind in ("number", "integer", "flag"):
        return _parse_number(column, text, decimal_comma)
    if column.kind == "date":
        return _parse_date(text)
    if column.kind == "code" and column.codes:
        return _parse_code(column, text)
    return text, None


def _sheet_error(text: str) -> tuple[str, str, str]:
    return "spreadsheet-error", f"{text} is an error of the spreadsheet", "mend the formula, or leave the cell empty"


def _parse_number(column: Column, text: str, decimal_comma: bool) -> tuple[object, tuple[str, str, str] | None]:
    if column.kind == "flag" and text.lower() in YES | NO:
        return float(text.lower() in YES), None
    try:
        value = number_of(text, decimal_comma)
    except ValueError:
        if column.kind == "flag":
            return None, ("not-a-flag", f"{text!r} is neither 0 nor 1", "write 1 for an event and 0 for none")
        if decimal_comma and re.fullmatch(r"[-+]?\d{1,3}(\.\d{3})+", text):
            what = f"{text!r} may be a thousand or a fraction in a file with decimal commas"
            return None, ("ambiguous-number", what, "write it without a point, or with a decimal comma")
        if re.fullmatch(r"[-+]?\d+,\d+", text):
            return None, ("decimal-comma", f"{text!r} has a decimal comma", "write it with a point")
        return None, ("not-a-number", f"{text!r} is not a number", "give a plain number in the column's unit")
    if not np.isfinite(value):
        return None, ("not-a-number", f"{text!r} is not a finite number", "leave the cell empty when it is not known")
    if column.kind == "flag":
        return None, ("not-a-flag", f"{text!r} is neither 0 nor 1", "write 1 for an event and 0 for none")
    if column.kind == "integer" and value != round(value):
        return None, ("not-an-integer", f"{text!r} is not a whole number", "give a whole number")
    if (column.low is not None and value < column.low) or (column.high is not None and value > column.high):
        low = "any" if column.low is None else f"{column.low:g}"
        high = "any" if column.high is None else f"{column.high:g}"
        return None, (
            "out-of-range",
            f"{text} is outside {low} to {high}",
            f"check the value and its unit ({column.description})",
        )
    return value, None


def _parse_date(text: str) -> tuple[object, tuple[str, str, str] | None]:
    if dotted := re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", text):  # points stand between day, month and year only
        text = f"{dotted[3]}-{dotted[2]}-{dotted[1]}"
    match = re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?", text)
    if match is None:
        if re.fullmatch(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}", text):
            return None, ("ambiguous-date", f"{text!r} may be day-month or month-day", "write dates as 2019-04-30")
        serial = " (a number of days, as Excel keeps dates)" if re.fullmatch(r"[1-6]\d{4}(\.\d+)?", text) else ""
        return None, ("not-a-date", f"{text!r} is not a date{serial}", "write dates as 2019-04-30")
    try:
        day = date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None, ("impossible-date", f"{text!r} is not a day of the calendar", "correct the date")
    if day.year < 1900:
        return None, ("impossible-date", f"{text!r} lies before 1900", "correct the date")
    if day > datetime.now(UTC).date():
        return None, ("future-date", f"{text!r} lies in the future", "correct the date")
    return pd.Timestamp(day), None


def _likeliest(name: str, known: Iterable[str]) -> str:
    """Return the column that a wrong name may mean: one that it is a part of, or that is spelt alike; else nothing."""
    parts = [one for one in known if one.startswith(f"{name}_") or one.endswith(f"_{name}")]
    return next(iter(parts or difflib.get_close_matches(name, list(known), n=1)), "")


def _parse_code(column: Column, text: str) -> tuple[object, tuple[str, str, str] | None]:
    folded = {code.lower(): code for code in column.codes}
    value = text.lower()
    if value in folded:
        return folded[value], None
    if set(column.codes) == {"yes", "no"} and value in YES | NO:
        return "yes" if value in YES else "no", None
    if set(column.codes) == {"female", "male"} and value in ("f", "m"):
        return "female" if value == "f" else "male", None
    near = difflib.get_close_matches(value, list(folded), n=1)
    advice = f"did you mean {folded[near[0]]}? " if near else ""
    return None, ("unknown-code", f"{text!r} is not a code of this column", f"{advice}codes: {', '.join(column.codes)}")


def _free_column(raw: RawTable, name: str, problems: list[Problem]) -> pd.Series:
    """Return a user's own column: numbers where all its values are finite numbers, else texts."""
    texts = [str(text).strip() for text in raw.cells[name]]
    for position, text in enumerate(texts):
        if text.lower() in _SHEET_ERRORS:
            problems.append(Problem(raw.file, int(raw.rows[position]), name, *_sheet_error(text)))
    values = [None if text.lower() in MISSING else text for text in texts]
    try:
        numbers = np.array([np.nan if v is None else number_of(v, raw.decimal_comma) for v in values], dtype=float)
    except ValueError:
        return pd.Series(values, dtype=object, name=name)
    if np.isinf(numbers).any():
        return pd.Series(values, dtype=object, name=name)
    return pd.Series(numbers, name=name)


def _check_labs(checked: CheckedTable, problems: list[Problem]) -> CheckedTable:
    frame = checked.frame.copy()
    codes, factors = [], np.ones(len(frame))
    for position, (name, unit) in enumerate(zip(frame["test"], frame["unit"], strict=True)):
        test = lab_test(str(name))
        factor = None if test is None else unit_factor(test, str(unit))
        if test is None:
            problems.append(
                checked.problem(
                    position,
                    "test",
                    "unknown-test",
                    f"no laboratory test is called {name!r}",
                    f"tests: {', '.join(TESTS)}",
                )
            )
        elif factor is None:
            known = ", ".join((test.unit, *test.factors))
            problems.append(
                checked.problem(
                    position, "unit", "unknown-unit", f"{unit!r} is not a unit of {test.code}", f"units: {known}"
                )
            )
        else:
            factors[position] = factor
            value = float(frame["value"].iloc[position]) * factor
            if not test.low <= value <= test.high:
                problems.append(
                    checked.problem(
                        position,
                        "value",
                        "implausible-unit",
                        f"{test.code} of {frame['value'].iloc[position]:g} {unit} is outside {test.low:g} to "
                        f"{test.high:g} {test.unit}",
                        "check the value and its unit",
                    )
                )
            lln, uln = frame["lln"].iloc[position], frame["uln"].iloc[position]
            if np.isfinite(lln) and np.isfinite(uln) and lln >= uln:
                problems.append(
                    checked.problem(
                        position,
                        "uln",
                        "normal-range",
                        f"the upper limit of normal {uln:g} is not above the lower {lln:g}",
                        "correct the limits",
                    )
                )
        codes.append("" if test is None else test.code)
    if problems:
        return checked
    frame["test"] = pd.Series(codes, dtype=object)
    for name in ("value", "lln", "uln"):
        frame[name] = frame[name] * factors
    frame["unit"] = pd.Series([TESTS[code].unit for code in codes], dtype=object)
    return CheckedTable(checked.name, checked.file, frame, checked.rows)


def _check_duplicates(checked: CheckedTable, table: Table, problems: list[Problem]) -> None:
    key = list(table.key)
    repeated = checked.frame.duplicated(subset=key, keep="first").to_numpy()
    missing_id = checked.frame["patient_id"].isna().to_numpy()
    for position in np.flatnonzero(repeated & ~missing_id):
        same = (
            checked.frame[key].fillna("").astype(str) == checked.frame[key].fillna("").astype(str).iloc[position]
        ).all(axis=1)
        first = int(checked.rows[int(np.argmax(same.to_numpy()))])
        problems.append(
            checked.problem(
                int(position),
                key[0] if len(key) == 1 else ", ".join(key),
                "duplicate-row",
                f"the row repeats row {first}",
                "remove one of the two",
            )
        )


def check_cohort(
    raw: Iterable[RawTable], extra_columns: Mapping[str, frozenset[str]] | None = None
) -> tuple[dict[str, CheckedTable], list[Problem]]:
    """Check all tables cell by cell; rules across rows and tables are in ``consistency``."""
    checked: dict[str, CheckedTable] = {}
    problems: list[Problem] = []
    for table in raw:
        extra = (extra_columns or {}).get(table.name, frozenset())
        checked[table.name], found = check_table(table, extra)
        problems += found
    return checked, problems
