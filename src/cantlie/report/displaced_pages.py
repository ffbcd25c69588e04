"""The chapter on displaced sessions: where each session lay, and what that made of the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure

from cantlie.evaluation.verdict import SIGNS
from cantlie.report import style
from cantlie.report.case_tables import verdict_cell
from cantlie.report.document import Block, Cell, Column, Figure, Paragraph, Row, Section, Table

AXES = (("x, left +", style.SERIES[0]), ("y, posterior +", style.SERIES[1]), ("z, head +", style.SERIES[2]))


class ComparedRow(Protocol):
    """A metric as planned and as displaced."""

    @property
    def structure(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def planned(self) -> float: ...
    @property
    def displaced(self) -> float: ...
    @property
    def verdict(self) -> str: ...


def displaced_section(
    shifts_mm: Mapping[int, tuple[float, float, float]],
    source: str,
    metrics: Sequence[ComparedRow],
    *,
    eqd2_liver_gy: tuple[float, float] | None,
    alpha_beta_gy: float,
    remarks: Sequence[str] = (),
) -> Section:
    """Return the chapter."""
    text = (
        f"Displacements of the anatomy from its planned place ({source}) are applied to the dose of each session: the "
        "session's dose stays where the room has it, and is added up in the coordinates of the planning CT."
    )
    if eqd2_liver_gy is not None:
        before, after = eqd2_liver_gy
        text += (
            f" Mean EQD2 of the normal liver (α/β = {alpha_beta_gy:g} Gy, full repair between sessions): "
            f"{before:.2f} Gy as planned, {after:.2f} Gy as displaced."
        )
    blocks: list[Block] = [Paragraph(text), *(Paragraph(remark, "small") for remark in remarks)]
    blocks.append(
        Figure(
            shift_figure(shifts_mm),
            "Displacement of the anatomy in each session along the patient's axes.",
            "Displacement of each session; the numbers are in results.json",
            "session-shifts",
        )
    )
    rows: list[Row] = []
    for row in metrics:
        digits = 2 if row.unit == "Gy" else 1
        change = f"{row.displaced - row.planned:+.{digits}f}".replace("-", "−")
        rows.append(
            [
                Cell(row.structure, note="" if row.scope == "course" else f"plan of {row.scope}"),
                row.metric,
                None if row.limit is None else f"{SIGNS[row.op]} {row.limit:g} {row.unit}",
                f"{row.planned:.{digits}f} {row.unit}",
                f"{row.displaced:.{digits}f} {row.unit}",
                change,
                None if row.limit is None else verdict_cell(row.verdict),
            ]
        )
    blocks.append(
        Table(
            [
                Column("Structure", width=1.2),
                Column("Metric", width=0.9),
                Column("Limit", align="right", width=0.8),
                Column("Planned", align="right", width=0.8),
                Column("Displaced", align="right", width=0.8),
                Column("Change", align="right", width=0.6),
                Column("Displaced course", width=0.9),
            ],
            rows,
            caption="The given sessions as planned and as displaced",
            compact=True,
        )
    )
    return Section("Displaced sessions", blocks)


def shift_figure(shifts_mm: Mapping[int, tuple[float, float, float]], height_in: float = 2.1) -> MatplotlibFigure:
    """Draw the displacement of each session along three axes."""
    numbers = sorted(shifts_mm)
    values = np.array([shifts_mm[number] for number in numbers]).reshape(-1, 3)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height_in)
        axes = figure.add_axes((0.068, 0.44 / height_in, 0.75, 1 - (0.44 + 0.12) / height_in))
        for n, (label, colour) in enumerate(AXES):
            axes.plot(numbers, values[:, n], color=colour, marker="osd"[n], markersize=3, linewidth=0.9, label=label)
        axes.axhline(0.0, color=style.MUTED, linewidth=0.6)
        axes.set_xlabel("Session")
        axes.set_ylabel("Displacement [mm]")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
    return figure
