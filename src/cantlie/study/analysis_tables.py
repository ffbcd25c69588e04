"""The tables of a paper from patient-level data: characteristics, events, grades, patterns."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cantlie.cohort.variables import as_numbers
from cantlie.core.errors import CohortError
from cantlie.statistics import comparison, proportion
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.statistics.survival import kaplan_meier
from cantlie.study.analysis_groups import Analysed
from cantlie.study.analysis_survival import rate_text
from cantlie.study.analysis_tests import (
    compare_counts,
    compare_numbers,
    compare_pairs,
    count_cell,
    p_cell,
    standardised_difference,
)
from cantlie.study.definition import Row, TableSpec
from cantlie.study.results import StudyCell, StudyTable

Place = tuple[str, str]
_EMPTY = StudyCell("")


def make_table(data: Analysed, table: TableSpec) -> StudyTable:
    """Return a table of the study in both conventions, compared with the printed numbers.

    Raises
    ------
    CohortError
        If a variable cannot be worked out.
    """
    return {
        "characteristics": _characteristics,
        "events": _events,
        "grades": _grades,
        "patterns": _characteristics,
    }[table.kind](data, table)


def _places(table: TableSpec) -> list[Place]:
    return [(set_name, group) for set_name in table.sets for group in table.groups]


def _headers(data: Analysed, table: TableSpec) -> list[str]:
    names = {group.id: group.name for group in data.study.groups}
    headers = []
    for set_name, group in _places(table):
        n = int(data.members(set_name, group).sum())
        name = names.get(group, "All")
        headers.append(f"{name}, n = {n}" if len(table.sets) == 1 else f"{name}, {set_name}, n = {n}")
    return headers


def _printed(table: TableSpec, row: Row, place: Place) -> tuple[tuple[float, ...], tuple[float, ...]]:
    keys = (f"{place[0]}:{place[1]}", place[1])
    numbers = next((row.printed[key] for key in keys if key in row.printed), ())
    percents = next((row.percents[key] for key in keys if key in row.percents), ())
    return numbers, percents


def _tested(table: TableSpec) -> list[str]:
    """Return the groups that are compared: all patients together are no group beside their own parts."""
    return [group for group in table.groups if group != "all"]


def _compared(table: TableSpec) -> bool:
    return len(_tested(table)) > 1


def _p_columns(table: TableSpec) -> list[str]:
    if not _compared(table):
        return []
    sets = table.sets if len(table.sets) > 1 else ("",)
    columns = []
    for name in sets:
        tail = f", {name}" if name else ""
        columns += [f"p as published{tail}", f"p recommended{tail}"]
    return [*columns, "tests"]


def _characteristics(data: Analysed, table: TableSpec) -> StudyTable:
    columns = ["Variable", "Level", *_headers(data, table), *_p_columns(table)]
    rows: list[tuple[StudyCell, ...]] = []
    notes = [table.note] if table.note else []
    for row in table.rows:
        if row.note:
            notes.append(f"{row.label}: {row.note}")
        made = _count_rows(data, table, row) if row.statistic == "counts" else [_number_row(data, table, row)]
        rows += made
    return StudyTable(table.id, table.title, tuple(columns), tuple(rows), tuple(notes))


def _count_rows(data: Analysed, table: TableSpec, row: Row) -> list[tuple[StudyCell, ...]]:
    spec = data.study.variable(row.variable)
    values = data.variable(row.variable)
    places = _places(table)
    inside = [data.members(*place) for place in places]
    counts = np.array([[int((values[m] == level).sum()) for m in inside] for level in spec.levels])
    missing = [int(values[m].isna().sum()) for m in inside]
    totals = counts.sum(axis=0) if table.denominator == "assessed" else np.array([int(m.sum()) for m in inside])
    tests = _count_tests(data, table, row, counts)
    result = []
    for number, level in enumerate(spec.levels):
        cells = []
        for column, place in enumerate(places):
            printed, percents = _printed(table, row, place)
            cells.append(
                count_cell(
                    int(counts[number, column]),
                    int(totals[column]),
                    table.percent_digits,
                    printed[number] if number < len(printed) else None,
                    percents[number] if number < len(percents) else None,
                    size=int(inside[column].sum()),
                )
            )
        label = StudyCell(row.label or row.variable if number == 0 else "")
        result.append((label, StudyCell(level), *cells, *(tests if number == 0 else [_EMPTY] * len(tests))))
    if any(missing) and table.denominator != "assessed":
        result.append((_EMPTY, StudyCell("not known"), *(StudyCell(str(m)) for m in missing), *([_EMPTY] * len(tests))))
    return result


def _printed_p(row: Row, set_name: str) -> float | str | None:
    return row.p_set.get(set_name, row.p)


def _count_tests(data: Analysed, table: TableSpec, row: Row, counts: NDArray[np.int64]) -> list[StudyCell]:
    if not _compared(table):
        return []
    cells: list[StudyCell] = []
    names: list[str] = []
    places = _places(table)
    for set_name in table.sets:
        own = counts[:, [places.index((set_name, group)) for group in _tested(table)]]
        paired = _paired(data, set_name, row.variable)
        published = paired or compare_counts(own, "as_published")
        recommended = paired or compare_counts(own, "recommended")
        cells += [p_cell(published, _printed_p(row, set_name)), p_cell(recommended)]
        names += [t.method for t in (published, recommended) if t is not None]
    return [*cells, StudyCell("; ".join(dict.fromkeys(names)))]


def _paired(data: Analysed, set_name: str, variable: str) -> HypothesisTest | None:
    matching = data.study.matching
    if matching is None or set_name != "matched" or matching.pair_column not in data.cohort.patients:
        return None
    pairs = data.cohort.patients.set_index("patient_id")[matching.pair_column]
    values = data.variable(variable)
    treated = (data.variable(matching.treatment) == matching.treated) & pairs.notna()
    others = (data.variable(matching.treatment) != matching.treated) & pairs.notna()
    first = values[treated].set_axis(pairs[treated])
    second = values[others].set_axis(pairs[others])
    if first.index.has_duplicates or second.index.has_duplicates or set(first.index) != set(second.index):
        raise CohortError(
            "the pairs are not one of each group",
            where=f"patients, column {matching.pair_column}",
            remedy="number the matched pairs",
        )
    levels = data.study.variable(variable).levels
    return compare_pairs(first.sort_index(), second.sort_index(), levels)


def _number_row(data: Analysed, table: TableSpec, row: Row) -> tuple[StudyCell, ...]:
    numbers = data.numbers(row.variable)
    places = _places(table)
    groups = [numbers[data.members(*place)].to_numpy(dtype=float) for place in places]
    digits = row.digits
    cells = []
    for place, values in zip(places, groups, strict=True):
        printed, _ = _printed(table, row, place)
        values = values[~np.isnan(values)]
        if not len(values):
            cells.append(StudyCell("–", None))
            continue
        spread = comparison.describe(values)
        if row.statistic == "mean_sd":
            text = f"{spread.mean:.{digits}f} ± " + (f"{spread.sd:.{digits}f}" if len(values) > 1 else "–")
            shown = f"{printed[0]:.{digits}f} ± {printed[1]:.{digits}f}" if printed else None
        elif row.statistic == "mean":
            text = f"{spread.mean:.{digits}f}"
            shown = f"{printed[0]:.{digits}f}" if printed else None
        else:
            text = f"{spread.median:.{digits}f} ({spread.minimum:.{digits}f}-{spread.maximum:.{digits}f})"
            shown = f"{printed[0]:.{digits}f} ({printed[1]:.{digits}f}-{printed[2]:.{digits}f})" if printed else None
        cells.append(StudyCell.compared(text, shown))
    tests: list[StudyCell] = []
    if _compared(table):
        normal = row.statistic != "median_range"
        names: list[str] = []
        for set_name in table.sets:
            own = [groups[places.index((set_name, group))] for group in _tested(table)]
            found = [compare_numbers(own, c, normal=normal) for c in ("as_published", "recommended")]
            tests += [p_cell(found[0], _printed_p(row, set_name)), p_cell(found[1])]
            names += [t.method for t in found if t is not None]
        tests.append(StudyCell("; ".join(dict.fromkeys(names))))
    what = {"mean_sd": "mean ± SD", "mean": "mean", "median_range": "median (range)"}.get(row.statistic, "")
    return (StudyCell(row.label or row.variable), StudyCell(what), *cells, *tests)


def _events(data: Analysed, table: TableSpec) -> StudyTable:
    """Rows that count an event or the survivors at a month; each row is its own two-by-two table."""
    places = _places(table)
    names = [group if len(table.sets) == 1 else f"{group}, {set_name}" for set_name, group in places]
    columns = ["Event", *_headers(data, table)]
    columns += [f"95% CI {name}" for name in names]
    columns += _p_columns(table)
    survival = any(row.endpoint for row in table.rows)
    if survival:
        columns += [f"Kaplan-Meier {name}" for name in names]
    rows = []
    for row in table.rows:
        cells, intervals = [], []
        counted: dict[Place, tuple[int, int]] = {}
        for place in places:
            inside = data.members(*place)
            hit, total = _event_counts(data, row, inside)
            printed, percents = _printed(table, row, place)
            cells.append(
                count_cell(
                    hit, total, table.percent_digits, printed[0] if printed else None,
                    percents[0] if percents else None, size=int(inside.sum()),
                )
            )  # fmt: skip
            counted[place] = (hit, total - hit)
            if total:
                limits = proportion.clopper_pearson(hit, total)
                intervals.append(StudyCell(f"{100 * limits.lower:.1f}-{100 * limits.upper:.1f}%"))
            else:
                intervals.append(StudyCell("–"))
        line = [StudyCell(row.label), *cells, *intervals]
        if _compared(table):
            methods: list[str] = []
            for set_name in table.sets:
                counts = np.array([counted[set_name, group] for group in _tested(table)]).T
                found = [compare_counts(counts, c) for c in ("as_published", "recommended")]
                line += [p_cell(found[0], _printed_p(row, set_name)), p_cell(found[1])]
                methods += [t.method for t in found if t is not None]
            line.append(StudyCell("; ".join(dict.fromkeys(methods))))
        if survival:
            line += [_rate_cell(data, row, place) for place in places]
        rows.append(tuple(line))
    notes = ["intervals of Clopper and Pearson"]
    if survival:
        notes.append(
            "as published, survivors are counted as a share without regard to censoring; Kaplan-Meier beside it"
        )
    return StudyTable(table.id, table.title, tuple(columns), tuple(rows), tuple(notes))


def _event_counts(data: Analysed, row: Row, inside: NDArray[np.bool_]) -> tuple[int, int]:
    if row.endpoint and row.month is not None:
        time, status, _ = data.times(row.endpoint, inside)
        alive = (time > row.month) | ((time == row.month) & (status != 1))
        return int(alive.sum()), len(time)
    levels = (row.level,) if isinstance(row.level, str) else row.level
    values = data.variable(row.variable)[inside]
    return int(values.isin(list(levels)).sum()), int(values.notna().sum())


def _rate_cell(data: Analysed, row: Row, place: Place) -> StudyCell:
    if row.month is None:
        return StudyCell("–")
    time, status, _ = data.times(row.endpoint, data.members(*place))
    if not len(time):
        return StudyCell("–")
    rate = kaplan_meier(time, status == 1).curves[0].rates([row.month]).iloc[0]
    return StudyCell(rate_text(rate))


def _grades(data: Analysed, table: TableSpec) -> StudyTable:
    places = _places(table)
    several = len(places) > 1
    grades = {row.variable: as_numbers(data.variable(row.variable), row.variable) for row in table.rows}
    worst = 5 if any((values >= 5).any() for values in grades.values()) else 4
    columns = ["Event", *(["Group"] if several else []), *(f"Grade {g}" for g in range(1, worst + 1))]
    columns += ["Any grade", "95% CI any", "Grade 3 or more"]
    notes = ["worst grade of each patient in the window; Clopper-Pearson"]
    rows = []
    for row in table.rows:
        for number, (place, header) in enumerate(zip(places, _headers(data, table), strict=True)):
            everyone = grades[row.variable][data.members(*place)]
            own = everyone.dropna()
            printed, _ = _printed(table, row, place)
            cells = [StudyCell(row.label or row.variable if number == 0 else "")]
            cells += [StudyCell(header)] if several else []
            rows.append((*cells, *_grade_cells(own, worst, table.percent_digits, printed)))
            if len(own) < len(everyone):
                who = f"{row.label or row.variable}, {header}" if several else row.label or row.variable
                notes.append(f"{who}: not known for {len(everyone) - len(own)} patients, who do not count")
    return StudyTable(table.id, table.title, tuple(columns), tuple(rows), tuple(notes))


def _grade_cells(grades: pd.Series, worst: int, digits: int, printed: tuple[float, ...]) -> list[StudyCell]:
    """Return how many patients have each grade, any, and grade 3 or more, with the exact interval of any."""
    total = len(grades)
    cells = [
        count_cell(int((grades == g).sum()), total, digits, printed[g - 1] if g <= len(printed) else None, None)
        for g in range(1, worst + 1)
    ]
    any_grade = int((grades >= 1).sum())
    limits = proportion.clopper_pearson(any_grade, total) if total else None
    return [
        *cells,
        count_cell(any_grade, total, digits, None, None),
        StudyCell("–" if limits is None else f"{100 * limits.lower:.1f}-{100 * limits.upper:.1f}%"),
        count_cell(int((grades >= 3).sum()), total, digits, None, None),
    ]


def balance_table(data: Analysed) -> StudyTable | None:
    """Return standardised differences of the first two groups, which papers with arms should show."""
    if len(data.study.groups) != 2:
        return None
    names = [group.id for group in data.study.groups]
    rows = []
    seen = set()
    sets = ("all", *(name for name in data.study.sets if name == "matched"))
    for table in data.study.tables:
        for row in table.rows:
            if table.kind != "characteristics" or row.statistic != "counts" or row.variable in seen:
                continue
            seen.add(row.variable)
            values = data.variable(row.variable)
            levels = data.study.variable(row.variable).levels
            for level in levels[:1] if len(levels) == 2 else levels:
                cells = []
                for name in sets:
                    sides = [values[data.members(name, group)].dropna().tolist() for group in names]
                    difference = standardised_difference(sides[0], sides[1], level)
                    cells.append(StudyCell(_difference_text(difference)))
                rows.append((StudyCell(row.label), StudyCell(level), *cells))
    if not rows:
        return None
    return StudyTable(
        "balance",
        "Balance of the groups (not in the paper)",
        ("Variable", "Level", *(f"SMD, {name}" for name in sets)),
        tuple(rows),
        ("standardised mean difference, first group less second; * beyond 0.1",),
        in_paper=False,
    )


def _difference_text(difference: float) -> str:
    if np.isnan(difference):
        return "–"
    text = f"{difference:+.3f}" if np.isfinite(difference) else "+∞" if difference > 0 else "-∞"
    return text + (" *" if abs(difference) > 0.1 else "")


def difference_of(cell: StudyCell) -> float:
    """Return the standardised difference that a cell of the balance table shows, NaN where there is none."""
    text = cell.text.rstrip(" *").replace("∞", "inf")
    return float("nan") if text == "–" else float(text)
