"""Claims files: reading them with messages that name line and field, and the papers that come with Cantlie."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cantlie.core.errors import ProtocolError
from cantlie.core.provenance import sha256_of_bytes
from cantlie.study.audit.claims import Claims, Table
from cantlie.study.audit.locate import LineMap, map_lines
from cantlie.study.audit.table import PrintedTable, read_table


@dataclass(frozen=True, slots=True)
class LoadedClaims:
    """A checked claims file with its tables read and the lines of its claims."""

    claims: Claims
    tables: tuple[PrintedTable, ...]
    place: str
    sha256: str
    lines: LineMap = field(default_factory=LineMap)

    def line(self, kind: str, index: int) -> int:
        """Return the line of the ``index``-th claim of a kind."""
        return self.lines.line_of((kind, index))


def builtin_ids() -> tuple[str, ...]:
    """Return the names of the papers whose claims come with Cantlie."""
    folder = resources.files("cantlie.study").joinpath("data", "claims")
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml")))


def load_claims(source: str | Path) -> LoadedClaims:
    """Load claims by the name of a built-in paper, or from a TOML file, or from a CSV file of one baseline table.

    Raises
    ------
    ProtocolError
        If there is no such paper or file, or if it is wrong, with line and field.
    """
    name = str(source)
    if name in builtin_ids():
        content = resources.files("cantlie.study").joinpath("data", "claims", f"{name}.toml").read_bytes()
        return read_claims(content, place=f"built-in claims {name}")
    path = Path(source)
    if not path.is_file():
        known = ", ".join(builtin_ids())
        raise ProtocolError(
            "no such paper or claims file", where=name, remedy=f"give a .toml or .csv file, or one of: {known}"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProtocolError(
            f"cannot read the file: {error.strerror}", where=name, remedy="check its permissions"
        ) from error
    if path.suffix.lower() == ".csv":
        return read_csv_table(content, place=name, study=path.stem)
    return read_claims(content, place=name, folder=path.parent)


def read_csv_table(content: bytes, *, place: str, study: str = "table") -> LoadedClaims:
    """Make claims of one CSV table as it stands."""
    text = _decode(content, place)
    read_table(text, where=place)
    claims = Claims(
        id=re.sub(r"[^A-Za-z0-9._-]+", "-", study) or "table",
        table=[Table(place=Path(place).name, rows=text)],
    )
    return _with_tables(claims, place, content, LineMap({("table", 0): 1, ("table", 0, "rows"): 0}), Path())


def read_claims(content: bytes, *, place: str, folder: Path | None = None) -> LoadedClaims:
    """Read the bytes of a claims file; numbers keep the digits with which they are written.

    Raises
    ------
    ProtocolError
        If the TOML is wrong, a field is unknown, missing or wrong, or a table cannot be read, with line and field.
    """
    text = _decode(content, place)
    try:
        raw = tomllib.loads(text, parse_float=str)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = f", line {found.group(1)}, column {found.group(2)}" if found else ""
        message = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise ProtocolError(
            f"the claims file is no valid TOML: {message[:1].lower()}{message[1:]}",
            where=f"{place}{line}",
            remedy='put text in quotes, write 0.05 or ".05" (never a bare .05), and give every claim its own [[kind]]',
        ) from error
    lines = map_lines(text)
    try:
        claims = Claims.model_validate(_plain_numbers(raw))
    except ValidationError as error:
        raise _explain(error, place, lines) from error
    if claims.count() == 0:
        raise ProtocolError("the claims file states nothing", where=place, remedy="add a [[table]] or another claim")
    return _with_tables(claims, place, content, lines, folder or Path())


def claims_from_dict(raw: dict[str, Any], *, place: str = "claims given in Python") -> LoadedClaims:
    """Check claims given as plain dictionaries and lists, as in a claims file; printed numbers as strings or integers.

    Raises
    ------
    ProtocolError
        If a field is unknown, missing or wrong.
    """
    try:
        claims = Claims.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, place, LineMap()) from error
    return _with_tables(claims, place, repr(raw).encode(), LineMap(), Path())


def _with_tables(claims: Claims, place: str, content: bytes, lines: LineMap, folder: Path) -> LoadedClaims:
    tables: list[PrintedTable] = []
    for index, table in enumerate(claims.table):
        rows, where, first = table.rows, place, lines.line_of(("table", index, "rows"))
        if table.file:
            path = folder / table.file
            where, first = str(path), 1
            try:
                rows = _decode(path.read_bytes(), str(path))
            except OSError as error:
                line = lines.line_of(("table", index, "file"))
                raise ProtocolError(
                    f"cannot read the table: {error.strerror}",
                    where=f"{place}, line {line}, field file",
                    remedy="give the path of a CSV file relative to the claims file",
                ) from error
        opening = 0 if table.file else 1  # TOML drops the line break right after the opening quotes
        tables.append(
            read_table(
                rows,
                sizes=table.groups,
                where=where,
                first_line=first + opening,
                independent=table.independent,
                alpha=claims.alpha,
            )
        )
    return LoadedClaims(claims, tuple(tables), place, sha256_of_bytes(content), lines)


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ProtocolError("the file is not UTF-8 text", where=place, remedy="save it as UTF-8") from error


_FLOAT_FIELDS = {"alpha", "level", "alpha_beta", "null", "max_gy", "max_percent", "needs_months", "event_months"}


def _plain_numbers(value: Any, key: str = "") -> Any:
    """Turn the written digits back into numbers where the schema wants plain numbers, not printed ones."""
    if isinstance(value, dict):
        return {name: _plain_numbers(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item, key) for item in value]
    if key in _FLOAT_FIELDS and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(error: ValidationError, place: str, lines: LineMap) -> ProtocolError:
    """Turn the first problem that pydantic found (misspelt fields first) into one clear sentence."""
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    path = tuple(problem["loc"])
    line = lines.line_of(path)
    name = ".".join(str(piece + 1) if isinstance(piece, int) else piece for piece in path) or "the file"
    message = str(problem["msg"]).removeprefix("Value error, ")
    remedy = "see docs/reference/claims.md"
    if problem["type"] == "extra_forbidden":
        allowed = _allowed(path)
        message = f"'{path[-1]}' is no known field"
        remedy = f"the fields here are {', '.join(allowed)}" if allowed else remedy
    elif problem["type"] == "missing":
        message, remedy = f"the field '{path[-1]}' is missing", f"add {path[-1]} = … below this header"
    more = len(error.errors()) - 1
    rest = f" (and {more} more)" if more else ""
    at = f", line {line}" if line else ""
    return ProtocolError(f"{message}{rest}", where=f"{place}{at}, field {name}", remedy=remedy)


def _allowed(path: tuple[int | str, ...]) -> list[str]:
    if len(path) == 1:
        return list(Claims.model_fields)
    kind = Claims.model_fields.get(str(path[0]))
    if kind is None or kind.annotation is None or len(path) != 3:
        return []
    inner = getattr(kind.annotation, "__args__", ())
    return list(inner[0].model_fields) if inner and hasattr(inner[0], "model_fields") else []
