"""Directions of static fields: those of the request or the protocol, or those whose fluence together serves best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.notes import Note
from cantlie.core.progress import part
from cantlie.machine.beam_model_file import load_beam_model
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.beam_choice import BeamChoice, BeamSearch
from cantlie.plan.beams import equispaced_deg, isocentre_mm
from cantlie.plan.candidate_beams import candidate_beams, opening_width_mm
from cantlie.plan.clearance import is_clear, obstacle_mm
from cantlie.plan.goals import goal_of_rule, quality_terms, rules_of_protocol
from cantlie.plan.problem import Problem
from cantlie.plan.raster import Raster, raster_of
from cantlie.plan.technique import Site
from cantlie.plan.voxels import planning_voxels

BODY = "BODY"
BEAM_MARGIN_MM = 7.0
"""How far around the target's shadow beamlets are used: the penumbra needs fluence outside the target."""
CANDIDATE_STEP_DEG = 10.0
COUCH_STEP_DEG = 15.0
COUCH_TURN_COST = 0.03
"""What it costs to turn the couch for every beam, as a share of the objectives: the time it takes."""
CANDIDATE_VOXELS = 16000
LEAST_SHARE, MOST_SHARE = 0.5, 1.6
"""Weights of fields that are not modulated, of an equal share (as in `field_weights`)."""


def target_rasters(site: Site, geometries: Sequence[BeamGeometry], width_mm: float) -> tuple[Raster, ...]:
    """Return the beamlets around the target's shadow in each direction."""
    return tuple(
        raster_of(geometry, site.request.machine, site.points_mm, width_mm, BEAM_MARGIN_MM)[0]
        for geometry in geometries
    )


def static_directions(site: Site) -> list[BeamGeometry]:
    """Return the directions of static fields.

    Gantry and couch angles are the request's where it gives them, else the protocol's, else chosen; the choice is
    noted.
    """
    request, target = site.request, site.target
    technique = request.protocol.technique
    isocentre = isocentre_mm(site.points_mm)
    fields = target.fields or technique.fields
    collimator = technique.collimator_deg if target.collimator_deg is None else target.collimator_deg
    gantry = target.gantry_deg or (technique.gantry_deg if len(technique.gantry_deg) == fields else ())
    couch = target.couch_deg or (technique.couch_deg if len(technique.couch_deg) == len(gantry) else ())

    def geometry(angle: float, couch_deg: float = 0.0) -> BeamGeometry:
        sad = request.machine.sad_mm
        return BeamGeometry(isocentre, angle, collimator, couch_deg, sad, request.patient_position)

    if not gantry and technique.couch_most_deg > 0:
        return _in_space(site, fields, geometry)
    if not gantry:
        gantry = _on_the_circle(site, fields, geometry)
    couches = couch if len(couch) == len(gantry) else (0.0,) * len(gantry)
    directions = [geometry(angle, couch_deg) for angle, couch_deg in zip(gantry, couches, strict=True)]
    _check_couch(site, directions)
    return directions


def signed_deg(angle_deg: float) -> float:
    """Return an angle as -180 to below 180 degrees."""
    return (angle_deg + 180.0) % 360.0 - 180.0


def _check_couch(site: Site, directions: Sequence[BeamGeometry]) -> None:
    """Refuse couch angles that the machine has not; warn of directions in which the head may meet patient or couch."""
    machine = site.request.machine
    if all(g.couch_deg == 0 for g in directions):
        return
    low, high = machine.couch_range_deg
    obstacle = _obstacle(site, directions[0])
    for g in directions:
        if not low - 1e-6 <= signed_deg(g.couch_deg) <= high + 1e-6:
            raise PlanningError(
                f"the couch of {machine.id} turns from {low:g} to {high:g} degrees, not to {signed_deg(g.couch_deg):g}",
                where=site.target.name,
                remedy="choose another couch angle",
            )
        if not is_clear(g, machine, obstacle):
            site.notes.append(
                Note(
                    f"at gantry {g.gantry_deg:g} and couch {g.couch_deg:g} degrees the treatment head may meet the "
                    "patient or the couch (an estimate)",
                    site.target.name,
                )
            )


def _obstacle(site: Site, geometry: BeamGeometry) -> NDArray[np.float64]:
    return obstacle_mm(
        site.request.density.grid, site.masks[BODY], geometry.isocentre_mm, site.request.patient_position
    )


def _on_the_circle(site: Site, fields: int, geometry: Callable[[float, float], BeamGeometry]) -> tuple[float, ...]:
    """Choose gantry angles, the couch straight."""
    candidates = [geometry(float(angle), 0.0) for angle in np.arange(0.0, 360.0, CANDIDATE_STEP_DEG)]
    choice = _chosen(site, fields, candidates, [0.0] * len(candidates))
    gantry = tuple(candidates[n].gantry_deg for n in choice.chosen)
    angles = ", ".join(f"{angle:g}" for angle in gantry)
    site.notes.append(
        Note(
            f"gantry angles {angles} degrees were chosen; the protocol gives none. {_beside_equispaced(choice)}",
            site.target.name,
            "info",
        )
    )
    return gantry


