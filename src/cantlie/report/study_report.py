"""A study run as files: run.json, results.json, tables as CSV, figures as SVG and PNG, report.html, report.pdf."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cantlie.cohort.exporting import write_cohort
from cantlie.core.files import write_json, write_text
from cantlie.core.progress import Progress, part, silent
from cantlie.core.provenance import RESEARCH_USE_ONLY
from cantlie.report.document import (
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    Figure,
    KeyValue,
    Paragraph,
    Section,
    Table,
    Tile,
    Tiles,
)
from cantlie.report.patient_figures import patient_section
from cantlie.report.study_figures import SYNTHETIC, draw
from cantlie.report.writing import write_report
from cantlie.study.analysis import analyse_folder
from cantlie.study.loading import load_study, study_ids
from cantlie.study.results import StudyResult, StudyTable
from cantlie.study.synthesis import SyntheticCohort, synthesize


def list_studies() -> list[dict[str, str | int]]:
    """Return id, title, design, year and DOI of the built-in studies."""
    studies = [load_study(name) for name in study_ids()]
    return [
        {"id": s.id, "title": s.title, "design": s.design, "year": s.citation.year, "doi": s.citation.doi}
        for s in studies
    ]


def run_study(
    id_or_path: str | Path,
    data: Path,
    out: Path,
    *,
    cases: Sequence[Path] = (),
    pdf: bool = True,
    progress: Progress = silent,
) -> StudyResult:
    """Run a study on a cohort and write its report.

    Parameters
    ----------
    id_or_path
        Name of a built-in study, or path of a study file.
    data
        Folder of CSV files or Excel workbook.
    out
        Folder for run.json, results.json, tables/, figures/, report.html and report.pdf.
    cases
        Runs of `cantlie plan` or `follow-up` whose figures are the paper's figures of single patients.

    Raises
    ------
    CantlieError
        If the study or the data are wrong, or the folder cannot be written.
    """
    patients = [patient_section(number, case) for number, case in enumerate(cases, start=1)]
    result = analyse_folder(id_or_path, Path(data), progress=part(progress, 0.0, 0.5))
    write_study_report(result, Path(out), patients=patients, pdf=pdf, progress=part(progress, 0.5, 1.0))
    return result


def synthesize_study(id_or_path: str, out: Path, *, seed: int = 1) -> SyntheticCohort:
    """Make the synthetic cohort of a study and write it as CSV files with a file that says SYNTHETIC.

    Raises
    ------
    CantlieError
        If the study cannot be synthesised or the folder cannot be written.
    """
    made = synthesize(id_or_path, seed=seed)
    remarks = (
        "Printed numbers that it does not meet (they cannot hold together, or were not found):",
        *(f"- {text}" for text in made.missed),
        "",
        "Printed numbers that were not imposed:",
        *(f"- {text}" for text in made.not_imposed),
    )
    write_cohort(made.cohort, Path(out), remarks=remarks)
    return made


def write_study_report(
    result: StudyResult,
    out: Path,
    *,
    patients: Sequence[Section] = (),
    pdf: bool = True,
    progress: Progress = silent,
) -> None:
    """Write everything that a study run found, and chapters on single patients.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    pictures = [
        Figure(
            draw(figure, result), figure.spec.title, _alt(result, figure.spec.title, figure.text), figure.spec.id, 0.85
        )
        for figure in result.figures
    ]
    progress(0.3, "report")
    document = study_document(result, pictures, patients)
    for table in result.tables:
        write_text(out / "tables" / f"{table.id}.csv", _csv(table, result.synthetic))
    write_report(document, out, pdf=pdf)
    write_json(out / "results.json", results_json(result))
    run = {
        "status": "done", "study": result.study.id, "synthetic": result.synthetic, "cohort": result.cohort_label,
        "provenance": dict(result.provenance), "warnings": [note.sentence() for note in result.notes],
        "citations": [f"https://doi.org/{result.study.citation.doi}"], "consent": dict(result.consent),
        "use": RESEARCH_USE_ONLY,
    }  # fmt: skip
    write_json(out / "run.json", run)
    progress(1.0, "done")


