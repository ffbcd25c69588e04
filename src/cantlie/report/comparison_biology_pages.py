"""Chapters of a comparison on biology: EQD2, risks, and the two halves with repair between their sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cantlie.core.volume import Volume
from cantlie.report.comparison_cells import MOST_COLUMNS, arm_columns, percent, range_note
from cantlie.report.comparison_figures import Panel, overlay_figure, probability_figure, slices_figure
from cantlie.report.comparison_report import ComparisonReport, ProbabilityLine
from cantlie.report.document import (
    Block,
    Cell,
    Column,
    Figure,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
)
from cantlie.report.view import View


def biology_section(report: ComparisonReport, colours: Mapping[str, str]) -> Section:
    """Return EQD2 of the common structures, risks of complication and chances of control."""
    blocks: list[Block] = []
    if report.biology_note:
        blocks.append(Paragraph(report.biology_note))
    arms = [arm.id for arm in report.arms]
    if report.panels:
        for kind, title in (("eqd2", "EQD2"), ("bed", "BED")):
            panels = [(p.structure, p.eqd2 if kind == "eqd2" else p.bed) for p in report.panels]
            labels = [f"{title} (α/β = {p.alpha_beta_gy:g} Gy) [Gy]" for p in report.panels]
            blocks.append(
                Figure(
                    overlay_figure(panels, arms, labels),
                    f"Cumulative histograms of the {title}, summed session by session in every voxel; lines with full "
                    "repair, bands over the repair half-times where they were calculated.",
                    f"{title} volume histograms of {', '.join(p.structure for p in report.panels)}",
                    f"dvh-{kind}",
                )
            )
            blocks.append(_biological_table(report, kind, title))
    lines = [*report.complications, *report.control]
    if any(line.value is not None for line in lines):
        blocks.append(
            Figure(
                probability_figure(lines, arms),
                "Probabilities of complication and control with their bands. Open circles lie outside the range of the "
                "model or come from generic parameters.",
                "Probabilities with bands; the numbers are in the tables",
                "probabilities",
            )
        )
    for caption, group in (("Complications (NTCP)", report.complications), ("Control (TCP)", report.control)):
        if group:
            blocks.append(_probability_table(group, caption, colours))
    return Section("Biological effect", blocks, new_page=True)


def _biological_table(report: ComparisonReport, kind: str, title: str) -> Table:
    rows: list[Row] = []
    for panel in report.panels:
        curves = panel.eqd2 if kind == "eqd2" else panel.bed
        row: list[object] = [panel.structure, f"α/β = {panel.alpha_beta_gy:g} Gy"]
        for arm in report.arms:
            curve = curves.get(arm.id)
            row.append(None if curve is None else Cell(f"{curve.full.mean_gy:.2f}", note=range_note(curve)))
        rows.append(row)
    columns: list[Column | str] = [Column("Structure"), Column("For"), *arm_columns(report.arms)]
    return Table(columns, rows, caption=f"Mean {title} of the course [Gy]", compact=True)


def _probability_table(lines: Sequence[ProbabilityLine], caption: str, colours: Mapping[str, str]) -> Table:
    rows: list[Row] = []
    for model in dict.fromkeys(line.model for line in lines):
        of_model = [line for line in lines if line.model == model]
        rows.append(Heading(f"{model}: {of_model[0].endpoint}. {of_model[0].source}"))
        for line in of_model:
            band = None if line.low is None else f"{percent(line.low)} to {percent(line.high)}"
            value = Cell(None if line.value is None else percent(line.value), tone="" if line.trusted else "warning")
            rows.append(
                [Cell(line.arm, swatch=colours.get(line.arm, "")), value, band, line.band or None, line.reason or None]
            )
    columns = [
        Column("Protocol", width=1.1),
        Column("Value", align="right", width=0.5),
        Column("Band", align="right", width=0.9),
        Column("Band over", width=1.8),
        Column("Remark", width=1.3),
    ]
    return Table(columns, rows, caption=caption, compact=True)


def halves_section(report: ComparisonReport, view: View) -> Section:
    """Return what two halves of the liver share, and what repair between their sessions does."""
    blocks: list[Block] = []
    if report.halves:
        rows: list[Row] = []
        for line in report.halves:
            rows.append(
                Heading(
                    f"{line.arm}: the slab in both PTVs has {line.overlap_cc:.1f} cc"
                    + ("" if line.overlap_mean_gy is None else f", mean {line.overlap_mean_gy:.1f} Gy")
                    + ("" if line.overlap_max_gy is None else f", maximum {line.overlap_max_gy:.1f} Gy")
                )
            )
            rows += [[half, own, spilled, f"{percent:.0f} %"] for half, own, spilled, percent in line.into]
        columns = [
            Column("Half of the liver"),
            Column("Mean dose from its own plan", "Gy", digits=2),
            Column("Mean dose spilled from the other plan", "Gy", digits=2),
            Column("Share of the other prescription", align="right"),
        ]
        blocks.append(Table(columns, rows, caption="Overlap slab and spill-over to the other half", compact=True))
    if report.repairs and len(report.arms) > 1:
        blocks.append(_repair_table(report))
        if any(line.difference for line in report.repairs):
            blocks.append(_difference_table(report))
        blocks += _bed_maps(report, view)
    return Section("Two halves, two plans: overlap, spill-over and repair", blocks) if report.halves else Section("")


def _bed_maps(report: ComparisonReport, view: View) -> list[Block]:
    """Return maps of what the calendar does to the BED, for the arms with two half-liver plans."""
    arms = [arm for arm in report.arms if arm.bed is not None and any(arm.id == line.arm for line in report.halves)]
    if len(arms) < 2 or arms[0] is not report.arms[0] or arms[0].bed is None:
        return []
    first = arms[0].bed
    panels = [
        Panel(
            f"{arms[0].id} − {arm.id}",
            Volume(first.grid, first.values - arm.bed.resample(first.grid).values),
            arm.outlines,
            signed=True,
        )
        for arm in arms[1:MOST_COLUMNS]
        if arm.bed is not None
    ]
    whole = Panel(f"BED, {arms[0].id}", first, arms[0].outlines)
    half_time = f"{report.half_time_h:g} h"
    caption = (
        f"BED (α/β = {report.alpha_beta_liver_gy:g} Gy) with a repair half-time of {half_time}, and what the other "
        "calendar takes away from it (red: more in the first)."
    )
    figure = slices_figure(report.ct, [whole, *panels], report.organs, view, window_hu=report.window_hu, quantity="BED")
    return [Figure(figure, caption, caption, "bed-differences")]


def _repair_table(report: ComparisonReport) -> Table:
    arms = [arm for arm in report.arms if any(arm.id == line.arm for line in report.halves)]
    ratio = f"{report.alpha_beta_liver_gy:g}"
    rows: list[Row] = []
    for what in ("liver", "overlap", "risk"):
        title = {
            "liver": f"Mean BED (α/β = {ratio} Gy) of normal liver [Gy]",
            "overlap": f"Mean BED (α/β = {ratio} Gy) of the overlap slab [Gy]",
            "risk": "Risk of RILD [%]",
        }[what]
        group: list[Row] = []
        for line in report.repairs:
            if what == "risk":
                values = {name: 100.0 * value for name, value in line.rild.items()}
            else:
                values = dict(line.liver_mean_gy if what == "liver" else line.overlap_mean_gy)
            group.append([line.repair, *(values.get(arm.id) for arm in arms)])
        if any(value is not None for row in group if not isinstance(row, Heading) for value in row[1:]):
            rows += [Heading(title), *group]
    return Table(
        [Column("Repair between sessions"), *arm_columns(arms, digits=2)],
        rows,
        caption="Biological dose and risk for each repair half-time",
        note="The RILD model was fitted to treatment twice a day and converted with full repair: incomplete repair "
        "that is counted only in the patient's dose makes its risk an upper estimate.",
        compact=True,
    )


def _difference_table(report: ComparisonReport) -> Table:
    first = report.arms[0].id
    rows: list[Row] = []
    names = list(dict.fromkeys(name for line in report.repairs for name in line.difference))
    for name in names:
        rows.append(Heading(f"{first} − {name}"))
        rows += [[line.repair, *line.difference[name]] for line in report.repairs if name in line.difference]
    columns: list[Column | str] = [
        "Repair between sessions",
        Column("Mean", "Gy", digits=3),
        Column("Least voxel", "Gy", digits=2),
        Column("Largest voxel", "Gy", digits=2),
        Column("Volume above 1 Gy", "cc", digits=1),
    ]
    caption = f"Difference of the BED (α/β = {report.alpha_beta_liver_gy:g} Gy) in the voxels of normal liver"
    return Table(columns, rows, caption=caption, compact=True)
