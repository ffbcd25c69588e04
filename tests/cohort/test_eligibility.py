"""Variables, eligibility rules and flow, de-identification."""

from dataclasses import replace

import pandas as pd
import pytest

from cantlie.cohort.deidentify import deidentify, deidentify_folder
from cantlie.cohort.eligibility import Rule, arm_flow, assess_eligibility
from cantlie.cohort.exporting import write_cohort
from cantlie.cohort.importing import read_cohort
from cantlie.cohort.schema import TABLES, schema_markdown
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.cohort.variables import Variable, evaluate, evaluate_all
from cantlie.core.errors import CohortError, InputError

START = pd.Timestamp("2020-01-01")


def day(number):
    return START + pd.Timedelta(days=number)


@pytest.fixture
def cohort():
    tables = {
        "patients": [
            {"patient_id": "P1", "treatment_start": START, "age_years": 50, "ecog": 1, "arm": "A", "completed": "yes"},
            {"patient_id": "P2", "treatment_start": START, "age_years": 49.9, "ecog": 3, "arm": "A", "completed": "no",
             "not_completed_reason": "pain"},
            {"patient_id": "P3", "treatment_start": START, "age_years": 70, "arm": "B", "completed": "yes"},
            {"patient_id": "P4", "treatment_start": START, "age_years": 91, "ecog": 0, "arm": "B", "completed": "yes"},
        ],
        "lesions": [
            {"patient_id": "P1", "lesion_id": "L1", "diameter_mm": 31, "count": 100},
            {"patient_id": "P1", "lesion_id": "L2", "diameter_mm": 12, "count": 23},
            {"patient_id": "P2", "lesion_id": "L1", "diameter_mm": 30},
            {"patient_id": "P2", "lesion_id": "L2", "diameter_mm": 5},
        ],
        "toxicities": [
            {"patient_id": "P1", "date": day(20), "term": "nausea", "scale": "study", "grade": 1},
            {"patient_id": "P1", "date": day(60), "term": "nausea", "scale": "study", "grade": 3},
            {"patient_id": "P1", "date": day(200), "term": "nausea", "scale": "study", "grade": 4},
        ],
        "assessments": [
            {"patient_id": "P1", "date": day(90), "kind": "response", "value": "SD"},
            {"patient_id": "P1", "date": day(180), "kind": "response", "value": "PR"},
        ],
        "labs": [
            {"patient_id": "P1", "date": day(-3), "test": "ALT", "value": 90, "unit": "U/L", "uln": 45},
            {"patient_id": "P1", "date": day(9), "test": "ALT", "value": 30, "unit": "U/L", "uln": 45},
        ],
        "events": [{"patient_id": "P4", "date": day(30), "kind": "lost_to_follow_up"}],
    }  # fmt: skip
    return Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()}, "test")


VARIABLES = [
    (Variable("age", "patients.age_years", cuts=(50,), levels=("<50", ">=50")), [">=50", "<50", ">=50", ">=50"]),
    (Variable("age", "patients.age_years", cuts=(50,), closed="right", levels=("<=50", ">50")),
     ["<=50", "<=50", ">50", ">50"]),
    (Variable("lesions", "lesions.count", aggregate="count"), [123, 2, None, None]),
    (Variable("size", "lesions.diameter_mm", aggregate="max", factor=0.1, cuts=(3,), closed="right",
              levels=("<=3", ">3")), [">3", "<=3", None, None]),
    (Variable("nausea", "toxicities.grade", where={"term": "nausea"}, aggregate="max", window_months=(0, 3), default=0),
     [3, 0, 0, 0]),
    (Variable("response", "assessments.value", where={"kind": "response"}, aggregate="best", window_months=(0.1, 6)),
     ["PR", None, None, None]),
    (Variable("alt", "labs.times_uln", where={"test": "ALT"}, aggregate="last", window_months=(-6, 0)),
     [2, None, None, None]),
    (Variable("who", "patients.ecog", mapping={"0": "good", "1": "good", "3": "poor"}), ["good", "poor", None, "good"]),
    (Variable("any", "toxicities.grade", where={"grade": [3.0, 4.0]}, aggregate="any", default="no"),
     ["yes", "no", "no", "no"]),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "expected"), VARIABLES)
def test_variables_come_out_of_the_tables(cohort, variable, expected):
    found = evaluate(cohort, variable)
    assert [None if pd.isna(value) else value for value in found] == expected
    assert evaluate_all(cohort, [variable]).shape == (4, 1)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (Variable("x", "patient.age_years"), "no table is called 'patient'"),
        (Variable("x", "patients.agee"), "no column 'agee'"),
        (Variable("x", "lesions.diameter_mm"), "more than one row"),
        (Variable("x", "patients.arm", levels=("A", "C")), "'B' is none of the levels"),
        (Variable("x", "patients.age_years", cuts=(50,), levels=("a", "b", "c")), "1 cuts make 2 classes"),
        (Variable("x", "labs.value", where={"tst": "ALT"}), "no column 'tst'"),
    ],
)
def test_a_wrong_variable_is_refused(cohort, variable, message):
    with pytest.raises(CohortError, match=message):
        evaluate(cohort, variable)


