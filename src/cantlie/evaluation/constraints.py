"""The constraint table: what the protocol allows, what the dose does, and where the limit stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cantlie.core.errors import CantlieError
from cantlie.evaluation.dvh import Dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.evaluation.verdict import Verdict, holds, margin
from cantlie.protocol.schema import Constraint, ReferenceLimit


@dataclass(frozen=True, slots=True)
class ConstraintResult:
    """One row of the constraint table.

    Attributes
    ----------
    structure, metric, op, limit, unit, scope, priority, wording, place
        As the protocol has them; ``place`` says where in the source the limit is printed.
    evaluated_structure
        The structure whose DVH was used: the one named or a stand-in; empty when there is none.
    achieved, margin
        The value and how far it is on the right side of the limit (negative where it breaks it); None when it cannot be
        evaluated.
    reason
        Why it cannot be evaluated, or that a stand-in was used.
    source
        For a limit from elsewhere that stands beside the protocol's: where it comes from. Such limits are not rules.
    reference
        For a rule of the protocol: how it stands to reference limits of the same metric.
    """

    structure: str
    metric: str
    op: str
    limit: float
    unit: str
    achieved: float | None
    margin: float | None
    verdict: Verdict
    scope: str = "course"
    priority: int = 1
    evaluated_structure: str = ""
    reason: str = ""
    wording: str = ""
    place: str = ""
    source: str = ""
    reference: str = ""


def judge(constraint: Constraint, dvh: Dvh | None, prescription_gy: float | None = None) -> ConstraintResult:
    """Return one row of the table.

    Parameters
    ----------
    constraint
        The rule of the protocol.
    dvh
        DVH of the structure, or None where the patient does not have it.
    prescription_gy
        The dose that is 100 %, for relative metrics.
    """
    achieved: float | None = None
    reason = ""
    if dvh is None:
        names = " or ".join([constraint.structure, *constraint.stand_ins])
        reason = f"{names} is not contoured"
    else:
        try:
            achieved = metric_value(constraint.parsed_metric, dvh, prescription_gy)
        except CantlieError as error:
            reason = error.what
        if dvh.name and dvh.name != constraint.structure and not reason:
            reason = f"evaluated on {dvh.name}"
    verdict: Verdict = "not evaluable"
    if achieved is not None:
        verdict = "pass" if holds(achieved, constraint.op, constraint.limit) else "fail"
    return ConstraintResult(
        structure=constraint.structure,
        metric=str(constraint.parsed_metric),
        op=constraint.op,
        limit=constraint.limit,
        unit=constraint.unit,
        achieved=achieved,
        margin=None if achieved is None else margin(achieved, constraint.op, constraint.limit),
        verdict=verdict,
        scope=constraint.scope,
        priority=constraint.priority,
        evaluated_structure="" if dvh is None else dvh.name,
        reason=reason,
        wording=constraint.wording,
        place=constraint.place,
        source=constraint.source if isinstance(constraint, ReferenceLimit) else "",
    )


def constraint_table(
    constraints: Iterable[Constraint], dvhs: Mapping[str, Dvh], prescription_gy: float | None = None
) -> tuple[ConstraintResult, ...]:
    """Return the table for all constraints of one scope.

    Parameters
    ----------
    constraints
        Rules of the protocol, all of the dose that the DVHs are of.
    dvhs
        DVHs by the structure recipe as the constraint writes it (``"Kidney_L + Kidney_R"``); a stand-in's name is tried
        where the structure is missing.
    """
    rows = []
    for constraint in constraints:
        names = (constraint.structure, *constraint.stand_ins)
        found = next((dvhs[name] for name in names if name in dvhs), None)
        rows.append(judge(constraint, found, prescription_gy))
    return tuple(rows)
