"""The baseline table of a study: n (%), median (range), mean ± SD, and p by a named test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import CantlieError, StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.association import fisher_exact, likelihood_ratio, pearson_chi2, trend
from cantlie.statistics.comparison import describe, kruskal_wallis, mann_whitney, one_way_anova, t_test, welch
from cantlie.statistics.hypothesis import HypothesisTest, format_p

Kind = Literal["category", "mean", "median-range", "median-iqr"]
TestName = Literal[
    "pearson", "yates", "fisher", "likelihood-ratio", "trend", "t", "welch", "anova", "mann-whitney", "kruskal-wallis"
]


def _two(function: Callable[..., HypothesisTest]) -> Callable[..., HypothesisTest]:
    def run(*samples: NDArray[np.float64]) -> HypothesisTest:
        if len(samples) != 2:
            raise StatisticsError(f"this test compares two groups, not {len(samples)}", where="baseline table")
        return function(*samples)

    return run


def _corrected(table: NDArray[np.int64]) -> HypothesisTest:
    return pearson_chi2(table, yates=True)


_TABLE_TESTS: dict[str, Callable[..., HypothesisTest]] = {
    "pearson": pearson_chi2,
    "yates": _corrected,
    "fisher": fisher_exact,
    "likelihood-ratio": likelihood_ratio,
    "trend": trend,
}
_NUMBER_TESTS: dict[str, Callable[..., HypothesisTest]] = {
    "t": _two(t_test),
    "welch": _two(welch),
    "anova": one_way_anova,
    "mann-whitney": _two(mann_whitney),
    "kruskal-wallis": kruskal_wallis,
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a baseline table.

    Parameters
    ----------
    column
        Column of the data.
    kind
        ``category`` n (%), ``mean`` mean ± SD, ``median-range`` median (lowest–highest), ``median-iqr``.
    test
        Which test; chosen by the rules of ``baseline_table`` if not given, and named in the table either way.
    label
        What the table calls it.
    decimals
        Decimals of numbers (percentages have one).
    """

    column: str
    kind: Kind = "category"
    test: TestName | None = None
    label: str | None = None
    decimals: int = 1


@dataclass(frozen=True, slots=True)
class TableRow:
    """One printed line: a variable's own line carries the test, a category's line its counts."""

    variable: str
    level: str
    cells: tuple[str, ...]
    p_value: float | None
    test: str


@dataclass(frozen=True, slots=True)
class BaselineTable:
    """A baseline table; ``columns`` are the overall group and the compared ones with their sizes."""

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[Note, ...]

    def table(self) -> pd.DataFrame:
        """Return the table as it is printed."""
        lines = []
        for row in self.rows:
            p = "" if row.p_value is None else format_p(row.p_value)
            lines.append([row.variable, row.level, *row.cells, p, row.test])
        return pd.DataFrame(lines, columns=["variable", "level", *self.columns, "p", "test"])


def _number(values: NDArray[np.float64], kind: Kind, decimals: int) -> str:
    if values.size == 0:
        return "–"
    s = describe(values)
    if kind == "mean":
        return f"{s.mean:.{decimals}f} ± {s.sd:.{decimals}f}" if values.size > 1 else f"{s.mean:.{decimals}f}"
    low, high = (s.minimum, s.maximum) if kind == "median-range" else (s.q1, s.q3)
    return f"{s.median:.{decimals}f} ({low:.{decimals}f}–{high:.{decimals}f})"


