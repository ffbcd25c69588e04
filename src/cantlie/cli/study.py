"""``cantlie study``: studies on cohorts, synthetic cohorts, and the audit of a published paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cantlie.cli.console import progress_shown, say, say_json, say_table, tell
from cantlie.cli.options import JsonOption, OutOption, default_out
from cantlie.core.errors import InputError

app = typer.Typer(help="Run studies on cohorts, make synthetic ones, audit a paper.", no_args_is_help=True)
StudyName = Annotated[str, typer.Argument(metavar="ID|FILE", help="Built-in study or a TOML file.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the built-in studies."""
    from cantlie.report.study_report import list_studies

    studies = list_studies()
    if as_json:
        say_json(studies)
        return
    say_table(["study", "title", "year", "doi"], [[str(s[k]) for k in ("id", "title", "year", "doi")] for s in studies])


@app.command()
def schema() -> None:
    """Print the tables of a cohort: every column with its kind, codes, limits and meaning (Markdown)."""
    from cantlie.cohort.schema import schema_markdown

    say(schema_markdown().rstrip())


@app.command()
def run(
    study: StudyName,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR|FILE", help="Folder of CSV files or REDCap export, or workbook.")
    ],
    case: Annotated[
        list[Path] | None,
        typer.Option("--case", metavar="RUN", help="Run of `cantlie plan` or `follow-up` with a patient's figures."),
    ] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study on a cohort: every table and figure of the paper, in two conventions."""
    from cantlie.report.study_report import run_study

    folder = out or default_out(f"study-{Path(study).stem}")
    with progress_shown("Cantlie study", quiet=as_json) as progress:
        result = run_study(study, data, folder, cases=tuple(case or ()), progress=progress)
    if as_json:
        say((folder / "results.json").read_text(encoding="utf-8").rstrip())
        return
    for note in result.notes:
        if note.level == "warning":
            tell(f"! {note.sentence()}")
    agreeing, compared = result.compared()
    say(f"{result.study.title}: {result.size} patients" + (", SYNTHETIC" if result.synthetic else ""))
    if compared:
        say(f"{agreeing} of {compared} printed numbers come out the same.")
    say(f"Report: {folder / 'report.html'}. Research use only.")


@app.command()
def synthesize(
    study: StudyName,
    out: OutOption = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed makes the same cohort.")] = 1,
) -> None:
    """Make a synthetic cohort with the printed margins and rates of a study. It is not evidence."""
    from cantlie.report.study_report import synthesize_study

    folder = out or default_out(f"synthetic-{Path(study).stem}")
    made = synthesize_study(study, folder, seed=seed)
    say(f"SYNTHETIC cohort in {folder}; {len(made.missed)} printed numbers could not be met (see there).")


@app.command()
def audit(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID|FILE...", help="Built-in papers, claims files (TOML) or tables (CSV)."),
    ] = None,
    out: OutOption = None,
    from_table: Annotated[
        Path | None, typer.Option("--from-table", metavar="FILE", help="Print a claims file made from a CSV table.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every number of a paper that can be recomputed; several papers go into a folder each."""
    if from_table is not None:
        from cantlie.study.audit.from_table import claims_from_table

        say(claims_from_table(from_table).rstrip("\n"))
        return
    if not sources:
        raise InputError(
            "nothing to audit was named",
            where="cantlie study audit",
            remedy="name a built-in paper, a claims file or a CSV table",
        )
    from cantlie.report.audit_report import results_of, run_audit

    printed = []
    for source in sources:
        name = Path(source).stem
        folder = (out or default_out(f"audit-{name}")) if len(sources) == 1 else (out or default_out("audit")) / name
        result = run_audit(source, folder)
        printed.append(results_of(result))
        if not as_json:
            counts = [f"{len(result.of(v))} {v}" for v in ("consistent", "inconsistent", "not recomputable")]
            say(f"{name}: {', '.join(counts)}. Report: {folder / 'report.html'}")
    if as_json:
        say_json(printed[0] if len(printed) == 1 else printed)


