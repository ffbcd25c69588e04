"""Reading cohorts: good files become typed tables, each bad one gives one clear sentence."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cantlie.cohort.importing import read_cohort
from cantlie.cohort.redcap import read_redcap
from cantlie.cohort.validation import InvalidCohort
from cantlie.core.errors import CohortError

DATA = Path(__file__).parents[1] / "data" / "cohort"
BAD = json.loads((DATA / "bad" / "expected.json").read_text())


def test_a_good_folder_becomes_typed_tables():
    cohort = read_cohort(DATA / "good")
    assert len(cohort) == 3
    assert cohort.patients["age_years"].tolist() == [48.0, 52.5, 61.0]
    assert cohort.patients["treatment_start"].dtype.kind == "M"
    assert cohort.patients["x_centre_code"].tolist() == [11.0, 12.0, 11.0]
    labs = cohort.table("labs").set_index("test")
    assert labs.loc["BILIRUBIN", "value"] == pytest.approx(0.9 * 17.1)
    assert labs.loc["BILIRUBIN", "uln"] == pytest.approx(1.2 * 17.1)
    assert labs.loc["ALBUMIN", "value"] == pytest.approx(39)
    assert labs.loc["AST", "unit"] == "U/L"
    assert cohort.table("measurements").empty
    assert set(cohort.sources) == {path.name for path in (DATA / "good").iterdir()}


def test_there_are_at_least_thirty_bad_cohorts():
    assert len(BAD) >= 30
    assert {path.name for path in (DATA / "bad").iterdir() if path.is_dir()} == set(BAD)


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_cohort_is_refused_with_file_row_column_and_rule(name):
    expected = BAD[name]
    with pytest.raises(InvalidCohort) as caught:
        read_cohort(DATA / "bad" / name)
    problem = caught.value.problems[0]
    assert problem.file == expected["file"]
    assert problem.row == expected["row"]
    assert problem.column == expected["column"]
    assert problem.rule == expected["rule"]
    sentence = str(caught.value)
    assert expected["file"] in sentence
    assert f"rule {expected['rule']}" in sentence
    assert "\n" not in sentence
    assert problem.remedy
    if expected["row"] is not None:
        assert f"row {expected['row']}" in sentence


def test_all_problems_are_listed_not_only_the_first(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id,sex,age_years\nP1,woman,48\nP2,female,old\nP3,male,150\n")
    with pytest.raises(InvalidCohort, match="and 2 more problems") as caught:
        read_cohort(tmp_path)
    assert [(p.row, p.column) for p in caught.value.problems] == [(2, "sex"), (3, "age_years"), (4, "age_years")]


def test_an_excel_workbook_reads_like_the_folder(tmp_path):
    path = tmp_path / "cohort.xlsx"
    with pd.ExcelWriter(path) as writer:
        for file in sorted((DATA / "good").glob("*.csv")):
            frame = pd.read_csv(file)
            for column in frame:
                if "date" in column or "start" in column or column == "end" or "diagnosed" in column:
                    frame[column] = pd.to_datetime(frame[column])
            frame.to_excel(writer, sheet_name=file.stem, index=False)
        pd.DataFrame({"a": [1]}).to_excel(writer, sheet_name="remarks", index=False)
    from_excel, from_csv = read_cohort(path), read_cohort(DATA / "good")
    for name in from_csv.tables:
        pd.testing.assert_frame_equal(from_excel.table(name), from_csv.table(name))
    assert any("remarks" in note.where for note in from_excel.notes)


def test_an_excel_problem_names_the_sheet_and_row(tmp_path):
    path = tmp_path / "cohort.xlsx"
    pd.DataFrame({"patient_id": ["P1", "P2"], "age_years": [50, 500]}).to_excel(
        path, sheet_name="patients", index=False
    )
    with pytest.raises(InvalidCohort) as caught:
        read_cohort(path)
    assert "sheet patients" in str(caught.value)
    assert caught.value.problems[0].row == 3


@pytest.mark.parametrize(
    ("name", "content"), [("cohort.xlsx", b"no workbook"), ("cohort.xlsx", b"PK\x03\x04broken"), ("cohort.sav", b"")]
)
def test_a_file_that_is_no_cohort_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CohortError):
        read_cohort(tmp_path / name)


def test_a_semicolon_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "patients.csv").write_bytes(b"\xef\xbb\xbfpatient_id;age_years\r\nP1;50\r\n\r\nP2;NA\r\n")
    ages = read_cohort(tmp_path).patients["age_years"]
    assert ages[0] == 50
    assert np.isnan(ages[1])


def test_row_numbers_hold_when_cells_span_lines(tmp_path):
    (tmp_path / "patients.csv").write_text('patient_id,death_cause,age_years\nP1,"two\nlines",50\nP2,,500\n')
    with pytest.raises(InvalidCohort) as caught:
        read_cohort(tmp_path)
    assert caught.value.problems[0].row == 4


def test_redcap_records_become_tables():
    cohort = read_redcap(DATA / "redcap" / "records.csv", DATA / "redcap" / "dictionary.csv")
    assert cohort.patients["sex"].tolist() == ["female", "male"]
    assert cohort.patients["cirrhosis"].tolist() == ["no", "yes"]
    assert cohort.table("labs")["test"].tolist() == ["ALT", "BILIRUBIN", "AST"]
    assert "surname" not in cohort.patients
    assert any("death_date" in note.where for note in cohort.notes)


def test_redcap_mapping_sends_fields_where_it_says(tmp_path):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[fields]\ndeath_date = "patients.x_death"\nlabs_value = "labs.value"\n')
    cohort = read_redcap(DATA / "redcap" / "records.csv", DATA / "redcap" / "dictionary.csv", mapping=mapping)
    assert cohort.patients["x_death"].tolist() == ["2017-01-05", None]


def test_redcap_problem_names_the_row_of_the_records(tmp_path):
    records = tmp_path / "records.csv"
    records.write_text((DATA / "redcap" / "records.csv").read_text().replace("0.9,mg/dL", "0.9,g/dL"))
    with pytest.raises(InvalidCohort) as caught:
        read_redcap(records, DATA / "redcap" / "dictionary.csv")
    problem = caught.value.problems[0]
    assert (problem.file, problem.row, problem.column) == ("records.csv", 4, "unit")


def test_a_cohort_as_a_german_spreadsheet_saves_it(tmp_path):
    text = "\ufeffsep=;\r\npatient_id;sex;age_years;treatment_start;;\r\nP1;female;52,5;01.02.2016;;\r\n;;;;;\r\n"
    (tmp_path / "patients.csv").write_text(text)
    (tmp_path / "labs.csv").write_text(
        "patient_id;date;test;value;unit\nP1;01.02.2016;AFP;1.234,5;ug/L\nP1;02.02.2016;AFP;7;ug/L\n"
    )
    cohort = read_cohort(tmp_path)
    assert cohort.patients["age_years"].tolist() == [52.5]
    assert cohort.patients["treatment_start"].tolist() == [pd.Timestamp("2016-02-01")]
    assert cohort.table("labs")["value"].tolist() == [1234.5, 7]


def test_a_number_that_may_be_a_thousand_is_refused(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id\nP1\n")
    (tmp_path / "labs.csv").write_text(
        "patient_id;date;test;value;unit\nP1;2016-02-01;AFP;1.234;ug/L\nP1;2016-02-02;AFP;7,5;ug/L\n"
    )
    with pytest.raises(InvalidCohort, match="may be a thousand or a fraction") as caught:
        read_cohort(tmp_path)
    assert caught.value.problems[0].row == 2 and caught.value.problems[0].rule == "ambiguous-number"


def test_a_folder_with_a_redcap_export_is_read_as_one(tmp_path):
    for name in ("records.csv", "dictionary.csv"):
        (tmp_path / name).write_bytes((DATA / "redcap" / name).read_bytes())
    (tmp_path / "mapping.toml").write_text('[fields]\ndeath_date = "patients.x_death"\n')
    cohort = read_cohort(tmp_path)
    assert cohort.patients["sex"].tolist() == ["female", "male"]
    assert cohort.patients["x_death"].tolist() == ["2017-01-05", None]
    (tmp_path / "again.csv").write_bytes((DATA / "redcap" / "records.csv").read_bytes())
    with pytest.raises(CohortError, match="which holds the records is not clear"):
        read_cohort(tmp_path)
