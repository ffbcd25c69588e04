"""Measured beam data in w2CAD files (.asc), the exchange form of Eclipse: lengths in mm, no energy stated."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.machine.measured import CurveKind, MeasuredCurve, ScanAxis

_OPEN_TYPES: dict[str, CurveKind] = {"OPD": "depth dose", "OPP": "profile", "DPR": "profile"}
_AXES: dict[str, ScanAxis] = {"X": "x", "Y": "y", "D": "diagonal", "Z": "depth"}


@dataclass
class _Scan:
    line: int
    header: dict[str, tuple[str, int]] = field(default_factory=dict)
    points: list[tuple[float, float, float, float]] = field(default_factory=list)


def parse_w2cad(text: str, name: str) -> tuple[list[MeasuredCurve], list[Note]]:
    """Read the open-field depth doses and profiles of a w2CAD file; other scans are left out with a note.

    Raises
    ------
    InputError
        If a value is missing or wrong; names the line.
    """
    scans: list[_Scan] = []
    is_open = False
    for line, raw in enumerate(text.splitlines(), start=1):
        content = raw.strip()
        if content.startswith("$STOM"):
            scans.append(_Scan(line))
            is_open = True
        elif content.startswith("$ENOM"):
            is_open = False
        elif content.startswith("%") and is_open:
            key, _, value = content[1:].partition(" ")
            scans[-1].header[key.upper()] = (value.split("#")[0].strip(), line)
        elif content.startswith("<") and is_open:
            numbers = content.strip("<>").split()
            try:
                x, y, z, dose = (float(number) for number in numbers)
            except ValueError:
                raise InputError(
                    f"the row is not four numbers ({content[:60]!r})", where=f"{name}, line {line}"
                ) from None
            scans[-1].points.append((x, y, z, dose))
    if not scans:
        raise InputError("the file has no scan ($STOM)", where=name)
    if is_open:
        raise InputError("the last scan has no end ($ENOM): the file is cut", where=f"{name}, line {scans[-1].line}")
    curves, notes = [], []
    for scan in scans:
        kind = scan.header.get("TYPE", ("", 0))[0].upper()
        beam = scan.header.get("BMTY", ("PHO", 0))[0].upper()
        if kind not in _OPEN_TYPES or beam != "PHO":
            place = f"{name}, line {scan.line}"
            notes.append(Note(f"a scan of type {kind or 'unknown'} ({beam}) is not used", where=place, level="info"))
            continue
        curves.append(_curve(scan, name, _OPEN_TYPES[kind]))
    return curves, notes


def _curve(scan: _Scan, name: str, kind: CurveKind) -> MeasuredCurve:
    where = f"{name}, line {scan.line}"
    if not scan.points:
        raise InputError("the scan has no points", where=where)
    x, y, z, dose = np.array(scan.points, dtype=np.float64).T
    stated = scan.header.get("AXIS", ("", 0))[0].upper()
    axis: ScanAxis = "depth"
    if kind == "profile":
        if stated not in ("X", "Y", "D"):
            raise InputError(f"the profile has the axis {stated!r}", where=where, remedy="use X, Y or D")
        axis = _AXES[stated]
    return MeasuredCurve(kind, axis, _field_mm(scan, name), _length(scan, "SSD", name), x, y, z, dose, None, where)


def _length(scan: _Scan, key: str, name: str) -> float:
    if key not in scan.header:
        raise InputError(f"the scan has no %{key}", where=f"{name}, line {scan.line}")
    text, line = scan.header[key]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise InputError(f"%{key} is {text!r}, not a positive number", where=f"{name}, line {line}")
    return value


def _field_mm(scan: _Scan, name: str) -> tuple[float, float]:
    if "FLSZ" not in scan.header:
        raise InputError("the field size (%FLSZ) is missing", where=f"{name}, line {scan.line}")
    text, line = scan.header["FLSZ"]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*\*\s*(\d+(?:\.\d+)?)", text)
    if match is None or not min(float(match[1]), float(match[2])) > 0:
        raise InputError(f"%FLSZ is {text!r}, not like 100*100", where=f"{name}, line {line}")
    return float(match[1]), float(match[2])
