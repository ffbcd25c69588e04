"""The chapter on breathing: what motion does to targets and lesions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cantlie.report.document import Column, Paragraph, Row, Section, Table

Four = tuple[float, float, float, float]
Band = tuple[float, float, float]


class MovingRow(Protocol):
    """A structure that moves: doses without motion, blurred, and with interplay."""

    @property
    def structure(self) -> str: ...
    @property
    def static_gy(self) -> Four: ...
    @property
    def blurred_gy(self) -> Four: ...
    @property
    def course_d95_gy(self) -> Band: ...
    @property
    def fraction_d95_percent(self) -> Band: ...


def motion_section(
    rows: Sequence[MovingRow],
    *,
    motion: str,
    margins_mm: Band,
    realisations: int,
) -> Section:
    """Return the chapter."""
    x, y, z = margins_mm
    table: list[Row] = []
    for row in rows:
        table.append(
            [
                row.structure,
                f"{row.static_gy[1]:.2f}",
                f"{row.blurred_gy[1]:.2f}",
                f"{row.static_gy[0]:.2f}",
                f"{row.blurred_gy[0]:.2f}",
                f"{row.static_gy[2]:.2f}",
                f"{row.blurred_gy[2]:.2f}",
                "{1:.2f} ({0:.2f} to {2:.2f})".format(*row.course_d95_gy),
                "{1:.1f} ({0:.1f} to {2:.1f})".format(*row.fraction_d95_percent),
            ]
        )
    columns = [Column("Structure", width=1.0)]
    columns += [
        Column(f"{metric} {kind}", "Gy", align="right", width=0.75)
        for metric in ("D95 %", "D98 %", "Dmean")
        for kind in ("static", "blurred")
    ]
    columns += [
        Column("D95 % of courses with interplay", "Gy", align="right", width=1.5),
        Column("D95 % of one fraction", "% of static", align="right", width=1.4),
    ]
    return Section(
        "Breathing",
        [
            Paragraph(
                f"{motion} The liver is displaced rigidly in a dose that stays where it is. Blurred: every segment "
                "meets all states of breathing. Interplay: each beam comes on at a random phase, leaves follow the "
                f"clock; median and 5th to 95th percentile of {realisations} simulated courses and fractions. A margin "
                f"for the protocol's set-up errors and this motion is {x:.1f}, {y:.1f} and {z:.1f} mm along x, y and z "
                "(van Herk 2003, mid-position)."
            ),
            Table(columns, table, caption="The course without and with motion", compact=True),
        ],
    )
