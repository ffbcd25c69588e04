"""What every model says about itself, and the answer it gives: a number with its range, source and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cantlie.core.notes import Note

Status = Literal["verified", "secondary", "from memory"]
DoseBasis = Literal["physical", "EQD2", "BED", "per fraction"]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The identity of a model.

    Attributes
    ----------
    formula
        The equation as text.
    parameters
        Parameter to value, the unit in the name.
    endpoint, population
        What it predicts, in whom.
    dose_basis
        The kind of dose that it takes.
    valid
        Where it holds, in words.
    source
        Publication with DOI where it has one.
    status
        ``verified`` in a primary source during this work, ``secondary`` in a source that quotes it, or ``from memory``
        (to be checked against the publication before it is relied on).
    """

    id: str
    name: str
    formula: str
    parameters: Mapping[str, float]
    endpoint: str
    population: str
    dose_basis: DoseBasis
    valid: str
    source: str
    status: Status


@dataclass(frozen=True, slots=True)
class Estimate:
    """A model's answer.

    Attributes
    ----------
    value
        The number.
    low, high
        The band over the model's uncertain parameters; equal to the value where it has none.
    inputs
        The numbers that went in, the unit in the name.
    notes
        What a careful reader must know: above all that the input lies outside the model's range.
    """

    value: float
    low: float
    high: float
    model: ModelCard
    inputs: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def memory_note(card: ModelCard) -> tuple[Note, ...]:
    """Return a note when a model's parameters were not checked against their publication."""
    if card.status == "from memory":
        return (Note("its parameters are from memory, not checked against the publication", card.name, "info"),)
    return ()
