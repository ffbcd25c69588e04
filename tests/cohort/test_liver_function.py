"""Liver function scores against golden values and the classes' own limits."""

import pytest

from cantlie.cohort.liver_function import (
    albi,
    albi_grade,
    child_pugh,
    child_pugh_class,
    meld,
    meld_3,
    meld_na,
    modified_albi_grade,
)
from cantlie.cohort.performance import ecog_from_kps, kps_range_from_ecog, who_from_ecog
from cantlie.cohort.units import convert_lab
from cantlie.core.errors import CohortError


@pytest.mark.parametrize(
    ("bilirubin", "albumin", "score", "grade", "modified"),
    [(10, 40, -2.740, 1, "1"), (20.52, 35, -2.109, 2, "2b"), (60, 25, -0.9514, 3, "3"), (17.1, 37, -2.3312, 2, "2a")],
)
def test_albi__against_golden_values(bilirubin, albumin, score, grade, modified):
    found = albi(bilirubin, albumin)
    assert found == pytest.approx(score, abs=6e-4)
    assert albi_grade(found) == grade
    assert modified_albi_grade(found) == modified


def test_albi_limits_belong_to_the_better_grade():
    assert [albi_grade(x) for x in (-2.60, -2.599, -1.39, -1.389)] == [1, 2, 2, 3]
    assert [modified_albi_grade(x) for x in (-2.27, -2.269)] == ["2a", "2b"]


def test_meld__against_golden_values():
    assert meld(4, 1.8, 1.9) == pytest.approx(24.396, abs=1e-3)
    assert meld_na(4, 1.8, 1.9, 128) == 29
    assert meld_3(2.5, 1.5, 1.2, 135, 3.0, female=False) == pytest.approx(17.853, abs=1e-3)


def test_meld_floors_and_caps():
    assert meld(0.3, 0.8, 0.5) == pytest.approx(6.43)
    assert meld(1, 1, 9) == meld(1, 1, 4) == meld(1, 1, 0.5, dialysis=True)
    assert meld_na(1, 1, 1, 120) == 6
    assert meld(1.6, 1.24, 1.06) == pytest.approx(11.17, abs=0.01)
    assert meld_na(1.6, 1.24, 1.06, 120) == 11  # a MELD of 11 after rounding: sodium does not count
    assert meld_na(30, 6, 4, 120) == 40
    assert meld_3(1, 1, 1, 140, 5, female=True) == pytest.approx(7.33)


@pytest.mark.parametrize(
    ("values", "score", "grade"),
    [
        ((33.9, 36, 1.6, "none", 0), 5, "A"),
        ((34, 35, 1.7, "mild", 1), 10, "C"),
        ((51, 28, 2.3, "none", 0), 8, "B"),
        ((51.1, 27.9, 2.31, "moderate", 3), 15, "C"),
        ((20, 32, 1.2, "none", 0), 6, "A"),
    ],
)
def test_child_pugh(values, score, grade):
    found = child_pugh(*values)
    assert (found.score, found.grade) == (score, grade)
    assert child_pugh_class(found.score) == grade


def test_child_pugh_with_the_other_albumin_cut():
    assert child_pugh(20, 29, 1.2, "none", 0).score == 6
    assert child_pugh(20, 29, 1.2, "none", 0, albumin_lower_cut_g_l=30).score == 7


@pytest.mark.parametrize("call", [lambda: albi(0, 40), lambda: meld(float("nan"), 1, 1), lambda: child_pugh_class(4)])
def test_impossible_values_are_refused(call):
    with pytest.raises(CohortError):
        call()


def test_performance_status():
    assert [ecog_from_kps(k) for k in (100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert all(ecog_from_kps(k) == e for e in range(6) for k in kps_range_from_ecog(e))
    assert who_from_ecog(2) == 2
    with pytest.raises(CohortError):
        ecog_from_kps(85)


@pytest.mark.parametrize(
    ("test", "value", "unit", "expected"),
    [
        ("bilirubin", 1.2, "mg/dL", 20.52),
        ("ALBUMIN", 3.5, "g/dL", 35),
        ("creatinine", 1.0, "mg/dL", 88.4),
        ("HGB", 12, "g/dL", 120),
        ("WBC", 4500, "/uL", 4.5),
        ("PLT", 150, "×10⁹/L", 150),
        ("GPT", 1.0, "µkat/L", 60),
        ("CEA", 5, "ng/mL", 5),
    ],
)
def test_units(test, value, unit, expected):
    assert convert_lab(test, value, unit) == pytest.approx(expected)


def test_an_unknown_unit_is_refused():
    with pytest.raises(CohortError, match="units: g/L, g/dL"):
        convert_lab("albumin", 35, "mmol/L")
