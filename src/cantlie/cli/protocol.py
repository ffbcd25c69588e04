"""``cantlie protocol``: what protocols there are, what they say, and whether one's own is right."""

from __future__ import annotations

from typing import Annotated

import typer

from cantlie.cli.console import say, say_json, say_table
from cantlie.cli.options import JsonOption

app = typer.Typer(help="List, show and check treatment protocols.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="ID|FILE", help="Built-in protocol or a TOML file.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the built-in protocols."""
    from cantlie.protocol.loading import list_protocols, load_protocol

    protocols = [load_protocol(name) for name in list_protocols()]
    if as_json:
        say_json([{"id": p.id, "title": p.title, "doi": p.citation.doi} for p in protocols])
        return
    say_table(["protocol", "title", "source"], [[p.id, p.title, p.citation.sentence()] for p in protocols])


@app.command()
def show(name: Name) -> None:
    """Print a protocol as TOML, ready to be copied and edited."""
    from cantlie.protocol.loading import protocol_text

    say(protocol_text(name).rstrip("\n"))


@app.command()
def check(name: Name, as_json: JsonOption = False) -> None:
    """Check a protocol: its form, constraints that cannot bind or contradict each other, and reference limits."""
    from dataclasses import asdict

    from cantlie.protocol.checks import check_protocol
    from cantlie.protocol.loading import load_protocol
    from cantlie.protocol.references import beside_references

    protocol = load_protocol(name)
    beside = beside_references(protocol)
    findings = check_protocol(protocol)
    if as_json:
        rows = [{"constraint": b.constraint, "relation": b.relation, "reference": b.reference.sentence(),
                 "source": b.reference.source, "index": b.index} for b in beside]  # fmt: skip
        say_json(
            {
                "id": protocol.id,
                "sha256": protocol.sha256,
                "findings": [asdict(finding) for finding in findings],
                "beside_references": rows,
            }
        )
        return
    say(f"{protocol.id}: {protocol.title}. The protocol can be read; {len(findings)} remarks.")
    for finding in findings:
        say(f"- {finding.sentence()}")
    if beside:
        say("Beside reference limits:")
    for one in beside:
        say(f"- {one.sentence()}")
