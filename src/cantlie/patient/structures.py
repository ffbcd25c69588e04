"""Structures as a clinical system draws them: named stacks of planar contours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.notes import Note
from cantlie.patient.names import BODY, AliasTable, built_in_aliases, plain, standard_name


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """One structure of a structure set.

    Parameters
    ----------
    name
        The name in the file, unchanged.
    contours_mm
        Closed planar polygons, each of shape (n, 3), points (x, y, z) in LPS mm, on axial planes. Several polygons on a
        plane combine by exclusive or, so that holes and keyholes come out right.
    number
        ROI number in the file.
    standard_name
        TG-263 name, or None when the alias table does not know the name.
    dicom_type
        RT ROI interpreted type (``EXTERNAL``, ``ORGAN``, ``GTV``, ``PTV`` ...), or an empty string.
    colour_rgb
        Display colour, 0 to 255.
    slice_spacing_mm
        Spacing of the images that it was drawn on, or 0 when unknown: the thickness of a structure on a single plane.
    """

    name: str
    contours_mm: tuple[NDArray[np.float64], ...]
    number: int = 0
    standard_name: str | None = None
    dicom_type: str = ""
    colour_rgb: tuple[int, int, int] = (255, 255, 0)
    slice_spacing_mm: float = 0.0

    @property
    def key(self) -> str:
        """The name that Cantlie works with: the standard name where it is known, else the name in the file."""
        return self.standard_name or self.name


@dataclass(frozen=True, slots=True, eq=False)
class StructureSet:
    """The structures of a patient, found by TG-263 name or by the name in the file."""

    structures: tuple[Structure, ...] = ()
    label: str = ""
    sop_instance_uid: str = ""
    _by_key: dict[str, Structure] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_key: dict[str, Structure] = {}
        for structure in self.structures:
            if structure.standard_name:
                by_key.setdefault(structure.standard_name, structure)
        for structure in self.structures:
            by_key.setdefault(structure.name, structure)
        object.__setattr__(self, "_by_key", by_key)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.structures)

    def __len__(self) -> int:
        return len(self.structures)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __getitem__(self, name: str) -> Structure:
        structure = self._find(name)
        if structure is None:
            known = ", ".join(sorted({s.key for s in self.structures})) or "none"
            raise StructureError(
                f"no structure is called {name!r}",
                where="structure set",
                remedy=f"add it or map its name with an alias file; present: {known}",
            )
        return structure

    def _find(self, name: str) -> Structure | None:
        """Find by the name that Cantlie works with, the name in the file, a spelling of the standard name."""
        return self._by_key.get(name) or self._by_key.get(standard_name(name) or "")


def with_standard_names(
    structures: Iterable[Structure], table: AliasTable | None = None
) -> tuple[tuple[Structure, ...], tuple[Note, ...]]:
    """Give every structure its standard name, each name to one structure only.

    Where several structures of a set have spellings of one name, one with contours gets it before one without, for the
    body one of type EXTERNAL before another, then the one spelt most like the standard name, then the first; the others
    keep the names of the file, and a note says so. A structure of type EXTERNAL is BODY whatever its name, unless
    another one is called so.
    """
    table = table or built_in_aliases()
    items = list(structures)
    wanted = [table(item.name) for item in items]
    if BODY not in wanted:
        outer = next((n for n, item in enumerate(items) if item.dicom_type == "EXTERNAL" and item.contours_mm), None)
        if outer is not None:
            wanted[outer] = BODY
    notes: list[Note] = []
    counts = Counter(name for name in wanted if name)
    for name, count in counts.items():
        if count == 1:
            continue
        rivals = [n for n, want in enumerate(wanted) if want == name]
        best = min(
            rivals,
            key=lambda n: (
                not items[n].contours_mm,
                name == BODY and items[n].dicom_type != "EXTERNAL",
                items[n].name != name,
                plain(items[n].name) != plain(name),
                n,
            ),
        )
        for n in rivals:
            if n != best:
                wanted[n] = None
        others = ", ".join(repr(items[n].name) for n in rivals if n != best)
        notes.append(
            Note(f"{count} structures have spellings of {name}: {items[best].name!r} is used, {others} not", "RTSTRUCT")
        )
    named = tuple(replace(item, standard_name=want) for item, want in zip(items, wanted, strict=True))
    return named, tuple(notes)
