"""The highest dose that meets the limits: schemes planned from the highest down until one keeps every rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from cantlie.core.errors import StructureError
from cantlie.course.calendar import plan_calendar
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.evaluation.verdict import holds, margin
from cantlie.patient.regions import Regions
from cantlie.plan.request import PlanningResult
from cantlie.protocol.metric import Metric
from cantlie.protocol.schema import Protocol
from cantlie.target.recipes import resolve_first

Basis = Literal["calendar", "other plan", "scaled dose", "own plan"]

SCALED_SLACK = 0.1
"""A plan of its own may spare more than the scaled dose of a higher scheme. So scaled dose refuses a scheme only where
a limit is broken by more than this share of it."""


@dataclass(frozen=True, slots=True)
class SchemeTrial:
    """One scheme that was looked at.

    Attributes
    ----------
    days
        Calendar days from the first to the last session.
    basis
        What the judgement rests on: the calendar, the plan of another scheme with no more dose, the dose of another
        scheme's plan scaled to this one, or a plan of its own.
    refused
        Why it was refused; empty for the scheme that meets all limits.
    """

    scheme: str
    total_gy: float
    fractions: int
    days: int
    basis: Basis
    refused: str


class SchemeSearch:
    """Judges the schemes of a protocol with the rule ``highest_within_limits``; `refusal` is given to `choose_scheme`.

    The limits of the protocol are physical doses, so what a scheme can keep depends on its total dose: a plan that
    breaks a rule refuses every scheme with as much dose or more. Lower schemes are first judged on that plan's dose
    scaled to their own total, and planned unless it breaks a limit of an organ by far.

    Parameters
    ----------
    protocol
        The protocol, with all its schemes.
    regions
        Masks of targets and organs.
    start
        First treatment day.
    plan
        Makes the plan of the protocol with one scheme.
    """

    def __init__(
        self, protocol: Protocol, regions: Regions, start: date, plan: Callable[[Protocol, str], PlanningResult]
    ) -> None:
        self._protocol = protocol
        self._regions = regions
        self._start = start
        self._plan = plan
        self._planned: dict[str, PlanningResult] = {}
        self._failed: list[tuple[str, float, str]] = []
        self._trials: list[SchemeTrial] = []

    @property
    def trials(self) -> tuple[SchemeTrial, ...]:
        """All schemes that were looked at, in their order."""
        return tuple(self._trials)

    def planning_of(self, scheme: str) -> PlanningResult:
        """Return the plan of a scheme, made now if it was not made before."""
        if scheme not in self._planned:
            self._planned = {scheme: self._plan(self._protocol.with_scheme(scheme), scheme)}
        return self._planned[scheme]

    def refusal(self, scheme: str) -> str:
        """Return why a scheme cannot be given; empty where its plan keeps every rule of the protocol."""
        protocol = self._protocol.with_scheme(scheme)
        prescriptions = [protocol.prescription(name) for name in protocol.target_ids]
        total_gy = max(prescription.total_gy for prescription in prescriptions)
        days = plan_calendar(protocol, self._start).calendar_days
        basis, refused = self._judge(protocol, scheme, total_gy, days)
        fractions = max(prescription.fractions for prescription in prescriptions)
        self._trials.append(SchemeTrial(scheme, total_gy, fractions, days, basis, refused))
        return refused

    def _judge(self, protocol: Protocol, scheme: str, total_gy: float, days: int) -> tuple[Basis, str]:
        choice = self._protocol.choice
        most_days = None if choice is None else choice.maximum_days
        if most_days is not None and days > most_days:
            return "calendar", f"takes {days} days, at most {most_days} are allowed"
        for name, other_gy, why in self._failed:
            if other_gy <= total_gy + 1e-6:
                return "other plan", f"{other_gy:g} Gy ({name}) already breaks a rule: {why}"
        if self._failed:
            name, other_gy, _ = self._failed[-1]
            why = self._broken_when_scaled(protocol, name, total_gy / other_gy)
            if why:
                return "scaled dose", f"the plan of {name} scaled to {total_gy:g} Gy: {why}"
        result = self.planning_of(scheme)
        why = "; ".join(outcome.sentence() for outcome in result.outcomes if not outcome.met)
        if why:
            self._failed.append((scheme, total_gy, why))
        return "own plan", why

    def _broken_when_scaled(self, protocol: Protocol, planned: str, factor: float) -> str:
        """Return the limits of organs that a planned dose breaks by far when it is scaled."""
        if planned not in self._planned:
            return ""
        dose = self._planned[planned].total_dose
        curves: dict[str, Dvh] = {}
        broken = []
        for rule in protocol.constraints:
            metric = rule.parsed_metric
            found = None if metric.needs_prescription else resolve_first(self._regions, rule.structure, rule.stand_ins)
            if found is None or rule.structure in protocol.target_ids:
                continue
            if found.name not in curves:
                curves[found.name] = dvh(dose, found.fractions, self._regions.grid, name=found.name)
            try:
                value = scaled_metric(metric, curves[found.name], factor)
            except StructureError:
                continue  # a volume larger than the structure has no value
            if (
                not holds(value, rule.op, rule.limit)
                and -margin(value, rule.op, rule.limit) > SCALED_SLACK * rule.limit
            ):
                broken.append(f"{rule.structure} {metric} {value:.4g} {rule.unit}, {rule.op} {rule.limit:g} asked")
        return "; ".join(broken)


def scaled_metric(metric: Metric, curve: Dvh, factor: float) -> float:
    """Return a metric in a dose that is everywhere ``factor`` times that of a DVH.

    Doses scale; a volume at a dose is the volume at that dose divided by the factor. Metrics relative to a
    prescription do not change, for the prescription scales too, and have no place here.

    Raises
    ------
    StructureError
        If the metric needs a volume larger than the structure, or a prescription.
    """
    if metric.is_dose:
        return factor * metric_value(metric, curve)
    return metric_value(replace(metric, argument=metric.argument / factor), curve)
