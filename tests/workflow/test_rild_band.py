"""The band of the risk of liver disease: over alpha/beta, repair and tolerance, wider than that of tolerance alone."""

from datetime import date

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.accumulation import CourseDose
from cantlie.course.calendar import plan_calendar
from cantlie.evaluation.dvh import dvh
from cantlie.patient.regions import Regions
from cantlie.plan.request import PlannedTarget, PlanTarget
from cantlie.plan.treatment import TreatmentPlan
from cantlie.protocol.loading import load_protocol
from cantlie.radiobiology.ntcp import rild
from cantlie.target.build import NORMAL_LIVER
from cantlie.workflow.comparison_biology import bed_volume
from cantlie.workflow.course_stage import course_of
from cantlie.workflow.rild_band import repairs_of, with_band

GRID = Grid((6, 10, 10), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
PROTOCOL = load_protocol("zhang2021-alternating")


def halves() -> dict[str, np.ndarray]:
    right = np.full(GRID.shape, 12.0, np.float32)
    left = np.full(GRID.shape, 12.0, np.float32)
    right[..., :5], left[..., 5:] = 33.0, 33.0
    return {"PTV1": right, "PTV2": left}


def test_the_band_holds_repair_alpha_beta_and_tolerance():
    calendar = plan_calendar(PROTOCOL, date(2026, 1, 5))
    course = CourseDose(GRID, calendar, halves(), {"PTV1": 15, "PTV2": 15})
    liver = np.ones(GRID.shape, np.float32)
    curve = dvh(Volume(GRID, course.eqd2_gy(2.5).astype(np.float32)), liver, GRID)
    nominal = rild(0.5 * (curve.dose_gy[:-1] + curve.dose_gy[1:]), curve.differential_cc)

    def band(repairs):
        biology = PROTOCOL.biology
        return with_band(nominal, lambda c: bed_volume(course, c), liver, GRID, biology, repairs, 2.0)

    full, both = band((None,)), band(repairs_of(PROTOCOL.biology))
    assert repairs_of(PROTOCOL.biology) == (None, 0.5, 4.0)
    assert both.value == full.value == nominal.value
    assert both.low <= full.low <= nominal.low < nominal.value < nominal.high <= full.high < both.high
    assert "half-times of 0.5 to 4 h" in both.notes[-1].message and "half-times" not in full.notes[-1].message


def test_a_planned_course_has_that_band_by_default():
    doses = halves()
    plans = [
        PlannedTarget(
            PlanTarget(name, 30.0, 15), TreatmentPlan(name, "m", (), 15, 30.0, target_name=name), Volume(GRID, dose), ()
        )
        for name, dose in doses.items()
    ]
    masks = {name: np.ones(GRID.shape, np.float32) for name in ("BODY", "Liver", NORMAL_LIVER, "PTV1", "PTV2")}
    course = course_of(PROTOCOL, plans, Regions(GRID, masks), date(2026, 1, 5))
    (risk,) = course.risks
    tolerance_only = rild(np.array([risk.inputs["geud_gy"]]), np.array([1.0]))
    assert risk.value == pytest.approx(tolerance_only.value, rel=0.02)
    assert risk.low < tolerance_only.low and risk.high > tolerance_only.high
