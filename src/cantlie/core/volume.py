"""Values on a grid: a CT in HU, a density in g/cm³, a dose in Gy, a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An array of values on the voxels of a grid.

    Parameters
    ----------
    grid
        The voxel grid.
    values
        Array of shape ``grid.shape``, indexed ``[k, j, i]``.

    Raises
    ------
    GeometryError
        If the array does not have the shape of the grid.
    """

    grid: Grid
    values: NDArray[np.floating]

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise GeometryError(f"array of shape {self.values.shape} on a grid of shape {self.grid.shape}")

    def sample(self, points_mm: ArrayLike, *, outside: float = 0.0) -> NDArray[np.float64]:
        """Interpolate trilinearly at points (x, y, z) in mm, shape (..., 3).

        Within half a voxel beyond the outermost centres the nearest value holds; further out, ``outside``.
        """
        index = self.grid.index_from_mm(points_mm)
        top = np.asarray(self.grid.shape) - 1
        inside = ((index >= -0.5 - 1e-9) & (index <= top + 0.5 + 1e-9)).all(axis=-1)
        clamped = np.clip(index, 0, top).reshape(-1, 3)
        values = np.asarray(self.values, dtype=np.float64)
        result = ndimage.map_coordinates(values, clamped.T, order=1, mode="nearest").reshape(inside.shape)
        return np.where(inside, result, outside)

    def resample(self, grid: Grid, *, outside: float = 0.0) -> Volume:
        """Interpolate trilinearly onto the voxel centres of another grid (both are axis-aligned, so axis by axis)."""
        if grid == self.grid:
            return self
        values = np.asarray(self.values)
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32)
        covered = np.ones(grid.shape, dtype=bool)
        for axis, centres_mm in enumerate((grid.z_mm, grid.y_mm, grid.x_mm)):
            n = values.shape[axis]
            component = 2 - axis
            position = (centres_mm - self.grid.origin_mm[component]) / self.grid.spacing_mm[component]
            inside = (position >= -0.5 - 1e-9) & (position <= n - 0.5 + 1e-9)
            position = np.clip(position, 0, n - 1)
            low = np.minimum(position.astype(int), max(n - 2, 0))
            high = np.minimum(low + 1, n - 1)
            broadcast = [1, 1, 1]
            broadcast[axis] = -1
            weight = (position - low).astype(values.dtype).reshape(broadcast)
            values = values.take(low, axis=axis) * (1 - weight) + values.take(high, axis=axis) * weight
            covered &= inside.reshape(broadcast)
        return Volume(grid, np.where(covered, values, np.asarray(outside, dtype=values.dtype)))
