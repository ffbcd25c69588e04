"""p-values recomputed by every plausible test: which reproduce the printed one, and whether the choice matters."""

from __future__ import annotations

from collections.abc import Iterator

from cantlie.study.audit.checks.counts import Judged, count_candidates, judge_p, open_p, table_candidates
from cantlie.study.audit.checks.distribution import class_limits
from cantlie.study.audit.checks.means import MeanComparison, mean_candidates
from cantlie.study.audit.checks.paired import paired_findings
from cantlie.study.audit.claims import Table
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.table import Variable


def check_p_values(loaded: LoadedClaims) -> Iterator[Judged]:
    """Recompute every printed p-value of the tables and of the text."""
    alpha = loaded.claims.alpha
    for claim, table in zip(loaded.claims.table, loaded.tables, strict=True):
        named = tuple(claim.tests or loaded.claims.tests)
        printed_in_table = {v.p_text: v.name for v in table.variables if v.p_text}
        if claim.matched:
            yield from paired_findings(claim, table, alpha, named)
            continue
        for variable in table.variables:
            if variable.p is None:
                continue
            candidates = table_candidates(variable, table, ordered=_is_ordered(variable, claim))
            others = {text: name for text, name in printed_in_table.items() if name != variable.name}
            where = (claim.place, variable.name, variable.line)
            if candidates is None:
                judged = mean_candidates(variable, table)
                if judged is not None:
                    yield judged.judge(variable.p, variable.p_text, where, alpha, named)
                else:
                    yield open_p(variable.p_text, where, "the table does not print what a test needs", named)
                continue
            yield judge_p(variable.p, variable.p_text, candidates, where, alpha, named, others=others)
    for index, comparison in enumerate(loaded.claims.comparison):
        where = (comparison.place, comparison.what, loaded.line("comparison", index))
        named = tuple(comparison.tests or loaded.claims.tests)
        if comparison.counts:
            candidates = count_candidates(comparison.counts)
            yield judge_p(comparison.p, comparison.p.text, candidates, where, alpha, named)
        elif comparison.means:
            yield MeanComparison(tuple(comparison.means)).judge(comparison.p, comparison.p.text, where, alpha, named)
        else:
            yield open_p(comparison.p.text, where, f"needs {comparison.needs}", tuple(comparison.tests))


def _is_ordered(variable: Variable, claim: Table) -> bool:
    return variable.name in claim.ordered or all(class_limits(row.label) is not None for row in variable.rows)
