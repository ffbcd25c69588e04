"""Variables from awkward tables: nothing turns into a number that the data do not hold, and nothing crashes."""

import numpy as np
import pandas as pd
import pytest

from cantlie.cohort.eligibility import Rule, assess_eligibility
from cantlie.cohort.importing import read_cohort
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.cohort.validation import InvalidCohort
from cantlie.cohort.variables import Variable, evaluate, raw_values
from cantlie.core.errors import CohortError

START = pd.Timestamp("2020-01-01")


def cohort(**tables):
    patients = [{"patient_id": i, "treatment_start": START} for i in ("P1", "P2", "P3")]
    tables = {"patients": patients, **tables}
    return Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()})


def found(kind, values):
    """Findings of one patient, one a month."""
    days = [START + pd.Timedelta(days=30 * n) for n in range(len(values))]
    return [{"patient_id": "P1", "date": d, "kind": kind, "value": v} for d, v in zip(days, values, strict=True)]


@pytest.mark.parametrize(("aggregate", "expected"), [("max", 100), ("min", 60), ("mean", 250 / 3), ("sum", 250)])
def test_findings_written_as_text_are_ordered_as_numbers(aggregate, expected):
    data = cohort(assessments=found("kps", ["90", "100", "60"]))
    variable = Variable("kps", "assessments.value", where={"kind": "kps"}, aggregate=aggregate)
    assert raw_values(data, variable)["P1"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seen", "best", "worst"),
    [
        (["NE", "PD"], "PD", "PD"),
        (["SD", "NE"], "SD", "SD"),
        (["PR", "NE", "PD"], "PR", "PD"),
        (["NE", "NE"], "NE", "NE"),
    ],
)
def test_not_evaluable_is_the_response_of_those_without_another(seen, best, worst):
    data = cohort(assessments=found("response", seen))
    for aggregate, expected in (("best", best), ("worst", worst)):
        variable = Variable("r", "assessments.value", where={"kind": "response"}, aggregate=aggregate)
        assert evaluate(data, variable)["P1"] == expected


def test_a_patient_without_a_start_has_no_value_in_a_window():
    patients = [{"patient_id": "P1", "treatment_start": START}, {"patient_id": "P2", "treatment_start": pd.NaT}]
    rows = [{"patient_id": p, "date": START, "term": "nausea", "scale": "RTOG", "grade": 3} for p in ("P1", "P2")]
    data = cohort(patients=patients, toxicities=rows)
    variable = Variable("t", "toxicities.grade", aggregate="max", window_months=(0, 3), default=0)
    values = raw_values(data, variable)
    assert values["P1"] == 3
    assert np.isnan(values["P2"])


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (Variable("v", "patients.histology", factor=0.1), "'HCC' of patient P1 is not a number"),
        (Variable("v", "patients.histology", cuts=(1,), levels=("a", "b")), "'HCC' of patient P1 is not a number"),
        (Variable("v", "patients.age_years", window_months=(0, 1)), "no column 'date'"),
        (Variable("v", "labs.times_uln", aggregate="max", default=0), "no upper limit of normal"),
        (Variable("v", "patients.histology", aggregate="best"), "'HCC' is not a response"),
    ],
)
def test_a_variable_that_cannot_be_worked_out_is_refused(variable, message):
    labs = [{"patient_id": "P1", "date": START, "test": "ALT", "value": 400, "unit": "U/L", "uln": None}]
    data = cohort(patients=[{"patient_id": "P1", "histology": "HCC", "treatment_start": START}], labs=labs)
    with pytest.raises(CohortError, match=message):
        evaluate(data, variable)


@pytest.mark.parametrize(
    ("operator", "value", "message"),
    [
        ("<", "3", "needs a number"),
        ("between", 3, "needs two numbers"),
        ("between", [9, 3], "needs two numbers"),
        ("in", "A", "needs a list"),
        ("==", "1", "can never be equal"),
    ],
)
def test_an_eligibility_rule_that_nobody_can_meet_is_refused(operator, value, message):
    data = cohort(patients=[{"patient_id": "P1", "ecog": 1}])
    with pytest.raises(CohortError, match=message):
        assess_eligibility(
            data, [Rule("fit", variable=Variable("ecog", "patients.ecog"), operator=operator, value=value)]
        )


