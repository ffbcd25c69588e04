"""Which technique delivers a plan, by the name that a protocol or a user gives it."""

from __future__ import annotations

from collections.abc import Callable

from cantlie.plan.conformal import Conformal
from cantlie.plan.field_in_field import FieldInField
from cantlie.plan.step_and_shoot import StepAndShoot
from cantlie.plan.technique import Technique
from cantlie.plan.vmat import Vmat

_TECHNIQUES: dict[str, Callable[[], Technique]] = {
    "step_and_shoot": StepAndShoot,
    "arc": Vmat,
    "static": Conformal,
    "field_in_field": FieldInField,
}


def technique_of(delivery: str) -> Technique:
    """Return a technique for one run by a protocol's ``technique.delivery``: step-and-shoot for what is not planned."""
    return _TECHNIQUES.get(delivery, StepAndShoot)()


def is_planned(delivery: str) -> bool:
    """Say whether the planner delivers a protocol's ``technique.delivery`` as it is asked for."""
    return delivery in _TECHNIQUES