def _alt(result: StudyResult, title: str, text: str) -> str:
    mark = f"{SYNTHETIC}. " if result.synthetic else ""
    return f"{mark}{title}. {text}".strip()


def _csv(table: StudyTable, synthetic: bool) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    extra = ["data"] if synthetic else []
    writer.writerow([*table.columns, *extra, "differs from print"])
    for row in table.rows:
        differing = "; ".join(
            f"{table.columns[number]}: printed {cell.printed}"
            for number, cell in enumerate(row)
            if cell.agrees is False
        )
        writer.writerow([*(cell.text for cell in row), *([SYNTHETIC] if synthetic else []), differing])
    return buffer.getvalue()


def results_json(result: StudyResult) -> dict[str, object]:
    """Return the results as plain data; every compared cell has a verdict."""
    agree, compared = result.compared()
    verdicts = {True: "consistent", False: "inconsistent"}
    rows = [
        {
            "table": table.id,
            "place": f"row {number}, {table.columns[place]}",
            "printed": cell.printed,
            "recomputed": cell.text,
            "verdict": verdicts[cell.agrees],
        }
        for table in result.tables
        for number, row in enumerate(table.rows, start=1)
        for place, cell in enumerate(row)
        if cell.agrees is not None
    ]
    return {
        "study": result.study.id,
        "synthetic": result.synthetic,
        "label": SYNTHETIC if result.synthetic else "",
        "patients": result.size,
        "agreement": {"same": agree, "compared": compared},
        "rows": rows,
        "tables": [
            {"id": t.id, "title": t.title, "columns": list(t.columns), "rows": [[c.text for c in r] for r in t.rows]}
            for t in result.tables
        ],
        "flow": [asdict(step) for step in result.flow],
        "arms": [{**asdict(arm), "reasons": dict(arm.reasons)} for arm in result.arms],
        "notes": [note.sentence() for note in result.notes],
    }


def _table(table: StudyTable) -> Table:
    columns = [Column(name, align="left" if number < 2 else "centre") for number, name in enumerate(table.columns)]
    rows = [
        [
            Cell(cell.text, tone="warning" if cell.agrees is False else "", note=f"printed: {cell.printed}")
            if cell.agrees is False
            else Cell(cell.text)
            for cell in row
        ]
        for row in table.rows[: table.shown]
    ]
    notes = list(table.notes)
    if table.shown is not None and len(table.rows) > table.shown:
        notes.insert(0, f"the first {table.shown} of {len(table.rows)} rows; all stand in tables/{table.id}.csv")
    if "tests" in table.columns:
        at = table.columns.index("tests")
        names = list(dict.fromkeys(name for row in table.rows for name in row[at].text.split("; ") if name))
        letters = {name: chr(ord("a") + number % 26) for number, name in enumerate(names)}
        for row, cells in zip(table.rows, rows, strict=True):
            cells[at] = Cell(", ".join(letters[name] for name in row[at].text.split("; ") if name))
        notes += [f"{letter}: {name}" for name, letter in letters.items()]
    return Table(columns, rows, note="; ".join(notes), compact=True)


def _ethics(result: StudyResult) -> list[tuple[str, str]]:
    ethics = result.study.ethics
    approval = ", ".join(part for part in (ethics.committee, ethics.approval) if part)
    counts = ", ".join(f"{name} {count}" for name, count in result.consent.items())
    return [
        ("Ethics approval", approval or "not stated"),
        ("Consent", ethics.consent or "not stated"),
        ("Consent in the cohort", counts or "not recorded"),
        *([("Registration", ethics.registration)] if ethics.registration else []),
    ]


