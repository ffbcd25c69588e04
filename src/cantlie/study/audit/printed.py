"""A number as a paper prints it: its digits decide how far a recomputed value may be away."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Relation = Literal["=", "<", "<=", ">", ">="]

_SIGNS = str.maketrans({"−": "-", "–": "-", "·": ".", "≤": "<", "≥": ">", "\u00a0": " ", "＜": "<", "＞": ">"})
_NUMBER = re.compile(r"[-+]?(?:\d+(?:,\d{3})+(?:\.\d*)?|\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?")
_RELATIONS: dict[str, Relation] = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "=": "=", "": "=", "~": "="}


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed number with the relation and the unit of its last digit.

    Attributes
    ----------
    text
        The number exactly as printed.
    value
        Its value.
    unit
        One unit of the last printed digit (1 for ``12``, 0.1 for ``12.0``).
    relation
        ``=`` for a plain number; ``<``, ``<=``, ``>``, ``>=`` for a bound such as ``<0.001``.
    """

    text: str
    value: float
    unit: float
    relation: Relation = "="

    @property
    def low(self) -> float:
        """The smallest true value that rounds to the printed one (ties may go either way)."""
        if self.relation == "=":
            return self.value - self.unit / 2
        return -math.inf if self.relation in ("<", "<=") else self.value

    @property
    def high(self) -> float:
        """The largest true value that rounds to the printed one (ties may go either way)."""
        if self.relation == "=":
            return self.value + self.unit / 2
        return math.inf if self.relation in (">", ">=") else self.value

    @property
    def decimals(self) -> int:
        """The number of digits printed after the decimal point."""
        return max(0, round(-math.log10(self.unit)))

    def agrees(self, recomputed: float) -> bool:
        """Say whether a recomputed value rounds (or truncates at an exact tie) to the printed number."""
        return self.meets(recomputed, recomputed)

    def meets(self, low: float, high: float) -> bool:
        """Say whether any value of the closed interval ``[low, high]`` could have been printed like this."""
        slack = 1e-9 * max(1.0, abs(low) if math.isfinite(low) else 1.0, abs(self.value))
        return low <= self.high + slack and high >= self.low - slack

    def truncates(self, recomputed: float) -> bool:
        """Say whether the printed number is the recomputed one with its further digits cut off."""
        return self.relation == "=" and self.value <= recomputed + 1e-12 < self.value + self.unit

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(read_printed)


def read_printed(raw: Any) -> Printed:
    """Read a printed number: ``12``, ``12.0``, ``.05``, ``<0.001``, ``≥80``, ``45 %``, ``1,234``, ``−0.5``.

    Raises
    ------
    ValueError
        If the text holds no number, or more than one.
    """
    if isinstance(raw, Printed):
        return raw
    if isinstance(raw, bool) or raw is None:
        raise ValueError(f"{raw!r} is not a printed number")
    text = str(raw).strip()
    plain = text.replace("≤", "<=").replace("≥", ">=").translate(_SIGNS)
    match = re.fullmatch(rf"([<>]=?|=|~)?\s*({_NUMBER.pattern})\s*(?:%|percent|\*+)?", plain)
    if match is None:
        raise ValueError(f"{text!r} is not a printed number; write it as printed, such as 12.0, <0.001 or 45.5")
    return _from_parts(text, match.group(1) or "", match.group(2))


def read_p(raw: Any, alpha: float = 0.05) -> Printed:
    """Read a printed p-value; ``NS`` counts as a p above ``alpha``.

    Raises
    ------
    ValueError
        If it is no p-value.
    """
    if isinstance(raw, Printed):
        return raw
    text = re.sub(r"^\s*[pP]\s*", "", str(raw)).strip()
    if re.fullmatch(r"(?i)n\.?\s*s\.?", text):
        return Printed(str(raw).strip(), alpha, alpha, ">")
    printed = read_printed(text)
    if not 0 <= printed.value <= 1:
        raise ValueError(f"{text!r} is not a p-value between 0 and 1")
    return printed


def _from_parts(text: str, sign: str, digits: str) -> Printed:
    mantissa, _, exponent = digits.lower().partition("e")
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", mantissa):
        mantissa = mantissa.replace(",", "")
    mantissa = mantissa.replace(",", ".")
    decimals = len(mantissa.partition(".")[2])
    power = int(exponent) if exponent else 0
    return Printed(text, float(mantissa) * 10.0**power, 10.0 ** (power - decimals), _RELATIONS[sign])


def numbers_in(text: str) -> list[Printed]:
    """Return every number of a piece of text as printed; a dash between two numbers is a range, not a sign."""
    plain = text.replace("≤", "<=").replace("≥", ">=").translate(_SIGNS)
    plain = re.sub(r"(?<=[\d%)])\s*-\s*(?=[\d.])", " to ", plain)
    found = re.finditer(rf"([<>]=?)?\s*({_NUMBER.pattern})", plain)
    return [_from_parts(match.group(0).strip(), match.group(1) or "", match.group(2)) for match in found]


def rounded(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits, without a needless exponent."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-6 < abs(value) < 1e9:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    return text
