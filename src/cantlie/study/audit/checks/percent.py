"""Percentages against counts: k of n, to half a unit of the last printed digit, ties either way."""

from __future__ import annotations

from collections.abc import Iterator

from cantlie.study.audit.checks.proportion import proportion_spread
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.table import PrintedTable, Row, Variable
from cantlie.study.audit.verdict import Finding, Severity

METHOD = "count / patients × 100, to half a unit of the last printed digit, ties either way"


def check_percentages(loaded: LoadedClaims) -> Iterator[Finding]:
    """Hold every printed percentage against its count and its group."""
    for claim, table in zip(loaded.claims.table, loaded.tables, strict=True):
        yield from _table_percentages(table, claim.place)
    for index, stated in enumerate(loaded.claims.proportion):
        line = loaded.line("proportion", index)
        if stated.count is None:
            yield possible_count(stated.percent, stated.of, stated.place, stated.what, line)
        else:
            yield percent_finding(stated.percent, stated.count, stated.of, stated.place, stated.what, line)
        yield from proportion_spread(stated, line)


def percent_finding(
    percent: Printed,
    count: int,
    of: int,
    place: str,
    item: str,
    line: int,
    *,
    others: tuple[int, ...] = (),
    whole: bool = False,
) -> Finding:
    """Judge one percentage; ``others`` are further denominators that may have been meant."""
    printed = f"{count}/{of} ({percent}%)" if "%" not in percent.text else f"{count}/{of} ({percent})"
    if count > of:
        return Finding(
            "percent",
            place,
            item,
            printed,
            f"{count} of {of} is impossible",
            METHOD,
            "inconsistent",
            "major",
            line=line,
        )
    value = 100 * count / of
    recomputed = f"{rounded(value, 6)}%"
    if percent.agrees(value):
        tie = abs(abs(value - percent.value) - percent.unit / 2) < 1e-9
        return Finding(
            "percent",
            place,
            item,
            printed,
            recomputed,
            METHOD,
            "consistent",
            remark="exact rounding tie" if tie else "",
            line=line,
        )
    severity: Severity = "minor" if abs(value - percent.value) <= 1.5 * percent.unit and percent.unit < 1 else "major"
    counts = [k for k in range(of + 1) if percent.agrees(100 * k / of)]
    remark = "" if counts else f"no whole number of {of} gives {percent.text.rstrip('%')}%"
    return Finding(
        "percent",
        place,
        item,
        printed,
        recomputed,
        METHOD,
        "inconsistent",
        severity,
        remark=remark,
        slip=_percent_slip(percent, count, of, value, counts, others, whole),
        line=line,
    )


def possible_count(percent: Printed, of: int, place: str, item: str, line: int) -> Finding:
    """Judge a percentage whose count is not printed: some whole number of patients must give it (GRIM)."""
    counts = [k for k in range(of + 1) if percent.agrees(100 * k / of)]
    method = f"search for a whole number of {of} that gives the percentage"
    source = "Brown and Heathers 2017, doi 10.1177/1948550616673876"
    if counts:
        found = f"{counts[0]}/{of}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} of {of}"
        return Finding(
            "grim", place, item, f"{percent.text} of {of}", found, method, "consistent", source=source, line=line
        )
    below = max((k for k in range(of) if 100 * k / of < percent.value), default=0)
    near = f"{below}/{of} = {rounded(100 * below / of)}%, {below + 1}/{of} = {rounded(100 * (below + 1) / of)}%"
    cut = [k for k in range(of + 1) if percent.truncates(100 * k / of)]
    slip = (
        f"{cut[0]}/{of} = {rounded(100 * cut[0] / of)}% with the last digit cut off instead of rounded" if cut else ""
    )
    return Finding(
        "percent",
        place,
        item,
        f"{percent.text} of {of}",
        f"no whole number of {of} gives it; nearest {near}",
        method,
        "inconsistent",
        "minor" if cut else "warning",
        slip=slip,
        source=source,
        line=line,
    )


