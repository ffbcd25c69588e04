"""Constraints that cannot bind, follow from others, or contradict each other: found and explained before any planning.

Every limit on a dose or on a volume above a dose is a point that the cumulative DVH must stay below: `Dmax <= 40 Gy` is
(40 Gy, 0 %), `D66% < 18 Gy` is (18 Gy, 66 %), `V45Gy[%] <= 15` is (45 Gy, 15 %). As a DVH falls with dose, one limit
implies another exactly when its point lies at no more dose and no more volume. Coverage rules are points that the DVH
must stay above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cantlie.protocol.metric import Metric
from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Constraint

FindingKind = Literal[
    "cannot bind", "only at the junction", "not in every scheme", "implied", "contradiction", "tension"
]
USUAL_HOT_SPOT_PERCENT = 110.0
SPILL_SHARE = 0.5
"""Dose that a plan gives just outside its PTV, as a share of its prescription: at the edge of a field about half."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a protocol's author should know about one of its constraints.

    Attributes
    ----------
    kind
        ``cannot bind``: no plan can break it. ``only at the junction``: only where two plans' full doses add up.
        ``not in every scheme``: it cannot bind in the named prescription schemes. ``implied``: another constraint is at
        least as strict. ``contradiction``: it cannot be met together with another rule. ``tension``: hardly.
    index
        Position of the constraint in the protocol, from 0.
    constraint
        The constraint as text.
    reason
        Why, with the numbers.
    """

    kind: FindingKind
    index: int
    constraint: str
    reason: str

    def sentence(self) -> str:
        """Return the finding as one line."""
        return f"{self.constraint} ({self.kind}): {self.reason}"


@dataclass(frozen=True, slots=True)
class _Point:
    """A point of the cumulative DVH of a structure that a rule keeps it below (or above)."""

    dose_gy: float
    volume: float
    unit: Literal["%", "cc", "any"]  # "any": a volume of 0, the same in both units


@dataclass(frozen=True, slots=True)
class _Reach:
    """The largest doses that a point of the patient can get."""

    single_gy: float
    junction_gy: float
    most_gy: float
    hot_spot_percent: float


def check_protocol(protocol: Protocol) -> tuple[Finding, ...]:
    """Find the constraints of a protocol that cannot bind, are implied, or contradict its other rules.

    Parameters
    ----------
    protocol
        A valid protocol; where it leaves a choice of schemes, each is examined.

    Returns
    -------
    tuple of Finding
        In the order of the constraints; empty when all of them matter.
    """
    findings: list[Finding] = []
    for index, constraint in enumerate(protocol.constraints):
        finding = _unreachable(protocol, index, constraint)
        if finding is not None:
            findings.append(finding)
        findings.extend(_implied(protocol, index, constraint))
        findings.extend(_contradicted(protocol, index, constraint))
        findings.extend(_strained(protocol, index, constraint))
    return tuple(findings)


def _hot_spot_percent(protocol: Protocol) -> float:
    """Return the largest dose in the targets, in % of the prescription: the protocol's own rule or 110 %."""
    targets = {target.id for target in protocol.targets}
    own = [
        c.limit
        for c in protocol.constraints
        if c.structure in targets and c.metric.lower().startswith("dmax") and c.unit == "%" and c.op in ("<=", "<")
    ]
    return min(own, default=USUAL_HOT_SPOT_PERCENT)


def _reach(protocol: Protocol, scope: str, scheme: str | None) -> _Reach:
    hot = _hot_spot_percent(protocol)
    targets = (scope,) if scope not in ("course", "plan") else protocol.target_ids
    totals = sorted((protocol.prescription(target, scheme).total_gy for target in targets), reverse=True)
    if scope != "course":
        totals = totals[:1]
    single = totals[0] * hot / 100.0
    everything = sum(totals) * hot / 100.0
    halves = [t for t in protocol.targets if t.recipe.endswith("half_liver")]
    if len(halves) < 2 or len(totals) < 2:
        return _Reach(single, everything, everything, hot)
    # two halves touch only at their junction; elsewhere one plan adds at most its spill to the other's full dose
    beside = (totals[0] + SPILL_SHARE * sum(totals[1:])) * hot / 100.0
    overlap = protocol.split is not None and protocol.split.junction == "overlap"
    return _Reach(single, beside, everything if overlap else beside, hot)


