"""``cantlie plan``: from a patient's DICOM and a protocol to plan, dose, DICOM and report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

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
    ProtocolOption,
    SeriesOption,
    StructureSetOption,
    default_out,
)
from cantlie.cli.what_if import (
    MotionOption,
    NoRadiographsOption,
    RobustnessOption,
    RobustOption,
    SeedOption,
    ShiftOption,
    ShiftsOption,
    SimulateOption,
    what_if_of,
)


def plan(
    case: CaseArgument,
    protocol: ProtocolOption = "zhang2021-alternating",
    machine: MachineOption = None,
    out: OutOption = None,
    density_curve: DensityOption = None,
    aliases: AliasOption = None,
    fields: Annotated[
        int | None, typer.Option("--fields", min=1, max=15, metavar="N", help="Number of fields per plan.")
    ] = None,
    delivery: Annotated[
        Literal["step-and-shoot", "vmat", "conformal", "field-in-field"] | None,
        typer.Option(
            "--delivery",
            metavar="HOW",
            help="step-and-shoot, vmat, conformal or field-in-field; default: the protocol's.",
        ),
    ] = None,
    gantry: Annotated[
        str | None,
        typer.Option("--gantry", metavar="A,B,...", help="Gantry angles; default: the protocol's or chosen."),
    ] = None,
    couch: Annotated[
        str | None, typer.Option("--couch", metavar="A,B,...", help="Couch angle of each gantry angle (IEC 61217).")
    ] = None,
    couch_most: Annotated[
        float | None,
        typer.Option(
            "--couch-most", min=0.0, max=90.0, metavar="DEG", help="Choose non-coplanar beams up to this turn."
        ),
    ] = None,
    arcs: Annotated[
        int | None, typer.Option("--arcs", min=1, max=6, metavar="N", help="Number of VMAT arcs per plan.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="GTV", help="Lesion to treat, as GTV_4; repeat for several. Default: all."),
    ] = None,
    split: Annotated[
        Literal["anatomy", "couinaud", "volume_equal", "lesion_aware"] | None,
        typer.Option(
            "--split",
            metavar="HOW",
            help="How the liver is divided: anatomy, couinaud, volume_equal or lesion_aware; default: the protocol's.",
        ),
    ] = None,
    junction: Annotated[
        Literal["overlap", "abut", "gap", "feather"] | None,
        typer.Option(
            "--junction",
            metavar="HOW",
            help="Where the PTVs meet they overlap, abut, have a gap or feather; default: the protocol's.",
        ),
    ] = None,
    junction_mm: Annotated[
        float | None,
        typer.Option("--junction-mm", min=0.1, max=50.0, help="Width of a gap or of a feathered junction."),
    ] = None,
    plane: Annotated[
        str | None,
        typer.Option("--plane", metavar="X,Y,Z,NX,NY,NZ", help="Dividing plane: a point (LPS mm) and its normal."),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--start", formats=["%Y-%m-%d"], help="First treatment day; default: next Monday."),
    ] = None,
    scheme: Annotated[str | None, typer.Option("--scheme", help="Prescription scheme of the protocol.")] = None,
    series: SeriesOption = None,
    structure_set: StructureSetOption = None,
    patient: PatientOption = None,
    second_ct: Annotated[
        Path | None,
        typer.Option("--second-ct", metavar="FOLDER", help="New CT and RTSTRUCT before the protocol's boost."),
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option("--previous", metavar="DIR", help="Output of an earlier plan; CASE is then the new CT."),
    ] = None,
    previous_ct: Annotated[
        Path | None, typer.Option("--previous-ct", metavar="FOLDER", help="CT and RTSTRUCT of the earlier plan.")
    ] = None,
    given: Annotated[
        int | None, typer.Option("--given", min=1, metavar="N", help="Sessions of the earlier plan that were given.")
    ] = None,
    planning_phase: Annotated[
        Literal["exhale", "mid_position", "average"] | None,
        typer.Option(
            "--planning-phase",
            metavar="WHICH",
            help="What of a 4D-CT to plan on: exhale, mid_position or average; default: the protocol's.",
        ),
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="Pseudonym in the report (default: from the files' hash).")
    ] = "",
    device: DeviceOption = "auto",
    robustness: RobustnessOption = "quick",
    robust: RobustOption = None,
    shift_mm: ShiftOption = None,
    shifts: ShiftsOption = None,
    simulate_setup: SimulateOption = None,
    motion: MotionOption = None,
    no_radiographs: NoRadiographsOption = False,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Plan a case by a protocol: targets, beams, dose, sequenced plan, course, evaluation, DICOM and report."""
    from cantlie.cli.planning import run_and_show
    from cantlie.workflow.planned_case import PlanCase

    request = PlanCase(
        case=case,
        protocol=protocol,
        out=out or default_out(f"{case.stem if case.is_file() else case.resolve().name}-{Path(protocol).stem}"),
        machine=machine,
        density_curve=density_curve,
        aliases=aliases,
        fields=fields,
        delivery=delivery,
        arcs=arcs,
        gantry=gantry,
        couch=couch,
        couch_most=couch_most,
        lesions=tuple(target or ()),
        split=split,
        junction=junction,
        junction_mm=junction_mm,
        plane=plane,
        start=start.date() if start else None,
        scheme=scheme,
        series=series,
        structure_set=structure_set,
        patient=patient,
        second_ct=second_ct,
        previous=previous,
        previous_ct=previous_ct,
        given=given,
        planning_phase=planning_phase,
        label=label,
        device=device,
        what_if=what_if_of(robustness, shift_mm, shifts, simulate_setup, seed, motion, not no_radiographs, robust),
    )
    run_and_show(request, as_json=as_json)
