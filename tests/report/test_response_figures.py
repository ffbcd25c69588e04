"""Waterfall and swimmer plots show the patients' own numbers."""

import pandas as pd
import pytest

from cantlie.cohort.response import assess_cohort
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.core.errors import CohortError
from cantlie.report.response_figures import best_change, swimmer_figure, waterfall_figure

START = pd.Timestamp("2020-01-01")


def day(number):
    return START + pd.Timedelta(days=number)


@pytest.fixture
def cohort():
    sizes = {"P1": (50, 20, 40), "P2": (40, 44, 60), "P3": (30, 29, 28)}
    tables = {
        "patients": [{"patient_id": p, "treatment_start": START, "arm": "AB"[n % 2]} for n, p in enumerate(sizes)],
        "lesions": [{"patient_id": p, "lesion_id": "L1", "role": "target"} for p in sizes],
        "measurements": [
            {"patient_id": p, "lesion_id": "L1", "date": day(d), "longest_mm": s}
            for p, values in sizes.items()
            for d, s in zip((-5, 80, 160), values, strict=True)
        ],
        "events": [
            {"patient_id": "P1", "date": day(300), "kind": "death"},
            {"patient_id": "P2", "date": day(160), "kind": "progression"},
            {"patient_id": "P2", "date": day(500), "kind": "last_follow_up"},
            {"patient_id": "P3", "date": day(400), "kind": "last_follow_up"},
        ],
    }
    return Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()}, "test", synthetic=True)


def test_the_waterfall_shows_the_best_change_before_progression(cohort):
    response = assess_cohort(cohort)
    changes = best_change(response)
    assert changes.round(1).to_dict() == {"P1": -60.0, "P2": 10.0, "P3": -6.7}
    axes = waterfall_figure(response, synthetic=True).axes[0]
    heights = sorted(round(bar.get_height(), 1) for bars in axes.containers for bar in bars)
    assert heights == [-60.0, -6.7, 10.0]


def test_the_swimmer_has_a_lane_for_each_patient_longest_first(cohort):
    picture = swimmer_figure(cohort)
    lanes = [bar.get_width() for bars in picture.axes[0].containers[:3] for bar in bars]
    assert [round(width * 365.25 / 12) for width in lanes] == [500, 400, 300]
    assert any(text.get_text() == "SYNTHETIC" for text in picture.texts)


def test_nothing_to_show_is_said(cohort):
    empty = Cohort({"patients": cohort.patients}, "empty")
    with pytest.raises(CohortError):
        swimmer_figure(empty)
    with pytest.raises(CohortError):
        waterfall_figure(assess_cohort(empty))
