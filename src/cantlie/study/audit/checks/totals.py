"""Totals and parts: levels that must add to their group, groups to the whole, parts to the printed total."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cantlie.study.audit.claims import Table, Total
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.table import PrintedTable, Row, Variable
from cantlie.study.audit.verdict import Finding, judged

METHOD = "sum of the printed parts"


def check_totals(loaded: LoadedClaims) -> Iterator[Finding]:
    """Add up the levels of every variable, the groups of every row, the named sums of a table, and stated totals."""
    for claim, table in zip(loaded.claims.table, loaded.tables, strict=True):
        for variable in table.variables:
            yield from _levels(variable, table, claim)
            yield from _whole_column(variable, table, claim.place)
        for rule in claim.sums:
            yield from _named_sum(rule, table, claim.place)
    for index, total in enumerate(loaded.claims.total):
        yield total_finding(total, loaded.line("total", index))


def total_finding(claim: Total, line: int = 0) -> Finding:
    """Judge parts against their printed total; decimals may each be rounded."""
    low = sum(_exact_or(part, part.low) for part in claim.parts)
    high = sum(_exact_or(part, part.high) for part in claim.parts)
    value = sum(part.value for part in claim.parts)
    shown = " + ".join(part.text for part in claim.parts)
    total = claim.total
    if claim.relation == "at most":
        fits = low <= total.high + 1e-9
    elif claim.relation == "at least":
        fits = high >= total.low - 1e-9
    else:
        fits = _whole(total, claim.parts) and abs(value - total.value) < 1e-9
        fits = fits or (not _whole(total, claim.parts) and total.meets(low, high))
    words = {"equal": "->", "at most": "at most", "at least": "at least"}[claim.relation]
    return judged(
        "total",
        claim.place,
        claim.what,
        f"{shown} {words} {total.text}",
        rounded(value, 8),
        METHOD if claim.relation == "equal" else f"the parts together must be {claim.relation} the printed number",
        fits,
        slip="" if fits else _sum_slip([part.value for part in claim.parts], total.value),
        line=line,
    )


def _whole(total: Printed, parts: list[Printed]) -> bool:
    return total.unit == 1 and all(part.unit == 1 for part in parts)


def _exact_or(part: Printed, rounded_value: float) -> float:
    """A whole number of patients is exact; a number with decimals was rounded."""
    return part.value if part.unit >= 1 else rounded_value


def _sum_slip(parts: list[float], total: float) -> str:
    if any(not float(part).is_integer() for part in [*parts, total]):
        return ""
    difference = int(total - sum(parts))
    for part in parts:
        digits = str(int(part))
        for i in range(len(digits) - 1):
            swapped = int(digits[:i] + digits[i + 1] + digits[i] + digits[i + 2 :])
            if swapped - int(part) == difference and digits[i + 1] != "0":
                return f"two digits of {digits} swapped ({swapped})"
    if str(int(total))[::-1] == str(int(sum(parts))) and len(str(int(total))) == 2:
        return f"two digits of the total swapped ({int(sum(parts))})"
    if any(int(part) == -difference for part in parts):
        return f"one part ({-difference}) is not in the total"
    return f"one number is off by {abs(difference)}" if abs(difference) <= 2 else ""


def _levels(variable: Variable, table: PrintedTable, claim: Table) -> Iterator[Finding]:
    rows = [row for row in variable.rows if any(cell.kind == "count" for cell in row.cells)]
    several = variable.name in claim.several
    for index, group in enumerate(table.groups):
        counts = [(row, row.cells[index].count) for row in rows if row.cells[index].kind == "count"]
        if not group.size or not counts:
            continue
        if len(rows) < 2 or several:
            for row, count in counts:
                if count > group.size:
                    yield Finding(
                        "total",
                        claim.place,
                        f"{row.label}, {group.name}",
                        f"{count} of {group.size}",
                        "impossible",
                        "a count cannot exceed its group",
                        "inconsistent",
                        "major",
                        line=row.line,
                    )
            continue
        if len(counts) != len(rows) and any(
            row.cells[index].kind != "empty" for row in rows if row.cells[index].kind != "count"
        ):
            continue
        of = counts[0][0].cells[index].of or group.size
        total = sum(count for _, count in counts)
        shown = "+".join(str(count) for _, count in counts)
        fits = total == of
        missing = "" if fits or total > of else "patients with missing data, if that is the reason, are not stated"
        yield judged(
            "total",
            claim.place,
            f"{variable.name} total {group.name}",
            f"{shown} -> {of}",
            str(total),
            "the levels of a variable add to its group",
            fits,
            severity="major" if total > of else "warning",
            remark=missing,
            slip="" if fits else _sum_slip([float(count) for _, count in counts], float(of)),
            line=variable.line,
        )


def _whole_column(variable: Variable, table: PrintedTable, place: str) -> Iterator[Finding]:
    whole = [index for index, group in enumerate(table.groups) if group.is_total]
    parts = [index for index, group in enumerate(table.groups) if not group.is_total]
    if len(whole) != 1 or len(parts) < 2:
        return
    for row in variable.rows:
        if all(row.cells[index].kind == "count" for index in [*whole, *parts]):
            counts = [row.cells[index].count for index in parts]
            printed = row.cells[whole[0]].count
            fits = sum(counts) == printed
            yield judged(
                "total",
                place,
                f"{row.label}, {table.groups[whole[0]].name}",
                f"{'+'.join(map(str, counts))} -> {printed}",
                str(sum(counts)),
                "the groups add to the whole",
                fits,
                slip="" if fits else _sum_slip([float(count) for count in counts], float(printed)),
                line=row.line,
            )


def _named_sum(rule: str, table: PrintedTable, place: str) -> Iterator[Finding]:
    left, _, right = rule.partition(" = ")
    rows = table.rows_named()
    labels = [label.strip() for label in re.split(r"\s\+\s", left)]
    target = right.strip()
    unknown = [label for label in [*labels, target] if label not in rows and label != "n"]
    if unknown or not right:
        yield Finding(
            "total",
            place,
            rule,
            rule,
            "-",
            METHOD,
            "not recomputable",
            remark=f"the table has no row '{unknown[0]}'" if unknown else "write it as a + b = total",
        )
        return
    for index, group in enumerate(table.groups):
        cells = [rows[label].cells[index] for label in labels]
        total = group.size if target == "n" else rows[target].cells[index].count
        if any(cell.kind != "count" for cell in cells) or (target != "n" and rows[target].cells[index].kind != "count"):
            continue
        counts = [cell.count for cell in cells]
        fits = sum(counts) == total
        line_row: Row = rows[labels[0]]
        yield judged(
            "total",
            place,
            f"{rule}, {group.name}",
            f"{'+'.join(map(str, counts))} -> {total}",
            str(sum(counts)),
            METHOD,
            fits,
            slip="" if fits else _sum_slip([float(count) for count in counts], float(total)),
            line=line_row.line,
        )
