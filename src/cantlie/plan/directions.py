"""Directions of static fields: those of the request or the protocol, or those that spare most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.notes import Note
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.beams import (
    choose_directions,
    choose_gantry_deg,
    direction_cost,
    isocentre_mm,
    region_points_mm,
)
from cantlie.plan.clearance import is_clear, obstacle_mm
from cantlie.plan.raster import Raster, raster_of
from cantlie.plan.technique import Site

BODY = "BODY"
BEAM_MARGIN_MM = 7.0
"""How far around the target's shadow beamlets are used: the penumbra needs fluence outside the target."""
CANDIDATE_STEP_DEG = 5.0
COUCH_STEP_DEG = 15.0
COUCH_TURN_COST = 0.03
"""What a turned couch costs beside the burden of its direction, as a share of the mean burden: the time it takes."""
OTHER_TARGET_COST = 1.0
BODY_COST = 2.0
ORGAN_COST = 0.2
OPEN_FIELD_ORGAN_COST = 1.0
"""For fields that are not modulated: what an organ gets on the way cannot be taken back by their shapes."""


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
        costs, candidates = direction_costs(site, geometry)
        gantry = choose_gantry_deg(costs, candidates, fields)
        site.notes.append(
            Note(
                f"gantry angles {', '.join(f'{angle:g}' for angle in gantry)} degrees were chosen to spare the other "
                "structures; the protocol gives none",
                target.name,
                "info",
            )
        )
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


def _in_space(site: Site, fields: int, geometry: Callable[[float, float], BeamGeometry]) -> list[BeamGeometry]:
    """Choose gantry and couch angles together, only where the head is estimated to stay clear."""
    machine = site.request.machine
    most = site.request.protocol.technique.couch_most_deg
    low, high = max(-most, machine.couch_range_deg[0]), min(most, machine.couch_range_deg[1])
    turns = np.arange(0.0, most + 1e-6, COUCH_STEP_DEG)
    couches = sorted({float(c) for t in turns for c in (t, -t) if low - 1e-6 <= c <= high + 1e-6}, key=abs)
    avoid, weights, sample = _burdens(site)
    obstacle = _obstacle(site, geometry(0.0, 0.0))
    candidates, costs = [], []
    for couch in couches:
        for angle in np.arange(0.0, 360.0, CANDIDATE_STEP_DEG if couch == 0 else 2 * CANDIDATE_STEP_DEG):
            one = geometry(float(angle), float(couch % 360.0))
            if couch != 0 and not is_clear(one, machine, obstacle):
                continue
            candidates.append(one)
            costs.append(direction_cost(site.density, sample, avoid, weights, one))
    relative = np.asarray(costs) / np.mean(costs) + np.array([COUCH_TURN_COST * (g.couch_deg != 0) for g in candidates])
    chosen = choose_directions(relative, np.array([g.axes[2] for g in candidates]), fields)
    directions = sorted((candidates[n] for n in chosen), key=lambda g: (abs(signed_deg(g.couch_deg)), g.gantry_deg))
    angles = ", ".join(f"{g.gantry_deg:g}/{g.couch_deg:g}" for g in directions)
    site.notes.append(
        Note(
            f"gantry/couch angles {angles} degrees were chosen to spare the other structures, the couch turned by at "
            f"most {most:g} degrees and where the head is estimated to stay clear of patient and couch",
            site.target.name,
            "info",
        )
    )
    return directions


def direction_costs(
    site: Site, geometry: Callable[[float], BeamGeometry]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much each gantry angle of a full turn burdens what is to be spared, and the angles, shapes (n,)."""
    avoid, weights, sample = _burdens(site)
    candidates = np.arange(0.0, 360.0, CANDIDATE_STEP_DEG)
    costs = [direction_cost(site.density, sample, avoid, weights, geometry(angle)) for angle in candidates]
    return np.array(costs), candidates


def _burdens(site: Site) -> tuple[dict[str, NDArray[np.float64]], dict[str, float], NDArray[np.float64]]:
    """Return points of what is to be spared, how much each counts, and points of the target."""
    request, target = site.request, site.target
    grid = request.density.grid
    modulated = request.protocol.technique.delivery not in ("static", "field_in_field")
    organ_cost = ORGAN_COST if modulated else OPEN_FIELD_ORGAN_COST
    avoid: dict[str, NDArray[np.float64]] = {}
    weights: dict[str, float] = {}
    for name, fractions in site.masks.items():
        if name == target.name or not fractions.any():
            continue
        is_target = any(other.name == name for other in request.targets)
        points = region_points_mm(grid, fractions, 14.0 if name == BODY else 8.0)
        avoid[name] = points[:: max(1, len(points) // 400)]
        weights[name] = OTHER_TARGET_COST if is_target else BODY_COST if name == BODY else organ_cost
    return avoid, weights, site.points_mm[:: max(1, len(site.points_mm) // 3000)]
