"""Chapters of a comparison on physical dose: slices, differences, statistics, histograms."""

from __future__ import annotations

from collections.abc import Sequence

from cantlie.core.volume import Volume
from cantlie.report.comparison_cells import MOST_COLUMNS, arm_columns
from cantlie.report.comparison_figures import Panel, overlay_figure, slices_figure
from cantlie.report.comparison_report import BandedDvh, ComparisonReport
from cantlie.report.document import (
    Block,
    Cell,
    Column,
    Figure,
    Paragraph,
    Row,
    Section,
    Table,
)
from cantlie.report.view import View

_SAME_GY = 0.01


def dose_section(report: ComparisonReport, view: View) -> Section:
    """Return the doses on common slices, their differences and their statistics."""
    arms = report.arms
    first, *others = arms
    grid = min((arm.dose.grid for arm in arms), key=lambda g: g.spacing_mm[0] * g.spacing_mm[1] * g.spacing_mm[2])
    on_grid = {arm.id: arm.dose.resample(grid) for arm in arms}
    doses = [Panel(arm.id, arm.dose, arm.outlines) for arm in arms]
    signed: list[Panel] = []
    same: list[str] = []
    for other in others:
        difference = Volume(grid, on_grid[first.id].values - on_grid[other.id].values)
        if float(abs(difference.values).max()) < _SAME_GY:
            same.append(other.id)
        else:
            signed.append(Panel(f"{first.id} − {other.id}", difference, other.outlines, signed=True))
    if len(doses) > MOST_COLUMNS:
        doses = [panel for panel in doses if panel.title not in same]
    blocks: list[Block] = []

    def add(panels: Sequence[Panel], name: str, caption: str) -> None:
        figures = -(-len(panels) // MOST_COLUMNS)
        each = -(-len(panels) // figures)
        top = max((float(panel.volume.values.max()) for panel in panels if not panel.signed), default=None)
        for start in range(0, len(panels), each):
            part = panels[start : start + each]
            figure = slices_figure(report.ct, part, report.organs, view, window_hu=report.window_hu, top_gy=top)
            titles = ", ".join(panel.title for panel in part)
            blocks.append(Figure(figure, caption, f"{caption} Panels: {titles}", f"{name}{start or ''}"))

    where = "on the same axial and coronal slice; PTVs white, lesions pink, organs at risk grey"
    text = "Physical dose of the whole course"
    if len(doses) + len(signed) <= 3 and signed:
        add([*doses, *signed], "dose-maps", f"{text} and its difference, {where}.")
    else:
        add(doses, "dose-maps", f"{text}, {where}.")
        if signed:
            add(signed, "dose-differences", f"Difference of the physical dose of the whole course, {where}. "
                "All doses were resampled onto the finest of the grids.")  # fmt: skip
    for other_id in same:
        blocks.append(
            Paragraph(
                f"The physical dose of {first.id} and of {other_id} is the same in every voxel (differences below "
                f"{_SAME_GY:g} Gy), so there is no difference map."
            )
        )
    blocks.append(_statistics(report))
    return Section("Physical dose", blocks, new_page=True)


def _statistics(report: ComparisonReport) -> Table:
    arms = report.arms
    rows: list[Row] = []
    for name in report.structures:
        curves = {arm.id: arm.dvhs[name] for arm in arms if name in arm.dvhs}
        volume = max(curve.volume_cc for curve in curves.values())
        small = min(0.03, *(curve.volume_cc for curve in curves.values()))
        points = {"Mean": [curves[arm.id].mean_gy if arm.id in curves else None for arm in arms]}
        for label, cc in (("D0.03cc", small), ("D95%", 0.95)):
            if label == "D95%" and not name.startswith(("GTV", "Liver")):
                continue
            points[label] = [
                float(curves[arm.id].dose_at_volume_gy(cc if label != "D95%" else 0.95 * curves[arm.id].volume_cc))
                if arm.id in curves
                else None
                for arm in arms
            ]
        head: list[object] = [Cell(name, strong=True), volume]
        for label, values in points.items():
            rows.append([*head, label, *values])
            head = ["", ""]
    columns: list[Column | str] = [
        "Structure",
        Column("Volume", "cc", align="right", digits=1),
        "Dose [Gy]",
        *arm_columns(arms, digits=2),
    ]
    return Table(columns, rows, caption="Physical dose of the course in common structures", compact=True)


def histogram_section(report: ComparisonReport) -> Section:
    """Return the dose-volume histograms of the protocols in one picture for each structure."""
    panels = [
        (name, {arm.id: BandedDvh(arm.dvhs[name]) for arm in report.arms if name in arm.dvhs})
        for name in report.structures
    ]
    figure = overlay_figure(panels, [arm.id for arm in report.arms], "Physical dose [Gy]")
    caption = (
        "Cumulative histograms of the physical dose of the whole course. Doses of different fractionation do not mean "
        "the same effect; see the biological histograms. Lines that lie on each other are equal."
    )
    alt = f"Dose-volume histograms of {', '.join(report.structures)} for all protocols"
    return Section("Dose-volume histograms", [Figure(figure, caption, alt, "dvh-physical")], new_page=True)
