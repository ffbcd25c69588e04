"""Breathing motion: the internal target volume of the phases of a 4D-CT, its amplitude, and the phase to plan on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import StructureError
from cantlie.patient.regions import Regions, union
from cantlie.target.landmarks import Cloud

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class InternalTarget:
    """A target in all phases of breathing.

    Attributes
    ----------
    itv
        Union of the phases.
    amplitude_mm
        Peak-to-peak motion of its centre along x, y, z.
    exhale
        The phase with the centre nearest to the head (the liver moves up when the patient breathes out).
    mid_position
        The phase whose centre is nearest to the mean of all.
    centres_mm
        Centre of every phase, shape (n, 3).
    """

    itv: Fractions
    amplitude_mm: tuple[float, float, float]
    exhale: str
    mid_position: str
    centres_mm: NDArray[np.float64]


def internal_target(regions: Regions, phases: Sequence[str]) -> InternalTarget:
    """Return the internal target volume of a lesion contoured on several phases.

    Parameters
    ----------
    regions
        Masks that hold the lesion of each phase, on one grid.
    phases
        Their names, in the order of the phases, evenly spaced in time.

    Raises
    ------
    StructureError
        If a phase is missing or empty, or there is none.
    """
    if not phases:
        raise StructureError("an internal target needs at least one phase", where="ITV")
    masks = [regions[name] for name in phases]
    for name, mask in zip(phases, masks, strict=True):
        if not mask.any():
            raise StructureError("the target is empty in one phase", where=name, remedy="contour it on every phase")
    centres = np.array([Cloud.of(regions.grid, mask).centre_mm for mask in masks])
    x, y, z = (float(v) for v in np.ptp(centres, axis=0))
    away = np.linalg.norm(centres - centres.mean(axis=0), axis=1)
    return InternalTarget(
        union(*masks), (x, y, z), phases[int(np.argmax(centres[:, 2]))], phases[int(np.argmin(away))], centres
    )
