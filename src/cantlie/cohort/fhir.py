"""A cohort as a FHIR R4 bundle, courses in the profiles of mCODE, for exchange with registries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cantlie.cohort.schema import PROGRESSION_KINDS
from cantlie.cohort.tables import Cohort
from cantlie.core.notes import Note
from cantlie.core.provenance import RESEARCH_USE_ONLY

_MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-"
_SNOMED = "http://snomed.info/sct"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
PSEUDONYM = "urn:cantlie:pseudonym"
_PHOTONS = ("1156506007", "External beam radiation therapy using photons (procedure)")
TECHNIQUES = {
    "IMRT": ("441799006", "Intensity modulated radiation therapy (procedure)"),
    "VMAT": ("1156530009", "Volumetric Modulated Arc Therapy (procedure)"),
    "3D-CRT": ("1162782007", "Three dimensional external beam radiation therapy (procedure)"),
}
"""Techniques with a code; others are written as text."""
STAGES = {
    "t_stage": ("78873005", "T category (observable entity)"),
    "n_stage": ("277206009", "N category (observable entity)"),
    "m_stage": ("277208005", "M category (observable entity)"),
}
RESPONSES = {
    "CR": ("550991000124107", "Malignant neoplasm in full remission (disorder)"),
    "PR": ("551001000124108", "Malignant neoplasm in partial remission (disorder)"),
    "SD": ("359746009", "Patient's condition stable (finding)"),
    "PD": ("271299001", "Patient's condition worsened (finding)"),
}
DISEASE_STATUS = ("http://loinc.org", "97509-4", "Cancer disease progression")
EVENT, RESPONSE, CONDITION, COURSE = (f"urn:cantlie:{kind}" for kind in ("event", "response", "condition", "course"))
"""Systems of the identifiers by which Cantlie knows its own resources again."""
_TABLES_KEPT = ("patients", "courses", "assessments", "events")
_COLUMNS_KEPT = (
    "patient_id", "sex", "completed", "primary_site", "histology", "primary_diagnosed", "metastasis_diagnosed",
    "ajcc_edition", *STAGES,
)  # fmt: skip
_LIVER = ("10200004", "Liver structure (body structure)")


def fhir_bundle(cohort: Cohort) -> dict[str, Any]:
    """Return a cohort as a FHIR R4 bundle of the type ``collection``: patients, tumours, stages, courses, outcomes.

    Each course is a Procedure in the profile Radiotherapy Course Summary of mCODE 4.0.0, with its dose to a
    BodyStructure in the profile Radiotherapy Volume; doses are in cGy as mCODE asks. Patients are pseudonyms with sex
    and day of death only; they, tumours (site and histology as the cohort writes them) and stages claim no profile.
    Responses and progressions are Observations in the profile Cancer Disease Status, other events ones without.
    What the cohort does not say is marked as unknown or left out.

    References
    ----------
    mCODE STU 4, https://hl7.org/fhir/us/mcode; FHIR R4, https://hl7.org/fhir/R4.
    """
    entries: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    stopped: set[str] = set()
    events = cohort.table("events")
    deaths = {str(row["patient_id"]): row["date"] for row in events[events["kind"] == "death"].to_dict("records")}
    for number, row in enumerate(cohort.patients.to_dict("records"), start=1):
        patient = str(row["patient_id"])
        ids[patient] = _id("patient", number, patient)
        if row.get("completed") == "no":
            stopped.add(patient)
        entries.append(_patient(ids[patient], patient, row.get("sex"), cohort.synthetic))
        if patient in deaths:
            day = deaths[patient]
            entries[-1].update({"deceasedDateTime": _day(day)} if _known(day) else {"deceasedBoolean": True})
        entries += _tumour(number, ids[patient], row)
    for number, row in enumerate(cohort.table("courses").to_dict("records"), start=1):
        patient = str(row["patient_id"])
        volume = _id("volume", number, patient)
        entries.append(_volume(volume, ids[patient], row))
        entries.append(_course(_id("course", number, patient), volume, ids[patient], row, patient in stopped))
    findings = cohort.table("assessments")
    for number, row in enumerate(findings[findings["kind"] == "response"].to_dict("records"), start=1):
        entries.append(_response(number, ids[str(row["patient_id"])], row))
    for number, row in enumerate(events[events["kind"] != "death"].to_dict("records"), start=1):
        entries.append(_event(number, ids[str(row["patient_id"])], row))
    tags = [{"system": "urn:cantlie:notice", "code": "research", "display": RESEARCH_USE_ONLY}]
    if cohort.synthetic:
        tags.append({"system": "urn:cantlie:notice", "code": "synthetic", "display": "SYNTHETIC"})
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "meta": {"tag": tags},
        "entry": [{"fullUrl": f"urn:cantlie:{one['resourceType']}:{one['id']}", "resource": one} for one in entries],
    }


def not_in_bundle(cohort: Cohort) -> tuple[Note, ...]:
    """Return a note of the tables, columns and findings of a cohort that its bundle does not hold."""
    lost = [name for name in cohort.tables if name not in _TABLES_KEPT and len(cohort.table(name))]
    patients = cohort.patients
    lost += [f"patients.{c}" for c in patients if c not in _COLUMNS_KEPT and patients[c].notna().any()]
    kinds = cohort.table("assessments")["kind"]
    lost += [f"assessments of {kind}" for kind in sorted(set(kinds) - {"response"})]
    return (Note(f"not in the bundle: {', '.join(lost)}", "FHIR"),) if lost else ()


def _id(kind: str, number: int, patient: str) -> str:
    """Return an identifier of up to 64 characters that FHIR allows, unlike any other by its number."""
    plain = re.sub(r"[^A-Za-z0-9.-]", "-", patient)[:40]
    return f"{kind}-{number}-{plain}"


def _patient(identifier: str, pseudonym: str, sex: object, synthetic: bool) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "Patient",
        "id": identifier,
        "identifier": [{"use": "secondary", "system": PSEUDONYM, "value": pseudonym}],
        "gender": str(sex) if sex in ("female", "male") else "unknown",
    }
    if synthetic:
        resource["active"] = False
    return resource


def _tumour(number: int, patient: str, row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Return the primary tumour, its metastases and its stages, as far as they are known."""
    site, histology = _text(row.get("primary_site")), _text(row.get("histology"))
    stages = {name: _text(row.get(name)) for name in STAGES}
    found: list[dict[str, Any]] = []
    primary = f"condition-{number}-primary"
    if site or histology or any(stages.values()) or _known(row.get("primary_diagnosed")):
        text = "primary tumour" + (f" of {site}" if site else "") + (f", {histology}" if histology else "")
        found.append(_condition(primary, "primary", patient, text, row.get("primary_diagnosed")))
        if site:
            found[-1]["bodySite"] = [{"text": site}]
        if histology:
            found[-1]["note"] = [{"text": histology}]
    if _known(row.get("metastasis_diagnosed")):
        day = row["metastasis_diagnosed"]
        found.append(_condition(f"condition-{number}-metastases", "metastases", patient, "metastases", day))
    edition = f"AJCC edition {int(row['ajcc_edition'])}" if _known(row.get("ajcc_edition")) else ""
    for name, value in stages.items():
        if value:
            stage = {
                "resourceType": "Observation",
                "id": f"stage-{number}-{name[0]}",
                "status": "final",
                "code": _concept(*STAGES[name]),
                "subject": {"reference": f"Patient/{patient}"},
                "focus": [{"reference": f"Condition/{primary}"}],
                "valueCodeableConcept": {"text": value},
            }
            found.append({**stage, "method": {"text": edition}} if edition else stage)
    return found


