"""How sure a verdict on the course is when a part of its dose was carried over from another CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.report.case_tables import verdict_cell
from cantlie.report.document import Column, Table
from cantlie.target.recipes import resolve_first
from cantlie.workflow.dosimetry import COURSE, Dosimetry


@dataclass(frozen=True, slots=True)
class LimitBand:
    """One limit of the course.

    Parameters
    ----------
    carried, achieved
        Its metric in the carried-over dose alone, and in the sum.
    low, high
        In the sum with the carried-over dose one standard error lower and higher everywhere.
    sure
        Whether the verdict is the same at both ends.
    """

    structure: str
    limit: str
    carried: float
    achieved: float
    low: float
    high: float
    verdict: str
    sure: bool


def limit_bands(
    dosimetry: Dosimetry, protocol: Protocol, regions: Regions, total: Volume, carried: Volume, error: Volume
) -> tuple[LimitBand, ...]:
    """Return the limits of the course with their bands.

    Parameters
    ----------
    total, carried, error
        The sum, the carried-over part of it, and the standard error of that, Gy.
    """
    on = total.grid
    spread = error.resample(on).values
    doses = [carried, Volume(on, np.maximum(total.values - spread, 0)), Volume(on, total.values + spread)]
    limits = [limit for limit in protocol.constraints if limit.scope == COURSE]
    reference = max(protocol.prescription(name).total_gy for name in protocol.target_ids)
    bands = []
    for row, limit in zip(dosimetry.constraints, limits, strict=False):
        found = resolve_first(regions, limit.structure, limit.stand_ins)
        if found is None or row.achieved is None or not found.fractions.any():
            continue
        alone, first, second = (
            metric_value(limit.parsed_metric, dvh(one, found.fractions, regions.grid, name=found.name), reference)
            for one in doses
        )
        low, high = sorted((first, second))
        sure = _kept(limit.op, low, limit.limit) == _kept(limit.op, high, limit.limit)
        text = f"{limit.metric} {limit.op} {limit.limit:g} {limit.unit}"
        bands.append(LimitBand(found.name, text, alone, row.achieved, low, high, row.verdict, sure))
    return tuple(bands)


def bands_table(bands: Sequence[LimitBand], carried: str) -> Table:
    """Return the bands as a table; ``carried`` names the part that was carried over."""
    return Table(
        [Column("Structure"), Column("Limit of the course"), Column(f"{carried} alone", digits=1),
         Column("Sum", digits=1), Column("Sum ± one standard error"), Column("Verdict"), Column("Sure")],
        [
            [band.structure, band.limit.replace("<=", "≤").replace(">=", "≥"), band.carried, band.achieved,
             f"{band.low:.1f} to {band.high:.1f}", verdict_cell(band.verdict), "yes" if band.sure else "no"]
            for band in bands
        ],
        caption="Limits of the course on the sum over the CTs",
        note="Sure: the verdict stays the same when the dose that was carried over is off by one standard error of the "
        "registration.",
    )  # fmt: skip


def bands_results(bands: Sequence[LimitBand]) -> list[dict[str, Any]]:
    """Return the bands as plain values for results.json."""
    return [asdict(band) for band in bands]


def _kept(op: str, value: float, limit: float) -> bool:
    return value <= limit if op.startswith("<") else value >= limit
