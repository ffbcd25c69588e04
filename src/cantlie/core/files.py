"""Atomic files: a killed run never leaves a half-written file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from cantlie.core.errors import InputError, OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on leaving without an error it is flushed to disk and takes its place.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            remedy="choose a folder that you may write to and that has room, with --out",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    write_bytes(path, content.encode("utf-8"))


def read_text(path: Path, what: str, *, or_latin_1: bool = False) -> str:
    """Return the text of a file that the user named.

    Parameters
    ----------
    what
        What the file is, for the message.
    or_latin_1
        Read a file that is not UTF-8 as Latin-1, as instruments of an older day write.

    Raises
    ------
    InputError
        If it cannot be read, is not UTF-8 text, or (as Latin-1) holds characters that no text has.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the {what} cannot be read: {error.strerror or error}", where=str(path)) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not or_latin_1 or set(content) & _NO_TEXT:
            raise InputError(
                f"the {what} is not a UTF-8 text file", where=str(path), remedy="save it as UTF-8"
            ) from error
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


_NO_TEXT = {*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0xA0)}
"""Control characters of Latin-1, which no text holds."""


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def json_text(value: Any) -> str:
    """Return readable JSON of plain values, paths, dates, and NumPy scalars and arrays; NaN becomes null."""
    text = json.dumps(value, default=_plain, allow_nan=True, ensure_ascii=False)
    return json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically."""
    write_text(path, json_text(value))
