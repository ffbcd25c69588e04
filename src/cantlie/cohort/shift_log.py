"""The shift log: what image guidance measured and did in every session, read from a CSV file.

One row per image. Columns (a header row; any order; unknown columns are refused):

========================  ==============================================================================================
``patient``               pseudonym; may be left out where the log has one patient
``session``               number of the session in the course, from 1; ``session`` or ``date`` is needed
``date``, ``time``        2026-01-31 (or 31.01.2026), 14:05
``target``                whose plan was treated, where a day has several sessions
``modality``              CBCT, kV, EPID ... or ``none`` for a session without an image
``match``                 what was matched: bone, soft tissue, grey value, manual; several with ``>`` in their order
``x_mm``, ``y_mm``,       displacement of the anatomy from its planned place before correction:
``z_mm``                  x to the patient's left, y to posterior, z to the head
``rx_deg`` ... ``rz_deg`` rotations about these axes
``corrected``             yes or no: whether the couch was moved
``residual_x_mm`` ...     displacement that remained, where it was measured again
``approved_by``           role or initials of who approved
========================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import InputError
from cantlie.core.files import read_text
from cantlie.core.notes import Note
from cantlie.core.provenance import sha256_of_bytes
from cantlie.core.spreadsheet import number_of, read_sheet

Three = tuple[float, float, float]

LARGEST_MM = 100.0
_SMALL_MM, _ENOUGH_IMAGES = 1.5, 10  # so many images with nothing larger are suspected to be in centimetres
LARGEST_DEG = 45.0
_SHIFT = ("x_mm", "y_mm", "z_mm")
_ROTATION = ("rx_deg", "ry_deg", "rz_deg")
_RESIDUAL = ("residual_x_mm", "residual_y_mm", "residual_z_mm")
COLUMNS = (
    "patient", "session", "date", "time", "target", "modality", "match", *_SHIFT, *_ROTATION, "corrected", *_RESIDUAL,
    "approved_by",
)  # fmt: skip
_NO_IMAGE = ("none", "no", "-")
_YES = ("yes", "y", "true", "1")
_NO = ("no", "n", "false", "0")


@dataclass(frozen=True, slots=True)
class ShiftEntry:
    """One row of a shift log; ``shift_mm`` is None where no image was taken."""

    row: int
    patient: str
    session: int | None
    day: date | None
    clock: time | None
    target: str
    modality: str
    match: tuple[str, ...]
    shift_mm: Three | None
    rotation_deg: Three | None
    corrected: bool | None
    residual_mm: Three | None
    approved_by: str

    @property
    def imaged(self) -> bool:
        """Whether an image was taken."""
        return self.shift_mm is not None

    @property
    def remaining_mm(self) -> Three | None:
        """What the dose saw: the measured residual, nothing after a correction, else the displacement."""
        if self.residual_mm is not None:
            return self.residual_mm
        return (0.0, 0.0, 0.0) if self.corrected else self.shift_mm

    @property
    def name(self) -> str:
        """How messages call the row."""
        return f"row {self.row}"


@dataclass(frozen=True, slots=True)
class ShiftLog:
    """All rows of a log, in the order of the file."""

    entries: tuple[ShiftEntry, ...]
    sha256: str
    notes: tuple[Note, ...] = ()

    @property
    def patients(self) -> tuple[str, ...]:
        """Pseudonyms in the order of the log."""
        return tuple(dict.fromkeys(entry.patient for entry in self.entries))

    def of_patient(self, patient: str) -> tuple[ShiftEntry, ...]:
        """Return the rows of one patient."""
        return tuple(entry for entry in self.entries if entry.patient == patient)

    def shifts_mm(self, patient: str) -> NDArray[np.float64]:
        """Return the displacements before correction of one patient's images, shape (images, 3)."""
        found = [entry.shift_mm for entry in self.of_patient(patient) if entry.shift_mm is not None]
        return np.array(found, dtype=np.float64).reshape(-1, 3)


def read_shift_log(path: Path) -> ShiftLog:
    """Read a shift log.

    Raises
    ------
    InputError
        If the file cannot be read or a value breaks the schema, with row and column.
    """
    return parse_shift_log(read_text(path, "shift log"), path.name)


def parse_shift_log(text: str, where: str = "shift log") -> ShiftLog:
    """Read a shift log from text (see `read_shift_log`)."""
    sheet = read_sheet(text, where)
    header = [name.lower() for name in sheet.header]
    _check_header(header, where)
    entries = [
        _entry(number, dict(zip(header, cells, strict=True)), where, sheet.decimal_comma)
        for number, cells in zip(sheet.lines, sheet.rows, strict=True)
    ]
    if not entries:
        raise InputError("the shift log has no rows", where=where, remedy="give one row per session")
    notes = _notes(entries)
    return ShiftLog(tuple(entries), sha256_of_bytes(text.encode()), notes)


