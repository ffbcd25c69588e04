"""Reading a REDCap project: the exported records with their data dictionary."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cantlie.cohort.raw_tables import build_cohort, read_text
from cantlie.cohort.schema import EXTRA_PREFIX, TABLES
from cantlie.cohort.tables import Cohort
from cantlie.cohort.validation import InvalidCohort, Problem, RawTable
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_file

_FIELD, _FORM, _TYPE = "Variable / Field Name", "Form Name", "Field Type"
_CHOICES = "Choices, Calculations, OR Slider Labels"
_IDENTIFIER = "Identifier?"
_ADMINISTRATIVE = (
    "redcap_event_name",
    "redcap_repeat_instrument",
    "redcap_repeat_instance",
    "redcap_data_access_group",
)


def redcap_export(folder: Path) -> tuple[Path, Path, Path | None] | None:
    """Return records, data dictionary and mapping of a folder that holds a REDCap export, or None for another folder.

    The dictionary is known by its columns; the only other CSV file holds the records, the only TOML file the mapping.

    Raises
    ------
    CohortError
        If a dictionary lies beside no or several files that may be the records.
    """
    tables = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".csv")
    dictionary = next((file for file in tables if _is_dictionary(file)), None)
    if dictionary is None:
        return None
    records = [file for file in tables if file != dictionary]
    if len(records) != 1:
        raise CohortError(
            f"beside the REDCap dictionary lie {len(records)} CSV files, and which holds the records is not clear",
            where=dictionary.name,
            remedy="keep the exported records and the data dictionary alone in the folder",
        )
    mappings = sorted(folder.glob("*.toml"))
    return records[0], dictionary, mappings[0] if len(mappings) == 1 else None


def _is_dictionary(file: Path) -> bool:
    with file.open("rb") as stream:
        return _FIELD.encode() in stream.readline(4096)


def read_redcap(
    records: Path,
    dictionary: Path,
    *,
    mapping: Path | None = None,
    label: str = "",
    extra_columns: Mapping[str, frozenset[str]] | None = None,
) -> Cohort:
    """Read a REDCap export (raw values, CSV) with its data dictionary.

    A field goes to the table of its form (form ``labs`` to table ``labs``) and to the column of its name, less the name
    of the form as a prefix (``labs_value`` to ``value``). A mapping in TOML overrides this, one line for each field:
    ``field = "table.column"``, or ``field = ""`` to leave it out. Codes of choices become their labels.

    Parameters
    ----------
    records, dictionary
        CSV files exported by REDCap.
    mapping
        TOML file with a table ``[fields]``.
    extra_columns
        As in `importing.read_cohort`.

    Raises
    ------
    CohortError
        If a file is wrong or a rule of the cohort is broken; row and column are those of ``records``.
    """
    records, dictionary = Path(records), Path(dictionary)
    fields = _read_dictionary(dictionary)
    overrides = _read_mapping(mapping)
    header, rows, numbers = _read_records(records)
    id_field = header[0]
    targets: dict[str, tuple[str, str]] = {}
    notes: list[Note] = []
    for name in header[1:]:
        base = name.split("___", 1)[0]
        if name in _ADMINISTRATIVE or name.endswith("_complete"):
            continue
        if base not in fields and name not in overrides:
            raise InvalidCohort(
                [
                    Problem(
                        records.name,
                        1,
                        name,
                        "unknown-column",
                        f"the field is not in the data dictionary {dictionary.name}",
                        "export records and dictionary from the same project",
                    )
                ]
            )
        target = _target(name, fields.get(base, {}), overrides)
        if target is None:
            notes.append(Note("the field has no place in the tables of a cohort and was not read", f"field {name}"))
        else:
            targets[name] = target
    raw = _distribute(records.name, header, rows, numbers, id_field, targets, fields)
    sources = {file.name: sha256_of_file(file) for file in (records, dictionary)}
    return build_cohort(raw, label or records.stem, sources=sources, notes=tuple(notes), extra=extra_columns)


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    try:
        return [(reader.line_num, record) for record in reader if any(cell.strip() for cell in record)]
    except csv.Error as error:
        raise CohortError(f"not a CSV file: {error}", where=file.name, remedy="export it from REDCap again") from error


def _read_dictionary(file: Path) -> dict[str, dict[str, str]]:
    rows = _rows(file)
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    for needed in (_FIELD, _FORM, _TYPE):
        if needed not in header:
            raise InvalidCohort(
                [
                    Problem(
                        file.name,
                        1,
                        needed,
                        "missing-column",
                        "not a REDCap data dictionary: a column is missing",
                        "export the data dictionary as CSV",
                    )
                ]
            )
    return {
        entry[_FIELD]: entry
        for _, cells in rows[1:]
        for entry in [dict(zip(header, [cell.strip() for cell in cells], strict=False))]
    }


def _read_mapping(file: Path | None) -> Mapping[str, str]:
    if file is None:
        return {}
    try:
        fields = tomllib.loads(read_text(Path(file))).get("fields", {})
    except tomllib.TOMLDecodeError as error:
        raise CohortError(f"the mapping is not TOML: {error}", where=str(file), remedy="correct the line") from error
    for field, target in fields.items():
        table, _, column = str(target).partition(".")
        if target and (table not in TABLES or not column):
            raise CohortError(
                f"{field} is mapped to {target!r}, which is no table.column", where=str(file),
                remedy=f"tables: {', '.join(TABLES)}",
            )  # fmt: skip
    return fields


def _read_records(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    rows = _rows(file)
    if not rows:
        raise InvalidCohort([Problem(file.name, None, "", "empty-file", "the file is empty", "export the records")])
    header = [cell.strip() for cell in rows[0][1]]
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise InvalidCohort(
                [
                    Problem(
                        file.name,
                        number,
                        "",
                        "ragged-row",
                        f"the row has {len(cells)} cells, the header {len(header)}",
                        "export the records again",
                    )
                ]
            )
    return header, [cells for _, cells in rows[1:]], [number for number, _ in rows[1:]]


def _target(name: str, field: Mapping[str, str], overrides: Mapping[str, str]) -> tuple[str, str] | None:
    if name in overrides:
        table, _, column = overrides[name].partition(".")
        return (table, column) if table else None
    if field.get(_IDENTIFIER, "").lower() == "y" or field.get(_TYPE) in ("descriptive", "file", "notes", "calc"):
        return None
    form = field.get(_FORM, "")
    if form not in TABLES:
        return None
    column = name.removeprefix(f"{form}_")
    if TABLES[form].column(column) is not None or column.startswith(EXTRA_PREFIX):
        return form, column
    return None


def _choices(field: Mapping[str, str]) -> dict[str, str]:
    if field.get(_TYPE) == "yesno":
        return {"1": "yes", "0": "no"}
    if field.get(_TYPE) not in ("radio", "dropdown", "truefalse"):
        return {}
    pairs = (choice.partition(",") for choice in field.get(_CHOICES, "").split("|") if "," in choice)
    return {code.strip(): text.strip() for code, _, text in pairs}


def _distribute(
    file: str,
    header: list[str],
    rows: list[list[str]],
    numbers: list[int],
    id_field: str,
    targets: Mapping[str, tuple[str, str]],
    fields: Mapping[str, Mapping[str, str]],
) -> list[RawTable]:
    position = {name: index for index, name in enumerate(header)}
    instrument = position.get("redcap_repeat_instrument")
    choices = {name: _choices(fields.get(name, {})) for name in targets}
    by_table: dict[str, list[str]] = {}
    for name, (table, _) in targets.items():
        by_table.setdefault(table, []).append(name)
    raw = []
    for table, names in by_table.items():
        cells, lines = [], []
        for record, number in zip(rows, numbers, strict=True):
            form = record[instrument].strip() if instrument is not None else ""
            forms = {fields.get(name, {}).get(_FORM, "") for name in names}
            if form and form not in forms:
                continue
            values = {}
            for name in names:
                text = record[position[name]].strip()
                values[targets[name][1]] = choices[name].get(text, text)
            if not any(values.values()):
                continue
            cells.append({"patient_id": record[position[id_field]].strip(), **values})
            lines.append(number)
        if cells:
            frame = pd.DataFrame(cells, dtype=object)
            raw.append(RawTable(table, file, frame, np.array(lines, dtype=int)))
    if not any(table.name == "patients" for table in raw):
        ids: dict[str, int] = {}
        for record, number in zip(rows, numbers, strict=True):
            ids.setdefault(record[position[id_field]].strip(), number)
        frame = pd.DataFrame({"patient_id": list(ids)}, dtype=object)
        raw.append(RawTable("patients", file, frame, np.array(list(ids.values()), dtype=int)))
    return raw
