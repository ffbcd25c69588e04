"""Courses of a cohort as FHIR R4 in the profiles of mCODE: what is in it, what is unknown, and that it is valid."""

import json
import re
from pathlib import Path

import pytest

from cantlie.cli.main import run
from cantlie.cohort.fhir import fhir_bundle
from cantlie.cohort.importing import read_cohort
from cantlie.core.files import write_text

ALLOWED_ID = re.compile(r"^[A-Za-z0-9\-.]{1,64}$")


@pytest.fixture
def folder(tmp_path) -> Path:
    write_text(
        tmp_path / "data" / "patients.csv",
        "patient_id,arm,sex,completed\nP_1,A,female,yes\nP 2,B,male,no\nP3,A,,\n",
    )
    write_text(
        tmp_path / "data" / "courses.csv",
        "patient_id,course_id,start,end,technique,site,dose_gy,fractions\n"
        "P_1,C1,2020-03-02,2020-03-20,IMRT,liver metastases,30,15\n"
        "P_1,C2,2020-05-04,2020-05-08,SBRT,liver,42,3\n"
        "P 2,C1,2020-04-06,,imrt,whole liver,17,10\n"
        "P3,C1,,,,,,\n",
    )
    return tmp_path / "data"


def of_type(bundle: dict, kind: str) -> list[dict]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def extension(resource: dict, name: str) -> dict:
    (found,) = [one for one in resource["extension"] if one["url"].endswith(name)]
    return {part["url"].rsplit("-", 1)[-1]: part for part in found["extension"]}


def test_courses_have_dose_fractions_technique_and_period(folder):
    bundle = fhir_bundle(read_cohort(folder))
    first, second, third, fourth = of_type(bundle, "Procedure")
    dose = extension(first, "dose-delivered-to-volume")
    assert (
        dose["totalDoseDelivered"]["valueQuantity"]["value"] == 3000
        and dose["fractionsDelivered"]["valueUnsignedInt"] == 15
    )
    assert dose["totalDoseDelivered"]["valueQuantity"]["code"] == "cGy"
    technique = extension(first, "modality-and-technique")
    assert technique["technique"]["valueCodeableConcept"]["coding"][0]["code"] == "441799006"
    assert technique["modality"]["valueCodeableConcept"]["coding"][0]["code"] == "1156506007"
    assert extension(second, "modality-and-technique")["technique"]["valueCodeableConcept"] == {"text": "SBRT"}
    assert first["performedPeriod"] == {"start": "2020-03-02", "end": "2020-03-20"}
    assert [p["status"] for p in (first, second, third, fourth)] == ["completed", "completed", "stopped", "unknown"]
    assert fourth["performedPeriod"]["extension"][0]["valueCode"] == "unknown"
    assert set(extension(fourth, "dose-delivered-to-volume")) == {"volume"}
    assert of_type(bundle, "BodyStructure")[0]["location"]["coding"][0]["code"] == "10200004"


def test_ids_are_allowed_unique_and_every_reference_leads_somewhere(folder):
    bundle = fhir_bundle(read_cohort(folder))
    resources = [entry["resource"] for entry in bundle["entry"]]
    names = [f"{one['resourceType']}/{one['id']}" for one in resources]
    assert len(set(names)) == len(names) == 3 + 4 + 4
    assert all(ALLOWED_ID.match(one["id"]) for one in resources)
    references = re.findall(r'"reference": "([^"]+)"', json.dumps(bundle))
    assert len(references) == 4 + 4 + 4 and set(references) <= set(names)


def test_the_bundle_is_valid_fhir(folder):
    resources = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    resources.Bundle.parse_raw(json.dumps(fhir_bundle(read_cohort(folder))))


def test_the_command_writes_it_and_refuses_a_cohort_without_courses(folder, tmp_path):
    out = tmp_path / "bundle.json"
    assert run(["study", "fhir", str(folder), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["resourceType"] == "Bundle"
    (folder / "courses.csv").unlink()
    assert run(["study", "fhir", str(folder), "--out", str(out)]) == 2
