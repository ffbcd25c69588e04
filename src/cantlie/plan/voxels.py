"""The voxels that the optimiser sees: a coarse grid, thinned out where little is at stake, with exact volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import PlanningError
from cantlie.core.grid import Grid
from cantlie.plan.objectives import VoxelSet
from cantlie.plan.points import PointSet, point_set

Fractions = NDArray[np.float32]
Volumes = NDArray[np.float64]

FINEST_MM = 2.5
COARSEST_MM = 5.0
BESIDE_MM = 10.0
"""How far from targets all voxels are of full interest."""
BODY_SHARE = 0.125
FURTHEST_SHARE = 0.1
"""Share of an organ's voxels that stand for what lies beyond the reach: dose there is nearly that of the furthest."""
LEAST_OF_ORGAN = 1000
"""Voxels that an organ keeps at least, if it has so many: between fewer, beams pass unseen."""
MOST_BESIDE = 0.75
"""Most of all voxels that lie in the targets or within 10 mm of them."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanningVoxels:
    """A sample of the voxels of a coarse grid, and the volume of each structure that every one stands for.

    Parameters
    ----------
    grid
        The coarse grid.
    index
        Flat positions of the kept voxels in the grid, increasing, shape (n,).
    volumes_cc
        Structure to the volume that each kept voxel stands for, shape (n,). A voxel that stands for thinned-out
        neighbours counts their volume too.
    distance_mm
        Target to the distance of each voxel from its surface, 0 inside, shape (n,).
    points
        Organ whose maximum has a limit to the points at which it is judged (`cantlie.plan.points`); absent where none
        of the organ lies beside a target.
    """

    grid: Grid
    index: NDArray[np.int64]
    volumes_cc: Mapping[str, NDArray[np.float64]]
    distance_mm: Mapping[str, NDArray[np.float64]]
    points: Mapping[str, PointSet] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def of(self, name: str) -> VoxelSet:
        """Return the voxels of a structure.

        Raises
        ------
        PlanningError
            If none of the voxels holds some of it.
        """
        return VoxelSet.of_volumes(self.volumes_cc[name], name)

    def holds(self, name: str) -> bool:
        """Say whether any voxel holds some of a structure."""
        return name in self.volumes_cc and bool((self.volumes_cc[name] > 0).any())


def fitting_voxel_mm(target_cc: Iterable[float], max_voxels: int) -> float:
    """Return the finest spacing in mm at which targets and 10 mm around them fill about half of the voxels.

    Parameters
    ----------
    target_cc
        Volume of each target, taken for a ball.
    """
    radii_mm = 10.0 * np.cbrt(0.75 / np.pi * np.asarray(list(target_cc)))
    around_mm3 = float(np.sum(4.0 / 3.0 * np.pi * (radii_mm + 10.0) ** 3))
    finest = (around_mm3 / (0.5 * max_voxels)) ** (1 / 3)
    return float(np.clip(np.ceil(2.0 * finest) / 2.0, FINEST_MM, COARSEST_MM))


def coarse_fractions(fractions: Fractions, source: Grid, target: Grid) -> Fractions:
    """Return the share of each voxel of another grid that lies in a region, conserving its volume exactly.

    Both grids are axis-aligned; the share is the mean over the overlap with the source's voxels (zero outside).
    """
    result = fractions.astype(np.float32, copy=False)
    for axis in range(3):
        component = 2 - axis
        weights = _overlaps(
            source.origin_mm[component],
            source.spacing_mm[component],
            source.shape[axis],
            target.origin_mm[component],
            target.spacing_mm[component],
            target.shape[axis],
        )
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _overlaps(
    source_origin: float, source_width: float, source_n: int, target_origin: float, target_width: float, target_n: int
) -> Fractions:
    """Return the share of each target interval (rows) that each source interval (columns) covers."""
    source_low = source_origin + source_width * (np.arange(source_n) - 0.5)
    target_low = target_origin + target_width * (np.arange(target_n) - 0.5)
    low = np.maximum(target_low[:, None], source_low[None, :])
    high = np.minimum(target_low[:, None] + target_width, source_low[None, :] + source_width)
    return (np.maximum(high - low, 0.0) / target_width).astype(np.float32)


def planning_voxels(
    source: Grid,
    regions: Mapping[str, Fractions],
    *,
    body: str,
    targets: tuple[str, ...],
    organs: tuple[str, ...],
    voxel_mm: float | None,
    max_voxels: int,
    reach_mm: float = 60.0,
    maxima: Iterable[str] = (),
) -> PlanningVoxels:
    """Choose the voxels that the optimiser sees.

    All voxels of targets and within 10 mm of them are of full interest, then those of the organs within ``reach_mm`` of
    a target; other body tissue is represented by one voxel in 8 of theirs. If more than ``max_voxels`` would remain,
    what is further away is thinned first; of an organ ``LEAST_OF_ORGAN`` voxels stay where it has so many, or beams
    would pass between them unseen. Thinning follows a fixed lattice, so that what is kept is evenly spread, and each
    kept voxel's volume grows by the factor that it was thinned by. What of an organ lies beyond the reach, where
    there is hardly any dose, counts with the organ's furthest voxels, so that its volume is whole.

    Parameters
    ----------
    source, regions
        The CT grid and the masks on it, by name.
    body, targets, organs
        Names of the body, the targets, and the structures that have goals.
    voxel_mm
        Spacing of the coarse grid; None takes the finest that suits the targets (`fitting_voxel_mm`).
    reach_mm
        How far from the targets' planes along z voxels are kept at all.
    maxima
        The organs whose maximum has a limit.

    Raises
    ------
    PlanningError
        If a target has no volume.
    """
    planes = np.zeros(source.shape[0], dtype=bool)
    for name in targets:
        planes |= regions[name].any(axis=(1, 2))
    if not planes.any():
        raise PlanningError("the targets have no volume", where=", ".join(targets))
    z = source.z_mm[planes]
    lower, upper = source.lower_mm, source.upper_mm
    body_box = _box_of(source, regions[body])
    low = np.maximum([body_box[0][0], body_box[0][1], z[0] - reach_mm], lower)
    high = np.minimum([body_box[1][0], body_box[1][1], z[-1] + reach_mm], upper)
    if voxel_mm is None:
        voxel_mm = fitting_voxel_mm([float(regions[name].sum()) * source.voxel_cc for name in targets], max_voxels)
    cropped, slices = source.crop(low + 1e-3, high - 1e-3)
    grid = cropped.resampled((voxel_mm, voxel_mm, voxel_mm))
    coarse = {
        name: coarse_fractions(regions[name][slices], cropped, grid)
        for name in dict.fromkeys((body, *targets, *organs))
    }
    distance = {name: _distance_mm(coarse[name] >= 0.5, voxel_mm) for name in targets}
    near = np.minimum.reduce(list(distance.values()))
    inside = coarse[body] > 0.5
    for name in (*targets, *organs):
        inside |= coarse[name] > 0
    beside = inside & (near <= BESIDE_MM)
    organ = np.zeros_like(inside)
    for name in organs:
        organ |= (coarse[name] > 0) & (near <= reach_mm)
    organ &= ~beside
    near_by = int(np.count_nonzero(beside))
    rest = np.count_nonzero(organ) + BODY_SHARE * np.count_nonzero(inside & ~beside & ~organ)
    thick = min(1.0, MOST_BESIDE * max_voxels / near_by)
    thin = min(thick, (max_voxels - thick * near_by) / max(rest, 1.0))
    share = np.where(beside, thick, np.where(organ, thin, BODY_SHARE * thin))
    for name in organs:
        held = (coarse[name] > 0) & ~beside
        share[held] = np.maximum(share[held], min(1.0, LEAST_OF_ORGAN / max(int(np.count_nonzero(held)), 1)))
    k, j, i = np.indices(grid.shape, sparse=True)
    # Additive lattice with the plastic-number ratios: evenly spread in three dimensions at every density
    # (Roberts 2018, the R3 sequence).
    phase = (0.5 + 0.8191725134 * i + 0.6710436067 * j + 0.5497004779 * k) % 1.0
    keep = inside & (phase < share)
    index = np.flatnonzero(keep)
    counts = grid.voxel_cc / share[keep]
    volumes = {name: coarse[name][keep].astype(np.float64) * counts for name in coarse}
    for name in organs:
        beyond_cc = float(regions[name].sum()) * source.voxel_cc - float(coarse[name].sum()) * grid.voxel_cc
        volumes[name] = _with_beyond(volumes[name], near[keep], beyond_cc)
    points = {
        name: found
        for name in maxima
        if (found := point_set(source, regions[name], grid, index, volumes[name], near <= BESIDE_MM)) is not None
    }
    return PlanningVoxels(grid, index, volumes, {name: distance[name][keep] for name in targets}, points)


def _with_beyond(volumes_cc: Volumes, distance_mm: Volumes, beyond_cc: float) -> Volumes:
    """Return an organ's volumes in which what lies beyond the reach of the voxels counts with the furthest of them."""
    held = volumes_cc > 0
    if beyond_cc <= 0 or not held.any():
        return volumes_cc
    far = held & (distance_mm >= np.quantile(distance_mm[held], 1.0 - FURTHEST_SHARE))
    return np.where(far, volumes_cc * (1.0 + beyond_cc / float(volumes_cc[far].sum())), volumes_cc)


def _box_of(grid: Grid, fractions: Fractions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    present = fractions > 0
    corners = []
    for axis in (2, 1, 0):
        other = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(present.any(axis=other))
        if found.size == 0:
            raise PlanningError("the body has no volume", where="BODY", remedy="contour the body")
        corners.append((found[0], found[-1]))
    first = np.array([c[0] for c in corners])
    last = np.array([c[1] for c in corners])
    spacing = np.asarray(grid.spacing_mm)
    return grid.lower_mm + first * spacing, grid.lower_mm + (last + 1) * spacing


def _distance_mm(inside: NDArray[np.bool_], voxel_mm: float) -> NDArray[np.float64]:
    if not inside.any():
        return np.full(inside.shape, np.inf)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~inside, sampling=voxel_mm)
    return distance
