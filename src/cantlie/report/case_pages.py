"""The report of a planned case: its chapters, and the files it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from cantlie.core.notes import Note
from cantlie.evaluation.verdict import judged_text
from cantlie.report import case_tables as tables
from cantlie.report import style
from cantlie.report.arc_section import arc_blocks
from cantlie.report.beam_figures import fluence_figure
from cantlie.report.calendar_figure import calendar_figure
from cantlie.report.case_report import CaseReport, PlanView, StructureView
from cantlie.report.closing_sections import provenance_section, remarks_section
from cantlie.report.conflict_table import cause_of, conflict_rows
from cantlie.report.document import (
    Block,
    Callout,
    Column,
    Document,
    Figure,
    KeyValue,
    Paragraph,
    Section,
    Subheading,
    Table,
    Tile,
    Tiles,
    Tone,
)
from cantlie.report.dvh_figure import colours_on_white, dvh_figure, on_white
from cantlie.report.isodose_figure import isodose_figure, target_figure
from cantlie.report.scheme_section import scheme_section
from cantlie.report.view import View, view_of
from cantlie.report.writing import write_report

# Bright enough for CT; targets and organs never share a colour.
_TARGET_COLOURS = ("#ff5a4e", "#3fa7ff", "#ffd23f", "#4be3a4")
_CTV_COLOURS = ("#ff9d8a", "#8cc8ff", "#ffe38f", "#9ff0cd")
_GTV_COLOURS = ("#ff8cf0",)
_ORGAN_COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#2fc08d",
    "#d6cf3c",
    "#cc79a7",
    "#a58bff",
    "#d98b5f",
    "#7fd4d4",
    "#b5c95a",
    "#c9c9c9",
    "#e58bb0",
    "#6f9bd8",
)


def with_colours(structures: Sequence[StructureView]) -> tuple[StructureView, ...]:
    """Give every structure without a colour one of the palette, by its role."""
    palettes = {"target": _TARGET_COLOURS, "ctv": _CTV_COLOURS, "gtv": _GTV_COLOURS, "organ": _ORGAN_COLOURS}
    used = dict.fromkeys(palettes, 0)
    result = []
    for view in structures:
        if not view.colour:
            palette = palettes.get(view.role, ("#c9c9c9",))
            count = used.get(view.role, 0)
            used[view.role] = count + 1
            view = replace(view, colour=palette[count % len(palette)])
        result.append(view)
    return tuple(result)


def document_of_case(report: CaseReport) -> Document:
    """Return the report as a document."""
    report = replace(report, structures=with_colours(report.structures))
    colours = colours_on_white(report.structures, report.course_dvhs)
    view = view_of(report.ct, report.structures)
    sections = [
        _rules(report, colours),
        scheme_section(report.scheme),
        _targets(report, colours, view),
        _dose(report, colours, view),
        _histograms(report),
        _quality(report),
        _beams(report),
        _calendar(report),
        _biology(report, colours),
        *report.more,
        remarks_section(_notes(report), _choices(report)),
        provenance_section(report.provenance, report.citations, report.attributions),
    ]
    return Document(
        title=report.title,
        subtitle=report.subtitle or "Treatment planning study of one case",
        running_title=f"{report.title}: {report.case_label}",
        meta=[
            ("Case", report.case_label),
            ("Protocol", report.protocol_id or None),
            ("Made", report.created),
            ("Cantlie", report.version),
        ],
        lead=_summary(report),
        sections=[section for section in sections if section.blocks],
    )


def write_case_report(report: CaseReport, folder: Path) -> None:
    """Write report.html, report.pdf and figures/ (SVG and PNG) into a folder.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    write_report(document_of_case(report), folder, report.created)


