"""What `plan` and `demo` share: run the road with progress, print its result, end with the right exit code."""

from __future__ import annotations

import json
from typing import Any

import typer

from cantlie.cli.console import progress_shown, say, say_json, say_table, tell
from cantlie.workflow.plan_case import plan_case
from cantlie.workflow.planned_case import PlanCase


def run_and_show(request: PlanCase, *, as_json: bool) -> None:
    """Plan a case; leave with exit code 1 when a rule of the protocol is not met."""
    with progress_shown("Cantlie", quiet=as_json) as progress:
        plan_case(request, progress)
    results = json.loads((request.out / "results.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(results)
    else:
        show_constraints(results)
        say(f"\nReport: {request.out / 'report.html'} (and report.pdf, results.json, dvh.csv, dicom/)")
        say("Research use only.")
    if any(row["verdict"] == "fail" for row in results["constraints"]):
        raise typer.Exit(1)


def show_constraints(results: dict[str, Any]) -> None:
    """Print the judged rows of results.json and, beside them, its warnings."""
    from cantlie.evaluation.verdict import judged_text

    rows = [
        [
            row["structure"],
            row["metric"],
            f"{row['op']} {row['limit']:g} {row['unit']}",
            "" if row["achieved"] is None else f"{judged_text(row['achieved'], row['limit'], 1)} {row['unit']}",
            row["scope"],
            row["verdict"],
        ]
        for row in results["constraints"]
    ]
    say_table(["structure", "metric", "limit", "achieved", "scope", "verdict"], rows, title=results["title"])
    for note in results["warnings"]:
        if note["level"] == "warning":
            tell(f"! {note['where'] + ': ' if note['where'] else ''}{note['message']}")
