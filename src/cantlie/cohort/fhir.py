"""A cohort's courses of radiotherapy as a FHIR R4 bundle in the profiles of mCODE, for exchange with registries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cantlie.cohort.tables import Cohort
from cantlie.core.provenance import RESEARCH_USE_ONLY

_MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
_SNOMED = "http://snomed.info/sct"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_PSEUDONYM = "urn:cantlie:pseudonym"
_PHOTONS = ("1156506007", "External beam radiation therapy using photons (procedure)")
_TECHNIQUES = {
    "IMRT": ("441799006", "Intensity modulated radiation therapy (procedure)"),
    "VMAT": ("1156530009", "Volumetric Modulated Arc Therapy (procedure)"),
    "3D-CRT": ("1162782007", "Three dimensional external beam radiation therapy (procedure)"),
}
"""Techniques with a code; others are written as text."""
_LIVER = ("10200004", "Liver structure (body structure)")


def fhir_bundle(cohort: Cohort) -> dict[str, Any]:
    """Return patients and their courses of radiotherapy as a FHIR R4 bundle of the type ``collection``.

    Each course is a Procedure in the profile Radiotherapy Course Summary of mCODE 4.0.0, with its dose to a
    BodyStructure in the profile Radiotherapy Volume; doses are in cGy as mCODE asks. Patients are pseudonyms with sex
    only and claim no profile. What the cohort does not say is marked as unknown.

    References
    ----------
    mCODE STU 4, https://hl7.org/fhir/us/mcode; FHIR R4, https://hl7.org/fhir/R4.
    """
    entries: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    stopped: set[str] = set()
    for number, row in enumerate(cohort.patients.to_dict("records"), start=1):
        patient = str(row["patient_id"])
        ids[patient] = _id("patient", number, patient)
        if row.get("completed") == "no":
            stopped.add(patient)
        entries.append(_patient(ids[patient], patient, row.get("sex"), cohort.synthetic))
    for number, row in enumerate(cohort.table("courses").to_dict("records"), start=1):
        patient = str(row["patient_id"])
        volume = _id("volume", number, patient)
        entries.append(_volume(volume, ids[patient], row))
        entries.append(_course(_id("course", number, patient), volume, ids[patient], row, patient in stopped))
    tags = [{"system": "urn:cantlie:notice", "code": "research", "display": RESEARCH_USE_ONLY}]
    if cohort.synthetic:
        tags.append({"system": "urn:cantlie:notice", "code": "synthetic", "display": "SYNTHETIC"})
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "meta": {"tag": tags},
        "entry": [{"fullUrl": f"urn:cantlie:{one['resourceType']}:{one['id']}", "resource": one} for one in entries],
    }


def _id(kind: str, number: int, patient: str) -> str:
    """Return an identifier of up to 64 characters that FHIR allows, unlike any other by its number."""
    plain = re.sub(r"[^A-Za-z0-9.-]", "-", patient)[:40]
    return f"{kind}-{number}-{plain}"


def _patient(identifier: str, pseudonym: str, sex: object, synthetic: bool) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "Patient",
        "id": identifier,
        "identifier": [{"use": "secondary", "system": _PSEUDONYM, "value": pseudonym}],
        "gender": str(sex) if sex in ("female", "male") else "unknown",
    }
    if synthetic:
        resource["active"] = False
    return resource


def _volume(identifier: str, patient: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    site = _text(row.get("site"))
    location = {"text": site or "not stated"}
    if "liver" in site.lower() or "hepatic" in site.lower():
        location = {**_concept(*_LIVER), "text": site}
    return {
        "resourceType": "BodyStructure",
        "id": identifier,
        "meta": {"profile": [f"{_MCODE}radiotherapy-volume"]},
        "description": f"irradiated volume of course {row['course_id']}" + (f": {site}" if site else ""),
        "location": location,
        "patient": {"reference": f"Patient/{patient}"},
    }


def _course(identifier: str, volume: str, patient: str, row: Mapping[Any, Any], stopped: bool) -> dict[str, Any]:
    technique = _text(row.get("technique"))
    coded = _TECHNIQUES.get(technique.upper())
    # a technique with a code is of photons; what another one uses is not said
    modality = _concept(*_PHOTONS) if coded else {"text": "not stated"}
    dose: list[dict[str, Any]] = [{"url": "volume", "valueReference": {"reference": f"BodyStructure/{volume}"}}]
    if _known(row.get("dose_gy")):
        centigray = round(100.0 * float(row["dose_gy"]), 6)
        quantity = {"value": centigray, "unit": "cGy", "system": "http://unitsofmeasure.org", "code": "cGy"}
        dose.append({"url": "totalDoseDelivered", "valueQuantity": quantity})
    if _known(row.get("fractions")):
        dose.append({"url": "fractionsDelivered", "valueUnsignedInt": int(row["fractions"])})
    period: dict[str, Any] = {}
    for name, column in (("start", "start"), ("end", "end")):
        if _known(row.get(column)):
            period[name] = pd.Timestamp(row[column]).strftime("%Y-%m-%d")
    return {
        "resourceType": "Procedure",
        "id": identifier,
        "meta": {"profile": [f"{_MCODE}radiotherapy-course-summary"]},
        "extension": [
            {
                "url": f"{_MCODE}radiotherapy-modality-and-technique",
                "extension": [
                    {"url": f"{_MCODE}radiotherapy-modality", "valueCodeableConcept": modality},
                    {
                        "url": f"{_MCODE}radiotherapy-technique",
                        "valueCodeableConcept": {
                            **(_concept(*coded) if coded else {}),
                            "text": technique or "not stated",
                        },
                    },
                ],
            },
            {"url": f"{_MCODE}radiotherapy-dose-delivered-to-volume", "extension": dose},
        ],
        "identifier": [{"use": "secondary", "system": "urn:cantlie:course", "value": str(row["course_id"])}],
        "status": "stopped" if stopped else "completed" if "end" in period else "unknown",
        "category": _concept("108290001", "Radiation oncology AND/OR radiotherapy (procedure)"),
        "code": _concept("1217123003", "Radiotherapy course of treatment (regime/therapy)"),
        "subject": {"reference": f"Patient/{patient}"},
        "performedPeriod": period or {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]},
    }


def _concept(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": _SNOMED, "code": code, "display": display}]}


def _known(value: object) -> bool:
    return value is not None and not pd.isna(value)  # type: ignore[call-overload]


def _text(value: object) -> str:
    return str(value).strip() if _known(value) else ""
