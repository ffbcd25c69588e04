"""Beam directions: where the isocentre stands and from which gantry angles a target is best reached."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.machine.geometry import BeamGeometry

ATTENUATION_PER_MM = 0.005
"""Loss of a 6 MV beam per mm of water, for the choice of directions only."""


def region_points_mm(grid: Grid, fractions: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float64]:
    """Return points (x, y, z) that fill a region about as densely as a spacing, shape (n, 3).

    Raises
    ------
    PlanningError
        If the region is empty.
    """
    inside = fractions >= 0.5
    if not inside.any():
        inside = fractions > 0
    if not inside.any():
        raise PlanningError("a target has no volume")
    steps = [max(1, int(spacing_mm / s)) for s in reversed(grid.spacing_mm)]
    thinned = np.zeros_like(inside)
    thinned[:: steps[0], :: steps[1], :: steps[2]] = inside[:: steps[0], :: steps[1], :: steps[2]]
    if not thinned.any():
        thinned = inside
    index = np.argwhere(thinned)
    points = grid.mm_from_index(index)
    thick = grid.spacing_mm[2]
    if thick <= spacing_mm:
        return points
    parts = int(np.ceil(thick / spacing_mm))
    offsets = (np.arange(parts) + 0.5) / parts * thick - 0.5 * thick
    spread = np.repeat(points, parts, axis=0)
    spread[:, 2] += np.tile(offsets, len(points))
    return spread


def isocentre_mm(points_mm: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the middle of the box around a target, rounded to whole millimetres."""
    x, y, z = np.round(0.5 * (points_mm.min(axis=0) + points_mm.max(axis=0)))
    return float(x), float(y), float(z)


def equispaced_deg(fields: int, start_deg: float = 0.0) -> tuple[float, ...]:
    """Return gantry angles that divide the circle evenly."""
    return tuple(float(a) for a in (start_deg + 360.0 / fields * np.arange(fields)) % 360.0)


def direction_cost(
    density: Volume,
    target_mm: NDArray[np.float64],
    avoid_mm: Mapping[str, NDArray[np.float64]],
    weights: Mapping[str, float],
    geometry: BeamGeometry,
    margin_mm: float = 5.0,
) -> float:
    """Return how much a direction burdens what is to be spared, for a unit of mean dose in the target.

    Rays lose a fixed share of their fluence per mm of water, up to the point that they reach; structures count where
    they lie in the shadow of the target as the beam sees it.

    Parameters
    ----------
    density
        Mass density, coarse (about 5 mm) is enough.
    target_mm
        Points of the target, shape (n, 3).
    avoid_mm, weights
        Points of the structures to be spared, and how much the mean dose of each counts.
    """
    in_target = _arriving(density, target_mm, geometry).mean()
    x, y, _ = geometry.project(target_mm)
    pixel_mm = 5.0
    low = np.array([x.min(), y.min()]) - margin_mm - pixel_mm
    shape = np.ceil((np.array([x.max(), y.max()]) + margin_mm + pixel_mm - low) / pixel_mm).astype(int) + 1
    shadow = np.zeros(shape, dtype=bool)
    shadow[((x - low[0]) / pixel_mm).astype(int), ((y - low[1]) / pixel_mm).astype(int)] = True
    shadow = ndimage.binary_dilation(shadow, iterations=max(1, round(margin_mm / pixel_mm)))
    cost = 0.0
    for name, points in avoid_mm.items():
        u, v, _ = geometry.project(points)
        column = np.floor((u - low[0]) / pixel_mm).astype(int)
        row = np.floor((v - low[1]) / pixel_mm).astype(int)
        within = (column >= 0) & (column < shape[0]) & (row >= 0) & (row < shape[1])
        within[within] = shadow[column[within], row[within]]
        if within.any():
            cost += weights[name] * float(_arriving(density, points[within], geometry).sum()) / len(points)
    return cost / max(float(in_target), 1e-9)