def _check_header(header: list[str], where: str) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"unknown columns {', '.join(repr(name) for name in unknown)}",
            where=where,
            remedy=f"columns are {', '.join(COLUMNS)}",
        )
    if len(set(header)) != len(header):
        raise InputError("a column appears twice", where=where)
    missing = [name for name in _SHIFT if name not in header]
    if "session" not in header and "date" not in header:
        missing.append("session or date")
    if missing:
        raise InputError(f"columns are missing: {', '.join(missing)}", where=where)


def _entry(number: int, values: Mapping[str, str], where: str, decimal_comma: bool) -> ShiftEntry:
    place = f"{where}, row {number}"
    session = _whole(values.get("session", ""), place)
    day = _moment(values.get("date", ""), "date", place)
    clock = _moment(values.get("time", ""), "time", place)
    if session is None and day is None:
        raise InputError("neither session nor date is given", where=place)
    modality = values.get("modality", "")
    shift = _three(values, _SHIFT, LARGEST_MM, place, decimal_comma)
    if modality.lower() in _NO_IMAGE and shift is not None:
        raise InputError("a session without an image has a displacement", where=f"{place}, column modality")
    if shift is None and modality and modality.lower() not in _NO_IMAGE:
        raise InputError(
            "an image without a displacement", where=f"{place}, columns x_mm, y_mm, z_mm", remedy="give 0 for none"
        )
    return ShiftEntry(
        row=number,
        patient=values.get("patient", ""),
        session=session,
        day=day.date() if day else None,
        clock=clock.time() if clock else None,
        target=values.get("target", ""),
        modality="" if modality.lower() in _NO_IMAGE else modality,
        match=tuple(part.strip().lower() for part in values.get("match", "").split(">") if part.strip()),
        shift_mm=shift,
        rotation_deg=_three(values, _ROTATION, LARGEST_DEG, place, decimal_comma),
        corrected=_flag(values.get("corrected", ""), place),
        residual_mm=_three(values, _RESIDUAL, LARGEST_MM, place, decimal_comma),
        approved_by=values.get("approved_by", ""),
    )


def _three(
    values: Mapping[str, str], columns: tuple[str, str, str], most: float, place: str, decimal_comma: bool
) -> Three | None:
    texts = [values.get(name, "") for name in columns]
    if not any(texts):
        return None
    numbers = []
    for name, text in zip(columns, texts, strict=True):
        try:
            number = number_of(text, decimal_comma)
        except ValueError:
            what = f"{text!r} is not a number" if text else "is missing where the other axes are given"
            raise InputError(what, where=f"{place}, column {name}", remedy="write numbers with a point") from None
        if not abs(number) <= most:
            raise InputError(
                f"{number:g} is beyond {most:g}", where=f"{place}, column {name}", remedy="check the unit of the column"
            )
        numbers.append(number)
    x, y, z = numbers
    return x, y, z


def _whole(text: str, place: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise InputError(f"{text!r} is not a session number", where=f"{place}, column session", remedy="count from 1")
    return int(text)


def _moment(text: str, column: str, place: str) -> datetime | None:
    if not text:
        return None
    formats = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y") if column == "date" else ("%H:%M", "%H:%M:%S")
    for form in formats:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    example = "2026-01-31" if column == "date" else "14:05"
    raise InputError(f"{text!r} is not a {column}", where=f"{place}, column {column}", remedy=f"write it as {example}")


def _flag(text: str, place: str) -> bool | None:
    if not text:
        return None
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise InputError(f"{text!r} is neither yes nor no", where=f"{place}, column corrected")


def _notes(entries: list[ShiftEntry]) -> tuple[Note, ...]:
    notes = []
    assumed = sum(bool(entry.corrected) and entry.residual_mm is None for entry in entries)
    if assumed:
        notes.append(
            Note(
                f"{assumed} corrected {'session has' if assumed == 1 else 'sessions have'} no measured residual; "
                "nothing is taken to have remained",
                "shift log",
            )
        )
    turned = sum(entry.rotation_deg is not None and any(entry.rotation_deg) for entry in entries)
    if turned:
        notes.append(Note(f"rotations of {turned} sessions are reported, but not applied to the dose", "shift log"))
    sizes = [abs(v) for entry in entries if entry.shift_mm is not None for v in entry.shift_mm]
    if len(sizes) >= 3 * _ENOUGH_IMAGES and 0 < max(sizes) < _SMALL_MM:
        message = f"no displacement of {len(sizes) // 3} images reaches {_SMALL_MM:g} mm: they look like centimetres"
        notes.append(Note(message, "shift log"))
    return tuple(notes)
