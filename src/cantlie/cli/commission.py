"""``cantlie machine commission``: a beam model from a user's own measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cantlie.cli.console import progress_shown, say, say_json, say_table, tell
from cantlie.cli.options import JsonOption, OutOption, default_out


def commission(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of measured data of one beam: CSV, w2CAD .asc, PTW .mcc.")
    ],
    out: OutOption = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the new machine (default: that of the folder)."),
    ] = None,
    machine: Annotated[
        str,
        typer.Option("--machine", metavar="ID|FILE", help="Machine whose geometry (jaws, leaves, limits) is taken."),
    ] = "generic-6mv-120",
    energy: Annotated[
        float | None, typer.Option("--energy", metavar="MV", min=1.0, max=25.0, help="Nominal energy, if no file says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a beam model to measured depth doses, profiles and output factors, with a report of the residuals."""
    from cantlie.workflow.commission import CommissionMachine, commission_machine

    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in folder.resolve().name)
    chosen = name or plain.strip("-._")[:16] or "commissioned"
    request = CommissionMachine(
        folder=folder,
        out=out or default_out(f"commission-{chosen}"),
        name=chosen,
        machine=machine,
        energy_mv=energy,
    )
    with progress_shown("Cantlie commission", quiet=as_json) as progress:
        results = commission_machine(request, progress)
    if as_json:
        say_json(results)
    else:
        rows = [
            [row["place"], row["metric"], *_with_units(row["achieved"], row["limit"], row["unit"]), row["verdict"]]
            for row in results["judged"]
        ]
        say_table(["curve", "figure", "found", "limit", "verdict"], rows, title=f"{chosen}: calculated − measured")
        for warning in results["warnings"]:
            tell(f"! {warning}")
        say(f"\nMachine: {request.out / 'machine.toml'}, report: {request.out / 'report.html'}. Research use only.")
    if results["failed"]:
        raise typer.Exit(1)


def _with_units(achieved: float, limit: float, unit: str) -> tuple[str, str]:
    from cantlie.evaluation.verdict import decimals

    return f"{achieved:.{decimals(abs(achieved), limit, 2)}f} {unit}", f"{limit:g} {unit}"
