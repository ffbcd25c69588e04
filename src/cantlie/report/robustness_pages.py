"""The chapter on robustness: bands of DVHs, and every rule as planned, at worst and at best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cantlie.evaluation.bands import DvhBand, MetricBand
from cantlie.evaluation.verdict import SIGNS, decimals
from cantlie.report import style
from cantlie.report.case_tables import verdict_cell
from cantlie.report.document import Block, Cell, Column, Figure, Heading, Paragraph, Row, Section, Table

_MOST_CURVES = 10


def robustness_section(
    metrics: Sequence[MetricBand],
    bands: Sequence[DvhBand],
    colours: Mapping[str, str],
    *,
    method: str,
    varied: str,
) -> Section:
    """Return the chapter.

    Parameters
    ----------
    colours
        Structure to its colour on white.
    method
        How the doses of scenarios came about.
    varied
        What was varied, as one sentence.
    """
    shown = [band for band in bands if band.scope == "course"][:_MOST_CURVES]
    drawn = any(band.median_percent is not None for band in shown)
    blocks: list[Block] = [Paragraph(f"{varied} {method}")]
    if shown:
        blocks.append(
            Figure(
                band_figure(shown, colours),
                "Bands of the dose-volume histograms of the course over all displacements and density errors that were "
                "judged; the line is the plan"
                + (", the dotted line the median of the drawn courses." if drawn else "."),
                "Bands of dose-volume histograms; the table below has the values of the rules",
                "dvh-bands",
            )
        )
    blocks.append(_table(metrics))
    return Section("Robustness", blocks)


def band_figure(bands: Sequence[DvhBand], colours: Mapping[str, str], height_in: float = 3.3) -> MatplotlibFigure:
    """Draw DVH bands in % of the structures' volumes."""
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height_in)
        axes = figure.add_axes((0.068, 0.44 / height_in, 0.72, 1 - (0.44 + 0.14) / height_in))
        handles: list[Line2D | Patch] = []
        top = 0.0
        for number, band in enumerate(bands):
            colour = colours.get(band.structure, style.SERIES[number % len(style.SERIES)])
            axes.fill_between(band.dose_gy, band.low_percent, band.high_percent, color=colour, alpha=0.22, linewidth=0)
            (line,) = axes.plot(band.dose_gy, band.nominal_percent, color=colour, linewidth=1.2, label=band.structure)
            handles.append(line)
            if band.median_percent is not None:
                axes.plot(band.dose_gy, band.median_percent, color=colour, linewidth=0.9, linestyle=(0, (1, 1.5)))
            reached = band.dose_gy[band.high_percent > 0]
            top = max(top, float(reached[-1]) if reached.size else 0.0)
        axes.set_xlim(0, top or 1.0)
        axes.set_ylim(0, 100.5)
        axes.set_xlabel("Dose [Gy]")
        axes.set_ylabel("Volume [%]")
        handles.append(Patch(facecolor=style.MUTED, alpha=0.3, label="all scenarios"))
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
    return figure


def _table(metrics: Sequence[MetricBand]) -> Table:
    rows: list[Row] = []
    kinds = {"coverage": "Coverage", "target": "Clinical targets", "constraint": "Organs at risk"}
    with_courses = any(band.courses_percent is not None for band in metrics)
    for kind, heading in kinds.items():
        own = [band for band in metrics if band.kind == kind]
        if own:
            rows.append(Heading(heading))
        for band in own:
            limit = None if band.limit is None else f"{SIGNS[band.op]} {band.limit:g} {band.unit}".replace("-", "−")
            cells: list[object] = [
                Cell(band.structure, note="" if band.scope == "course" else f"plan of {band.scope}"),
                band.metric,
                limit,
                _number(band.nominal, band),
                _number(band.worst, band),
                band.worst_scenario,
                _number(band.best, band),
                verdict_cell(band.worst_verdict) if band.limit is not None else None,
            ]
            if with_courses:
                cells.append(None if band.courses_percent is None else f"{band.courses_percent:.0f} %")
            rows.append(cells)
    columns = [
        Column("Structure", width=1.1),
        Column("Metric", width=0.8),
        Column("Limit", align="right", width=0.6),
        Column("Planned", align="right", width=0.75),
        Column("Worst", align="right", width=0.75),
        Column("Worst scenario", width=1.2),
        Column("Best", align="right", width=0.75),
        Column("Worst case", width=0.8),
    ]
    if with_courses:
        columns.append(Column("Courses", align="right", width=0.6))
    note = "Worst and best are over displacements and density errors, not over drawn courses."
    if with_courses:
        note += (
            " Courses: share of the drawn courses that keep the limit; for clinical targets, in which the metric is at "
            "least 95 % of the planned one."
        )
    return Table(columns, rows, caption="Rules of the protocol in all scenarios", note=note, compact=True)


def _number(value: float, band: MetricBand) -> str:
    digits = 2 if band.unit == "Gy" else 1
    if band.limit is not None:
        digits = decimals(value, band.limit, digits)
    return f"{value:.{digits}f} {band.unit}".replace("-", "−")
