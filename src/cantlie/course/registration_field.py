"""Where each point of one image lies in another: rigid transforms and displacement fields, with their inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cantlie.core.errors import GeometryError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class RigidTransform:
    """A rotation and a shift, ``moving_from_reference``: it takes points of the reference to the moving image.

    ``moving = rotation @ (reference - centre) + centre + translation``, all in LPS mm.

    Parameters
    ----------
    rotation
        Shape (3, 3).
    translation_mm, centre_mm
        (x, y, z).
    angles_deg
        Rotations about x, y and z that ``rotation`` is made of (ITK's Euler3DTransform, applied z, then x, then y).
    """

    rotation: NDArray[np.float64]
    translation_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    angles_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def points_mm(self, reference_mm: ArrayLike) -> NDArray[np.float64]:
        """Return where points (..., 3) of the reference lie in the moving image."""
        centre = np.asarray(self.centre_mm)
        return (np.asarray(reference_mm, np.float64) - centre) @ self.rotation.T + centre + self.translation_mm

    def matrix(self) -> NDArray[np.float64]:
        """Return the 4 x 4 matrix moving_from_reference in mm, as in a DICOM Spatial Registration."""
        result = np.eye(4)
        result[:3, :3] = self.rotation
        result[:3, 3] = self.points_mm((0.0, 0.0, 0.0))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class DisplacementField:
    """Displacements on the grid of the reference image, ``moving_from_reference``.

    The point ``x`` of the reference lies at ``x + displacement(x)`` in the moving image, the rigid part included; so
    values of the moving image are pulled to the reference by interpolation there. Outside the grid the nearest
    displacement holds.

    Parameters
    ----------
    grid
        Grid of the reference.
    displacement_mm
        (x, y, z) per voxel in mm, shape (nk, nj, ni, 3).

    Raises
    ------
    GeometryError
        If the array does not fit the grid or is not finite.
    """

    grid: Grid
    displacement_mm: NDArray[np.floating]

    def __post_init__(self) -> None:
        if self.displacement_mm.shape != (*self.grid.shape, 3):
            raise GeometryError(
                f"displacements of shape {self.displacement_mm.shape} on a grid of shape {self.grid.shape}"
            )
        if not np.isfinite(self.displacement_mm).all():
            raise GeometryError("a displacement field is not finite", remedy="register the images again")

    @classmethod
    def of_rigid(cls, rigid: RigidTransform, grid: Grid) -> DisplacementField:
        """Return a rigid transform as a field."""
        points = grid.points_mm()
        return cls(grid, (rigid.points_mm(points) - points).astype(np.float32))

    def at(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Return the displacement at points (..., 3) of the reference, trilinear."""
        points = np.asarray(points_mm, dtype=np.float64)
        index = self.grid.index_from_mm(points).reshape(-1, 3).T
        parts = [
            ndimage.map_coordinates(self.displacement_mm[..., n], index, output=np.float64, order=1, mode="nearest")
            for n in range(3)
        ]
        return np.stack(parts, axis=-1).reshape(points.shape)

    def moving_points_mm(self, reference_mm: ArrayLike) -> NDArray[np.float64]:
        """Return where points (..., 3) of the reference lie in the moving image."""
        points = np.asarray(reference_mm, dtype=np.float64)
        return points + self.at(points)

    def reference_points_mm(
        self, moving_mm: ArrayLike, *, tolerance_mm: float = 0.02, steps: int = 40
    ) -> tuple[NDArray[np.float64], float]:
        """Return where points (..., 3) of the moving image lie in the reference, and the largest error left in mm.

        The field is inverted by the fixed-point iteration of Chen et al. 2008 (doi:10.1118/1.2816107, equation 5).
        """
        moving = np.asarray(moving_mm, dtype=np.float64)
        points = moving.copy()
        left = np.inf
        for _ in range(steps):
            updated = moving - self.at(points)
            left = float(np.abs(updated - points).max(initial=0.0))
            points = updated
            if left <= tolerance_mm:
                break
        return points, left

    def pull(self, moving: Volume, grid: Grid | None = None, *, outside: float = 0.0) -> Volume:
        """Return a volume of the moving image on the reference (or on another grid in its place), trilinear."""
        target = grid or self.grid
        result = np.full(target.shape, outside, dtype=np.float32)
        moving = Volume(moving.grid, np.asarray(moving.values, dtype=np.float64))  # once, not for every layer
        k, j, i = self._within_reach(moving, target, outside)
        z, y, x = target.z_mm[k], target.y_mm[j], target.x_mm[i]
        for layers in _layers(len(z), len(y) * len(x)):
            points = np.stack(np.meshgrid(z[layers], y, x, indexing="ij")[::-1], axis=-1)
            result[k, j, i][layers] = moving.sample(self.moving_points_mm(points), outside=outside)
        return Volume(target, result)

    def _within_reach(self, moving: Volume, target: Grid, outside: float) -> tuple[slice, slice, slice]:
        """Return the part of a grid whose points may lie in the moving image where that is not ``outside``.

        No displacement is beyond those of the field, so a structure's mask is pulled near the structure alone.
        """
        differs = np.asarray(moving.values) != outside
        source = moving.grid
        result = []
        for axis, (own, other) in enumerate(
            zip((target.z_mm, target.y_mm, target.x_mm), (source.z_mm, source.y_mm, source.x_mm), strict=True)
        ):
            there = np.flatnonzero(differs.any(axis=tuple(n for n in range(3) if n != axis)))
            if not len(there):
                return slice(0), slice(0), slice(0)
            moves = self.displacement_mm[..., 2 - axis]
            voxel_mm = source.spacing_mm[2 - axis]  # values reach one voxel further, by interpolation
            low, high = other[there[0]] - voxel_mm - moves.max(), other[there[-1]] + voxel_mm - moves.min()
            inside = np.flatnonzero((own >= low) & (own <= high))
            result.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0))
        return result[0], result[1], result[2]

    def jacobian(self) -> NDArray[np.float64]:
        """Return the determinant of the Jacobian per voxel: local volume in the moving image over the reference."""
        spacing = self.grid.spacing_mm[::-1]
        gradient = np.empty((*self.grid.shape, 3, 3))
        for component in range(3):
            for axis in range(3):
                part = (
                    np.gradient(self.displacement_mm[..., component].astype(np.float64), spacing[axis], axis=axis)
                    if self.grid.shape[axis] > 1
                    else 0.0
                )
                gradient[..., component, 2 - axis] = part + float(component == 2 - axis)
        return np.asarray(np.linalg.det(gradient))


def _layers(count: int, size: int, at_once: int = 400_000) -> list[slice]:
    step = max(1, at_once // max(size, 1))
    return [slice(k, min(k + step, count)) for k in range(0, count, step)]
