"""What breathing does to the dose of clinical targets and lesions: blur over the course, interplay with the leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.course.breathing import Breathing
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.machine import Machine
from cantlie.patient.regions import Regions
from cantlie.plan.interplay import PieceDoses, piece_doses
from cantlie.plan.treatment import TreatmentPlan
from cantlie.target.setup_errors import margin_with_breathing_mm

STATES = 8
MOST_POINTS = 2500
REALISATIONS = 40


@dataclass(frozen=True, slots=True)
class MovingTarget:
    """One structure that moves with the liver; doses of the course in Gy.

    ``static``, ``blurred``: D98 %, D95 %, mean and D2 % without motion and with every piece blurred. ``course_d95_gy``
    and ``fraction_d95_percent``: the 5th, 50th and 95th percentile of D95 % over courses with interplay, and over
    single fractions in % of the fraction without motion.
    """

    structure: str
    static_gy: tuple[float, float, float, float]
    blurred_gy: tuple[float, float, float, float]
    course_d95_gy: tuple[float, float, float]
    fraction_d95_percent: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class MotionEffect:
    """What breathing does to the plans; ``margins_mm`` are what the motion asks for beside the protocol's errors."""

    breathing: Breathing
    targets: tuple[MovingTarget, ...]
    margins_mm: tuple[float, float, float]
    seed: int
    notes: tuple[Note, ...]


def motion_effect(
    breathing: Breathing,
    regions: Regions,
    names: Sequence[str],
    plans: Mapping[str, TreatmentPlan],
    doses: Mapping[str, Volume],
    density: Volume,
    machine: Machine,
    model: BeamModel,
    systematic_sd_mm: Sequence[float],
    random_sd_mm: Sequence[float],
    *,
    seed: int = 1,
    progress: Progress = silent,
) -> MotionEffect:
    """Return the effect of rigid motion of the liver on structures that move with it.

    Parameters
    ----------
    names
        Structures to be judged.
    plans, doses
        Plan and dose of each target.
    """
    states = breathing.states(STATES)
    points = {name: _points(regions, name) for name in names if name in regions and regions[name].any()}
    ends = np.cumsum([0, *(len(own) for own in points.values())])
    every = np.concatenate(list(points.values())) if points else np.zeros((0, 3))
    tables: list[tuple[PieceDoses, int]] = []
    for number, (name, plan) in enumerate(plans.items()):
        step = part(progress, 0.9 * number / len(plans), 0.9 * (number + 1) / len(plans))
        grid = doses[name].grid
        tables.append((piece_doses(plan, density, machine, model, grid, every, states, step), plan.fractions))
    static = np.sum([doses[name].sample(every) for name in plans], axis=0)
    blurred = np.sum([table.blurred_gy(states) for table, _ in tables], axis=0)
    random = np.random.default_rng(seed)
    progress(0.9, "interplay")
    courses, fractions = [], []
    for _ in range(REALISATIONS):
        courses.append(np.sum([table.course_gy(breathing, states, n, random) for table, n in tables], axis=0))
        fractions.append(np.sum([table.course_gy(breathing, states, 1, random) for table, _ in tables], axis=0))
    rows = []
    for name, low, high in zip(points, ends[:-1], ends[1:], strict=True):
        own = slice(int(low), int(high))
        still = _levels(static[own])
        rows.append(
            MovingTarget(
                name,
                still,
                _levels(blurred[own]),
                _percentiles([_levels(course[own])[1] for course in courses]),
                _percentiles([100.0 * _levels(one[own])[1] / max(still[1], 1e-9) for one in fractions]),
            )
        )
    x, y, z = (float(v) for v in margin_with_breathing_mm(systematic_sd_mm, random_sd_mm, breathing.amplitude_mm))
    notes = (
        Note(
            "motion was judged for what moves with the liver as a whole: it is displaced rigidly in a dose that stays "
            "where it is; organs that move otherwise are not judged",
            "motion",
            "info",
        ),
    )
    return MotionEffect(breathing, tuple(rows), (x, y, z), seed, notes)


def _points(regions: Regions, name: str) -> NDArray[np.float64]:
    index = np.argwhere(regions[name] > 0.5)
    if not len(index):
        index = np.argwhere(regions[name] > 0)
    return regions.grid.mm_from_index(index[:: max(1, len(index) // MOST_POINTS)])


def _levels(dose_gy: NDArray[np.float64]) -> tuple[float, float, float, float]:
    d98, d95, d2 = (float(v) for v in np.quantile(dose_gy, (0.02, 0.05, 0.98)))
    return d98, d95, float(dose_gy.mean()), d2


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = (float(v) for v in np.quantile(values, (0.05, 0.5, 0.95)))
    return low, middle, high


def motion_results(effect: MotionEffect) -> dict[str, Any]:
    """Return results.json's section on motion."""
    return {
        "breathing": asdict(effect.breathing),
        "seed": effect.seed,
        "realisations": REALISATIONS,
        "margins_with_breathing_mm": effect.margins_mm,
        "targets": [
            {
                "structure": row.structure,
                **{
                    f"{kind}_{name}_gy": value
                    for kind, values in (("static", row.static_gy), ("blurred", row.blurred_gy))
                    for name, value in zip(("D98%", "D95%", "Dmean", "D2%"), values, strict=True)
                },
                "interplay_course_D95%_gy": row.course_d95_gy,
                "interplay_fraction_D95%_percent_of_static": row.fraction_d95_percent,
            }
            for row in effect.targets
        ],
    }