def _summary(report: CaseReport) -> list[Block]:
    judged = [result.verdict for result in report.constraints]
    met = judged.count("pass")
    open_ = judged.count("not evaluable")
    rules = Tile(
        "Organ limits met",
        f"{met} of {len(judged)}",
        note=f"{open_} cannot be evaluated" if open_ else "all evaluated",
        tone="fail" if "fail" in judged else ("warning" if open_ else "pass"),
    )
    if not judged:
        rules = Tile("Organ limits", "none", note="the protocol sets none", tone="muted")
    tiles = [rules]
    for coverage in report.coverage[:3]:
        tone: Tone = "pass" if coverage.verdict == "pass" else "fail" if coverage.verdict == "fail" else "muted"
        share = coverage.achieved_percent
        achieved = None if share is None else judged_text(share, coverage.required_percent, 1)
        tiles.append(
            Tile(
                f"{coverage.target} inside {coverage.isodose_percent:g} %",
                achieved,
                "" if achieved is None else "%",
                f"at least {coverage.required_percent:g} % asked",
                tone,
            )
        )
    tiles += [
        Tile(f"MU, plan {plan.label}", f"{plan.mu:.0f}", "", f"{plan.segments} segments per fraction")
        if plan.beams[0].meterset_unit == "MU"
        else Tile(f"Timer, plan {plan.label}", f"{plan.mu:.2f}", "min", f"{plan.segments} segments per fraction")
        for plan in report.plans[:2]
        if plan.beams
    ]
    if report.ntcp:
        first = report.ntcp[0]
        tiles.append(Tile(f"NTCP, {first.endpoint}", tables.percent_text(first.value), "%", first.model))
    blocks: list[Block] = []
    if report.protocol_summary:
        blocks.append(Paragraph(report.protocol_summary, "lead"))
    blocks.append(Tiles(tiles))
    failed = [r for r in report.constraints if r.verdict == "fail"]
    missed = [c for c in report.coverage if c.verdict == "fail"]
    if failed or missed:
        items = [
            f"{r.structure}: {r.metric} is {judged_text(r.achieved or 0.0, r.limit, 2)} {r.unit}, "
            f"limit {r.op} {r.limit:g} {r.unit}"
            for r in failed
        ]
        items += [
            f"{c.target}: {judged_text(c.achieved_percent or 0.0, c.required_percent, 1)} % inside the "
            f"{c.isodose_percent:g} % isodose, {c.required_percent:g} % asked"
            for c in missed
        ]
        items += cause_of(report.conflicts)
        blocks.append(Callout("", "Not every rule of the protocol is met", "fail", items))
    warnings = [note for note in _notes(report) if note.level == "warning"]
    if warnings:
        blocks.append(
            Callout(
                "",
                f"{len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'} to read before the numbers",
                "warning",
                [note.sentence() for note in warnings[:6]]
                + ([f"and {len(warnings) - 6} more under Remarks"] if len(warnings) > 6 else []),
            )
        )
    return blocks


def _targets(report: CaseReport, colours: dict[str, str], view: View) -> Section:
    window = (report.window_centre_hu, report.window_width_hu)
    targets = report.targets
    plane = None
    if targets is not None and targets.plane_point_mm is not None and targets.plane_normal is not None:
        plane = (targets.plane_point_mm, targets.plane_normal)
    figure = target_figure(report.ct, report.structures, view, window=window, plane=plane)
    names = ", ".join(view.name for view in report.structures if view.role in ("target", "ctv"))
    blocks: list[Block] = [
        Figure(
            figure,
            "Targets and organs on the planning CT. Radiological convention: the patient's right is on the left of the "
            "axial and coronal images; the sagittal image is seen from the patient's left.",
            f"Axial, coronal and sagittal CT with the outlines of {names} and organs at risk",
            "targets",
        )
    ]
    if targets is not None:
        blocks.append(KeyValue(list(targets.facts)))
        if targets.fallback:
            blocks.append(Callout("", "How the dividing plane was found", "info", list(targets.fallback)))
        if targets.volumes:
            blocks.append(tables.volume_rows(targets.volumes, colours))
    return Section("Targets", blocks, new_page=True)