def _unreachable(protocol: Protocol, index: int, constraint: Constraint) -> Finding | None:
    point = _upper_point(protocol, constraint, None)
    if point is None and not _is_mean_limit(constraint):
        return None
    if constraint.structure in {target.id for target in protocol.targets}:
        return None  # the rule that says what the targets can get
    beyond: list[str] = []
    junction: list[str] = []
    schemes = protocol.schemes or ("",)
    for scheme in schemes:
        limit_gy = _limit_gy(protocol, constraint, scheme or None)
        if limit_gy is None:
            return None
        reach = _reach(protocol, constraint.scope, scheme or None)
        if limit_gy > reach.most_gy:
            beyond.append(scheme)
        elif limit_gy > reach.junction_gy:
            junction.append(scheme)
    example = next(iter(beyond or junction), "") or None
    reach = _reach(protocol, constraint.scope, example)
    limit_gy = _limit_gy(protocol, constraint, example) or 0.0
    together = f"{reach.hot_spot_percent:g} % of the prescription is {reach.most_gy:.4g} Gy"
    if len(beyond) == len(schemes):
        largest = max(_reach(protocol, constraint.scope, scheme or None).most_gy for scheme in schemes)
        reason = (
            f"{limit_gy:g} Gy is more than any point can get: {reach.hot_spot_percent:g} % of the prescription"
            f"{' in the largest scheme' if len(schemes) > 1 else ''} is {largest:.4g} Gy"
        )
        return Finding("cannot bind", index, constraint.sentence(), reason)
    if beyond:
        reason = f"in {', '.join(beyond)} no point can get {limit_gy:g} Gy ({together} in {beyond[0]})"
        return Finding("not in every scheme", index, constraint.sentence(), reason)
    if junction:
        reason = (
            f"one plan reaches at most {reach.single_gy:.4g} Gy ({reach.hot_spot_percent:g} %), and beside its own PTV "
            f"the other adds about half its dose; {limit_gy:g} Gy needs both full doses (up to {reach.most_gy:.4g} "
            "Gy), so it can occur only in the slab where the PTVs overlap"
        )
        return Finding("only at the junction", index, constraint.sentence(), reason)
    return None


def _implied(protocol: Protocol, index: int, constraint: Constraint) -> list[Finding]:
    """Return at most one finding: the first other constraint that is at least as strict."""
    point = _upper_point(protocol, constraint, None)
    for other_index, other in enumerate(protocol.constraints):
        if other_index == index or not _same_place(constraint, other):
            continue
        other_point = _upper_point(protocol, other, None)
        if other_point is None:
            follows = _cold_follows(constraint, other)
        elif _is_mean_limit(constraint):
            follows = other_point.volume == 0 and other_point.dose_gy <= (_limit_gy(protocol, constraint, None) or 0)
        else:
            follows = point is not None and _lies_below(other_point, point)
        same = follows and _lies_below_back(point, other_point)
        if follows and (not same or other_index < index):
            word = "says the same" if same else "is stricter: whatever meets it meets this too"
            return [Finding("implied", index, constraint.sentence(), f"{other.sentence()} {word}")]
    return []


def _lies_below_back(point: _Point | None, other: _Point | None) -> bool:
    return point is not None and other is not None and _lies_below(point, other)


def _cold_follows(constraint: Constraint, other: Constraint) -> bool:
    """Say whether a rule on the volume below a dose follows from another one."""
    mine, theirs = constraint.parsed_metric, other.parsed_metric
    both_cold = mine.kind == theirs.kind == "volume_below_dose" and mine.unit == theirs.unit
    at_least = constraint.op in (">=", ">") and other.op in (">=", ">")
    same_dose_unit = mine.argument_unit == theirs.argument_unit
    if not (both_cold and at_least and same_dose_unit) or (mine == theirs and constraint.limit == other.limit):
        return False
    return theirs.argument <= mine.argument and other.limit >= constraint.limit


def _contradicted(protocol: Protocol, index: int, constraint: Constraint) -> list[Finding]:
    point = _upper_point(protocol, constraint, None)
    if point is None:
        return []
    findings = []
    for other in protocol.constraints:
        lower = _lower_point(protocol, other)
        if lower is not None and _same_place(constraint, other) and _lies_above(lower, point):
            findings.append(Finding("contradiction", index, constraint.sentence(), f"{other.sentence()} asks for more"))
    for rule in protocol.coverage:
        if constraint.structure != rule.target or (constraint.scope == "course") != (rule.scope == "course"):
            continue
        for scheme in protocol.schemes or (None,):
            dose = rule.isodose_percent / 100.0 * protocol.prescription(rule.target, scheme).total_gy
            here = _upper_point(protocol, constraint, scheme)
            if here is not None and _lies_above(_Point(dose, rule.volume_percent, "%"), here):
                reason = f"coverage asks for {rule.volume_percent:g} % of {rule.target} at {dose:.4g} Gy or more"
                findings.append(Finding("contradiction", index, constraint.sentence(), reason))
                break
    return findings


