"""A protocol's limits held against the reference limits of the same structure: stricter, looser or the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Constraint, ReferenceLimit

Relation = Literal["stricter than", "the same as", "looser than"]
POINT_CC = 0.035
"""A dose in no more than this volume stands for the maximum, as TG-101 means it."""


@dataclass(frozen=True, slots=True)
class BesideReference:
    """How a printed limit stands to a reference limit.

    Attributes
    ----------
    index
        Position of the constraint in the protocol, from 0.
    relation
        What the printed limit is, seen from the reference.
    """

    index: int
    relation: Relation
    constraint: str
    reference: ReferenceLimit

    def sentence(self) -> str:
        """Return the comparison as one line."""
        limit = self.reference
        return f"{self.constraint}: {self.relation} {self.short()} ({limit.source})"

    def short(self) -> str:
        """Return the reference limit with the first words of its source."""
        limit = self.reference
        return f"{limit.metric} {limit.op} {limit.limit:g} {limit.unit}, {limit.source.split(',')[0]}"


def beside_references(protocol: Protocol) -> tuple[BesideReference, ...]:
    """Return how the protocol's limits on the course stand to its reference limits of the same metric.

    A maximum is compared with a dose in up to 0.035 cc too. Limits on other metrics of a structure cannot be compared
    without a dose; they are left out.
    """
    found = []
    for index, constraint in enumerate(protocol.constraints):
        if constraint.scope != "course":
            continue
        for limit in protocol.reference_limits:
            if (
                limit.structure == constraint.structure
                and limit.op[0] == constraint.op[0]
                and _alike(constraint, limit)
            ):
                found.append(BesideReference(index, _relation(constraint, limit), constraint.sentence(), limit))
    return tuple(found)


def _alike(one: Constraint, other: Constraint) -> bool:
    a, b = one.parsed_metric, other.parsed_metric
    return a.unit == b.unit and (a == b or (_is_point(one) and _is_point(other)))


def _is_point(constraint: Constraint) -> bool:
    metric = constraint.parsed_metric
    small = metric.kind == "dose_at_volume" and metric.argument_unit == "cc" and metric.argument <= POINT_CC
    return metric.kind == "max" or small


def _relation(printed: Constraint, reference: Constraint) -> Relation:
    if printed.limit == reference.limit:
        return "the same as"
    stricter = printed.limit < reference.limit if printed.op.startswith("<") else printed.limit > reference.limit
    return "stricter than" if stricter else "looser than"
