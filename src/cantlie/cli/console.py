"""What the user sees: progress on the error stream, results on the output stream, problems in one sentence."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cantlie.core.progress import Progress, silent

_SAME_STAGE_S = 5.0
_STEP = re.compile(r",.*|\d+")  # what changes from step to step of one stage: numbers and what follows a comma


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """Print a line beside the result: progress, warnings, problems."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Print a result for machines."""
    from cantlie.core.files import json_text

    sys.stdout.write(json_text(value))


def say_table(columns: list[str], rows: list[list[str]], *, title: str = "") -> None:
    """Print a table; numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False, box=None)
    for n, column in enumerate(columns):
        cells = [row[n] for row in rows if row[n]]
        numeric = bool(cells) and all(cell.lstrip("-–<>≤≥ ")[:1].isdigit() for cell in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        style = "red" if "fail" in row else None
        table.add_row(*(escaped(cell) for cell in row), style=style)
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def escaped(text: str) -> str:
    """Return a text that rich prints as it is."""
    return text.replace("[", "\\[")


@contextmanager
def progress_shown(title: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Show how far the work is: a bar with stage and time left on a terminal, a line per stage elsewhere."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar(title) as progress:
            yield progress
    else:
        yield _stage_lines()


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn(title),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def report(fraction: float, message: str = "") -> None:
            bar.update(task, completed=fraction, description=escaped(message) if message else None)

        yield report


def _stage_lines() -> Progress:
    start = time.monotonic()
    last, shown, shown_at = "", "", start

    def report(fraction: float, message: str = "") -> None:
        nonlocal last, shown, shown_at
        now = time.monotonic()
        stage = _STEP.sub("", message)
        if not message or message == last or (stage == shown and now - shown_at < _SAME_STAGE_S):
            return
        last, shown, shown_at = message, stage, now
        tell(f"{now - start:6.1f} s  {100 * fraction:3.0f} %  {message}")

    return report
