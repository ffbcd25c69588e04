"""Courses of a cohort as FHIR R4 in the profiles of mCODE: what is in it, what is unknown, and that it is valid."""

import json
import re
from pathlib import Path

import pytest

from cantlie.cli.main import run
from cantlie.cohort.fhir import DISEASE_STATUS, EVENT, RESPONSE, fhir_bundle
from cantlie.cohort.fhir_reading import read_fhir_bundle
from cantlie.cohort.importing import read_cohort
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
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


@pytest.fixture
def whole(folder) -> Path:
    """Return the cohort with tumours, stages, responses and events."""
    write_text(
        folder / "patients.csv",
        "patient_id,sex,completed,primary_site,histology,primary_diagnosed,metastasis_diagnosed,t_stage,n_stage,m_stage,"
        "ajcc_edition\n"
        "P_1,female,yes,rectum,adenocarcinoma,2018-01-04,2019-06-01,T3,N1,M1,8\n"
        "P 2,male,no,breast,,,,T2,,,\nP3,,,,,,,,,,\n",
    )
    write_text(
        folder / "assessments.csv",
        "patient_id,date,kind,value,method,lesion_id\n"
        "P_1,2020-06-20,response,PR,RECIST 1.1,\nP_1,2020-09-20,response,CR,,L1\nP 2,2020-07-01,response,NE,,\n",
    )
    write_text(
        folder / "events.csv",
        "patient_id,date,kind,detail\n"
        "P_1,2021-02-01,local_progression,segment 8\nP_1,2022-03-04,death,\nP 2,2021-01-01,last_follow_up,\n",
    )
    return folder


def test_tumours_stages_and_outcomes_stand_in_the_bundle(whole):
    bundle = fhir_bundle(read_cohort(whole))
    first, second, _ = of_type(bundle, "Patient")
    assert first["deceasedDateTime"] == "2022-03-04" and "deceasedDateTime" not in second
    conditions = of_type(bundle, "Condition")
    assert [c["code"]["text"] for c in conditions] == [
        "primary tumour of rectum, adenocarcinoma",
        "metastases",
        "primary tumour of breast",
    ]
    found = of_type(bundle, "Observation")
    stages = {o["code"]["coding"][0]["code"]: o for o in found if o["id"].startswith("stage-1")}
    assert {code: o["valueCodeableConcept"]["text"] for code, o in stages.items()} == {
        "78873005": "T3",
        "277206009": "N1",
        "277208005": "M1",
    }
    status = {o["id"]: o for o in found if o["code"].get("coding", [{}])[0].get("code") == "97509-4"}
    assert status["response-1"]["valueCodeableConcept"]["coding"][0]["code"] == "551001000124108"
    assert status["event-1"]["valueCodeableConcept"]["coding"][0]["code"] == "271299001"
    assert "coding" not in status["response-3"]["valueCodeableConcept"]  # not evaluable says nothing of the disease
    names = {f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle["entry"]}
    assert len(names) == len(bundle["entry"])
    assert set(re.findall(r'"reference": "([^"]+)"', json.dumps(bundle))) <= names


def test_a_whole_bundle_is_valid_fhir(whole):
    resources = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    resources.Bundle.parse_raw(json.dumps(fhir_bundle(read_cohort(whole))))


def test_what_was_written_comes_back(whole, tmp_path):
    out, back = tmp_path / "bundle.json", tmp_path / "back"
    assert run(["study", "fhir", str(whole), "--out", str(out)]) == 0
    assert run(["study", "fhir", str(out), "--out", str(back)]) == 0
    before, after = read_cohort(whole), read_cohort(back)
    for name in ("patients", "courses", "assessments", "events"):
        keys = [column for column in before.table(name) if before.table(name)[column].notna().any()]
        rows = [frame.table(name)[keys].astype(str).sort_values(keys).to_numpy().tolist() for frame in (before, after)]
        assert rows[0] == rows[1], name


def test_a_bundle_of_another_system_loses_names_and_says_so(tmp_path, capsys):
    course = {
        "resourceType": "Procedure",
        "id": "x",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "1217123003"}]},
        "subject": {"reference": "Patient/77"},
        "extension": [
            {
                "url": "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-radiotherapy-dose-delivered-to-volume",
                "extension": [{"url": "totalDoseDelivered", "valueQuantity": {"value": 5000, "code": "cGy"}}],
            }
        ],
    }
    patient = {"resourceType": "Patient", "id": "77", "name": [{"family": "Doe"}], "birthDate": "1950-01-01"}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient}, {"resource": course}]}
    write_text(tmp_path / "other.json", json.dumps(bundle))
    assert run(["study", "fhir", str(tmp_path / "other.json"), "--out", str(tmp_path / "back")]) == 0
    assert "left out" in capsys.readouterr().err
    cohort = read_cohort(tmp_path / "back")
    assert cohort.patients["patient_id"].tolist() == ["P1"]
    assert cohort.table("courses")["dose_gy"].tolist() == [50.0]
    assert "Doe" not in "".join(file.read_text() for file in (tmp_path / "back").iterdir())
    course["extension"][0]["extension"][0]["valueQuantity"]["code"] = "rad"
    write_text(tmp_path / "other.json", json.dumps(bundle))
    assert run(["study", "fhir", str(tmp_path / "other.json"), "--out", str(tmp_path / "x")]) == 2
    write_text(tmp_path / "no.json", "[1, 2")
    assert run(["study", "fhir", str(tmp_path / "no.json"), "--out", str(tmp_path / "x")]) == 2
    assert "not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("partial", ["2019", "2019-05"])
