"""Regions: the partial-volume masks of a patient on one grid, their volumes and boolean recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.grid import Grid
from cantlie.patient.masks import structure_fractions
from cantlie.patient.names import standard_name
from cantlie.patient.structures import Structure

Fractions = NDArray[np.float32]


def union(*fractions: Fractions) -> Fractions:
    """Return the share of each voxel inside any of several regions.

    The larger share counts: exact where one region contains the other or voxels are full or empty. Two regions that
    meet edge to edge inside a voxel are added up by `joined`.
    """
    result = fractions[0]
    for other in fractions[1:]:
        result = np.maximum(result, other)
    return result.copy() if result is fractions[0] else result


def joined(*fractions: Fractions) -> Fractions:
    """Return the share of each voxel inside any of several regions that do not overlap: the sum, at most 1."""
    total = np.zeros_like(fractions[0])
    for other in fractions:
        total += other
    return np.minimum(total, np.float32(1))


def intersect(*fractions: Fractions) -> Fractions:
    """Return the share of each voxel inside all of several regions: the smallest share."""
    result = fractions[0]
    for other in fractions[1:]:
        result = np.minimum(result, other)
    return result.copy() if result is fractions[0] else result


def minus(region: Fractions, *others: Fractions) -> Fractions:
    """Return the share of each voxel inside a region and outside all others: the difference, at least 0.

    Exact for a part taken out of a whole that contains it (Liver-GTV) and for regions that meet at a boundary.
    """
    return region.copy() if not others else np.maximum(region - union(*others), np.float32(0))


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Named partial-volume masks on one grid.

    Parameters
    ----------
    grid
        The grid of all masks.
    fractions
        Name to float32 array of shares, shape ``grid.shape``.

    Raises
    ------
    StructureError
        If a mask does not have the shape of the grid.
    """

    grid: Grid
    fractions: Mapping[str, Fractions]

    def __post_init__(self) -> None:
        for name, values in self.fractions.items():
            if values.shape != self.grid.shape:
                raise StructureError(f"mask of shape {values.shape} on a grid of shape {self.grid.shape}", where=name)
        object.__setattr__(self, "fractions", MappingProxyType(dict(self.fractions)))

    @classmethod
    def from_structures(cls, structures: Iterable[Structure], grid: Grid) -> Regions:
        """Return the masks of structures on a grid, under the names that Cantlie works with.

        Where two structures have one name, the one whose standard name it is counts, else the first.
        """
        chosen: dict[str, Structure] = {}
        for structure in sorted(structures, key=lambda structure: structure.standard_name is None):
            chosen.setdefault(structure.key, structure)
        masks = {key: structure_fractions(structure, grid) for key, structure in chosen.items()}
        return cls(grid, masks)

    def __contains__(self, name: str) -> bool:
        return name in self.fractions or standard_name(name) in self.fractions

    def __getitem__(self, name: str) -> Fractions:
        try:
            return self.fractions[name if name in self.fractions else standard_name(name) or name]
        except KeyError:
            raise StructureError(
                f"no region is called {name!r}",
                where="regions",
                remedy=f"present: {', '.join(sorted(self.fractions)) or 'none'}",
            ) from None

    def with_region(self, name: str, fractions: Fractions) -> Regions:
        """Return these regions and one more (or one replaced)."""
        return Regions(self.grid, {**self.fractions, name: fractions})

    def volume_cc(self, name: str) -> float:
        """Return the volume of a region in cm³."""
        return float(self[name].sum(dtype=np.float64)) * self.grid.voxel_cc

    def union(self, *names: str) -> Fractions:
        """Return the union of named regions, any number (all GTVs, both kidneys)."""
        return union(*(self[name] for name in names))

    def intersect(self, *names: str) -> Fractions:
        """Return the intersection of named regions."""
        return intersect(*(self[name] for name in names))

    def minus(self, name: str, *others: str) -> Fractions:
        """Return a region without others (Liver-GTV)."""
        return minus(self[name], *(self[other] for other in others))
