"""``cantlie doctor``: does this installation work, and how fast."""

from __future__ import annotations

import typer

from cantlie.cli.console import say, say_json, say_table
from cantlie.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Check the installation: versions, disk, the dose engine against its calibration, its speed, the GPU."""
    from cantlie.workflow.doctor import examine

    checks = examine()
    if as_json:
        say_json([{"check": c.name, "verdict": c.verdict, "found": c.found} for c in checks])
    else:
        say_table(["check", "verdict", "found"], [[c.name, c.verdict, c.found] for c in checks])
    if any(c.verdict == "fail" for c in checks):
        if not as_json:
            say("Something does not work; reinstall Cantlie into a fresh environment.")
        raise typer.Exit(1)
