"""Measured beam data in w2CAD files (.asc), the exchange form of Eclipse: lengths in mm, no energy stated."""

from __future__ import annotations

import re

import numpy as np

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.machine.measured import CurveKind, MeasuredCurve, ScanAxis
from cantlie.machine.measured_scan import Scan

_OPEN_TYPES: dict[str, CurveKind] = {"OPD": "depth dose", "OPP": "profile", "DPR": "profile"}
_AXES: dict[str, ScanAxis] = {"X": "x", "Y": "y", "D": "diagonal", "Z": "depth"}


def parse_w2cad(text: str, name: str) -> tuple[list[MeasuredCurve], list[Note]]:
    """Read the open-field depth doses and profiles of a w2CAD file; other scans are left out with a note.

    Raises
    ------
    InputError
        If a value is missing or wrong; names the line.
    """
    scans: list[Scan] = []
    is_open = False
    for line, raw in enumerate(text.splitlines(), start=1):
        content = raw.strip()
        if content.startswith("$STOM"):
            scans.append(Scan(name, line))
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
        raise InputError("the last scan has no end ($ENOM): the file is cut", where=scans[-1].where)
    curves, notes = [], []
    for scan in scans:
        kind = scan.text("TYPE").upper()
        beam = scan.text("BMTY", "PHO").upper()
        if kind not in _OPEN_TYPES or beam != "PHO":
            notes.append(
                Note(f"a scan of type {kind or 'unknown'} ({beam}) is not used", where=scan.where, level="info")
            )
            continue
        curves.append(_curve(scan, _OPEN_TYPES[kind]))
    return curves, notes


def _curve(scan: Scan, kind: CurveKind) -> MeasuredCurve:
    if not scan.points:
        raise InputError("the scan has no points", where=scan.where)
    x, y, z, dose = np.array(scan.points, dtype=np.float64).T
    stated = scan.text("AXIS").upper()
    axis: ScanAxis = "depth"
    if kind == "profile":
        if stated not in ("X", "Y", "D"):
            raise InputError(f"the profile has the axis {stated!r}", where=scan.where, remedy="use X, Y or D")
        axis = _AXES[stated]
    return MeasuredCurve(
        kind, axis, _field_mm(scan), scan.positive("SSD", "distance %SSD"), x, y, z, dose, None, scan.where
    )


def _field_mm(scan: Scan) -> tuple[float, float]:
    if "FLSZ" not in scan.header:
        raise InputError("the field size (%FLSZ) is missing", where=scan.where)
    text, line = scan.header["FLSZ"]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*\*\s*(\d+(?:\.\d+)?)", text)
    if match is None or not min(float(match[1]), float(match[2])) > 0:
        raise InputError(f"%FLSZ is {text!r}, not like 100*100", where=f"{scan.file}, line {line}")
    return float(match[1]), float(match[2])