def baseline_table(
    data: pd.DataFrame,
    variables: Sequence[Variable | str],
    *,
    group: ArrayLike | None = None,
) -> BaselineTable:
    """Describe patients by group and compare the groups.

    Where no test is asked for: Fisher's (–Freeman–Halton's) exact test if an expected count is below 5, else Pearson's
    χ² without correction; Welch's t-test or analysis of variance for means; Mann–Whitney or Kruskal–Wallis for medians.
    Missing values get a line of their own and are left out of percentages and tests.

    Parameters
    ----------
    data
        One row per patient.
    variables
        What to describe, in order; a bare column name is a category, or a median with range if it is numeric with more
        than six values.
    group
        Label per patient; without it there is one column and no test.

    Raises
    ------
    StatisticsError
        If a column is missing or a test does not fit its variable.
    """
    codes, names = (np.zeros(len(data), dtype=np.intp), []) if group is None else inputs.labels(group, length=len(data))
    parts = [codes == code for code in range(len(names))]
    sizes = [len(data), *(int(part.sum()) for part in parts)]
    columns = [
        f"{name} (n = {size})" for name, size in zip(["all", *map(inputs.label_text, names)], sizes, strict=True)
    ]
    everyone = [np.ones(len(data), dtype=bool), *parts]
    rows: list[TableRow] = []
    notes: list[Note] = []
    for given in variables:
        variable = given if isinstance(given, Variable) else _guess(data, given)
        if variable.column not in data.columns:
            raise StatisticsError("there is no such column", where=variable.column, remedy="check the spelling")
        column = data[variable.column]
        known = column.notna().to_numpy()
        label = variable.label or variable.column
        head, lines, test = _describe(column, known, variable, everyone, parts, notes)
        rows.append(
            TableRow(label, "", head, None if test is None else test.p_value, "" if test is None else test.method)
        )
        if test is not None:
            notes.extend(Note(note.message, label, note.level) for note in test.notes)
        rows.extend(TableRow("", name, cells, None, "") for name, cells in lines)
        if not known.all():
            missing = tuple(str(int((~known & part).sum())) for part in everyone)
            rows.append(TableRow("", "missing", missing, None, ""))
    return BaselineTable(tuple(columns), tuple(rows), tuple(notes))


def _guess(data: pd.DataFrame, column: str) -> Variable:
    if column not in data.columns:
        raise StatisticsError("there is no such column", where=column, remedy="check the spelling")
    values = data[column]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return Variable(column, "median-range" if numeric and values.nunique() > 6 else "category")


def _describe(
    column: pd.Series[Any],
    known: NDArray[np.bool_],
    variable: Variable,
    everyone: list[NDArray[np.bool_]],
    parts: list[NDArray[np.bool_]],
    notes: list[Note],
) -> tuple[tuple[str, ...], list[tuple[str, tuple[str, ...]]], HypothesisTest | None]:
    """Return the cells of the variable's own line, its further lines, and the test."""
    where = variable.label or variable.column
    if variable.kind == "category":
        codes, levels = inputs.labels(column[known], variable.column)
        every = np.full(len(column), -1)
        every[known] = codes
        lines = []
        for code, name in enumerate(levels):
            cells = []
            for part in everyone:
                n, total = int((part & (every == code)).sum()), int((part & known).sum())
                cells.append(f"{n} ({100 * n / total:.1f} %)" if total else "0")
            lines.append((inputs.label_text(name), tuple(cells)))
        counts = np.array([[int((part & (every == code)).sum()) for part in parts] for code in range(len(levels))])
        test = _table_test(counts, variable, where, notes) if len(parts) > 1 else None
        return tuple("" for _ in everyone), lines, test
    values = inputs.numbers(column[known], variable.column)
    every_value = np.full(len(column), np.nan)
    every_value[known] = values
    cells_of = tuple(_number(every_value[part & known], variable.kind, variable.decimals) for part in everyone)
    if len(parts) < 2:
        return cells_of, [], None
    samples = [every_value[part & known] for part in parts]
    if variable.kind == "mean":
        name = variable.test or ("welch" if len(parts) == 2 else "anova")
    else:
        name = variable.test or ("mann-whitney" if len(parts) == 2 else "kruskal-wallis")
    if name not in _NUMBER_TESTS:
        raise StatisticsError(f"the test {name!r} is not for numbers", where=where, remedy="use t, welch, mann-whitney")
    try:
        return cells_of, [], _NUMBER_TESTS[name](*samples)
    except CantlieError as error:
        notes.append(Note(f"no test: {error.what}", where))
        return cells_of, [], None


def _table_test(counts: NDArray[np.int64], variable: Variable, where: str, notes: list[Note]) -> HypothesisTest | None:
    name = variable.test
    if name is not None and name not in _TABLE_TESTS:
        raise StatisticsError(f"the test {name!r} is not for categories", where=where, remedy="use pearson or fisher")
    try:
        if name == "trend" and counts.shape[0] != 2:
            # Ordered categories against two groups.
            return trend(counts if counts.shape[1] == 2 else counts.T)
        if name is not None:
            return _TABLE_TESTS[name](counts)
        plain = pearson_chi2(counts)
        return fisher_exact(counts) if plain.min_expected < 5 else plain
    except CantlieError as error:
        notes.append(Note(f"no test: {error.what}", where))
        return None