def _dose(report: CaseReport, colours: dict[str, str], view: View) -> Section:
    window = (report.window_centre_hu, report.window_width_hu)
    blocks: list[Block] = []

    def add(name: str, what: str, dose: PlanView | None, at: View) -> None:
        volume = report.course_dose if dose is None else dose.dose
        prescription = report.course_prescription_gy if dose is None else dose.prescription_gy
        figure = isodose_figure(
            report.ct,
            volume,
            report.structures,
            at,
            prescription_gy=prescription,
            levels_percent=report.isodoses_percent,
            window=window,
            note=f"Dose maximum {float(volume.values.max()):.1f} Gy",
        )
        caption = f"{what}. Isodoses in % of {prescription:g} Gy; targets white, organs at risk grey."
        alt = f"Isodose lines of {what} on three slices of the CT"
        blocks.append(Figure(figure, caption, alt, name, 1.0 if dose is None else 0.88))

    add("isodose-course", "Dose of the whole course, the physical sum of all sessions", None, view)
    blocks.append(
        tables.dose_statistics(report.course_dvhs, report.structures, colours, "Dose statistics of the course")
    )
    if len(report.plans) > 1:
        for plan in report.plans:
            own = [s for s in report.structures if s.name == plan.target] or list(report.structures)
            add(
                f"isodose-{_slug(plan.label)}",
                f"Plan {plan.label}, all its {plan.fractions} fractions",
                plan,
                view_of(report.ct, [*own, *(s for s in report.structures if s.role == "body")]),
            )
    return Section("Dose distribution", blocks)


def _histograms(report: CaseReport) -> Section:
    course_rules = [r for r in report.constraints if r.scope == "course"]
    blocks: list[Block] = [
        Figure(
            dvh_figure(
                report.course_dvhs,
                report.structures,
                title="Whole course, physical dose",
                constraints=course_rules,
                prescription_gy=report.course_prescription_gy,
                height_in=3.5,
            ),
            "Cumulative dose-volume histograms. Triangles mark the limits of the protocol, filled where they are met.",
            "Dose-volume histograms of the course; the numbers are in the table of dose statistics",
            "dvh-course",
        )
    ]
    if len(report.plans) > 1:
        for plan in report.plans:
            if plan.dvhs:
                blocks.append(
                    Figure(
                        dvh_figure(
                            plan.dvhs,
                            report.structures,
                            title=f"Plan {plan.label} alone",
                            prescription_gy=plan.prescription_gy,
                            height_in=2.6,
                        ),
                        f"Dose-volume histograms of plan {plan.label}, all its fractions, without the other plan.",
                        f"Dose-volume histograms of plan {plan.label}",
                        f"dvh-{_slug(plan.label)}",
                    )
                )
    return Section("Dose-volume histograms", blocks, new_page=True)


def _rules(report: CaseReport, colours: dict[str, str]) -> Section:
    blocks: list[Block] = []
    if report.coverage:
        blocks.append(tables.coverage_rows(report.coverage, colours))
    if report.constraints:
        blocks.append(tables.constraint_rows(report.constraints, colours, "Organs at risk"))
    if report.conflicts:
        blocks.append(conflict_rows(report.conflicts, colours))
    if report.reference_limits:
        blocks.append(
            tables.constraint_rows(
                report.reference_limits, colours, "Limits from elsewhere, beside the protocol's; not planned for"
            )
        )
    return Section("Rules of the protocol", blocks)


def _quality(report: CaseReport) -> Section:
    blocks: list[Block] = []
    indices = tables.index_rows(report.plans, report.course_indices)
    if indices is not None:
        blocks.append(indices)
    for plan in report.plans:
        if plan.promises:
            blocks.append(
                tables.promise_rows(
                    plan.promises, f"Promised by the optimiser, delivered by the segments: {plan.label}"
                )
            )
    checks = [*report.checks, *(check for plan in report.plans for check in plan.checks)]
    if checks:
        blocks.append(tables.check_rows(checks))
    return Section("Plan quality", blocks)


