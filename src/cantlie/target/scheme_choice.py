"""Which of a protocol's schemes a patient gets: by distance to luminal organs, or the highest within the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import ProtocolError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.patient.regions import Regions, union
from cantlie.protocol.schema import Protocol
from cantlie.target.recipes import matching

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SchemeChoice:
    """The chosen scheme and why.

    Attributes
    ----------
    scheme
        Name of the scheme; `Protocol.with_scheme` takes it.
    reason
        In one sentence, with the numbers.
    distances_mm
        With the rule ``distance``: organ to its distance from the lesions.
    rejected
        With the rule ``highest_within_limits``: the higher schemes in order, each with the reason why it was refused.
    """

    scheme: str
    reason: str
    distances_mm: tuple[tuple[str, float], ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    notes: tuple[Note, ...] = ()


def choose_scheme(
    protocol: Protocol, regions: Regions, *, refusal: Callable[[str], str] | None = None
) -> SchemeChoice | None:
    """Choose a prescription scheme by the protocol's own rule; None where there is nothing to choose.

    Parameters
    ----------
    protocol
        A protocol with schemes.
    regions
        The patient's masks: lesions and luminal organs.
    refusal
        For the rule ``highest_within_limits``: says why a scheme cannot be given to this patient; empty where it can.
        Without it the default scheme is taken.
    """
    choice = protocol.choice
    if choice is None:
        return None
    if choice.rule == "distance":
        return _by_distance(protocol, regions)
    if choice.rule == "highest_within_limits" and refusal is not None:
        return _highest(protocol, refusal)
    why = "printed for several sites" if choice.rule == "given" else "the limits were not examined"
    return SchemeChoice(choice.default, f"{choice.default} is the protocol's default ({why})")


def shortest_distance_mm(grid: Grid, first: Fractions, second: Fractions) -> float:
    """Return the shortest distance between two regions in mm, 0 where they touch; infinite if one is empty.

    Measured between the centres of voxels that are at least half filled, less half a voxel on each side.
    """
    a, b = first >= 0.5, second >= 0.5
    if not a.any() or not b.any():
        return float("inf")
    if (a & b).any():
        return 0.0
    indices = [np.nonzero(a | b)[axis] for axis in range(3)]
    box = tuple(slice(int(n.min()), int(n.max()) + 1) for n in indices)
    spacing = grid.spacing_mm[::-1]
    distance, nearest = ndimage.distance_transform_edt(~a[box], sampling=spacing, return_indices=True)
    at = np.unravel_index(int(np.argmin(np.where(b[box], distance, np.inf))), distance.shape)
    step = np.array([(at[axis] - nearest[(axis, *at)]) * spacing[axis] for axis in range(3)])
    length = float(np.linalg.norm(step))
    # the part of the connecting line that lies within the two outermost voxels
    within = min(spacing[axis] / max(abs(step[axis]) / length, 1e-9) for axis in range(3))
    return float(max(0.0, length - within))


def _by_distance(protocol: Protocol, regions: Regions) -> SchemeChoice:
    choice = protocol.choice
    assert choice is not None and choice.distance_mm is not None
    names = [name for pattern in ("ITV*", protocol.gtv) for name in matching(regions, pattern)]
    names = [name for name in names if not name.endswith("_all")]
    if not names:
        raise ProtocolError(
            "the prescription depends on the lesions' distance to luminal organs, but no lesion is contoured",
            where=protocol.id,
            remedy="contour the lesions or choose a scheme with --scheme",
        )
    lesions = union(*(regions[name] for name in names))
    present = [name for name in choice.structures if name in regions and regions[name].any()]
    missing = [name for name in choice.structures if name not in present]
    distances = tuple((name, shortest_distance_mm(regions.grid, lesions, regions[name])) for name in present)
    notes = []
    if missing:
        notes.append(Note(f"not contoured and so not examined: {', '.join(missing)}", "prescription"))
    if not present:
        reason = f"{choice.near}, the lower one, because no luminal organ is contoured"
        return SchemeChoice(choice.near, reason, (), (), tuple(notes))
    organ, distance = min(distances, key=lambda pair: pair[1])
    near = distance < choice.distance_mm
    scheme = choice.near if near else choice.default
    reason = (
        f"{scheme}: the nearest luminal organ, {organ}, is {distance:.0f} mm from the lesions, "
        f"{'closer than' if near else 'not closer than'} {choice.distance_mm:g} mm"
    )
    return SchemeChoice(scheme, reason, distances, (), tuple(notes))


def _highest(protocol: Protocol, refusal: Callable[[str], str]) -> SchemeChoice:
    choice = protocol.choice
    assert choice is not None
    rejected: list[tuple[str, str]] = []
    for scheme in choice.order:
        why = refusal(scheme)
        if not why:
            names = [name for name, _ in rejected]
            reason = f"{scheme} is the highest scheme that meets all limits"
            if names:
                reason += f" ({', '.join(names)} {'do' if len(names) > 1 else 'does'} not)"
            return SchemeChoice(scheme, reason, (), tuple(rejected))
        rejected.append((scheme, why))
    lowest = choice.order[-1]
    note = Note("no scheme of the protocol meets all limits; the lowest one is planned", "prescription")
    return SchemeChoice(lowest, f"{lowest} is the lowest scheme; none meets all limits", (), tuple(rejected), (note,))
