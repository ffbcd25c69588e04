"""The store of cohorts: an SQLite file (or PostgreSQL) with an audit trail; an import is whole or not at all."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from cantlie.cohort.schema import TABLES, Table
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.core.errors import CohortError
from cantlie.core.provenance import sha256_of_bytes

_METADATA = sa.MetaData()
_COHORTS = sa.Table(
    "cantlie_cohorts",
    _METADATA,
    sa.Column("label", sa.String(200), primary_key=True),
    sa.Column("synthetic", sa.Boolean, nullable=False),
    sa.Column("sources", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("saved_utc", sa.String(40), nullable=False),
)
_AUDIT = sa.Table(
    "cantlie_audit",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("who", sa.String(200), nullable=False),
    sa.Column("when_utc", sa.String(40), nullable=False),
    sa.Column("what", sa.String(40), nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("cohort_sha256", sa.String(64), nullable=False),
    sa.Column("chain_sha256", sa.String(64), nullable=False),
)


def _sql_table(table: Table) -> sa.Table:
    columns: list[sa.Column[Any]] = [
        sa.Column("cohort_label", sa.String(200), sa.ForeignKey("cantlie_cohorts.label"), primary_key=True),
        sa.Column("row_number", sa.Integer, primary_key=True),
    ]
    for column in table.columns:
        number = column.kind in ("number", "integer", "flag")
        columns.append(sa.Column(column.name, sa.Float if number else sa.Text))
    columns.append(sa.Column("extra", sa.Text))
    return sa.Table(f"cohort_{table.name}", _METADATA, *columns)


_SQL_TABLES = {name: _sql_table(table) for name, table in TABLES.items()}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit trail: who did what when, and the hash of the cohort after it."""

    number: int
    who: str
    when_utc: str
    what: str
    label: str
    detail: str
    cohort_sha256: str
    chain_sha256: str


