"""The report of a comparison of protocols: its chapters, and the files it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cantlie.report.case_pages import with_colours
from cantlie.report.closing_sections import provenance_section, remarks_section
from cantlie.report.comparison_biology_pages import biology_section, halves_section
from cantlie.report.comparison_cells import arm_columns, percent, range_note
from cantlie.report.comparison_dose_pages import dose_section, histogram_section
from cantlie.report.comparison_figures import (
    arm_colours,
    timeline_figure,
)
from cantlie.report.comparison_report import (
    ArmView,
    BiologicalPanel,
    ComparisonReport,
    ProbabilityLine,
    RuleCell,
)
from cantlie.report.document import (
    Block,
    Callout,
    Cell,
    Column,
    Document,
    Figure,
    Heading,
    KeyValue,
    Paragraph,
    Row,
    Section,
    Table,
    Tone,
)
from cantlie.report.view import view_of
from cantlie.report.writing import write_report

_SURENESS: dict[str, tuple[str, Tone]] = {
    "same": ("no difference", "muted"),
    "within tolerance": ("within the tolerance of dose calculation", "muted"),
    "beyond tolerance": ("beyond the tolerance of dose calculation", "accent"),
    "settled": ("same direction at all uncertain values", "accent"),
    "open": ("direction depends on uncertain values", "warning"),
    "outside the model": ("outside the range of the model", "warning"),
    "counted": ("counted", "accent"),
}


def document_of_comparison(report: ComparisonReport) -> Document:
    """Return the report as a document."""
    report = replace(report, organs=with_colours(report.organs))
    colours = arm_colours([arm.id for arm in report.arms])
    outlines = [outline for arm in report.arms for outline in arm.outlines]
    body = [organ for organ in report.organs if organ.role == "body"]
    view = view_of(report.ct, [*outlines, *body], report.point_mm)
    sections = [
        _differences(report),
        _targets(report, colours),
        dose_section(report, view),
        histogram_section(report),
        biology_section(report, colours),
        halves_section(report, view),
        _rules(report, colours),
        _course(report, colours),
        remarks_section(report.notes),
        provenance_section(report.provenance, report.citations, report.attributions),
    ]
    return Document(
        title=report.title,
        subtitle="Protocols side by side on one patient",
        running_title=f"{report.title}: {report.case_label}",
        meta=[
            ("Case", report.case_label),
            ("Protocols", ", ".join(arm.id for arm in report.arms)),
            ("Made", report.created),
            ("Cantlie", report.version),
        ],
        lead=_lead(report, colours),
        sections=[section for section in sections if section.blocks],
    )


def write_comparison_report(report: ComparisonReport, folder: Path, *, png_dpi: float = 160.0) -> None:
    """Write report.html, report.pdf and figures/ (SVG and PNG) into a folder.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    write_report(document_of_comparison(report), folder, report.created, png_dpi=png_dpi)


