"""``cantlie machine``: which machines there are and what they can do."""

from __future__ import annotations

from typing import Annotated

import typer

from cantlie.cli.commission import commission
from cantlie.cli.console import say, say_json, say_table
from cantlie.cli.options import JsonOption

app = typer.Typer(help="List, show and commission treatment machines.", no_args_is_help=True)
app.command()(commission)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the built-in machines."""
    from cantlie.machine.machine import list_machines, load_machine

    machines = sorted((load_machine(name) for name in list_machines()), key=lambda m: (m.energy_mv, m.id))
    if as_json:
        say_json([{"id": m.id, "description": m.description, "energy_mv": m.energy_mv} for m in machines])
        return
    rows = [[m.id, "Co-60" if m.cobalt else f"{m.energy_mv:g} MV", m.description] for m in machines]
    say_table(["machine", "energy", "what"], rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID|FILE", help="Built-in machine or a TOML file.")],
    as_json: JsonOption = False,
) -> None:
    """Show a machine: geometry, limits, beam model and where each value comes from."""
    from dataclasses import asdict

    from cantlie.machine.machine import load_machine

    machine = load_machine(name)
    if as_json:
        say_json(asdict(machine))
        return
    rows: list[list[str]] = []
    for key, value in asdict(machine).items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for part, entry in entries:
            if key not in ("sources", "sha256"):
                label = f"{key}.{part}" if part else key
                rows.append([label, _shown(entry)])
    say_table(["value", machine.id], rows)
    for source in machine.sources:
        say(f"- {source}")


def _shown(value: object) -> str:
    from numpy import array2string, asarray, ndarray

    if isinstance(value, (list, tuple, ndarray)):
        return array2string(asarray(value), max_line_width=100, threshold=100, precision=2)
    return str(value)
