"""A cohort in memory: its tidy tables, where they came from, and what was remarked on reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cantlie.cohort.schema import TABLES, Column, Table
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_bytes

SYNTHETIC = "SYNTHETIC"


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Validated tables of a cohort.

    Parameters
    ----------
    tables
        DataFrames by table name (``cantlie.cohort.schema.TABLES``), with typed columns: dates are ``datetime64``,
        numbers ``float64`` with NaN where missing, all else ``object`` with None where missing.
    label
        Name of the cohort in outputs.
    synthetic
        True when the patients do not exist; every output says so.
    sources
        SHA-256 of each file read, by file name.
    """

    tables: Mapping[str, pd.DataFrame]
    label: str = "cohort"
    synthetic: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def table(self, name: str) -> pd.DataFrame:
        """Return a table; one that was not given is empty but has all its columns."""
        if name in self.tables:
            return self.tables[name]
        if name not in TABLES:
            raise CohortError(f"no table is called {name!r}", where="cohort", remedy=f"tables: {', '.join(TABLES)}")
        return empty_table(TABLES[name])

    @property
    def patients(self) -> pd.DataFrame:
        """The patients, one row each."""
        return self.table("patients")

    def __len__(self) -> int:
        return len(self.patients)

    def select(self, patient_ids: pd.Index | list[str] | set[str]) -> Cohort:
        """Return the cohort of these patients only."""
        wanted = set(patient_ids)
        tables = {
            name: frame[frame["patient_id"].isin(wanted)].reset_index(drop=True) for name, frame in self.tables.items()
        }
        return Cohort(tables, self.label, self.synthetic, dict(self.sources), self.notes)

    def sha256(self) -> str:
        """Return a hash of all values, independent of the order of tables and of columns without any value.

        So the hash stays the same when a later schema has more columns.
        """
        filled = {name: self.tables[name].dropna(axis=1, how="all") for name in TABLES if name in self.tables}
        parts = [
            f"{name}\n{frame.to_csv(index=False, date_format='%Y-%m-%d')}".encode() for name, frame in filled.items()
        ]
        return sha256_of_bytes(*parts)


def empty_series(column: Column, length: int = 0) -> pd.Series:
    """Return a column without values in the type of its kind."""
    if column.kind == "date":
        return pd.Series(np.full(length, np.datetime64("NaT"), dtype="datetime64[ns]"), name=column.name)
    if column.kind in ("number", "integer", "flag"):
        return pd.Series(np.full(length, np.nan), name=column.name)
    return pd.Series([None] * length, dtype=object, name=column.name)


def empty_table(table: Table) -> pd.DataFrame:
    """Return a table without rows."""
    return pd.DataFrame({column.name: empty_series(column) for column in table.columns})


def typed_table(table: Table, rows: pd.DataFrame | list[dict[str, object]]) -> pd.DataFrame:
    """Return rows of Python values as a typed table with all columns (no validation; for values made by Cantlie)."""
    frame = pd.DataFrame(rows)
    columns: dict[str, pd.Series] = {}
    for column in table.columns:
        if column.name not in frame:
            columns[column.name] = empty_series(column, len(frame))
        elif column.kind == "date":
            columns[column.name] = pd.to_datetime(frame[column.name]).astype("datetime64[ns]")
        elif column.kind in ("number", "integer", "flag"):
            columns[column.name] = pd.to_numeric(frame[column.name]).astype(float)
        else:
            text = frame[column.name].astype(object)
            columns[column.name] = text.where(text.notna(), None)
    for name in frame:
        if name not in columns:
            columns[str(name)] = frame[name]
    return pd.DataFrame(columns)