def _lead(report: ComparisonReport, colours: Mapping[str, str]) -> list[Block]:
    arms = report.arms
    rows: list[Row] = [
        ["Prescription", *("; ".join(t.prescription for t in arm.targets) for arm in arms)],
        ["Rules of its protocol", *(_met(arm) for arm in arms)],
        ["Treatment / calendar days", *(f"{arm.treatment_days} / {arm.calendar_days}" for arm in arms)],
        ["Sessions", *(str(len(arm.sessions)) for arm in arms)],
        ["Monitor units, whole course", *(f"{arm.course_mu:.0f}" for arm in arms)],
        ["Time on the machine, whole course", *(f"{arm.course_minutes:.0f} min" for arm in arms)],
    ]
    for name, label in (("Liver-GTV", "Mean dose of normal liver"), ("GTV_all", "Dose to 95 % of the lesions")):
        if all(name in arm.dvhs for arm in arms):
            curves = [arm.dvhs[name] for arm in arms]
            values = [c.mean_gy if name == "Liver-GTV" else float(c.dose_at_percent_gy(95.0)) for c in curves]
            rows.append([f"{label}, physical", *(f"{value:.1f} Gy" for value in values)])
    for panel in report.panels:
        if panel.structure in ("Liver-GTV", "GTV_all"):
            what = "normal liver" if panel.structure == "Liver-GTV" else "all lesions"
            label = f"Mean EQD2 (α/β = {panel.alpha_beta_gy:g} Gy) of {what}"
            rows.append([label, *(_mean_of(panel, arm.id) for arm in arms)])
    for line in dict.fromkeys((one.model, one.endpoint) for one in report.complications):
        values_of = {one.arm: one for one in report.complications if (one.model, one.endpoint) == line}
        rows.append([f"NTCP: {line[0]}", *(_probability_cell(values_of.get(arm.id)) for arm in arms)])
    header = [
        Column("", width=1.25),
        *(Column(arm.id, align="left", width=1.0) for arm in arms),
    ]
    blocks: list[Block] = [Table(header, rows, caption="At a glance")]
    if report.failed:
        items = [f"{one.id}: {one.reason}" for one in report.failed]
        blocks.append(Callout("", "Not planned, and so not compared", "fail", items))
    shared = [f"{arm.id} uses the plans of {arm.plans_from}" for arm in arms if arm.plans_from]
    if shared:
        blocks.append(
            Callout(
                "The planner would be asked for exactly the same, so it was asked once: the physical dose of the whole "
                "course is the same, and everything that differs comes from the calendar.",
                "; ".join(shared),
                "info",
            )
        )
    return blocks


def _met(arm: ArmView) -> Cell:
    total = arm.rules_met + arm.rules_broken + arm.rules_open
    note = f"{arm.rules_open} cannot be evaluated" if arm.rules_open else ""
    return Cell(f"{arm.rules_met} of {total} met", tone="fail" if arm.rules_broken else "", note=note)


def _mean_of(panel: BiologicalPanel, arm: str) -> Cell | None:
    curve = panel.eqd2.get(arm)
    return None if curve is None else Cell(f"{curve.full.mean_gy:.1f} Gy", note=range_note(curve))


def _probability_cell(line: ProbabilityLine | None) -> Cell | None:
    if line is None or line.value is None:
        return None if line is None else Cell(None, note=line.reason)
    note = f"{percent(line.low)} to {percent(line.high)}" + ("" if line.trusted else "; outside the model's range")
    return Cell(percent(line.value), tone="" if line.trusted else "warning", note=note)


def _differences(report: ComparisonReport) -> Section:
    first = report.arms[0].id
    blocks: list[Block] = [
        Paragraph(
            f"Each protocol against {first}: what differs, by how much, and how sure that is. Differences are the "
            "first minus the other. A difference of physical dose counts where it is larger than 3 % of the lower "
            "prescription; where fractions differ, equal physical doses do not mean equal effect. Biological numbers "
            "are compared at the same uncertain values in both protocols, because the patient is the same; a direction "
            "is settled where all of these values agree. One patient and one plan per protocol: nothing here says how "
            "other patients would fare."
        )
    ]
    for other in dict.fromkeys(line.other_id for line in report.differences):
        lines = [line for line in report.differences if line.other_id == other]
        rows: list[Row] = []
        for topic in dict.fromkeys(line.topic for line in lines):
            rows.append(Heading(topic))
            for line in lines:
                if line.topic == topic:
                    text, tone = _SURENESS.get(line.sureness, (line.sureness, ""))
                    rows.append([line.sentence, Cell(text, tone=tone)])
        columns = [Column("What the numbers say", width=3.4), Column("How sure", width=1.0)]
        blocks.append(Table(columns, rows, caption=f"{first} against {other}", compact=True))
    return Section("What differs", blocks)


