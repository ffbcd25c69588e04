"""``cantlie dose``: recalculate a photon plan that was made anywhere."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from cantlie.cli.console import progress_shown, say, say_json, say_table, tell
from cantlie.cli.options import (
    AliasOption,
    CaseArgument,
    DensityOption,
    DeviceOption,
    JsonOption,
    OutOption,
    PatientOption,
    SeriesOption,
    StructureSetOption,
    default_out,
)


def dose(
    case: CaseArgument,
    plan: Annotated[Path, typer.Option("--plan", metavar="RP.dcm", help="The RTPLAN to calculate.")],
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            metavar="ID|FILE",
            help="Machine whose beam model is used, at the energy of each beam where it has it; "
            "else generic-6mv-mlci, or generic-co60 for a plan in minutes.",
        ),
    ] = None,
    out: OutOption = None,
    density_curve: DensityOption = None,
    aliases: AliasOption = None,
    series: SeriesOption = None,
    structure_set: StructureSetOption = None,
    patient: PatientOption = None,
    grid_mm: Annotated[float, typer.Option("--grid", min=1.0, max=10.0, help="Spacing of the dose grid in mm.")] = 2.5,
    dose_to: Annotated[
        Literal["medium", "water"], typer.Option("--dose-to", help="Dose to the local medium or to water.")
    ] = "medium",
    treatment_date: Annotated[
        datetime | None,
        typer.Option("--treatment-date", formats=["%Y-%m-%d"], help="Day that a cobalt machine's timer was set for."),
    ] = None,
    fraction_group: Annotated[
        int | None,
        typer.Option(
            "--fraction-group", metavar="N", help="Only this group of a plan with several (default: their sum)."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="RD.dcm",
            help="RTDOSE to compare with (default: that of the plan, if the case has it).",
        ),
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="Pseudonym in the report (default: from the files' hash).")
    ] = "",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Recalculate any photon RTPLAN by collapsed cone: its RTDOSE in Gy for the plan's monitor units, and a report."""
    from cantlie.workflow.recalculate import RecalculatePlan, recalculate

    request = RecalculatePlan(
        case=case,
        plan=plan,
        out=out or default_out(f"dose-{plan.stem}"),
        machine=machine,
        density_curve=density_curve,
        aliases=aliases,
        series=series,
        structure_set=structure_set,
        patient=patient,
        grid_mm=grid_mm,
        dose_to=dose_to,
        treatment_date=treatment_date.date() if treatment_date else None,
        device=device,
        fraction_group=fraction_group,
        against=against,
        label=label,
    )
    with progress_shown("Cantlie dose", quiet=as_json) as progress:
        results = recalculate(request, progress)
    if as_json:
        say_json(results)
        return
    rows = [
        [name, f"{s['volume_cc']:.1f}", f"{s['Dmean_gy']:.3f}", f"{s['Dmax_gy']:.3f}"]
        for name, s in results["structures"].items()
    ]
    say_table(["structure", "volume / cc", "Dmean / Gy", "Dmax / Gy"], rows, title=results["plan"])
    for group in results["fraction_groups"]:
        many = f", group {group['fraction_group']}" if len(results["fraction_groups"]) > 1 else ""
        if point := group["reference_point"]:
            say(
                f"\nReference point, a fraction{many}: {point['recalculated_gy']:.3f} Gy, {point['stated_gy']:.3f} Gy "
                f"planned ({point['difference_percent']:+.1f} %)"
            )
    if planned := results["planned_dose"]:
        rates = ", ".join(
            f"{one['pass_percent']:.1f} % pass gamma {one['dose_percent']:g} %/{one['distance_mm']:g} mm"
            for one in planned["gamma"]
        )
        say(f"\nAgainst the planned dose: {planned['difference']['mean_percent']:+.1f} % in the mean, {rates}")
    for warning in results["warnings"]:
        tell(f"! {warning}")
    say(f"\nDose: {request.out / results['dose_file']}. Report: {request.out / 'report.html'} (and report.pdf).")
    say("Research use only.")
