"""How robust plans are: the rules of the protocol when the patient lies beside his place or is denser than thought."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.evaluation.bands import BandCollector, DvhBand, MetricBand, metric_bands
from cantlie.evaluation.scenarios import (
    Scenario,
    Shift,
    blurred,
    course_scenarios,
    moved,
    moved_values,
    setup_scenarios,
)
from cantlie.patient.regions import Regions
from cantlie.protocol.schema import Protocol
from cantlie.workflow.dosimetry import COURSE
from cantlie.workflow.rule_judge import RuleJudge

Level = Literal["off", "quick", "full"]
_MOVED_ONLY = (
    "The dose stays where the room has it and the anatomy moves in it (rigid displacement, no recalculation). "
)


@dataclass(frozen=True, slots=True)
class RobustnessRequest:
    """What is varied.

    Parameters
    ----------
    level
        ``quick``: displacements along the axes and density errors; ``full``: drawn courses as well.
    shift_mm
        Displacement along x, y and z, the same in every session.
    density_percent
        Error of all densities.
    systematic_sd_mm, random_sd_mm
        Sigma and sigma of the drawn courses.
    courses, seed
        How many courses are drawn, and where the random numbers start.
    """

    level: Level = "quick"
    shift_mm: Shift = (5.0, 5.0, 5.0)
    density_percent: float = 3.0
    systematic_sd_mm: Shift = (2.0, 2.0, 2.0)
    random_sd_mm: Shift = (2.0, 2.0, 2.0)
    courses: int = 20
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Robustness:
    """What became of the rules and DVHs in all scenarios."""

    request: RobustnessRequest
    scenarios: tuple[Scenario, ...]
    metrics: tuple[MetricBand, ...]
    bands: tuple[DvhBand, ...]
    method: str
    notes: tuple[Note, ...]


def robustness_of(
    request: RobustnessRequest,
    protocol: Protocol,
    regions: Regions,
    doses: Mapping[str, Volume],
    prescriptions_gy: Mapping[str, float],
    fractions: Mapping[str, int],
    density_changes: Mapping[str, Volume] | None = None,
    progress: Progress = silent,
    given_dose: Volume | None = None,
    setup_changes: Mapping[Shift, Mapping[str, Volume]] | None = None,
    engine_method: str = "",
) -> Robustness | None:
    """Judge doses in scenarios of set-up and density; None when the level is ``off``.

    Parameters
    ----------
    doses
        Dose of the course and of each plan by its target.
    density_changes
        Target to what its plan's dose is more when the patient is denser by ``request.density_percent``; without it
        density is not varied.
    given_dose
        The part of the dose of the course that was given before and stays as it is.
    setup_changes
        Displacement to what the dose of each plan then is more than the moved one, by target.
    engine_method
        How those changes were calculated, for the report; empty where doses are only moved.
    """
    if request.level == "off":
        return None
    changes = density_changes or {}
    own = {name: dose for name, dose in doses.items() if name != COURSE}
    can_vary_density = bool(changes) and set(changes) == set(own)
    percent = request.density_percent if can_vary_density else 0.0
    scenarios = list(setup_scenarios(request.shift_mm, percent))
    if request.level == "full":
        scenarios += course_scenarios(
            request.systematic_sd_mm, request.random_sd_mm, fractions, count=request.courses, seed=request.seed
        )
    judge = RuleJudge.of(protocol, regions, doses, prescriptions_gy)
    nominal_curves = judge.curves(doses)
    nominal = judge.values(nominal_curves)
    collector = BandCollector(nominal_curves)
    maker = _Doses(_without(doses, given_dose), changes, request.density_percent, setup_changes or {})
    outcomes = []
    for number, scenario in enumerate(scenarios):
        progress(number / len(scenarios), f"scenario {scenario.name}")
        curves = judge.curves(_with(maker.of(scenario), given_dose))
        collector.add(scenario, curves)
        outcomes.append((scenario, judge.values(curves)))
    metrics = metric_bands(nominal, outcomes)
    method = (
        (engine_method or _MOVED_ONLY)
        + (
            "Density errors: the change is calculated by the collapsed cone on a 6 mm grid. "
            if can_vary_density and not engine_method
            else ""
        )
        + "Structures and targets move with the patient; a planning target volume that moves is meant to lose dose at "
        "its edge, so read clinical targets first."
        + ("" if given_dose is None else " What was given on the earlier CT stays as it is.")
    )
    notes = [] if can_vary_density or request.density_percent == 0 else [
        Note("density errors were not judged: they need the plan, not only its dose", "robustness", "info")
    ]  # fmt: skip
    return Robustness(request, tuple(scenarios), metrics, collector.bands(), method, tuple(notes))


def _without(doses: Mapping[str, Volume], given: Volume | None) -> dict[str, Volume]:
    """Return the doses without what was given before in that of the course."""
    if given is None:
        return dict(doses)
    whole = doses[COURSE]
    rest = np.maximum(whole.values - given.resample(whole.grid).values, 0.0)
    return {**doses, COURSE: Volume(whole.grid, np.asarray(rest, dtype=np.float32))}


def _with(doses: Mapping[str, Volume], given: Volume | None) -> Mapping[str, Volume]:
    if given is None:
        return doses
    rest = doses[COURSE]
    whole = rest.values + given.resample(rest.grid).values
    return {**doses, COURSE: Volume(rest.grid, np.asarray(whole, dtype=np.float32))}


@dataclass(slots=True)
class _Doses:
    """Makes the doses of scenarios."""

    planned: Mapping[str, Volume]
    changes: Mapping[str, Volume]
    percent: float
    setup_changes: Mapping[Shift, Mapping[str, Volume]]
    _blurred: tuple[Shift, dict[str, Volume]] | None = None

    def of(self, scenario: Scenario) -> dict[str, Volume]:
        if scenario.kind == "density":
            return self._denser(scenario)
        doses = dict(self.planned)
        if any(scenario.random_sd_mm):
            doses = self._blur(scenario.random_sd_mm)
        own = [name for name in doses if name != COURSE]
        if not any(any(shift) for shift in scenario.plan_shift_mm.values()):
            found = {name: moved(dose, scenario.shift_mm) for name, dose in doses.items()}
            own_changes = self.setup_changes.get(scenario.shift_mm) if scenario.kind == "set-up" else None
            return found if own_changes is None else _with_changes(found, own_changes)
        result = {name: moved(doses[name], scenario.shift_of(name)) for name in own}
        grid = doses[COURSE].grid
        total = np.zeros(grid.shape, dtype=np.float32)
        rest = np.asarray(doses[COURSE].values, dtype=np.float32)
        for name in own:
            values = doses[name].resample(grid).values
            total += moved_values(values, grid, scenario.shift_of(name))
            rest = rest - values
        if not own or float(np.abs(rest).max()) > 0.01 * float(doses[COURSE].values.max()):
            total += moved_values(np.maximum(rest, 0.0), grid, scenario.shift_mm)
        return {COURSE: Volume(grid, total), **result}

    def _denser(self, scenario: Scenario) -> dict[str, Volume]:
        factor = np.float32((scenario.density_factor - 1.0) / (self.percent / 100.0))
        result = dict(self.planned)
        grid = self.planned[COURSE].grid
        total = np.asarray(self.planned[COURSE].values, dtype=np.float32)
        for name, change in self.changes.items():
            dose = self.planned[name]
            own = dose.values + factor * change.resample(dose.grid).values
            result[name] = Volume(dose.grid, np.maximum(own, 0.0).astype(np.float32))
            total = total + factor * change.resample(grid).values
        result[COURSE] = Volume(grid, np.maximum(total, 0.0).astype(np.float32))
        return result

    def _blur(self, sd_mm: Shift) -> dict[str, Volume]:
        if self._blurred is None or self._blurred[0] != sd_mm:
            self._blurred = (sd_mm, {name: blurred(dose, sd_mm) for name, dose in self.planned.items()})
        return dict(self._blurred[1])


def _with_changes(doses: Mapping[str, Volume], changes: Mapping[str, Volume]) -> dict[str, Volume]:
    """Return doses of plans and their sum with what each plan's is more, never negative."""
    result = {}
    for name, dose in doses.items():
        own = changes.values() if name == COURSE else [changes[name]] if name in changes else []
        values = np.asarray(dose.values, dtype=np.float32)
        for change in own:
            values = values + change.resample(dose.grid).values
        result[name] = Volume(dose.grid, np.maximum(values, 0.0).astype(np.float32))
    return result


def robustness_results(robustness: Robustness) -> dict[str, Any]:
    """Return results.json's section on robustness."""
    return {
        "settings": asdict(robustness.request),
        "method": robustness.method,
        "scenarios": [
            {"name": s.name, "kind": s.kind, "shift_mm": s.shift_mm, "density_factor": s.density_factor}
            for s in robustness.scenarios
        ],
        "metrics": [asdict(band) for band in robustness.metrics],
    }


def bands_csv(bands: Sequence[DvhBand]) -> str:
    """Return DVH bands as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["structure", "scope", "dose_gy", "nominal_percent", "low_percent", "high_percent", "median_of_courses_percent"]
    )
    for band in bands:
        median = band.median_percent
        for n, dose in enumerate(band.dose_gy):
            writer.writerow(
                [
                    band.structure, band.scope, f"{dose:.3f}", f"{band.nominal_percent[n]:.4f}",
                    f"{band.low_percent[n]:.4f}", f"{band.high_percent[n]:.4f}",
                    "" if median is None else f"{median[n]:.4f}",
                ]
            )  # fmt: skip
    return stream.getvalue()
