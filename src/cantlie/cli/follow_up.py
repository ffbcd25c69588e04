"""``cantlie follow-up``: a later CT on the planning CT and its dose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cantlie.cli.console import progress_shown, say, say_json, tell
from cantlie.cli.options import CaseArgument, JsonOption, OutOption, default_out


def follow_up(
    case: CaseArgument,
    later: Annotated[
        Path, typer.Option("--follow-up", metavar="FOLDER", help="Folder or zip of the later CT and its RTSTRUCT.")
    ],
    dose: Annotated[
        list[Path] | None, typer.Option("--dose", metavar="RD.dcm", help="RTDOSE outside the case; may be repeated.")
    ] = None,
    recurrence: Annotated[
        str | None, typer.Option("--recurrence", metavar="NAME", help="Structure of the follow-up to be judged.")
    ] = None,
    prescription: Annotated[
        float | None,
        typer.Option("--prescription", metavar="GY", help="The dose that is 100 % (default: the RTPLAN's)."),
    ] = None,
    method: Annotated[
        Literal["demons", "b-spline", "rigid"],
        typer.Option("--method", help="Demons for CT of one contrast, b-spline where grey values differ."),
    ] = "demons",
    grid_mm: Annotated[float, typer.Option("--grid", min=1.0, max=10.0, help="Voxels of the registration, mm.")] = 3.0,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a follow-up CT, say where a recurrence lies in the dose, and show both images side by side."""
    from cantlie.workflow.follow_up import FollowUp
    from cantlie.workflow.follow_up import follow_up as road

    request = FollowUp(
        case=case,
        follow_up=later,
        out=out or default_out(f"follow-up-{case.stem if case.is_file() else case.resolve().name}"),
        doses=tuple(dose or ()),
        recurrence=recurrence,
        prescription_gy=prescription,
        method=method,
        spacing_mm=grid_mm,
    )
    with progress_shown("Cantlie follow-up", quiet=as_json) as progress:
        results = road(request, progress)
    if as_json:
        say_json(results)
        return
    found = results["registration"]
    agreement = found["correlation"]
    say(f"Agreement of the images: {agreement['before']:.3f} before, {agreement['after']:.3f} after.")
    for name, value in found["dice"].items():
        say(f"  {name}: Dice {value:.3f}")
    place = (results["recurrence"] or {}).get("geometric")
    if place:
        sure = "" if place["sure"] else ", but not surely so within 2 mm"
        say(f"{results['recurrence']['structure']}: {place['place']}{sure}; mean dose {place['mean_gy']:.1f} Gy.")
    for warning in results["warnings"]:
        tell(f"! {warning}")
    say(f"\nReport: {request.out / 'report.html'}. Research use only.")