@app.command()
def dosimetry(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs or comparisons, or folders above.")
    ],
    arms: Annotated[
        Path | None,
        typer.Option("--arms", metavar="FILE", help="CSV with run, arm and perhaps patient_id; default: by protocol."),
    ] = None,
    first: Annotated[
        list[str] | None, typer.Option("--arm", metavar="ARM", help="Order of the arms; may be repeated.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="'STRUCTURE: METRIC'", help="One more metric, as 'Liver-GTV: V20Gy[%]'."),
    ] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tabulate the doses of many patients: mean and SD of each arm, tests, and tables ready for outcome models."""
    from cantlie.report.dosimetry_report import results_of, run_dosimetry

    folder = out or default_out("study-dosimetry")
    with progress_shown("Cantlie dosimetry", quiet=as_json) as progress:
        result = run_dosimetry(
            runs, folder, arms_file=arms, arms=tuple(first or ()), metrics=tuple(metric or ()), progress=progress
        )
    if as_json:
        say_json(results_of(result))
        return
    for note in result.notes:
        if note.level == "warning":
            tell(f"! {note.sentence()}")
    say(f"{len(result.rows)} metrics of {len(result.runs)} plans in {len(result.arms)} arms, {result.tests} tested.")
    say(f"Report: {folder / 'report.html'} (and tables/, cohort/). Research use only.")


@app.command()
def scores(
    data: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="Cohort: folder of CSV files, or Excel workbook.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="CSV file to write.")],
) -> None:
    """Write the liver scores of a cohort (ALBI, Child-Pugh, MELD) from its laboratory values, day by day."""
    from cantlie.cohort.importing import read_cohort
    from cantlie.cohort.liver_scores import liver_scores
    from cantlie.core.errors import CohortError
    from cantlie.core.files import write_text

    cohort = read_cohort(data)
    found = liver_scores(cohort)
    if found.empty:
        raise CohortError(
            "no liver score can be worked out", where=data.name, remedy="add bilirubin, albumin, INR ... as labs.csv"
        )
    write_text(out, found.to_csv(index=False, date_format="%Y-%m-%d", float_format="%.4g"))
    names = {
        "albi": "ALBI",
        "child_pugh_score": "Child-Pugh",
        "meld": "MELD",
        "meld_na": "MELD-Na",
        "meld_3": "MELD 3.0",
    }
    rows = []
    for column, name in names.items():
        known = found[found[column].notna()]
        rows.append([name, str(len(known)), str(known["patient_id"].nunique())])
    say_table(["score", "days", "patients"], rows, title=f"{len(cohort)} patients")
    say(f"\n{out}. MELD counts no dialysis, which the tables do not hold. Research use only.")


@app.command()
def fhir(
    data: Annotated[
        Path,
        typer.Argument(metavar="DIR|FILE", help="Cohort (folder of CSV files, workbook), or a FHIR bundle (.json)."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="JSON file to write; of a bundle, the new folder.")
    ],
) -> None:
    """Write a cohort as a FHIR R4 bundle (courses in mCODE's profiles), or a bundle as a cohort of CSV files."""
    from cantlie.cohort.fhir import fhir_bundle, not_in_bundle
    from cantlie.cohort.importing import read_cohort
    from cantlie.core.errors import CohortError
    from cantlie.core.files import write_json

    if data.suffix.lower() == ".json":
        from cantlie.cohort.exporting import write_cohort
        from cantlie.cohort.fhir_reading import read_fhir_bundle

        made = read_fhir_bundle(data)
        write_cohort(made, out)
        for note in made.notes:
            tell(f"! {note.sentence()}")
        cohort = read_cohort(out)
    else:
        cohort = read_cohort(data)
        if not len(cohort.table("courses")):
            raise CohortError("the cohort has no courses", where=data.name, remedy="add courses.csv")
        write_json(out, fhir_bundle(cohort))
        for note in not_in_bundle(cohort):
            tell(f"! {note.sentence()}")
    say(f"{len(cohort)} patients and {len(cohort.table('courses'))} courses in {out}. Research use only.")


@app.command()
def deidentify(
    data: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="Cohort (folder of CSV files, Excel workbook), or DICOM files.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for what may be shared.")],
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="Key that makes the same pseudonyms again.")
    ] = None,
) -> None:
    """Write a cohort, or DICOM files, again with pseudonyms and shifted dates, for sharing."""
    if _is_cohort(data):
        from cantlie.cohort.deidentify import deidentify_folder

        notes = deidentify_folder(data, out, key_file=key_file).notes
    else:
        from cantlie.dicom.deidentify import deidentify_dicom

        with progress_shown("Cantlie de-identification") as progress:
            done = deidentify_dicom(data, out, key_file=key_file, progress=progress)
        notes = done.notes
        for name, count in done.files.items():
            say(f"{name}: {count} files")
    for note in notes:
        tell(f"! {note.sentence()}")
    say(f"De-identified in {out}.")


def _is_cohort(data: Path) -> bool:
    from cantlie.cohort.redcap import redcap_export
    from cantlie.cohort.schema import TABLES

    if data.is_dir():
        tables = [file for file in data.iterdir() if file.suffix.lower() in (".csv", ".tsv")]
        return any(file.stem.lower() in TABLES for file in tables) or redcap_export(data) is not None
    return data.suffix.lower() in (".csv", ".xlsx", ".xlsm")
