"""Toxicity grades at every limit of the tables, baseline rules, windows, RILD, failure, palliation and visits."""

import math

import numpy as np
import pandas as pd
import pytest

from cantlie.cohort.failure import coded_patterns, geometric_failure
from cantlie.cohort.palliation import ascites_relief, jaundice_relief, marker_trend, pain_relief
from cantlie.cohort.rild import RildFindings, assess_rild, rild_verdicts
from cantlie.cohort.rtog import check_rtog, rtog_item, rtog_items
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.cohort.toxicity import (
    ctcae_version,
    grade_lab,
    grade_labs,
    grade_table,
    months_window,
    worst_grades,
)
from cantlie.cohort.visits import Interval, Schedule, patients_overdue, visit_list
from cantlie.core.errors import CohortError

START = pd.Timestamp("2020-01-01")
V4, V5, V6 = "CTCAE-4.03", "CTCAE-5.0", "CTCAE-6.0"


def cohort_of(**tables):
    return Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()}, "test")


def day(number):
    return START + pd.Timedelta(days=number)


# test, scale, keyword limits, {value: grade} at and just beyond every printed limit
GRADES = [
    ("ALT", V4, {"uln": 40}, {40: 0, 40.1: 1, 120: 1, 121: 2, 200: 2, 201: 3, 800: 3, 801: 4}),
    ("AST", V5, {"uln": 40, "baseline": 30}, {40: 0, 41: 1, 121: 2, 801: 4}),
    ("ALT", V5, {"uln": 40, "baseline": 80}, {110: 0, 120: 1, 240: 1, 241: 2, 401: 3, 1601: 4}),
    ("ALT", V6, {"uln": 40, "baseline": 80}, {80: 0, 81: 1, 120: 1, 121: 2, 161: 3, 321: 4}),
    ("ALT", V4, {"uln": 40, "baseline": 80}, {110: 1, 121: 2}),
    ("ALP", V4, {"uln": 100}, {100: 0, 101: 1, 251: 2, 501: 3, 2001: 4}),
    ("ALP", V5, {"uln": 100, "baseline": 150}, {299: 0, 300: 1, 375: 1, 376: 2, 751: 3, 3001: 4}),
    ("ALP", V6, {"uln": 100}, {100: 0, 101: 1, 5000: 1}),
    ("GGT", V5, {"uln": 60}, {60: 0, 61: 1, 151: 2, 301: 3, 1201: 4}),
    ("BILIRUBIN", V4, {"uln": 20}, {20: 0, 21: 1, 30: 1, 31: 2, 60: 2, 61: 3, 201: 4}),
    ("BILIRUBIN", V5, {"uln": 20, "baseline": 40}, {40: 0, 41: 1, 61: 2, 121: 3, 401: 4}),
    ("ALBUMIN", V5, {"lln": 35}, {35: 0, 34.9: 1, 30: 1, 29.9: 2, 20: 2, 19.9: 3}),
    ("WBC", V5, {"lln": 4}, {4: 0, 3.9: 1, 3: 1, 2.9: 2, 1.9: 3, 0.9: 4}),
    ("ANC", V5, {"lln": 2}, {2: 0, 1.9: 1, 1.4: 2, 0.9: 3, 0.4: 4}),
    ("ANC", V6, {}, {1.5: 0, 1.4: 1, 0.9: 2, 0.4: 3, 0.1: 3, 0.09: 4}),
    ("PLATELETS", V5, {"lln": 100}, {100: 0, 99: 1, 75: 1, 74: 2, 49: 3, 24: 4}),
    ("HAEMOGLOBIN", V5, {"lln": 120}, {120: 0, 119: 1, 100: 1, 99: 2, 80: 2, 79: 3}),
    ("CREATININE", V4, {"uln": 100, "baseline": 60}, {60: 0, 61: 1, 91: 2, 181: 3, 601: 4}),
    ("CREATININE", V5, {"uln": 100, "baseline": 60}, {85: 0, 91: 2, 101: 2, 181: 3, 601: 4}),
    ("CREATININE", V5, {"uln": 100}, {100: 0, 101: 1, 151: 2, 301: 3, 601: 4}),
    ("INR", V4, {"uln": 1.1}, {1.1: 0, 1.2: 1, 1.66: 2, 2.76: 3}),
    ("INR", V5, {}, {1.2: 0, 1.3: 1, 1.6: 2, 2.6: 3}),
    ("WBC", "RTOG", {}, {4: 0, 3.9: 1, 3: 1, 2.9: 2, 1.9: 3, 0.9: 4}),
    ("PLATELETS", "RTOG", {}, {100: 0, 99: 1, 74: 2, 49: 3, 24: 4}),
    ("HAEMOGLOBIN", "RTOG", {}, {111: 0, 110: 1, 95: 1, 94: 2, 74: 3, 49: 4}),
]


