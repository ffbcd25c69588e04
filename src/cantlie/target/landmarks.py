"""Landmarks of the liver: the line of the vena cava, the gallbladder, the cord, taken robustly from their masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid

Fractions = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line through a point (x, y, z) in mm with a unit direction that points to the head."""

    point_mm: NDArray[np.float64]
    direction: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """The voxels of a region as weighted points: (x, y, z) in mm, shape (n, 3), and their shares, shape (n,)."""

    points_mm: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, grid: Grid, fractions: Fractions) -> Cloud:
        """Return the voxels of a mask that are not empty."""
        k, j, i = np.nonzero(fractions > 0)
        points = np.stack([grid.x_mm[i], grid.y_mm[j], grid.z_mm[k]], axis=-1)
        return cls(points, fractions[k, j, i].astype(np.float64))

    def thinned(self, largest: int) -> Cloud:
        """Return every n-th voxel, n odd and so that not more than about ``largest`` are left."""
        step = max(1, -(-len(self) // largest))
        step += 1 - step % 2
        return Cloud(self.points_mm[::step], self.weights[::step])

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """The centre of mass (x, y, z)."""
        centre: NDArray[np.float64] = np.average(self.points_mm, axis=0, weights=self.weights)
        return centre

    def share_below(self, distances_mm: NDArray[np.float64]) -> float:
        """Return the share of the region whose distances, shape (n,), are negative."""
        return float(self.weights[distances_mm < 0].sum() / self.weights.sum())


def slice_centres(grid: Grid, fractions: Fractions) -> NDArray[np.float64]:
    """Return the centre (x, y, z) of a region on each slice that it meets, shape (n, 3), with growing z."""
    areas = fractions.sum(axis=(1, 2), dtype=np.float64)
    met = np.nonzero(areas > 1e-3 * areas.max())[0] if areas.max() > 0 else np.empty(0, int)
    x = (fractions[met].sum(axis=1, dtype=np.float64) @ grid.x_mm) / areas[met]
    y = (fractions[met].sum(axis=2, dtype=np.float64) @ grid.y_mm) / areas[met]
    return np.stack([x, y, grid.z_mm[met]], axis=-1)


def centre_line(centres_mm: NDArray[np.float64], weights: NDArray[np.float64], largest_tilt_deg: float = 25.0) -> Line:
    """Fit a line to the centres of a tube on its slices: weighted, outliers left out, not tilted beyond a limit.

    Parameters
    ----------
    centres_mm
        Centres (x, y, z), shape (n, 3), n at least 1.
    weights
        Weight of each slice, shape (n,).
    largest_tilt_deg
        The line is not tilted more than this against the patient's axis. Fewer than 30 mm of tube give no tilt.
    """
    weights = weights / weights.sum()
    keep = np.ones(len(weights), bool)
    slope = np.zeros(2)
    point = np.average(centres_mm, axis=0, weights=weights)
    for _ in range(5):
        w = weights * keep
        point = np.average(centres_mm, axis=0, weights=w)
        along = centres_mm[:, 2] - point[2]
        spread = float((w * along**2).sum() / w.sum())
        if np.ptp(centres_mm[keep, 2]) >= 30.0 and spread > 0:
            slope = (w * along) @ (centres_mm[:, :2] - point[:2]) / w.sum() / spread
        rest = np.linalg.norm(centres_mm[:, :2] - point[:2] - along[:, None] * slope, axis=1)
        limit = max(3.0 * float(np.median(rest[keep])), 3.0)
        closer = rest <= limit
        if (closer == keep).all() or closer.sum() < 3:
            break
        keep = closer
    steepness = float(np.linalg.norm(slope))
    largest = float(np.tan(np.radians(largest_tilt_deg)))
    if steepness > largest:
        slope = slope * largest / steepness
    direction = np.array([slope[0], slope[1], 1.0])
    return Line(point, direction / np.linalg.norm(direction))


def distance_to_box_mm(cloud: Cloud, point_mm: NDArray[np.float64]) -> float:
    """Return the distance of a point from the bounding box of a region, in mm (0 inside)."""
    low, high = cloud.points_mm.min(axis=0), cloud.points_mm.max(axis=0)
    outside = np.maximum(np.maximum(low - point_mm, point_mm - high), 0.0)
    return float(np.linalg.norm(outside))
