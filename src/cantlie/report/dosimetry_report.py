"""The dosimetry of a cohort as files: table, patient-level cohort tables, mean DVHs of each arm, report."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure

from cantlie.core.errors import CohortError
from cantlie.core.files import write_json, write_text
from cantlie.core.progress import Progress, silent
from cantlie.core.provenance import RESEARCH_USE_ONLY, environment
from cantlie.report import style
from cantlie.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Document,
    Figure,
    Heading,
    Row,
    Section,
    Table,
)
from cantlie.report.writing import write_report
from cantlie.statistics.hypothesis import format_p
from cantlie.study.dosimetry_runs import WantedMetric, curves_of, find_runs, read_run, with_arms
from cantlie.study.dosimetry_table import ArmSummary, CohortDosimetry, DosimetryRow, cohort_dosimetry

_SHOWN_FIRST = ("Liver-GTV", "GTV_all", "Stomach", "Bag_Bowel", "Bowel_Small", "Duodenum", "SpinalCord", "SpinalCanal",
                "Kidney_L", "Kidney_R", "Heart")  # fmt: skip
_MOST_PANELS = 6
_STEP_GY = 0.1


def run_dosimetry(
    runs: Sequence[Path],
    out: Path,
    *,
    arms_file: Path | None = None,
    arms: Sequence[str] = (),
    metrics: Sequence[str] = (),
    progress: Progress = silent,
) -> CohortDosimetry:
    """Tabulate the dosimetry of many runs and write everything into a folder.

    Parameters
    ----------
    runs
        Run folders, comparisons, or folders above them.
    arms_file
        CSV with the columns run, arm and perhaps patient_id; without it the arm is the protocol.
    arms
        Order of the arms.
    metrics
        More metrics of the course, each as ``STRUCTURE: METRIC``.

    Raises
    ------
    CohortError
        If a run or the arms file cannot be used.
    """
    wanted = [WantedMetric.parse(text) for text in metrics]
    found = find_runs(runs)
    read = []
    for number, folder in enumerate(found):
        progress(0.5 * number / len(found), f"run {number + 1} of {len(found)}")
        read.append(read_run(folder, wanted))
    result = cohort_dosimetry(with_arms(read, arms_file) if arms_file is not None else read, arms)
    _write(result, out)
    progress(1.0, "done")
    return result


def _write(result: CohortDosimetry, out: Path) -> None:
    write_text(out / "tables" / "dosimetry.csv", _table_csv(result))
    write_text(out / "tables" / "patients.csv", _wide_csv(result))
    for name, text in _cohort_tables(result).items():
        write_text(out / name, text)
    figure = _mean_dvhs(result)
    picture = None
    if figure is not None:
        picture = Figure(
            figure,
            "Mean cumulative DVH of each arm (line) and one standard deviation (band), physical dose of the course.",
            "Mean dose-volume histograms of the arms",
            "mean-dvh",
        )
    write_report(_document(result, picture), out)
    write_json(out / "results.json", results_of(result))
    run = {
        "status": "done",
        "notice": RESEARCH_USE_ONLY,
        "command": {"name": "study dosimetry", "runs": [run.run for run in result.runs]},
        "provenance": environment(),
        "warnings": [asdict(note) for note in result.notes],
    }
    write_json(out / "run.json", run)


def results_of(result: CohortDosimetry) -> dict[str, Any]:
    """Return the table as plain data."""
    return {
        "notice": RESEARCH_USE_ONLY,
        "arms": list(result.arms),
        "paired": result.is_paired,
        "runs": [
            {"run": run.run, "arm": run.arm, "patient_id": run.patient_id, "protocol": run.protocol}
            for run in result.runs
        ],
        "rows": [_plain(row) for row in result.rows],
        "warnings": [asdict(note) for note in result.notes],
    }


def _plain(row: DosimetryRow) -> dict[str, Any]:
    tests = {
        name: None if test is None else {"method": test.method, "statistic": test.statistic, "p_value": test.p_value}
        for name, test in (("as_published", row.as_published), ("recommended", row.recommended), ("ranks", row.ranks))
    }
    return {
        "structure": row.structure,
        "metric": row.metric,
        "unit": row.unit,
        "arms": [asdict(arm) for arm in row.arms],
        "difference": row.difference,
        "interval": row.interval,
        **tests,
        "reason": row.reason,
    }


def _mean_sd(summary: ArmSummary, digits: int) -> str:
    sd = "" if summary.sd is None else f" ± {summary.sd:.{digits}f}"
    return f"{summary.mean:.{digits}f}{sd}"


def _table_csv(result: CohortDosimetry) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = ["n", "mean", "sd", "median", "minimum", "maximum"]
    writer.writerow(
        ["structure", "metric", "unit", *(f"{arm} {name}" for arm in result.arms for name in numbers), "difference",
         "lower 95 %", "upper 95 %", "p as published", "test as published", "p recommended", "test recommended",
         "p of ranks", "test of ranks", "remark"]
    )  # fmt: skip
    for row in result.rows:
        by_arm = {summary.arm: summary for summary in row.arms}
        cells: list[object] = [row.structure, row.metric, row.unit]
        for arm in result.arms:
            summary = by_arm.get(arm)
            cells += [""] * 6 if summary is None else [_cell(getattr(summary, name)) for name in numbers]
        cells.append(_cell(row.difference))
        cells += ["", ""] if row.interval is None else [_cell(end) for end in row.interval]
        for test in (row.as_published, row.recommended, row.ranks):
            cells += ["", ""] if test is None else [f"{test.p_value:.6g}", test.method]
        writer.writerow([*cells, row.reason])
    return stream.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _wide_csv(result: CohortDosimetry) -> str:
    """Return one line for each patient and arm with a column for each metric."""
    keys = [(row.structure, row.metric, row.unit) for row in result.rows]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [f"{s} {m}" + ("" if unit == "1" or f"[{unit}]" in m else f" ({unit})") for s, m, unit in keys]
    writer.writerow(["patient_id", "arm", "protocol", "run", *names])
    for run in result.runs:
        writer.writerow([run.patient_id, run.arm, run.protocol, run.run, *(_cell(run.values.get(key)) for key in keys)])
    return stream.getvalue()


def _cohort_tables(result: CohortDosimetry) -> dict[str, str]:
    """Return patients, courses and dosimetry as tables of Cantlie's cohort format, ready for outcome models.

    Where a patient stands in several arms, each arm is a cohort of its own.
    """
    patients = [run.patient_id for run in result.runs]
    alone = len(set(patients)) == len(patients)
    tables: dict[str, str] = {}
    for arm in [""] if alone else result.arms:
        runs = [run for run in result.runs if alone or run.arm == arm]
        folder = "cohort" if alone else f"cohort/{_plain_name(arm)}"
        rows: dict[str, list[list[str]]] = {
            "patients": [["patient_id", "arm", "treatment_start"]],
            "courses": [["patient_id", "course_id", "start", "dose_gy", "fractions"]],
            "dosimetry": [["patient_id", "structure", "metric", "value", "unit"]],
        }
        for run in runs:
            rows["patients"].append([run.patient_id, run.arm, run.start])
            if run.course:
                dose, fractions = run.course["dose_gy"], run.course["fractions"]
                rows["courses"].append([run.patient_id, run.protocol, run.start, _cell(dose), f"{fractions:.0f}"])
            rows["dosimetry"] += [
                [run.patient_id, structure, metric, _cell(value), unit]
                for (structure, metric, unit), value in run.values.items()
            ]
        for name, lines in rows.items():
            if len(lines) > 1:
                stream = io.StringIO()
                csv.writer(stream, lineterminator="\n").writerows(lines)
                tables[f"{folder}/{name}.csv"] = stream.getvalue()
    return tables


def _plain_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text).strip("-.") or "arm"


def _mean_dvhs(result: CohortDosimetry) -> MatplotlibFigure | None:
    """Draw the mean DVH of each arm with its standard deviation, for the structures that all runs have."""
    try:
        curves = [curves_of(run.folder) for run in result.runs]
    except (CohortError, OSError):
        return None
    shared = set.intersection(*(set(found) for found in curves))
    ruled = {row.structure for row in result.rows}
    names = [name for name in _SHOWN_FIRST if name in shared]
    names += sorted(name for name in shared & ruled if name not in names and "-" not in name and "+" not in name)
    names = [name for name in names if not name.startswith("PTV")][:_MOST_PANELS]
    if not names:
        return None
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, 1.9 * lines + 0.45)
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            top = max(float(found[name][0][-1]) for found in curves)
            dose = np.arange(0.0, top + _STEP_GY, _STEP_GY)
            for number, arm in enumerate(result.arms):
                shares = np.array(
                    [
                        100.0 * np.interp(dose, *found[name], right=0.0) / found[name][1][0]
                        for run, found in zip(result.runs, curves, strict=True)
                        if run.arm == arm
                    ]
                )
                colour = style.SERIES[number % len(style.SERIES)]
                mean = shares.mean(axis=0)
                axes.plot(dose, mean, color=colour, lw=1.3, label=f"{arm} (n = {len(shares)})")
                if len(shares) > 1:
                    sd = shares.std(axis=0, ddof=1)
                    low, high = np.clip(mean - sd, 0, 100), np.clip(mean + sd, 0, 100)
                    axes.fill_between(dose, low, high, color=colour, alpha=0.18, lw=0)
            axes.set(xlim=(0, top), ylim=(0, 102))
            axes.set_title(name, fontsize=8, loc="left")
            axes.set_xlabel("Dose (Gy)")
        for axes in grid[:, 0]:
            axes.set_ylabel("Volume (%)")
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.tight_layout(rect=(0, 0.28 / figure.get_figheight(), 1, 1))
        figure.legend(handles, labels, loc="lower center", ncols=min(4, len(labels)), frameon=False, fontsize=7.5)
    return figure


def _document(result: CohortDosimetry, picture: Figure | None) -> Document:
    patients = len({run.patient_id for run in result.runs})
    sections = [Section("Doses to targets and organs at risk", [_table(result)])]
    if picture is not None:
        sections.append(Section("Dose-volume histograms", [picture]))
    sections.append(
        Section(
            "Runs",
            [Table(["Patient", "Arm", "Protocol", "Run"],
                   [[run.patient_id, run.arm, run.protocol, run.run] for run in result.runs], compact=True)],
        )
    )  # fmt: skip
    notes: list[Block] = []
    warnings = [note.sentence() for note in result.notes if note.level == "warning"]
    remarks = [note.sentence() for note in result.notes if note.level != "warning"]
    if warnings:
        notes.append(Callout("", "Warnings", "warning", warnings))
    if remarks:
        notes.append(Bullets(remarks))
    if notes:
        sections.append(Section("Notes", notes))
    counts = [f"{arm}: {sum(run.arm == arm for run in result.runs)}" for arm in result.arms]
    return Document(
        "Dosimetry of a cohort",
        sections,
        subtitle="Mean and standard deviation of each arm, from the results of finished runs",
        meta=(("Patients", patients), ("Plans", len(result.runs)), ("Arms", "; ".join(counts))),
        footer=RESEARCH_USE_ONLY,
        running_title="Dosimetry of a cohort",
    )


_FIRST = ("course", "PTV", "CTV", "GTV", "Liver")


def _rank(structure: str) -> tuple[int, str]:
    """Targets and the liver first, then organs by name."""
    return next((n for n, name in enumerate(_FIRST) if structure.startswith(name)), len(_FIRST)), structure


def _unit_and_digits(row: DosimetryRow) -> tuple[str, int]:
    if row.unit == "1":
        return "", 0 if row.metric.startswith("MU") else 2
    return row.unit, 2 if row.unit == "Gy" else 1


def _table(result: CohortDosimetry) -> Table:
    compared = len(result.arms) > 1 and result.tests > 0
    methods: list[str] = []
    lines: list[Row] = []
    for structure, rows in groupby(sorted(result.rows, key=lambda r: _rank(r.structure)), key=lambda r: r.structure):
        lines.append(Heading("All plans" if structure == "course" else structure))
        lines += [_line(row, result, compared, methods) for row in rows]
    columns: list[Column | str] = [Column("Metric", width=1.6), Column("Unit", width=0.3)]
    columns += [Column(arm, align="right", width=1.0) for arm in result.arms]
    if compared:
        if len(result.arms) == 2:
            columns.append(Column("Difference (95 % CI)", align="right", width=1.4))
        columns += [
            Column("p as published", align="right", width=0.7),
            Column("p recommended", align="right", width=0.8),
        ]
        if len(result.arms) == 2:
            columns.append(Column("p of ranks", align="right", width=0.7))
    letters = "; ".join(f"{_letter(methods, method)}: {method}" for method in methods)
    spread = any(summary.sd is not None for row in result.rows for summary in row.arms)
    note = "Mean ± standard deviation over patients. " if spread else "One patient in each arm. "
    return Table(columns, lines, note=(note + (f"Tests: {letters}." if letters else "")).strip(), compact=True)


def _line(row: DosimetryRow, result: CohortDosimetry, compared: bool, methods: list[str]) -> list[object]:
    """Return a metric in all arms; ``methods`` grows by the tests that it brings."""
    by_arm = {summary.arm: summary for summary in row.arms}
    unit, digits = _unit_and_digits(row)
    line: list[object] = [row.metric.replace(f"[{row.unit}]", ""), unit]
    for arm in result.arms:
        summary = by_arm.get(arm)
        n = None if summary is None else sum(run.arm == arm for run in result.runs)
        note = f"n = {summary.n}" if summary is not None and summary.n != n else ""
        line.append(None if summary is None else Cell(_mean_sd(summary, digits), note=note))
    if compared:
        tests = [row.as_published, row.recommended, row.ranks]
        for test in tests:
            if test is not None and test.method not in methods:
                methods.append(test.method)
        if len(result.arms) == 2:
            line.append(_difference(row, digits))
        line += [
            None if test is None else f"{format_p(test.p_value)} {_letter(methods, test.method)}"
            for test in (tests if len(result.arms) == 2 else tests[:2])
        ]
    return line


def _letter(methods: Sequence[str], method: str) -> str:
    return chr(ord("a") + methods.index(method) % 26)


def _difference(row: DosimetryRow, digits: int) -> Cell | str | None:
    if row.difference is None or row.interval is None:
        return Cell(None, note=row.reason) if row.reason else None
    low, high = row.interval
    return f"{row.difference:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})".replace("-", "−")
