"""The verdict on each patient, best response with intervals, causes of death and single-patient figures of a study."""

import numpy as np
import pandas as pd
import pytest

from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.report.study_report import write_study_report
from cantlie.statistics.proportion import clopper_pearson, wilson
from cantlie.statistics.survival import follow_up
from cantlie.study.analysis import analyse
from cantlie.study.definition import Study

START = pd.Timestamp("2020-01-01")
STUDY = Study.model_validate(
    {
        "id": "made",
        "title": "A made-up study",
        "citation": {"title": "t", "authors": "a", "journal": "j", "year": 2024, "doi": "10.1/x"},
        "design": "retrospective",
        "groups": [{"id": "A", "name": "Arm A", "n": 5}, {"id": "B", "name": "Arm B", "n": 5}],
        "group_variable": "arm",
        "variables": [
            {"name": "arm", "source": "patients.arm", "levels": ["A", "B"]},
            {"name": "ecog", "source": "patients.ecog"},
            {"name": "age", "source": "patients.age_years"},
        ],
        "eligibility": [
            {"text": "ECOG 0 to 2", "variable": "ecog", "operator": "<=", "value": 2},
            {"text": "older than 80", "kind": "exclusion", "variable": "age", "operator": ">", "value": 80},
            {"text": "biopsy"},
        ],
        "endpoints": [{"name": "OS"}],
        "ethics": {"committee": "committee of the hospital", "approval": "No. 7", "consent": "written"},
        "synthesis": None,
    }
)
CAUSES = ["tumour", "tumour", "tumour", "liver_failure", "infection", None]


def day(number):
    return START + pd.Timedelta(days=number)


@pytest.fixture(scope="module")
def result():
    ids = [f"P{n}" for n in range(10)]
    ecog = [0, 1, 3, np.nan, 2, 0, 0, 0, 0, 0]
    age = [50, 60, 90, 50, 81, 50, 50, 50, 50, 50]
    causes = [*CAUSES, None, None, None, None]
    deaths = {f"P{n}": 30 * (n + 1) for n in range(6)}
    sizes = [
        10,
        20,
        34,
        35,
        40,
        49,
        50,
        60,
        70,
        np.nan,
    ]  # of 50 mm at baseline: 4 PR (35 is 30 % less), 3 SD, 2 PD, one without
    tables = {
        "patients": [
            {"patient_id": p, "arm": "AB"[n // 5], "treatment_start": START, "ecog": ecog[n], "age_years": age[n],
             "death_cause_code": causes[n], "consent": "no" if n == 9 else "yes"}
            for n, p in enumerate(ids)
        ],
        "lesions": [{"patient_id": p, "lesion_id": "L1", "role": "target"} for p in ids[:9]],
        "measurements": [
            {"patient_id": p, "lesion_id": "L1", "date": day(d), "longest_mm": size}
            for p, after in zip(ids[:9], sizes[:9], strict=True)
            for d, size in ((-3, 50), (60, after))
        ],
        "events": [
            {"patient_id": p, "date": day(deaths.get(p, 1000)), "kind": "death" if p in deaths else "last_follow_up"}
            for p in ids
        ],
    }  # fmt: skip
    cohort = Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()}, "made")
    return analyse(STUDY, cohort)


def table(result, name):
    return next(t for t in result.tables if t.id == name)


def test_each_patient_has_a_verdict_rule_by_rule(result):
    found = table(result, "eligibility")
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in found.rows}
    assert rows["P0"] == ["eligible", "yes", "yes", "?"]
    assert rows["P2"] == ["not eligible", "no", "no", "?"]
    assert rows["P3"] == ["eligible, not all known", "?", "yes", "?"]
    assert rows["P4"] == ["not eligible", "yes", "no", "?"]
    assert [row[0].text for row in found.rows][:2] == ["P2", "P4"]
    assert "2: exclusion, older than 80" in found.notes
    assert "3: inclusion, biopsy (not assessed)" in found.notes


def test_best_response_comes_with_both_intervals(result):
    found = table(result, "best_response")
    rows = [dict(zip(found.columns, [cell.text for cell in row], strict=True)) for row in found.rows]
    everyone, assessed = rows[0], rows[1]
    assert [everyone[name] for name in ("CR", "PR", "SD", "PD", "NE", "not assessed")] == ["0", "4", "3", "2", "0", "1"]
    assert (everyone["ORR"], everyone["DCR"]) == ("4/10 (40.0%)", "7/10 (70.0%)")
    assert (assessed["Group"], assessed["DCR"]) == ("of those assessed", "7/9 (77.8%)")
    exact, score = clopper_pearson(4, 10), wilson(4, 10)
    assert everyone["ORR exact CI"] == f"{100 * exact.lower:.1f}-{100 * exact.upper:.1f}"
    assert everyone["ORR Wilson CI"] == f"{100 * score.lower:.1f}-{100 * score.upper:.1f}" == "16.8-68.7"
    assert [row["Group"] for row in rows] == [
        "All patients",
        "of those assessed",
        "Arm A",
        "Arm B",
        "of those assessed",
    ]


def test_causes_of_death_and_their_incidence(result):
    found = table(result, "causes_of_death")
    own = list(found.rows)[:4]
    assert [(row[1].text, row[2].text) for row in own] == [
        ("tumour", "3 (50.0%)"), ("liver failure", "1 (16.7%)"), ("infection", "1 (16.7%)"), ("not coded", "1 (16.7%)"),
    ]  # fmt: skip
    # Nobody is censored before the last death, so that the incidence at 12 months is the share who died of the cause.
    assert found.rows[4][4].text.startswith("60.0%")  # all of arm A are dead by then
    at_a_year = [float(row[4].text.split("%")[0]) for row in own]
    assert at_a_year == [30.0, 10.0, 10.0, 10.0]


def test_measured_lesions_give_a_waterfall_and_a_swimmer(result, tmp_path):
    assert [f.spec.kind for f in result.figures] == ["waterfall", "swimmer"]
    write_study_report(result, tmp_path, pdf=False)
    for name in ("waterfall", "swimmer"):
        assert (tmp_path / "figures" / f"{name}.svg").stat().st_size > 2000
    page = (tmp_path / "report.html").read_text()
    assert "committee of the hospital, No. 7" in page
    assert "yes 9, no 1" in page
    assert any("without consent" in note.message for note in result.notes)
    assert "P2,not eligible,no,no,?" in (tmp_path / "tables" / "eligibility.csv").read_text()


def test_the_median_follow_up_of_survivors_leaves_the_dead_out():
    # Survivors were followed 5, 20 and 60 months, the dead 1, 2, 3 and 40.
    time, dead = [5, 20, 60, 1, 2, 3, 40], [0, 0, 0, 1, 1, 1, 1]
    found = follow_up(time, dead)
    assert found.median_survivors == 20
    assert found.median_all == 5
    assert (found.minimum, found.maximum) == (1, 60)