def test_own_columns_keep_decimal_commas_and_errors_of_the_spreadsheet_are_refused(tmp_path):
    file = tmp_path / "patients.csv"
    file.write_text("\ufeffpatient_id;x_marker\nP1;0,5\nP2;1,25\nP3;\n", encoding="utf-8")
    assert read_cohort(tmp_path).patients["x_marker"].tolist()[:2] == [0.5, 1.25]
    file.write_text("patient_id,x_marker,age_years\nP1,0.5,#DIV/0!\nP2,#N/A,50\n")
    with pytest.raises(InvalidCohort, match="spreadsheet-error") as caught:
        read_cohort(tmp_path)
    assert {(p.row, p.column) for p in caught.value.problems} == {(2, "age_years"), (3, "x_marker")}


def test_a_number_of_days_is_named_as_what_excel_keeps(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id,treatment_start\nP1,43585\n")
    with pytest.raises(InvalidCohort, match="as Excel keeps dates"):
        read_cohort(tmp_path)


def test_percentages_that_look_like_fractions_are_noted(tmp_path):
    def notes(values):
        rows = "".join(f"P{n},{v}\n" for n, v in enumerate(values))
        (tmp_path / "patients.csv").write_text("patient_id,ki67_percent\n" + rows)
        return [n.message for n in read_cohort(tmp_path).notes]

    assert "look like fractions" in notes([0.1, 0.3, 0.05, 0.4, 0.9])[0]
    assert notes([0.1, 0.3, 0.05, 0.4, 30]) == []
    assert notes([0, 1, 1, 0, 1]) == []


def test_a_test_called_na_is_sodium_and_a_time_of_day_is_no_hindrance(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id\nP1\n")
    (tmp_path / "labs.csv").write_text("patient_id,date,test,value,unit\nP1,2020-01-05 13:45:00,NA,131,mmol/L\n")
    labs = read_cohort(tmp_path).table("labs")
    assert labs["test"].tolist() == ["SODIUM"]
    assert labs["date"].tolist() == [pd.Timestamp("2020-01-05")]


def test_a_quotation_mark_that_is_not_closed_does_not_swallow_patients(tmp_path):
    (tmp_path / "patients.csv").write_text('patient_id,histology\nP1,"abc\nP2,x\n')
    with pytest.raises(InvalidCohort, match="quotation mark is not closed"):
        read_cohort(tmp_path)
    (tmp_path / "patients.csv").write_text('patient_id,histology\nP1,"a ""b"", c"\nP2,5" wide\n')
    assert read_cohort(tmp_path).patients["histology"].tolist() == ['a "b", c', '5" wide']


def test_times_in_days_are_suspected_and_words_are_no_events(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id\nP1\nP2\n")
    file = tmp_path / "outcomes.csv"
    file.write_text("patient_id,endpoint,time_months,event\nP1,OS,730,1\nP2,OS,12,0\n")
    assert "730 months (61 years) look like days" in read_cohort(tmp_path).notes[0].message
    file.write_text("patient_id,endpoint,time_months,event\nP1,OS,24,dead\n")
    with pytest.raises(InvalidCohort, match="'dead' is neither 0 nor 1"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(("closed", "level"), [("right", "<=2.4"), ("left", ">2.4")])
def test_a_value_on_a_limit_is_not_moved_over_it_by_a_factor(closed, level):
    lesions = [{"patient_id": "P1", "lesion_id": "L1", "diameter_mm": 24.0}]
    variable = Variable("d", "lesions.diameter_mm", factor=0.1, cuts=(2.4,), closed=closed, levels=("<=2.4", ">2.4"))
    assert 24.0 * 0.1 > 2.4
    assert evaluate(cohort(lesions=lesions), variable)["P1"] == level


def test_a_sum_with_a_part_unknown_is_unknown_and_so_is_what_was_not_filled_in():
    lesions = [{"patient_id": p, "lesion_id": n, "volume_cc": v} for p, n, v in (
        ("P1", "L1", 20.0), ("P1", "L2", None), ("P2", "L1", 5.0), ("P2", "L2", 7.0))]  # fmt: skip
    data = cohort(lesions=lesions)
    volume = Variable("v", "lesions.volume_cc", aggregate="sum", default=0)
    assert raw_values(data, volume).fillna(-1).tolist() == [-1, 12, 0]
    only_empty = cohort(lesions=[{"patient_id": "P1", "lesion_id": "L1", "volume_cc": None}])
    largest = Variable("v", "lesions.volume_cc", aggregate="max", default=0)
    assert raw_values(only_empty, largest).fillna(-1).tolist() == [-1, 0, 0]
