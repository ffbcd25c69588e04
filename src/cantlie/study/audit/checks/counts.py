"""Every plausible test of a table of counts, and the judgement of a printed p-value by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cantlie.core.errors import StatisticsError
from cantlie.statistics.association import fisher_exact, likelihood_ratio, pearson_chi2, trend
from cantlie.statistics.comparison import mann_whitney
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.table import PrintedTable, Variable
from cantlie.study.audit.verdict import Finding, PValue, Severity, judged

PEARSON = "Pearson χ²"
YATES = "Yates-corrected χ²"
FISHER = "Fisher exact"
FREEMAN_HALTON = "Fisher–Freeman–Halton"
RATIO = "likelihood-ratio χ²"
TREND = "trend (Cochran–Armitage)"
RANKS = "Mann–Whitney of the levels"
SOURCE = "Pearson 1900; Yates 1934; Freeman and Halton 1951; Wilks 1935; Armitage 1955"
Judged = tuple[Finding, PValue]


def count_candidates(counts: Sequence[Sequence[int]], *, ordered: bool = False) -> dict[str, float]:
    """Return the two-sided p of every plausible test of a table of counts (rows are levels, columns groups).

    An empty result means that no test applies, because fewer than two rows or columns hold anybody.
    """
    rows = [list(row) for row in counts if sum(row)]
    if len(rows) < 2 or sum(1 for column in zip(*rows, strict=True) if sum(column)) < 2:
        return {}
    two_by_two = len(rows) == 2 and len(rows[0]) == 2
    found: dict[str, float] = {}
    try:
        found[PEARSON] = pearson_chi2(rows).p_value
        if two_by_two:
            found[YATES] = pearson_chi2(rows, yates=True).p_value
        found[FISHER if two_by_two else FREEMAN_HALTON] = fisher_exact(rows).p_value
        found[RATIO] = likelihood_ratio(rows).p_value
        if ordered and len(rows) > 2 and len(rows[0]) == 2:
            found[TREND] = trend(rows).p_value
            levels = np.arange(len(rows))
            first, second = (np.repeat(levels, [row[group] for row in rows]) for group in (0, 1))
            found[RANKS] = mann_whitney(first, second, method="asymptotic", continuity=False).p_value
    except StatisticsError:
        return found
    return found


def table_candidates(variable: Variable, table: PrintedTable, *, ordered: bool = False) -> dict[str, float] | None:
    """Return the candidates for a variable of counts; None when its rows hold no counts for every group."""
    groups = [index for index, group in enumerate(table.groups) if not group.is_total]
    rows = [row for row in variable.rows if any(row.cells[index].kind == "count" for index in groups)]
    if not rows or any(row.cells[index].kind != "count" for row in rows for index in groups):
        return None
    counts = [[row.cells[index].count for index in groups] for row in rows]
    if len(rows) == 1:
        sizes = [rows[0].cells[index].of or table.groups[index].size for index in groups]
        if not all(sizes) or any(count > size for count, size in zip(counts[0], sizes, strict=True)):
            return None
        counts.append([size - count for count, size in zip(counts[0], sizes, strict=True)])
    return count_candidates(counts, ordered=ordered)


def judge_p(
    printed: Printed,
    text: str,
    candidates: dict[str, float],
    where: tuple[str, str, int],
    alpha: float,
    named: tuple[str, ...],
    *,
    others: dict[str, str] | None = None,
) -> Judged:
    """Judge a printed p-value by the tests that could have made it."""
    place, item, line = where
    if not candidates:
        return open_p(text, where, "no test applies to these counts", named)
    reproduced = tuple(name for name, p in candidates.items() if printed.agrees(five_digits(p)))
    below = {name for name, p in candidates.items() if p < alpha}
    choice = 0 < len(below) < len(candidates)
    shown = "; ".join(f"{name} {rounded(p)}" for name, p in candidates.items())
    remarks = []
    if reproduced and named and not any(_is_named(name, named) for name in reproduced):
        remarks.append(f"reproduced by {', '.join(reproduced)}, not by a test that the paper names")
    if choice:
        remarks.append(f"the choice of test decides: below {alpha:g} by {', '.join(sorted(below))} only")
    severity: Severity = ""
    slip = ""
    if not reproduced:
        severity, slip = _gravity(printed, candidates, alpha, others or {})
    finding = judged(
        "p-value",
        place,
        item,
        f"p {text}" if text[:1] in "<>≤≥=" else f"p = {text}",
        shown,
        "every plausible test of the printed counts",
        bool(reproduced),
        severity=severity,
        remark="; ".join(remarks),
        slip=slip,
        source=SOURCE,
        line=line,
    )
    return finding, PValue(place, item, text, candidates, reproduced, named, choice, line)


def five_digits(p: float) -> float:
    """Round a recomputed p to five significant digits, as statistics programs show it before a paper rounds again."""
    return float(f"{p:.5g}")


def open_p(text: str, where: tuple[str, str, int], why: str, named: tuple[str, ...]) -> Judged:
    """Record a p-value that the paper gives no means to recompute."""
    place, item, line = where
    printed = f"p {text}" if text[:1] in "<>≤≥=" else f"p = {text}"
    finding = Finding("p-value", place, item, printed, "-", why, "not recomputable", line=line)
    return finding, PValue(place, item, text, {}, (), named, False, line)


def _gravity(
    printed: Printed, candidates: dict[str, float], alpha: float, others: dict[str, str]
) -> tuple[Severity, str]:
    nearest = min(candidates, key=lambda name: abs(candidates[name] - printed.value))
    distance = abs(candidates[nearest] - printed.value)
    if printed.relation == "=" and distance <= 1.5 * printed.unit:
        return "minor", f"last digit only: {nearest} gives {candidates[nearest]:.{printed.decimals}f}"
    slip = ""
    for name, p in candidates.items():
        shown = f"{p:.{printed.decimals}f}".lstrip("0")
        plain = printed.text.lstrip("0<>=≤≥ ")
        if sorted(shown) == sorted(plain) and sum(a != b for a, b in zip(shown, plain, strict=True)) == 2:
            slip = f"two digits swapped: {name} gives 0{shown}"
    if not slip and printed.text in others and printed.relation == "=":
        slip = f"the same value is printed for {others[printed.text]}"
    printed_significant = printed.high <= alpha if printed.relation != "=" else printed.value < alpha
    turned = all((p < alpha) != printed_significant for p in candidates.values())
    return ("major" if turned else "warning"), slip


_SYNONYMS = {
    PEARSON: ("pearson", "chi-square", "chi square", "chi2", "χ2", "χ²"),
    YATES: ("yates", "continuity", "chi-square", "chi square"),
    FISHER: ("fisher",),
    FREEMAN_HALTON: ("fisher", "freeman"),
    RATIO: ("likelihood",),
    TREND: ("trend", "linear", "chi-square", "chi square"),
    RANKS: ("mann", "wilcoxon", "rank"),
}


def _is_named(test: str, named: tuple[str, ...]) -> bool:
    return any(word in name.casefold() for name in named for word in _SYNONYMS.get(test, (test.casefold(),)))