@pytest.mark.parametrize(("test", "scale", "limits", "grades"), GRADES)
def test_laboratory_grades(test, scale, limits, grades):
    assert {value: grade_lab(test, value, scale=scale, **limits) for value in grades} == grades


def test_the_rtog_scales_are_data_and_grades_are_checked():
    assert [len(rtog_items(scale)) for scale in ("RTOG", "RTOG/EORTC")] == [17, 17]
    for scale in ("RTOG", "RTOG/EORTC"):
        spellings = [name.lower() for item in rtog_items(scale) for name in (item.name, *item.also)]
        assert len(set(spellings)) == len(spellings)
        assert all(len(item.grades) in (0, 4) for item in rtog_items(scale))
    for item in rtog_items("RTOG"):
        if item.test:
            assert grade_lab(item.test, 0.0, scale="RTOG") == 4
    liver = rtog_item("Hepatic", "RTOG/EORTC")
    assert liver.name == "liver"
    assert "albumin" in liver.meaning(3)
    assert "death" in liver.meaning(5)
    for wrong in (-1, 6, 2.5):
        with pytest.raises(CohortError, match="no grade"):
            liver.meaning(wrong)
    with pytest.raises(CohortError, match="no item 'livr'"):
        rtog_item("livr", "RTOG/EORTC")
    with pytest.raises(CohortError, match="no item"):
        rtog_item("liver", "RTOG")
    with pytest.raises(CohortError, match="no scale"):
        rtog_items("CTCAE-5.0")


def test_graded_toxicities_are_held_against_the_scales():
    rows = [
        {"patient_id": "P1", "date": day(20), "term": "Nausea", "scale": "RTOG", "grade": 2},
        {"patient_id": "P1", "date": day(91), "term": "skin", "scale": "RTOG", "grade": 1},
        {"patient_id": "P1", "date": day(90), "term": "liver", "scale": "RTOG/EORTC", "grade": 1},
        {"patient_id": "P1", "date": day(200), "term": "itching", "scale": "RTOG/EORTC", "grade": 1},
        {"patient_id": "P1", "date": day(20), "term": "itching", "scale": "CTCAE-5.0", "grade": 1},
    ]
    frame, notes = check_rtog(typed_table(TABLES["toxicities"], rows), pd.Series({"P1": START}))
    assert frame["item"].tolist() == ["upper gastrointestinal", "skin", "liver", None]
    assert [note.message.split(" ")[0] for note in notes] == ["RTOG/EORTC", "1", "1"]


def test_a_grade_without_its_limit_is_unknown_not_zero():
    assert grade_lab("ALT", 500, scale=V4) is None
    assert grade_lab("WBC", 2.5, scale=V4) == 2
    assert grade_lab("ALT", math.nan, scale=V4, uln=40) is None
    with pytest.raises(CohortError, match="no laboratory rule"):
        grade_lab("GGT", 100, scale=V6, uln=60)


def test_versions_that_do_not_exist_are_mapped_with_a_note():
    scale, note = ctcae_version("4.3")
    assert scale == V4
    assert note is not None
    assert ctcae_version("CTCAE v5.0") == (V5, None)
    with pytest.raises(CohortError):
        ctcae_version("7")


def labs(patient, *rows):
    units = {"ALT": "U/L", "ALP": "U/L", "BILIRUBIN": "umol/L", "CEA": "ug/L", "WBC": "10^9/L"}
    return [
        {"patient_id": patient, "date": day(d), "test": t, "value": v, "unit": units[t], "uln": u}
        for d, t, v, u in rows
    ]


def test_worst_grade_against_baseline_and_in_windows():
    cohort = cohort_of(
        patients=[{"patient_id": "P1", "treatment_start": START}, {"patient_id": "P2", "treatment_start": START}],
        labs=labs("P1", (-5, "ALT", 50, 40), (30, "ALT", 130, 40), (80, "ALT", 90, 40), (200, "ALT", 900, 40))
        + labs("P2", (-5, "ALT", 30, np.nan), (40, "ALT", 35, np.nan)),
    )
    grades, notes = grade_labs(cohort, scale=V4)
    starts = cohort.patients.set_index("patient_id")["treatment_start"]
    term = "alanine aminotransferase increased"
    assert worst_grades(grades, starts, None)[("P1", term)] == 1
    acute = worst_grades(grades, starts, months_window("acute", 0, 3))
    late = worst_grades(grades, starts, months_window("late", 3, 600))
    assert acute[("P1", term)] == 2
    assert late[("P1", term)] == 4
    assert acute[("P2", term)] == 0
    table = grade_table(acute, [term], size=2).iloc[0]
    assert (table["g0"], table["g2"], table["not_assessed"]) == (1, 1, 0)
    assert any("no limit of normal" in note.message for note in notes)


