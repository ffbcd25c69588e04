"""Reading a cohort: a folder of CSV files, an Excel workbook, or a REDCap export."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cantlie.cohort.raw_tables import build_cohort, read_csv_table, with_names
from cantlie.cohort.redcap import read_redcap, redcap_export
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort
from cantlie.cohort.validation import InvalidCohort, Problem, RawTable
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_file

SYNTHETIC_MARK = "SYNTHETIC.txt"
"""A folder that holds this file is a synthetic cohort."""


def read_cohort(path: Path, *, label: str = "", extra_columns: Mapping[str, frozenset[str]] | None = None) -> Cohort:
    """Read and validate a cohort: a folder of ``<table>.csv`` files, an Excel workbook with a sheet per table, or a
    folder with the exported records and the data dictionary of a REDCap project (see `redcap`).

    Parameters
    ----------
    path
        Folder, or ``.xlsx`` file.
    label
        Name in outputs; by default the name of the folder or file.
    extra_columns
        By table, names of columns beyond the schema that are kept (a study declares them); columns that begin with
        ``x_`` are always kept.

    Raises
    ------
    CohortError
        With file, row, column and rule of the first problem; ``InvalidCohort.problems`` lists all.
    """
    path = Path(path)
    if path.is_dir():
        if (export := redcap_export(path)) is not None:
            records, dictionary, mapping = export
            return read_redcap(
                records, dictionary, mapping=mapping, label=label or path.resolve().name, extra_columns=extra_columns
            )
        raw, notes, sources = _read_folder(path)
        synthetic = (path / SYNTHETIC_MARK).is_file()
    elif path.suffix.lower() in (".xlsx", ".xlsm"):
        raw, notes = _read_workbook(path)
        sources, synthetic = {path.name: sha256_of_file(path)}, False
    elif not path.exists():
        raise CohortError("there is no such file or folder", where=str(path), remedy="give a folder of CSV files")
    else:
        raise CohortError(
            "not a cohort", where=str(path), remedy="give a folder of CSV files, an .xlsx workbook or a REDCap export"
        )
    return build_cohort(
        raw, label or path.resolve().stem, synthetic=synthetic, sources=sources, notes=notes, extra=extra_columns
    )


def _read_folder(folder: Path) -> tuple[list[RawTable], tuple[Note, ...], dict[str, str]]:
    raw, notes, sources = [], [], {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in (".csv", ".tsv"):
            continue
        name = file.stem.lower()
        if name not in TABLES:
            near = difflib.get_close_matches(name, list(TABLES), n=1)
            if near and name not in ("index", "readme"):
                raise InvalidCohort(
                    [
                        Problem(
                            file.name,
                            None,
                            "",
                            "unknown-table",
                            f"no table is called {name!r}",
                            f"did you mean {near[0]}.csv? Tables: {', '.join(TABLES)}",
                        )
                    ]
                )
            notes.append(Note("the file is not a table of a cohort and was not read", file.name))
            continue
        raw.append(read_csv_table(file, name))
        sources[file.name] = sha256_of_file(file)
    return raw, tuple(notes), sources


def _read_workbook(path: Path) -> tuple[list[RawTable], tuple[Note, ...]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except (OSError, InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CohortError(
            "the file is not an Excel workbook", where=path.name, remedy="save it as .xlsx or as CSV files"
        ) from error
    raw, notes = [], []
    try:
        for sheet in workbook.worksheets:
            name = sheet.title.strip().lower()
            place = f"{path.name}, sheet {sheet.title}"
            if name not in TABLES:
                notes.append(Note("the sheet is not a table of a cohort and was not read", place))
                continue
            header: list[str] = []
            records, rows = [], []
            for number, record in enumerate(sheet.iter_rows(values_only=True), start=1):
                cells = [_cell_text(value) for value in record]
                if not any(cells):
                    continue
                if not header:
                    while cells and not cells[-1]:
                        cells.pop()
                    header = cells
                else:
                    if any(cells[len(header) :]):
                        raise InvalidCohort(
                            [
                                Problem(
                                    place,
                                    number,
                                    "",
                                    "ragged-row",
                                    "the row is longer than the header",
                                    "name the column or remove the cell",
                                )
                            ]
                        )
                    records.append((cells + [""] * len(header))[: len(header)])
                    rows.append(number)
            if header:
                frame = pd.DataFrame(records, columns=pd.Index(header), dtype=object)
                raw.append(with_names(RawTable(name, place, frame, np.array(rows, dtype=int))))
    finally:
        workbook.close()
    return raw, tuple(notes)


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
