"""``cantlie compare``: several protocols on one patient, side by side."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cantlie.cli.options import (
    AliasOption,
    CaseArgument,
    DensityOption,
    DeviceOption,
    JsonOption,
    MachineOption,
    OutOption,
    PatientOption,
    SeriesOption,
    StructureSetOption,
    default_out,
)


def compare(
    case: CaseArgument,
    protocol: Annotated[
        list[str],
        typer.Option("--protocol", metavar="ID|FILE", help="Built-in protocol or TOML file; repeat, at least twice."),
    ],
    out: OutOption = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option("--scheme", metavar="ID=SCHEME", help="Prescription scheme of one protocol; may be repeated."),
    ] = None,
    machine: MachineOption = None,
    density_curve: DensityOption = None,
    aliases: AliasOption = None,
    plane: Annotated[
        str | None,
        typer.Option("--plane", metavar="X,Y,Z,NX,NY,NZ", help="Dividing plane: a point (LPS mm) and its normal."),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--start", formats=["%Y-%m-%d"], help="First treatment day; default: next Monday."),
    ] = None,
    series: SeriesOption = None,
    structure_set: StructureSetOption = None,
    patient: PatientOption = None,
    label: Annotated[
        str, typer.Option("--label", help="Pseudonym in the report (default: from the files' hash).")
    ] = "",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Plan a case by several protocols and report what differs, by how much, and how sure that is."""
    from cantlie.cli.console import progress_shown, say_json
    from cantlie.workflow.compare_cases import CompareCases, compare_cases

    request = CompareCases(
        case=case,
        protocols=tuple(protocol),
        out=out or default_out(f"compare-{case.stem if case.is_file() else case.resolve().name}"),
        schemes=_schemes(scheme or []),
        machine=machine,
        density_curve=density_curve,
        aliases=aliases,
        plane=plane,
        start=start.date() if start else None,
        series=series,
        structure_set=structure_set,
        patient=patient,
        label=label,
        device=device,
    )
    with progress_shown("Cantlie compare", quiet=as_json) as progress:
        comparison = compare_cases(request, progress)
    results = json.loads((request.out / "results.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(results)
    else:
        _show(results, request.out)
    if not comparison.all_met:
        raise typer.Exit(1)


def _schemes(given: list[str]) -> tuple[tuple[str, str], ...]:
    from cantlie.core.errors import InputError

    pairs = []
    for text in given:
        name, _, scheme = text.partition("=")
        if not name or not scheme:
            raise InputError(f"{text!r} names no protocol and scheme", where="--scheme", remedy="write ID=SCHEME")
        pairs.append((name, scheme))
    return tuple(pairs)


def _show(results: dict[str, Any], out: Path) -> None:
    from cantlie.cli.console import say, tell

    other = None
    for row in results["summary"]:
        if row["other_id"] != other:
            other = row["other_id"]
            say(f"\n{row['first_id']} against {other}")
        say(f"  {row['sentence']}")
    for one in results["protocols"]:
        if one["status"] == "failed":
            tell(f"! {one['id']} was not planned: {one['reason']}")
    say(f"\nReport: {out / 'report.html'} (and report.pdf, results.json, comparison.csv, differences.csv, dvh*.csv)")
    say("Research use only.")
