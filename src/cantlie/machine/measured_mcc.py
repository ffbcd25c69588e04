"""Measured beam data in PTW MEPHYSTO files (.mcc); lengths are in mm, the energy in MV."""

from __future__ import annotations

import numpy as np

from cantlie.core.errors import InputError
from cantlie.core.notes import Note
from cantlie.machine.measured import CurveKind, MeasuredCurve, ScanAxis
from cantlie.machine.measured_scan import Scan

_KINDS: dict[str, tuple[CurveKind, ScanAxis]] = {
    "PDD": ("depth dose", "depth"),
    "CROSSPLANE_PROFILE": ("profile", "x"),
    "INPLANE_PROFILE": ("profile", "y"),
}


def parse_mcc(text: str, name: str) -> tuple[list[MeasuredCurve], list[Note]]:
    """Read the open photon depth doses and profiles of an mcc file; other scans are left out with a note.

    Raises
    ------
    InputError
        If a value is missing or wrong; names the line.
    """
    scans: list[Scan] = []
    in_scan = in_data = False
    for line, raw in enumerate(text.splitlines(), start=1):
        content = raw.strip()
        word = content.split()[0] if content else ""
        if word == "BEGIN_SCAN":
            scans.append(Scan(name, line))
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
        raise InputError("the last scan has no end: the file is cut", where=scans[-1].where)
    curves, notes = [], []
    for scan in scans:
        reason = _not_used(scan)
        if reason:
            notes.append(Note(f"a scan is not used: {reason}", where=scan.where, level="info"))
        else:
            curves.append(_curve(scan))
    return curves, notes


def _not_used(scan: Scan) -> str:
    kind = scan.text("SCAN_CURVETYPE")
    if kind not in _KINDS:
        return f"its type is {kind or 'not stated'}"
    if scan.text("MODALITY") not in ("", "X"):
        return f"its modality is {scan.text('MODALITY')}, not X"
    if scan.text("WEDGE_ANGLE").strip("0.") or scan.text("BLOCK") not in ("", "0"):
        return "it was measured behind a wedge or block"
    if scan.text("SCAN_DIAGONAL") not in ("", "NOT_DIAGONAL"):
        return "it is diagonal"
    for key in ("SCAN_OFFAXIS_INPLANE", "SCAN_OFFAXIS_CROSSPLANE", "COLL_OFFSET_INPLANE", "COLL_OFFSET_CROSSPLANE"):
        if scan.text(key).lstrip("-").strip("0."):
            return f"{key} is {scan.text(key)}"
    return ""


def _curve(scan: Scan) -> MeasuredCurve:
    if not scan.points:
        raise InputError("the scan has no points", where=scan.where)
    kind, axis = _KINDS[scan.text("SCAN_CURVETYPE")]
    position, dose = np.array(scan.points, dtype=np.float64).T
    zero = np.zeros_like(position)
    field_mm = (
        scan.positive("FIELD_CROSSPLANE", "field size FIELD_CROSSPLANE"),
        scan.positive("FIELD_INPLANE", "field size FIELD_INPLANE"),
    )
    energy = scan.positive("ENERGY", "energy ENERGY") if "ENERGY" in scan.header else None
    return MeasuredCurve(
        kind=kind,
        axis=axis,
        field_mm=field_mm,
        ssd_mm=scan.positive("SSD", "distance SSD"),
        x_mm=position if axis == "x" else zero,
        y_mm=position if axis == "y" else zero,
        depth_mm=position
        if axis == "depth"
        else np.full_like(position, scan.positive("SCAN_DEPTH", "depth SCAN_DEPTH")),
        value=dose,
        energy_mv=energy,
        where=scan.where,
    )
