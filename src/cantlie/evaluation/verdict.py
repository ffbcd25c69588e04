"""What a judged rule of a protocol looks like, whatever the rule is."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["pass", "fail", "not evaluable"]
Operator = Literal["<", "<=", ">", ">="]

_MOST_DECIMALS = 4
SIGNS: dict[str, str] = {"<": "<", "<=": "≤", ">": ">", ">=": "≥"}


def holds(achieved: float, op: str, limit: float) -> bool:
    """Say whether ``achieved op limit`` holds. Nothing is rounded and nothing is forgiven.

    Raises
    ------
    ValueError
        If the operator is unknown.
    """
    match op:
        case "<":
            return achieved < limit
        case "<=":
            return achieved <= limit
        case ">":
            return achieved > limit
        case ">=":
            return achieved >= limit
    raise ValueError(f"unknown operator {op!r}")


def decimals(achieved: float, limit: float, usual: int) -> int:
    """Return how many decimals to print of a judged value: the usual number, or up to four where fewer hide its side.

    What fails ``< 50`` with 50.02 must not be printed as 50.0.
    """
    while usual < _MOST_DECIMALS and achieved != limit and round(achieved, usual) == round(limit, usual):
        usual += 1
    return usual


def judged_text(achieved: float, limit: float, usual: int) -> str:
    """Return a judged value with as many decimals as show on which side of its limit it is (`decimals`)."""
    return f"{achieved:.{decimals(achieved, limit, usual)}f}"


def margin(achieved: float, op: str, limit: float) -> float:
    """Return how far a value is on the right side of its limit, in its own unit; negative where it is not."""
    return limit - achieved if op in ("<", "<=") else achieved - limit
