"""``cantlie guidance``: judge a shift log by a protocol's image guidance."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cantlie.cli.console import progress_shown, say, say_json, tell
from cantlie.cli.options import JsonOption, OutOption, ProtocolOption, default_out


def guidance(
    log: Annotated[Path, typer.Argument(metavar="LOG.csv", help="Shift log: one row per session or image.")],
    protocol: ProtocolOption = "yin2014-boost",
    start: Annotated[
        datetime | None,
        typer.Option("--start", formats=["%Y-%m-%d"], help="First treatment day; default: the first day of the log."),
    ] = None,
    action_level: Annotated[
        float | None, typer.Option("--action-level", min=0.1, max=50.0, metavar="MM", help="Instead of the protocol's.")
    ] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge image guidance session by session; give errors by axis and the margins that they ask for."""
    from cantlie.workflow.guidance import JudgeGuidance, judge_log

    request = JudgeGuidance(
        log=log,
        protocol=protocol,
        out=out or default_out(f"guidance-{log.stem}"),
        start=start.date() if start else None,
        action_level_mm=action_level,
    )
    with progress_shown("Cantlie guidance", quiet=as_json) as progress:
        judged = judge_log(request, progress)
    results = json.loads((request.out / "results.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(results)
    else:
        verdicts = results["verdicts"]
        say(f"{len(results['sessions'])} sessions, {results['imaged']} with an image, "
            f"{results['over_action_level']} at or over the action level.")  # fmt: skip
        say(f"{verdicts['pass']} pass, {verdicts['fail']} fail, {verdicts['not evaluable']} not evaluable.")
        if results["population"]:
            for when in ("before", "after"):
                margin = results["population"][f"{when}_correction"]["van_herk_margin_mm"]
                sizes = ", ".join(f"{axis} {value:.1f} mm" for axis, value in zip("xyz", margin, strict=True))
                told = sizes if when == "before" or any(margin) else "not known, no error was measured after it"
                say(f"Margin that the errors {when} correction ask for: {told}")
        for note in results["warnings"]:
            tell(f"! {note['where'] + ': ' if note['where'] else ''}{note['message']}")
        say(f"\nReport: {request.out / 'report.html'} (and report.pdf, results.json, sessions.csv). Research use only.")
    if not judged.all_met:
        raise typer.Exit(1)
