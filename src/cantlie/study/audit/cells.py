"""What one cell of a printed table says: a count, a percentage, a mean with its SD, a median with its range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from cantlie.study.audit.printed import Printed, numbers_in

CellKind = Literal["empty", "count", "mean", "median", "number", "text"]

_BLANK = {"", "-", "–", "—", "/", "na", "n/a", "n.a.", "not applicable", "nan"}
_NUM = r"[-+−]?\d*[.,·]?\d+"
_FRACTION = re.compile(r"^\s*(\d+)\s*(?:/|of)\s*(\d+)\s*(?:[\(\[]\s*([^)\]]*?)\s*[\)\]])?\s*$")
_COUNT_PERCENT = re.compile(rf"^\s*(\d+)\s*[\(\[]\s*({_NUM})\s*%?\s*[\)\]]\s*$")
_PERCENT_COUNT = re.compile(rf"^\s*({_NUM})\s*%?\s*[\(\[]\s*(\d+)\s*[\)\]]\s*$")
_COUNT_COMMA = re.compile(rf"^\s*(\d+)\s*[,;]\s+({_NUM})\s*%\s*$")
_MEAN_SD = re.compile(rf"^\s*({_NUM})\s*(?:±|\+/-|\+-)\s*({_NUM})\s*%?\s*$")
_RANGE = re.compile(
    rf"^\s*({_NUM})\s*[\(\[][^\d)\]−+.-]*({_NUM})\s*(?:-|–|—|to|;|,(?=\s))\s*({_NUM})[^\d)\]]*[\)\]]\s*$"
)
_MEAN_BRACKET = re.compile(rf"^\s*({_NUM})\s*[\(\[]\s*(?:SD\s*)?({_NUM})\s*[\)\]]\s*$")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, understood.

    ``count`` cells carry ``count`` and may carry ``of`` and ``percent``; ``mean`` cells ``centre`` and ``spread``;
    ``median`` cells ``centre``, ``low`` and ``high``; ``number`` cells ``centre``.
    """

    kind: CellKind
    text: str
    count: int = 0
    of: int = 0
    percent: Printed | None = None
    centre: Printed | None = None
    spread: Printed | None = None
    low: Printed | None = None
    high: Printed | None = None


def read_cell(text: str, *, label: str = "") -> Cell:
    """Read one cell; ``label`` (the row's name) decides between count (percent) and mean (SD) where both could be.

    What cannot be read as a number is returned as ``text``; nothing is guessed silently.
    """
    text = text.strip()
    if text.lower() in _BLANK:
        return Cell("empty", text)
    named_mean = re.search(r"(?i)\b(mean|average|sd|s\.d\.|std)\b|±", label) is not None
    named_median = re.search(r"(?i)\b(median|range|iqr|interquartile)\b", label) is not None
    if match := _FRACTION.match(text):
        inner = numbers_in(match.group(3) or "")
        percent = inner[0] if inner else None
        return Cell("count", text, count=int(match.group(1)), of=int(match.group(2)), percent=percent)
    if match := _MEAN_SD.match(text):
        return Cell("mean", text, centre=_one(match.group(1)), spread=_one(match.group(2)))
    if match := _RANGE.match(text):
        centre, low, high = (_one(match.group(index)) for index in (1, 2, 3))
        return Cell("median", text, centre=centre, low=low, high=high)
    if named_mean and (match := _MEAN_BRACKET.match(text)):
        return Cell("mean", text, centre=_one(match.group(1)), spread=_one(match.group(2)))
    if not named_median:
        for pattern, count_group, percent_group in (
            (_COUNT_PERCENT, 1, 2),
            (_COUNT_COMMA, 1, 2),
            (_PERCENT_COUNT, 2, 1),
        ):
            if match := pattern.match(text):
                percent = _one(match.group(percent_group))
                if (
                    pattern is _COUNT_PERCENT
                    and "%" not in text
                    and _reads_better_reversed(match.group(1), match.group(2))
                ):
                    continue
                return Cell("count", text, count=int(match.group(count_group)), percent=percent)
    if match := _MEAN_BRACKET.match(text):
        return Cell("mean", text, centre=_one(match.group(1)), spread=_one(match.group(2)))
    numbers = numbers_in(text)
    if len(numbers) == 1 and re.fullmatch(rf"\s*[<>]?=?\s*{_NUM}\s*%?\s*", text):
        only = numbers[0]
        if only.unit == 1 and only.relation == "=" and "%" not in text and not (named_mean or named_median):
            return Cell("count", text, count=int(only.value))
        return Cell("number", text, centre=only)
    return Cell("text", text)


def _reads_better_reversed(first: str, second: str) -> bool:
    """A pair such as ``50 (16)`` without a per cent sign stays count (percent); only > 100 in brackets turns it."""
    return float(second.replace(",", ".")) > 100 >= float(first)


def _one(text: str) -> Printed:
    return numbers_in(text)[0]