def test_eligibility_and_flow(cohort):
    rules = [
        Rule("performance 0 to 2", variable=Variable("ecog", "patients.ecog"), operator="between", value=[0, 2]),
        Rule("biopsy"),
        Rule("too old", "exclusion", Variable("age", "patients.age_years"), ">", 90),
    ]
    found = assess_eligibility(cohort, rules)
    assert found.eligible == ["P1", "P3"]
    assert found.first_failed.to_dict() == {"P1": None, "P2": "performance 0 to 2", "P3": None, "P4": "too old"}
    assert [(s.entered, s.left, s.remained, s.not_assessed) for s in found.flow] == [(4, 1, 3, 1), (3, 1, 2, 0)]
    assert any("missing for 1 patients, who passed" in note.message for note in found.notes)
    strict = assess_eligibility(cohort, [Rule("performance", variable=Variable("ecog", "patients.ecog"), operator="<=",
                                              value=2, missing="ineligible")])  # fmt: skip
    assert strict.eligible == ["P1", "P4"]
    arms = arm_flow(cohort, found.eligible)
    assert [(a.arm, a.allocated, a.completed, a.lost, a.analysed, dict(a.reasons)) for a in arms] == [
        ("A", 2, 1, 0, 1, {"pain": 1}),
        ("B", 2, 2, 1, 1, {}),
    ]


def test_deidentification_keeps_intervals_and_loses_identity(cohort):
    secret = b"0123456789abcdef"
    shared = deidentify(cohort, secret)
    assert set(shared.patients["patient_id"]).isdisjoint(cohort.patients["patient_id"])
    assert shared.patients["age_years"].max() == 90
    assert shared.patients["not_completed_reason"].isna().all()

    def intervals(c):
        starts = c.patients.set_index("patient_id")["treatment_start"]
        rows = c.table("toxicities")
        return sorted((rows["date"] - rows["patient_id"].map(starts)).dt.days)

    assert intervals(shared) == intervals(cohort)
    assert (shared.patients["treatment_start"] < START).all()
    assert deidentify(cohort, secret).sha256() == shared.sha256()
    assert deidentify(cohort, b"another secret, another result").sha256() != shared.sha256()
    with pytest.raises(CohortError, match="too short"):
        deidentify(cohort, b"short")


def test_a_folder_is_deidentified_for_sharing(cohort, tmp_path):
    patients = cohort.patients.assign(
        consent=["yes", "no", "waived", "yes"],
        x_grade=["low", "high", "low", "low"],
        x_marker=[1.5, 2.5, 3.5, 4.5],
        x_born=["1950-01-02", "1950-01-02", "1970-03-04", "1929-05-06"],
        x_remark=["seen at home", "lives in the harbour", "teacher", "farmer"],
    )
    write_cohort(replace(cohort, tables={**cohort.tables, "patients": patients}), tmp_path / "data")
    key = tmp_path / "key.txt"
    made = deidentify_folder(tmp_path / "data", tmp_path / "shared", key_file=key)
    assert key.stat().st_mode & 0o077 == 0
    text = "".join(file.read_text() for file in made.files)
    for secret in ("P1,", "seen at home", "harbour", "1950", "pain", "x_born", "x_remark"):
        assert secret not in text
    back = read_cohort(tmp_path / "shared")
    assert (back.patients["treatment_start"] < START).all()  # a later date may land on the day of START by chance
    assert sorted(back.patients["x_marker"]) == [1.5, 2.5, 3.5, 4.5]
    assert sorted(back.patients["x_grade"]) == ["high", "low", "low", "low"]
    told = " ".join(note.sentence() for note in made.notes)
    assert "x_born, patients.x_remark" in told
    assert "1 patients are recorded as without consent" in told
    deidentify_folder(tmp_path / "data", tmp_path / "again", key_file=key)
    again = read_cohort(tmp_path / "again", label="shared")
    assert again.sha256() == back.sha256()
    keyless = deidentify_folder(tmp_path / "data", tmp_path / "keyless")
    assert keyless.key_file is None
    dates = read_cohort(tmp_path / "keyless").patients["treatment_start"].tolist()
    assert dates != back.patients["treatment_start"].tolist()


def test_deidentification_does_not_mix_or_give_the_key_away(cohort, tmp_path):
    write_cohort(cohort, tmp_path / "data")
    with pytest.raises(InputError, match="not empty"):
        deidentify_folder(tmp_path / "data", tmp_path / "data")
    with pytest.raises(InputError, match="within the data"):
        deidentify_folder(tmp_path / "data", tmp_path / "data" / "out")
    with pytest.raises(InputError, match="key would be shared"):
        deidentify_folder(tmp_path / "data", tmp_path / "out", key_file=tmp_path / "out" / "key")
    (tmp_path / "key").write_text("no key")
    with pytest.raises(InputError, match="not a key"):
        deidentify_folder(tmp_path / "data", tmp_path / "out", key_file=tmp_path / "key")
    assert not (tmp_path / "out").exists()


def test_a_written_cohort_reads_back(cohort, tmp_path):
    write_cohort(cohort, tmp_path)
    back = read_cohort(tmp_path, label="test")
    for name, frame in cohort.tables.items():
        pd.testing.assert_frame_equal(back.table(name), frame)
    assert not back.synthetic


def test_the_schema_documents_every_column():
    text = schema_markdown()
    assert all(f"| {column.name} |" in text for table in TABLES.values() for column in table.columns)
