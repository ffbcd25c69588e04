"""The course of a planned case: its calendar, its dose session by session, and its biology with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.course.accumulation import CourseDose
from cantlie.course.calendar import Calendar, plan_calendar
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.patient.regions import Regions
from cantlie.plan.request import PlannedTarget
from cantlie.protocol.schema import Protocol
from cantlie.radiobiology.model import Estimate
from cantlie.radiobiology.ntcp import hytec_enzyme_risk, rild
from cantlie.radiobiology.repair import Repair
from cantlie.target.build import NORMAL_LIVER
from cantlie.workflow.comparison_biology import bed_volume
from cantlie.workflow.results import risks_of
from cantlie.workflow.rild_band import repairs_of, with_band


@dataclass(frozen=True, slots=True)
class BiologicalMean:
    """Mean EQD2 of a structure: with full repair between sessions, and with incomplete repair at the nominal half-time.

    ``least_gy`` and ``most_gy`` are the ends of the latter over the protocol's band of half-times.
    """

    structure: str
    alpha_beta_gy: float
    physical_gy: float
    full_repair_gy: float
    incomplete_repair_gy: float
    least_gy: float
    most_gy: float


@dataclass(frozen=True, slots=True, eq=False)
class CourseResult:
    """A course with its doses and its biology."""

    calendar: Calendar
    dose: CourseDose
    means: tuple[BiologicalMean, ...]
    risks: tuple[Estimate, ...]
    repair_half_times_h: tuple[float, ...]
    notes: tuple[Note, ...]


def course_of(
    protocol: Protocol,
    plans: Sequence[PlannedTarget],
    regions: Regions,
    start: date,
    progress: Progress = silent,
    *,
    calendar: Calendar | None = None,
) -> CourseResult:
    """Place the sessions, sum their doses and compute the biology of targets, lesions and normal liver.

    EQD2 and BED are summed session by session in every voxel, with full repair between sessions; beside them stands the
    mean with incomplete repair at the calendar's own times, for the protocol's band of half-times.
    """
    calendar = calendar or plan_calendar(protocol, start)
    grid = plans[0].dose.grid
    dose = CourseDose(
        grid,
        calendar,
        {plan.target.name: plan.dose.values for plan in plans},
        {plan.target.name: plan.target.fractions for plan in plans},
    )
    biology = protocol.biology
    liver, tumour = biology.alpha_beta_liver_gy, biology.alpha_beta_tumour_gy
    masks = _masks(regions, [plan.target.name for plan in plans])
    physical = _means(dose.physical_gy(), grid, masks, regions.grid)
    means: list[BiologicalMean] = []
    liver_dvh: Dvh | None = None
    for number, alpha_beta in enumerate((liver, tumour)):
        progress(0.1 + 0.4 * number, f"EQD2 with alpha/beta {alpha_beta:g} Gy")
        eqd2 = np.asarray(dose.eqd2_gy(alpha_beta), dtype=np.float32)
        curves = _dvhs(eqd2, grid, masks, regions.grid)
        repaired = {
            half_time: _means(dose.eqd2_with_repair_gy(alpha_beta, Repair.mono(half_time)), grid, masks, regions.grid)
            for half_time in sorted({*biology.repair_half_times_h, biology.repair_half_time_h})
        }
        for name, curve in curves.items():
            of_half_time = {half_time: values[name] for half_time, values in repaired.items()}
            values = list(of_half_time.values())
            nominal = of_half_time[biology.repair_half_time_h]
            means.append(
                BiologicalMean(name, alpha_beta, physical[name], curve.mean_gy, nominal, min(values), max(values))
            )
        if alpha_beta == liver:
            liver_dvh = curves.get(NORMAL_LIVER)
    risks: list[Estimate] = []
    if liver_dvh is not None:
        centres = 0.5 * (liver_dvh.dose_gy[:-1] + liver_dvh.dose_gy[1:])
        per_fraction = max(plan.target.prescription_gy / plan.target.fractions for plan in plans)
        risk = rild(
            centres,
            liver_dvh.differential_cc,
            liver_disease=biology.liver_disease,
            largest_dose_per_fraction_gy=per_fraction,
        )
        risks.append(
            with_band(
                risk,
                lambda corner: bed_volume(dose, corner),
                masks[NORMAL_LIVER],
                regions.grid,
                biology,
                repairs_of(biology),
                per_fraction,
            )
        )
        fractions = max(plan.target.fractions for plan in plans)
        if fractions <= 6:
            risks.append(hytec_enzyme_risk(physical[NORMAL_LIVER], fractions))
    notes = [*dose.notes(), *(note for risk in risks for note in risk.notes)]
    return CourseResult(
        calendar, dose, tuple(means), tuple(risks), biology.repair_half_times_h, tuple(dict.fromkeys(notes))
    )


def summary_of(course: CourseResult) -> dict[str, Any]:
    """Return the calendar as plain values for results.json."""
    calendar = course.calendar
    return {
        "calendar_days": calendar.calendar_days,
        "treatment_days": calendar.treatment_days,
        "shortest_interval_h": calendar.shortest_interval_h() if len(calendar.given) > 1 else None,
        "sessions": [
            {
                "number": s.number,
                "target": s.target,
                "fraction": s.fraction,
                "start": s.start.isoformat(timespec="minutes"),
                "status": s.status,
            }
            for s in calendar.sessions
        ],
    }


def biology_of(course: CourseResult) -> dict[str, Any]:
    """Return biological doses and risks as plain values for results.json; the alpha/beta stands in the name."""
    means: dict[str, dict[str, float]] = {}
    for mean in course.means:
        entry = means.setdefault(mean.structure, {"mean_physical_gy": mean.physical_gy})
        name = f"mean_eqd2_alpha_beta_{mean.alpha_beta_gy:g}_gy"
        entry[name] = mean.full_repair_gy
        entry[f"{name}_incomplete_repair"] = mean.incomplete_repair_gy
        entry[f"{name}_incomplete_repair_low"] = mean.least_gy
        entry[f"{name}_incomplete_repair_high"] = mean.most_gy
    return {
        "means": means,
        "repair_half_times_h": list(course.repair_half_times_h),
        "ntcp": risks_of(course.risks),
    }


def _masks(regions: Regions, targets: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    names = [*targets, NORMAL_LIVER, "GTV_all", "PTV_overlap"]
    return {name: regions[name] for name in names if name in regions and regions[name].any()}


def _dvhs(
    values: NDArray[np.floating], grid: Grid, masks: Mapping[str, NDArray[np.float32]], mask_grid: Grid
) -> dict[str, Dvh]:
    volume = Volume(grid, values)
    return {name: dvh(volume, mask, mask_grid, name=name) for name, mask in masks.items()}


def _means(
    values: NDArray[np.floating], grid: Grid, masks: Mapping[str, NDArray[np.float32]], mask_grid: Grid
) -> dict[str, float]:
    single = np.asarray(values, dtype=np.float32)
    return {name: curve.mean_gy for name, curve in _dvhs(single, grid, masks, mask_grid).items()}
