"""CSV as spreadsheets write it: comma, semicolon or tab, a ``sep=`` line, empty rows and columns, decimal commas."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from cantlie.core.errors import InputError

SEPARATORS = ",;\t"
_SEP_LINE = re.compile(r"sep=([,;\t])", re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[-+−]?(\d{1,3}(\.\d{3})+|\d+),\d+")
_POINTED_THOUSANDS = re.compile(r"[-+−]?\d{1,3}(\.\d{3})+")


class SheetError(InputError):
    """A file that is no table; ``rule`` and ``line`` say which rule it breaks and where."""

    def __init__(self, rule: str, what: str, file: str, line: int | None, remedy: str) -> None:
        super().__init__(what, where=file if line is None else f"{file}, row {line}", remedy=remedy)
        self.rule = rule
        self.line = line


@dataclass(frozen=True, slots=True)
class Sheet:
    """The cells of a CSV file as text without blanks around them.

    Parameters
    ----------
    header
        The cells of the first row that is not empty.
    rows
        The rows below it that are not empty, each as long as the header.
    lines
        The line of the file on which each row ends.
    decimal_comma
        Whether numbers have a decimal comma: cells are separated otherwise and at least one is such a number.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    decimal_comma: bool = False


def read_sheet(text: str, where: str) -> Sheet:
    """Split a CSV file into cells.

    A byte order mark, a line ``sep=;``, empty rows and columns without a name or a value are passed over. The separator
    is that of comma, semicolon and tab which occurs most often in the header.

    Parameters
    ----------
    where
        The file, for messages.

    Raises
    ------
    SheetError
        If it is not CSV, has no header, or a row is not as long as the header.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    first = next((line for line in text.split("\n") if line.strip()), "")
    told = _SEP_LINE.fullmatch(first.strip(" \n"))
    separator = told[1] if told else max(SEPARATORS, key=first.count)
    # strict: a quotation mark that is not closed would swallow the rows below it
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found: list[tuple[int, tuple[str, ...]]] = []
    try:
        for number, record in enumerate(reader):
            cells = tuple(cell.strip() for cell in record)
            if not any(cells) or (told and not found and number <= text.split("\n").index(first)):
                continue
            found.append((reader.line_num, cells))
    except csv.Error as problem:
        what = f"a quotation mark is not closed, or not at the end of its cell ({problem})"
        if '"' not in text:
            what = f"not a CSV file: {problem}"
        remedy = "double the quotation marks within a cell, and save it as CSV UTF-8"
        raise SheetError("not-csv", what, where, reader.line_num, remedy) from problem
    if not found:
        raise SheetError("empty-file", "the file is empty", where, None, "add a header and rows")
    width = len(found[0][1])
    while width and not any(len(cells) >= width and cells[width - 1] for _, cells in found):
        width -= 1
    header = found[0][1][:width]
    rows, lines = [], []
    for line, cells in found[1:]:
        if any(cells[width:]) or len(cells) < width:
            what = f"the row has {len(cells)} {'cell' if len(cells) == 1 else 'cells'}, the header {width}"
            raise SheetError("ragged-row", what, where, line, "put quotes around a cell that holds the separator")
        rows.append(cells[:width])
        lines.append(line)
    decimal_comma = separator != "," and any(_COMMA_NUMBER.fullmatch(cell) for row in rows for cell in row)
    return Sheet(header, tuple(rows), tuple(lines), decimal_comma)


def number_of(text: str, decimal_comma: bool = False) -> float:
    """Return a cell as a number, in a file with decimal commas also ``1.234,5``.

    Raises
    ------
    ValueError
        If it is not a number, or ``1.234`` in a file with decimal commas may as well mean 1234.
    """
    text = text.strip()
    if decimal_comma:
        if _POINTED_THOUSANDS.fullmatch(text):
            raise ValueError(f"{text!r} may be a thousand or a fraction in a file with decimal commas")
        if _COMMA_NUMBER.fullmatch(text):
            text = text.replace(".", "").replace(",", ".")
    return float(text.replace("−", "-"))
