"""Constraints that can never bind, and constraints that no plan can meet together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cantlie.study.audit.claims import Constraint, Prescription
from cantlie.study.audit.load import LoadedClaims
from cantlie.study.audit.printed import rounded
from cantlie.study.audit.verdict import Finding

UNPRINTED_HOT_SPOT_PERCENT = 150.0
METHOD = "dose–volume logic: V of a higher dose is smaller, D of a larger volume is lower, no dose above the maximum"


@dataclass(frozen=True, slots=True)
class _Limit:
    claim: Constraint
    line: int
    kind: Literal["Dmax", "Dmean", "V", "D", "other"]
    at: float
    limit: float
    upper: bool

    @property
    def text(self) -> str:
        unit = {"percent": "%", "Gy": " Gy", "cGy": " cGy"}.get(self.claim.unit, f" {self.claim.unit}")
        return f"{self.claim.structure} {self.claim.metric} {self.claim.op} {self.claim.limit.text}{unit}"


def check_constraints(loaded: LoadedClaims) -> Iterator[Finding]:
    """Hold every constraint against the prescription and against the others of its structure."""
    limits = [_read(claim, loaded.line("constraint", index)) for index, claim in enumerate(loaded.claims.constraint)]
    for limit in limits:
        others = [
            other
            for other in limits
            if other is not limit and other.claim.structure.casefold() == limit.claim.structure.casefold()
        ]
        yield _judge(limit, others, loaded.claims.prescription)


def _read(claim: Constraint, line: int) -> _Limit:
    metric = claim.metric.replace(" ", "")
    upper = claim.op in ("<", "<=")
    limit = claim.limit.value / (100.0 if claim.unit == "cGy" else 1.0)
    if re.fullmatch(r"(?i)d?max(imum)?|d0(\.0\d+)?(cc|%)?", metric):
        return _Limit(claim, line, "Dmax", 0.0, limit, upper)
    if re.fullmatch(r"(?i)d?mean", metric):
        return _Limit(claim, line, "Dmean", 0.0, limit, upper)
    if match := re.fullmatch(r"(?i)v(\d+(?:\.\d+)?)(?:gy)?", metric):
        return _Limit(claim, line, "V", float(match.group(1)), limit, upper)
    if match := re.fullmatch(r"(?i)d(\d+(?:\.\d+)?)%?", metric):
        return _Limit(claim, line, "D", float(match.group(1)), limit, upper)
    return _Limit(claim, line, "other", 0.0, limit, upper)


def _judge(limit: _Limit, others: list[_Limit], prescription: Prescription | None) -> Finding:
    reason, kind = _reason(limit, others, prescription)
    verdicts = {"": "consistent", "void": "inconsistent", "conflict": "inconsistent"}
    return Finding(
        "vacuous-constraint",
        limit.claim.place,
        limit.claim.what or f"{limit.claim.structure} {limit.claim.metric}",
        limit.text,
        reason or "it can bind",
        METHOD,
        verdicts[kind],  # type: ignore[arg-type]
        {"": "", "void": "warning", "conflict": "major"}[kind],  # type: ignore[arg-type]
        remark="the constraint can never bind" if kind == "void" else "",
        line=limit.line,
    )


def _reason(limit: _Limit, others: list[_Limit], prescription: Prescription | None) -> tuple[str, str]:
    for other in others:
        if reason := _conflict(limit, other):
            return reason, "conflict"
    if not limit.upper:
        return "", ""
    if prescription is not None:
        printed_rule = prescription.max_percent is not None
        percent = prescription.max_percent or UNPRINTED_HOT_SPOT_PERCENT
        highest = prescription.max_gy * percent / 100
        words = f"the highest dose is {rounded(highest)} Gy ({percent:g}% of {prescription.max_gy:g} Gy)"
        if limit.kind == "V" and limit.at > highest:
            return f"{words}, so V{limit.at:g} is always 0", "void"
        if limit.kind in ("Dmax", "Dmean", "D") and printed_rule and limit.limit > highest:
            return f"{words}, below the limit", "void"
    for other in others:
        if other.upper and (reason := _implied(limit, other)):
            return f"{other.text} implies {reason}", "void"
    return "", ""


def _implied(limit: _Limit, by: _Limit) -> str:
    """What an upper limit ``by`` already enforces of ``limit``; empty when it does not enforce it."""
    if by.kind == "Dmax":
        if limit.kind == "V" and limit.at >= by.limit and not (limit.at == by.limit and by.claim.op == "<="):
            return f"V{limit.at:g} = 0"
        if limit.kind in ("Dmean", "D") and limit.limit >= by.limit and limit.limit > 0:
            return f"{limit.claim.metric} <= {by.limit:g} Gy"
    if by.kind == limit.kind == "D" and limit.at > by.at and limit.limit >= by.limit:
        return f"D{limit.at:g} <= D{by.at:g} {by.claim.op} {by.limit:g} Gy"
    same_unit = by.claim.unit == limit.claim.unit
    if by.kind == limit.kind == "V" and same_unit and limit.at > by.at and limit.limit >= by.limit:
        return f"V{limit.at:g} <= V{by.at:g} {by.claim.op} {by.limit:g}"
    if limit.kind == "V" and limit.claim.unit == "percent" and limit.limit >= 100:
        return "nothing: a volume cannot exceed 100%"
    return ""


def _conflict(limit: _Limit, other: _Limit) -> str:
    """Why a lower limit and an upper limit of one structure cannot both hold."""
    if limit.upper or not other.upper:
        return ""
    same = limit.kind == other.kind and limit.at == other.at and limit.claim.unit == other.claim.unit
    if same and limit.limit > other.limit:
        return f"{other.text} stands against it"
    if limit.kind in ("Dmean", "D") and other.kind == "Dmax" and limit.limit > other.limit:
        return f"{other.text} stands against it"
    return ""
