"""Reading protocols: the built-in ones by name, a user's own by path; a wrong one is refused with line and reason."""

from __future__ import annotations

import difflib
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cantlie.core.errors import ProtocolError
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.toml_lines import KeyPath, line_numbers, line_of

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from cantlie.protocol.schema import Protocol

_DATA = resources.files("cantlie.protocol") / "data"


def list_protocols() -> tuple[str, ...]:
    """Return the ids of the built-in protocols, sorted."""
    names = (entry.name for entry in _DATA.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def protocol_text(id_or_path: str | Path) -> str:
    """Return the TOML text of a built-in protocol or of a file.

    Raises
    ------
    ProtocolError
        If there is no such protocol or the file cannot be read.
    """
    return _text_and_source(id_or_path)[0]


def load_protocol(id_or_path: str | Path) -> Protocol:
    """Read a built-in protocol by its id, or a user's protocol file.

    Raises
    ------
    ProtocolError
        If there is no such protocol, or it is wrong: with the file, the line and the reason.
    """
    text, source = _text_and_source(id_or_path)
    return read_protocol(text, source)


def read_protocol(text: str, source: str = "protocol") -> Protocol:
    """Read a protocol from TOML text; ``source`` is the file that errors name.

    Raises
    ------
    ProtocolError
        If it is wrong: with the file, the line and the reason.
    """
    from pydantic import ValidationError

    from cantlie.protocol.schema import Protocol

    values = read_toml(text, source)
    try:
        protocol = Protocol.model_validate(_frozen(values))
    except ValidationError as error:
        raise refusal(error, text, source, Protocol) from None
    protocol._source = source
    protocol._sha256 = sha256_of_bytes(text.encode("utf-8"))
    return protocol


def read_toml(text: str, source: str) -> dict[str, Any]:
    """Read TOML text.

    Raises
    ------
    ProtocolError
        If its syntax is wrong: with the file, the line and the reason.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)", message)
        line = text.count("\n") + 1
        if match and match[1]:
            line = int(match[1])
        reason = message[: match.start()] if match else message
        raise ProtocolError(
            f"the file is not valid TOML: {reason[:1].lower()}{reason[1:]}",
            where=f"{source}, line {line}",
            remedy="mend the syntax there (keys = values, texts in quotes, tables in [brackets])",
        ) from None


def refusal(error: ValidationError, text: str, source: str, model: type[BaseModel]) -> ProtocolError:
    """Turn what pydantic found wrong in the values of a TOML text into one sentence with the line."""
    lines = line_numbers(text)
    entries = [
        entry
        for entry in error.errors()
        # a table list that lost its wrong entries is too short only because of them
        if not (entry["type"] == "too_short" and any(_lies_below(other, entry) for other in error.errors()))
    ]
    problems = [(line_of(lines, _path(entry, lines)), _reason(entry, model)) for entry in entries]
    # an unknown key often explains a missing one, so it comes first
    order = sorted(range(len(problems)), key=lambda n: (entries[n]["type"] != "extra_forbidden", problems[n][0]))
    line, reason = problems[order[0]]
    others = sorted({problems[n][0] for n in order[1:]} - {line})
    more = (
        f" (and more is wrong at line{'s' if len(others) > 1 else ''} {', '.join(map(str, others))})" if others else ""
    )
    return ProtocolError(
        reason + more, where=f"{source}, line {line}", remedy="correct that line; `cantlie protocol check` tests a file"
    )


def _lies_below(entry: ErrorDetails, other: ErrorDetails) -> bool:
    """Say whether an error concerns something inside what another one concerns."""
    return len(entry["loc"]) > len(other["loc"]) and entry["loc"][: len(other["loc"])] == other["loc"]


def _text_and_source(id_or_path: str | Path) -> tuple[str, str]:
    name = str(id_or_path)
    if name in list_protocols():
        return (_DATA / f"{name}.toml").read_text(encoding="utf-8"), f"built-in {name}.toml"
    path = Path(name)
    if path.is_dir():
        raise ProtocolError("this is a folder, not a protocol", where=name, remedy="name the TOML file in it")
    if not path.is_file():
        close = difflib.get_close_matches(name, list_protocols(), n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}" if close else ""
        raise ProtocolError(
            f"no protocol is called {name!r} and there is no such file",
            where="--protocol",
            remedy=f"built in are {', '.join(list_protocols())}{hint}",
        )
    try:
        return path.read_text(encoding="utf-8-sig"), name
    except UnicodeDecodeError:
        raise ProtocolError("the protocol file is not UTF-8 text", where=name, remedy="save it as UTF-8") from None
    except OSError as error:
        raise ProtocolError(
            f"the protocol file cannot be read: {error.strerror}", where=name, remedy="check the file's permissions"
        ) from None


def _frozen(value: Any) -> Any:
    """Return the value with tuples for lists, as the schema has them."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _path(entry: ErrorDetails, lines: Any) -> KeyPath:
    """Return the place of an error as it stands in the file: margins may be written by axis instead of by side."""
    path = _full_path(entry)
    axes = {
        "left": "left_right",
        "right": "left_right",
        "anterior": "anterior_posterior",
        "posterior": "anterior_posterior",
        "superior": "craniocaudal",
        "inferior": "craniocaudal",
    }
    if path and path not in lines and path[-1] in axes:
        written = (*path[:-1], axes[str(path[-1])])
        if written in lines:
            return written
    return path


def _reason(entry: ErrorDetails, model: type[BaseModel]) -> str:
    path = _full_path(entry)
    name = _spelled(path)
    kind = entry["type"]
    if kind == "extra_forbidden":
        known = _keys_beside(model, path)
        close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}" if close else f"; known here are {', '.join(known)}" if known else ""
        return f"{name} is not known{hint}"
    if kind == "missing":
        return f"{name} is missing"
    message = entry["msg"]
    if kind in ("value_error", "protocol_fault"):
        message = message.removeprefix("Value error, ").rstrip(".")
        return f"{name}: {message}" if name else message
    message = message[:1].lower() + message[1:].replace("Input should", "should")
    message = message.replace("input should", "should")
    given = entry["input"]
    shown = f", not {given!r}" if isinstance(given, (str, int, float)) else ""
    return f"{name} {message}{shown}"


def _full_path(entry: ErrorDetails) -> KeyPath:
    """Return the key path of an error; validators of whole tables name the key below in their context."""
    return (*entry["loc"], *entry.get("ctx", {}).get("path", ()))


def _spelled(path: tuple[int | str, ...]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text


def _keys_beside(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known in the table that the last key of a path stands in."""
    from pydantic import BaseModel as Base

    current: Any = model
    for part in path[:-1]:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        if field is None:
            return []
        current = _model_in(field.annotation, Base)
        if current is None:
            return []
    return list(current.model_fields)


def _model_in(annotation: Any, base: type) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, base):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument, base)
        if found is not None:
            return found
    return None