def test_a_date_without_a_day_is_left_out_and_said(tmp_path, partial):
    patient = {"resourceType": "Patient", "id": "a", "deceasedDateTime": partial}
    course = {
        "resourceType": "Procedure",
        "subject": {"reference": "Patient/a"},
        "code": {"coding": [{"code": "1217123003"}]},
        "performedPeriod": {"start": partial, "end": "2019-06-07T10:00:00Z"},
    }
    bundle = {"resourceType": "Bundle", "entry": [{"resource": patient}, {"resource": course}]}
    (tmp_path / "b.json").write_text(json.dumps(bundle), encoding="utf-8")
    cohort = read_fhir_bundle(tmp_path / "b.json")
    (row,) = cohort.table("courses").to_dict("records")
    assert str(row["start"]) == "NaT" and str(row["end"].date()) == "2019-06-07"
    assert cohort.table("events").empty
    assert any("without a day" in note.message for note in cohort.notes)


WITHOUT_A_DAY = [
    {},
    {"effectiveDateTime": "2020"},
    {"effectiveDateTime": "2020-13-41"},
    {"effectiveDateTime": "0001-01-01"},
]


@pytest.mark.parametrize("when", WITHOUT_A_DAY)
@pytest.mark.parametrize("system", [EVENT, RESPONSE])
def test_an_event_without_a_day_is_left_out_and_said(tmp_path, capsys, when, system):
    """Otherwise the tables that are written could not be read, and the cohort not be written back as a bundle."""
    patient = {"resourceType": "Patient", "id": "a", "deceasedBoolean": True}
    course = {
        "resourceType": "Procedure",
        "subject": {"reference": "Patient/a"},
        "code": {"coding": [{"code": "1217123003"}]},
    }
    event = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/a"},
        "identifier": [{"system": system, "value": "local_progression"}],
        "code": {"coding": [{"system": DISEASE_STATUS[0], "code": DISEASE_STATUS[1]}]},
        **when,
    }
    bundle = {"resourceType": "Bundle", "entry": [{"resource": one} for one in (patient, course, event)]}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bundle), encoding="utf-8")
    cohort = read_fhir_bundle(path)
    assert cohort.table("events").empty and cohort.table("assessments").empty
    said = [note.message for note in cohort.notes]
    assert "events and responses without a day were left out" in said
    assert "deaths without a day were left out" in said
    assert not of_type(fhir_bundle(cohort), "Observation")
    assert run(["study", "fhir", str(path), "--out", str(tmp_path / "back")]) == 0
    assert "without a day" in capsys.readouterr().err


def test_dates_that_a_cohort_in_memory_lacks_are_marked_as_unknown():
    tables = {
        "patients": [{"patient_id": "P1"}],
        "events": [{"patient_id": "P1", "date": None, "kind": kind} for kind in ("death", "local_progression")],
    }
    bundle = fhir_bundle(Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()}))
    (patient,), (event,) = of_type(bundle, "Patient"), of_type(bundle, "Observation")
    assert patient["deceasedBoolean"] is True and "deceasedDateTime" not in patient
    assert "effectiveDateTime" not in event
    assert event["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"


def test_what_a_bundle_does_not_hold_is_named(whole, tmp_path, capsys):
    assert run(["study", "fhir", str(whole), "--out", str(tmp_path / "a.json")]) == 0
    before = capsys.readouterr().err
    data = tmp_path / "other"
    data.mkdir()
    (data / "patients.csv").write_text("patient_id,arm,sex\nP1,A,male\n")
    (data / "courses.csv").write_text("patient_id,course_id\nP1,C1\n")
    (data / "labs.csv").write_text("patient_id,date,test,value,unit\nP1,2020-01-05,ALT,40,U/L\n")
    (data / "assessments.csv").write_text("patient_id,date,kind,value\nP1,2020-01-05,ecog,1\n")
    assert run(["study", "fhir", str(data), "--out", str(tmp_path / "b.json")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "not in the bundle: labs, patients.arm, assessments of ecog" in said
    assert "labs" not in before
