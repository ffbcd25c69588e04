"""Matched groups: exact McNemar tests inverted for their discordant pairs, and the balance that remains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import stats

from cantlie.statistics.association import mcnemar
from cantlie.study.audit.cells import Cell
from cantlie.study.audit.checks.counts import Judged, five_digits, judge_p, open_p, table_candidates
from cantlie.study.audit.claims import Table
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.table import PrintedTable, Variable
from cantlie.study.audit.verdict import Finding, PValue

MCNEMAR = "exact McNemar"
BALANCED_BELOW = 0.1
SOURCE = "McNemar 1947, doi 10.1007/BF02295996"
SMD_SOURCE = "Austin 2009, doi 10.1002/sim.3697"


def discordant_totals(first: int, second: int, pairs: int, printed: Printed, *, exact: bool = True) -> list[int]:
    """Return every number of discordant pairs with which McNemar's test gives the printed p.

    Among ``pairs`` pairs, ``first`` have the property in one group and ``second`` in the other; b - c is their
    difference, b + c the unknown total.
    """
    difference = abs(first - second)
    most = min(first, pairs - second) + min(second, pairs - first)
    found = []
    for total in range(difference, most + 1, 2):
        b, c = (total + difference) // 2, (total - difference) // 2
        test = mcnemar(b, c)
        values = (test.exact_p,) if exact else (test.asymptotic_p, test.corrected_p)
        if any(printed.agrees(five_digits(value)) for value in values):
            found.append(total)
    return found


def paired_findings(claim: Table, table: PrintedTable, alpha: float, named: tuple[str, ...]) -> Iterator[Judged]:
    """Judge the p-values of a table of two matched groups."""
    unpaired_fits = paired_fits = two_level = 0
    flips: list[str] = []
    for variable in table.variables:
        if variable.p is None:
            continue
        where = (claim.place, variable.name, variable.line)
        unpaired = table_candidates(variable, table) or {}
        binary = _binary(variable, table)
        fits = any(variable.p.agrees(five_digits(p)) for p in unpaired.values())
        if binary is None:
            yield _several_levels(variable, table, unpaired, where, alpha, named)
            if unpaired and all((p < alpha) != (variable.p.value < alpha) for p in unpaired.values()) and not fits:
                flips.append(f"{variable.name} {rounded(next(iter(unpaired.values())), 2)} (printed {variable.p_text})")
            continue
        two_level += 1
        unpaired_fits += fits
        totals = discordant_totals(*binary, variable.p)
        asymptotic = [] if totals else discordant_totals(*binary, variable.p, exact=False)
        paired_fits += bool(totals)
        if not totals and not asymptotic:
            if fits:
                yield judge_p(variable.p, variable.p_text, unpaired, where, alpha, named)
            else:
                yield _unreproduced(variable, unpaired, binary, where, alpha, named)
            continue
        test = MCNEMAR if totals else "McNemar χ²"
        reached = totals or asymptotic
        span = str(reached[0]) if len(reached) == 1 else f"{reached[0]} to {reached[-1]}"
        candidates = {**unpaired, test: variable.p.value}
        finding = Finding(
            "p-value",
            claim.place,
            variable.name,
            f"p = {variable.p_text}",
            f"{test} with {span} discordant pairs; unpaired: "
            + "; ".join(f"{name} {rounded(p)}" for name, p in unpaired.items()),
            "McNemar's test inverted for the number of discordant pairs",
            "consistent",
            remark="" if len(reached) == 1 else f"{len(reached)} numbers of discordant pairs give it",
            source=SOURCE,
            line=variable.line,
        )
        by = (test, *(name for name, p in unpaired.items() if variable.p.agrees(five_digits(p))))
        yield finding, PValue(claim.place, variable.name, variable.p_text, candidates, by, named, False, variable.line)
    if two_level and paired_fits > unpaired_fits and named and not any("mcnemar" in name.casefold() for name in named):
        finding = Finding(
            "method",
            claim.place,
            "tests of the matched groups",
            f"named: {', '.join(named)}",
            f"{MCNEMAR} reproduces {paired_fits} of {two_level} yes/no rows, unpaired tests {unpaired_fits}",
            "all two-level rows by paired and unpaired tests",
            "inconsistent",
            "warning",
            remark="the paired test that reproduces the numbers is not named"
            + (f"; unpaired, significance would change for {', '.join(flips)}" if flips else ""),
            source=SOURCE,
        )
        yield finding, PValue(claim.place, "", "", {}, ())


def _binary(variable: Variable, table: PrintedTable) -> tuple[int, int, int] | None:
    groups = [index for index, group in enumerate(table.groups) if not group.is_total]
    rows = [row for row in variable.rows if all(row.cells[index].kind == "count" for index in groups)]
    if len(groups) != 2 or len(rows) not in (1, 2) or table.groups[groups[0]].size != table.groups[groups[1]].size:
        return None
    first, second = (rows[0].cells[index].count for index in groups)
    return first, second, table.groups[groups[0]].size


def _unreproduced(
    variable: Variable,
    unpaired: dict[str, float],
    binary: tuple[int, int, int],
    where: tuple[str, str, int],
    alpha: float,
    named: tuple[str, ...],
) -> Judged:
    first, second, pairs = binary
    place, item, line = where
    finding = Finding(
        "p-value",
        place,
        item,
        f"p = {variable.p_text}",
        "; ".join(f"{name} {rounded(p)}" for name, p in unpaired.items()),
        f"unpaired tests, and McNemar's test for every number of discordant pairs ({first} and {second} of {pairs})",
        "inconsistent",
        "warning",
        source=SOURCE,
        line=line,
    )
    return finding, PValue(place, item, variable.p_text, unpaired, (), named, False, line)


def _several_levels(
    variable: Variable,
    table: PrintedTable,
    unpaired: dict[str, float],
    where: tuple[str, str, int],
    alpha: float,
    named: tuple[str, ...],
) -> Judged:
    """A matched variable of more than two levels needs its paired table; three levels can be searched."""
    assert variable.p is not None  # the caller looked
    place, item, line = where
    if any(variable.p.agrees(five_digits(p)) for p in unpaired.values()):
        return judge_p(variable.p, variable.p_text, unpaired, where, alpha, named)
    groups = [index for index, group in enumerate(table.groups) if not group.is_total]
    counts = [[row.cells[index].count for index in groups] for row in variable.rows]
    shown = "; ".join(f"{name} {rounded(p)}" for name, p in unpaired.items())
    if not unpaired or len(groups) != 2 or len(counts) != 3:
        finding, p_value = open_p(variable.p_text, where, "a test of symmetry needs the table of pairs", named)
        remark = f"unpaired: {shown}" if shown else ""
        return _with_remark(finding, remark), p_value
    possible = bowker_possible([row[0] for row in counts], [row[1] for row in counts], variable.p)
    finding = Finding(
        "p-value",
        place,
        item,
        f"p = {variable.p_text}",
        f"unpaired: {shown}",
        "Bowker's test over every table of pairs with these margins",
        "not recomputable" if possible else "inconsistent",
        "" if possible else "warning",
        remark="some tables of pairs with these margins give the printed p by Bowker's test; the margins do not decide"
        if possible
        else "no table of pairs with these margins gives the printed p",
        source="Bowker 1948, doi 10.1080/01621459.1948.10483284",
        line=line,
    )
    return finding, PValue(place, item, variable.p_text, unpaired, (), named, False, line)


def bowker_possible(first: list[int], second: list[int], printed: Printed) -> bool:
    """Say whether any 3 × 3 table of pairs with these margins gives the printed p by Bowker's test."""
    limit = [[min(first[i], second[j]) for j in range(3)] for i in range(3)]
    ranges = [range(limit[0][1] + 1), range(limit[0][2] + 1), range(limit[1][2] + 1), range(limit[1][0] + 1)]
    n01, n02, n12, n10 = (
        np.asarray(axis).ravel() for axis in np.meshgrid(*[np.arange(len(r)) for r in ranges], indexing="ij")
    )
    # Margins fix the rest: row sum minus column sum is first - second for every level.
    n20 = n01 + n02 - n10 - (first[0] - second[0])
    n21 = n10 + n12 - n01 - (first[1] - second[1])
    diagonal = [first[0] - n01 - n02, first[1] - n10 - n12, first[2] - n20 - n21]
    allowed = (n20 >= 0) & (n21 >= 0) & (diagonal[0] >= 0) & (diagonal[1] >= 0) & (diagonal[2] >= 0)
    statistic = np.zeros(int(allowed.sum()))
    degrees = np.zeros(int(allowed.sum()), dtype=int)
    for upper, lower in ((n01, n10), (n02, n20), (n12, n21)):
        b, c = upper[allowed].astype(float), lower[allowed].astype(float)
        used = b + c > 0
        statistic += np.where(used, (b - c) ** 2 / np.maximum(b + c, 1), 0.0)
        degrees += used
    for df in (3, 2, 1):
        p = stats.chi2.sf(statistic[(degrees == df) | (df == 3)], df)
        if np.any((p >= printed.low - 1e-9) & (p <= printed.high + 1e-9)):
            return True
    return False