def _in_space(site: Site, fields: int, geometry: Callable[[float, float], BeamGeometry]) -> list[BeamGeometry]:
    """Choose gantry and couch angles together, only where the head is estimated to stay clear."""
    machine = site.request.machine
    most = site.request.protocol.technique.couch_most_deg
    low, high = max(-most, machine.couch_range_deg[0]), min(most, machine.couch_range_deg[1])
    turns = np.arange(0.0, most + 1e-6, COUCH_STEP_DEG)
    couches = sorted({float(c) for t in turns for c in (t, -t) if low - 1e-6 <= c <= high + 1e-6}, key=abs)
    obstacle = _obstacle(site, geometry(0.0, 0.0))
    candidates = []
    for couch in couches:
        for angle in np.arange(0.0, 360.0, CANDIDATE_STEP_DEG if couch == 0 else 2 * CANDIDATE_STEP_DEG):
            one = geometry(float(angle), float(couch % 360.0))
            if couch == 0 or is_clear(one, machine, obstacle):
                candidates.append(one)
    choice = _chosen(site, fields, candidates, [COUCH_TURN_COST * (g.couch_deg != 0) for g in candidates])
    chosen = [candidates[n] for n in choice.chosen]
    directions = sorted(chosen, key=lambda g: (abs(signed_deg(g.couch_deg)), g.gantry_deg))
    angles = ", ".join(f"{g.gantry_deg:g}/{g.couch_deg:g}" for g in directions)
    site.notes.append(
        Note(
            f"gantry/couch angles {angles} degrees were chosen, the couch turned by at most {most:g} degrees and where "
            f"the head is estimated to stay clear of patient and couch. {_beside_equispaced(choice)}",
            site.target.name,
            "info",
        )
    )
    return directions


def _beside_equispaced(choice: BeamChoice) -> str:
    if not choice.of_others:
        return "Equispaced angles were not compared"
    less = 100.0 * (1.0 - choice.value / min(choice.of_others))
    if less < 0.05:
        return "They are the best of the equispaced ones: no others were found to serve the objectives better"
    return f"In an estimate, the objectives are {less:.0f} % lower than with the best equispaced angles"


def _chosen(site: Site, fields: int, candidates: Sequence[BeamGeometry], extra: Sequence[float]) -> BeamChoice:
    """Choose among candidates by the rules and objectives of the plan."""
    request, target = site.request, site.target
    organs = tuple(name for name in site.masks if name not in (target.name, BODY))
    voxels = planning_voxels(
        request.density.grid, site.masks, body=BODY, targets=(target.name,), organs=organs, voxel_mm=None,
        max_voxels=CANDIDATE_VOXELS,
    )  # fmt: skip
    goals = [
        goal_of_rule(rule, voxels, target.prescription_gy, request.settings.constraint_margin)
        for rule in rules_of_protocol(request.protocol, [target])
        if voxels.holds(rule.structure)
    ]
    spared = [name for name in request.protocol.minimise if name in site.masks]
    problem = Problem((target.name,), [*goals, *quality_terms([target], spared, voxels, BODY)])
    in_target = voxels.volumes_cc[target.name]
    whole = request.protocol.technique.delivery in ("static", "field_in_field")
    beams = candidate_beams(
        target_rasters(site, candidates, request.settings.beamlet_mm or request.protocol.technique.beamlet_mm),
        request.density,
        load_beam_model(request.machine.beam_model),
        voxels.grid,
        voxels.index,
        in_target / in_target.sum(),
        opening_mm=opening_width_mm(site.points_mm),
        extra=extra,
        whole=whole,
        progress=part(site.progress, 0.0, 0.4),
    )
    search = BeamSearch(
        beams,
        problem,
        target.prescription_gy,
        CANDIDATE_STEP_DEG,
        (LEAST_SHARE, MOST_SHARE) if whole else (0.0, np.inf),
    )
    return search.choose(fields, _equispaced(candidates, fields), part(site.progress, 0.4, 1.0))


def _equispaced(candidates: Sequence[BeamGeometry], fields: int) -> list[tuple[int, ...]]:
    """Return the candidates nearest to equispaced angles, for every turn of them, the couch straight."""
    straight = [n for n, one in enumerate(candidates) if one.couch_deg == 0]
    angles = np.array([candidates[n].gantry_deg for n in straight])
    sets = []
    for start in np.arange(0.0, 360.0 / fields - 1e-6, CANDIDATE_STEP_DEG):
        apart = np.abs((angles - np.array(equispaced_deg(fields, float(start)))[:, None] + 180.0) % 360.0 - 180.0)
        nearest = {straight[int(n)] for n in apart.argmin(axis=1)}
        if len(nearest) == fields:
            sets.append(tuple(sorted(nearest)))
    return sets
