"""Step-and-shoot: static fields of a few segments each, sequenced from the fluence and refined by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.progress import Progress
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.apertures import FieldSegments, doses_of, refine, with_settable_mu
from cantlie.plan.delivery import treatment_plan
from cantlie.plan.directions import static_directions, target_rasters
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence import Openings
from cantlie.plan.raster import Raster
from cantlie.plan.request import PlanTarget
from cantlie.plan.segments import Segments
from cantlie.plan.sequencing import sequence
from cantlie.plan.technique import Site, Task
from cantlie.plan.treatment import TreatmentPlan


@dataclass(frozen=True, slots=True)
class StepAndShoot:
    """Segments of static fields (see `Technique`)."""

    modulates: ClassVar[bool] = True
    sharp: ClassVar[bool] = True

    def directions(self, site: Site) -> list[BeamGeometry]:
        """Return the protocol's directions, or those that spare most."""
        return static_directions(site)

    def rasters(self, site: Site, geometries: Sequence[BeamGeometry], width_mm: float) -> tuple[Raster, ...]:
        """Return the beamlets around the target's shadow in each direction."""
        return target_rasters(site, geometries, width_mm)

    def first(self, task: Task, openings: Openings, progress: Progress) -> FieldSegments:
        """Return leaf sequences of the fluence."""
        most = task.request.settings.max_segments
        result: FieldSegments = []
        for number, (plan, fields) in enumerate(zip(task.plans, openings, strict=True)):
            progress(number / len(task.plans), f"leaf sequences of {task.request.targets[number].name}")
            result.append(
                [
                    sequence(opening, raster, task.machine, max_segments=most)
                    for opening, raster in zip(fields, plan.rasters, strict=True)
                ]
            )
        return result

    def refined(self, task: Task, shapes: FieldSegments, progress: Progress) -> FieldSegments:
        """Return segments refined by the gradient of the objectives."""
        return refine(
            task.plans, shapes, task.problem, task.goals, task.voxels, task.machine,
            iterations=task.request.settings.aperture_iterations, rounds=4, log=task.log, progress=progress,
        )  # fmt: skip

    def corrected(self, task: Task, shapes: FieldSegments, progress: Progress) -> FieldSegments:
        """Return segments that follow what the final dose taught."""
        return refine(
            task.plans, shapes, task.problem, task.goals, task.voxels, task.machine,
            iterations=max(task.request.settings.aperture_iterations // 3, 10), rounds=1, stage="feedback",
            log=task.log, prune=False, harden=False, progress=progress,
        )  # fmt: skip

    def settable(
        self, shapes: FieldSegments, machine: Machine, factors: Sequence[float] | None = None
    ) -> FieldSegments:
        """Return segments whose monitor units are whole steps of the machine."""
        return with_settable_mu(shapes, machine, factors)

    def doses_gy(self, task: Task, shapes: FieldSegments) -> list[NDArray[np.float64]]:
        """Return the optimiser's dose of each plan's segments."""
        return doses_of(task.plans, shapes, task.machine)

    def plan(
        self, target: PlanTarget, fields: FieldSet, shapes: list[Segments], machine: Machine, label: str
    ) -> TreatmentPlan:
        """Return the plan of the segments."""
        return treatment_plan(target, fields, shapes, machine, label)

    def remarks(self) -> tuple[Note, ...]:
        """Return nothing: directions say for themselves what was chosen."""
        return ()
