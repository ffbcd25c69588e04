"""A printed table, read as it stands: rows of cells between bars, or a CSV file."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field

from cantlie.core.errors import ProtocolError
from cantlie.study.audit.cells import Cell, read_cell
from cantlie.study.audit.printed import Printed, read_p

_P_NAMES = re.compile(r"(?i)^\s*p\s*(?:-?\s*val(?:ue)?s?)?\s*[*†‡a-z]?\s*$")
_TOTAL_NAMES = re.compile(r"(?i)^\s*(all|total|overall|entire|whole)\b")
_SKIP_NAMES = re.compile(r"(?i)^\s*(test|statistic|chi.?2?|χ2?|χ²|t|z|smd|missing|level|unit)\s*$")
_HEADER_N = re.compile(r"(?i)\bn\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Group:
    """One column of patients: its name as printed and how many patients it holds (0 when not printed)."""

    name: str
    size: int
    is_total: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its label, one cell per group, its p-value if it has one."""

    label: str
    cells: tuple[Cell, ...]
    p: Printed | None
    p_text: str
    line: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a table: its levels, or one row of means, with the p-value that belongs to it."""

    name: str
    rows: tuple[Row, ...]
    p: Printed | None
    p_text: str
    line: int
    independent: bool = False


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """A table understood: its groups and its variables in the printed order."""

    groups: tuple[Group, ...]
    variables: tuple[Variable, ...]
    unread: tuple[tuple[int, str, str], ...] = field(default=())

    def rows_named(self) -> dict[str, Row]:
        """Return the rows by label (the first of each label)."""
        named: dict[str, Row] = {}
        for variable in self.variables:
            for row in variable.rows:
                named.setdefault(row.label, row)
        return named


@dataclass(slots=True)
class RawRow:
    """One row as text: its label, whether it is indented, its other cells, its line."""

    label: str
    indented: bool
    cells: list[str]
    line: int


def read_table(
    text: str,
    *,
    sizes: dict[str, int] | None = None,
    where: str = "",
    first_line: int = 1,
    independent: bool = False,
    alpha: float = 0.05,
) -> PrintedTable:
    """Read a table whose cells are divided by ``|``, or a CSV text (with commas, semicolons or tabs).

    The first line names the columns. A column named ``p`` holds p-values; a column named ``total``, ``all`` or
    ``overall`` holds the sum of the groups; every other column is a group. Group sizes come from ``sizes`` or from
    the header (``A (n=34)``). A row without cells opens a variable; the rows below it, indented or without a p of
    their own, are its levels.

    Parameters
    ----------
    text
        The table.
    sizes
        Patients per group, by column name.
    where, first_line
        The file and line for messages.
    independent
        Every row is a yes/no item of its own, not a level of the variable above.
    alpha
        The level for a printed ``NS``.

    Raises
    ------
    ProtocolError
        With line and column, if the table cannot be read.
    """
    rows = split_rows(text, where, first_line)
    if len(rows) < 2:
        raise ProtocolError("the table has no rows", where=_at(where, first_line), remedy="write one line per row")
    header, body = rows[0], rows[1:]
    roles = _column_roles(header, sizes or {}, where)
    groups = tuple(role for role in roles if isinstance(role, Group))
    if not groups:
        raise ProtocolError(
            "the table has no column of patients",
            where=_at(where, header.line),
            remedy="name the columns in its first line",
        )
    unread: list[tuple[int, str, str]] = []
    parsed: list[tuple[RawRow, Row]] = []
    heading = ""
    for raw in body:
        if len(raw.cells) > len(roles):
            raise ProtocolError(
                f"the row '{raw.label}' has {len(raw.cells) + 1} cells but the table has {len(roles) + 1} columns",
                where=_at(where, raw.line),
                remedy="divide cells by one bar (or comma) each",
            )
        cells: list[Cell] = []
        p: Printed | None = None
        p_text = ""
        if not any(cell.strip() for cell in raw.cells):
            heading = raw.label
        for role, cell in zip(roles, [*raw.cells, *[""] * (len(roles) - len(raw.cells))], strict=True):
            if isinstance(role, Group):
                cells.append(read_cell(cell, label=f"{heading} {raw.label}" if raw.indented else raw.label))
                if cells[-1].kind == "text":
                    unread.append((raw.line, raw.label, cell.strip()))
            elif role == "p" and cell.strip().strip("-–—"):
                p_text = cell.strip()
                try:
                    p = read_p(re.sub(r"[*†‡]+$|(?<=\d)[a-z]$", "", p_text), alpha)
                except ValueError as error:
                    raise ProtocolError(
                        str(error),
                        where=f"{_at(where, raw.line)}, row '{raw.label}', column p",
                        remedy="write it as printed",
                    ) from error
        parsed.append((raw, Row(raw.label, tuple(cells), p, p_text, raw.line)))
    return PrintedTable(groups, tuple(_group_rows(parsed, independent)), tuple(unread))


def _group_rows(parsed: list[tuple[RawRow, Row]], independent: bool) -> list[Variable]:
    """Put rows below the headings they belong to."""
    any_indent = any(raw.indented for raw, _ in parsed)
    variables: list[Variable] = []
    index = 0
    while index < len(parsed):
        _, row = parsed[index]
        index += 1
        if any(cell.kind != "empty" for cell in row.cells):
            variables.append(Variable(row.label, (row,), row.p, row.p_text, row.line))
            continue
        members: list[Row] = []
        while index < len(parsed):
            raw, member = parsed[index]
            if all(cell.kind == "empty" for cell in member.cells) or (any_indent and not raw.indented):
                break
            if not any_indent and members and _starts_anew(row, members, member):
                break
            members.append(member)
            index += 1
        with_p = [member for member in members if member.p is not None]
        if members and (independent or len(with_p) > 1):
            variables += [
                Variable(f"{row.label}: {member.label}", (member,), member.p, member.p_text, member.line, True)
                for member in members
            ]
            continue
        source = row if row.p is not None or not with_p else with_p[0]
        if members:
            variables += _divide_by_kind(row, members, source)
    return variables


def _starts_anew(heading: Row, members: list[Row], member: Row) -> bool:
    """Without indents: does this row stand for itself rather than below the heading?"""
    kinds = {cell.kind for cell in member.cells} - {"empty"}
    if "count" not in kinds and any(cell.kind == "count" for cell in members[-1].cells):
        return True
    if member.p is None:
        return False
    all_have_p = heading.p is None and all(earlier.p is not None for earlier in members)
    return not all_have_p and any(earlier.p is not None for earlier in [heading, *members])


def _divide_by_kind(heading: Row, members: list[Row], source: Row) -> list[Variable]:
    """Counts below a heading are its levels; rows of means, medians or numbers stand for themselves."""
    levels = [member for member in members if any(cell.kind == "count" for cell in member.cells)]
    others = [member for member in members if member not in levels]
    found: list[Variable] = []
    if levels:
        found.append(Variable(heading.label, tuple(levels), source.p, source.p_text, heading.line))
    for member in others:
        own = member if member.p is not None or levels else source
        found.append(Variable(f"{heading.label}: {member.label}", (member,), own.p, own.p_text, member.line))
    return found


def split_rows(text: str, where: str = "", first_line: int = 1) -> list[RawRow]:
    """Cut a table into rows of text cells, by bars or as CSV, with the line of each row."""
    rows: list[RawRow] = []
    if "|" in text.split("\n", 2)[0] or "|" in text.strip().split("\n", 1)[0]:
        for offset, line in enumerate(text.splitlines()):
            stripped = line.strip().strip("|")
            if not stripped.strip() or re.fullmatch(r"[\s|:+-]+", line):
                continue
            pieces = line.strip().strip("|").split("|") if line.strip().startswith("|") else line.split("|")
            label = pieces[0]
            indented = label[:1] in (" ", "\t") and label.strip() != "" and not line.strip().startswith("|")
            rows.append(RawRow(label.strip(), indented, pieces[1:], first_line + offset))
        return rows
    try:
        first = text.lstrip("\n").split("\n", 1)[0]
        divider = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text), strict=True, delimiter=divider)
        for pieces in reader:
            if not any(piece.strip() for piece in pieces):
                continue
            label = pieces[0]
            rows.append(RawRow(label.strip(), label[:1] in (" ", "\t"), pieces[1:], first_line + reader.line_num - 1))
    except csv.Error as error:
        raise ProtocolError(
            f"the table is no valid CSV: {error}", where=where, remedy="quote cells that hold commas"
        ) from error
    return rows


def _column_roles(header: RawRow, sizes: dict[str, int], where: str) -> list[Group | str]:
    roles: list[Group | str] = []
    names: set[str] = set()
    for cell in header.cells:
        name = cell.strip()
        if _P_NAMES.match(name):
            roles.append("p")
        elif _SKIP_NAMES.match(name) or not name:
            roles.append("skip")
        else:
            bare = re.sub(r"[\(\[]?\s*\b[nN]\s*=\s*\d+\s*[\)\]]?", "", name).strip(" ,") or name
            match = _HEADER_N.search(name)
            size = sizes.get(name, sizes.get(bare, int(match.group(1)) if match else 0))
            if bare in names:
                raise ProtocolError(
                    f"two columns are named '{bare}'", where=_at(where, header.line), remedy="name them apart"
                )
            names.add(bare)
            roles.append(Group(bare, size, bool(_TOTAL_NAMES.match(bare))))
    unknown = [name for name in sizes if name not in names]
    if unknown:
        raise ProtocolError(
            f"groups names a column '{unknown[0]}' that the table does not have",
            where=_at(where, header.line),
            remedy=f"the columns are {', '.join(sorted(names))}",
        )
    return roles


def _at(where: str, line: int) -> str:
    return f"{where}, line {line}" if where else f"line {line}"