def _table_percentages(table: PrintedTable, place: str) -> Iterator[Finding]:
    base = _denominator_in_use(table)
    sizes = tuple(group.size for group in table.groups if group.size)
    for variable in table.variables:
        for row in variable.rows:
            for index, cell in enumerate(row.cells):
                if cell.kind != "count" or cell.percent is None:
                    continue
                group = table.groups[index]
                item = f"{_name(variable, row)}, {group.name}"
                of = cell.of or _denominator(base, table, variable, row, index)
                if not of:
                    yield Finding(
                        "percent",
                        place,
                        item,
                        cell.text,
                        "-",
                        METHOD,
                        "not recomputable",
                        remark="the number of patients in this column is not printed",
                        line=row.line,
                    )
                    continue
                others = tuple(size for size in {*sizes, sum(sizes)} if size and size != of)
                whole = _rounded_to_hundred(variable, index)
                yield percent_finding(cell.percent, cell.count, of, place, item, row.line, others=others, whole=whole)


def _rounded_to_hundred(variable: Variable, index: int) -> bool:
    """Say whether the printed percentages of a variable add to exactly 100 with at least one decimal."""
    percents = [row.cells[index].percent for row in variable.rows if row.cells[index].kind == "count"]
    present = [percent for percent in percents if percent is not None]
    if len(present) < 2 or len(present) != len(percents):
        return False
    return abs(sum(percent.value for percent in present) - 100) < 1e-6 and min(p.unit for p in present) < 1


def _denominator_in_use(table: PrintedTable) -> str:
    """Columns, rows or the whole table: whichever explains most percentages; columns win ties."""
    scores = {"column": 0, "row": 0, "whole": 0}
    for variable in table.variables:
        for row in variable.rows:
            for index, cell in enumerate(row.cells):
                if cell.kind == "count" and cell.percent is not None and not cell.of:
                    for base in scores:
                        of = _denominator(base, table, variable, row, index)
                        if of and cell.percent.agrees(100 * cell.count / of):
                            scores[base] += 1
    return max(scores, key=lambda base: (scores[base], base == "column"))


def _denominator(base: str, table: PrintedTable, variable: Variable, row: Row, index: int) -> int:
    members = [i for i, group in enumerate(table.groups) if not group.is_total]
    if base == "row":
        return sum(row.cells[i].count for i in members if row.cells[i].kind == "count")
    if base == "whole":
        return sum(table.groups[i].size for i in members)
    group = table.groups[index]
    if group.size:
        return group.size
    if group.is_total:
        return sum(table.groups[i].size for i in members)
    counts = [r.cells[index].count for r in variable.rows if r.cells[index].kind == "count"]
    return sum(counts) if len(variable.rows) > 1 else 0


def _percent_slip(
    percent: Printed, count: int, of: int, value: float, counts: list[int], others: tuple[int, ...], whole: bool
) -> str:
    if whole and abs(value - percent.value) <= 1.5 * percent.unit:
        return "adjusted so that the percentages of this variable add to 100"
    if percent.truncates(value):
        return "the last digit was cut off instead of rounded"
    for other in others:
        if count <= other and percent.agrees(100 * count / other):
            return f"another denominator: {count}/{other} = {rounded(100 * count / other)}%"
    shown = f"{value:.{percent.decimals}f}"
    if _one_digit_swap(percent.text.strip("% "), shown):
        return f"two digits swapped: {shown}"
    if len(counts) == 1:
        return f"another count: {counts[0]}/{of} gives {percent.text.rstrip('%')}%"
    return ""


def _one_digit_swap(first: str, second: str) -> bool:
    if len(first) != len(second) or first == second:
        return False
    differ = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    return len(differ) == 2 and first[differ[0]] == second[differ[1]] and first[differ[1]] == second[differ[0]]


def _name(variable: Variable, row: Row) -> str:
    return row.label if len(variable.rows) == 1 else f"{variable.name}: {row.label}"