def _condition(identifier: str, kind: str, patient: str, text: str, day: object) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "Condition",
        "id": identifier,
        "identifier": [{"use": "secondary", "system": CONDITION, "value": kind}],
        "code": {"text": text},
        "subject": {"reference": f"Patient/{patient}"},
    }
    if _known(day):
        resource["recordedDate"] = _day(day)
    return resource


def _response(number: int, patient: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    value = _text(row["value"])
    resource = _observation(f"response-{number}", RESPONSE, str(number), patient, row)
    resource["valueCodeableConcept"] = {**(_concept(*RESPONSES[value]) if value in RESPONSES else {}), "text": value}
    if value in RESPONSES:
        resource["meta"] = {"profile": [f"{_MCODE}cancer-disease-status"]}
    if _text(row.get("method")):
        resource["method"] = {"text": _text(row["method"])}
    return resource


def _event(number: int, patient: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    kind = _text(row["kind"])
    resource = _observation(f"event-{number}", EVENT, kind, patient, row)
    if kind in PROGRESSION_KINDS:
        resource["valueCodeableConcept"] = {**_concept(*RESPONSES["PD"]), "text": kind}
        resource["meta"] = {"profile": [f"{_MCODE}cancer-disease-status"]}
    else:
        resource["code"] = {"text": kind}
        resource["valueBoolean"] = True
    if _text(row.get("detail")):
        resource["note"] = [{"text": _text(row["detail"])}]
    return resource


def _observation(identifier: str, system: str, value: str, patient: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    system_code, code, display = DISEASE_STATUS
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": identifier,
        "identifier": [{"use": "secondary", "system": system, "value": value}],
        "status": "final",
        "code": {"coding": [{"system": system_code, "code": code, "display": display}]},
        "subject": {"reference": f"Patient/{patient}"},
    }
    if _known(row["date"]):
        resource["effectiveDateTime"] = _day(row["date"])
    else:
        resource["_effectiveDateTime"] = {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]}
    if _text(row.get("lesion_id")):
        resource["bodySite"] = {"text": _text(row["lesion_id"])}
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
    coded = TECHNIQUES.get(technique.upper())
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
            period[name] = _day(row[column])
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
        "identifier": [{"use": "secondary", "system": COURSE, "value": str(row["course_id"])}],
        "status": "stopped" if stopped else "completed" if "end" in period else "unknown",
        "category": _concept("108290001", "Radiation oncology AND/OR radiotherapy (procedure)"),
        "code": _concept("1217123003", "Radiotherapy course of treatment (regime/therapy)"),
        "subject": {"reference": f"Patient/{patient}"},
        "performedPeriod": period or {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]},
    }


def _concept(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": _SNOMED, "code": code, "display": display}]}


def _day(value: Any) -> str:
    return pd.Timestamp(value).strftime("%Y-%m-%d")


def _known(value: object) -> bool:
    return value is not None and not pd.isna(value)  # type: ignore[call-overload]


def _text(value: object) -> str:
    return str(value).strip() if _known(value) else ""
