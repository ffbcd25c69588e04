"""The table of rules that contradict each other: the least violation, and what relaxing the others would buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cantlie.evaluation.verdict import SIGNS
from cantlie.plan.request import Conflict, Trade
from cantlie.report.document import Cell, Column, Row, Table

CAPTION = "Rules that cannot hold together"
_KINDS = {
    "contradiction": "not even the best fluence holds it",
    "delivery": "the fluence holds it, the deliverable plan does not",
}
_NO_TRADE = {
    "contradiction": "no single rule; several together, or the beams",
    "delivery": "no rule stands against it: more segments, more fields, arcs or thinner leaves may help",
}


def cause_of(conflicts: Sequence[Conflict]) -> list[str]:
    """Return in a line each what stands against the broken rules, and that only the delivery falls short of some."""
    lines = []
    against = [
        f"{one.structure} {one.metric} {SIGNS[one.op]} {one.limit:g}\u00a0{one.unit}"
        for conflict in conflicts
        for one in sorted(conflict.opposed_by, key=lambda trade: -trade.gain)
    ]
    if against:
        others = " and ".join(list(dict.fromkeys(against))[:2])
        lines.append(f"against it stands {others}: see “{CAPTION}”")
    if any(one.kind == "delivery" for one in conflicts):
        lines.append(f"what the fluence holds and the deliverable plan does not: see “{CAPTION}”")
    return lines


def conflict_rows(conflicts: Sequence[Conflict], colours: Mapping[str, str]) -> Table:
    """Return one row for every broken rule: limit, least violation, delivered, and the price of the rules against it.

    Parameters
    ----------
    colours
        Structure to the colour of its swatch.
    """
    rows: list[Row] = []
    for one in conflicts:
        gains = "; ".join(_trade(trade, one.unit) for trade in one.opposed_by)
        rows.append(
            [
                Cell(one.structure, swatch=colours.get(one.structure, ""), note=_KINDS[one.kind]),
                f"{one.metric} {SIGNS[one.op]} {one.limit:g}\u00a0{one.unit}",
                f"{one.best:.4g}\u00a0{one.unit}",
                f"{max(one.least_violation, 0.0):.3g}\u00a0{one.unit}",
                f"{one.delivered:.4g}\u00a0{one.unit}",
                gains or _NO_TRADE[one.kind],
            ]
        )
    return Table(
        [
            Column("Structure", width=1.2),
            Column("Rule", width=1.1),
            Column("At best", align="right", width=0.75),
            Column("Least violation", align="right", width=0.8),
            Column("Delivered", align="right", width=0.8),
            Column("What relaxing another rule would buy", width=2.6),
        ],
        rows,
        caption=CAPTION,
        note="At best: what the optimised fluence reaches while rules of higher priority hold; limits of organs come "
        "before coverage unless the protocol says otherwise. What relaxing buys was found by solving again.",
        compact=True,
    )


def _trade(trade: Trade, unit: str) -> str:
    rule = f"{trade.structure} {trade.metric} {SIGNS[trade.op]} {trade.relaxed_to:g}\u00a0{trade.unit}"
    room = f"{abs(trade.relaxed_to - trade.limit):g}\u00a0{trade.unit} more room"
    return f"{rule} ({room}) gives {trade.best:.4g}\u00a0{unit}, better by {trade.gain:.3g}\u00a0{unit}"