RILD = [
    (RildFindings(alp_times_uln=2.5, alp_times_baseline=3, new_ascites=True, bilirubin_times_uln=1.0),
     (True, None, True, True)),
    (RildFindings(alp_times_uln=2.5, alp_times_baseline=3, bilirubin_times_uln=1.0), (False, None, True, False)),
    (RildFindings(transaminase_times_uln=5.1, transaminase_times_baseline=6), (False, True, True, False)),
    (RildFindings(transaminase_times_uln=4.0, transaminase_times_baseline=6), (False, False, True, False)),
    (RildFindings(transaminase_times_uln=6, transaminase_times_baseline=2), (False, False, True, False)),
    (RildFindings(transaminase_times_uln=1, child_pugh_rise=2), (False, True, False, False)),
    (RildFindings(transaminase_times_uln=6, transaminase_times_baseline=6, liver_progression=True),
     (False, False, True, False)),
    (RildFindings(alp_times_uln=2.5, alp_times_baseline=3, new_ascites=True), (None, None, True, True)),
    (RildFindings(transaminase_times_uln=3, transaminase_times_baseline=8, any_transaminase_times_uln=12),
     (False, False, True, False)),
    (RildFindings(), (False, None, None, None)),
    (RildFindings(new_ascites=True), (None, None, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("findings", "expected"), RILD)
def test_the_four_rild_definitions(findings, expected):
    assert tuple(rild_verdicts(findings).values()) == expected


def test_rild_of_a_cohort():
    cohort = cohort_of(
        patients=[
            {"patient_id": p, "treatment_start": START, "child_pugh_score": 5, "ascites": "none"}
            for p in ("P1", "P2", "P3")
        ],
        courses=[{"patient_id": p, "course_id": "C1", "start": START, "end": day(20)} for p in ("P1", "P2", "P3")],
        labs=labs("P1", (-3, "ALP", 90, 120), (60, "ALP", 300, 120), (60, "BILIRUBIN", 15, 20))
        + labs("P2", (-3, "ALT", 30, 40), (50, "ALT", 220, 40))
        + labs("P3", (-3, "ALT", 30, 40), (150, "ALT", 220, 40)),
        assessments=[{"patient_id": "P1", "date": day(60), "kind": "ascites", "value": "mild"}],
    )
    found = assess_rild(cohort)
    assert found.loc["P1"].tolist() == [True, None, True, True]
    assert found.loc["P2"].tolist() == [False, True, True, False]
    assert found.loc["P3"].tolist() == [False, None, None, None]


def test_rild_counts_what_is_found_from_the_day_after_the_start_of_treatment():
    found = {"P0": 0, "P1": 1, "P2": 2}
    cohort = cohort_of(
        patients=[{"patient_id": p, "treatment_start": START} for p in found],
        courses=[{"patient_id": p, "target": "whole", "start": START, "end": day(14)} for p in found],
        labs=[
            {"patient_id": p, "date": day(number), "test": "ALT", "value": 250.0, "uln": 40.0, "unit": "U/L"}
            for p, number in found.items()
        ],
    )
    verdicts = assess_rild(cohort)["zhang2021"]
    assert verdicts["P0"] is None  # what the treatment begins with is no toxicity of it
    assert verdicts["P1"] is True and verdicts["P2"] is True


def test_coded_failure_patterns():
    kinds = {
        "P1": ["local_progression"],
        "P2": ["new_liver_lesion"],
        "P3": ["local_progression", "new_liver_lesion"],
        "P4": ["extrahepatic_progression"],
        "P5": ["extrahepatic_progression", "local_progression"],
        "P6": ["last_follow_up"],
    }
    cohort = cohort_of(
        patients=[{"patient_id": p} for p in kinds],
        events=[
            {"patient_id": p, "date": day(100 + 200 * i), "kind": k}
            for p, ks in kinds.items()
            for i, k in enumerate(ks)
        ],
    )
    assert coded_patterns(cohort).tolist() == [
        "in-field", "out-field", "in-field and out-field", "distant only", "locoregional and distant", None,
    ]  # fmt: skip
    assert coded_patterns(cohort, within_days=30)["P5"] == "distant only"


def test_geometric_failure_against_isodoses():
    z = np.arange(40, dtype=float)
    dose = np.broadcast_to((50 - z)[:, None, None], (40, 8, 8)).copy()
    lesion = np.zeros(dose.shape)

    def place(first, last):
        mask = lesion.copy()
        mask[first:last, 2:6, 2:6] = 1.0
        return geometric_failure(mask, dose, prescription_gy=50)

    inside = place(2, 8)
    assert (inside.place, inside.fraction_high, inside.fraction_low) == ("in-field", 1.0, 1.0)
    assert inside.mean_gy == pytest.approx(45.5)
    assert inside.minimum_gy == 43
    assert place(8, 16).place == "marginal"
    assert place(8, 16).fraction_high == pytest.approx(3 / 8)
    assert place(30, 38).place == "out-of-field"
    with pytest.raises(CohortError, match="empty"):
        geometric_failure(lesion, dose, prescription_gy=50)
    with pytest.raises(CohortError, match="shape"):
        geometric_failure(lesion[:5], dose, prescription_gy=50)


def found(patient, number, kind, value):
    return {"patient_id": patient, "date": day(number), "kind": kind, "value": value}


def test_palliation_and_markers():
    cohort = cohort_of(
        patients=[{"patient_id": p, "treatment_start": START} for p in ("P1", "P2", "P3")],
        assessments=[
            found("P1", -2, "pain", "6"), found("P1", 60, "pain", "2"),
            found("P2", -2, "pain", "4"), found("P2", 60, "pain", "4"),
            found("P2", -2, "analgesic", "3"), found("P2", 60, "analgesic", "1"),
            found("P3", -2, "pain", "0"), found("P3", 60, "pain", "3"),
            found("P1", -2, "ascites", "moderate"), found("P1", 50, "ascites", "mild"),
            found("P2", -2, "ascites", "mild"), found("P2", 50, "ascites", "mild"),
            found("P3", -2, "ascites", "none"), found("P3", 50, "ascites", "mild"),
        ],
        labs=labs("P1", (-2, "BILIRUBIN", 60, 20), (40, "BILIRUBIN", 30, 20))
        + labs("P2", (-2, "BILIRUBIN", 20, 20), (40, "BILIRUBIN", 10, 20))
        + labs("P3", (-2, "CEA", 100, 5), (30, "CEA", 20, 5), (60, "CEA", 40, 5)),
    )  # fmt: skip
    pain = pain_relief(cohort)
    assert (pain.with_symptom, pain.assessed, pain.relieved) == (2, 2, 2)
    ascites = ascites_relief(cohort)
    assert (ascites.with_symptom, ascites.relieved, ascites.patients_relieved) == (2, 1, ("P1",))
    jaundice = jaundice_relief(cohort)
    assert (jaundice.with_symptom, jaundice.relieved) == (1, 1)
    cea = marker_trend(cohort, "CEA").loc["P3"]
    assert cea["change_percent"] == pytest.approx(-80)
    assert cea["doubling_days"] == pytest.approx(30)


def test_visits_due_and_overdue():
    schedule = Schedule(fixed_months=(3, 6, 12), repeated=(Interval(18, 60, 6),), tolerance_days=30, items=("CT",))
    assert schedule.planned_months(31) == [3, 6, 12, 18, 24, 30]
    cohort = cohort_of(
        patients=[{"patient_id": p, "treatment_start": START} for p in ("P1", "P2", "P3", "P4")],
        assessments=[
            found("P1", 92, "visit", "seen"), found("P1", 185, "visit", "seen"),
            found("P2", 92, "visit", "seen"), found("P4", 180, "visit", "seen"),
        ],
        events=[{"patient_id": "P3", "date": day(120), "kind": "death"}],
    )  # fmt: skip
    visits = visit_list(cohort, schedule, today=day(250))
    by = visits.set_index(["patient_id", "month"])["status"]
    assert by["P1"].tolist() == ["done", "done", "planned"]
    assert by["P2"].tolist() == ["done", "overdue", "planned"]
    assert by["P3"].tolist() == ["overdue"]
    assert by["P4"].tolist() == ["missed", "done", "planned"]
    assert patients_overdue(visits) == ["P2", "P3"]
    assert (
        visit_list(cohort, schedule, today=day(200)).set_index(["patient_id", "month"])["status"][("P2", 6.0)] == "due"
    )


def test_the_ratios_of_two_enzymes_are_not_mixed():
    """ALT rises to 12 x ULN but 4 x its abnormal baseline, AST to 4 x ULN from a normal one: neither is non-classic."""
    start = pd.Timestamp("2020-01-01")
    rows = [
        {"patient_id": "P1", "date": start + pd.Timedelta(days=d), "test": t, "value": v, "unit": "U/L", "uln": 40}
        for t, d, v in (("ALT", 0, 120), ("ALT", 30, 480), ("AST", 0, 16), ("AST", 30, 160))
    ]
    patients = [{"patient_id": "P1", "treatment_start": start}]
    tables = {"patients": patients, "labs": rows}
    made = assess_rild(Cohort({name: typed_table(TABLES[name], t) for name, t in tables.items()}))
    assert made.loc["P1"].tolist() == [False, False, True, False]
