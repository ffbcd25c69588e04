"""Measured beam data in PTW MEPHYSTO files (.mcc); lengths are in mm, the energy in MV."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.machine.measured import CurveKind, MeasuredCurve, ScanAxis

_KINDS: dict[str, tuple[CurveKind, ScanAxis]] = {
    "PDD": ("depth dose", "depth"),
    "CROSSPLANE_PROFILE": ("profile", "x"),
    "INPLANE_PROFILE": ("profile", "y"),
}


@dataclass
class _Scan:
    line: int
    header: dict[str, tuple[str, int]] = field(default_factory=dict)
    points: list[tuple[float, float]] = field(default_factory=list)


def parse_mcc(text: str, name: str) -> tuple[list[MeasuredCurve], list[Note]]:
    """Read the open photon depth doses and profiles of an mcc file; other scans are left out with a note.

    Raises
    ------
    InputError
        If a value is missing or wrong; names the line.
    """
    scans: list[_Scan] = []
    in_scan = in_data = False
    for line, raw in enumerate(text.splitlines(), start=1):
        content = raw.strip()
        word = content.split()[0] if content else ""
        if word == "BEGIN_SCAN":
            scans.append(_Scan(line))
            in_scan = True
        elif word == "END_SCAN":
            in_scan = False
        elif word in ("BEGIN_DATA", "END_DATA"):
            in_data = word == "BEGIN_DATA"
        elif in_scan and in_data and content:
            try:
                position, dose = (float(number) for number in content.replace("#", " ").split()[:2])
            except ValueError:
                raise InputError(
                    f"the row is not position and dose ({content[:60]!r})", where=f"{name}, line {line}"
                ) from None
            scans[-1].points.append((position, dose))
        elif in_scan and "=" in content:
            key, _, value = content.partition("=")
            scans[-1].header[key.strip().upper()] = (value.strip(), line)
    if not scans:
        raise InputError("the file has no scan (BEGIN_SCAN)", where=name)
    if in_scan or in_data:
        raise InputError("the last scan has no end: the file is cut", where=f"{name}, line {scans[-1].line}")
    curves, notes = [], []
    for scan in scans:
        reason = _not_used(scan)
        if reason:
            notes.append(Note(f"a scan is not used: {reason}", where=f"{name}, line {scan.line}", level="info"))
        else:
            curves.append(_curve(scan, name))
    return curves, notes


def _value(scan: _Scan, key: str) -> str:
    return scan.header.get(key, ("", 0))[0]


def _not_used(scan: _Scan) -> str:
    kind = _value(scan, "SCAN_CURVETYPE")
    if kind not in _KINDS:
        return f"its type is {kind or 'not stated'}"
    if _value(scan, "MODALITY") not in ("", "X"):
        return f"its modality is {_value(scan, 'MODALITY')}, not X"
    if _value(scan, "WEDGE_ANGLE").strip("0.") or _value(scan, "BLOCK") not in ("", "0"):
        return "it was measured behind a wedge or block"
    if _value(scan, "SCAN_DIAGONAL") not in ("", "NOT_DIAGONAL"):
        return "it is diagonal"
    for key in ("SCAN_OFFAXIS_INPLANE", "SCAN_OFFAXIS_CROSSPLANE", "COLL_OFFSET_INPLANE", "COLL_OFFSET_CROSSPLANE"):
        if _value(scan, key).lstrip("-").strip("0."):
            return f"{key} is {_value(scan, key)}"
    return ""


def _curve(scan: _Scan, name: str) -> MeasuredCurve:
    where = f"{name}, line {scan.line}"
    if not scan.points:
        raise InputError("the scan has no points", where=where)
    kind, axis = _KINDS[_value(scan, "SCAN_CURVETYPE")]
    position, dose = np.array(scan.points, dtype=np.float64).T
    zero = np.zeros_like(position)
    field_mm = (_length(scan, "FIELD_CROSSPLANE", name), _length(scan, "FIELD_INPLANE", name))
    energy = _length(scan, "ENERGY", name) if "ENERGY" in scan.header else None
    return MeasuredCurve(
        kind=kind,
        axis=axis,
        field_mm=field_mm,
        ssd_mm=_length(scan, "SSD", name),
        x_mm=position if axis == "x" else zero,
        y_mm=position if axis == "y" else zero,
        depth_mm=position if axis == "depth" else np.full_like(position, _length(scan, "SCAN_DEPTH", name)),
        value=dose,
        energy_mv=energy,
        where=where,
    )


def _length(scan: _Scan, key: str, name: str) -> float:
    if key not in scan.header:
        what = "field size" if key.startswith("FIELD") else "value"
        raise InputError(f"the {what} {key} is missing", where=f"{name}, line {scan.line}")
    text, line = scan.header[key]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise InputError(f"{key} is {text!r}, not a positive number", where=f"{name}, line {line}")
    return value
