"""From segments to a treatment plan, its collapsed-cone dose, and the verdict on every rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.directions import SPAN_DEG
from cantlie.dose.field import Field
from cantlie.evaluation.dvh import Dvh, dvh
from cantlie.evaluation.metrics import metric_value
from cantlie.machine.aperture import Aperture, FluenceMap
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import pixel_centres, summed_fluence
from cantlie.machine.machine import Machine
from cantlie.plan.fields import FieldSet
from cantlie.plan.goals import Rule
from cantlie.plan.pieces import by_direction, pieces
from cantlie.plan.problem import COURSE
from cantlie.plan.request import GoalOutcome, PlanTarget
from cantlie.plan.segments import Segments, aperture_of
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan

ARC_STEP_DEG = 2.0
MOST_ARC_STEP_DEG = 12.0
PIXEL_MM = 2.0
TAIL_MM = 60.0
"""How far beyond the jaws the fluence of extra-focal radiation is followed."""


def treatment_plan(
    target: PlanTarget, plan: FieldSet, segments: Sequence[Segments], machine: Machine, label: str
) -> TreatmentPlan:
    """Return the deliverable plan of segments; every aperture is checked against the machine.

    Within a field the segments follow each other in the order of their mean opening, so that the leaves travel little.

    Raises
    ------
    MachineError
        If an aperture breaks a limit of the machine.
    """
    beams: list[TreatmentBeam] = []
    for raster, one in zip(plan.rasters, segments, strict=True):
        if len(one) == 0:
            continue
        number = len(beams) + 1
        points: list[ControlPoint] = []
        cumulative = 0.0
        middle = [float((one.lower_mm[n] + one.upper_mm[n])[one.is_open[n]].mean()) for n in range(len(one))]
        for n in np.argsort(middle):
            aperture = aperture_of(one, int(n), raster, machine)
            machine.check(aperture, where=f"{target.name}, beam {number}, segment {len(points) // 2 + 1}")
            points.append(ControlPoint(raster.geometry, aperture, cumulative))
            cumulative = round(cumulative + float(one.mu[n]), 6)
            points.append(ControlPoint(raster.geometry, aperture, cumulative))
        name = f"G{raster.geometry.gantry_deg:03.0f}"
        if raster.geometry.couch_deg:
            name += f" T{raster.geometry.couch_deg:03.0f}"
        beams.append(TreatmentBeam(number, name, tuple(points)))
    return TreatmentPlan(
        label, machine.id, tuple(beams), target.fractions, target.prescription_gy, target_name=target.name
    )


def beam_fluence(beam: TreatmentBeam, machine: Machine, model: BeamModel) -> FluenceMap:
    """Return the fluence of a beam for one fraction, under the leaves of whatever direction it comes from."""
    parts = pieces(beam, gantry_step_deg=360.0)
    return _fluence([part.aperture for part in parts], [part.mu for part in parts], machine, model)


def _fluence(apertures: Sequence[Aperture], units: Sequence[float], machine: Machine, model: BeamModel) -> FluenceMap:
    low_x = min(a.jaw_x_mm[0] for a in apertures) - TAIL_MM
    high_x = max(a.jaw_x_mm[1] for a in apertures) + TAIL_MM
    low_y = min(a.jaw_y_mm[0] for a in apertures) - TAIL_MM
    high_y = max(a.jaw_y_mm[1] for a in apertures) + TAIL_MM
    return summed_fluence(
        apertures, units, machine.mlc, model, pixel_centres(low_x, high_x, PIXEL_MM),
        pixel_centres(low_y, high_y, PIXEL_MM), machine.sad_mm,
    )  # fmt: skip


def beam_fields(
    beam: TreatmentBeam,
    machine: Machine,
    model: BeamModel,
    arc_step_deg: float = ARC_STEP_DEG,
    *,
    first_share: float = 1.0,
) -> list[Field]:
    """Return what a beam delivers in one fraction: a static beam as one field, an arc as one for each direction.

    Parameters
    ----------
    arc_step_deg
        Parts of an arc up to this wide count as delivered from the direction in their middle.
    first_share
        Width of the first part as a share of the others'.
    """
    if not beam.dynamic:
        return [Field(beam.control_points[0].geometry, beam_fluence(beam, machine, model))]
    fields = []
    for geometry, parts in by_direction(beam, arc_step_deg, first_share):
        fields.append(
            Field(geometry, _fluence([part.aperture for part in parts], [part.mu for part in parts], machine, model))
        )
    return fields


def plan_dose(
    plan: TreatmentPlan,
    density: Volume,
    machine: Machine,
    model: BeamModel,
    grid: Grid,
    progress: Progress = silent,
    arc_step_deg: float = ARC_STEP_DEG,
    span_deg: float = SPAN_DEG,
) -> Volume:
    """Return the collapsed-cone dose in Gy of a plan, all its fractions.

    Parameters
    ----------
    arc_step_deg
        Parts of an arc up to this wide count as delivered from the direction in their middle (see `beam_fields`).
    span_deg
        Directions of arcs this near share the superposition (see `collapsed_cone_dose`).
    """
    beams = [beam for beam in plan.beams if beam.mu > 0]
    arcs = [beam for beam in beams if beam.dynamic]
    # several arcs sample the circle together: wider parts of each, those of one between those of the other
    wide_deg = min(arc_step_deg * max(len(arcs), 1), max(MOST_ARC_STEP_DEG, arc_step_deg))
    shares = {beam.number: n / len(arcs) for n, beam in enumerate(arcs)}
    fields = [
        field
        for beam in beams
        for field in beam_fields(beam, machine, model, wide_deg, first_share=1.0 - shares.get(beam.number, 0.0))
    ]
    per_fraction = collapsed_cone_dose(
        density, fields, model, grid=grid, progress=progress, span_deg=span_deg if arcs else SPAN_DEG
    )
    return Volume(grid, np.asarray(per_fraction.values, dtype=np.float32) * np.float32(plan.fractions))


def judge_rules(
    rules: Sequence[Rule],
    masks: Mapping[str, NDArray[np.float32]],
    grid: Grid,
    doses: Mapping[str, Volume],
    promised: Mapping[int, float],
) -> tuple[GoalOutcome, ...]:
    """Return what became of every rule in the delivered dose.

    Parameters
    ----------
    rules
        The rules.
    masks, grid
        Partial-volume masks by structure, and the CT grid that they lie on.
    doses
        Dose of each plan by its target, and of the course.
    promised
        Position of a rule to the metric in the optimiser's dose, where it has one.
    """
    known: dict[tuple[str, str], Dvh] = {}
    outcomes = []
    for position, rule in enumerate(rules):
        key = (rule.structure, rule.scope)
        if key not in known:
            known[key] = dvh(doses[rule.scope], masks[rule.structure], grid, name=rule.structure)
        delivered = metric_value(rule.metric, known[key], rule.prescription_gy)
        outcomes.append(
            GoalOutcome(
                rule.structure, str(rule.metric), rule.op, rule.limit, rule.unit, rule.scope,
                promised.get(position, float("nan")), delivered, rule.met(delivered),
            )
        )  # fmt: skip
    return tuple(outcomes)


def doses_by_scope(names: Sequence[str], doses: Sequence[Volume], given: Volume | None = None) -> dict[str, Volume]:
    """Return the doses under the names of their scopes; the course is their sum and what was given before."""
    total: NDArray[np.float32] = np.zeros(doses[0].grid.shape, dtype=np.float32)
    if given is not None:
        total += given.resample(doses[0].grid).values
    for dose in doses:
        total += dose.values
    return {**dict(zip(names, doses, strict=True)), COURSE: Volume(doses[0].grid, total)}
