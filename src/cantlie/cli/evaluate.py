"""``cantlie evaluate``: judge a plan made elsewhere."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cantlie.cli.console import progress_shown, say, say_json
from cantlie.cli.options import (
    AliasOption,
    CaseArgument,
    DensityOption,
    DeviceOption,
    JsonOption,
    OutOption,
    PatientOption,
    ProtocolOption,
    SeriesOption,
    StructureSetOption,
    default_out,
)
from cantlie.cli.what_if import RobustnessOption, SeedOption, ShiftOption, ShiftsOption, SimulateOption, what_if_of


def evaluate(
    case: CaseArgument,
    protocol: ProtocolOption = "zhang2021-alternating",
    dose: Annotated[
        list[Path] | None, typer.Option("--dose", metavar="RD.dcm", help="RTDOSE outside the case; may be repeated.")
    ] = None,
    plan: Annotated[
        list[Path] | None, typer.Option("--plan", metavar="RP.dcm", help="RTPLAN outside the case; may be repeated.")
    ] = None,
    fractions: Annotated[
        list[int] | None,
        typer.Option("--fractions", min=1, max=100, help="Fractions of each dose in order, where no RTPLAN says them."),
    ] = None,
    other_ct: Annotated[
        list[Path] | None,
        typer.Option("--other-ct", metavar="FOLDER", help="Another CT with its RTDOSE and RTPLAN; may be repeated."),
    ] = None,
    scheme: Annotated[str | None, typer.Option("--scheme", help="Prescription scheme of the protocol.")] = None,
    out: OutOption = None,
    aliases: AliasOption = None,
    series: SeriesOption = None,
    structure_set: StructureSetOption = None,
    patient: PatientOption = None,
    label: Annotated[
        str, typer.Option("--label", help="Pseudonym in the report (default: from the files' hash).")
    ] = "",
    start: Annotated[
        datetime | None,
        typer.Option("--start", formats=["%Y-%m-%d"], help="First treatment day, for a shift log with dates."),
    ] = None,
    robustness: RobustnessOption = "quick",
    shift_mm: ShiftOption = None,
    shifts: ShiftsOption = None,
    simulate_setup: SimulateOption = None,
    recalculate: Annotated[
        bool,
        typer.Option(
            "--recalculate/--static-dose",
            help="Displacements and density errors by the dose engine (needs RTPLANs), or by moving the dose only.",
        ),
    ] = True,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            metavar="ID|FILE",
            help="Beam model for --recalculate; else a generic one of the plan's energy.",
        ),
    ] = None,
    density_curve: DensityOption = None,
    seed: SeedOption = 1,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Judge doses made elsewhere (CT, RTSTRUCT and RTDOSE, with or without RTPLAN) by a protocol.

    Several plans are summed, each with its own fractions, as physical dose and as EQD2.
    """
    from cantlie.cli.planning import show_constraints
    from cantlie.workflow.evaluate_case import EvaluateCase, evaluate_case

    request = EvaluateCase(
        case=case,
        protocol=protocol,
        out=out or default_out(f"evaluate-{case.stem if case.is_file() else case.resolve().name}"),
        doses=tuple(dose or ()),
        plans=tuple(plan or ()),
        fractions=tuple(fractions or ()),
        others=tuple(other_ct or ()),
        scheme=scheme,
        aliases=aliases,
        series=series,
        structure_set=structure_set,
        patient=patient,
        label=label,
        start=start.date() if start else None,
        what_if=what_if_of(robustness, shift_mm, shifts, simulate_setup, seed),
        machine=machine,
        density_curve=density_curve,
        recalculate=recalculate,
        device=device,
    )
    with progress_shown("Cantlie evaluate", quiet=as_json) as progress:
        dosimetry = evaluate_case(request, progress)
    results = json.loads((request.out / "results.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(results)
    else:
        show_constraints(results)
        say(f"\nReport: {request.out / 'report.html'} (and report.pdf, results.json, dvh.csv). Research use only.")
    if not dosimetry.all_met:
        raise typer.Exit(1)
