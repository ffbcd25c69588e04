"""A regular, axis-aligned voxel grid in the patient's LPS coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import GeometryError


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular grid aligned with the patient axes: x to the left, y to posterior, z to the head (LPS).

    Images of other orientations are flipped to this order when they are read, so that every array in Cantlie is
    indexed ``[k, j, i]`` with z, y and x growing with the index.

    Parameters
    ----------
    shape
        Number of voxels ``(nk, nj, ni)`` along z, y and x.
    spacing_mm
        Voxel size ``(dx, dy, dz)`` in mm, all positive.
    origin_mm
        Centre ``(x, y, z)`` of voxel ``[0, 0, 0]`` in mm.

    Raises
    ------
    GeometryError
        If the shape is empty or a spacing is not positive and finite.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise GeometryError(f"a grid needs at least one voxel per axis, not {self.shape}")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise GeometryError(f"voxel spacing must be positive, not {self.spacing_mm} mm")
        if not np.isfinite(self.origin_mm).all():
            raise GeometryError(f"the grid origin is not finite: {self.origin_mm} mm")

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def voxel_cc(self) -> float:
        """Volume of one voxel in cm³."""
        dx, dy, dz = self.spacing_mm
        return dx * dy * dz / 1000.0

    @property
    def x_mm(self) -> NDArray[np.float64]:
        """Voxel centres along x, shape (ni,)."""
        return self.origin_mm[0] + self.spacing_mm[0] * np.arange(self.shape[2], dtype=np.float64)

    @property
    def y_mm(self) -> NDArray[np.float64]:
        """Voxel centres along y, shape (nj,)."""
        return self.origin_mm[1] + self.spacing_mm[1] * np.arange(self.shape[1], dtype=np.float64)

    @property
    def z_mm(self) -> NDArray[np.float64]:
        """Voxel centres along z, shape (nk,)."""
        return self.origin_mm[2] + self.spacing_mm[2] * np.arange(self.shape[0], dtype=np.float64)

    @property
    def lower_mm(self) -> NDArray[np.float64]:
        """Lower outer corner (x, y, z) of the grid."""
        return np.asarray(self.origin_mm) - 0.5 * np.asarray(self.spacing_mm)

    @property
    def upper_mm(self) -> NDArray[np.float64]:
        """Upper outer corner (x, y, z) of the grid."""
        return self.lower_mm + np.asarray(self.spacing_mm) * np.asarray(self.shape[::-1])

    def points_mm(self) -> NDArray[np.float64]:
        """Return all voxel centres as (x, y, z), shape (nk, nj, ni, 3)."""
        z, y, x = np.meshgrid(self.z_mm, self.y_mm, self.x_mm, indexing="ij")
        return np.stack([x, y, z], axis=-1)

    def index_from_mm(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Return fractional indices (k, j, i), shape (..., 3), of points (x, y, z) in mm, shape (..., 3)."""
        points = np.asarray(points_mm, dtype=np.float64)
        return ((points - np.asarray(self.origin_mm)) / np.asarray(self.spacing_mm))[..., ::-1]

    def mm_from_index(self, index_kji: ArrayLike) -> NDArray[np.float64]:
        """Return points (x, y, z) in mm, shape (..., 3), of fractional indices (k, j, i), shape (..., 3)."""
        index = np.asarray(index_kji, dtype=np.float64)
        return np.asarray(self.origin_mm) + index[..., ::-1] * np.asarray(self.spacing_mm)

    def is_close(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Say whether both grids have the same voxels within a tolerance."""
        return (
            self.shape == other.shape
            and bool(np.allclose(self.lower_mm, other.lower_mm, rtol=0, atol=tolerance_mm))
            and bool(np.allclose(self.upper_mm, other.upper_mm, rtol=0, atol=tolerance_mm))
        )

    def crop(self, lower_mm: ArrayLike, upper_mm: ArrayLike) -> tuple[Grid, tuple[slice, slice, slice]]:
        """Return the smallest sub-grid whose voxels cover a box, clipped to this grid, and the slices that take it.

        Parameters
        ----------
        lower_mm, upper_mm
            Opposite corners (x, y, z) of the box in mm.

        Raises
        ------
        GeometryError
            If the box lies outside the grid.
        """
        low = np.floor(self.index_from_mm(lower_mm) + 0.5).astype(int)
        high = np.ceil(self.index_from_mm(upper_mm) - 0.5).astype(int)
        low = np.maximum(low, 0)
        high = np.minimum(high, np.asarray(self.shape) - 1)
        if (high < low).any():
            raise GeometryError("the requested box lies outside the grid")
        k, j, i = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
        shape = (k.stop - k.start, j.stop - j.start, i.stop - i.start)
        x, y, z = self.mm_from_index([k.start, j.start, i.start])
        return Grid(shape, self.spacing_mm, (float(x), float(y), float(z))), (k, j, i)

    def resampled(self, spacing_mm: tuple[float, float, float]) -> Grid:
        """Return a grid of another spacing, centred on this box and covering it (up to one voxel further)."""
        extent = self.upper_mm - self.lower_mm
        count = np.maximum(np.ceil(extent / np.asarray(spacing_mm) - 1e-6).astype(int), 1)
        centre = 0.5 * (self.upper_mm + self.lower_mm)
        x, y, z = centre - 0.5 * (count - 1) * np.asarray(spacing_mm)
        return Grid((int(count[2]), int(count[1]), int(count[0])), spacing_mm, (float(x), float(y), float(z)))