def study_document(result: StudyResult, pictures: list[Figure], patients: Sequence[Section] = ()) -> Document:
    """Return the report of a study run, with chapters on single patients where there are any."""
    study = result.study
    figures = {figure.spec.id: figure for figure in result.figures}
    own = [picture for picture in pictures if figures[picture.name].in_paper]
    more = [picture for picture in pictures if not figures[picture.name].in_paper]
    sections = [_the_study(result)]
    sections += [Section(table.title, [_table(table)]) for table in result.tables if table.in_paper]
    if own:
        sections.append(Section("Figures", own))
    extra = [table for table in result.tables if not table.in_paper]
    if extra or more:
        blocks = [block for table in extra for block in (Paragraph(table.title, "lead"), _table(table))]
        sections.append(Section("Beyond the paper", [*blocks, *more]))
    sections += patients
    differing = [
        f"{d['table']}, {d['row']}, {d['column']}: printed {d['printed']}, found {d['found']}"
        for d in result.disagreements()
    ]
    if differing:
        sections.append(Section("Where the numbers differ from print", [Bullets(differing)]))
    notes = _notes(result, with_patients=bool(patients))
    if notes:
        sections.append(Section("Notes", notes))
    facts = [(str(name), str(value)) for name, value in result.provenance.items() if not isinstance(value, dict)]
    sections.append(Section("Provenance", [KeyValue(facts, columns=1)]))
    mark = f"{SYNTHETIC} · " if result.synthetic else ""
    return Document(
        f"{mark}{study.title}",
        sections,
        subtitle=f"Study {study.id} on the cohort {result.cohort_label}",
        meta=(("Cohort", result.cohort_label), ("Patients", result.size)),
        lead=_lead(result, len(pictures)),
        footer=f"{mark}{RESEARCH_USE_ONLY}",
        running_title=f"{mark}{study.id}",
    )


def _lead(result: StudyResult, pictures: int) -> list[Callout | Tiles]:
    agree, compared = result.compared()
    shown = [Tile("Patients", result.size), Tile("Tables", len(result.tables)), Tile("Figures", pictures)]
    if compared:
        shown.append(Tile("Cells as printed", f"{agree} of {compared}", note="where the paper prints a number"))
    tiles = Tiles(shown)
    if not result.synthetic:
        return [tiles]
    text = (
        "The patients of this report do not exist. They were made from the paper's printed numbers to try out the "
        "analysis. Nothing here is evidence."
    )
    return [Callout(text, title=SYNTHETIC, tone="fail"), tiles]


def _the_study(result: StudyResult) -> Section:
    study = result.study
    paper = study.citation
    facts = [
        ("Paper", f"{paper.authors} {paper.title}. {paper.journal}, {paper.year}. doi:{paper.doi}"),
        ("Design", study.design),
        *_ethics(result),
        ("Groups", "; ".join(f"{group.name} (n = {group.n} in the study file)" for group in study.groups)),
        ("Endpoints", "; ".join(study.endpoint(e.name).describe() for e in study.endpoints)),
    ]
    conventions = [
        ("As published", f"what {study.software or 'the software of the paper'} does: Pearson's test without "
         "correction, t-test, plain intervals, Breslow's ties"),
        ("Recommended", "exact tests where expected counts are below 5, Welch's test, log-log intervals, Efron's ties"),
    ]  # fmt: skip
    return Section("The study", [KeyValue(facts, columns=1), KeyValue(conventions, columns=1)])


def _notes(result: StudyResult, *, with_patients: bool) -> list[Callout | Bullets | Paragraph]:
    """Return warnings, remarks, and what the paper shows that a cohort cannot give."""
    warnings = [note.sentence() for note in result.notes if note.level == "warning"]
    remarks = [note.sentence() for note in result.notes if note.level == "info"]
    missing = [f"{item.id} ({item.shows}): {item.instead}" for item in result.study.not_made]
    if with_patients:
        missing.append("figures of single patients that were given stand in chapters of their own")
    notes: list[Callout | Bullets | Paragraph] = []
    if warnings:
        notes.append(Callout("What a careful reader must know", title="Warnings", tone="warning", items=warnings))
    if remarks:
        notes.append(Bullets(remarks))
    if missing:
        notes += [Paragraph("Parts of the paper that a cohort cannot give", "lead"), Bullets(missing)]
    return notes
