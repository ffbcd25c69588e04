"""Directions of static fields: those of the request or the protocol, or those that spare most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.notes import Note
from cantlie.machine.geometry import BeamGeometry
from cantlie.plan.beams import choose_gantry_deg, direction_cost, isocentre_mm, region_points_mm
from cantlie.plan.raster import Raster, raster_of
from cantlie.plan.technique import Site

BODY = "BODY"
BEAM_MARGIN_MM = 7.0
"""How far around the target's shadow beamlets are used: the penumbra needs fluence outside the target."""
CANDIDATE_STEP_DEG = 5.0
OTHER_TARGET_COST = 1.0
BODY_COST = 2.0
ORGAN_COST = 0.2


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
    return [geometry(angle, couch_deg) for angle, couch_deg in zip(gantry, couches, strict=True)]


def direction_costs(
    site: Site, geometry: Callable[[float], BeamGeometry]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much each gantry angle of a full turn burdens what is to be spared, and the angles, shapes (n,)."""
    request, target = site.request, site.target
    grid = request.density.grid
    avoid: dict[str, NDArray[np.float64]] = {}
    weights: dict[str, float] = {}
    for name, fractions in site.masks.items():
        if name == target.name or not fractions.any():
            continue
        is_target = any(other.name == name for other in request.targets)
        points = region_points_mm(grid, fractions, 14.0 if name == BODY else 8.0)
        avoid[name] = points[:: max(1, len(points) // 400)]
        weights[name] = OTHER_TARGET_COST if is_target else BODY_COST if name == BODY else ORGAN_COST
    sample = site.points_mm[:: max(1, len(site.points_mm) // 3000)]
    candidates = np.arange(0.0, 360.0, CANDIDATE_STEP_DEG)
    costs = [direction_cost(site.density, sample, avoid, weights, geometry(angle)) for angle in candidates]
    return np.array(costs), candidates
