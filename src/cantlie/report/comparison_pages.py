"""The report of a comparison of protocols: its chapters, and the files it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cantlie.core.files import write_bytes
from cantlie.core.volume import Volume
from cantlie.report.case_pages import with_colours
from cantlie.report.comparison_figures import (
    Panel,
    arm_colours,
    overlay_figure,
    probability_figure,
    slices_figure,
    timeline_figure,
)
from cantlie.report.comparison_report import (
    ArmView,
    BandedDvh,
    BiologicalPanel,
    ComparisonReport,
    ProbabilityLine,
    RuleCell,
)
from cantlie.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    Figure,
    Heading,
    Images,
    KeyValue,
    Paragraph,
    Row,
    Section,
    Subheading,
    Table,
    Tone,
)
from cantlie.report.html import write_html
from cantlie.report.pdf import write_pdf
from cantlie.report.view import View, view_of

_MOST_COLUMNS = 4
_SAME_GY = 0.01
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
        _dose(report, view),
        _histograms(report),
        _biology(report, colours),
        _halves(report, view),
        _rules(report, colours),
        _course(report, colours),
        _remarks(report),
        _provenance(report),
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
    document = document_of_comparison(report)
    images = Images()
    write_html(document, folder / "report.html", images)
    write_pdf(document, folder / "report.pdf", images, report.created)
    for name, content in images.files.items():
        write_bytes(folder / "figures" / name, content)
    for figure in document.figures():
        picture = figure.png(png_dpi)
        if picture is not None:
            write_bytes(folder / "figures" / f"{images.add(figure).rsplit('.', 1)[0]}.png", picture)


def _arm_columns(arms: Sequence[ArmView], *, digits: int | None = None) -> list[Column | str]:
    return [Column(arm.id, align="right", digits=digits) for arm in arms]


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
    return None if curve is None else Cell(f"{curve.full.mean_gy:.1f} Gy", note=_range_note(curve))


def _range_note(curve: BandedDvh) -> str:
    if curve.least is None or curve.most is None:
        return ""
    return f"{curve.least.mean_gy:.2f} to {curve.most.mean_gy:.2f} with incomplete repair"


def _probability_cell(line: ProbabilityLine | None) -> Cell | None:
    if line is None or line.value is None:
        return None if line is None else Cell(None, note=line.reason)
    note = f"{_percent(line.low)} to {_percent(line.high)}" + ("" if line.trusted else "; outside the model's range")
    return Cell(_percent(line.value), tone="" if line.trusted else "warning", note=note)


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    percent = 100.0 * value
    return "< 0.1 %" if 0 <= percent < 0.1 else f"{percent:.1f} %"


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


def _dose(report: ComparisonReport, view: View) -> Section:
    arms = report.arms
    first, *others = arms
    grid = min((arm.dose.grid for arm in arms), key=lambda g: g.spacing_mm[0] * g.spacing_mm[1] * g.spacing_mm[2])
    on_grid = {arm.id: arm.dose.resample(grid) for arm in arms}
    doses = [Panel(arm.id, arm.dose, arm.outlines) for arm in arms]
    signed: list[Panel] = []
    same: list[str] = []
    for other in others:
        difference = Volume(grid, on_grid[first.id].values - on_grid[other.id].values)
        if float(abs(difference.values).max()) < _SAME_GY:
            same.append(other.id)
        else:
            signed.append(Panel(f"{first.id} − {other.id}", difference, other.outlines, signed=True))
    if len(doses) > _MOST_COLUMNS:
        doses = [panel for panel in doses if panel.title not in same]
    blocks: list[Block] = []

    def add(panels: Sequence[Panel], name: str, caption: str) -> None:
        figures = -(-len(panels) // _MOST_COLUMNS)
        each = -(-len(panels) // figures)
        top = max((float(panel.volume.values.max()) for panel in panels if not panel.signed), default=None)
        for start in range(0, len(panels), each):
            part = panels[start : start + each]
            figure = slices_figure(report.ct, part, report.organs, view, window_hu=report.window_hu, top_gy=top)
            titles = ", ".join(panel.title for panel in part)
            blocks.append(Figure(figure, caption, f"{caption} Panels: {titles}", f"{name}{start or ''}"))

    where = "on the same axial and coronal slice; PTVs white, lesions pink, organs at risk grey"
    text = "Physical dose of the whole course"
    if len(doses) + len(signed) <= 3 and signed:
        add([*doses, *signed], "dose-maps", f"{text} and its difference, {where}.")
    else:
        add(doses, "dose-maps", f"{text}, {where}.")
        if signed:
            add(signed, "dose-differences", f"Difference of the physical dose of the whole course, {where}. "
                "All doses were resampled onto the finest of the grids.")  # fmt: skip
    for other_id in same:
        blocks.append(
            Paragraph(
                f"The physical dose of {first.id} and of {other_id} is the same in every voxel (differences below "
                f"{_SAME_GY:g} Gy), so there is no difference map."
            )
        )
    blocks.append(_statistics(report))
    return Section("Physical dose", blocks, new_page=True)


def _statistics(report: ComparisonReport) -> Table:
    arms = report.arms
    rows: list[Row] = []
    for name in report.structures:
        curves = {arm.id: arm.dvhs[name] for arm in arms if name in arm.dvhs}
        volume = max(curve.volume_cc for curve in curves.values())
        small = min(0.03, *(curve.volume_cc for curve in curves.values()))
        points = {"Mean": [curves[arm.id].mean_gy if arm.id in curves else None for arm in arms]}
        for label, cc in (("D0.03cc", small), ("D95%", 0.95)):
            if label == "D95%" and not name.startswith(("GTV", "Liver")):
                continue
            points[label] = [
                float(curves[arm.id].dose_at_volume_gy(cc if label != "D95%" else 0.95 * curves[arm.id].volume_cc))
                if arm.id in curves
                else None
                for arm in arms
            ]
        head: list[object] = [Cell(name, strong=True), volume]
        for label, values in points.items():
            rows.append([*head, label, *values])
            head = ["", ""]
    columns: list[Column | str] = [
        "Structure",
        Column("Volume", "cc", align="right", digits=1),
        "Dose [Gy]",
        *_arm_columns(arms, digits=2),
    ]
    return Table(columns, rows, caption="Physical dose of the course in common structures", compact=True)


def _histograms(report: ComparisonReport) -> Section:
    panels = [
        (name, {arm.id: BandedDvh(arm.dvhs[name]) for arm in report.arms if name in arm.dvhs})
        for name in report.structures
    ]
    figure = overlay_figure(panels, [arm.id for arm in report.arms], "Physical dose [Gy]")
    caption = (
        "Cumulative histograms of the physical dose of the whole course. Doses of different fractionation do not mean "
        "the same effect; see the biological histograms. Lines that lie on each other are equal."
    )
    alt = f"Dose-volume histograms of {', '.join(report.structures)} for all protocols"
    return Section("Dose-volume histograms", [Figure(figure, caption, alt, "dvh-physical")], new_page=True)


def _biology(report: ComparisonReport, colours: Mapping[str, str]) -> Section:
    blocks: list[Block] = []
    if report.biology_note:
        blocks.append(Paragraph(report.biology_note))
    arms = [arm.id for arm in report.arms]
    if report.panels:
        for kind, title in (("eqd2", "EQD2"), ("bed", "BED")):
            panels = [(p.structure, p.eqd2 if kind == "eqd2" else p.bed) for p in report.panels]
            labels = [f"{title} (α/β = {p.alpha_beta_gy:g} Gy) [Gy]" for p in report.panels]
            blocks.append(
                Figure(
                    overlay_figure(panels, arms, labels),
                    f"Cumulative histograms of the {title}, summed session by session in every voxel; lines with full "
                    "repair, bands over the repair half-times where they were calculated.",
                    f"{title} volume histograms of {', '.join(p.structure for p in report.panels)}",
                    f"dvh-{kind}",
                )
            )
            blocks.append(_biological_table(report, kind, title))
    lines = [*report.complications, *report.control]
    if any(line.value is not None for line in lines):
        blocks.append(
            Figure(
                probability_figure(lines, arms),
                "Probabilities of complication and control with their bands. Open circles lie outside the range of the "
                "model or come from generic parameters.",
                "Probabilities with bands; the numbers are in the tables",
                "probabilities",
            )
        )
    for caption, group in (("Complications (NTCP)", report.complications), ("Control (TCP)", report.control)):
        if group:
            blocks.append(_probability_table(group, caption, colours))
    return Section("Biological effect", blocks, new_page=True)


def _biological_table(report: ComparisonReport, kind: str, title: str) -> Table:
    rows: list[Row] = []
    for panel in report.panels:
        curves = panel.eqd2 if kind == "eqd2" else panel.bed
        row: list[object] = [panel.structure, f"α/β = {panel.alpha_beta_gy:g} Gy"]
        for arm in report.arms:
            curve = curves.get(arm.id)
            row.append(None if curve is None else Cell(f"{curve.full.mean_gy:.2f}", note=_range_note(curve)))
        rows.append(row)
    columns: list[Column | str] = [Column("Structure"), Column("For"), *_arm_columns(report.arms)]
    return Table(columns, rows, caption=f"Mean {title} of the course [Gy]", compact=True)


def _probability_table(lines: Sequence[ProbabilityLine], caption: str, colours: Mapping[str, str]) -> Table:
    rows: list[Row] = []
    for model in dict.fromkeys(line.model for line in lines):
        of_model = [line for line in lines if line.model == model]
        rows.append(Heading(f"{model}: {of_model[0].endpoint}. {of_model[0].source}"))
        for line in of_model:
            band = None if line.low is None else f"{_percent(line.low)} to {_percent(line.high)}"
            value = Cell(None if line.value is None else _percent(line.value), tone="" if line.trusted else "warning")
            rows.append(
                [Cell(line.arm, swatch=colours.get(line.arm, "")), value, band, line.band or None, line.reason or None]
            )
    columns = [
        Column("Protocol", width=1.1),
        Column("Value", align="right", width=0.5),
        Column("Band", align="right", width=0.9),
        Column("Band over", width=1.8),
        Column("Remark", width=1.3),
    ]
    return Table(columns, rows, caption=caption, compact=True)


def _halves(report: ComparisonReport, view: View) -> Section:
    blocks: list[Block] = []
    if report.halves:
        rows: list[Row] = []
        for line in report.halves:
            rows.append(
                Heading(
                    f"{line.arm}: the slab in both PTVs has {line.overlap_cc:.1f} cc"
                    + ("" if line.overlap_mean_gy is None else f", mean {line.overlap_mean_gy:.1f} Gy")
                    + ("" if line.overlap_max_gy is None else f", maximum {line.overlap_max_gy:.1f} Gy")
                )
            )
            rows += [[half, own, spilled, f"{percent:.0f} %"] for half, own, spilled, percent in line.into]
        columns = [
            Column("Half of the liver"),
            Column("Mean dose from its own plan", "Gy", digits=2),
            Column("Mean dose spilled from the other plan", "Gy", digits=2),
            Column("Share of the other prescription", align="right"),
        ]
        blocks.append(Table(columns, rows, caption="Overlap slab and spill-over to the other half", compact=True))
    if report.repairs and len(report.arms) > 1:
        blocks.append(_repair_table(report))
        if any(line.difference for line in report.repairs):
            blocks.append(_difference_table(report))
        blocks += _bed_maps(report, view)
    return Section("Two halves, two plans: overlap, spill-over and repair", blocks) if report.halves else Section("")


def _bed_maps(report: ComparisonReport, view: View) -> list[Block]:
    """Return maps of what the calendar does to the BED, for the arms with two half-liver plans."""
    arms = [arm for arm in report.arms if arm.bed is not None and any(arm.id == line.arm for line in report.halves)]
    if len(arms) < 2 or arms[0] is not report.arms[0] or arms[0].bed is None:
        return []
    first = arms[0].bed
    panels = [
        Panel(
            f"{arms[0].id} − {arm.id}",
            Volume(first.grid, first.values - arm.bed.resample(first.grid).values),
            arm.outlines,
            signed=True,
        )
        for arm in arms[1:_MOST_COLUMNS]
        if arm.bed is not None
    ]
    whole = Panel(f"BED, {arms[0].id}", first, arms[0].outlines)
    half_time = f"{report.half_time_h:g} h"
    caption = (
        f"BED (α/β = {report.alpha_beta_liver_gy:g} Gy) with a repair half-time of {half_time}, and what the other "
        "calendar takes away from it (red: more in the first)."
    )
    figure = slices_figure(report.ct, [whole, *panels], report.organs, view, window_hu=report.window_hu, quantity="BED")
    return [Figure(figure, caption, caption, "bed-differences")]


def _repair_table(report: ComparisonReport) -> Table:
    arms = [arm for arm in report.arms if any(arm.id == line.arm for line in report.halves)]
    ratio = f"{report.alpha_beta_liver_gy:g}"
    rows: list[Row] = []
    for what in ("liver", "overlap", "risk"):
        title = {
            "liver": f"Mean BED (α/β = {ratio} Gy) of normal liver [Gy]",
            "overlap": f"Mean BED (α/β = {ratio} Gy) of the overlap slab [Gy]",
            "risk": "Risk of RILD [%]",
        }[what]
        group: list[Row] = []
        for line in report.repairs:
            if what == "risk":
                values = {name: 100.0 * value for name, value in line.rild.items()}
            else:
                values = dict(line.liver_mean_gy if what == "liver" else line.overlap_mean_gy)
            group.append([line.repair, *(values.get(arm.id) for arm in arms)])
        if any(value is not None for row in group if not isinstance(row, Heading) for value in row[1:]):
            rows += [Heading(title), *group]
    return Table(
        [Column("Repair between sessions"), *_arm_columns(arms, digits=2)],
        rows,
        caption="Biological dose and risk for each repair half-time",
        note="The RILD model was fitted to treatment twice a day and converted with full repair: incomplete repair "
        "that is counted only in the patient's dose makes its risk an upper estimate.",
        compact=True,
    )


def _difference_table(report: ComparisonReport) -> Table:
    first = report.arms[0].id
    rows: list[Row] = []
    names = list(dict.fromkeys(name for line in report.repairs for name in line.difference))
    for name in names:
        rows.append(Heading(f"{first} − {name}"))
        rows += [[line.repair, *line.difference[name]] for line in report.repairs if name in line.difference]
    columns: list[Column | str] = [
        "Repair between sessions",
        Column("Mean", "Gy", digits=3),
        Column("Least voxel", "Gy", digits=2),
        Column("Largest voxel", "Gy", digits=2),
        Column("Volume above 1 Gy", "cc", digits=1),
    ]
    caption = f"Difference of the BED (α/β = {report.alpha_beta_liver_gy:g} Gy) in the voxels of normal liver"
    return Table(columns, rows, caption=caption, compact=True)


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
    blocks.append(Table(["Course", *_arm_columns(arms)], rows, compact=True))
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


def _remarks(report: ComparisonReport) -> Section:
    blocks: list[Block] = []
    warnings = [note.sentence() for note in report.notes if note.level == "warning"]
    remarks = [note.sentence() for note in report.notes if note.level != "warning"]
    if warnings:
        blocks.append(Callout("", "Warnings", "warning", warnings))
    if remarks:
        blocks += [Subheading("What was noted on the way"), Bullets(remarks)]
    return Section("Remarks", blocks)


def _provenance(report: ComparisonReport) -> Section:
    blocks: list[Block] = []
    if report.provenance:
        blocks.append(KeyValue(list(report.provenance), columns=1))
    if report.citations:
        blocks += [Subheading("Sources"), Bullets(list(report.citations), numbered=True)]
    if report.attributions:
        blocks += [Subheading("Data"), Bullets(list(report.attributions))]
    return Section("Provenance", blocks)