def _with_remark(finding: Finding, remark: str) -> Finding:
    return replace(finding, remark=remark)


def check_balance(loaded: LoadedClaims) -> Iterator[Finding]:
    """Standardised differences of all levels of tables whose groups the paper calls balanced or matched."""
    for index, (claim, table) in enumerate(zip(loaded.claims.table, loaded.tables, strict=True)):
        groups = [i for i, group in enumerate(table.groups) if not group.is_total and group.size]
        if not claim.balanced or len(groups) != 2:
            continue
        sizes = [table.groups[i].size for i in groups]
        found: list[tuple[str, float]] = []
        for variable in table.variables:
            rows = variable.rows[:1] if len(variable.rows) == 2 else variable.rows
            for row in rows:
                if all(row.cells[i].kind == "count" for i in groups):
                    a, b = (row.cells[i].count / size for i, size in zip(groups, sizes, strict=True))
                    name = row.label if len(variable.rows) == 1 else f"{variable.name}: {row.label}"
                    found.append((name, standardised_difference(a, b)))
                elif all(row.cells[i].kind == "mean" for i in groups):
                    found.append((row.label, _difference_of_means([row.cells[i] for i in groups])))
        if not found:
            continue
        large = sorted((item for item in found if abs(item[1]) > BALANCED_BELOW), key=lambda item: -abs(item[1]))
        shown = ", ".join(f"{name} {value:+.3f}" for name, value in large)
        yield Finding(
            "balance",
            claim.place,
            "standardised differences",
            "the groups are called balanced",
            f"{len(large)} of {len(found)} above {BALANCED_BELOW:g}: {shown}"
            if large
            else f"all {len(found)} within {BALANCED_BELOW:g}",
            "difference / √(mean of both variances), against 0.1",
            "inconsistent" if large else "consistent",
            "warning" if large else "",
            remark="p-values do not measure balance" if large else "",
            source=SMD_SOURCE,
            line=loaded.line("table", index),
        )


def _difference_of_means(cells: list[Cell]) -> float:
    first, second = cells
    assert first.centre and first.spread and second.centre and second.spread  # cells of means hold both
    spread = math.sqrt((first.spread.value**2 + second.spread.value**2) / 2)
    difference = first.centre.value - second.centre.value
    return difference / spread if spread else (0.0 if difference == 0 else math.copysign(math.inf, difference))


def standardised_difference(first: float, second: float) -> float:
    """Return the standardised difference of two proportions; 0 when both are the same and constant."""
    variance = (first * (1 - first) + second * (1 - second)) / 2
    if variance == 0:
        return 0.0 if first == second else math.copysign(math.inf, first - second)
    return (first - second) / math.sqrt(variance)
