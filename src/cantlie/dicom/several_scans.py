"""A series that holds several scans, as some scanners store a 4D-CT: its images told apart by their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from cantlie.core.errors import DicomError
from cantlie.dicom.inventory import Record
from cantlie.dicom.values import numbers, text

_KEYS = ("NominalPercentageOfRespiratoryPhase", "NominalRespiratoryPhase", "TemporalPositionIndex",
         "TemporalPositionIdentifier", "AcquisitionNumber", "ImageComments", "SeriesDescription")  # fmt: skip
_FEWEST_IMAGES = 2


def scans_of(records: Sequence[Record]) -> list[tuple[Record, ...]]:
    """Return the scans of one series: itself, or its parts where images lie at the same places.

    A part has the series UID with its number behind ``#`` (``1.2.3#1``), so that it can be chosen. Where nothing in the
    headers tells images at one place apart, the series stays whole.

    Parameters
    ----------
    records
        The images of one series and frame of reference.
    """
    unique = list({r.sop_instance_uid or r.file.name: r for r in records}.values())
    places = [_place(record) for record in unique]
    if None in places or max(Counter(places).values(), default=0) < 2:
        return [tuple(records)]
    for keyword in _KEYS:
        parts: dict[str, list[tuple[object, Record]]] = {}
        for place, record in zip(places, unique, strict=True):
            parts.setdefault(text(record.header, keyword), []).append((place, record))
        whole = all(
            len(part) >= _FEWEST_IMAGES and len({place for place, _ in part}) == len(part) for part in parts.values()
        )
        if len(parts) > 1 and "" not in parts and whole:
            ordered = sorted(parts, key=_number_first)
            return [
                tuple(replace(r, series_uid=f"{r.series_uid}#{n}", part=n, part_from=keyword) for _, r in parts[value])
                for n, value in enumerate(ordered, start=1)
            ]
    return [tuple(records)]


def whole_series(uid: str) -> str:
    """Return the UID of the series that a scan belongs to."""
    return uid.partition("#")[0]


def _place(record: Record) -> tuple[float, ...] | None:
    try:
        corner = numbers(record.header, "ImagePositionPatient", 3, record.file.name)
    except DicomError:
        return None
    return tuple(round(float(value), 2) for value in corner)


def _number_first(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
