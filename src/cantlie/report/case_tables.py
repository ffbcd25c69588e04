"""The tables of a case report, from plain values to columns and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.coverage import CoverageResult
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.indices import PlanIndices
from cantlie.evaluation.verdict import SIGNS, decimals
from cantlie.report.case_report import (
    BeamRow,
    BiologyRow,
    CheckRow,
    NtcpRow,
    PlanView,
    Promise,
    SessionRow,
    StructureView,
    VolumeRow,
)
from cantlie.report.document import Cell, Column, Heading, Row, Table, Tone

_TONES: dict[str, Tone] = {"pass": "pass", "fail": "fail", "not evaluable": "muted"}


def verdict_cell(verdict: str, note: str = "") -> Cell:
    """Return a verdict as a cell with its sign and colour."""
    return Cell(verdict or None, tone=_TONES.get(verdict, ""), note=note)


def constraint_rows(results: Sequence[ConstraintResult], colours: Mapping[str, str], caption: str = "") -> Table:
    """Return limit, achieved, margin, verdict and source of constraints, in groups where there are several scopes."""
    scopes = list(dict.fromkeys(result.scope for result in results))
    foreign = any(result.source for result in results)
    rows: list[Row] = []
    for scope in scopes:
        if len(scopes) > 1:
            rows.append(
                Heading("Whole course" if scope == "course" else f"Plan {scope}" if scope != "plan" else "Each plan")
            )
        for result in results:
            if result.scope != scope:
                continue
            digits = 1 if result.unit != "Gy" else 2
            if result.achieved is not None:
                digits = decimals(result.achieved, result.limit, digits)
            limit = f"{SIGNS[result.op]}\u00a0{result.limit:g}\u00a0{result.unit}"
            rows.append(
                [
                    Cell(result.structure, swatch=colours.get(result.evaluated_structure, ""), note=result.reason),
                    result.metric,
                    limit,
                    _with_unit(result.achieved, result.unit, digits),
                    _with_unit(result.margin, result.unit, digits, sign=True),
                    verdict_cell(result.verdict),
                    Cell(result.source or result.place or None, tone="muted", note=_remark(result)),
                ]
            )
    return Table(
        [
            Column("Structure", width=1.35),
            Column("Metric", width=0.8),
            Column("Limit", align="right", width=0.72),
            Column("Achieved", align="right", width=0.82),
            Column("Margin", align="right", width=0.82),
            Column("Verdict", width=1.0),
            Column("Source" if foreign else "Place in the source", width=2.3),
        ],
        rows,
        caption=caption,
        note=""
        if foreign
        else "Margin: how far the value is on the right side of its limit. Dmax is the voxel maximum.",
        compact=True,
    )


def _remark(result: ConstraintResult) -> str:
    """Return the words of the source, and how the limit stands to reference limits."""
    beside = result.reference.replace("<=", "≤").replace(">=", "≥")
    return ". ".join(part for part in (result.wording, f"Beside references: {beside}" if beside else "") if part)


def _with_unit(value: float | None, unit: str, digits: int, *, sign: bool = False) -> str | None:
    if value is None:
        return None
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return f"{text}\u00a0{unit}".replace("-", "−")


def coverage_rows(results: Sequence[CoverageResult], colours: Mapping[str, str]) -> Table:
    """Return the coverage rules: isodose, required and achieved share, the isodose that would cover exactly that."""
    rows: list[Row] = []
    for result in results:
        printed: str | None = None
        share = result.achieved_percent
        if result.isodose_range_percent and result.range_percent:
            pairs = zip(result.isodose_range_percent, result.range_percent, strict=True)
            printed = ", ".join(f"{isodose:g}\u00a0%: {held:.1f}\u00a0%" for isodose, held in pairs)
        rows.append(
            [
                Cell(result.target, swatch=colours.get(result.target, ""), note=result.reason),
                "course" if result.scope == "course" else "own plan",
                f"{result.isodose_percent:g}\u00a0% ({result.isodose_gy:.1f}\u00a0Gy)",
                f"≥ {result.required_percent:g} %",
                _with_unit(share, "%", 1 if share is None else decimals(share, result.required_percent, 1)),
                printed,
                _with_unit(result.covering_isodose_percent, "%", 1),
                verdict_cell(result.verdict),
                Cell(result.place or None, tone="muted", note=result.wording),
            ]
        )
    return Table(
        [
            Column("Target", width=0.85),
            Column("Dose", width=0.7),
            Column("Isodose", width=1.3),
            Column("Required", align="right", width=0.72),
            Column("Achieved", align="right", width=0.72),
            Column("Printed range", width=1.1),
            Column("Covering isodose", align="right", width=0.75),
            Column("Verdict", width=0.72),
            Column("Place in the source", width=1.6),
        ],
        rows,
        caption="Coverage",
        note="Printed range: share of the target inside the isodoses between which the source leaves the choice. "
        "Covering isodose: the highest isodose that holds the required share of the target.",
        compact=True,
    )


def dose_statistics(
    dvhs: Mapping[str, Dvh], structures: Sequence[StructureView], colours: Mapping[str, str], caption: str = ""
) -> Table:
    """Return volume, mean, maximum and points of the DVH of every structure."""
    order = [view.name for view in structures if view.name in dvhs]
    order += [name for name in dvhs if name not in order]
    rows: list[Row] = []
    for name in order:
        dvh = dvhs[name]
        hot = dvh.dose_at_volume_gy(0.03) if dvh.volume_cc >= 0.03 else None
        d98, d95, d50, d2 = (float(value) for value in dvh.dose_at_percent_gy([98.0, 95.0, 50.0, 2.0]))
        rows.append(
            [
                Cell(name, swatch=colours.get(name, "")),
                dvh.volume_cc,
                dvh.mean_gy,
                dvh.max_gy,
                None if hot is None else float(hot),
                d2,
                d50,
                d95,
                d98,
                dvh.min_gy,
            ]
        )
    dose = [Column(name, "Gy", digits=2) for name in ("Mean", "Dmax", "D0.03cc", "D2%", "D50%", "D95%", "D98%", "Dmin")]
    return Table(["Structure", Column("Volume", "cc", digits=1), *dose], rows, caption=caption, compact=True)


def index_rows(plans: Sequence[PlanView], course: Sequence[PlanIndices]) -> Table | None:
    """Return conformity, homogeneity and gradient per plan and for the course, or None where there are none."""
    rows: list[Row] = []
    for label, indices in [*((f"plan {plan.label}", plan.indices) for plan in plans), ("course", course)]:
        rows += [
            [
                f"{index.target}, {label}",
                f"{index.reference_gy:.1f} Gy",
                index.rtog_conformity,
                index.paddick_conformity,
                index.icru_homogeneity,
                index.rtog_homogeneity,
                index.r50,
                index.gradient_index,
                index.gradient_measure_cm,
            ]
            for index in indices
        ]
    if not rows:
        return None
    return Table(
        [
            "Target, dose",
            Column("Reference isodose", align="right"),
            Column("Conformity RTOG", digits=2),
            Column("Conformity Paddick", digits=2),
            Column("Homogeneity ICRU 83", digits=3),
            Column("Homogeneity RTOG", digits=2),
            Column("R50", digits=2),
            Column("Gradient index", digits=2),
            Column("Gradient measure", "cm", digits=2),
        ],
        rows,
        caption="Conformity, homogeneity, gradient",
        note="RTOG conformity: isodose volume / target volume. Paddick: covered² / (target · isodose volume), ideal 1. "
        "ICRU 83 homogeneity: (D2% − D98%) / D50%, ideal 0. R50: volume of half the prescription / target volume.",
        compact=True,
    )


def beam_rows(beams: Sequence[BeamRow], caption: str = "") -> Table:
    """Return the beams: angles, segments, MU (minutes of the timer for cobalt), jaws."""
    by_timer = any(beam.meterset_unit == "min" for beam in beams)
    areas = any(beam.area_cm2 is not None for beam in beams)
    rows: list[Row] = []
    for beam in beams:
        gantry: object = beam.gantry_deg
        if beam.gantry_stop_deg is not None:
            gantry = f"{beam.gantry_deg:g} → {beam.gantry_stop_deg:g} {beam.rotation}".strip()
        row = [
            beam.number,
            beam.name,
            gantry,
            beam.collimator_deg,
            beam.couch_deg,
            "Co-60" if by_timer else f"{beam.energy_mv:g} MV",
            _jaw(beam.jaw_x_mm),
            _jaw(beam.jaw_y_mm),
            beam.segments,
            beam.mu,
        ]
        rows.append([*row, beam.area_cm2] if areas else row)
    total: list[object] = [None, "Sum", None, None, None, None, None, None]
    total += [Cell(sum(b.segments for b in beams), strong=True), Cell(sum(b.mu for b in beams), strong=True)]
    rows.append([Cell("", strong=True), Cell("Sum", strong=True), *([""] * 6), *total[8:], *([""] if areas else [])])
    columns: list[Column | str] = [
        Column("No.", align="left"),
        "Beam",
        Column("Gantry", "°", align="right", digits=0),
        Column("Collimator", "°", align="right", digits=0),
        Column("Couch", "°", align="right", digits=0),
        "Energy",
        Column("Jaws X", "cm", align="right"),
        Column("Jaws Y", "cm", align="right"),
        Column("Segments", align="right"),
        Column("Timer", "min per fraction", align="right", digits=2)
        if by_timer
        else Column("MU", "per fraction", align="right", digits=1),
    ]
    if areas:
        columns.append(Column("Mean opening", "cm²", align="right", digits=1))
    return Table(columns, rows, caption=caption, compact=True)


def _jaw(edges_mm: tuple[float, float]) -> str:
    return f"{edges_mm[0] / 10:.1f} / {edges_mm[1] / 10:.1f}".replace("-", "−")


def promise_rows(promises: Sequence[Promise], caption: str) -> Table:
    """Return what the optimiser promised and what the segments deliver."""
    rows: list[Row] = [
        [
            p.quantity,
            p.unit,
            f"{p.promised:.{p.digits}f}",
            f"{p.delivered:.{p.digits}f}",
            f"{p.delivered - p.promised:+.{p.digits}f}".replace("-", "−"),
        ]
        for p in promises
    ]
    names = ("Fluence", "Delivered", "Difference")
    columns: list[Column | str] = ["Quantity", "Unit", *(Column(name, align="right") for name in names)]
    return Table(columns, rows, caption=caption, compact=True)


def check_rows(checks: Sequence[CheckRow]) -> Table:
    """Return independent checks."""
    rows: list[Row] = [
        [
            c.what,
            c.method,
            f"{c.value:.2f}".rstrip("0").rstrip(".").replace("-", "−") + f" {c.unit}".rstrip(),
            c.limit or None,
            verdict_cell(c.verdict),
            c.note or None,
        ]
        for c in checks
    ]
    columns: list[Column | str] = [
        "Check",
        "Method",
        Column("Result", align="right"),
        Column("Limit", align="right"),
        "Verdict",
        "Remark",
    ]
    return _without_empty(Table(columns, rows, caption="Independent check", compact=True))


def _without_empty(table: Table) -> Table:
    """Leave out columns in which no row has anything."""
    body = [row for row in table.rows if not isinstance(row, Heading)]
    kept = [n for n in range(len(table.columns)) if any(row[n] is not None for row in body)]
    rows = [row if isinstance(row, Heading) else [row[n] for n in kept] for row in table.rows]
    return replace(table, columns=[table.columns[n] for n in kept], rows=rows)


def session_rows(sessions: Sequence[SessionRow]) -> Table:
    """Return the sessions day by day."""
    days = [(day, list(group)) for day, group in groupby(sessions, key=lambda s: s.start.date())]
    deepest = max(len(group) for _, group in days)
    rows: list[Row] = []
    for n, (day, group) in enumerate(days, start=1):
        cells = [f"{s.start:%H:%M}  {s.plan}, fraction {s.fraction} ({s.dose_gy:g} Gy)" for s in group]
        rows.append([n, f"{day:%a} {day.isoformat()}", *cells, *([None] * (deepest - len(cells)))])
    names = [f"Session {n}" for n in range(1, deepest + 1)]
    return Table([Column("Day", align="left"), "Date", *names], rows, compact=True)


def volume_rows(volumes: Sequence[VolumeRow], colours: Mapping[str, str]) -> Table:
    """Return the volumes of structures."""
    rows: list[Row] = [
        [Cell(v.structure, swatch=colours.get(v.structure, "")), v.volume_cc, v.note or None] for v in volumes
    ]
    columns: list[Column | str] = ["Structure", Column("Volume", "cc", digits=1), "Remark"]
    return _without_empty(Table(columns, rows, caption="Volumes", compact=True))


def biology_rows(biology: Sequence[BiologyRow], colours: Mapping[str, str]) -> Table:
    """Return biological doses; each quantity names its α/β."""
    rows: list[Row] = [
        [
            Cell(b.structure, swatch=colours.get(b.structure, "")),
            b.quantity,
            b.value,
            b.unit,
            b.physical_gy,
            b.note or None,
        ]
        for b in biology
    ]
    columns: list[Column | str] = [
        "Structure",
        "Quantity",
        Column("Value", digits=2),
        "Unit",
        Column("Physical", "Gy", digits=2),
        "Remark",
    ]
    return _without_empty(Table(columns, rows, caption="Biological dose of the course", compact=True))


def percent_text(probability: float) -> str:
    """Return a probability in % with two digits; what no model can tell from nothing is not spelt out."""
    percent = 100.0 * probability
    return "< 0.01" if percent < 0.01 else f"{percent:.2g}"


def ntcp_rows(ntcp: Sequence[NtcpRow]) -> Table:
    """Return complication probabilities in % with their bands."""
    rows: list[Row] = []
    for n in ntcp:
        band = None
        if n.lower is not None and n.upper is not None:
            band = f"{percent_text(n.lower)} – {percent_text(n.upper)} %"
        rows.append(
            [n.endpoint, n.model, f"{percent_text(n.value)} %", band, Cell(n.source or None, tone="muted", note=n.note)]
        )
    columns = [
        Column("Endpoint", width=1.4),
        Column("Model", width=1.6),
        Column("NTCP", align="right", width=0.7),
        Column("Band", align="right", width=1.0),
        Column("Source", width=2.2),
    ]
    return Table(columns, rows, caption="Complication probability", compact=True)
