"""Structure recipes carried out: from `Liver - GTV*` and a patient's masks to one mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.notes import Note
from cantlie.patient.regions import Regions, intersect, minus, union
from cantlie.protocol.recipe import Margin as MarginRecipe
from cantlie.protocol.recipe import Name, Recipe, parse_recipe
from cantlie.target.margins import contract_evenly, expand_evenly, ring

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A mask with the name it goes by and what must be said about it."""

    name: str
    fractions: Fractions
    notes: tuple[Note, ...] = ()


def matching(regions: Regions, pattern: str) -> tuple[str, ...]:
    """Return the names of the regions that a name or a pattern with ``*`` stands for, in order."""
    if "*" in pattern:
        return tuple(name for name in regions.fractions if fnmatchcase(name, pattern))
    return (pattern,) if pattern in regions else ()


def resolve(regions: Regions, recipe: Recipe | str) -> Fractions:
    """Return the mask that a recipe describes, shape ``regions.grid.shape``.

    A union takes the larger share of a voxel, an overlap the smaller one, and what is taken away is subtracted: exact
    where one region contains the other, as lesions in a liver. A pattern that matches nothing takes nothing away.

    Raises
    ------
    StructureError
        If a structure is missing.
    """
    if isinstance(recipe, str):
        recipe = parse_recipe(recipe)
    found = _resolve(regions, recipe)
    if found is None:
        raise StructureError(
            f"no structure matches {recipe}",
            where="structure recipe",
            remedy=f"present: {', '.join(sorted(regions.fractions)) or 'none'}",
        )
    return found


def resolve_first(regions: Regions, recipe: str, stand_ins: Sequence[str] = ()) -> Resolved | None:
    """Return the mask of a recipe, or of the first stand-in that is present (with a note), or None."""
    for position, text in enumerate((recipe, *stand_ins)):
        try:
            fractions = resolve(regions, text)
        except StructureError:
            continue
        if not fractions.any():
            continue
        if position == 0:
            return Resolved(text, fractions)
        return Resolved(text, fractions, (Note(f"{recipe} is not contoured; {text} stands in for it", text),))
    return None


def _resolve(regions: Regions, recipe: Recipe) -> Fractions | None:
    """Return the mask, or None where a pattern matches nothing."""
    if isinstance(recipe, Name):
        names = matching(regions, recipe.name)
        if names:
            return union(*(regions[name] for name in names))
        if recipe.is_pattern:
            return None
        return regions[recipe.name]  # raises, with the names that are present
    if isinstance(recipe, MarginRecipe):
        inner = _resolve(regions, recipe.inner)
        if inner is None:
            return None
        if recipe.function == "ring":
            return ring(regions.grid, inner, *recipe.distances_mm)
        grow = expand_evenly if recipe.function == "expand" else contract_evenly
        return grow(regions.grid, inner, recipe.distances_mm[0])
    first, second = _resolve(regions, recipe.first), _resolve(regions, recipe.second)
    if recipe.operator == "+":
        present = [part for part in (first, second) if part is not None]
        return union(*present) if present else None
    if first is None or (second is None and recipe.operator == "&"):
        return None
    if second is None:
        return first
    return minus(first, second) if recipe.operator == "-" else intersect(first, second)
