"""Labels: classes that overlap or leave a gap, levels of different measurements, missing captions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, pairwise

from cantlie.study.audit.claims import Table
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.table import PrintedTable, Variable
from cantlie.study.audit.verdict import Finding, judged

_BOUND = re.compile(r"(<=|>=|<|>)\s*(\d+(?:\.\d+)?)")
_CLASS = re.compile(r"^\s*([A-Za-z][\w /-]*?)?\s*[,:=]?\s*(?:(?:<=|>=|<|>)\s*\d|\d+(?:\.\d+)?\s*-)")


def check_labels(loaded: LoadedClaims) -> Iterator[Finding]:
    """Judge captions, class limits and the measurements that the levels of a variable name."""
    for index, (claim, table) in enumerate(zip(loaded.claims.table, loaded.tables, strict=True)):
        if claim.caption and not re.search(r"[^\W\d_]", claim.caption):
            yield Finding(
                "label",
                claim.place,
                "caption",
                claim.caption,
                "no words",
                "a caption says what the table shows",
                "inconsistent",
                "minor",
                line=loaded.line("table", index),
            )
        for variable in table.variables:
            if len(variable.rows) > 1:
                yield from _classes(variable, claim)
                yield from _measurements(variable, table, claim)


def _plain(label: str) -> str:
    return (
        label.replace("≤", "<=")
        .replace("≥", ">=")
        .replace("＜", "<")
        .replace("＞", ">")
        .replace("–", "-")
        .replace("−", "-")
    )


def _halfline(label: str) -> tuple[float, bool, float, bool] | None:
    """Return low, low included, high, high included of a class given by bounds alone."""
    bounds = _BOUND.findall(_plain(label))
    if not bounds:
        return None
    low, low_in, high, high_in = float("-inf"), False, float("inf"), False
    for sign, number in bounds:
        if "<" in sign:
            high, high_in = float(number), "=" in sign
        else:
            low, low_in = float(number), "=" in sign
    return low, low_in, high, high_in


def _classes(variable: Variable, claim: Table) -> Iterator[Finding]:
    read = [(row.label, _halfline(row.label)) for row in variable.rows]
    limits = [(label, limit) for label, limit in read if limit is not None]
    if len(limits) < 2 or len(limits) != len(read) or len(_subjects(variable)) > 1:
        return
    problem = ""
    for (first, a), (second, b) in combinations(limits, 2):
        low, low_open = max((a[0], not a[1]), (b[0], not b[1]))
        high, high_in = min((a[2], a[3]), (b[2], b[3]))
        if low < high or (low == high and not low_open and high_in):
            problem = f"'{first}' and '{second}' overlap"
            break
    if not problem:
        ordered = sorted((limit for _, limit in limits), key=lambda limit: (limit[0], limit[2]))
        for a, b in pairwise(ordered):
            if a[2] == b[0] and not a[3] and not b[1]:
                problem = f"{a[2]:g} belongs to no class"
    yield Finding(
        "label",
        claim.place,
        f"{variable.name}: classes",
        "; ".join(f"'{label}'" for label, _ in limits),
        problem or "the classes neither overlap nor leave a gap",
        "limits of the classes",
        "inconsistent" if problem else "consistent",
        "major" if "overlap" in problem else ("minor" if problem else ""),
        slip=_turned_sign(limits) if "overlap" in problem else "",
        line=variable.line,
    )


def _turned_sign(limits: list[tuple[str, tuple[float, bool, float, bool]]]) -> str:
    if len(limits) == 2 and all(limit[0] == float("-inf") for _, limit in limits):
        return f"a sign turned round: '{_plain(limits[1][0]).replace('<', '>')}'"
    if len(limits) == 2 and all(limit[2] == float("inf") for _, limit in limits):
        return f"a sign turned round: '{_plain(limits[1][0]).replace('>', '<')}'"
    return ""


def _subjects(variable: Variable) -> set[str]:
    names = set()
    for row in variable.rows:
        match = _CLASS.match(_plain(row.label))
        if match is None:
            return set()
        names.add((match.group(1) or "").strip().casefold())
    return names


def _measurements(variable: Variable, table: PrintedTable, claim: Table) -> Iterator[Finding]:
    """Levels such as ALT < 40 and AST < 40 in one variable: each measurement must cover all patients by itself."""
    subjects = _subjects(variable)
    if len(subjects) < 2 or "" in subjects:
        return
    parts: list[str] = []
    complete = True
    for subject in sorted(subjects):
        rows = [
            row
            for row in variable.rows
            if (match := _CLASS.match(_plain(row.label))) and (match.group(1) or "").strip().casefold() == subject
        ]
        for index, group in enumerate(table.groups):
            total = sum(row.cells[index].count for row in rows)
            complete = complete and (not group.size or total == group.size)
            parts.append(f"{subject.upper()} {total}/{group.size} ({group.name})")
    yield judged(
        "logic",
        claim.place,
        f"{variable.name}: several measurements as one variable",
        "; ".join(row.label for row in variable.rows),
        ", ".join(parts),
        "every patient should appear once for each measurement",
        complete,
        severity="warning",
        remark="" if complete else "one test over all these rows has no clear meaning",
        line=variable.line,
    )
