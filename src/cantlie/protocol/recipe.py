"""Structure recipes: `Liver - GTV*`, `Kidney_L + Kidney_R`, `expand(SpinalCord, 5)` read into a small tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from cantlie.core.errors import ProtocolError

ALLOWED = (
    "write structure names (a * stands for any letters: GTV*) joined by + (union), - (without) or & (overlap), with "
    "brackets where needed, expand(A, mm), contract(A, mm), ring(A, from_mm, to_mm); names with blanks or signs stand "
    "in quotes"
)

_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z][\w*~^.]*)|(?P<quoted>'[^']+'|\"[^\"]+\")|(?P<number>\d*\.?\d+)|(?P<sign>[-+&(),]))"
)
_FUNCTIONS = {"expand": 1, "contract": 1, "ring": 2}


@dataclass(frozen=True, slots=True)
class Name:
    """A structure of the patient or a target of the protocol; ``*`` in the name stands for any letters (a union)."""

    name: str

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for the union of all structures that match it."""
        return "*" in self.name

    def __str__(self) -> str:
        return self.name if re.fullmatch(r"[A-Za-z][\w*~^.]*", self.name) else f"'{self.name}'"


@dataclass(frozen=True, slots=True)
class Combination:
    """Two recipes joined: ``+`` union, ``-`` the first without the second, ``&`` what they share."""

    operator: Literal["+", "-", "&"]
    first: Recipe
    second: Recipe

    def __str__(self) -> str:
        second = f"({self.second})" if isinstance(self.second, Combination) else str(self.second)
        first = (
            f"({self.first})"
            if isinstance(self.first, Combination) and self.operator == "&" and self.first.operator != "&"
            else str(self.first)
        )
        return f"{first} {self.operator} {second}"


@dataclass(frozen=True, slots=True)
class Margin:
    """A recipe grown (``expand``) or shrunk (``contract``) by a distance, or the ``ring`` between two distances."""

    function: Literal["expand", "contract", "ring"]
    inner: Recipe
    distances_mm: tuple[float, ...]

    def __str__(self) -> str:
        distances = ", ".join(f"{value:g}" for value in self.distances_mm)
        return f"{self.function}({self.inner}, {distances})"


Recipe = Name | Combination | Margin


def parse_recipe(text: str) -> Recipe:
    """Read a structure recipe.

    ``&`` binds more tightly than ``+`` and ``-``, which are read from left to right.

    Raises
    ------
    ProtocolError
        If it cannot be read, with the place and what is allowed.
    """
    return _Parser(text).whole()


def names_in(recipe: Recipe) -> tuple[str, ...]:
    """Return the names and patterns in a recipe, in the order of their first mention."""
    if isinstance(recipe, Name):
        return (recipe.name,)
    if isinstance(recipe, Margin):
        return names_in(recipe.inner)
    return tuple(dict.fromkeys(names_in(recipe.first) + names_in(recipe.second)))


class _Parser:
    """Reads a recipe from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._refusal(f"{text[position:].strip()[0]!r} is not understood")
            kind = str(match.lastgroup)
            self.tokens.append((kind, match[kind]))
            position = match.end()
        self.next = 0

    def whole(self) -> Recipe:
        if not self.tokens:
            raise self._refusal("it is empty")
        recipe = self._sum()
        if self.next < len(self.tokens):
            raise self._refusal(f"{self.tokens[self.next][1]!r} stands in a wrong place")
        return recipe

    def _sum(self) -> Recipe:
        recipe = self._product()
        while (sign := self._sign()) in ("+", "-"):
            self.next += 1
            recipe = Combination("+" if sign == "+" else "-", recipe, self._product())
        return recipe

    def _product(self) -> Recipe:
        recipe = self._atom()
        while self._sign() == "&":
            self.next += 1
            recipe = Combination("&", recipe, self._atom())
        return recipe

    def _atom(self) -> Recipe:
        kind, text = self._take()
        if kind == "quoted":
            return Name(text[1:-1])
        if kind == "name":
            if text in _FUNCTIONS and self._sign() == "(":
                return self._margin(text)
            return Name(text)
        if text == "(":
            recipe = self._sum()
            self._expect(")")
            return recipe
        raise self._refusal(f"a structure name is missing before {text!r}")

    def _margin(self, function: str) -> Recipe:
        self._expect("(")
        inner = self._sum()
        distances = []
        for _ in range(_FUNCTIONS[function]):
            self._expect(",")
            kind, text = self._take()
            if kind != "number":
                raise self._refusal(f"{function} needs {_FUNCTIONS[function]} distance(s) in mm")
            distances.append(float(text))
        self._expect(")")
        if function == "ring" and distances[1] <= distances[0]:
            raise self._refusal("the second distance of a ring must be larger than the first")
        name: Literal["expand", "contract", "ring"] = (
            "expand" if function == "expand" else "contract" if function == "contract" else "ring"
        )
        return Margin(name, inner, tuple(distances))

    def _sign(self) -> str:
        if self.next < len(self.tokens) and self.tokens[self.next][0] == "sign":
            return self.tokens[self.next][1]
        return ""

    def _take(self) -> tuple[str, str]:
        if self.next >= len(self.tokens):
            raise self._refusal("it ends too early")
        self.next += 1
        return self.tokens[self.next - 1]

    def _expect(self, sign: str) -> None:
        if self._sign() != sign:
            raise self._refusal(f"{sign!r} is missing")
        self.next += 1

    def _refusal(self, reason: str) -> ProtocolError:
        return ProtocolError(f"{self.text.strip()!r} is not a structure recipe: {reason}", remedy=ALLOWED)
