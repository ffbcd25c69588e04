"""Liver scores out of a cohort's tables: which values belong together, what is missing, how a study asks for them."""

import csv

import numpy as np
import pytest

from cantlie.cli.main import run
from cantlie.cohort.importing import read_cohort
from cantlie.cohort.liver_function import albi, meld, meld_3, meld_na
from cantlie.cohort.liver_scores import liver_scores
from cantlie.cohort.variables import Variable, evaluate

PATIENTS = """patient_id,sex,treatment_start,ascites,encephalopathy_grade
A,female,2024-01-10,none,0
B,male,2024-02-01,mild,1
C,male,2024-02-01,,
"""
LABS = """patient_id,date,test,value,unit
A,2024-01-08,bilirubin,1.2,mg/dL
A,2024-01-08,albumin,3.1,g/dL
A,2024-01-08,INR,1.3,1
A,2024-01-10,creatinine,1.4,mg/dL
A,2024-01-12,creatinine,9.9,mg/dL
A,2024-01-08,sodium,131,mmol/L
A,2024-04-10,bilirubin,60,umol/L
A,2024-04-10,albumin,27,g/L
A,2024-04-10,INR,1.8,1
A,2024-05-20,bilirubin,20,umol/L
B,2024-01-30,bilirubin,40,umol/L
B,2024-02-20,albumin,36,g/L
C,2024-01-30,bilirubin,10,umol/L
C,2024-01-30,albumin,40,g/L
C,2024-01-30,INR,1.0,1
"""
ASSESSMENTS = """patient_id,date,kind,value
A,2024-04-01,ascites,moderate
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in (("patients", PATIENTS), ("labs", LABS), ("assessments", ASSESSMENTS)):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.csv").write_text(text)
    return tmp_path / "data"


def test_scores_take_the_values_of_about_the_same_day(folder):
    rows = {(r.patient_id, str(r.date.date())): r for r in liver_scores(read_cohort(folder)).itertuples()}
    first = rows["A", "2024-01-08"]
    assert first.albi == pytest.approx(albi(1.2 * 17.1, 31.0)) and first.albi_grade == 2 and first.malbi_grade == "2b"
    assert (first.child_pugh_score, first.child_pugh_class) == (6, "A")  # 1 + 2 + 1 + 1 + 1
    assert first.meld == pytest.approx(meld(1.2, 1.3, 1.4))  # the creatinine of two days later, not of four
    assert first.meld_na == meld_na(1.2, 1.3, 1.4, 131.0)
    assert first.meld_3 == pytest.approx(meld_3(1.2, 1.3, 1.4, 131.0, 3.1, female=True))
    later = rows["A", "2024-04-10"]
    assert later.albi_grade == 3 and np.isnan(later.meld)  # no creatinine of that time
    assert np.isnan(later.child_pugh_score)  # encephalopathy is known before treatment only
    assert np.isnan(rows["A", "2024-05-20"].albi) and np.isnan(rows["B", "2024-01-30"].albi)  # albumin too far away
    unknown = rows["C", "2024-01-30"]
    assert unknown.albi_grade == 1 and np.isnan(unknown.child_pugh_score)  # ascites was not recorded


def test_a_study_takes_scores_as_variables_with_windows_and_classes(folder):
    cohort = read_cohort(folder)
    before = Variable(
        "albi", "liver_scores.albi_grade", aggregate="last", window_months=(-2.0, 0.0), levels=("1", "2", "3")
    )
    assert evaluate(cohort, before).to_dict() == {"A": "2", "B": None, "C": "1"}
    after = Variable("worst", "liver_scores.albi", aggregate="max")
    assert evaluate(cohort, after)["A"] == pytest.approx(albi(60.0, 27.0))


def test_the_command_writes_them_as_csv(folder, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert run(["study", "scores", str(folder), "--out", str(out)]) == 0
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5 and rows[0]["child_pugh_class"] == "A" and rows[1]["meld"] == ""
    assert "ALBI" in capsys.readouterr().out
    (folder / "labs.csv").unlink()
    assert run(["study", "scores", str(folder), "--out", str(out)]) == 2
    assert "labs.csv" in capsys.readouterr().err
