"""Points of an organ on the CT grid, between the optimiser's voxels, where its maximum is judged.

Beside a target dose falls by a Gray per millimetre or two: the maximum of an organ there is that of its nearest edge,
not that of the centre of a voxel some millimetres wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cantlie.core.grid import Grid
from cantlie.plan.objectives import Array
from cantlie.plan.products import dot

STEP_MM = 1.5
"""Widest distance of points within a CT voxel, of thick slices above all: their faces may be much hotter."""
MOST_POINTS = 20000
"""Points of an organ beyond which they are thinned out evenly."""


@dataclass(frozen=True, slots=True, eq=False)
class PointSet:
    """Points of a structure, their dose as a mean of the voxels around, and the share of its volume that each counts.

    Parameters
    ----------
    from_voxels
        Shares of the voxels' doses in that of each point, shape (points, voxels).
    to_voxels
        The same transposed.
    weight
        Shares of the volume, shape (points,); they add up to 1.
    """

    from_voxels: sparse.csr_array
    to_voxels: sparse.csr_array
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.weight)

    def doses_gy(self, dose_gy: Array) -> NDArray[np.float64]:
        """Return the dose of the points, shape (points,), given that of the voxels."""
        return np.asarray(self.from_voxels @ np.asarray(dose_gy, dtype=np.float64))


@dataclass(slots=True)
class PointOverdose:
    """Mean squared dose of points above a limit (see `cantlie.plan.objectives.SquaredOverdose`)."""

    voxels: PointSet
    limit_gy: float
    weight: float = 1.0
    scale_gy: float = 1.0

    def add_gradient(self, dose_gy: Array, gradient: Array) -> float:
        """Return the value and add the gradient to an array of the shape of the dose."""
        over = np.maximum(self.voxels.doses_gy(dose_gy) - self.limit_gy, 0.0) / self.scale_gy
        share = self.weight * self.voxels.weight
        if over.any():
            gradient += self.voxels.to_voxels @ (2 * share * over / self.scale_gy)
        return dot(share, over**2)

    def hessian_vector(self, dose_gy: Array, direction: Array) -> NDArray[np.float64]:
        """Return the Hessian times a direction, shape (voxels,)."""
        paying = self.voxels.doses_gy(dose_gy) > self.limit_gy
        along = self.voxels.doses_gy(direction)
        share = 2 * self.weight * self.voxels.weight / self.scale_gy**2
        return np.asarray(self.voxels.to_voxels @ (share * paying * along))


def point_set(
    source: Grid,
    fractions: NDArray[np.float32],
    grid: Grid,
    index: NDArray[np.int64],
    volumes_cc: NDArray[np.float64],
    beside: NDArray[np.bool_],
) -> PointSet | None:
    """Return the points of a structure: CT voxels where they matter, elsewhere the optimiser's voxels.

    Parameters
    ----------
    source, fractions
        The CT grid and the share of each of its voxels inside the structure.
    grid, index
        The optimiser's grid and the flat positions of the voxels kept, shape (voxels,).
    volumes_cc
        Volume that each voxel stands for, shape (voxels,).
    beside
        Voxels of the optimiser's grid within which the structure's CT voxels (those at least half inside it) become
        points, as far as all eight voxels around are kept; shape ``grid.shape``.

    Returns
    -------
    PointSet or None
        None if the structure has no such CT voxel.
    """
    place = np.full(grid.size, -1)
    place[index] = np.arange(len(index))
    centres = source.mm_from_index(np.argwhere(fractions >= 0.5))
    cell, on_grid = _cells(grid, grid.index_from_mm(centres))
    centres = centres[on_grid][beside[tuple(cell[on_grid].T)]]
    at = grid.index_from_mm(_points_within(source, centres))
    cell, on_grid = _cells(grid, at)
    at, cell = at[on_grid], cell[on_grid]
    if len(at) > MOST_POINTS:
        evenly = np.linspace(0, len(at) - 1, MOST_POINTS).astype(np.int64)
        at, cell = at[evenly], cell[evenly]
    low = np.clip(np.floor(at).astype(np.int64), 0, np.asarray(grid.shape) - 2)
    beyond = at - low
    columns, shares = [], []
    for corner in np.ndindex(2, 2, 2):
        flat = np.ravel_multi_index(tuple((low + corner).T), grid.shape)
        columns.append(place[flat])
        shares.append(np.prod(np.where(corner, beyond, 1.0 - beyond), axis=1))
    column, share = np.stack(columns, axis=1), np.stack(shares, axis=1)
    whole = (column >= 0).all(axis=1)
    if not whole.any():
        return None
    column, share, cell = column[whole], share[whole], cell[whole]
    represented = np.zeros(len(index), dtype=bool)
    own = place[np.ravel_multi_index(tuple(cell.T), grid.shape)]
    represented[own[own >= 0]] = True
    others = np.flatnonzero((volumes_cc > 0) & ~represented)
    points, rest = len(column), len(others)
    rows = np.concatenate([np.repeat(np.arange(points), 8), points + np.arange(rest)])
    entries = (np.concatenate([share.ravel(), np.ones(rest)]), (rows, np.concatenate([column.ravel(), others])))
    from_voxels = sparse.csr_array(entries, shape=(points + rest, len(index)))
    return PointSet(from_voxels, sparse.csr_array(from_voxels.T), np.full(points + rest, 1.0 / (points + rest)))


def _cells(grid: Grid, at: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the voxels (k, j, i) around fractional indices, and which of them lie on the grid."""
    cell = np.rint(at).astype(np.int64)
    return cell, np.asarray(((cell >= 0) & (cell < np.asarray(grid.shape))).all(axis=1))


def _points_within(source: Grid, centres_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return evenly spaced points (x, y, z) within voxels of such centres, shape (n, 3)."""
    spacing = np.asarray(source.spacing_mm)
    counts = np.ceil(spacing / STEP_MM).astype(int)
    offsets = [width * ((np.arange(count) + 0.5) / count - 0.5) for width, count in zip(spacing, counts, strict=True)]
    within = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray((centres_mm[:, None, :] + within[None, :, :]).reshape(-1, 3))
