"""The metric language: `Dmax`, `D0.03cc`, `D95%`, `V20Gy[%]`, `CV15Gy[cc]` ... one word, one number of a DVH."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from cantlie.core.errors import ProtocolError

Kind = Literal["max", "min", "mean", "dose_at_volume", "volume_at_dose", "volume_below_dose"]
ArgumentUnit = Literal["", "cc", "%", "Gy"]
ResultUnit = Literal["Gy", "%", "cc"]

ALLOWED = (
    "Dmax, Dmin or Dmean; a dose at a volume such as D0.03cc or D95%; a volume at a dose such as V20Gy[%], V30Gy[cc] "
    "or V95%[%] (percent of the prescription); a volume below a dose such as CV15Gy[cc]"
)

_PATTERN = re.compile(
    r"(?P<head>D|V|CV)(?P<word>max|min|mean)?(?P<number>[0-9]*\.?[0-9]+)?(?P<unit>cc|cm3|cm³|ml|%|cGy|Gy)?(\[(?P<result>[^\]]*)\])?",
    re.IGNORECASE,
)
_WORDS: dict[str, Kind] = {"max": "max", "min": "min", "mean": "mean"}
_VOLUME_UNITS = {"cc", "cm3", "cm³", "ml"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One number taken from the dose in a structure.

    Attributes
    ----------
    kind
        ``max``, ``min``, ``mean``; ``dose_at_volume`` (the least dose in the hottest volume), ``volume_at_dose`` (the
        volume that gets at least a dose) or ``volume_below_dose`` (the volume that gets less than a dose).
    argument, argument_unit
        The volume (``cc`` or ``%`` of the structure) or the dose (``Gy`` or ``%`` of the prescription) that it is
        taken at; 0 and an empty unit for ``max``, ``min`` and ``mean``.
    unit
        Unit of the result: ``Gy``; ``%`` of the prescription for doses, of the structure for volumes; or ``cc``.
    """

    kind: Kind
    argument: float
    argument_unit: ArgumentUnit
    unit: ResultUnit

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read a metric; spaces and the case of letters do not matter, ml and cm³ are cc, cGy become Gy.

        Raises
        ------
        ProtocolError
            If the text is not a metric, with the reason and what is allowed.
        """
        compact = "".join(text.split())
        match = _PATTERN.fullmatch(compact)
        if compact == "" or match is None:
            raise _refusal(text, "it cannot be read")
        head = match["head"].upper()
        word = (match["word"] or "").lower()
        number = match["number"]
        unit = _canonical_unit(match["unit"])
        result = _canonical_unit(match["result"])
        argument = float(number) if number is not None else 0.0
        if (match["unit"] or "").lower() == "cgy":
            argument /= 100.0
        if word:
            return cls._of_word(text, head, word, number, unit, result)
        if number is None:
            raise _refusal(text, "it names no volume or dose")
        if head == "D":
            return cls._of_dose_at_volume(text, argument, unit, result)
        return cls._of_volume(text, head, argument, unit, result)

    @classmethod
    def _of_word(cls, text: str, head: str, word: str, number: str | None, unit: str, result: str) -> Metric:
        if head != "D" or number is not None or unit:
            raise _refusal(text, f"'{word}' stands only in D{word}")
        if result not in ("", "Gy", "%"):
            raise _refusal(text, "a dose is given in Gy or in % of the prescription")
        return cls(_WORDS[word], 0.0, "", "%" if result == "%" else "Gy")

    @classmethod
    def _of_dose_at_volume(cls, text: str, argument: float, unit: str, result: str) -> Metric:
        if unit not in ("cc", "%"):
            raise _refusal(text, "the volume of a dose-at-volume metric needs the unit cc or %")
        if unit == "%" and argument > 100:
            raise _refusal(text, "a volume cannot exceed 100 %")
        if result not in ("", "Gy", "%"):
            raise _refusal(text, "a dose is given in Gy or in % of the prescription")
        return cls("dose_at_volume", argument, "cc" if unit == "cc" else "%", "%" if result == "%" else "Gy")

    @classmethod
    def _of_volume(cls, text: str, head: str, argument: float, unit: str, result: str) -> Metric:
        if unit not in ("Gy", "%"):
            raise _refusal(text, "the dose of a volume-at-dose metric needs the unit Gy, or % of the prescription")
        if result not in ("%", "cc"):
            raise _refusal(text, "say with [%] or [cc] whether the volume is relative or absolute")
        kind: Kind = "volume_below_dose" if head == "CV" else "volume_at_dose"
        return cls(kind, argument, "Gy" if unit == "Gy" else "%", "%" if result == "%" else "cc")

    @property
    def is_dose(self) -> bool:
        """Whether the result is a dose; otherwise it is a volume."""
        return self.kind in ("max", "min", "mean", "dose_at_volume")

    @property
    def needs_prescription(self) -> bool:
        """Whether a prescription dose is needed to compute it."""
        return (self.is_dose and self.unit == "%") or (not self.is_dose and self.argument_unit == "%")

    def __str__(self) -> str:
        number = f"{self.argument:.10g}"
        if self.kind in _WORDS:
            name = f"D{self.kind}"
        elif self.kind == "dose_at_volume":
            name = f"D{number}{self.argument_unit}"
        else:
            head = "V" if self.kind == "volume_at_dose" else "CV"
            return f"{head}{number}{self.argument_unit}[{self.unit}]"
        return name if self.unit == "Gy" else f"{name}[%]"


def _canonical_unit(text: str | None) -> str:
    lower = (text or "").lower()
    if lower in _VOLUME_UNITS:
        return "cc"
    if lower in ("gy", "cgy"):
        return "Gy"
    return lower


def _refusal(text: str, reason: str) -> ProtocolError:
    return ProtocolError(f"{text.strip()!r} is not a dose metric: {reason}", remedy=f"write {ALLOWED}")