def _beams(report: CaseReport) -> Section:
    blocks: list[Block] = []
    for plan in report.plans:
        if not plan.beams:
            continue
        blocks.append(Subheading(f"Plan {plan.label}"))
        x, y, z = plan.isocentre_mm
        facts: list[tuple[str, object]] = [
            ("Target", plan.target),
            (
                "Prescription",
                f"{plan.prescription_gy:g} Gy in {plan.fractions} × {plan.prescription_gy / plan.fractions:g} Gy",
            ),
            ("Normalisation", plan.normalisation),
            ("Isocentre x, y, z", f"{x:.1f}, {y:.1f}, {z:.1f} mm".replace("-", "−")),
            ("Monitor units", f"{plan.mu:.0f} per fraction"),
            ("Segments", plan.segments),
        ]
        if plan.technique:
            facts.append(("Technique", plan.technique))
        if plan.delivery_minutes is not None:
            facts.append(("Estimated delivery", f"{plan.delivery_minutes:.1f} min per fraction"))
        facts += plan.complexity
        blocks.append(KeyValue(facts))
        if plan.delivery_note:
            blocks.append(Paragraph(plan.delivery_note, "small"))
        blocks.append(tables.beam_rows(plan.beams, f"Beams of plan {plan.label} (IEC 61217)"))
        if plan.fluences:
            blocks.append(
                Figure(
                    fluence_figure(plan.fluences, plan.beams),
                    f"Delivered fluence of plan {plan.label} per fraction, beam's eye view, target outline in orange. "
                    "Lines cross on the central axis.",
                    f"Fluence maps of the {len(plan.fluences)} beams of plan {plan.label}",
                    f"fluence-{_slug(plan.label)}",
                )
            )
        blocks += arc_blocks(plan.label, plan.arcs, _slug(plan.label))
    return Section("Beams and delivery", blocks)


def _calendar(report: CaseReport) -> Section:
    if not report.sessions:
        return Section("Course")
    plans = list(dict.fromkeys(session.plan for session in report.sessions))
    by_target = {view.name: on_white(view.colour, 0.18) for view in report.structures}
    targets = {plan.label: plan.target for plan in report.plans}
    colours = {
        plan: by_target.get(targets.get(plan, plan), style.SERIES[n % len(style.SERIES)])
        for n, plan in enumerate(plans)
    }
    sessions = report.sessions
    days = len({session.start.date() for session in sessions})
    span = (sessions[-1].start.date() - sessions[0].start.date()).days + 1
    blocks: list[Block] = [
        KeyValue(
            [
                ("Sessions", len(sessions)),
                ("Treatment days", days),
                ("First session", sessions[0].start),
                ("Last session", sessions[-1].start),
                ("Calendar days", span),
                ("Shortest interval", _shortest(report)),
            ]
        )
    ]
    if span <= 84:
        blocks.append(
            Figure(
                calendar_figure(sessions, colours),
                "Calendar of the course: start of each session, its plan and the number of its fraction.",
                "Calendar of sessions; the same dates are in the table below",
                "calendar",
            )
        )
    if report.course_note:
        blocks.append(Paragraph(report.course_note, "small"))
    blocks.append(tables.session_rows(sessions))
    return Section("Course", blocks, new_page=True)


def _shortest(report: CaseReport) -> str | None:
    starts = [session.start for session in report.sessions]
    gaps = [(b - a).total_seconds() / 3600 for a, b in pairwise(starts)]
    return f"{min(gaps):g} h" if gaps else None


def _biology(report: CaseReport, colours: dict[str, str]) -> Section:
    blocks: list[Block] = []
    if report.biology_note:
        blocks.append(Paragraph(report.biology_note))
    if report.biology:
        blocks.append(tables.biology_rows(report.biology, colours))
    if report.ntcp:
        blocks.append(tables.ntcp_rows(report.ntcp))
    return Section("Biological effect", blocks)


def _notes(report: CaseReport) -> list[Note]:
    """Return the notes but those of broken rules, which the first page names and the table of conflicts explains."""
    told = {conflict.note() for conflict in report.conflicts}
    return [note for note in report.notes if note not in told]


def _choices(report: CaseReport) -> list[Block]:
    if not report.protocol_choices:
        return []
    return [
        Table(
            [Column("Value", width=1.0), Column("Why it was chosen", width=2.4)],
            [[name, why] for name, why in report.protocol_choices],
            caption="What the source does not say and Cantlie chose",
            compact=True,
        )
    ]


def _slug(label: str) -> str:
    text = "".join(letter.lower() if letter.isascii() and letter.isalnum() else "-" for letter in label)
    return "-".join(part for part in text.split("-") if part) or "plan"
