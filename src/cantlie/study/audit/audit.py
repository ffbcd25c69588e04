"""The audit of one paper: all checks, in a fixed order, over its claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.checks.agreement import check_agreement
from cantlie.study.audit.checks.calendar import check_calendars
from cantlie.study.audit.checks.constraints import check_constraints
from cantlie.study.audit.checks.distribution import check_distributions
from cantlie.study.audit.checks.dose import check_doses
from cantlie.study.audit.checks.geometry import check_sizes
from cantlie.study.audit.checks.intervals import check_intervals
from cantlie.study.audit.checks.labels import check_labels
from cantlie.study.audit.checks.means import check_means
from cantlie.study.audit.checks.paired import check_balance
from cantlie.study.audit.checks.percent import check_percentages
from cantlie.study.audit.checks.plausibility import check_plausibility
from cantlie.study.audit.checks.pvalues import check_p_values
from cantlie.study.audit.checks.reporting import check_reporting
from cantlie.study.audit.checks.survival import check_survival
from cantlie.study.audit.checks.totals import check_totals
from cantlie.study.audit.load import LoadedClaims, load_claims
from cantlie.study.audit.verdict import AuditResult, Finding, PValue

CHECKS: tuple[Callable[[LoadedClaims], Iterator[Finding]], ...] = (
    check_totals,
    check_percentages,
    check_means,
    check_balance,
    check_intervals,
    check_survival,
    check_distributions,
    check_doses,
    check_constraints,
    check_calendars,
    check_sizes,
    check_plausibility,
    check_labels,
    check_agreement,
    check_reporting,
)


def audit(source: str | Path | LoadedClaims) -> AuditResult:
    """Recompute what can be recomputed of one paper.

    Parameters
    ----------
    source
        The name of a built-in paper, a claims file (TOML), a CSV file of one table, or claims already loaded.

    Raises
    ------
    ProtocolError
        If the claims cannot be read, with line and field, or nothing in them can be recomputed.
    """
    started = time.perf_counter()
    loaded = source if isinstance(source, LoadedClaims) else load_claims(source)
    findings: list[Finding] = []
    p_values: list[PValue] = []
    for finding, p_value in check_p_values(loaded):
        findings.append(finding)
        if p_value.printed:
            p_values.append(p_value)
    for check in CHECKS:
        findings.extend(check(loaded))
    if not findings:
        raise ProtocolError(
            "there is nothing in it that could be recomputed",
            where=loaded.place,
            remedy="give claims, or a table with counts, means or p-values for each arm (docs/how-to/audit.md)",
        )
    unread = tuple(
        f"{claim.place}, line {line}, row '{label}': the cell '{text}' was not understood and not checked"
        for claim, table in zip(loaded.claims.table, loaded.tables, strict=True)
        for line, label, text in table.unread
        if text.casefold() not in ("yes", "no")
    )
    cited = loaded.claims.citation
    words = [cited.journal, str(cited.year or ""), f"doi:{cited.doi}" if cited.doi else ""]
    return AuditResult(
        study=loaded.claims.id,
        title=cited.title or loaded.claims.id,
        citation=", ".join(word for word in words if word),
        findings=tuple(findings),
        p_values=tuple(p_values),
        claims_sha256=loaded.sha256,
        claims_place=loaded.place,
        seconds=time.perf_counter() - started,
        notes=unread,
    )
