"""Tests from printed means and standard deviations, GRIM in tables, and the single slip that would repair them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import stats

from cantlie.statistics.comparison import t_test_from_summary, welch_from_summary
from cantlie.study.audit.checks.distribution import grim, grimmer
from cantlie.study.audit.claims import Moments
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import Printed, rounded
from cantlie.study.audit.table import PrintedTable, Variable
from cantlie.study.audit.verdict import Finding, PValue, Severity, judged

STUDENT = "Student t"
WELCH = "Welch t"
ANOVA = "one-way ANOVA"
SOURCE = "Student 1908; Welch 1947, doi 10.1093/biomet/34.1-2.28"


@dataclass(frozen=True, slots=True)
class MeanComparison:
    """Two or more groups by size, mean and standard deviation."""

    groups: tuple[Moments, ...]

    def candidates(self) -> dict[str, float]:
        """Return the p-values of the printed means and SDs as they stand."""
        if len(self.groups) != 2:
            return {ANOVA: _anova([(g.n, g.mean.value, g.sd.value) for g in self.groups])}
        a, b = self.groups
        return {
            name: _t_test(a.n, a.mean.value, a.sd.value, b.n, b.mean.value, b.sd.value, equal)
            for name, equal in ((STUDENT, True), (WELCH, False))
        }

    def limits(self) -> dict[str, tuple[float, float]]:
        """Return the smallest and largest p that values rounding to the printed ones can give."""
        if len(self.groups) != 2:
            return {ANOVA: self._anova_limits()}
        a, b = self.groups
        nearest = max(0.0, abs(a.mean.value - b.mean.value) - (a.mean.unit + b.mean.unit) / 2)
        farthest = abs(a.mean.value - b.mean.value) + (a.mean.unit + b.mean.unit) / 2
        found = {}
        for name, equal in ((STUDENT, True), (WELCH, False)):
            wide = [
                _t_test(a.n, nearest, sa, b.n, 0.0, sb, equal)
                for sa, sb in itertools.product((max(a.sd.low, 0.0), a.sd.high), (max(b.sd.low, 0.0), b.sd.high))
            ]
            tight = [
                _t_test(a.n, farthest, sa, b.n, 0.0, sb, equal)
                for sa, sb in itertools.product((max(a.sd.low, 0.0), a.sd.high), (max(b.sd.low, 0.0), b.sd.high))
            ]
            found[name] = (min(tight), max(wide))
        return found

    def _anova_limits(self) -> tuple[float, float]:
        """The largest F is at a corner of the rounded means; the smallest brings them as near together as can be."""
        total = sum(g.n for g in self.groups)
        grand = sum(g.n * g.mean.value for g in self.groups) / total
        small = [max(g.sd.low, 0.0) for g in self.groups]
        corners = itertools.product(*[(g.mean.low, g.mean.high) for g in self.groups])
        least = min(_anova([(g.n, m, sd) for g, m, sd in zip(self.groups, c, small, strict=True)]) for c in corners)
        near = [(g.n, min(max(grand, g.mean.low), g.mean.high), g.sd.high) for g in self.groups]
        return least, _anova(near)

    def judge(
        self, printed: Printed, text: str, where: tuple[str, str, int], alpha: float, named: tuple[str, ...]
    ) -> tuple[Finding, PValue]:
        """Judge a printed p-value by t-tests of the printed means, within the rounding of all numbers."""
        place, item, line = where
        values, limits = self.candidates(), self.limits()
        reproduced = tuple(name for name, (low, high) in limits.items() if printed.meets(low, high))
        below = {name for name, p in values.items() if p < alpha}
        severity: Severity = ""
        slip = ""
        if not reproduced:
            printed_significant = printed.high <= alpha if printed.relation != "=" else printed.value < alpha
            severity = "major" if all((p < alpha) != printed_significant for p in values.values()) else "warning"
            slip = self._decimal_slip(printed)
        means = " vs ".join(f"{g.mean.text}±{g.sd.text}" for g in self.groups)
        sign = "" if text[:1] in "<>≤≥=" else "= "
        finding = judged(
            "p-value",
            place,
            item,
            f"{means}, p {sign}{text}",
            "; ".join(f"{name} {rounded(p)}" for name, p in values.items()),
            f"t-tests from summaries (n = {'/'.join(str(g.n) for g in self.groups)}), within their rounding",
            bool(reproduced),
            severity=severity,
            remark="the choice of test decides" if 0 < len(below) < len(values) else "",
            slip=slip,
            source=SOURCE,
            line=line,
        )
        return finding, PValue(place, item, text, values, reproduced, named, 0 < len(below) < len(values), line)

    def _decimal_slip(self, printed: Printed) -> str:
        """One mean whose decimal point moved by one place."""
        found = []
        for index, group in enumerate(self.groups):
            for factor in (10.0, 0.1):
                moved = Printed(group.mean.text, group.mean.value * factor, group.mean.unit * factor)
                changed = list(self.groups)
                changed[index] = group.model_copy(update={"mean": moved})
                if any(printed.meets(low, high) for low, high in MeanComparison(tuple(changed)).limits().values()):
                    found.append(f"{rounded(moved.value)} for {group.mean.text}")
        return f"a decimal point lost or moved: {' or '.join(found)}" if found else ""


def mean_candidates(variable: Variable, table: PrintedTable) -> MeanComparison | None:
    """Return the groups of a row of means and SDs, or None if it is no such row."""
    groups = [index for index, group in enumerate(table.groups) if not group.is_total]
    if len(variable.rows) != 1 or len(groups) < 2:
        return None
    moments: list[Moments] = []
    for index in groups:
        cell = variable.rows[0].cells[index]
        size = table.groups[index].size
        if cell.kind != "mean" or cell.centre is None or cell.spread is None or size < 2:
            return None
        moments.append(Moments(n=size, mean=cell.centre, sd=cell.spread))
    return MeanComparison(tuple(moments))


def check_means(loaded: LoadedClaims) -> Iterator[Finding]:
    """GRIM and GRIMMER for the rows of tables that hold whole numbers."""
    for claim, table in zip(loaded.claims.table, loaded.tables, strict=True):
        for variable in table.variables:
            if variable.name not in claim.integers:
                continue
            for row in variable.rows:
                for cell, group in zip(row.cells, table.groups, strict=True):
                    if cell.kind == "mean" and cell.centre is not None and cell.spread is not None and group.size > 1:
                        item = f"{row.label}, {group.name}"
                        yield grim(cell.centre, group.size, claim.place, item, row.line)
                        yield grimmer(cell.centre, cell.spread, group.size, claim.place, item, row.line)


def _t_test(n1: int, m1: float, s1: float, n2: int, m2: float, s2: float, equal: bool) -> float:
    if s1 == 0 and s2 == 0:
        return 1.0 if m1 == m2 else 0.0
    test = t_test_from_summary if equal else welch_from_summary
    return test(m1, s1, n1, m2, s2, n2).p_value


def _anova(groups: list[tuple[int, float, float]]) -> float:
    total = sum(n for n, _, _ in groups)
    grand = sum(n * mean for n, mean, _ in groups) / total
    between = sum(n * (mean - grand) ** 2 for n, mean, _ in groups) / (len(groups) - 1)
    within = sum((n - 1) * sd**2 for n, _, sd in groups) / (total - len(groups))
    if within == 0:
        return 1.0 if between == 0 else 0.0
    return float(stats.f.sf(between / within, len(groups) - 1, total - len(groups)))
