"""``cantlie gamma`` and ``cantlie difference``: two RTDOSE files against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cantlie.cli.console import progress_shown, say, say_json, say_table, tell
from cantlie.cli.options import (
    AliasOption,
    JsonOption,
    OutOption,
    PatientOption,
    SeriesOption,
    StructureSetOption,
    default_out,
)

if TYPE_CHECKING:
    from cantlie.workflow.patient_stage import CaseRequest

Reference = Annotated[Path, typer.Argument(metavar="REFERENCE.dcm", help="The RTDOSE that is taken as the truth.")]
Evaluated = Annotated[Path, typer.Argument(metavar="EVALUATED.dcm", help="The RTDOSE that is compared with it.")]
CaseOption = Annotated[
    Path | None,
    typer.Option("--case", metavar="CASE", help="Folder or zip of CT and RTSTRUCT: judges each structure too."),
]
Threshold = Annotated[
    float, typer.Option("--threshold", metavar="PERCENT", help="Leave out voxels below this share of the reference.")
]
Tolerance = Annotated[
    float, typer.Option("--tolerance", metavar="PERCENT", help="Differences up to this share count as within.")
]
Normalisation = Annotated[
    float | None,
    typer.Option("--normalisation", metavar="GY", help="The dose that is 100 % (default: the reference's maximum)."),
]
AcrossFrames = Annotated[bool, typer.Option("--across-frames", help="Compare although the frames of reference differ.")]


def gamma(
    reference: Reference,
    evaluated: Evaluated,
    dose_percent: Annotated[float, typer.Option("--dose-percent", metavar="PERCENT", help="Dose criterion.")] = 3.0,
    distance_mm: Annotated[float, typer.Option("--distance-mm", metavar="MM", help="Distance criterion.")] = 2.0,
    local: Annotated[
        bool, typer.Option("--local/--global", help="Dose criterion of the local dose, or of 100 %.")
    ] = False,
    planar: Annotated[
        bool, typer.Option("--planar", help="2-D gamma: search in the axial plane of each voxel only.")
    ] = False,
    pass_percent: Annotated[
        float, typer.Option("--pass", min=0.0, max=100.0, metavar="PERCENT", help="Pass rate asked for.")
    ] = 95.0,
    threshold: Threshold = 10.0,
    tolerance: Tolerance = 3.0,
    normalisation: Normalisation = None,
    case: CaseOption = None,
    across_frames: AcrossFrames = False,
    aliases: AliasOption = None,
    series: SeriesOption = None,
    structure_set: StructureSetOption = None,
    patient: PatientOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge one dose by another with the gamma index (2-D or 3-D, interpolated), with figures and a report."""
    from cantlie.workflow.dose_comparison import ComparisonSettings, GammaCriteria
    from cantlie.workflow.dose_pair import DosePair

    criteria = GammaCriteria(dose_percent, distance_mm, local, planar, pass_percent=pass_percent)
    request = DosePair(
        reference=reference,
        evaluated=evaluated,
        out=out or default_out(f"gamma-{evaluated.stem}"),
        settings=ComparisonSettings(criteria, threshold, tolerance, normalisation),
        case=_case(case, aliases, series, structure_set, patient),
        across_frames=across_frames,
    )
    results = _run(request, "Cantlie gamma", as_json)
    if results["constraints"][0]["verdict"] == "fail":
        raise typer.Exit(1)


def difference(
    reference: Reference,
    evaluated: Evaluated,
    threshold: Threshold = 10.0,
    tolerance: Tolerance = 3.0,
    normalisation: Normalisation = None,
    case: CaseOption = None,
    across_frames: AcrossFrames = False,
    aliases: AliasOption = None,
    series: SeriesOption = None,
    structure_set: StructureSetOption = None,
    patient: PatientOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Subtract one dose from another: statistics, structures, figures and a report."""
    from cantlie.workflow.dose_comparison import ComparisonSettings
    from cantlie.workflow.dose_pair import DosePair

    request = DosePair(
        reference=reference,
        evaluated=evaluated,
        out=out or default_out(f"difference-{evaluated.stem}"),
        settings=ComparisonSettings(None, threshold, tolerance, normalisation),
        case=_case(case, aliases, series, structure_set, patient),
        across_frames=across_frames,
    )
    _run(request, "Cantlie difference", as_json)


def _case(
    case: Path | None, aliases: Path | None, series: str | None, structure_set: str | None, patient: str | None
) -> CaseRequest | None:
    from cantlie.workflow.patient_stage import CaseRequest

    if case is None:
        return None
    return CaseRequest(case, aliases=aliases, series=series, structure_set=structure_set, patient=patient)


def _run(request: Any, title: str, as_json: bool) -> dict[str, Any]:
    from cantlie.workflow.dose_pair import compare_dose_pair

    with progress_shown(title, quiet=as_json) as progress:
        results = compare_dose_pair(request, progress)
    if as_json:
        say_json(results)
        return results
    found = results["difference"]
    if results["structures"]:
        _show_structures(results)
    if "gamma" in results:
        row, gamma = results["constraints"][0], results["gamma"]
        say(
            f"{row['metric']}: {row['achieved']:.2f} % of {gamma['judged_voxels']} voxels "
            f"(asked: {row['limit']:g} %) — {row['verdict']}"
        )
    say(
        f"Difference (evaluated − reference): {found['mean_gy']:+.3f} ± {found['sd_gy']:.3f} Gy, "
        f"from {found['lowest_gy']:+.3f} to {found['highest_gy']:+.3f} Gy; "
        f"{found['within_tolerance_percent']:.1f} % within {found['tolerance_percent']:g} %."
    )
    for warning in results["warnings"]:
        tell(f"! {warning}")
    say(f"\nReport: {request.out / 'report.html'}. Research use only.")
    return results


def _show_structures(results: dict[str, Any]) -> None:
    def text(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    with_gamma = "gamma" in results
    header = ["structure", "Dmean ref. / Gy", "Dmean eval. / Gy", "Δ mean / Gy", *(["γ ≤ 1 / %"] if with_gamma else [])]
    rows = [
        [
            name,
            text(s["reference"]["Dmean_gy"], 2),
            text(s["evaluated"]["Dmean_gy"], 2),
            text(s["mean_difference_gy"], 3),
            *([text(s["gamma_pass_percent"], 1)] if with_gamma else []),
        ]
        for name, s in results["structures"].items()
    ]
    say_table(header, rows, title=results["title"])
