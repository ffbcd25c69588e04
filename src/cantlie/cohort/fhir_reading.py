"""A FHIR R4 bundle read as a cohort: patients, tumours, stages, courses of radiotherapy, responses and events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from cantlie.cohort.fhir import (
    CONDITION,
    COURSE,
    DISEASE_STATUS,
    EVENT,
    PSEUDONYM,
    RESPONSE,
    RESPONSES,
    STAGES,
    TECHNIQUES,
)
from cantlie.cohort.schema import EVENT_KINDS, TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.core.errors import CohortError
from cantlie.core.files import read_text
from cantlie.core.notes import Note

_COURSE_CODE = "1217123003"
_GY = {"cGy": 0.01, "Gy": 1.0}
_FIRST_YEAR, _LAST_YEAR = 1800, 2200
_GIVES_AWAY = ("name", "birthDate", "telecom", "address", "photo", "contact")


def read_fhir_bundle(path: Path) -> Cohort:
    """Read a FHIR R4 bundle; what Cantlie wrote comes back as it was.

    Of other systems' bundles patients get new pseudonyms, and names, birth dates and addresses are left out; of
    all, events without a day. Notes say so. Courses are Procedures coded as a radiotherapy course (SNOMED CT
    1217123003) or in mCODE's Radiotherapy Course Summary.

    Raises
    ------
    CohortError
        If it is not a FHIR bundle, has no patient, or a dose has another unit than Gy or cGy.
    """
    where = path.name
    try:
        bundle = json.loads(read_text(path, "FHIR bundle"))
    except ValueError as error:
        raise CohortError(f"this is not JSON: {error}", where=where, remedy="give a FHIR R4 bundle as JSON") from error
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise CohortError("this is not a FHIR bundle", where=where, remedy="give a FHIR R4 bundle as JSON")
    resources = [_dict(_dict(entry).get("resource")) for entry in _list(bundle.get("entry"))]
    reader = _Reader(where, resources)
    tables = {name: typed_table(TABLES[name], rows) for name, rows in reader.rows().items() if rows}
    if "patients" not in tables:
        raise CohortError("the bundle has no patients", where=where, remedy="give a bundle with Patient resources")
    tags = [_text(tag, "code") for tag in _list(_dict(bundle.get("meta")).get("tag"))]
    return Cohort(tables, path.stem, "synthetic" in tags, {}, tuple(reader.notes))


class _Reader:
    """Turns resources into rows of the tables."""

    def __init__(self, where: str, resources: Sequence[Mapping[str, Any]]) -> None:
        self.where = where
        self.resources = resources
        self.notes: list[Note] = []
        self.patients: dict[str, dict[str, Any]] = {}
        self.sites: dict[str, str] = {}

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        events: list[dict[str, Any]] = []
        for number, one in enumerate(self._of("Patient"), start=1):
            patient_id = _identifier(one, PSEUDONYM)
            if not patient_id:
                patient_id = f"P{number}"
                self._note("patients without a pseudonym of Cantlie's got new ones (P1, P2, ...)")
            if any(key in one for key in _GIVES_AWAY):
                self._note("names, birth dates and addresses were left out")
            sex = _text(one, "gender")
            self.patients[_text(one, "id")] = {
                "patient_id": patient_id,
                "sex": sex if sex in ("female", "male") else None,
            }
            died = self._date(one, "deceasedDateTime")
            if died:
                events.append({"patient_id": patient_id, "date": died, "kind": "death"})
            elif one.get("deceasedBoolean") is True or _text(one, "deceasedDateTime"):
                self._note("deaths without a day were left out")
        for one in self._of("BodyStructure"):
            self.sites[_text(one, "id")] = _text(_dict(one.get("location")), "text")
        for one in self._of("Condition"):
            self._condition(one)
        assessments: list[dict[str, Any]] = []
        for one in self._of("Observation"):
            self._observation(one, assessments, events)
        courses = [self._course(n, one) for n, one in enumerate(self._courses(), start=1)]
        return {
            "patients": list(self.patients.values()),
            "courses": courses,
            "assessments": assessments,
            "events": events,
        }

    def _of(self, kind: str) -> list[Mapping[str, Any]]:
        return [one for one in self.resources if one.get("resourceType") == kind]

    def _note(self, message: str) -> None:
        note = Note(message, self.where)
        if note not in self.notes:
            self.notes.append(note)

    def _date(self, one: Mapping[str, Any], key: str) -> str | None:
        """Return a date; None without one, for a year or month alone, which is no day, and for what is no date."""
        found = _text(one, key)[:10]
        if found and len(found) < 10:
            self._note("dates without a day (a year or a month alone) were left out")
            return None
        try:
            if found and not _FIRST_YEAR <= date.fromisoformat(found).year <= _LAST_YEAR:
                raise ValueError(found)
        except ValueError:
            self._note(f"dates that do not exist ({found!r} and the like) were left out")
            return None
        return found or None

    def _patient(self, one: Mapping[str, Any]) -> dict[str, Any]:
        reference = _text(_dict(one.get("subject")), "reference")
        found = self.patients.get(reference.rsplit("/", 1)[-1].rsplit(":", 1)[-1])
        if found is None:
            raise CohortError(
                f"{one.get('resourceType')} {_text(one, 'id')} is of a patient who is not in the bundle",
                where=self.where,
                remedy="export the patients too",
            )
        return found

    def _condition(self, one: Mapping[str, Any]) -> None:
        kind, patient = _identifier(one, CONDITION), self._patient(one)
        if kind == "primary":
            patient["primary_diagnosed"] = self._date(one, "recordedDate")
            patient["primary_site"] = _text(_first(one.get("bodySite")), "text") or None
            patient["histology"] = _text(_first(one.get("note")), "text") or None
        elif kind == "metastases":
            patient["metastasis_diagnosed"] = self._date(one, "recordedDate")
        else:
            self._note("conditions of other systems were left out")

    def _observation(
        self, one: Mapping[str, Any], assessments: list[dict[str, Any]], events: list[dict[str, Any]]
    ) -> None:
        value = _dict(one.get("valueCodeableConcept"))
        codes = _codes(one.get("code"))
        stage = next((name for name, (code, _) in STAGES.items() if code in codes), "")
        row = {
            "patient_id": self._patient(one)["patient_id"],
            "date": self._date(one, "effectiveDateTime"),
            "lesion_id": _text(_dict(one.get("bodySite")), "text") or None,
        }
        kind = _identifier(one, EVENT)
        if stage:
            patient = self._patient(one)
            patient[stage] = _text(value, "text") or None
            edition = _text(_dict(one.get("method")), "text").removeprefix("AJCC edition ")
            if edition.isdigit():
                patient["ajcc_edition"] = int(edition)
        elif not row["date"] and (kind in EVENT_KINDS or DISEASE_STATUS[1] in codes):
            self._note("events and responses without a day were left out")
        elif kind in EVENT_KINDS:
            events.append({**row, "kind": kind, "detail": _text(_first(one.get("note")), "text") or None})
        elif DISEASE_STATUS[1] in codes:
            said = _text(value, "text") if _identifier(one, RESPONSE) else ""
            coded = next((name for name, (code, _) in RESPONSES.items() if code in _codes(value)), "NE")
            method = _text(_dict(one.get("method")), "text") or None
            assessments.append({**row, "kind": "response", "value": said or coded, "method": method})
        else:
            self._note("observations of other kinds were left out")

    def _courses(self) -> list[Mapping[str, Any]]:
        return [
            one
            for one in self._of("Procedure")
            if _COURSE_CODE in _codes(one.get("code"))
            or any("radiotherapy-course-summary" in str(url) for url in _list(_dict(one.get("meta")).get("profile")))
        ]

    def _course(self, number: int, one: Mapping[str, Any]) -> dict[str, Any]:
        patient = self._patient(one)
        status = _text(one, "status")
        if status == "stopped":
            patient["completed"] = "no"
        elif status == "completed":
            patient.setdefault("completed", "yes")
        period = _dict(one.get("performedPeriod"))
        row: dict[str, Any] = {
            "patient_id": patient["patient_id"],
            "course_id": _identifier(one, COURSE) or f"C{number}",
            "start": self._date(period, "start"),
            "end": self._date(period, "end"),
        }
        for part in _extensions(one, "radiotherapy-modality-and-technique"):
            concept = _dict(part.get("valueCodeableConcept"))
            if str(part.get("url", "")).endswith("radiotherapy-technique") and _text(concept, "text") != "not stated":
                coded = next((name for name, (code, _) in TECHNIQUES.items() if code in _codes(concept)), "")
                row["technique"] = _text(concept, "text") or coded or None
        for part in _extensions(one, "radiotherapy-dose-delivered-to-volume"):
            url = str(part.get("url", ""))
            if url == "totalDoseDelivered":
                row["dose_gy"] = self._gy(_dict(part.get("valueQuantity")), one)
            elif url == "fractionsDelivered":
                row["fractions"] = part.get("valueUnsignedInt")
            elif url == "volume":
                reference = _text(_dict(part.get("valueReference")), "reference")
                site = self.sites.get(reference.rsplit("/", 1)[-1], "")
                row["site"] = site if site != "not stated" else None
        return row

    def _gy(self, quantity: Mapping[str, Any], one: Mapping[str, Any]) -> float:
        unit, value = _text(quantity, "code") or _text(quantity, "unit"), quantity.get("value")
        if unit not in _GY or not isinstance(value, (int, float)):
            raise CohortError(
                f"the dose of course {_text(one, 'id')} is {value} {unit}",
                where=self.where,
                remedy="give it in cGy or Gy",
            )
        return round(float(value) * _GY[unit], 6)


def _extensions(one: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = [_dict(part) for part in _list(one.get("extension"))]
    return [
        _dict(inner)
        for part in found
        if str(part.get("url", "")).endswith(name)
        for inner in _list(part.get("extension"))
    ]


def _identifier(one: Mapping[str, Any], system: str) -> str:
    found = [_dict(part) for part in _list(one.get("identifier"))]
    return next((_text(part, "value") for part in found if part.get("system") == system), "")


def _codes(concept: object) -> set[str]:
    return {_text(_dict(coding), "code") for coding in _list(_dict(concept).get("coding"))}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: object) -> dict[str, Any]:
    found = _list(value)
    return _dict(found[0]) if found else {}


def _text(value: object, key: str) -> str:
    found = _dict(value).get(key)
    return found.strip() if isinstance(found, str) else ""
