"""The prescription of a case and its plan: where a protocol leaves a choice of schemes, which one and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from cantlie.patient.regions import Regions
from cantlie.plan.request import PlanningResult
from cantlie.protocol.schema import Choice, Protocol
from cantlie.report.scheme_section import DistanceRow, SchemeRow, SchemeView
from cantlie.target.scheme_choice import SchemeChoice, choose_scheme
from cantlie.workflow.run_folder import RunFolder
from cantlie.workflow.scheme_search import SchemeSearch, SchemeTrial

PLANNING = "planning"
PlanOf = Callable[[Protocol, str], PlanningResult]
"""Plans a protocol of one scheme as the stage with this name."""


@dataclass(frozen=True, slots=True, eq=False)
class ChosenScheme:
    """The rule of the protocol, what it chose for this patient, and the schemes that were looked at."""

    rule: Choice
    choice: SchemeChoice
    trials: tuple[SchemeTrial, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PrescribedPlan:
    """A protocol with one scheme, its plans, and how the scheme was chosen (None without a choice)."""

    protocol: Protocol
    planning: PlanningResult
    scheme: ChosenScheme | None


def planning_weights(protocol: Protocol, weights: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of a run's stages, with a stage for each scheme that may have to be planned."""
    choice = protocol.choice
    if choice is None or choice.rule != "highest_within_limits":
        return dict(weights)
    share = weights[PLANNING] / len(choice.order)
    return {**weights, PLANNING: 0.0, **{_stage(scheme): share for scheme in choice.order}}


def plan_with_scheme(
    run: RunFolder, protocol: Protocol, regions: Regions, start: date, plan_of: PlanOf
) -> PrescribedPlan:
    """Choose the scheme by the protocol's own rule and plan it.

    With the rule ``highest_within_limits`` schemes are planned from the highest down until one keeps every rule; each
    plan is a stage of the run, so that a run that was stopped goes on where it was.
    """
    rule = protocol.choice
    if rule is None:
        return PrescribedPlan(protocol, plan_of(protocol, PLANNING), None)
    if rule.rule != "highest_within_limits":
        choice = choose_scheme(protocol, regions)
        assert choice is not None
        one = protocol.with_scheme(choice.scheme)
        return PrescribedPlan(one, plan_of(one, PLANNING), ChosenScheme(rule, choice, ()))
    search = SchemeSearch(protocol, regions, start, lambda one, scheme: plan_of(one, _stage(scheme)))
    choice = choose_scheme(protocol, regions, refusal=search.refusal)
    assert choice is not None
    planning = search.planning_of(choice.scheme)
    done = {stage["name"] for stage in run.record["stages"]}
    run.skip(*(_stage(scheme) for scheme in rule.order if _stage(scheme) not in done))
    return PrescribedPlan(protocol.with_scheme(choice.scheme), planning, ChosenScheme(rule, choice, search.trials))


def scheme_of(chosen: ChosenScheme | None) -> dict[str, Any] | None:
    """Return the choice as plain values for results.json."""
    if chosen is None:
        return None
    rule, choice = chosen.rule, chosen.choice
    return {
        "rule": rule.rule,
        "scheme": choice.scheme,
        "reason": choice.reason,
        "place": rule.place,
        "threshold_mm": rule.distance_mm,
        "distances_mm": dict(choice.distances_mm),
        "maximum_days": rule.maximum_days,
        "trials": [asdict(trial) for trial in chosen.trials],
    }


def scheme_view(chosen: ChosenScheme | None) -> SchemeView | None:
    """Return the choice as a chapter of the report shows it."""
    if chosen is None:
        return None
    rule, choice = chosen.rule, chosen.choice
    return SchemeView(
        choice.reason,
        rule.place,
        rule.distance_mm if choice.distances_mm else None,
        [DistanceRow(organ, distance) for organ, distance in choice.distances_mm],
        [SchemeRow(**asdict(trial)) for trial in chosen.trials],
    )


def _stage(scheme: str) -> str:
    return f"{PLANNING} {scheme}"
