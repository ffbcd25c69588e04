"""The page: summary, chapters with tables and figures, in Markdown beside a CSV."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np

import cantlie
from cantlie.core.files import write_bytes, write_text

from .rows import Chapter, Row, table_csv


def write(chapters: Sequence[Chapter], out: Path, *, complete: bool) -> None:
    """Write index.md, validation.csv and the figures."""
    for chapter in chapters:
        for name, (content, _) in chapter.figures.items():
            write_bytes(out / f"{name}.svg", content)
    write_text(out / "validation.csv", table_csv(row for chapter in chapters for row in chapter.rows))
    write_text(out / "index.md", _text(chapters, complete))


def _text(chapters: Sequence[Chapter], complete: bool) -> str:
    lines = [
        "# Validation of the dose engine and the planner",
        "",
        "Research use only. This page, its figures and [validation.csv](validation.csv) are written by "
        "`make validate` (`benchmarks/validate.py`); nothing on it is entered by hand. Deviations are engine minus "
        "reference. Numbers in brackets are standard uncertainties by the noise of a Monte Carlo reference; "
        "two of them "
        "widen a limit. A number without a limit is reported only. How the engine works: "
        "[dose.md](../explanation/dose.md).",
        "",
    ]
    if not complete:
        lines += [
            "**This run had no folder of Monte Carlo oracles: the DICOM cases and the 3-D sets are missing.**",
            "",
        ]
    lines += ["## Summary", "", "| chapter | pass | fail | reported | s |", "|---|---:|---:|---:|---:|"]
    for chapter in chapters:
        passed, failed, reported = chapter.count()
        lines.append(
            f"| [{chapter.title}](#{chapter.key}) | {passed} | {failed} | {reported} | {chapter.seconds:.0f} |"
        )
    counts = np.sum([chapter.count() for chapter in chapters], axis=0)
    seconds = sum(chapter.seconds for chapter in chapters)
    lines.append(f"| **all** | **{counts[0]}** | **{counts[1]}** | **{counts[2]}** | **{seconds:.0f}** |")
    lines += ["", "### What fails", ""]
    failed = [row for chapter in chapters for row in chapter.rows if row.passed is False]
    if failed:
        lines += ["| what | found | limit | remark |", "|---|---|---|---|"]
        lines += [f"| {row.what} | {row.found_text} | {row.limit_text} | {row.note or '–'} |" for row in failed]
    else:
        lines.append("Nothing.")
    lines += [
        "",
        f"Cantlie {cantlie.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, Numba "
        f"{numba.__version__}, {platform.machine()}.",
        "",
    ]
    for chapter in chapters:
        lines += _chapter(chapter)
    return "\n".join(lines).rstrip() + "\n"


def _chapter(chapter: Chapter) -> list[str]:
    lines = [f'<a id="{chapter.key}"></a>', "", f"## {chapter.title}", "", chapter.introduction, ""]
    lines += ["| what | found | limit | verdict | how measured |", "|---|---:|---:|---|---|"]
    lines += [_line(row) for row in chapter.rows]
    lines.append("")
    for name, (_, caption) in chapter.figures.items():
        lines += [f"![{caption}]({name}.svg)", "", f"*{caption}*", ""]
    for remark in chapter.remarks:
        lines += [remark, ""]
    return lines


def _line(row: Row) -> str:
    verdict = f"**{row.verdict}**" if row.passed is False else row.verdict
    how = row.how + (f". *{row.note}*" if row.note else "")
    return f"| {row.what} | {row.found_text} | {row.limit_text} | {verdict} | {how} |"
