"""The joint problem of all plans of a course: objectives on each plan's own dose and on the sum."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.objectives import Objective, value

Dose = NDArray[np.float64]

COURSE = "course"
"""The scope of objectives on the sum of all plans."""


class Aimed(Protocol):
    """An objective and the dose it looks at: a plan by its target's name, or the course."""

    @property
    def scope(self) -> str:
        """The dose that the objective looks at."""
        ...

    @property
    def objective(self) -> Objective:
        """The objective."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """An objective, the dose it looks at, and what it is for.

    Purposes are ``target``, ``outside`` (fall-off and hot spots beside targets), ``spare``, ``robust`` (displaced
    targets), or nothing in particular.
    """

    scope: str
    objective: Objective
    purpose: str = ""


@dataclass(slots=True)
class Problem:
    """Objectives on the doses of several plans that are made together.

    Parameters
    ----------
    names
        Target of each plan.
    terms
        The objectives.
    offsets_gy
        Dose added to what the optimiser calculates for each plan: what the final dose calculation found more, shape
        (voxels,) each.
    given_gy
        Dose that earlier sessions gave, shape (voxels,); it counts in the course only.
    """

    names: tuple[str, ...]
    terms: Sequence[Aimed]
    offsets_gy: list[Dose] = field(default_factory=list)
    given_gy: Dose | None = None

    def seen(self, doses_gy: Sequence[Dose]) -> list[Dose]:
        """Return the doses with their offsets."""
        if not self.offsets_gy:
            return list(doses_gy)
        return [dose + offset for dose, offset in zip(doses_gy, self.offsets_gy, strict=True)]

    def scoped(self, scope: str, seen_gy: Sequence[Dose]) -> Dose:
        """Return the dose that a scope means."""
        if scope == COURSE:
            total = np.sum(seen_gy, axis=0) if len(seen_gy) > 1 else seen_gy[0]
            return total if self.given_gy is None else total + self.given_gy
        return seen_gy[self.names.index(scope)]

    def of_purpose(self, purpose: str) -> list[Term]:
        """Return the objectives that serve a purpose."""
        return [term for term in self.terms if isinstance(term, Term) and term.purpose == purpose]

    def value_of(self, purpose: str, seen_gy: Sequence[Dose], scopes: Container[str]) -> float:
        """Return the value of the objectives in some scopes that serve a purpose."""
        terms = [term for term in self.of_purpose(purpose) if term.scope in scopes]
        return sum(value(term.objective, self.scoped(term.scope, seen_gy)) for term in terms)

    def evaluate(self, doses_gy: Sequence[Dose]) -> tuple[float, list[Dose]]:
        """Return the total value and its gradient with respect to each plan's dose."""
        seen = self.seen(doses_gy)
        total = self.scoped(COURSE, seen)
        course_gradient = np.zeros_like(total)
        gradients = [np.zeros_like(total) for _ in seen]
        total_value = 0.0
        for term in self.terms:
            if term.scope == COURSE:
                total_value += term.objective.add_gradient(total, course_gradient)
            else:
                plan = self.names.index(term.scope)
                total_value += term.objective.add_gradient(seen[plan], gradients[plan])
        for gradient in gradients:
            gradient += course_gradient
        return total_value, gradients
