"""Eligibility rules as data, the verdict for each patient, and the flow of patients through a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cantlie.cohort.tables import Cohort
from cantlie.cohort.variables import Variable, as_numbers, evaluate
from cantlie.core.errors import CohortError
from cantlie.core.notes import Note

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in", "between"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One criterion.

    Parameters
    ----------
    text
        The criterion in words.
    kind
        An ``inclusion`` must be met, an ``exclusion`` must not.
    variable, operator, value
        What is compared; None when the data cannot tell (the rule is then reported as not assessed).
    missing
        Whether a patient without the value counts as ``eligible`` (with a note) or ``ineligible``.
    """

    text: str
    kind: Literal["inclusion", "exclusion"] = "inclusion"
    variable: Variable | None = None
    operator: Operator = "=="
    value: Any = None
    missing: Literal["eligible", "ineligible"] = "eligible"


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One box of the flow: how many came in, how many left, why, and how many went on."""

    text: str
    entered: int
    left: int
    remained: int
    not_assessed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Eligibility:
    """The verdict on each patient.

    ``met`` has a row for each patient and a column for each rule: True, False, or None where the data do not tell.
    ``first_failed`` names the first rule that a patient fails, None for those eligible.
    """

    rules: tuple[Rule, ...]
    met: pd.DataFrame
    first_failed: pd.Series
    flow: tuple[FlowStep, ...]
    notes: tuple[Note, ...] = ()

    @property
    def eligible(self) -> list[str]:
        """Patients who meet all rules."""
        return [str(i) for i in self.first_failed.index[self.first_failed.isna()]]


def compare(values: pd.Series, operator: str, value: Any) -> pd.Series:
    """Compare each value as the rule says; None where it is missing.

    Raises
    ------
    CohortError
        If the operator is not known, or the values or the limit do not fit it.
    """
    _check_limit(operator, value)
    if operator in ("<", "<=", ">", ">=", "between"):
        numbers = as_numbers(values, str(values.name))
        missing = numbers.isna()
        if operator == "between":
            low, high = value
            met = (numbers >= low) & (numbers <= high)
        else:
            met = {"<": numbers.lt, "<=": numbers.le, ">": numbers.gt, ">=": numbers.ge}[operator](value)
    else:
        missing = values.isna()
        if operator in ("in", "not in"):
            met = values.isin(value)
        elif operator in ("==", "!="):
            met = values == value
        else:
            raise CohortError(
                f"no operator is written {operator!r}", where="eligibility rule", remedy="correct the rule"
            )
        if operator in ("not in", "!="):
            met = ~met
    return met.astype(object).where(~missing, None)


def _check_kind(values: pd.Series, rule: Rule) -> None:
    """Refuse to compare texts with a number or numbers with a text: nobody would ever fit."""
    if rule.operator not in ("==", "!=", "in", "not in") or rule.value is None:
        return
    wanted = rule.value if isinstance(rule.value, (list, tuple)) else [rule.value]
    text = values.notna() & values.map(lambda x: isinstance(x, str))
    known = int(values.notna().sum())
    strings = [isinstance(w, str) for w in wanted]
    if known and ((text.sum() == known and not any(strings)) or (not text.any() and all(strings))):
        found = values.dropna().iloc[0]
        raise CohortError(
            f"the rule compares {wanted[0]!r} with values like {str(found)!r}, which can never be equal",
            where=f"eligibility rule {rule.text!r}",
            remedy="write texts in quotes and numbers without them",
        )


def _check_limit(operator: str, value: Any) -> None:
    """Insist on a limit that the operator can compare with."""
    a_list = isinstance(value, (list, tuple))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    wanted = {"in": "a list", "not in": "a list", "between": "two numbers, the smaller first"}.get(operator, "a number")
    if operator in ("in", "not in"):
        fits = a_list
    elif operator == "between":
        fits = a_list and len(value) == 2 and all(isinstance(v, (int, float)) for v in value) and value[0] <= value[1]
    else:
        fits = number or operator not in ("<", "<=", ">", ">=")
    if not fits:
        raise CohortError(
            f"{operator!r} needs {wanted}, not {value!r}", where="eligibility rule", remedy="correct the study file"
        )


def assess_eligibility(cohort: Cohort, rules: Sequence[Rule]) -> Eligibility:
    """Apply the rules in their order to every patient."""
    ids = pd.Index(cohort.patients["patient_id"], name="patient_id")
    met = pd.DataFrame(index=ids)
    first_failed = pd.Series([None] * len(ids), index=ids, dtype=object)
    remaining = np.ones(len(ids), dtype=bool)
    flow, notes = [], []
    for number, rule in enumerate(rules):
        if rule.variable is None:
            met[number] = pd.Series([None] * len(ids), index=ids, dtype=object)
            notes.append(Note("the rule cannot be assessed from the tables; all patients pass it", rule.text, "info"))
            continue
        values = evaluate(cohort, rule.variable)
        _check_limit(rule.operator, rule.value)
        _check_kind(values, rule)
        answer = compare(values, rule.operator, rule.value)
        if rule.kind == "exclusion":
            answer = answer.map(lambda x: None if x is None else not x).astype(object)
        met[number] = answer
        unknown = answer.isna().to_numpy()
        passes = np.array([bool(x) for x in answer.where(~unknown, rule.missing == "eligible")], dtype=bool)
        leaving = remaining & ~passes
        first_failed[leaving] = rule.text
        not_assessed = int((remaining & unknown).sum())
        entered = int(remaining.sum())
        remaining &= passes
        flow.append(FlowStep(rule.text, entered, int(leaving.sum()), int(remaining.sum()), not_assessed))
        if not_assessed:
            verdict = "passed" if rule.missing == "eligible" else "failed"
            notes.append(Note(f"the value is missing for {not_assessed} patients, who {verdict} the rule", rule.text))
    return Eligibility(tuple(rules), met, first_failed, tuple(flow), tuple(notes))


@dataclass(frozen=True, slots=True)
class ArmFlow:
    """CONSORT numbers of one arm."""

    arm: str
    allocated: int
    completed: int
    lost: int
    analysed: int
    reasons: Mapping[str, int]


def arm_flow(cohort: Cohort, analysed: Sequence[str]) -> tuple[ArmFlow, ...]:
    """Return for each arm how many were allocated, completed, were lost to follow-up and were analysed."""
    events = cohort.table("events")
    lost = set(events.loc[events["kind"].isin(["lost_to_follow_up", "withdrawal"]), "patient_id"])
    kept = set(analysed)
    flows = []
    arms = cohort.patients["arm"]
    for arm in sorted({str(a) for a in arms.dropna()}):
        rows = cohort.patients[arms == arm]
        incomplete = rows[rows["completed"] == "no"]
        reasons = incomplete["not_completed_reason"].fillna("not stated").value_counts()
        flows.append(
            ArmFlow(
                arm,
                len(rows),
                len(rows) - len(incomplete),
                len(set(rows["patient_id"]) & lost),
                len(set(rows["patient_id"]) & kept),
                {str(reason): int(count) for reason, count in reasons.items()},
            )
        )
    return tuple(flows)