def _strained(protocol: Protocol, index: int, constraint: Constraint) -> list[Finding]:
    """Find limits on the liver that lie at the very dose that all of the liver is prescribed."""
    recipes = {target.recipe for target in protocol.targets}
    whole = "whole_liver" in recipes or {"right_half_liver", "left_half_liver"} <= recipes
    metric = constraint.parsed_metric
    names = constraint.structure.replace(" ", "")
    if not whole or not (names == "Liver" or names.startswith("Liver-")) or constraint.op not in ("<=", "<"):
        return []
    liver_targets = [t for t in protocol.targets if "liver" in t.recipe]
    dose = min(protocol.prescription(target.id).total_gy for target in liver_targets)
    if metric.kind == "volume_at_dose" and metric.argument_unit == "Gy" and metric.unit == "%":
        near = 0.95 * dose <= metric.argument <= 1.02 * dose and constraint.limit <= 60
        if near:
            reason = (
                f"all of the liver is prescribed a mean of {dose:g} Gy, so about half of it lies above "
                f"{metric.argument:g} Gy and the limit of {constraint.limit:g} % leaves hardly any room"
            )
            return [Finding("tension", index, constraint.sentence(), reason)]
        if metric.argument < 0.85 * dose and constraint.limit < 90:
            reason = f"all of the liver is prescribed {dose:g} Gy, which is more than {metric.argument:g} Gy"
            return [Finding("contradiction", index, constraint.sentence(), reason)]
    if metric.kind == "mean" and constraint.limit < 0.85 * dose:
        reason = f"all of the liver is prescribed {dose:g} Gy, more than a mean of {constraint.limit:g} Gy allows"
        return [Finding("contradiction", index, constraint.sentence(), reason)]
    return []


def _is_mean_limit(constraint: Constraint) -> bool:
    return constraint.parsed_metric.kind == "mean" and constraint.op in ("<=", "<")


def _same_place(first: Constraint, second: Constraint) -> bool:
    return str(first.recipe) == str(second.recipe) and first.scope == second.scope


def _dose_gy(
    protocol: Protocol, constraint: Constraint, value: float, is_percent: bool, scheme: str | None
) -> float | None:
    if not is_percent:
        return value
    ids = protocol.target_ids
    target = (
        constraint.structure if constraint.structure in ids else constraint.scope if constraint.scope in ids else None
    )
    totals = [protocol.prescription(t, scheme).total_gy for t in ([target] if target else ids)]
    return value / 100.0 * totals[0] if len(set(totals)) == 1 else None


def _limit_gy(protocol: Protocol, constraint: Constraint, scheme: str | None) -> float | None:
    """Return the dose in Gy that a constraint is about: its limit, or the dose of its volume."""
    metric = constraint.parsed_metric
    if metric.is_dose:
        return _dose_gy(protocol, constraint, constraint.limit, metric.unit == "%", scheme)
    return _dose_gy(protocol, constraint, metric.argument, metric.argument_unit == "%", scheme)


def _upper_point(protocol: Protocol, constraint: Constraint, scheme: str | None) -> _Point | None:
    """Return the point that a constraint keeps the DVH below; None where it is of another kind."""
    if constraint.op not in ("<=", "<"):
        return None
    return _point(protocol, constraint, constraint.parsed_metric, scheme)


def _lower_point(protocol: Protocol, constraint: Constraint) -> _Point | None:
    """Return the point that a constraint keeps the DVH above; None where it is of another kind."""
    if constraint.op not in (">=", ">"):
        return None
    return _point(protocol, constraint, constraint.parsed_metric, None)


def _point(protocol: Protocol, constraint: Constraint, metric: Metric, scheme: str | None) -> _Point | None:
    dose = _limit_gy(protocol, constraint, scheme)
    if dose is None:
        return None
    if metric.kind == "max":
        return _Point(dose, 0.0, "any")
    if metric.kind == "min":
        return _Point(dose, 100.0, "%")
    if metric.kind == "dose_at_volume":
        return _Point(dose, metric.argument, "cc" if metric.argument_unit == "cc" else "%")
    if metric.kind == "volume_at_dose":
        return _Point(dose, constraint.limit, "cc" if metric.unit == "cc" else "%")
    return None


def _comparable(first: _Point, second: _Point) -> bool:
    return first.unit == second.unit or "any" in (first.unit, second.unit)


def _lies_below(first: _Point, second: _Point) -> bool:
    """Say whether staying below the first point means staying below the second."""
    return _comparable(first, second) and first.dose_gy <= second.dose_gy and first.volume <= second.volume


def _lies_above(lower: _Point, upper: _Point) -> bool:
    """Say whether a DVH that stays above one point cannot stay below the other."""
    return _comparable(lower, upper) and lower.dose_gy > upper.dose_gy and lower.volume > upper.volume
