"""What a delivery technique decides: directions, first shapes, their refinement, and the beams that deliver them.

The planner is the same for all: influence, fluence, first shapes, final dose, refinement, feedback. A technique is an
object with the methods of `Technique`; `plan/techniques.py` knows which name stands for which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence import Log, Openings
from cantlie.plan.goals import Goal
from cantlie.plan.problem import Problem
from cantlie.plan.raster import Raster
from cantlie.plan.request import PlanningRequest, PlanTarget
from cantlie.plan.treatment import TreatmentPlan
from cantlie.plan.voxels import PlanningVoxels

Dose = NDArray[np.float64]
Shapes = list[Any]
"""What a technique makes of each plan's fields: lists of segments, arcs ..., one entry for every plan."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A target as beams are aimed at it.

    Parameters
    ----------
    points_mm
        Points (x, y, z) that fill the target, shape (n, 3).
    masks
        Region of every rule, target and structure to be spared, on the CT grid.
    notes
        Where a technique says what it chose.
    progress
        Told while directions are chosen.
    """

    request: PlanningRequest
    target: PlanTarget
    points_mm: NDArray[np.float64]
    masks: Mapping[str, NDArray[np.float32]]
    notes: list[Note]
    progress: Progress = silent


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What shapes are made and refined for; the problem's offsets and the goals change as the final dose is known."""

    request: PlanningRequest
    plans: Sequence[FieldSet]
    voxels: PlanningVoxels
    problem: Problem
    goals: Sequence[Goal]
    log: Log = field(default_factory=Log)

    @property
    def machine(self) -> Machine:
        """The machine that delivers the shapes."""
        return self.request.machine


class Technique(Protocol):
    """A way of delivering plans.

    ``modulates`` says whether its shapes follow an optimised fluence; otherwise none is optimised. ``sharp`` says
    whether they can follow its details at the edges of targets.
    """

    modulates: ClassVar[bool]
    sharp: ClassVar[bool]

    def directions(self, site: Site) -> list[BeamGeometry]:
        """Return the directions whose influence the optimiser sees."""
        ...

    def rasters(self, site: Site, geometries: Sequence[BeamGeometry], width_mm: float) -> tuple[Raster, ...]:
        """Return the beamlets of each direction."""
        ...

    def first(self, task: Task, openings: Openings, progress: Progress) -> Shapes:
        """Return deliverable shapes that come close to the optimised fluence."""
        ...

    def refined(self, task: Task, shapes: Shapes, progress: Progress) -> Shapes:
        """Return shapes that serve the objectives better."""
        ...

    def corrected(self, task: Task, shapes: Shapes, progress: Progress) -> Shapes:
        """Return shapes that follow what the final dose taught: a short refinement without new shapes."""
        ...

    def settable(self, shapes: Shapes, machine: Machine, factors: Sequence[float] | None = None) -> Shapes:
        """Return shapes with monitor units, times a factor for each plan, that the machine can set."""
        ...

    def doses_gy(self, task: Task, shapes: Shapes) -> list[Dose]:
        """Return the optimiser's dose of each plan's shapes in its voxels."""
        ...

    def plan(self, target: PlanTarget, fields: FieldSet, shapes: Any, machine: Machine, label: str) -> TreatmentPlan:
        """Return the deliverable plan of one plan's shapes; every aperture is checked against the machine."""
        ...

    def remarks(self) -> tuple[Note, ...]:
        """Return what the technique chose while it shaped the plans."""
        ...
