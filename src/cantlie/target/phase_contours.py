"""Contours of one lesion on several phases of breathing: which names belong together, and their internal targets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.patient.regions import Regions, union
from cantlie.target.motion import InternalTarget, internal_target

Fractions = NDArray[np.float32]
LIVER = "Liver"
LIVER_ITV = "Liver_ITV"
_PHASE_NAME = re.compile(
    r"^(?P<base>(?:GTV|Liver)\w*?)[\s_-]*(?:T|TP|PH|phase)?[\s_-]*(?P<percent>100|\d0|0)\s*%?$", re.I
)


@dataclass(frozen=True, slots=True, eq=False)
class MovingStructure:
    """A structure contoured on several phases.

    Parameters
    ----------
    name, itv
        The structure on the planning phase, and the name of its union over the phases.
    phases
        The phases it is contoured on, in order.
    planned_cc, itv_cc
        Volume on the planning phase and of the union.
    motion
        The union, its amplitude, and the phases at exhale and at mid-position.
    """

    name: str
    itv: str
    phases: tuple[str, ...]
    planned_cc: float
    itv_cc: float
    motion: InternalTarget


def itv_name(structure: str) -> str:
    """Return the name of the internal target of a structure: ITV_1 of GTV_1, Liver_ITV of Liver."""
    return "ITV" + structure[3:] if structure.upper().startswith("GTV") else f"{structure}_ITV"


def named_phases(names: Sequence[str]) -> dict[str, dict[float, str]]:
    """Return which structures of one set are one structure on several phases: base name to percent to name.

    ``GTV_0`` ... ``GTV_90``, ``GTV_T50``, ``GTV 50%`` belong together when there are at least two, all in steps of
    10 %, and one is 0 or 50 %. Lesions that are numbered (GTV_1, GTV_2 ... GTV_10) do not.
    """
    groups: dict[str, dict[float, str]] = {}
    numbered: set[str] = set()
    for name in names:
        found = _PHASE_NAME.match(name)
        if found:
            groups.setdefault(found["base"].rstrip("_- "), {})[float(found["percent"]) % 100] = name
        else:
            plain = re.match(r"^(.*?)[\s_-]*\d+$", name)
            if plain:
                numbered.add(plain[1].rstrip("_- "))
    return {
        base: dict(sorted(members.items()))
        for base, members in groups.items()
        if len(members) >= 2 and base not in numbered and members.keys() & {0.0, 50.0}
    }


def moving_structures(
    planned: Regions, by_phase: Mapping[str, Mapping[str, Fractions]], planning_phase: str
) -> tuple[MovingStructure, ...]:
    """Return the internal targets of all lesions, and of the liver, that are contoured on two phases or more.

    Parameters
    ----------
    planned
        Masks on the planning phase.
    by_phase
        Phase to masks of its structures on the grid of ``planned``, in the order of the breathing cycle; without the
        planning phase where ``planned`` has that.
    planning_phase
        Its name.
    """
    names = dict.fromkeys([*planned.fractions, *(name for masks in by_phase.values() for name in masks)])
    result = []
    for name in names:
        if name != LIVER and not name.upper().startswith("GTV"):
            continue
        masks: dict[str, Fractions] = {}
        for phase, drawn in by_phase.items():
            if name in drawn and drawn[name].any():
                masks[phase] = drawn[name]
        if name in planned and planned[name].any():
            masks[planning_phase] = planned[name]
        if len(masks) < 2:
            continue
        regions = Regions(planned.grid, masks)
        motion = internal_target(regions, tuple(masks))
        planned_cc = planned.volume_cc(name) if name in planned else 0.0
        itv_cc = float(motion.itv.sum(dtype=np.float64)) * planned.grid.voxel_cc
        result.append(MovingStructure(name, itv_name(name), tuple(masks), planned_cc, itv_cc, motion))
    return tuple(result)


def with_internal_targets(regions: Regions, moving: Sequence[MovingStructure]) -> Regions:
    """Return the regions with an ITV for each moving structure; one that is contoured itself is joined with it."""
    for one in moving:
        itv = union(one.motion.itv, regions[one.itv]) if one.itv in regions.fractions else one.motion.itv
        regions = regions.with_region(one.itv, itv)
    return regions
