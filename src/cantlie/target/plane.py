"""A plane through the patient, and the exact share of every voxel on its right side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid
from cantlie.target.interface import cut_share


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane with a direction.

    Parameters
    ----------
    point_mm
        A point (x, y, z) on it.
    normal
        Unit normal (x, y, z). For planes that divide the liver it points to the patient's left, so that the right half
        lies where the signed distance is negative.
    """

    point_mm: tuple[float, float, float]
    normal: tuple[float, float, float]

    @classmethod
    def facing_left(cls, point_mm: ArrayLike, normal: ArrayLike) -> Plane:
        """Make a plane from any normal, turned so that it points to the left.

        Raises
        ------
        GeometryError
            If the normal has no direction, or none to the left or right.
        """
        direction = np.asarray(normal, dtype=np.float64)
        length = float(np.linalg.norm(direction))
        if not np.isfinite(length) or length < 1e-9:
            raise GeometryError("the plane's normal has no direction", remedy="give a normal such as [1.0, -1.0, 0.0]")
        direction = direction / length
        if abs(direction[0]) < 0.05:
            raise GeometryError(
                "the plane does not divide right from left",
                where=f"normal ({direction[0]:.2f}, {direction[1]:.2f}, {direction[2]:.2f})",
                remedy="give a normal that points to the left, such as [1.0, -1.0, 0.0]",
            )
        if direction[0] < 0:
            direction = -direction
        x, y, z = (float(v) for v in np.asarray(point_mm, dtype=np.float64))
        return cls((x, y, z), (float(direction[0]), float(direction[1]), float(direction[2])))

    def shifted(self, distance_mm: float) -> Plane:
        """Return the plane moved along its normal (to the left for positive distances)."""
        x, y, z = np.asarray(self.point_mm) + distance_mm * np.asarray(self.normal)
        return Plane((float(x), float(y), float(z)), self.normal)

    def distance_mm(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Return the signed distance of points, shape (..., 3), in mm; negative on the right side."""
        return (np.asarray(points_mm, dtype=np.float64) - np.asarray(self.point_mm)) @ np.asarray(self.normal)

    def right_share(self, grid: Grid) -> NDArray[np.float32]:
        """Return the exact share of each voxel on the right side of the plane, shape ``grid.shape``."""
        offset = float(self.distance_mm(grid.origin_mm))
        return _share_below(grid.shape, np.asarray(grid.spacing_mm), np.asarray(self.normal), offset)

    def facing_degrees(self) -> float:
        """Return by how much its trace in the axial plane turns from straight forward to the patient's right."""
        return float(np.degrees(np.arctan2(-self.normal[1], self.normal[0])))


@njit(cache=True)
def _share_below(
    shape: tuple[int, int, int], spacing: NDArray[np.float64], normal: NDArray[np.float64], offset: float
) -> NDArray[np.float32]:
    nk, nj, ni = shape
    a, b, c = abs(normal[0]) * spacing[0], abs(normal[1]) * spacing[1], abs(normal[2]) * spacing[2]
    width = a + b + c
    result = np.empty((nk, nj, ni), np.float32)
    for k in range(nk):
        for j in range(nj):
            row = offset + j * spacing[1] * normal[1] + k * spacing[2] * normal[2]
            for i in range(ni):
                distance = row + i * spacing[0] * normal[0]
                result[k, j, i] = cut_share(0.5 - distance / width, a / width, b / width, c / width)
    return result
