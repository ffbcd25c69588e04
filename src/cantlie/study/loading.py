"""Finding and reading study files: the built-in ones by name, a user's own by path."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from cantlie.core.errors import ProtocolError
from cantlie.core.provenance import sha256_of_bytes
from cantlie.study.definition import Study


def study_ids() -> tuple[str, ...]:
    """Return the names of the built-in studies."""
    folder = resources.files("cantlie.study").joinpath("data/studies")
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")))


def study_text(id_or_path: str | Path) -> tuple[str, str]:
    """Return the text of a study file and its name for messages.

    Raises
    ------
    ProtocolError
        If there is none.
    """
    if str(id_or_path) in study_ids():
        name = f"{id_or_path}.toml"
        return resources.files("cantlie.study").joinpath(f"data/studies/{name}").read_text("utf-8"), name
    path = Path(id_or_path)
    if path.suffix != ".toml":
        raise ProtocolError(
            f"no study is called {str(id_or_path)!r}",
            where="study",
            remedy=f"name one of {', '.join(study_ids())}, or the path of a .toml file",
        )
    try:
        return path.read_text("utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ProtocolError("the study file cannot be read", where=str(path), remedy="check the path") from error


def load_study(id_or_path: str | Path) -> Study:
    """Read a study and check every name in it.

    Raises
    ------
    ProtocolError
        With the line or the place in the file and the reason.
    """
    text, name = study_text(id_or_path)
    try:
        return Study.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ProtocolError(f"the file is not TOML: {error}", where=name, remedy="correct that line") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "study"
        others = len(error.errors()) - 1
        more = f" (and {others} more)" if others else ""
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise ProtocolError(f"{place}: {reason}{more}", where=name, remedy="correct the study file") from error


def study_sha256(id_or_path: str | Path) -> str:
    """Return the hash of a study file."""
    return sha256_of_bytes(study_text(id_or_path)[0].encode())
