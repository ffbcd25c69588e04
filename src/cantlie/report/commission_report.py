"""The report of a commissioning: every measured curve beside the calculated one, residuals and tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as MatplotlibFigure

from cantlie.core.notes import Note
from cantlie.dose.tank_residuals import TOLERANCE_SOURCE, CurveResiduals, Judged
from cantlie.machine.beam_model import BeamModel
from cantlie.report import style
from cantlie.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    Figure,
    KeyValue,
    Paragraph,
    Section,
    Table,
    Tile,
    Tiles,
)

_SCOPE = (
    "The beam model was fitted to the measured data and then calculated by the dose engine on voxels of 2.5 mm. Each "
    "curve is compared at the scale that fits it best, so that an error of output shows only in the output factors. "
    "Passing says that the engine can reproduce these measurements; it does not replace independent tests of the plans."
)


@dataclass(frozen=True, slots=True, eq=False)
class CommissionPages:
    """What the report tells."""

    model: BeamModel
    energy_mv: float
    base_machine: str
    folder: str
    curves: Sequence[CurveResiduals]
    outputs: Sequence[Judged]
    passes: int
    seconds: float
    notes: Sequence[Note]
    provenance: Sequence[tuple[str, object]]


def commission_document(pages: CommissionPages) -> Document:
    """Return the report of a commissioning as a document."""
    judged = [*(row for item in pages.curves for row in item.judged), *pages.outputs]
    failed = [row for row in judged if row.verdict == "fail"]
    lead: list[Block] = [
        Tiles(
            [
                Tile("Curves", len(pages.curves)),
                Tile("Output factors", len(pages.outputs)),
                Tile("Within tolerance", len(judged) - len(failed), note=f"of {len(judged)}", tone="pass"),
                Tile("Out of tolerance", len(failed), tone="fail" if failed else ""),
            ]
        ),
        Callout(_SCOPE, title="How to read this report"),
    ]
    if pages.notes:
        lead.append(Callout("", title="To know", tone="warning", items=[note.sentence() for note in pages.notes]))
    return Document(
        title=f"Commissioning of {pages.model.name}",
        subtitle=pages.model.description,
        meta=list(pages.provenance),
        lead=lead,
        sections=[_summary(failed), *_curve_sections(pages), _outputs(pages), _model(pages)],
        running_title=f"Commissioning of {pages.model.name}",
    )


def _summary(failed: Sequence[Judged]) -> Section:
    if not failed:
        text = "All figures are within their tolerances."
        return Section("Summary", [Paragraph(text, style="lead")])
    items = [
        f"{row.place}: {row.metric} {row.achieved:.2f} {row.unit} (tolerance {row.limit:g} {row.unit})"
        for row in failed
    ]
    return Section("Summary", [Paragraph("Out of tolerance:", style="lead"), Bullets(items)])


def _curve_sections(pages: CommissionPages) -> list[Section]:
    sections = []
    for kind, title in (("depth dose", "Depth doses"), ("profile", "Profiles")):
        chosen = [item for item in pages.curves if item.curve.kind == kind]
        if not chosen:
            continue
        blocks: list[Block] = [
            Figure(
                _figure(group),
                caption=f"{title}: measured (points) and calculated (lines), difference below",
                name=f"{kind.replace(' ', '-')}-{n + 1}",
                alt=f"{title}: measured and calculated curves lie on each other within the differences of the table",
            )
            for n, group in enumerate(_groups(chosen))
        ]
        blocks.append(_table(chosen))
        sections.append(Section(title, blocks, new_page=True))
    return sections


def _groups(items: Sequence[CurveResiduals]) -> list[list[CurveResiduals]]:
    """Curves of one field size share a picture, at most six; depth doses share one."""
    groups: dict[object, list[CurveResiduals]] = {}
    for item in items:
        key = item.curve.field_mm if item.curve.kind == "profile" else "all"
        groups.setdefault(key, []).append(item)
    return [members[n : n + 6] for members in groups.values() for n in range(0, len(members), 6)]


def _figure(items: Sequence[CurveResiduals]) -> MatplotlibFigure:
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 3.6)
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1), "hspace": 0.08})
        for n, item in enumerate(items):
            colour = style.SERIES[n % len(style.SERIES)]
            position = item.curve.position_mm
            upper.plot(position, item.measured_percent, ".", color=colour, markersize=2.2, alpha=0.7)
            upper.plot(position, item.calculated_percent, color=colour, linewidth=0.9, label=item.curve.label)
            lower.plot(position, item.calculated_percent - item.measured_percent, color=colour, linewidth=0.8)
        lower.axhline(0.0, color=style.MUTED, linewidth=0.6)
        upper.set_ylabel("Dose [% of maximum]")
        lower.set_ylabel("Difference [%]")
        lower.set_ylim(-5, 5)
        lower.set_xlabel("Depth [mm]" if items[0].curve.kind == "depth dose" else "Distance from the axis [mm]")
        upper.legend(fontsize=6)
        figure.subplots_adjust(left=0.08, right=0.99, top=0.98, bottom=0.12)
    return figure


def _table(items: Sequence[CurveResiduals]) -> Table:
    with_edges = items[0].curve.kind == "profile"
    columns = [Column("Curve"), Column("Mean", "%", digits=2), Column("High dose", "%", digits=2)]
    columns.append(Column("Penumbra", "mm", digits=2) if with_edges else Column("Build-up", "mm", digits=2))
    if with_edges:
        columns += [
            Column("Tail", "%", digits=2),
            Column("80–20 % measured", "mm", digits=1),
            Column("Calculated", "mm", digits=1),
        ]
    rows = []
    for item in items:
        found = {row.metric.split(",")[0]: _cell(row) for row in item.judged}
        cells: list[object] = [item.curve.label, item.mean_percent, found.get("high dose")]
        cells.append(found.get("penumbra" if with_edges else "build-up"))
        if with_edges:
            cells += [found.get("tail"), *(item.penumbra_mm or (None, None))]
        rows.append(cells)
    limits = "high dose 2 %, penumbra and build-up 2 mm, tail 3 % of the maximum up to 5 cm outside the field"
    return Table(
        columns,
        rows,
        caption="Calculated minus measured: the worst of each curve, and the mean of the high dose",
        note=f"Tolerances: {limits}. {TOLERANCE_SOURCE}; the tolerance of the build-up is that of steep gradients.",
        compact=True,
    )


def _cell(row: Judged) -> Cell:
    return Cell(row.achieved, tone="pass" if row.verdict == "pass" else "fail")


def _outputs(pages: CommissionPages) -> Section:
    if not pages.outputs:
        return Section("Output factors", [Paragraph("None were given.")])
    columns = [Column("Field"), Column("Calculated − measured", "%", digits=2), Column("Tolerance", "%", digits=1)]
    rows = [[row.place, _cell(row), row.limit] for row in pages.outputs]
    return Section("Output factors", [Table(columns, rows, note=f"Tolerance: {TOLERANCE_SOURCE}.", compact=True)])


def _model(pages: CommissionPages) -> Section:
    model = pages.model
    energies, share = model.photons()
    facts: list[tuple[str, object]] = [
        ("Mean photon energy", f"{float((energies * share).sum()):.2f} MeV"),
        ("Focal spot, σ", f"{model.focal_spot_sigma_mm:.2f} mm"),
        ("Extra-focal share", f"{100 * model.extra_focal_fraction:.1f} %"),
        ("Extra-focal source, σ", f"{model.extra_focal_sigma_mm:.1f} mm"),
        ("Jaw transmission", f"{100 * model.jaw_transmission:.2f} %"),
        ("Dose of electrons at the surface", f"{100 * model.electron_contamination:.1f} %"),
        ("Depth where it is 1/e of that", f"{model.electron_contamination_depth_mm:.1f} mm"),
        ("Dose per MU", f"{model.calibration.gy_per_mu:.5g} Gy"),
    ]
    rows = list(zip(model.off_axis_radius_mm, model.off_axis_fluence, model.off_axis_attenuation, strict=True))
    columns = [Column("Radius", "mm", digits=1), Column("Fluence", digits=4), Column("Attenuation", digits=4)]
    settings = [
        ("Machine geometry from", pages.base_machine),
        ("Data", pages.folder),
        ("Calls of the dose engine", pages.passes),
        ("Seconds", round(pages.seconds, 1)),
    ]
    with style.figure_style():
        figure = style.new_figure(style.HALF_WIDTH_IN, 2.2)
        axes = figure.subplots()
        axes.step(energies, share / share.max(), where="mid", color=style.ACCENT)
        axes.set_xlabel("Photon energy [MeV]")
        axes.set_ylabel("Relative number of photons")
        figure.subplots_adjust(left=0.15, right=0.98, top=0.97, bottom=0.19)
    blocks: list[Block] = [
        KeyValue(facts),
        Table(columns, rows, caption="The open beam relative to the axis, in the isocentre plane", compact=True),
        Figure(figure, caption="Spectrum on the axis", name="spectrum", alt="Photon spectrum", width=0.5),
        KeyValue(settings),
    ]
    return Section("Beam model", blocks)
