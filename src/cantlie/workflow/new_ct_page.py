"""The chapters of a report on a course over two CTs: what was given before, how sure it is, how the CTs were tied."""

from __future__ import annotations

from cantlie.core.volume import Volume
from cantlie.patient.names import BODY
from cantlie.report.case_report import StructureView
from cantlie.report.document import Block, Column, Figure, Paragraph, Section, Table
from cantlie.report.uncertainty_figure import uncertainty_figure
from cantlie.report.view import view_of
from cantlie.workflow.earlier_results import earlier_bands, rows_of_finished_targets
from cantlie.workflow.earlier_sessions import FIRST_CT
from cantlie.workflow.image_link import LIVER
from cantlie.workflow.limit_bands import bands_table
from cantlie.workflow.link_page import link_section
from cantlie.workflow.planned_case import PlannedCase

_DRAWN = "#ffffff"


def new_ct_sections(planned: PlannedCase) -> tuple[Section, ...]:
    """Return the chapters, none for a course on one CT."""
    if planned.earlier is None or planned.earlier_case is None:
        return ()
    link = planned.earlier.link
    chapter = link_section(
        planned.patient.case, planned.earlier_case, link, planned.targets.lesions, title="Registration of the CTs"
    )
    return _sessions(planned), chapter


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
        bands_table(earlier_bands(planned), "Earlier CT"),
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


def _outlines(planned: PlannedCase) -> list[StructureView]:
    regions = planned.targets.regions
    names = [one.target.name for one in planned.planning.plans]
    views = [StructureView(name, Volume(regions.grid, regions[name]), "target", "#ff5a4e") for name in names]
    if LIVER in regions:
        views.append(StructureView(LIVER, Volume(regions.grid, regions[LIVER]), "organ", _DRAWN))
    return [*views, StructureView(BODY, Volume(regions.grid, regions[BODY]), "body")]
