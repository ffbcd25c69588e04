"""The report of two doses laid against each other: gamma, difference, histograms, structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.difference import DoseDifference
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.gamma import GammaResult
from cantlie.report.case_report import StructureView
from cantlie.report.closing_sections import provenance_section, remarks_section
from cantlie.report.comparison_figures import Panel, overlay_figure, slices_figure
from cantlie.report.comparison_report import BandedDvh
from cantlie.report.document import (
    Block,
    Cell,
    Column,
    Document,
    Figure,
    KeyValue,
    Section,
    Table,
    Tile,
    Tiles,
    Tone,
)
from cantlie.report.gamma_figure import gamma_figure
from cantlie.report.view import View

WINDOW = (40.0, 400.0)
REFERENCE, EVALUATED = "reference", "evaluated"
_MOST_CURVES = 9
_DRAWN_FIRST = {"target": 0, "organ": 1, "ctv": 2, "gtv": 3}


@dataclass(frozen=True, slots=True)
class StructureRow:
    """A structure in both doses; gamma only where it was asked for.

    ``mean_difference_gy`` and ``sd_difference_gy`` are over the voxels of the reference grid inside the structure that
    were judged; None where there is none.
    """

    name: str
    volume_cc: float
    reference: Dvh
    evaluated: Dvh
    judged: int = 0
    mean_difference_gy: float | None = None
    sd_difference_gy: float | None = None
    gamma_pass_percent: float | None = None
    gamma_mean: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DosePairView:
    """All that the report of two doses shows.

    Parameters
    ----------
    names
        File of the reference and of the evaluated dose.
    labels
        What pictures and curves call them.
    background
        CT in HU, or an empty picture where none was given.
    """

    title: str
    names: tuple[str, str]
    reference: Volume
    evaluated: Volume
    background: Volume
    view: View
    difference: DoseDifference
    normalisation_gy: float
    threshold_percent: float
    tolerance_percent: float
    gamma: GammaResult | None = None
    pass_limit_percent: float = 95.0
    structures: Sequence[StructureRow] = ()
    outlines: Sequence[StructureView] = ()
    notes: Sequence[Note] = ()
    provenance: Sequence[tuple[str, object]] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    labels: tuple[str, str] = (REFERENCE, EVALUATED)


def dose_pair_document(pair: DosePairView) -> Document:
    """Return the report of two doses."""
    sections = []
    if pair.gamma is not None:
        sections.append(Section("Gamma", _gamma_blocks(pair, pair.gamma)))
    sections.append(Section("Difference", difference_blocks(pair)))
    if pair.structures:
        sections.append(Section("Structures", structure_blocks(pair)))
    sections.append(Section("What was compared", _facts(pair)))
    if pair.notes:
        sections.append(remarks_section(pair.notes))
    if pair.provenance:
        sections.append(provenance_section(pair.provenance, ()))
    meta = [("Reference", pair.names[0]), ("Evaluated", pair.names[1])]
    return Document(title=pair.title, sections=sections, meta=meta, lead=[_tiles(pair)])


def criteria(gamma: GammaResult) -> str:
    """Return the criteria of a gamma in words."""
    kind = "local" if gamma.local else "global"
    plane = "in each axial plane" if gamma.two_dimensional else "3-D"
    return f"{gamma.dose_percent:g} % ({kind}) / {gamma.distance_mm:g} mm, {plane}"


def _tiles(pair: DosePairView) -> Tiles:
    difference = pair.difference
    tiles = []
    if pair.gamma is not None:
        passed = pair.gamma.pass_percent >= pair.pass_limit_percent
        tiles.append(
            Tile(
                "Gamma pass rate",
                f"{pair.gamma.pass_percent:.2f}",
                "%",
                f"{criteria(pair.gamma)}; asked: at least {pair.pass_limit_percent:g} %",
                "pass" if passed else "fail",
            )
        )
    tiles += [
        Tile("Mean difference", f"{difference.mean_gy:+.3f}".replace("-", "−"), "Gy", "evaluated − reference"),
        Tile("Largest difference", f"{difference.largest_gy:.2f}", "Gy"),
        Tile(
            f"Within {pair.tolerance_percent:g} %",
            f"{difference.within_percent:.1f}",
            "%",
            f"of voxels, of {pair.normalisation_gy:.2f} Gy",
        ),
    ]
    return Tiles(tiles)


def _gamma_blocks(pair: DosePairView, gamma: GammaResult) -> list[Block]:
    return [
        KeyValue(
            [
                ("Criteria", criteria(gamma)),
                ("100 % of the dose", f"{gamma.normalisation_gy:.3f} Gy"),
                ("Threshold", f"{gamma.threshold_percent:g} % of it in the reference"),
                ("Voxels judged", gamma.judged),
                ("Pass rate", f"{gamma.pass_percent:.2f} %"),
                ("Mean, median, 95th percentile", f"{gamma.mean:.3f}, {gamma.median:.3f}, {gamma.p95:.3f}"),
            ]
        ),
        gamma_picture(pair, gamma, "gamma"),
    ]


def gamma_picture(pair: DosePairView, gamma: GammaResult, name: str) -> Figure:
    """Return gamma on three slices with its distribution."""
    picture = gamma_figure(
        pair.background, Volume(pair.reference.grid, gamma.gamma), pair.outlines, pair.view, gamma, window=WINDOW
    )
    return Figure(
        picture,
        caption=(
            f"Gamma {criteria(gamma)}, on the slices where it fails the most (or through the middle of the dose where "
            f"nothing fails), and its distribution; values beyond {gamma.limit:g} count as {gamma.limit:g}."
        ),
        alt="Gamma as colours on an axial, coronal and sagittal slice, and a histogram",
        name=name,
    )


def difference_blocks(pair: DosePairView) -> list[Block]:
    """Return the statistics of the difference, and both doses with it on the same slices."""
    found = pair.difference
    shown = Volume(found.difference.grid, np.nan_to_num(found.difference.values))
    lines = [s for s in pair.outlines if s.role == "target"]
    panels = [
        Panel(pair.labels[0].capitalize(), pair.reference, lines),
        Panel(pair.labels[1].capitalize(), pair.evaluated, lines),
        Panel(f"{pair.labels[1].capitalize()} − {pair.labels[0]}", shown, lines, signed=True),
    ]
    organs = [s for s in pair.outlines if s.role in ("organ", "gtv")]
    return [
        KeyValue(
            [
                ("Mean ± SD", f"{found.mean_gy:+.3f} ± {found.sd_gy:.3f} Gy".replace("-", "−")),
                ("Root mean square", f"{found.rms_gy:.3f} Gy"),
                ("Lowest, highest", f"{found.lowest_gy:+.3f}, {found.highest_gy:+.3f} Gy".replace("-", "−")),
                (f"Within {pair.tolerance_percent:g} % ({found.tolerance_gy:.3f} Gy)", f"{found.within_percent:.2f} %"),
                ("Voxels judged", found.judged),
                ("Threshold", f"{pair.threshold_percent:g} % of {pair.normalisation_gy:.3f} Gy"),
            ]
        ),
        Figure(
            slices_figure(pair.background, panels, organs, pair.view, window_hu=WINDOW),
            caption=f"Both doses and their difference on the same slices; the {pair.labels[1]} dose is interpolated.",
            alt="Reference dose, evaluated dose and their difference on an axial and a coronal slice",
            name="difference",
        ),
    ]


def structure_blocks(pair: DosePairView) -> list[Block]:
    """Return every structure in both doses, as a table and as histograms."""
    rows: list[Sequence[object]] = []
    for row in pair.structures:
        cells: list[object] = [row.name, row.volume_cc]
        for value in ("mean", "D2", "D98"):
            for curve in (row.reference, row.evaluated):
                cells.append(_metric(curve, value))
        cells += [row.mean_difference_gy, row.sd_difference_gy]
        if pair.gamma is not None:
            passed = row.gamma_pass_percent
            tone: Tone = "muted" if passed is None else "pass" if passed >= pair.pass_limit_percent else "fail"
            cells.append(Cell(passed, tone=tone))
        rows.append(cells)
    columns = [Column("Structure"), Column("Volume", "cc", digits=1)]
    short = ["ref." if name == REFERENCE else "eval." if name == EVALUATED else name for name in pair.labels]
    for label in ("Dmean", "D2%", "D98%"):
        columns += [Column(f"{label} {short[0]}", "Gy", digits=2), Column(short[1], "Gy", digits=2)]
    columns += [Column("Δ mean", "Gy", digits=2), Column("Δ SD", "Gy", digits=2)]
    if pair.gamma is not None:
        columns.append(Column("γ ≤ 1", "%", digits=1))
    note = "Δ and γ count voxels of the reference grid above the threshold; a dash: none of them lies in the structure."
    blocks: list[Block] = [Table(columns, rows, caption="Structures in both doses", note=note, compact=True)]
    panels = [
        (row.name, {pair.labels[0]: BandedDvh(row.reference), pair.labels[1]: BandedDvh(row.evaluated)})
        for row in _targets_first(pair)
        if row.name != "BODY"
    ]
    if panels:
        blocks.append(
            Figure(
                overlay_figure(panels[:_MOST_CURVES], pair.labels, "Dose [Gy]"),
                caption="Dose-volume histograms of both doses"
                + (f" in {_MOST_CURVES} of {len(panels)} structures." if len(panels) > _MOST_CURVES else "."),
                alt="Dose-volume histograms of both doses, one diagram for each structure",
                name="dvh",
            )
        )
    return blocks


def _targets_first(pair: DosePairView) -> list[StructureRow]:
    """Return the structures so that targets and organs are drawn before lesions, of which there may be many."""
    roles = {outline.name: outline.role for outline in pair.outlines}
    return sorted(pair.structures, key=lambda row: _DRAWN_FIRST.get(roles.get(row.name, "organ"), 1))


def _metric(curve: Dvh, which: str) -> float:
    if which == "mean":
        return curve.mean_gy
    return float(curve.dose_at_percent_gy(2.0 if which == "D2" else 98.0))


def _facts(pair: DosePairView) -> list[Block]:
    def grid(one: Grid) -> str:
        return f"{' × '.join(map(str, one.shape[::-1]))} voxels of {' × '.join(f'{s:g}' for s in one.spacing_mm)} mm"

    rows = [
        ["Reference", pair.names[0], float(pair.reference.values.max()), grid(pair.reference.grid)],
        ["Evaluated", pair.names[1], float(pair.evaluated.values.max()), grid(pair.evaluated.grid)],
    ]
    columns = [Column(""), Column("File"), Column("Maximum", "Gy", digits=3), Column("Grid (x, y, z)")]
    blocks: list[Block] = [Table(columns, rows)]
    if pair.facts:
        blocks.append(KeyValue(list(pair.facts.items())))
    return blocks
