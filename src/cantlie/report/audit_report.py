"""The audit of a paper as a report: HTML, PDF, CSV and results.json, in words that an author would accept."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cantlie.core.files import write_json, write_text
from cantlie.core.provenance import environment
from cantlie.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    Paragraph,
    Section,
    Subheading,
    Table,
    Tile,
    Tiles,
    Tone,
)
from cantlie.report.html import write_html
from cantlie.report.pdf import write_pdf
from cantlie.study.audit.audit import audit
from cantlie.study.audit.verdict import CHECK_NAMES, AuditResult, Finding, PValue

FORMATS = ("json", "csv", "html", "pdf")
_SEVERITY_WORDS = {
    "major": "A conclusion, or a number that a reader would use, changes",
    "warning": "A reader needs to know it to judge the result",
    "minor": "Last digits, labels and wording",
}
_TONES: dict[str, Tone] = {"major": "fail", "warning": "warning", "minor": "muted", "": ""}
_VERDICT_TONES: dict[str, Tone] = {"consistent": "pass", "inconsistent": "fail", "not recomputable": "muted"}
SCOPE = (
    "This report compares printed numbers with each other. A difference says that two printed numbers do not fit "
    "together; it does not say which of them is right, nor why they differ. Rounding, missing data, another test or a "
    "slip of the pen are the usual reasons, and only the authors and their data can tell."
)


def run_audit(source: str | Path, out: Path, *, formats: Collection[str] = FORMATS) -> AuditResult:
    """Audit a paper and write what was found into a folder.

    Parameters
    ----------
    source
        The name of a built-in paper, a claims file (TOML), or a CSV file of one table.
    out
        The folder for results.json, run.json, tables/findings.csv, tables/p_values.csv, report.html, report.pdf.
    formats
        Which of ``json``, ``csv``, ``html`` and ``pdf`` to write.

    Raises
    ------
    ProtocolError
        If the claims are wrong, with line and field.
    OutputError
        If the folder cannot be written.
    """
    result = audit(source)
    if "json" in formats:
        write_json(out / "results.json", results_of(result))
        write_json(out / "run.json", _run_of(result))
    if "csv" in formats:
        write_text(out / "tables" / "findings.csv", _findings_csv(result))
        write_text(out / "tables" / "p_values.csv", _p_values_csv(result))
    document = audit_document(result)
    if "html" in formats:
        write_html(document, out / "report.html")
    if "pdf" in formats:
        write_pdf(document, out / "report.pdf")
    return result


def results_of(result: AuditResult) -> dict[str, Any]:
    """Return the content of results.json: the summary, every check and every p-value as plain data."""
    return {
        "kind": "audit",
        "study": result.study,
        "title": result.title,
        "citation": result.citation,
        "summary": {
            "checks": len(result.findings),
            "verdicts": dict(Counter(finding.verdict for finding in result.findings)),
            "severities": dict(Counter(f.severity for f in result.of("inconsistent"))),
            "p_values": len(result.p_values),
            "p_values_reproduced": sum(bool(p.reproduced_by) for p in result.p_values),
        },
        "scope": SCOPE,
        "checks": [{"study": result.study, **asdict(finding)} for finding in result.findings],
        "p_values": [asdict(p) for p in result.p_values],
        "notes": list(result.notes),
    }


def _run_of(result: AuditResult) -> dict[str, Any]:
    return {
        "status": "done",
        "kind": "audit",
        "provenance": {
            "environment": environment(("numpy", "scipy", "pydantic")),
            "claims": result.claims_place,
            "claims_sha256": result.claims_sha256,
        },
        "stages": [{"name": "audit", "seconds": round(result.seconds, 3)}],
        "warnings": list(result.notes),
        "citations": sorted({finding.source for finding in result.findings if finding.source}),
    }


def audit_document(result: AuditResult) -> Document:
    """Return the report of an audit as a document."""
    inconsistent = result.of("inconsistent")
    graves: Counter[str] = Counter(finding.severity for finding in inconsistent)
    verdicts = Counter(finding.verdict for finding in result.findings)
    tiles = Tiles(
        [
            Tile("checks", len(result.findings)),
            Tile("consistent", verdicts["consistent"], tone="pass"),
            Tile(
                "inconsistent", verdicts["inconsistent"], note=_graves(graves), tone="fail" if graves["major"] else ""
            ),
            Tile("not recomputable", verdicts["not recomputable"]),
            Tile(
                "p-values",
                len(result.p_values),
                note=f"{sum(bool(p.reproduced_by) for p in result.p_values)} reproduced",
            ),
        ]
    )
    lead: list[Block] = [tiles, Callout(SCOPE, title="How to read this report")]
    if result.notes:
        lead.append(Callout("Cells that were not understood were not checked.", tone="warning", items=result.notes))
    return Document(
        title=f"Audit of {result.study}",
        subtitle=result.title if result.title != result.study else "",
        meta=[
            ("Paper", result.citation or "not stated"),
            ("Claims", result.claims_place),
            ("SHA-256 of the claims", result.claims_sha256[:16] or "–"),
        ],
        lead=lead,
        sections=[
            _summary(result),
            _by_severity(inconsistent),
            _open(result.of("not recomputable")),
            _p_values(result.p_values),
            _all_checks(result.findings),
            _methods(result),
        ],
        running_title=f"Audit of {result.study}",
    )


def _graves(graves: Counter[str]) -> str:
    parts = [f"{graves[name]} {name}" for name in _SEVERITY_WORDS if graves[name]]
    return ", ".join(parts) if parts else "none"


def _summary(result: AuditResult) -> Section:
    rows = []
    for check in CHECK_NAMES:
        counts = Counter(finding.verdict for finding in result.findings if finding.check == check)
        if not counts:
            continue
        wrong = Cell(counts["inconsistent"], tone="fail" if counts["inconsistent"] else "", strong=True)
        rows.append([CHECK_NAMES[check], counts["consistent"], wrong, counts["not recomputable"]])
    columns = [Column("What was checked"), Column("consistent"), Column("inconsistent"), Column("not recomputable")]
    major = [finding for finding in result.of("inconsistent") if finding.severity == "major"]
    blocks: list[Block] = []
    if major:
        blocks.append(Paragraph("What matters most to a reader:", style="lead"))
        blocks.append(Bullets([_sentence(finding) for finding in major]))
    else:
        blocks.append(Paragraph("No difference was found that changes a conclusion or a number in use.", style="lead"))
    blocks.append(Table(columns, rows, caption="Checks by class and verdict"))
    return Section("Summary", blocks)


def _sentence(finding: Finding) -> str:
    tail = f" Most likely slip: {finding.slip}." if finding.slip else ""
    item = finding.item[:1].upper() + finding.item[1:]
    return f"{item} ({finding.place}): printed {finding.printed}; recomputed {finding.recomputed}.{tail}"


def _by_severity(findings: Iterable[Finding]) -> Section:
    chosen = list(findings)
    blocks: list[Block] = []
    for severity, words in _SEVERITY_WORDS.items():
        members = [finding for finding in chosen if finding.severity == severity]
        if not members:
            continue
        blocks.append(Subheading(f"{severity.capitalize()} ({len(members)})"))
        blocks.append(Paragraph(f"{words}.", style="small"))
        blocks.append(_finding_table(members))
    if not blocks:
        blocks.append(Paragraph("No printed number was found that does not fit the others."))
    return Section("Findings by severity", blocks)


def _finding_table(members: list[Finding]) -> Table:
    rows = [
        [
            Cell(finding.item, strong=True, note=finding.place, tone=_TONES[finding.severity]),
            finding.printed,
            Cell(finding.recomputed, note=finding.method),
            Cell(finding.slip or "–", note=finding.remark),
        ]
        for finding in members
    ]
    columns = [
        Column("What and where", width=0.26),
        Column("Printed", width=0.24),
        Column("Recomputed, and how", width=0.28),
        Column("Most likely slip, remark", width=0.22),
    ]
    return Table(columns, rows, compact=True)


def _open(findings: Iterable[Finding]) -> Section:
    rows = [
        [
            Cell(finding.item, note=finding.place),
            finding.printed,
            Cell(finding.method, note=finding.remark),
            finding.recomputed,
        ]
        for finding in findings
    ]
    columns = [
        Column("What and where", width=0.3),
        Column("Printed", width=0.22),
        Column("Why not", width=0.28),
        Column("What is known", width=0.2),
    ]
    if not rows:
        return Section("Not recomputable", [Paragraph("Every printed statement could be checked.")])
    return Section("Not recomputable", [Table(columns, rows, compact=True)])


def _p_text(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


_SHOWN_TESTS = ("Pearson χ²", "Yates-corrected χ²", "Fisher", "likelihood-ratio χ²")


def _p_values(p_values: Iterable[PValue]) -> Section:
    rows: list[list[object]] = []
    for p in p_values:
        tests: list[object] = []
        shown: set[str] = set()
        for test in _SHOWN_TESTS:
            name = next((name for name in p.candidates if name.startswith(test)), "")
            shown.add(name)
            tests.append(Cell(_p_text(p.candidates[name]), strong=name in p.reproduced_by) if name else None)
        others = "; ".join(f"{name} {_p_text(value)}" for name, value in p.candidates.items() if name not in shown)
        by = ", ".join(p.reproduced_by) if p.reproduced_by else ("none" if p.candidates else "not recomputable")
        tone: Tone = "pass" if p.reproduced_by else ("fail" if p.candidates else "muted")
        choice = "yes" if p.choice_changes_significance else ("no" if p.candidates else "–")
        rows.append([Cell(p.item, note=p.place), p.printed, *tests, others or None, Cell(by, tone=tone), choice])
    columns = [
        Column("p-value of", width=0.22),
        Column("printed"),
        Column("Pearson"),
        Column("Yates"),
        Column("Fisher"),
        Column("likelihood ratio"),
        Column("other tests", width=0.18),
        Column("reproduced by", width=0.2),
        Column("choice changes significance"),
    ]
    if not rows:
        return Section("Reproduction of all p-values", [Paragraph("The claims hold no p-value.")])
    note = "Two-sided. Fisher stands for Fisher–Freeman–Halton in larger tables. Bold values reproduce the printed p."
    return Section("Reproduction of all p-values", [Table(columns, rows, note=note, compact=True)], new_page=True)


def _all_checks(findings: Iterable[Finding]) -> Section:
    rows = [
        [
            CHECK_NAMES[finding.check],
            Cell(finding.item, note=finding.place),
            finding.printed,
            finding.recomputed,
            Cell(finding.verdict, tone=_VERDICT_TONES[finding.verdict], note=finding.remark),
        ]
        for finding in findings
    ]
    columns = [
        Column("Check", width=0.16),
        Column("What and where", width=0.26),
        Column("Printed", width=0.22),
        Column("Recomputed", width=0.22),
        Column("Verdict", width=0.14),
    ]
    return Section("Every check that was made", [Table(columns, rows, compact=True)], new_page=True)


def _methods(result: AuditResult) -> Section:
    sources = sorted({finding.source for finding in result.findings if finding.source})
    return Section(
        "Methods",
        [
            Paragraph(
                "Every printed number stands for all values that round to it: half a unit of its last digit to either "
                "side, ties included. A check is consistent when any such values fit together. p-values are recomputed "
                "by every plausible test; one that reproduces the printed value is enough, and the report names it."
            ),
            Bullets(sources or ["No external method was needed."]),
        ],
    )


_FINDING_FIELDS = tuple(Finding.__dataclass_fields__)


def _findings_csv(result: AuditResult) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["study", *_FINDING_FIELDS])
    for finding in result.findings:
        values = asdict(finding)
        writer.writerow([result.study, *(values[name] for name in _FINDING_FIELDS)])
    return stream.getvalue()


def _p_values_csv(result: AuditResult) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    tests = sorted({name for p in result.p_values for name in p.candidates})
    writer.writerow(["study", "place", "item", "printed", *tests, "reproduced_by", "choice_changes_significance"])
    for p in result.p_values:
        values = [f"{p.candidates[name]:.6g}" if name in p.candidates else "" for name in tests]
        by = "; ".join(p.reproduced_by)
        writer.writerow([result.study, p.place, p.item, p.printed, *values, by, p.choice_changes_significance])
    return stream.getvalue()
