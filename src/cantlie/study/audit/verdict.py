"""Findings: what was printed, what was recomputed, how, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["consistent", "inconsistent", "not recomputable"]
Severity = Literal["", "minor", "warning", "major"]
Check = Literal[
    "percent",
    "total",
    "p-value",
    "hazard-ratio",
    "interval",
    "summary",
    "grim",
    "balance",
    "order-statistics",
    "mean",
    "logic",
    "km-feasibility",
    "dose",
    "vacuous-constraint",
    "schedule",
    "dates",
    "geometry",
    "text-vs-text",
    "text-vs-table",
    "statement",
    "plausibility",
    "label",
    "reporting",
    "method",
]
CHECK_NAMES: dict[str, str] = {
    "percent": "Percentages against counts",
    "total": "Totals and parts",
    "p-value": "p-values by every plausible test",
    "hazard-ratio": "Ratios, intervals and their p-values",
    "interval": "Confidence intervals",
    "summary": "Tests from means and standard deviations",
    "grim": "GRIM and GRIMMER (possible means of whole numbers)",
    "balance": "Balance between matched groups",
    "order-statistics": "Medians and ranges against groups and counts",
    "mean": "Means against sums",
    "logic": "Logic of survival, doses and categories",
    "km-feasibility": "Kaplan–Meier rates by enumeration",
    "dose": "Dose, fractions and BED",
    "vacuous-constraint": "Constraints that cannot bind or contradict each other",
    "schedule": "Treatment calendar",
    "dates": "Dates and follow-up",
    "geometry": "Volumes against diameters",
    "text-vs-text": "The same fact in several places of the text",
    "text-vs-table": "Text against tables",
    "statement": "Statements against their numbers",
    "plausibility": "Values against clinical ranges",
    "label": "Labels and categories",
    "reporting": "Complete reporting",
    "method": "Methods named and methods that reproduce",
}
SEVERITY_ORDER: dict[str, int] = {"major": 0, "warning": 1, "minor": 2, "": 3}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one printed statement.

    Attributes
    ----------
    check
        The class of the check (a key of `CHECK_NAMES`).
    place, item
        Where the statement stands in the paper, and what it is about.
    printed, recomputed
        What the paper prints and what follows from its other numbers.
    method
        How it was recomputed, with its tolerance.
    verdict
        ``consistent``, ``inconsistent`` or ``not recomputable``.
    severity
        By consequence: ``major`` when a conclusion or a number that a reader would use changes, ``warning`` when a
        reader must know it to judge the result, ``minor`` for last digits and labels; empty when consistent.
    remark, slip
        What a reader should know beside the verdict; the most likely slip where one single change repairs it.
    source
        The reference of the method, where there is one.
    line
        The line of the claims file; 0 when unknown.
    """

    check: Check
    place: str
    item: str
    printed: str
    recomputed: str
    method: str
    verdict: Verdict
    severity: Severity = ""
    remark: str = ""
    slip: str = ""
    source: str = ""
    line: int = 0


def judged(
    check: Check,
    place: str,
    item: str,
    printed: str,
    recomputed: str,
    method: str,
    fits: bool,
    *,
    severity: Severity = "major",
    remark: str = "",
    slip: str = "",
    source: str = "",
    line: int = 0,
) -> Finding:
    """Return the finding of what can be recomputed; severity and slip are those that it has where it does not fit."""
    if fits:
        return Finding(check, place, item, printed, recomputed, method, "consistent", "", remark, "", source, line)
    return Finding(
        check, place, item, printed, recomputed, method, "inconsistent", severity, remark, slip, source, line
    )


@dataclass(frozen=True, slots=True)
class PValue:
    """One printed p-value and what every plausible test makes of it."""

    place: str
    item: str
    printed: str
    candidates: dict[str, float]
    reproduced_by: tuple[str, ...]
    named_tests: tuple[str, ...] = ()
    choice_changes_significance: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class AuditResult:
    """All findings about one paper, with what is needed to read them."""

    study: str
    title: str
    citation: str
    findings: tuple[Finding, ...]
    p_values: tuple[PValue, ...]
    claims_sha256: str = ""
    claims_place: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())

    def of(self, verdict: Verdict) -> tuple[Finding, ...]:
        """Return the findings with one verdict, the gravest first."""
        chosen = [finding for finding in self.findings if finding.verdict == verdict]
        return tuple(sorted(chosen, key=lambda finding: SEVERITY_ORDER[finding.severity]))
