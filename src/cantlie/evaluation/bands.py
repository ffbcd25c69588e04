"""How far DVHs and the metrics of rules may come to lie from the plan: bands over scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.coverage import CoverageResult
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.scenarios import Scenario
from cantlie.evaluation.verdict import Verdict, holds

_POINTS = 240


@dataclass(frozen=True, slots=True, eq=False)
class DvhBand:
    """The DVHs of one structure in all scenarios.

    Attributes
    ----------
    dose_gy
        Doses, shape (n,).
    nominal_percent, low_percent, high_percent
        Share of the structure that gets at least each dose: as planned, and the least and most of all scenarios that
        are not drawn courses, shape (n,) each.
    median_percent
        Median of the drawn courses, shape (n,); None where there are none.
    """

    structure: str
    scope: str
    dose_gy: NDArray[np.float64]
    nominal_percent: NDArray[np.float64]
    low_percent: NDArray[np.float64]
    high_percent: NDArray[np.float64]
    median_percent: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class MetricBand:
    """One metric in all scenarios, with the limit of the protocol where it has one.

    Attributes
    ----------
    nominal, worst, best
        As planned; the least and the most favourable of the displacements and density errors.
    worst_scenario
        Where the worst is.
    courses_percent
        Share of the drawn courses that keep the limit (or in which a target's metric is at least 95 % of the planned);
        None without drawn courses.
    verdict, worst_verdict
        Of the plan, and of the worst scenario; ``not evaluable`` where there is no limit.
    """

    structure: str
    metric: str
    unit: str
    scope: str
    op: str
    limit: float | None
    nominal: float
    worst: float
    best: float
    worst_scenario: str
    courses_percent: float | None
    verdict: Verdict
    worst_verdict: Verdict
    kind: str = "constraint"


@dataclass(frozen=True, slots=True)
class JudgedMetric:
    """What is measured in every dose; a clinical target's metric has no limit."""

    structure: str
    metric: str
    unit: str
    scope: str
    op: str
    limit: float | None
    kind: str

    def is_met(self, value: float, nominal: float) -> bool:
        """Say whether a value keeps the limit, or reaches 95 % of the planned one where there is none."""
        if self.limit is None:
            return value >= 0.95 * nominal
        return holds(value, self.op, self.limit)


def metric_values(
    constraints: Sequence[ConstraintResult], coverage: Sequence[CoverageResult], targets: Mapping[str, Dvh]
) -> dict[JudgedMetric, float]:
    """Return the value of every rule that can be judged, and D98 %, D95 % and D2 % of clinical targets.

    Parameters
    ----------
    targets
        Clinical target to its DVH in the course.
    """
    values: dict[JudgedMetric, float] = {}
    for rule in coverage:
        if rule.achieved_percent is not None:
            metric = f"V{rule.isodose_percent:g}%[%]"
            row = JudgedMetric(rule.target, metric, "%", rule.scope, ">=", rule.required_percent, "coverage")
            values[row] = rule.achieved_percent
    for name, curve in targets.items():
        for share in (98.0, 95.0):
            row = JudgedMetric(name, f"D{share:g}%[Gy]", "Gy", "course", ">=", None, "target")
            values[row] = float(curve.dose_at_percent_gy(share))
    for constraint in constraints:
        if constraint.achieved is not None:
            values[
                JudgedMetric(
                    constraint.evaluated_structure or constraint.structure, constraint.metric, constraint.unit,
                    constraint.scope, constraint.op, constraint.limit, "constraint",
                )
            ] = constraint.achieved  # fmt: skip
    return values


def metric_bands(
    nominal: Mapping[JudgedMetric, float], outcomes: Sequence[tuple[Scenario, Mapping[JudgedMetric, float]]]
) -> tuple[MetricBand, ...]:
    """Return the band of every metric of the plan over the scenarios."""
    bands = []
    for row, planned in nominal.items():
        fixed = [(s.name, v[row]) for s, v in outcomes if s.kind != "course" and row in v]
        drawn = [v[row] for s, v in outcomes if s.kind == "course" and row in v]
        wants_more = row.op.startswith(">")
        ordered = sorted([("as planned", planned), *fixed], key=lambda pair: pair[1] if wants_more else -pair[1])
        worst_name, worst = ordered[0]
        best = ordered[-1][1]
        courses = 100.0 * float(np.mean([row.is_met(value, planned) for value in drawn])) if drawn else None
        verdict: Verdict = "not evaluable"
        worst_verdict: Verdict = "not evaluable"
        if row.limit is not None:
            verdict = "pass" if row.is_met(planned, planned) else "fail"
            worst_verdict = "pass" if row.is_met(worst, planned) else "fail"
        bands.append(
            MetricBand(
                row.structure, row.metric, row.unit, row.scope, row.op, row.limit, planned, worst, best, worst_name,
                courses, verdict, worst_verdict, row.kind,
            )
        )  # fmt: skip
    return tuple(bands)


class BandCollector:
    """Collects the DVHs of scenarios into bands, keeping nothing but curves on a common dose axis."""

    def __init__(self, nominal: Mapping[tuple[str, str], Dvh]) -> None:
        self._axis = {key: np.linspace(0.0, 1.15 * curve.max_gy + 1e-6, _POINTS) for key, curve in nominal.items()}
        self._nominal = {key: curve.volume_at_dose_percent(self._axis[key]) for key, curve in nominal.items()}
        self._fixed: dict[tuple[str, str], list[NDArray[np.float64]]] = {k: [v] for k, v in self._nominal.items()}
        self._drawn: dict[tuple[str, str], list[NDArray[np.float64]]] = {key: [] for key in nominal}

    def add(self, scenario: Scenario, curves: Mapping[tuple[str, str], Dvh]) -> None:
        """Add the DVHs of one scenario, by structure and scope."""
        kept = self._drawn if scenario.kind == "course" else self._fixed
        for key, curve in curves.items():
            if key in kept:
                kept[key].append(curve.volume_at_dose_percent(self._axis[key]))

    def bands(self) -> tuple[DvhBand, ...]:
        """Return the bands in the order of the nominal curves."""
        return tuple(
            DvhBand(
                *key, self._axis[key], self._nominal[key], np.min(self._fixed[key], axis=0),
                np.max(self._fixed[key], axis=0), np.median(self._drawn[key], axis=0) if self._drawn[key] else None,
            )
            for key in self._nominal
        )  # fmt: skip