class Store:
    """Cohorts kept in a database.

    Parameters
    ----------
    location
        Path of an SQLite file (made when it is not there), or a database URL (``postgresql+psycopg://...``).

    Raises
    ------
    CohortError
        If the database cannot be opened.
    """

    def __init__(self, location: Path | str) -> None:
        text = str(location)
        self._sqlite = "://" not in text
        self.location = text if self._sqlite else sa.make_url(text).render_as_string(hide_password=True)
        try:
            if self._sqlite:
                Path(text).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(f"sqlite:///{text}" if self._sqlite else text)
            if self._sqlite:
                sa.event.listen(self._engine, "connect", _configure_sqlite)
                sa.event.listen(self._engine, "begin", _begin_immediate)
            _METADATA.create_all(self._engine)
            self._add_new_columns()
        except ModuleNotFoundError as error:
            raise CohortError(
                f"the driver of the database is not installed: {error.name}", where=self.location,
                remedy=f"install {error.name}",
            ) from error  # fmt: skip
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise CohortError(
                f"the database cannot be opened: {_reason(error)}", where=self.location,
                remedy="check the path, the server and your rights",
            ) from error  # fmt: skip

    def _add_new_columns(self) -> None:
        """Give the tables of a store made by an earlier version the columns that the schema has now."""
        quote = self._engine.dialect.identifier_preparer.quote
        with self._engine.begin() as connection:
            there = sa.inspect(connection)
            for table in _SQL_TABLES.values():
                known = {column["name"] for column in there.get_columns(table.name)}
                for column in table.columns:
                    if column.name not in known:
                        kind = column.type.compile(self._engine.dialect)
                        connection.exec_driver_sql(
                            f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {kind}"
                        )

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise CohortError(
                f"the database refused: {_reason(error)}; nothing was changed", where=self.location,
                remedy="check the database and try again",
            ) from error  # fmt: skip

    def labels(self) -> list[str]:
        """Return the names of the cohorts, sorted."""
        with self._transaction() as connection:
            return sorted(connection.execute(sa.select(_COHORTS.c.label)).scalars())

    def save(self, cohort: Cohort, *, who: str = "", replace: bool = False) -> AuditEntry:
        """Write a cohort in one transaction: all of it, or nothing.

        Raises
        ------
        CohortError
            If a cohort of that name is there already and ``replace`` is not set, or the database refuses.
        """
        sha256 = cohort.sha256()
        with self._transaction() as connection:
            known = connection.execute(
                sa.select(_COHORTS.c.sha256).where(_COHORTS.c.label == cohort.label)
            ).scalar_one_or_none()
            if known is not None and not replace:
                raise CohortError(
                    f"a cohort is called {cohort.label!r} already",
                    where=self.location,
                    remedy="choose another name or replace it",
                )
            if known is not None:
                self._remove(connection, cohort.label)
            connection.execute(
                _COHORTS.insert().values(
                    label=cohort.label,
                    synthetic=cohort.synthetic,
                    sources=json.dumps(dict(cohort.sources)),
                    sha256=sha256,
                    saved_utc=_now(),
                )
            )
            counts = []
            for name, frame in cohort.tables.items():
                rows = _records(cohort.label, TABLES[name], frame)
                if rows:
                    connection.execute(_SQL_TABLES[name].insert(), rows)
                counts.append(f"{name} {len(rows)}")
            what = "save" if known is None else "replace"
            detail = ", ".join(counts) + ("" if known is None else f"; was {known}")
            return self._log(connection, who, what, cohort.label, detail, sha256)

    def load(self, label: str) -> Cohort:
        """Return a cohort, checked against the hash it was saved with.

        Raises
        ------
        CohortError
            If there is none of that name, or it was altered outside Cantlie.
        """
        with self._transaction() as connection:
            head = connection.execute(sa.select(_COHORTS).where(_COHORTS.c.label == label)).one_or_none()
            if head is None:
                raise CohortError(
                    f"no cohort is called {label!r}", where=self.location, remedy="see the names of those kept"
                )
            tables = {}
            for name, table in TABLES.items():
                sql = _SQL_TABLES[name]
                query = sa.select(sql).where(sql.c.cohort_label == label).order_by(sql.c.row_number)
                rows = [dict(row) for row in connection.execute(query).mappings()]
                if rows:
                    tables[name] = _frame(table, rows)
        cohort = Cohort(tables, label, bool(head.synthetic), json.loads(head.sources))
        if cohort.sha256() != head.sha256:
            raise CohortError(
                f"the cohort {label!r} was altered outside Cantlie", where=self.location, remedy="import it again"
            )
        return cohort

    def delete(self, label: str, *, who: str = "") -> AuditEntry:
        """Remove a cohort; the audit trail keeps that it was there."""
        with self._transaction() as connection:
            sha256 = connection.execute(
                sa.select(_COHORTS.c.sha256).where(_COHORTS.c.label == label)
            ).scalar_one_or_none()
            if sha256 is None:
                raise CohortError(
                    f"no cohort is called {label!r}", where=self.location, remedy="see the names of those kept"
                )
            self._remove(connection, label)
            return self._log(connection, who, "delete", label, "", sha256)

    def audit(self) -> list[AuditEntry]:
        """Return the audit trail, oldest first.

        Raises
        ------
        CohortError
            If an entry does not continue the chain of hashes, so that the trail was altered.
        """
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_AUDIT).order_by(_AUDIT.c.number)).all()
        entries = [AuditEntry(*row) for row in rows]
        previous = ""
        for entry in entries:
            expected = _chain(
                previous, entry.who, entry.when_utc, entry.what, entry.label, entry.detail, entry.cohort_sha256
            )
            if expected != entry.chain_sha256:
                raise CohortError(
                    f"entry {entry.number} of the audit trail was altered", where=self.location,
                    remedy="restore the database from a copy",
                )  # fmt: skip
            previous = entry.chain_sha256
        return entries

    def _remove(self, connection: sa.Connection, label: str) -> None:
        for sql in _SQL_TABLES.values():
            connection.execute(sql.delete().where(sql.c.cohort_label == label))
        connection.execute(_COHORTS.delete().where(_COHORTS.c.label == label))

    def _log(self, connection: sa.Connection, who: str, what: str, label: str, detail: str, sha256: str) -> AuditEntry:
        last = connection.execute(
            sa.select(_AUDIT.c.chain_sha256).order_by(_AUDIT.c.number.desc()).limit(1)
        ).scalar_one_or_none()
        who = who or _user()
        now = _now()
        chain = _chain(last or "", who, now, what, label, detail, sha256)
        result = connection.execute(
            _AUDIT.insert().values(
                who=who, when_utc=now, what=what, label=label, detail=detail, cohort_sha256=sha256, chain_sha256=chain
            )
        )
        number = int(result.inserted_primary_key[0]) if result.inserted_primary_key else 0
        return AuditEntry(number, who, now, what, label, detail, sha256, chain)


def _configure_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy opens the transactions, see _begin_immediate
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().split("\n")[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _chain(previous: str, *parts: str) -> str:
    return sha256_of_bytes(json.dumps([previous, *parts]).encode())


def _records(label: str, table: Table, frame: pd.DataFrame) -> list[dict[str, Any]]:
    names = [column.name for column in table.columns]
    extra_names = [name for name in frame.columns if name not in names]
    plain = {name: _plain(frame[name]) for name in frame.columns}
    rows = []
    for position in range(len(frame)):
        extra = {name: plain[name][position] for name in extra_names}
        rows.append(
            {
                "cohort_label": label,
                "row_number": position,
                **{name: plain[name][position] for name in names},
                "extra": json.dumps(extra) if extra_names else None,
            }
        )
    return rows


def _plain(series: pd.Series) -> list[Any]:
    if series.dtype.kind == "M":
        return [None if pd.isna(value) else value.strftime("%Y-%m-%d") for value in series]
    if series.dtype.kind in "fiu":
        return [None if np.isnan(value) else float(value) for value in series.astype(float)]
    return [None if value is None or value is pd.NA else str(value) for value in series]


def _frame(table: Table, rows: list[dict[str, Any]]) -> pd.DataFrame:
    names = [column.name for column in table.columns]
    extra = [json.loads(row["extra"]) if row["extra"] else {} for row in rows]
    frame = typed_table(table, [{name: row[name] for name in names} for row in rows])
    for name in extra[0]:
        values = [item.get(name) for item in extra]
        numeric = all(value is None or isinstance(value, float) for value in values)
        frame[name] = pd.Series(
            [np.nan if v is None else v for v in values] if numeric else values, dtype=float if numeric else object
        )
    return frame
