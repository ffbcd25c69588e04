"""From a patient's structures and a protocol to its targets: CTVs, PTVs, their overlap, normal liver, all lesions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.patient.regions import Regions, intersect, union
from cantlie.protocol.schema import Protocol
from cantlie.protocol.sections import Margins, Target
from cantlie.target.halves import HalfLivers, divide_liver
from cantlie.target.junction import Junction, meet
from cantlie.target.margins import expand
from cantlie.target.phase_contours import LIVER_ITV, itv_name
from cantlie.target.recipes import matching, resolve

Fractions = NDArray[np.float32]
ALL_LESIONS = "GTV_all"
NORMAL_LIVER = "Liver-GTV"
OVERLAP = "PTV_overlap"


@dataclass(frozen=True, slots=True)
class TargetVolume:
    """One target as it was built.

    Attributes
    ----------
    id, ctv
        Names of the PTV and the CTV among the regions.
    label
        What it is, in the protocol's words.
    outside_body_cc
        What the margin would have added outside BODY and was cut off.
    """

    id: str
    ctv: str
    label: str
    ctv_cc: float
    ptv_cc: float
    outside_body_cc: float
    margin: Margins


@dataclass(frozen=True, slots=True, eq=False)
class TargetResult:
    """The targets of a protocol in a patient.

    Attributes
    ----------
    regions
        The given regions and the new ones: every CTV and PTV, ``PTV_overlap`` (with two half livers), ``GTV_all`` (with
        any lesion) and ``Liver-GTV``.
    targets
        One per target of the protocol.
    halves, junction
        How the liver was divided and how the PTVs meet; None without half livers.
    lesions
        Names of the lesions.
    volumes_cc
        Volumes of the new regions.
    """

    regions: Regions
    targets: tuple[TargetVolume, ...]
    halves: HalfLivers | None
    junction: Junction | None
    lesions: tuple[str, ...]
    volumes_cc: Mapping[str, float]
    notes: tuple[Note, ...]

    def ptv(self, target_id: str) -> Fractions:
        """Return the PTV of a target."""
        return self.regions[target_id]


def build_targets(
    regions: Regions,
    protocol: Protocol,
    *,
    only: Collection[str] = (),
    body: str = "BODY",
    liver: str = "Liver",
    progress: Progress = silent,
) -> TargetResult:
    """Build the targets that a protocol asks for.

    Parameters
    ----------
    regions
        The patient's masks: the liver, lesions where the protocol's targets need them, landmarks where contoured.
    protocol
        What to build.
    only
        Ids of the targets to build, for a protocol that builds some on a second CT; all where empty.
    body
        PTVs are clipped to this region where it is present.

    Raises
    ------
    StructureError
        If a structure that a target needs is missing or empty.
    """
    notes: list[Note] = []
    lesions = tuple(name for name in matching(regions, protocol.gtv) if name != ALL_LESIONS and regions[name].any())
    new: dict[str, Fractions] = {}
    if lesions:
        new[ALL_LESIONS] = union(*(regions[name] for name in lesions))
    halves: HalfLivers | None = None
    wanted = tuple(target for target in protocol.targets if not only or target.id in only)
    if any(target.recipe.endswith("half_liver") for target in wanted) and protocol.split is not None:
        progress(0.0, "dividing the liver")
        halves = divide_liver(regions, protocol.split, lesions=lesions, liver=liver)
        notes.extend(halves.notes)
    known = regions
    for name, fractions in new.items():
        known = known.with_region(name, fractions)
    outer: Fractions | None = None
    if body in regions:
        outer = regions[body]
    else:
        notes.append(Note("the body is not contoured, so PTVs are not clipped to it", body))
    outside_cc: dict[str, float] = {}
    for number, target in enumerate(wanted):
        progress(0.2 + 0.6 * number / len(wanted), f"building {target.id}")
        ctv = _ctv(known, target, halves, lesions, liver)
        ptv = expand(regions.grid, ctv, *target.ptv_margin_mm.lower_upper_mm())
        clipped = intersect(ptv, outer) if outer is not None else ptv
        outside_cc[target.id] = float((ptv - clipped).sum(dtype=np.float64)) * regions.grid.voxel_cc
        new[target.ctv_id] = ctv
        new[target.id] = clipped
        known = known.with_region(target.id, clipped).with_region(target.ctv_id, ctv)
    junction = _junction(protocol, regions, halves, new)
    for name, fractions in new.items():
        known = known.with_region(name, fractions)
    if liver in regions:
        new[NORMAL_LIVER] = resolve(known, protocol.normal_liver)
        known = known.with_region(NORMAL_LIVER, new[NORMAL_LIVER])
    progress(1.0, "targets built")
    volumes = {name: known.volume_cc(name) for name in new}
    targets = tuple(
        TargetVolume(
            target.id,
            target.ctv_id,
            target.label,
            volumes[target.ctv_id],
            volumes[target.id],
            outside_cc[target.id],
            target.ptv_margin_mm,
        )
        for target in wanted
    )
    return TargetResult(known, targets, halves, junction, lesions, MappingProxyType(volumes), tuple(notes))


def _ctv(known: Regions, target: Target, halves: HalfLivers | None, lesions: tuple[str, ...], liver: str) -> Fractions:
    if target.breathing == "itv":
        base = _internal(known, target, lesions, liver)
    elif target.recipe == "right_half_liver" and halves is not None:
        base = halves.right
    elif target.recipe == "left_half_liver" and halves is not None:
        base = halves.left
    elif target.recipe == "whole_liver":
        base = known[liver]
    elif target.recipe == "structure":
        base = resolve(known, target.structure)
    else:
        if not lesions:
            raise _no_lesion(target)
        base = known[max(lesions, key=known.volume_cc)] if target.recipe == "largest_gtv" else known[ALL_LESIONS]
    if not base.any():
        raise StructureError("the target is empty", where=target.id, remedy="check the contours that it is made of")
    ctv = expand(known.grid, base, *target.ctv_margin_mm.lower_upper_mm())
    if target.clip_ctv_to:
        limit = resolve(known, target.clip_ctv_to)
        if target.breathing == "itv":
            # What the lesion or the liver reaches in any phase is never cut off.
            limit = union(limit, base, *([known[LIVER_ITV]] if LIVER_ITV in known else []))
        ctv = intersect(ctv, limit)
        if not ctv.any():
            raise StructureError(
                f"nothing of the target lies inside {target.clip_ctv_to}", where=target.id, remedy="check both contours"
            )
    return ctv


def _internal(known: Regions, target: Target, lesions: tuple[str, ...], liver: str) -> Fractions:
    """Return the union of the phases of what a target is made of; of the planning phase where there are no others."""
    if target.recipe == "whole_liver":
        return known[LIVER_ITV] if LIVER_ITV in known else known[liver]
    if not lesions:
        raise _no_lesion(target)
    chosen = (max(lesions, key=known.volume_cc),) if target.recipe == "largest_gtv" else lesions
    return union(*(known[itv_name(name)] if itv_name(name) in known else known[name] for name in chosen))


def _no_lesion(target: Target) -> StructureError:
    return StructureError(
        "the protocol treats lesions, but none is contoured",
        where=target.id,
        remedy="contour them as GTV_1, GTV_2 ... or name them in an alias file",
    )


def _junction(
    protocol: Protocol, regions: Regions, halves: HalfLivers | None, new: dict[str, Fractions]
) -> Junction | None:
    """Let the PTVs of both halves meet, and put them into the new regions."""
    right = next((target.id for target in protocol.targets if target.recipe == "right_half_liver"), "")
    left = next((target.id for target in protocol.targets if target.recipe == "left_half_liver"), "")
    if halves is None or right not in new or left not in new or protocol.split is None:
        return None
    junction = meet(regions.grid, new[right], new[left], halves.plane, protocol.split)
    new[right], new[left] = junction.right, junction.left
    new[OVERLAP] = junction.overlap
    return junction
