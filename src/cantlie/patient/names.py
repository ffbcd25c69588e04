"""Structure names: from the many spellings in use to those of AAPM TG-263, by a table that a user can extend."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from cantlie.core.errors import CantlieError

BODY = "BODY"
_LEFT = ("l", "lt", "left", "左", "左侧")
_RIGHT = ("r", "rt", "right", "右", "右侧")
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8}
_NUMBER = r"(?P<n>0*\d{1,3}[ab]?|iv[ab]?|v?i{1,3}|v)"


class AliasError(CantlieError):
    """An alias file that cannot be used."""


def plain(name: str) -> str:
    """Return a name without what does not matter: case, width, spaces and separating signs."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_\-.,;:/\\()\[\]{}'\"^~*]+", "", folded)


@dataclass(frozen=True, slots=True)
class AliasTable:
    """Plain spellings to standard names, and patterns for numbered structures; earlier entries win."""

    exact: Mapping[str, str]
    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()

    def __call__(self, name: str) -> str | None:
        """Return the standard name of a structure, or None when the table does not know it."""
        text = plain(name)
        if text in self.exact:
            return self.exact[text]
        for pattern, standard in self.patterns:
            found = pattern.fullmatch(text)
            if found:
                return standard.replace("{n}", _number(found["n"]))
        return None

    def before(self, other: AliasTable) -> AliasTable:
        """Return a table that asks this one first and then another."""
        return AliasTable(MappingProxyType({**other.exact, **self.exact}), self.patterns + other.patterns)


def _number(text: str) -> str:
    letter = text[-1] if text[-1] in "ab" else ""
    digits = text.removesuffix(letter) if letter else text
    return f"{_ROMAN[digits] if digits in _ROMAN else int(digits)}{letter}"


def aliases_from_toml(text: str, where: str = "alias file") -> AliasTable:
    """Read an alias table.

    Parameters
    ----------
    text
        TOML with tables ``names`` (standard name = list of spellings), ``paired`` (without _L and _R) and ``numbered``
        (with ``{n}``); each may be missing. A file without any of them is read as ``names``.
    where
        The file, for error messages.

    Raises
    ------
    AliasError
        If the text is not TOML or not of this form.
    """
    remedy = 'write for example: [names] and below it Stomach = ["Magen", "maag"]'
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AliasError(f"the alias file is not valid TOML: {error}", where=where, remedy=remedy) from None
    if not {"names", "paired", "numbered"} & content.keys():
        content = {"names": content}
    exact: dict[str, str] = {}
    patterns: list[tuple[re.Pattern[str], str]] = []
    for table, entries in content.items():
        if table not in ("names", "paired", "numbered") or not isinstance(entries, dict):
            raise AliasError(f"an alias file has no table {table!r}", where=where, remedy=remedy)
        for standard, spellings in entries.items():
            if not isinstance(spellings, list) or not all(isinstance(spelling, str) for spelling in spellings):
                raise AliasError(f"the spellings of {standard!r} are not a list of texts", where=where, remedy=remedy)
            if table == "names":
                for spelling in [standard, *spellings]:
                    exact.setdefault(plain(spelling), standard)
            elif table == "paired":
                _add_pair(exact, standard, spellings)
            else:
                for spelling in [standard, *spellings]:
                    head, found, tail = spelling.partition("{n}")
                    if not found or "{n}" not in standard:
                        raise AliasError(f"a numbered name lacks {{n}}: {spelling!r}", where=where, remedy=remedy)
                    pattern = re.compile(re.escape(plain(head)) + _NUMBER + re.escape(plain(tail)))
                    patterns.append((pattern, standard))
    return AliasTable(MappingProxyType(exact), tuple(patterns))


def _add_pair(exact: dict[str, str], standard: str, spellings: list[str]) -> None:
    for side, words in (("L", _LEFT), ("R", _RIGHT)):
        for spelling in [standard, *spellings]:
            for word in words:
                exact.setdefault(plain(spelling) + word, f"{standard}_{side}")
                exact.setdefault(word + plain(spelling), f"{standard}_{side}")


@lru_cache(maxsize=1)
def built_in_aliases() -> AliasTable:
    """Return the table that comes with Cantlie."""
    text = resources.files("cantlie.patient").joinpath("structure_names.toml").read_text(encoding="utf-8")
    return aliases_from_toml(text, "structure_names.toml")


def standard_name(name: str, table: AliasTable | None = None) -> str | None:
    """Return the TG-263 name of a structure, or None when it is not known."""
    return (table or built_in_aliases())(name)