def _arriving(density: Volume, points_mm: NDArray[np.float64], geometry: BeamGeometry) -> NDArray[np.float64]:
    """Return the share of the fluence that reaches points, inverse square law included."""
    grid = density.grid
    return _attenuated(
        np.ascontiguousarray(density.values, dtype=np.float32), np.asarray(grid.origin_mm), np.asarray(grid.spacing_mm),
        np.ascontiguousarray(points_mm, dtype=np.float64), geometry.source_mm, geometry.sad_mm, 8.0,
        ATTENUATION_PER_MM,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _attenuated(density, origin, spacing, points, source, sad_mm, step_mm, attenuation):  # type: ignore[no-untyped-def]
    result = np.empty(len(points))
    nk, nj, ni = density.shape
    for n in range(len(points)):
        ray = source - points[n]
        distance = np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
        ray = ray / distance
        depth = 0.0
        at = 0.5 * step_mm
        while at < distance:
            i = int(np.floor((points[n, 0] + at * ray[0] - origin[0]) / spacing[0] + 0.5))
            j = int(np.floor((points[n, 1] + at * ray[1] - origin[1]) / spacing[1] + 0.5))
            k = int(np.floor((points[n, 2] + at * ray[2] - origin[2]) / spacing[2] + 0.5))
            if i < 0 or j < 0 or k < 0 or i >= ni or j >= nj or k >= nk:
                break
            depth += density[k, j, i] * step_mm
            at += step_mm
        result[n] = np.exp(-attenuation * depth) * (sad_mm / distance) ** 2
    return result


def choose_gantry_deg(
    costs: NDArray[np.float64],
    angles_deg: NDArray[np.float64],
    fields: int,
    *,
    nearest_deg: float = 16.0,
    spread_weight: float = 0.3,
) -> tuple[float, ...]:
    """Choose gantry angles that burden little and still come from many sides.

    Minimises the mean cost of the chosen angles (relative to the mean of all) plus a repulsion of angles that stand
    close together or nearly oppose each other, by greedy choice and exchange.

    Parameters
    ----------
    costs, angles_deg
        Candidate angles and the cost of each, shape (n,).
    fields
        How many to choose.
    nearest_deg
        Least distance of two angles.
    spread_weight
        How much the repulsion counts.

    Raises
    ------
    PlanningError
        If so many angles cannot stand that far apart.
    """
    if fields * nearest_deg > 360.0 - 1e-9:
        raise PlanningError(f"{fields} fields cannot stand {nearest_deg:g} degrees apart")
    apart = np.abs((angles_deg[:, None] - angles_deg[None, :] + 180.0) % 360.0 - 180.0)
    chosen = _best_apart(costs, apart, fields, nearest_deg, spread_weight)
    return tuple(sorted(float(angles_deg[n]) for n in chosen))


def choose_directions(
    costs: NDArray[np.float64],
    axes: NDArray[np.float64],
    fields: int,
    *,
    nearest_deg: float = 16.0,
    spread_weight: float = 0.3,
) -> tuple[int, ...]:
    """Choose beam directions in space as `choose_gantry_deg` does on a circle.

    Parameters
    ----------
    costs
        Cost of each direction, infinite where it is not possible, shape (n,).
    axes
        Unit vector from the isocentre to the source of each, shape (n, 3).

    Returns
    -------
    tuple of int
        Positions of the chosen directions, increasing.

    Raises
    ------
    PlanningError
        If fewer directions than fields are possible, or so many cannot stand that far apart.
    """
    possible = np.flatnonzero(np.isfinite(costs))
    if len(possible) < fields:
        raise PlanningError(
            f"only {len(possible)} directions are possible for {fields} fields",
            where="beam directions",
            remedy="ask for fewer fields or allow more couch angles",
        )
    apart = np.degrees(np.arccos(np.clip(axes[possible] @ axes[possible].T, -1.0, 1.0)))
    chosen = _best_apart(costs[possible], apart, fields, nearest_deg, spread_weight)
    if min(apart[a, b] for a in chosen for b in chosen if a != b or fields == 1) < nearest_deg - 0.01 and fields > 1:
        raise PlanningError(f"{fields} fields cannot stand {nearest_deg:g} degrees apart", where="beam directions")
    return tuple(sorted(int(possible[n]) for n in chosen))


def _best_apart(
    costs: NDArray[np.float64], apart: NDArray[np.float64], fields: int, nearest_deg: float, spread_weight: float
) -> list[int]:
    """Return the positions of directions that cost little and stand apart, given the angles between all of them."""
    relative = costs / max(float(costs.mean()), 1e-12)
    opposed = np.abs(apart - 180.0)
    ideal = 360.0 / fields
    repulsion = (ideal / np.maximum(apart, 1.0)) ** 2 + 0.5 * (10.0 / np.maximum(opposed, 3.0)) ** 2
    repulsion[apart < nearest_deg - 1e-4] = 1e6
    np.fill_diagonal(repulsion, 0.0)

    def energy(chosen: list[int]) -> float:
        pairs = repulsion[np.ix_(chosen, chosen)].sum() / 2
        return float(relative[chosen].mean() + spread_weight * pairs / fields)

    chosen = [int(np.argmin(relative))]
    while len(chosen) < fields:
        rest = [n for n in range(len(costs)) if n not in chosen]
        chosen.append(min(rest, key=lambda n: energy([*chosen, n])))
    best = energy(chosen)
    improved = True
    while improved:
        improved = False
        for place in range(fields):
            for candidate in range(len(costs)):
                if candidate in chosen:
                    continue
                trial = [*chosen[:place], candidate, *chosen[place + 1 :]]
                changed = energy(trial)
                if changed < best - 1e-9:
                    chosen, best, improved = trial, changed, True
    return chosen