def _targets(report: ComparisonReport, colours: Mapping[str, str]) -> Section:
    rows: list[Row] = []
    for arm in report.arms:
        rows.append(Heading(f"{arm.id}: {arm.title}"))
        rows += [[t.target, t.label, t.ctv_cc, t.ptv_cc, t.margin, t.prescription] for t in arm.targets]
    columns: list[Column | str] = [
        "Target",
        "What it is",
        Column("CTV", "cc", digits=1),
        Column("PTV", "cc", digits=1),
        "Margin of the PTV",
        "Prescription",
    ]
    facts: list[tuple[str, object]] = [(arm.id, f"{arm.summary} {arm.technique}.") for arm in report.arms]
    return Section("Targets and prescriptions", [KeyValue(facts, columns=1), Table(columns, rows, compact=True)])


def _rules(report: ComparisonReport, colours: Mapping[str, str]) -> Section:
    rows: list[Row] = []
    for scope in dict.fromkeys(line.scope for line in report.rules):
        rows.append(
            Heading("Whole course" if scope == "course" else f"Plan of {scope}" if scope != "plan" else "Each plan")
        )
        for line in report.rules:
            if line.scope == scope:
                cells = [_rule_cell(line.cells.get(arm.id), line.unit) for arm in report.arms]
                rows.append([line.structure, line.metric, line.limit, *cells])
    if not rows:
        return Section("Rules")
    columns: list[Column | str] = [
        Column("Structure", width=1.2),
        Column("Metric", width=0.8),
        Column("Limit", align="right", width=0.8),
        *(Column(arm.id, align="right", width=1.1) for arm in report.arms),
    ]
    note = (
        "A verdict stands only under the protocol that prints the rule. Values without a verdict are what the rule of "
        "another protocol reads off this dose; limits of one fractionation do not hold for another."
    )
    return Section("Rules side by side", [Table(columns, rows, note=note, compact=True)])


def _rule_cell(cell: RuleCell | None, unit: str) -> Cell | None:
    if cell is None:
        return None
    value = None if cell.value is None else f"{cell.value:.2f} {unit}" if unit == "Gy" else f"{cell.value:.1f} {unit}"
    if not cell.own:
        return Cell(value, tone="muted")
    tones: dict[str, Tone] = {"pass": "pass", "fail": "fail"}
    text = value if value is not None else cell.verdict
    return Cell(text, tone=tones.get(cell.verdict, "muted"), note=cell.reason)


def _course(report: ComparisonReport, colours: Mapping[str, str]) -> Section:
    arms = report.arms
    blocks: list[Block] = [
        Figure(
            timeline_figure(arms),
            "Sessions of every protocol by the day after its first session; two marks on one day are two sessions.",
            "Timeline of sessions; first and last sessions are in the table",
            "timeline",
        )
    ]
    rows: list[Row] = [
        ["First session", *(f"{arm.first_session:%Y-%m-%d %H:%M}" for arm in arms)],
        ["Last session", *(f"{arm.last_session:%Y-%m-%d %H:%M}" for arm in arms)],
        ["Sessions", *(str(len(arm.sessions)) for arm in arms)],
        ["Treatment days", *(str(arm.treatment_days) for arm in arms)],
        ["Calendar days", *(str(arm.calendar_days) for arm in arms)],
        [
            "Shortest interval",
            *(None if a.shortest_interval_h is None else f"{a.shortest_interval_h:g} h" for a in arms),
        ],
    ]
    blocks.append(Table(["Course", *arm_columns(arms)], rows, compact=True))
    lines: list[Row] = []
    for arm in arms:
        total = f"{arm.id}: {arm.course_mu:.0f} MU and {arm.course_minutes:.0f} min in the whole course"
        lines.append(Heading(total + (f"; plans of {arm.plans_from}" if arm.plans_from else "")))
        lines += [[d.target, d.fractions, d.beams, d.segments, d.mu, d.minutes] for d in arm.delivery]
    columns: list[Column | str] = [
        "Plan",
        "Fractions",
        "Fields",
        "Segments",
        Column("MU", "per fraction", digits=1),
        Column("Time", "min per fraction", digits=1),
    ]
    note = "Time from the first beam on to the last beam off, estimated from monitor units, dose rate, leaf travel and "
    note += "gantry rotation of the machine; set-up and imaging are not in it."
    blocks.append(Table(columns, lines, caption="Machine", note=note, compact=True))
    return Section("Calendar and machine", blocks)
