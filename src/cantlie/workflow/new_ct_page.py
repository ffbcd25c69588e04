"""The chapters of a report on a course over two CTs: what was given before, how sure it is, how the CTs were tied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.patient.names import BODY
from cantlie.protocol.schema import Constraint
from cantlie.report.case_report import StructureView
from cantlie.report.document import Block, Column, Figure, Paragraph, Section, Table
from cantlie.report.registration_pages import registration_section
from cantlie.report.uncertainty_figure import uncertainty_figure
from cantlie.report.view import view_of
from cantlie.target.recipes import resolve_first
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.image_link import LIVER, link_results, masks_of
from cantlie.workflow.plan_on_new_ct import FIRST_CT, rows_of_finished_targets

if TYPE_CHECKING:
    from cantlie.workflow.plan_case import PlannedCase

_DRAWN, _CARRIED = "#ffffff", "#ff7043"


def new_ct_sections(planned: PlannedCase) -> tuple[Section, ...]:
    """Return the chapters, none for a course on one CT."""
    if planned.earlier is None or planned.earlier_case is None:
        return ()
    return _sessions(planned), _registration(planned)


def _sessions(planned: PlannedCase) -> Section:
    earlier = planned.earlier
    assert earlier is not None
    given = ", ".join(
        f"{p.given} of {p.plan.fractions} fractions of {p.target} ({p.given_gy:.1f} Gy)" for p in earlier.plans
    )
    made = ", ".join(f"{one.target.name} ({one.target.prescription_gy:.1f} Gy in {one.target.fractions} fractions)"
                     for one in planned.planning.plans)  # fmt: skip
    blocks: list[Block] = [
        Paragraph(
            f"On the earlier CT were given: {given}. Planned on this CT with that dose known: {made}. The earlier dose "
            f"was deformed to this CT ({earlier.link.origin}; {earlier.total.mapping}), and the limits of the course "
            "are judged here, on the sum. Rules on a plan that is wholly given were judged on the earlier CT"
            + (f"; its own report is {FIRST_CT}/report.html." if planned.request.previous is None else "."),
            style="lead",
        ),
        _sums(planned),
    ]
    finished = rows_of_finished_targets(planned)
    if finished:
        blocks.append(
            Table(
                [Column("Structure"), Column("Rule"), Column("Found", digits=1), Column("Verdict")],
                [
                    [r["structure"], f"{r['metric']} {r['op']} {r['limit']:g} {r['unit']}", r["achieved"], r["verdict"]]
                    for r in finished
                ],
                caption="Rules of the plans that are wholly given, judged on the earlier CT",
            )
        )
    views = _outlines(planned)
    ct = planned.patient.case.ct.volume
    blocks.append(
        Figure(
            uncertainty_figure(ct, earlier.total.uncertainty, view_of(ct, views),
                               [view for view in views if view.role != "body"]),
            caption="Standard error of the earlier dose on this CT: dose gradient times "
            f"{earlier.link.uncertainty_mm:.1f} mm of registration error",
            alt="Uncertainty of the deformed dose on two slices", name="earlier-dose-uncertainty",
        )
    )  # fmt: skip
    return Section("Sessions on the earlier CT", blocks)


def _sums(planned: PlannedCase) -> Table:
    """Return every limit of the course: what the earlier sessions gave alone, the sum, and its range."""
    earlier = planned.earlier
    assert earlier is not None
    regions, total = planned.targets.regions, planned.course_dose
    error = earlier.total.uncertainty.values
    doses = [
        earlier.total.dose,
        Volume(total.grid, np.maximum(total.values - error, 0)),
        Volume(total.grid, total.values + error),
    ]
    rows: list[list[object]] = []
    reference = max(planned.protocol.prescription(name).total_gy for name in planned.protocol.target_ids)
    for row, limit in zip(planned.dosimetry.constraints, _course_limits(planned), strict=False):
        found = resolve_first(regions, limit.structure, limit.stand_ins)
        if found is None or row.achieved is None or not found.fractions.any():
            continue
        values = [
            metric_value(limit.parsed_metric, dvh(one, found.fractions, regions.grid, name=found.name), reference)
            for one in doses
        ]
        low, high = sorted(values[1:])
        sure = _verdict(limit.op, low, limit.limit) == _verdict(limit.op, high, limit.limit)
        rows.append(
            [found.name, f"{limit.metric} {limit.op} {limit.limit:g} {limit.unit}", values[0], row.achieved,
             f"{low:.1f} to {high:.1f}", row.verdict, "yes" if sure else "no"]
        )  # fmt: skip
    return Table(
        [Column("Structure"), Column("Limit of the course"), Column("Earlier CT alone", digits=1),
         Column("Sum", digits=1), Column("Sum ± one standard error"), Column("Verdict"), Column("Sure")],
        rows,
        caption="Limits of the course on the sum of both CTs",
        note="Sure: the verdict stays the same when the earlier dose is off by one standard error of the registration.",
    )  # fmt: skip


def _course_limits(planned: PlannedCase) -> list[Constraint]:
    return [limit for limit in planned.protocol.constraints if limit.scope == COURSE]


def _verdict(op: str, value: float, limit: float) -> bool:
    return value <= limit if op.startswith("<") else value >= limit


def _outlines(planned: PlannedCase) -> list[StructureView]:
    regions = planned.targets.regions
    names = [one.target.name for one in planned.planning.plans]
    views = [StructureView(name, Volume(regions.grid, regions[name]), "target", "#ff5a4e") for name in names]
    if LIVER in regions:
        views.append(StructureView(LIVER, Volume(regions.grid, regions[LIVER]), "organ", _DRAWN))
    return [*views, StructureView(BODY, Volume(regions.grid, regions[BODY]), "body")]


def _registration(planned: PlannedCase) -> Section:
    earlier, case, old = planned.earlier, planned.patient.case, planned.earlier_case
    assert earlier is not None and old is not None
    link = earlier.link
    grid = case.ct.volume.grid.resampled((2.0, 2.0, 3.0))
    reference = case.ct.volume.resample(grid, outside=-1000.0)
    aligned = link.field.pull(old.ct.volume, grid, outside=-1000.0)
    drawn = masks_of(case, link.field.grid)
    other = masks_of(old, old.ct.volume.grid.resampled((2.0, 2.0, 3.0)))
    shown = [name for name in (LIVER, *planned.targets.lesions) if name in drawn]
    lines = [StructureView(name, drawn[name], "organ", _DRAWN) for name in shown]
    if BODY in drawn:
        lines.append(StructureView(BODY, drawn[BODY], "body"))
    carried = [
        StructureView(f"{name} of the earlier CT", link.field.pull(other[name]), "gtv", _CARRIED)
        for name in shown
        if name in other
    ]
    return registration_section(link_results(link), reference, aligned, lines, carried)
