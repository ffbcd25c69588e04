"""Which technique delivers a plan, by the name that a protocol or a user gives it."""

from __future__ import annotations

from cantlie.plan.step_and_shoot import StepAndShoot
from cantlie.plan.technique import Technique

_TECHNIQUES: dict[str, Technique] = {"step_and_shoot": StepAndShoot()}


def technique_of(delivery: str) -> Technique:
    """Return the technique for a protocol's ``technique.delivery``; what is not planned yet, as step-and-shoot."""
    return _TECHNIQUES.get(delivery, _TECHNIQUES["step_and_shoot"])


def is_planned(delivery: str) -> bool:
    """Say whether the planner delivers a protocol's ``technique.delivery`` as it is asked for."""
    return delivery in _TECHNIQUES
