"""Help to write claims: a claims file made from a CSV table, with a template for everything else a paper prints."""

from __future__ import annotations

import re
from pathlib import Path

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.table import PrintedTable, read_table, split_rows

TEMPLATE = """
# ---- what else the paper prints: remove the # where it applies, fill in, repeat as often as needed ----
# Write numbers with the digits of the paper (12.0, not 12); p-values that begin with a point or a sign in quotes.

# [[proportion]]            # a percentage in the text
# place = "Results"
# what = "objective response"
# count = 10
# of = 19
# percent = 52.6

# [[total]]                 # parts and their sum
# place = "Results"
# what = "causes of death"
# parts = [13, 1, 1, 1]
# total = 16

# [[quantity]]              # the same fact in several places
# what = "median follow-up (months)"
# stated = [{ place = "Abstract", value = "21.4" }, { place = "Results", value = "21.4" }]

# [[survival]]              # one endpoint in one group; times in months, rates in percent
# place = "Results"
# endpoint = "OS"
# group = "all"
# n = 36
# median = 20.4
# ci = [6.6, 34.2]
# rates = { "12" = 59.6, "24" = 44.2 }

# [[ratio]]                 # hazard, odds or risk ratio
# place = "Table 2"
# what = "brain metastasis"
# estimate = 1.647
# ci = [1.217, 2.229]
# p = 0.001

# [[comparison]]            # a p-value in the text; without counts or means it is listed as not recomputable
# place = "Results"
# what = "response"
# p = "0.903"
# counts = [[16, 16], [16, 17]]

# [[fractionation]]
# place = "Methods"
# total = 42
# fractions = 3
# bed = 100.8

# [[constraint]]
# place = "Methods"
# structure = "stomach"
# metric = "Dmax"
# op = "<="
# limit = 40

# All kinds and fields: docs/reference/claims.md
"""


def claims_from_table(source: str | Path) -> str:
    """Make the text of a claims file from a CSV table, ready to be completed and audited.

    Parameters
    ----------
    source
        The path of a CSV file, or CSV text (anything that holds a line break).

    Raises
    ------
    ProtocolError
        If the table cannot be read, with the line.
    """
    text, name, place = _text_of(source)
    table = read_table(text, where=place)
    study = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "my-paper"
    lines = [
        f"# Claims made from {place}; complete them and run: cantlie study audit {study}.toml",
        f'id = "{study}"',
        '# tests = ["chi-square"]   # the tests that the paper names',
        "",
        "[citation]",
        'title = ""',
        'doi = ""',
        "",
        "[[table]]",
        f'place = "{_quoted(name)}"',
        *_groups(table),
        "rows = '''",
        *_bars(text),
        "'''",
    ]
    return "\n".join(lines) + "\n" + TEMPLATE


def _text_of(source: str | Path) -> tuple[str, str, str]:
    if isinstance(source, str) and "\n" in source:
        return source, "table", "the given table"
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8-sig"), path.stem, path.name
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ProtocolError(f"cannot read the table: {reason}", where=str(source), remedy="give a CSV file") from error


def _groups(table: PrintedTable) -> list[str]:
    inner = ", ".join(f'"{_quoted(group.name)}" = {group.size}' for group in table.groups)
    if all(group.size for group in table.groups):
        return [f"groups = {{ {inner} }}"]
    return [
        "# Fill in the patients of every column and remove the # (0 stands where the table does not print them):",
        f"# groups = {{ {inner} }}",
    ]


def _bars(text: str) -> list[str]:
    rows = split_rows(text)
    header = rows[0]
    opening = {row.line for row in rows if not any(cell.strip() for cell in row.cells)}
    below = False
    indented = any(row.indented for row in rows)
    cells: list[list[str]] = [[header.label or "item", *(_without_size(cell) for cell in header.cells)]]
    table = read_table(text)
    level_lines = {row.line for v in table.variables if len(v.rows) > 1 or v.independent for row in v.rows}
    for row in rows[1:]:
        below = row.indented if indented else row.line in level_lines and row.line not in opening
        cells.append([("  " if below else "") + row.label, *(cell.strip() for cell in row.cells)])
    width = max(len(row) for row in cells)
    padded = [[*row, *[""] * (width - len(row))] for row in cells]
    widths = [max(len(row[column]) for row in padded) for column in range(width)]
    return [
        " | ".join(cell.replace("|", "/").ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in padded
    ]


def _without_size(cell: str) -> str:
    return re.sub(r"[\(\[]?\s*\b[nN]\s*=\s*\d+\s*[\)\]]?", "", cell).strip(" ,") or cell.strip()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
