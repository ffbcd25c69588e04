"""RECIST 1.1 and mRECIST: every rule of the tables, on measurements."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.cohort.response import (
    TargetLesion,
    assess_cohort,
    assess_timepoints,
    best_overall_response,
    in_field_responses,
    merge_categories,
    non_target_response,
    overall_response,
    response_counts,
    target_response,
)
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.core.errors import CohortError

START = pd.Timestamp("2020-01-01")
NAN = float("nan")


def cohort_of(**tables):
    return Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()}, "test")


# sizes, nodes, baseline, nadir, after a complete response, expected
TARGETS = [
    ([0, 0], [0, 0], 50, 50, False, "CR"),
    ([0, 9], [0, 1], 50, 50, False, "CR"),
    ([0, 10], [0, 1], 50, 50, False, "PR"),
    ([35, 0], [0, 0], 50, 50, False, "PR"),
    ([35.1, 0], [0, 0], 50, 50, False, "SD"),
    ([30, 20], [0, 0], 50, 50, False, "SD"),
    ([60, 0], [0, 0], 50, 50, False, "PD"),
    ([59.9, 0], [0, 0], 50, 50, False, "SD"),
    ([24, 0], [0, 0], 100, 20, False, "PR"),
    ([25, 0], [0, 0], 100, 20, False, "PD"),
    ([24.9, 0], [0, 0], 100, 20, False, "PR"),
    ([15, 0], [0, 0], 60, 11, False, "PR"),
    ([16, 0], [0, 0], 60, 11, False, "PD"),
    ([84, 0], [0, 0], 100, 70, False, "PD"),
    ([83, 0], [0, 0], 100, 70, False, "SD"),
    ([NAN, 20], [0, 0], 50, 50, False, "NE"),
    ([NAN, 61], [0, 0], 50, 50, False, "PD"),
    ([4, 0], [0, 0], 50, 0, True, "PD"),
    ([0, 12], [0, 1], 50, 8, True, "PR"),
    ([0, 14], [0, 1], 50, 8, True, "PD"),
    ([5, 5], [0, 0], 50, 10, False, "PR"),
]


@pytest.mark.parametrize(("sizes", "nodes", "baseline", "nadir", "after", "expected"), TARGETS)
def test_target_response(sizes, nodes, baseline, nadir, after, expected):
    found = target_response(sizes, nodes, baseline_mm=baseline, nadir_mm=nadir, after_complete=after)
    assert found == expected


# RECIST 1.1, tables 1 and 2
OVERALL = [
    ("CR", "CR", False, "CR"),
    ("CR", "none", False, "CR"),
    ("CR", "non-CR/non-PD", False, "PR"),
    ("CR", "NE", False, "PR"),
    ("PR", "non-CR/non-PD", False, "PR"),
    ("PR", "NE", False, "PR"),
    ("SD", "CR", False, "SD"),
    ("SD", "NE", False, "SD"),
    ("NE", "non-CR/non-PD", False, "NE"),
    ("PD", "CR", False, "PD"),
    ("CR", "PD", False, "PD"),
    ("SD", "PD", True, "PD"),
    ("CR", "CR", True, "PD"),
    ("none", "CR", False, "CR"),
    ("none", "non-CR/non-PD", False, "non-CR/non-PD"),
    ("none", "NE", False, "NE"),
    ("none", "PD", False, "PD"),
    ("none", "CR", True, "PD"),
]


@pytest.mark.parametrize(("target", "non_target", "new", "expected"), OVERALL)
def test_overall_response(target, non_target, new, expected):
    assert overall_response(target, non_target, new) == expected


def test_non_target_response():
    assert non_target_response([]) == "none"
    assert non_target_response(["absent", "absent"]) == "CR"
    assert non_target_response(["absent", "present"]) == "non-CR/non-PD"
    assert non_target_response(["absent", None]) == "NE"
    assert non_target_response([None, "progressed"]) == "PD"


def measured(*rows):
    return typed_table(
        TABLES["measurements"],
        [{"patient_id": "P1", "lesion_id": n, "date": START + pd.Timedelta(days=d), **v} for d, n, v in rows],
    )


def test_the_nadir_not_the_baseline_decides_on_progression():
    rows = measured(*[(d, "L1", {"longest_mm": s}) for d, s in [(-7, 100), (60, 50), (120, 58), (180, 61), (240, 40)]])
    points, _ = assess_timepoints([TargetLesion("L1")], [], rows, treatment_start=START)
    assert [p.overall for p in points] == ["PR", "PR", "PD", "PR"]
    assert [p.nadir_mm for p in points] == [100, 50, 50, 50]
    assert points[0].change_percent == pytest.approx(-50)
    assert best_overall_response(points, treatment_start=START) == "PR"


def test_a_new_lesion_is_progression_from_then_on():
    rows = measured(
        (-7, "L1", {"longest_mm": 40}),
        (60, "L1", {"longest_mm": 20}),
        (60, "N1", {"longest_mm": 8, "new": "yes"}),
        (120, "L1", {"longest_mm": 10}),
    )
    points, _ = assess_timepoints([TargetLesion("L1")], [], rows, treatment_start=START)
    assert [p.overall for p in points] == ["PD", "PD"]
    assert best_overall_response(points, treatment_start=START) == "PD"


def test_confirmation_and_the_least_time_of_stable_disease():
    rows = measured(*[(d, "L1", {"longest_mm": s}) for d, s in [(-7, 50), (50, 20), (60, 20), (90, 48)]])
    points, _ = assess_timepoints([TargetLesion("L1")], [], rows, treatment_start=START)
    assert [p.overall for p in points] == ["PR", "PR", "PD"]
    assert best_overall_response(points, treatment_start=START) == "PR"
    assert best_overall_response(points, treatment_start=START, confirm=True) == "SD"
    longer = measured(*[(d, "L1", {"longest_mm": s}) for d, s in [(-7, 50), (50, 20), (90, 20)]])
    confirmed, _ = assess_timepoints([TargetLesion("L1")], [], longer, treatment_start=START)
    assert best_overall_response(confirmed, treatment_start=START, confirm=True) == "PR"
    early = measured((-7, "L1", {"longest_mm": 50}), (20, "L1", {"longest_mm": 49}))
    stable, _ = assess_timepoints([TargetLesion("L1")], [], early, treatment_start=START)
    assert best_overall_response(stable, treatment_start=START) == "NE"
    assert best_overall_response(stable, treatment_start=START, stable_after_days=14) == "SD"


def test_a_complete_response_that_comes_back_is_progression():
    rows = measured(*[(d, "L1", {"longest_mm": s}) for d, s in [(-7, 30), (60, 0), (120, 3)]])
    points, _ = assess_timepoints([TargetLesion("L1")], [], rows, treatment_start=START)
    assert [p.overall for p in points] == ["CR", "PD"]
    assert best_overall_response(points, treatment_start=START) == "CR"


def test_a_target_without_baseline_is_refused():
    with pytest.raises(CohortError, match="no longest_mm"):
        assess_timepoints([TargetLesion("L1")], [], measured((60, "L1", {"longest_mm": 9})), treatment_start=START)


def test_a_cohort_by_both_criteria():
    patients = [{"patient_id": "P1", "treatment_start": START}, {"patient_id": "P2", "treatment_start": START}]
    lesions = [
        {"patient_id": "P1", "lesion_id": "L1", "role": "target", "irradiated": "yes"},
        {"patient_id": "P1", "lesion_id": "L2", "role": "non_target"},
        {"patient_id": "P2", "lesion_id": "L1", "role": "target", "irradiated": "yes"},
    ]
    day = pd.Timedelta(days=1)
    rows = [
        {"patient_id": "P1", "lesion_id": "L1", "date": START - 3 * day, "longest_mm": 50, "viable_mm": 40},
        {"patient_id": "P1", "lesion_id": "L1", "date": START + 80 * day, "longest_mm": 45, "viable_mm": 0},
        {"patient_id": "P1", "lesion_id": "L2", "date": START + 80 * day, "status": "absent"},
        {"patient_id": "P2", "lesion_id": "L1", "date": START - 3 * day, "longest_mm": 30, "viable_mm": 30},
        {"patient_id": "P2", "lesion_id": "L1", "date": START + 80 * day, "longest_mm": 20, "viable_mm": 20},
        {"patient_id": "P2", "lesion_id": "L1", "date": START + 170 * day, "longest_mm": 26, "viable_mm": 20},
    ]
    cohort = cohort_of(patients=patients, lesions=lesions, measurements=rows)
    assert assess_cohort(cohort).best.to_dict() == {"P1": "SD", "P2": "PR"}
    viable = assess_cohort(cohort, criteria="mRECIST")
    assert viable.best.to_dict() == {"P1": "CR", "P2": "PR"}
    assert any("not for metastases" in note.message for note in viable.notes)
    lesion = in_field_responses(cohort).set_index("patient_id")
    assert lesion.loc["P2", "best"] == "PR"
    assert lesion.loc["P2", "local_progression"] == START + 170 * day
    assert bool(lesion.loc["P2", "early"])
    assert pd.isna(lesion.loc["P1", "local_progression"])


def test_counts_and_merged_categories():
    best = pd.Series(["CR", "PR", "PR", "SD", "PD", None])
    assert response_counts(best) == {
        "CR": 1, "PR": 2, "SD": 1, "PD": 1, "NE": 0, "ORR": 3, "DCR": 4, "assessed": 5,
    }  # fmt: skip
    merged, note = merge_categories(best, {"CR": "PR", "PD": "SD"})
    assert response_counts(merged)["PR"] == 3
    assert "2 patients" in note.message


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=5), st.floats(10, 300), st.floats(0, 300))
def test_a_larger_sum_is_never_a_better_response(sizes, baseline, nadir):
    order = ["CR", "PR", "SD", "PD"]
    nodes = [False] * len(sizes)
    small = target_response(sizes, nodes, baseline_mm=baseline, nadir_mm=min(nadir, baseline))
    large = target_response(list(np.asarray(sizes) + 1.0), nodes, baseline_mm=baseline, nadir_mm=min(nadir, baseline))
    assert order.index(small) <= order.index(large)
