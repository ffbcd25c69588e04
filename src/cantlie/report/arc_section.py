"""The part of a report on arcs: how they are delivered, and what they look like on their way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.report.arc_figure import arc_figure
from cantlie.report.arc_view import ArcView
from cantlie.report.document import Block, Column, Figure, Table


def arc_blocks(label: str, arcs: Sequence[ArcView], slug: str) -> list[Block]:
    """Return table and figures of the arcs of a plan; nothing where it has none.

    Parameters
    ----------
    label, slug
        Name of the plan, in captions and in file names.
    """
    if not arcs:
        return []
    rows: list[list[object]] = []
    blocks: list[Block] = []
    for number, arc in enumerate(arcs, start=1):
        profile = arc.profile
        rows.append(
            [
                arc.name,
                len(profile.mu) + 1,
                float(profile.seconds.sum()),
                _range(profile.mu_per_deg, 1),
                _range(profile.dose_rate_mu_min, 0),
                _range(profile.gantry_deg_s, 2),
                float(profile.leaf_mm_s.max()),
                float((profile.open_cm2 * profile.mu).sum() / profile.mu.sum()),
            ]
        )
        blocks.append(
            Figure(
                arc_figure(arc),
                f"Arc {arc.name}. Above: openings seen from the source, target outline in orange. Below: monitor units "
                "and opening, then dose rate and gantry speed, estimated at the limits of the machine.",
                f"Openings and delivery of arc {number} of plan {label}",
                f"arc-{slug}-{number}",
            )
        )
    columns: list[Column | str] = [
        "Arc",
        Column("Control points", align="right"),
        Column("Time", "s", digits=0),
        Column("MU per degree", align="right"),
        Column("Dose rate, MU/min", align="right"),
        Column("Gantry, °/s", align="right"),
        Column("Fastest leaf", "mm/s", digits=1),
        Column("Mean opening", "cm²", digits=1),
    ]
    return [Table(columns, rows, caption=f"Delivery of the arcs of plan {label}, one fraction", compact=True), *blocks]


def _range(values: NDArray[np.float64], digits: int) -> str:
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}"
