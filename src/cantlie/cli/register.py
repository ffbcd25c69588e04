"""``cantlie register``: another image of the patient on the planning CT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cantlie.cli.console import progress_shown, say, say_json, tell
from cantlie.cli.options import CaseArgument, JsonOption, OutOption, default_out


def register(
    case: CaseArgument,
    moving: Annotated[
        Path, typer.Option("--moving", metavar="FOLDER", help="Folder or zip of the CT, MRI or PET to be registered.")
    ],
    method: Annotated[
        Literal["auto", "rigid", "b-spline", "demons"],
        typer.Option("--method", help="auto: demons for CT, rigid for MRI and PET."),
    ] = "auto",
    landmarks: Annotated[
        Path | None,
        typer.Option(
            "--landmarks",
            metavar="CSV",
            help="Pairs of points: columns x_mm, y_mm, z_mm, moving_x_mm, moving_y_mm, moving_z_mm.",
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Series of the other image, if it has several.")
    ] = None,
    grid_mm: Annotated[float, typer.Option("--grid", min=1.0, max=10.0, help="Voxels of the registration, mm.")] = 3.0,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a CT, MRI or PET to the planning CT: DICOM registration, contours carried over, figures of TG-132."""
    from cantlie.workflow.register_case import RegisterCase, register_case

    request = RegisterCase(
        case=case,
        moving=moving,
        out=out or default_out(f"register-{case.stem if case.is_file() else case.resolve().name}"),
        method=method,
        spacing_mm=grid_mm,
        series=series,
        landmarks=landmarks,
    )
    with progress_shown("Cantlie register", quiet=as_json) as progress:
        results = register_case(request, progress)
    if as_json:
        say_json(results)
        return
    facts = results["registration"]
    say(f"{results['title']}: {facts['origin']}.")
    errors = facts.get("target_registration_error_mm")
    if errors:
        say(f"Landmarks: {errors['mean']:.1f} mm on average, 95th percentile {errors['percentile_95']:.1f} mm.")
    for name, value in facts["dice"].items():
        say(f"  {name}: Dice {value:.3f}, surfaces {facts['mean_surface_distance_mm'][name]:.1f} mm apart")
    for warning in results["warnings"]:
        tell(f"! {warning}")
    say(f"\nReport: {request.out / 'report.html'}; DICOM: {request.out / 'dicom'}. Research use only.")
