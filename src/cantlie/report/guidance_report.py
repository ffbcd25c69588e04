"""The report on image guidance: verdicts by session, errors by axis, and the margins that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import MaxNLocator

from cantlie.core.notes import Note
from cantlie.course.image_guidance import AxisStatistics, GuidanceRow, PopulationErrors
from cantlie.protocol.uncertainty import Guidance
from cantlie.report import style
from cantlie.report.case_tables import verdict_cell
from cantlie.report.document import (
    Block,
    Callout,
    Column,
    Document,
    Figure,
    KeyValue,
    Paragraph,
    Row,
    Section,
    Table,
    Tile,
    Tiles,
)

_AXIS_NAMES = ("x, left +", "y, posterior +", "z, head +")
_MOST_PATIENTS = 12
_MOST_ROWS = 200


def guidance_document(
    title: str,
    protocol_id: str,
    rule: Guidance,
    rows: Sequence[GuidanceRow],
    statistics: Mapping[str, Sequence[AxisStatistics]],
    errors: PopulationErrors | None,
    margins_mm: Mapping[str, tuple[float, float, float]],
    notes: Sequence[Note],
    created: datetime,
) -> Document:
    """Return the report as a document."""
    imaged = [row for row in rows if row.entry is not None and row.entry.imaged]
    over = sum(bool(row.over_axes) for row in imaged)
    failed = [row for row in rows if row.verdict == "fail"]
    share = f"{100 * over / len(imaged):.0f} % of the images" if imaged else "no images"
    lead: list[Block] = [
        Tiles(
            [
                Tile("Sessions judged", len(rows), "", f"{len(imaged)} with an image"),
                Tile("At or over the action level", over, "", share),
                Tile("Sessions that break a rule", len(failed), "", tone="fail" if failed else "pass"),
            ]
        )
    ]
    if failed:
        items = [f"{_name(row)}: {'; '.join(row.reasons)}" for row in failed[:8]]
        items += [f"and {len(failed) - 8} more in the table"] if len(failed) > 8 else []
        lead.append(Callout("", "Rules of image guidance that are broken", "fail", items))
    if notes:
        lead.append(Callout("", "Remarks", "warning", [note.sentence() for note in notes]))
    sections = [_rule(rule), _errors(rows, statistics, errors, margins_mm, rule.action_level_mm), _sessions(rows)]
    return Document(
        title="Image guidance",
        subtitle=title,
        running_title=f"Image guidance: {protocol_id}",
        meta=[("Protocol", protocol_id), ("Made", created), ("Cantlie", metadata.version("cantlie"))],
        lead=lead,
        sections=sections,
    )


def _rule(rule: Guidance) -> Section:
    level = None if rule.action_level_mm is None else f"{rule.action_level_mm:g} mm along any axis"
    frequency = rule.frequency.replace("_", " ")
    if rule.frequency == "first_then_weekly":
        frequency = f"first {rule.first_sessions} sessions, then weekly"
    facts: list[tuple[str, object]] = [
        ("Images", rule.modality or None),
        ("How often", frequency or "not stated"),
        ("Matching", " > ".join(rule.match_sequence) or "not stated"),
        ("Action level", level or "not stated"),
        ("Approval", "wanted" if rule.approval else "not stated"),
        ("Available from", None if rule.available_from is None else rule.available_from.isoformat()),
        ("Place in the source", rule.place or None),
    ]
    return Section("The rule", [KeyValue(facts)])


def _errors(
    rows: Sequence[GuidanceRow],
    statistics: Mapping[str, Sequence[AxisStatistics]],
    errors: PopulationErrors | None,
    margins_mm: Mapping[str, tuple[float, float, float]],
    level_mm: float | None,
) -> Section:
    blocks: list[Block] = [
        Paragraph(
            "Displacements of the anatomy from its planned place before correction, in mm. Mean size ± SD is the form "
            "in which Pei 2019 prints them. The covering margin would have covered 90 % of the images without any "
            "correction."
        )
    ]
    if any(row.entry is not None and row.entry.imaged for row in rows):
        blocks.append(
            Figure(
                _figure(rows, level_mm),
                "Displacement of every image before correction"
                + ("." if level_mm is None else "; the grey band is below the action level."),
                "Displacements by session; the values are in sessions.csv",
                "displacements",
            )
        )
    table: list[Row] = []
    for patient, own in list(statistics.items())[:_MOST_PATIENTS]:
        for row in own:
            table.append(
                [
                    patient or None, row.axis, row.images, f"{row.mean_mm:+.2f}".replace("-", "−"),
                    None if row.sd_mm is None else f"{row.sd_mm:.2f}", _plus_minus(row), f"{row.largest_mm:.1f}",
                    f"{row.covering_mm:.1f}",
                ]
            )  # fmt: skip
    if table:
        more = len(statistics) - _MOST_PATIENTS
        columns = [
            Column("Patient"),
            Column("Axis"),
            Column("Images", align="right"),
            Column("Mean", align="right"),
            Column("SD", align="right"),
            Column("Mean size ± SD", align="right"),
            Column("Largest", align="right"),
            Column("Covering margin", align="right"),
        ]
        note = f"{more} more patients stand in results.json." if more > 0 else ""
        blocks.append(Table(columns, table, caption="Errors by patient and axis, mm", note=note, compact=True))
    if errors is not None:
        blocks.append(_population(errors, margins_mm))
    return Section("Errors and margins", blocks)


def _plus_minus(row: AxisStatistics) -> str:
    spread = "" if row.absolute_sd_mm is None else f" ± {row.absolute_sd_mm:.2f}"
    return f"{row.absolute_mean_mm:.2f}{spread}"


def _population(errors: PopulationErrors, margins_mm: Mapping[str, tuple[float, float, float]]) -> Table:
    rows: list[Row] = []
    for label, found, margin in (
        ("before correction", errors.before, errors.margin_before_mm),
        ("after correction", errors.after, errors.margin_after_mm),
    ):
        if label == "after correction" and not any((*found.mean_mm, *found.systematic_mm, *found.random_mm)):
            rows.append([f"Errors and margin, {label}", *["not measured"] * 3])
            continue
        rows.append([f"Mean, {label}", *(f"{v:+.2f}".replace("-", "−") for v in found.mean_mm)])
        rows.append([f"Systematic Σ, {label}", *(f"{v:.2f}" for v in found.systematic_mm)])
        rows.append([f"Random σ, {label}", *(f"{v:.2f}" for v in found.random_mm)])
        rows.append([f"Margin 2.5 Σ + 0.7 σ, {label}", *(f"{v:.1f}" for v in margin)])
    rows += [[f"PTV margin of the protocol, {name}", *(f"{v:g}" for v in own)] for name, own in margins_mm.items()]
    return Table(
        [Column("", width=2.2), *(Column(axis, "mm", align="right", width=0.9) for axis in _AXIS_NAMES)],
        rows,
        caption=f"All {errors.before.patients} patients, {errors.before.sessions} images",
        note="The margin is van Herk's: 90 % of patients get 95 % of the dose in all of the CTV. Breathing and "
        "contouring are not in it. Of a margin with sides the smaller one is shown.",
    )


def _sessions(rows: Sequence[GuidanceRow]) -> Section:
    table: list[Row] = []
    for row in rows[:_MOST_ROWS]:
        shift = row.entry.shift_mm if row.entry is not None else None
        values = (None, None, None) if shift is None else tuple(f"{v:+.1f}".replace("-", "−") for v in shift)
        corrected = None if row.entry is None else {True: "yes", False: "no", None: None}[row.entry.corrected]
        table.append(
            [
                _name(row),
                None if row.start is None else f"{row.start:%Y-%m-%d %H:%M}",
                {True: "due", False: "not due", None: None}[row.due],
                *values,
                corrected,
                verdict_cell(row.verdict, "; ".join(row.reasons)),
            ]
        )
    columns = [
        Column("Session", width=1.1),
        Column("Start", width=1.6),
        Column("Image", width=0.6),
        *(Column(axis[0], "mm", align="right", width=0.5) for axis in _AXIS_NAMES),
        Column("Corrected", width=0.7),
        Column("Verdict", width=2.2),
    ]
    more = len(rows) - _MOST_ROWS
    note = f"{more} more sessions stand in sessions.csv." if more > 0 else ""
    return Section("Sessions", [Table(columns, table, note=note, compact=True)], new_page=True)


def _name(row: GuidanceRow) -> str:
    number = "" if row.number is None else str(row.number)
    return " ".join(part for part in (row.patient, number, row.target) if part) or "–"


def _figure(rows: Sequence[GuidanceRow], level_mm: float | None, height_in: float = 2.4) -> MatplotlibFigure:
    shown = [row.entry for row in rows if row.entry is not None and row.entry.shift_mm is not None]
    values = np.array([entry.shift_mm for entry in shown], dtype=np.float64).reshape(-1, 3)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height_in)
        axes = figure.add_axes((0.068, 0.44 / height_in, 0.75, 1 - (0.44 + 0.12) / height_in))
        order = np.arange(1, len(values) + 1)
        for n, label in enumerate(_AXIS_NAMES):
            axes.plot(
                order, values[:, n], color=style.SERIES[n], marker="osd"[n], markersize=3, linestyle="none", label=label
            )
        if level_mm is not None:
            axes.axhspan(-level_mm, level_mm, color=style.MUTED, alpha=0.15, linewidth=0)
        axes.axhline(0.0, color=style.MUTED, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("Image in the order of the log")
        axes.set_ylabel("Displacement [mm]")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
    return figure
