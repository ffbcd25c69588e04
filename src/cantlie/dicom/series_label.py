"""What a series of images is: a phase of breathing, an average or a projection over them, a phase of contrast."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from cantlie.dicom.inventory import Record
from cantlie.dicom.values import is_missing, number, text

Kind = Literal["plain", "phase", "average", "maximum", "minimum"]
Contrast = Literal["", "native", "arterial", "portal venous", "delayed", "contrast"]

_PHASE = (
    re.compile(r"(?<![\d.,])(\d{1,3})(?:[.,]\d+)?\s*%"),
    re.compile(r"(?<![a-z0-9])(?:T|TP|PH|PHASE|GATED|BIN|RESP)[\s_=-]*(100|\d[05]|0)(?![\d.,])", re.IGNORECASE),
    re.compile(r"(?<!\d)(100|\d[05]|0)(?:in|ex)(?![a-z])", re.IGNORECASE),
)
_RECONSTRUCTION = re.compile(r"(?i)(asir|idose|safire|admire|aidr|veo|dlir|imr|blend)[\s\w-]*?\d{1,3}\s*%?")
"""Strengths of iterative reconstruction are percentages too."""
_END = (
    (re.compile(r"(?<![a-z])(end[\s_-]*)?(exhale|expiration|expiratory|exsp\w*)(?![a-z])", re.IGNORECASE), 50.0),
    (re.compile(r"(?<![a-z])(end[\s_-]*)?(inhale|inspiration|inspiratory|insp)(?![a-z])", re.IGNORECASE), 0.0),
)
_AVERAGE = re.compile(r"(?<![a-z])(ave?[\s_-]?ip|average|avg|ave|untagged|mean)(?![a-z])", re.IGNORECASE)
_MAXIMUM = re.compile(r"(?<![a-z])(mip|max(imum)?[\s_-]*(ip|intensity\w*|proj\w*))(?![a-z])", re.IGNORECASE)
_MINIMUM = re.compile(r"(?<![a-z])(min[\s_-]?ip|minimum[\s_-]*(ip|intensity\w*|proj\w*))(?![a-z])", re.IGNORECASE)
_FOUR_D = re.compile(r"4d|(?<![a-z])(gated|gating|resp\w*|breathing|phases?)(?![a-z])", re.IGNORECASE)
_CONTRAST: tuple[tuple[re.Pattern[str], Contrast], ...] = (
    (re.compile(r"(?<![a-z])(non[\s_-]?contrast|native?|nativ|plain|unenhanced|without[\s_-]*contrast)(?![a-z])", re.I),
     "native"),
    (re.compile(r"(?<![a-z])(art|arterial|arteriell|hap)(?![a-z])", re.I), "arterial"),
    (re.compile(r"(?<![a-z])(delay|delayed|late|equilibrium|excretory|spaet|spät)(?![a-z])", re.I), "delayed"),
    (re.compile(r"(?<![a-z])(portal|portovenous|porto[\s_-]?venous|pvp?|venous|ven|venoes|venös)(?![a-z])", re.I),
     "portal venous"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeriesLabel:
    """What a series is.

    Parameters
    ----------
    kind
        ``phase`` of breathing, ``average``, ``maximum`` or ``minimum`` projection over the phases, else ``plain``.
    phase_percent
        Of the breathing cycle, 0 at full inhale; None where it is no phase or the phase is only numbered.
    position
        Number of the phase in its 4D-CT, where the header counts them.
    contrast
        Phase of contrast, as far as the header tells.
    """

    kind: Kind = "plain"
    phase_percent: float | None = None
    position: int | None = None
    contrast: Contrast = ""

    def __str__(self) -> str:
        words = []
        if self.kind == "phase":
            at = f" {self.phase_percent:g} %" if self.phase_percent is not None else f" number {self.position}"
            words.append(f"breathing phase{at}")
        elif self.kind != "plain":
            words.append({"average": "average of the phases", "maximum": "maximum intensity projection",
                          "minimum": "minimum intensity projection"}[self.kind])  # fmt: skip
        if self.contrast:
            words.append({"native": "without contrast", "contrast": "with contrast"}.get(
                self.contrast, f"{self.contrast} phase"))  # fmt: skip
        return ", ".join(words)


def label_of(record: Record) -> SeriesLabel:
    """Return what the series of an image is, from its header and its description.

    A percentage in the header (Nominal Percentage of Respiratory Phase) goes before one in the description
    (``0%``, ``T50``, ``Gated, 50.0%``, ``50Ex``, ``exhale``); the position in time alone makes a numbered phase.
    """
    header = record.header
    described = " ".join(
        text(header, keyword) for keyword in ("SeriesDescription", "ProtocolName", "ImageComments", "ImageType")
    )
    own = text(header, "SeriesDescription")
    contrast = _contrast(record, own)
    if _MINIMUM.search(own):
        return SeriesLabel("minimum", contrast=contrast)
    if _MAXIMUM.search(own):
        return SeriesLabel("maximum", contrast=contrast)
    if _AVERAGE.search(own) and _percent_of(own) is None:
        return SeriesLabel("average", contrast=contrast)
    percent = None
    for keyword in ("NominalPercentageOfRespiratoryPhase", "NominalRespiratoryPhase"):
        if not is_missing(header, keyword):
            percent = number(header, keyword, record.file.name)
            break
    if percent is None:
        percent = _percent_of(own)
    if percent is None and "RESP" in described.upper():
        percent = _percent_of(text(header, "ImageComments"))
    position = None
    for keyword in ("TemporalPositionIndex", "TemporalPositionIdentifier"):
        if not is_missing(header, keyword):
            position = round(number(header, keyword, record.file.name))
            break
    if percent is not None:
        return SeriesLabel("phase", percent % 100.0, position, contrast)
    many = (
        not is_missing(header, "NumberOfTemporalPositions")
        and number(header, "NumberOfTemporalPositions", record.file.name) > 1
    )
    if position is not None and (many or "TemporalPositionIndex" in header or record.part is not None):
        return SeriesLabel("phase", None, position, contrast)
    if record.part is not None and _FOUR_D.search(described):
        return SeriesLabel("phase", None, record.part, contrast)
    return SeriesLabel(contrast=contrast)


def _percent_of(description: str) -> float | None:
    description = _RECONSTRUCTION.sub(" ", description)
    for pattern in _PHASE:
        found = pattern.search(description)
        if found and 0 <= float(found.group(1)) <= 100:
            return float(found.group(1))
    for pattern, percent in _END:
        if pattern.search(description):
            return percent
    return None


def _contrast(record: Record, description: str) -> Contrast:
    for pattern, phase in _CONTRAST:
        if pattern.search(description):
            return phase
    return "contrast" if not is_missing(record.header, "ContrastBolusAgent") else ""
