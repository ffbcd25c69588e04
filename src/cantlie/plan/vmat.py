"""VMAT: arcs whose leaves, gantry speed and dose rate change while the beam is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.notes import Note
from cantlie.core.progress import Progress
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.arc_path import ArcPath, arc_paths
from cantlie.plan.arc_refinement import PlanArcs, arc_doses, refine_arcs
from cantlie.plan.arc_sequencing import sequence_arc
from cantlie.plan.arcs import Arc, aperture_at, mu_bounds, on_common_leaves
from cantlie.plan.beams import isocentre_mm
from cantlie.plan.directions import target_rasters
from cantlie.plan.fields import FieldSet
from cantlie.plan.fluence import Openings
from cantlie.plan.normalise import rounded_mu
from cantlie.plan.raster import Raster
from cantlie.plan.request import PlanTarget
from cantlie.plan.technique import Site, Task
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan

INTERVAL_MU_STEP = 0.01
"""Monitor units of an interval are part of a continuous delivery: only a whole beam is set in steps of the machine."""
STEPS_OF_ARCS, AT_REST_WITHIN = 3, 1e-2
"""Most steps of arcs, as a multiple of those of static segments, and the share that ten steps must lower the objectives
by to go on: arcs to half a liver start far from their fluence, those to a small target are at rest after 100 steps."""


@dataclass(slots=True)
class Vmat:
    """Volumetric modulated arcs (see `Technique`)."""

    modulates: ClassVar[bool] = True
    sharp: ClassVar[bool] = False

    paths: dict[str, tuple[ArcPath, ...]] = field(default_factory=dict)

    def directions(self, site: Site) -> list[BeamGeometry]:
        """Return the middles of the sectors of all arcs."""
        machine = site.request.machine
        if not machine.arcs:
            raise PlanningError(
                f"{machine.id} cannot turn its gantry while the beam is on",
                where="machine",
                remedy="choose a machine with arcs, or another --delivery",
            )
        paths = arc_paths(site, isocentre_mm(site.points_mm))
        self.paths[site.target.name] = paths
        return [geometry for path in paths for geometry in path.sectors()]

    def rasters(self, site: Site, geometries: Sequence[BeamGeometry], width_mm: float) -> tuple[Raster, ...]:
        """Return the beamlets of each direction, those of one arc on common leaves."""
        result: list[Raster] = []
        for path in self.paths[site.target.name]:
            own = geometries[len(result) : len(result) + path.fields]
            result += on_common_leaves(target_rasters(site, own, width_mm))
        return tuple(result)

    def first(self, task: Task, openings: Openings, progress: Progress) -> PlanArcs:
        """Return arcs sequenced from the fluence."""
        result: PlanArcs = []
        for number, (plan, fields, target) in enumerate(zip(task.plans, openings, task.request.targets, strict=True)):
            progress(number / len(task.plans), f"arcs of {target.name}")
            arcs: list[Arc] = []
            start = 0
            for path in self.paths[target.name]:
                own = slice(start, start + path.fields)
                control_points = path.control_points()
                arcs.append(sequence_arc(fields[own], plan.rasters[own], control_points, path.per_field, task.machine))
                start += path.fields
            result.append(arcs)
        return result

    def refined(self, task: Task, shapes: PlanArcs, progress: Progress) -> PlanArcs:
        """Return arcs refined by the gradient of the objectives."""
        iterations = STEPS_OF_ARCS * task.request.settings.aperture_iterations
        return refine_arcs(task, shapes, iterations=iterations, rounds=3, tolerance=AT_REST_WITHIN, progress=progress)

    def corrected(self, task: Task, shapes: PlanArcs, progress: Progress) -> PlanArcs:
        """Return arcs that follow what the final dose taught."""
        iterations = max(task.request.settings.aperture_iterations // 3, 10)
        return refine_arcs(task, shapes, iterations=iterations, harden=False, stage="feedback", progress=progress)

    def settable(self, shapes: PlanArcs, machine: Machine, factors: Sequence[float] | None = None) -> PlanArcs:
        """Return arcs whose monitor units keep the machine's limits for each degree and its steps for each arc."""
        factors = factors or [1.0] * len(shapes)
        return [[_settable(arc, machine, factor) for arc in own] for own, factor in zip(shapes, factors, strict=True)]

    def doses_gy(self, task: Task, shapes: PlanArcs) -> list[NDArray[np.float64]]:
        """Return the optimiser's dose of each plan's arcs."""
        return arc_doses(task, shapes)

    def plan(
        self, target: PlanTarget, fields: FieldSet, shapes: list[Arc], machine: Machine, label: str
    ) -> TreatmentPlan:
        """Return the plan of the arcs; every control point is checked against the machine."""
        beams = tuple(arc_beam(arc, number, machine, target.name) for number, arc in enumerate(shapes, start=1))
        return TreatmentPlan(
            label, machine.id, beams, target.fractions, target.prescription_gy, target_name=target.name
        )

    def remarks(self) -> tuple[Note, ...]:
        """Return nothing: directions say for themselves what was chosen."""
        return ()


def arc_beam(arc: Arc, number: int, machine: Machine, where: str = "") -> TreatmentBeam:
    """Return the dynamic beam of an arc.

    Raises
    ------
    MachineError
        If an aperture breaks a limit of the machine.
    """
    cumulative = np.round(np.concatenate([[0.0], np.cumsum(arc.mu)]), 6)
    points = []
    for n, geometry in enumerate(arc.geometries):
        aperture = aperture_at(arc, n, machine)
        machine.check(aperture, where=f"{where}, arc {number}, control point {n}")
        points.append(ControlPoint(geometry, aperture, float(cumulative[n])))
    first, last = arc.geometries[0], arc.geometries[-1]
    turn = "CW" if last.gantry_deg > first.gantry_deg else "CC"
    name = f"A{first.gantry_deg % 360:03.0f}-{last.gantry_deg % 360:03.0f}{turn}"
    if first.couch_deg:
        name += f" T{first.couch_deg:03.0f}"
    return TreatmentBeam(number, name, tuple(points), dynamic=True)


def _settable(arc: Arc, machine: Machine, factor: float) -> Arc:
    least, most = mu_bounds(arc, machine)
    step = INTERVAL_MU_STEP
    least, most = np.ceil(least / step - 1e-9) * step, np.floor(most / step + 1e-9) * step
    mu = np.clip(rounded_mu(np.clip(factor * arc.mu, least, most), step, 0.0), least, most)
    # the whole arc in steps of the machine: what is missing goes where there is most room
    total = float(mu.sum())
    steps = np.floor if total + 0.5 * machine.mu_resolution > float(most.sum()) else np.ceil
    missing = float(steps(total / machine.mu_resolution - 1e-9) * machine.mu_resolution) - total
    room = most - mu if missing > 0 else mu - least
    for n in np.argsort(-room):
        moved = float(np.clip(missing, -room[n], room[n]))
        mu[n] += moved
        missing -= moved
        if abs(missing) < 1e-9:
            break
    return replace(arc, mu=np.round(mu, 6))
