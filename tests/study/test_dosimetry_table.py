"""The dosimetry table of arms that hold the same, or other, patients."""

from pathlib import Path

import numpy as np
import pytest

from cantlie.statistics.comparison import kruskal_wallis
from cantlie.statistics.paired import friedman
from cantlie.study.dosimetry_runs import DosimetryRun
from cantlie.study.dosimetry_table import cohort_dosimetry

KEY = ("Liver", "Dmean", "Gy")
DOSES = {"a": [10.0, 12.0, 15.0, 20.0], "b": [10.5, 12.4, 15.6, 20.3], "c": [11.0, 13.1, 15.9, 21.0]}


def runs(doses):
    return [
        DosimetryRun(f"{arm}{n}", Path(), f"P{n}", arm, "protocol", "1", {KEY: value}, None, None)
        for arm, values in doses.items()
        for n, value in enumerate(values)
        if value is not None
    ]


def test_friedman__against_r():
    """friedman.test(matrix(c(1, 2, 3, 4, 4, 6, 2, 5, 5, 7, 1, 9, 3, 8, 8), ncol = 3, byrow = TRUE))."""
    found = friedman([1, 4, 2, 7, 3], [2, 4, 5, 1, 8], [3, 6, 5, 9, 8])
    assert found.statistic == pytest.approx(6.70588235294)
    assert found.p_value == pytest.approx(0.0349813164244)
    assert found.df == 2


def test_three_plans_of_each_patient_are_compared_within_the_patients():
    made = cohort_dosimetry(runs(DOSES))
    assert made.is_paired
    row = made.rows[0]
    assert row.recommended.method == "Friedman's test"
    assert row.recommended.p_value == pytest.approx(np.exp(-4.0))  # chi2 of 8 on 2 degrees: b above a, c above b in all
    assert kruskal_wallis(*DOSES.values()).p_value > 0.5
    assert row.as_published.method == "one-way analysis of variance"


def test_patients_of_some_arms_only_are_told():
    made = cohort_dosimetry(runs({**DOSES, "c": [11.0, 13.1, 15.9, None]}))
    assert not made.is_paired
    assert made.rows[0].recommended.method == "Kruskal–Wallis test"
    assert any("4 patients stand in several arms" in note.message for note in made.notes)
