"""3-D conformal fields: one aperture for each direction, the target's shadow with a margin, and its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.apertures import FieldSegments, doses_of, with_settable_mu
from cantlie.plan.beam_view import Margin, best_collimator_deg, fitted
from cantlie.plan.delivery import treatment_plan
from cantlie.plan.directions import static_directions
from cantlie.plan.field_weights import weighted
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence import Openings
from cantlie.plan.raster import Raster, raster_of
from cantlie.plan.request import PlanTarget
from cantlie.plan.segments import Segments
from cantlie.plan.technique import Site, Task
from cantlie.plan.treatment import TreatmentPlan

Array = NDArray[np.float64]

FIRST_MARGIN_MM: Margin = (7.0, 7.0)
MARGINS_MM = (3.0, 5.0, 7.0, 9.0, 11.0, 13.0)
"""Margins from the target's edge to the field's edge that are tried, for the penumbra, in each of two directions."""
RASTER_MARGIN_MM = 16.0
_WEIGHT_STEPS = 24


@dataclass(slots=True)
class Conformal:
    """Conformal fields (see `Technique`).

    The collimator is turned where the protocol leaves it at 0, so that leaves follow the shadow best. The margins
    across and along the patient are those with which weighted fields serve the protocol's rules best.
    """

    modulates: ClassVar[bool] = False
    sharp: ClassVar[bool] = False
    points: dict[str, Array] = field(default_factory=dict)
    margins: dict[str, Margin] = field(default_factory=dict)

    def directions(self, site: Site) -> list[BeamGeometry]:
        """Return the protocol's directions, or those that spare most, with the collimator turned to the target."""
        self.points[site.target.name] = site.points_mm
        geometries = static_directions(site)
        if site.target.collimator_deg is not None or site.request.protocol.technique.collimator_deg:
            return geometries
        machine = site.request.machine
        return [replace(g, collimator_deg=best_collimator_deg(g, machine, site.points_mm)) for g in geometries]

    def rasters(self, site: Site, geometries: Sequence[BeamGeometry], width_mm: float) -> tuple[Raster, ...]:
        """Return beamlets wide enough for the largest margin."""
        return tuple(
            raster_of(geometry, site.request.machine, site.points_mm, width_mm, RASTER_MARGIN_MM)[0]
            for geometry in geometries
        )

    def first(self, task: Task, openings: Openings, progress: Progress) -> FieldSegments:
        """Return apertures of a usual margin with equal weights that give each target its dose."""
        for target in task.request.targets:
            self.margins.setdefault(target.name, FIRST_MARGIN_MM)
        shapes = [self._apertures(task, number) for number in range(len(task.plans))]
        return weighted(task, _scaled_to_prescription(task, shapes), 2 * _WEIGHT_STEPS, harden=True)

    def refined(self, task: Task, shapes: FieldSegments, progress: Progress) -> FieldSegments:
        """Return apertures with the best margins and weights."""
        shapes = self._with_best_margins(task, shapes, part(progress, 0.0, 0.7))
        return weighted(task, shapes, task.request.settings.aperture_iterations, harden=True, rounds=3)

    def corrected(self, task: Task, shapes: FieldSegments, progress: Progress) -> FieldSegments:
        """Return weights that follow what the final dose taught."""
        return weighted(task, shapes, max(task.request.settings.aperture_iterations // 3, 10))

    def settable(
        self, shapes: FieldSegments, machine: Machine, factors: Sequence[float] | None = None
    ) -> FieldSegments:
        """Return fields whose monitor units are whole steps of the machine."""
        return with_settable_mu(shapes, machine, factors)

    def doses_gy(self, task: Task, shapes: FieldSegments) -> list[Array]:
        """Return the optimiser's dose of each plan's fields."""
        return doses_of(task.plans, shapes, task.machine)

    def plan(
        self, target: PlanTarget, fields: FieldSet, shapes: list[Segments], machine: Machine, label: str
    ) -> TreatmentPlan:
        """Return the plan of the fields."""
        return treatment_plan(target, fields, shapes, machine, label)

    def remarks(self) -> tuple[Note, ...]:
        """Return the margins that were chosen."""
        return tuple(
            Note(
                f"conformal fields reach {across:g} mm beyond the target across the patient and {along:g} mm along it, "
                "for the penumbra; both were chosen by the protocol's rules",
                name,
                "info",
            )
            for name, (across, along) in self.margins.items()
        )

    def _apertures(self, task: Task, number: int) -> list[Segments]:
        name = task.request.targets[number].name
        return [
            fitted(raster, task.machine, self.points[name], self.margins[name]) for raster in task.plans[number].rasters
        ]

    def _with_best_margins(self, task: Task, shapes: FieldSegments, progress: Progress) -> FieldSegments:
        """Try the margins along, then across the patient, for each plan in turn, with weights fitted to each."""
        best = list(shapes)
        best_value = value_of(task, best)
        count = len(task.plans)
        for number, target in enumerate(task.request.targets):
            for axis in (1, 0):
                progress((2 * number + 1 - axis) / (2 * count), f"margins of {target.name}")
                start = self.margins[target.name]
                for margin in MARGINS_MM:
                    tried = (margin, start[1]) if axis == 0 else (start[0], margin)
                    if tried == start:
                        continue
                    kept = self.margins[target.name]
                    self.margins[target.name] = tried
                    own = [
                        one.with_mu(old.mu[:1].copy())
                        for one, old in zip(self._apertures(task, number), best[number], strict=True)
                    ]
                    trial = weighted(task, [*best[:number], own, *best[number + 1 :]], _WEIGHT_STEPS)
                    value = value_of(task, trial)
                    if value < best_value:
                        best, best_value = trial, value
                    else:
                        self.margins[target.name] = kept
        return best


def value_of(task: Task, shapes: FieldSegments) -> float:
    """Return the objective of shapes."""
    return float(task.problem.evaluate(doses_of(task.plans, shapes, task.machine))[0])


def _scaled_to_prescription(task: Task, shapes: FieldSegments) -> FieldSegments:
    """Return the shapes with equal weights that bring each target's mean dose to its prescription."""
    scaled: FieldSegments = []
    doses = doses_of(task.plans, shapes, task.machine)
    for target, fields, dose in zip(task.request.targets, shapes, doses, strict=True):
        volumes = task.voxels.volumes_cc[target.name]
        mean = float(dose @ volumes / volumes.sum())
        factor = target.prescription_gy / max(mean, 1e-9)
        scaled.append([one.with_mu(np.maximum(factor * one.mu, task.machine.min_segment_mu)) for one in fields])
    return scaled
