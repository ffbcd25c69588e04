"""The beamlets of a field as a raster under the leaves, and the source's blur between opening and fluence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import Machine
from cantlie.plan.products import separable

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """Square beamlets of one field: rows across the leaves, columns along their movement.

    Parameters
    ----------
    geometry
        The beam direction.
    axis
        The direction in which the leaves move, ``X`` or ``Y``.
    along_mm, across_mm
        Beamlet centres along and across the movement, shapes (columns,) and (rows,).
    width_mm
        Beamlet width.
    used
        Beamlets that the optimiser may open, shape (rows, columns).
    first_leaf, leaf_rows
        Leaf pair of the first row, and the leaf pair of every row counted from it, shape (rows,).
    """

    geometry: BeamGeometry
    axis: str
    along_mm: NDArray[np.float64]
    across_mm: NDArray[np.float64]
    width_mm: float
    used: NDArray[np.bool_]
    first_leaf: int
    leaf_rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.across_mm), len(self.along_mm)

    @property
    def leaves(self) -> int:
        """Number of leaf pairs above the raster."""
        return int(self.leaf_rows[-1]) + 1

    @property
    def left_mm(self) -> float:
        """Lower edge of the first column."""
        return float(self.along_mm[0] - 0.5 * self.width_mm)

    def centres_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of all beamlets in the beam-limiting-device frame, shapes (rows, columns)."""
        across, along = np.meshgrid(self.across_mm, self.along_mm, indexing="ij")
        return (along, across) if self.axis == "X" else (across, along)

    def leaf_used(self) -> NDArray[np.bool_]:
        """Return where a leaf pair covers a used beamlet, shape (leaves, columns)."""
        return self.gather(self.used.astype(np.int64)) > 0

    def spread(self, leaf_values: Array) -> Array:
        """Return values of leaf pairs, shape (leaves, columns), on the rows of the raster."""
        return leaf_values[self.leaf_rows]

    def gather(self, values: Array) -> Array:
        """Return values of rows, shape (rows, columns), added up per leaf pair: the adjoint of `spread`."""
        starts = np.flatnonzero(np.diff(self.leaf_rows, prepend=-1))
        return np.add.reduceat(values, starts, axis=0)


def raster_of(
    geometry: BeamGeometry, machine: Machine, points_mm: NDArray[np.float64], width_mm: float, margin_mm: float
) -> tuple[Raster, NDArray[np.bool_]]:
    """Return the beamlets that see a target.

    Parameters
    ----------
    points_mm
        Points (x, y, z) of the target, close enough together that their shadows leave no holes, shape (n, 3).
    width_mm
        Beamlet width; leaf edges must fall on beamlet edges.
    margin_mm
        How far around the target's shadow beamlets are used.

    Returns
    -------
    raster
        The beamlets.
    shadow
        Beamlets within the shadow itself, shape (rows, columns).

    Raises
    ------
    PlanningError
        If the machine has no leaves, the beamlets do not fit the leaves, or the target lies outside its field.
    """
    mlc = machine.mlc
    if mlc is None:
        raise PlanningError(
            f"{machine.id} has no multileaf collimator, so no intensity-modulated plan can be made for it",
            where="machine",
            remedy="choose a machine with leaves",
        )
    steps = mlc.leaf_boundaries_mm / width_mm
    if np.abs(steps - np.round(steps)).max() > 1e-6:
        raise PlanningError(
            f"beamlets of {width_mm:g} mm do not fit the leaves of {machine.id}",
            where="technique.beamlet_mm",
            remedy="choose a width that divides the leaf widths",
        )
    x, y, _ = geometry.project(points_mm)
    along, across = (x, y) if mlc.axis == "X" else (y, x)
    limit_x, limit_y = 0.5 * np.asarray(machine.max_field_mm)
    limit_along, limit_across = (limit_x, limit_y) if mlc.axis == "X" else (limit_y, limit_x)
    first_column = max(int(np.floor((along.min() - margin_mm) / width_mm)), -int(limit_along / width_mm + 1e-6))
    last_column = min(int(np.ceil((along.max() + margin_mm) / width_mm)), int(limit_along / width_mm + 1e-6))
    low = max(across.min() - margin_mm, -limit_across, float(mlc.leaf_boundaries_mm[0]))
    high = min(across.max() + margin_mm, limit_across, float(mlc.leaf_boundaries_mm[-1]))
    if last_column - first_column < 1 or high <= low:
        raise PlanningError("the target lies outside the field of the machine", where=machine.id)
    first_leaf = int(np.searchsorted(mlc.leaf_boundaries_mm, low + 1e-6, side="right")) - 1
    last_leaf = int(np.searchsorted(mlc.leaf_boundaries_mm, high - 1e-6, side="left")) - 1
    first_row = round(mlc.leaf_boundaries_mm[first_leaf] / width_mm)
    last_row = round(mlc.leaf_boundaries_mm[last_leaf + 1] / width_mm)
    along_mm = np.asarray((np.arange(first_column, last_column) + 0.5) * width_mm, dtype=np.float64)
    across_mm = np.asarray((np.arange(first_row, last_row) + 0.5) * width_mm, dtype=np.float64)
    leaf_rows = np.searchsorted(mlc.leaf_boundaries_mm, across_mm, side="right") - 1 - first_leaf
    shadow = np.zeros((len(across_mm), len(along_mm)), dtype=bool)
    row = np.floor(across / width_mm).astype(int) - first_row
    column = np.floor(along / width_mm).astype(int) - first_column
    hit = (row >= 0) & (row < shadow.shape[0]) & (column >= 0) & (column < shadow.shape[1])
    shadow[row[hit], column[hit]] = True
    used = _grown(shadow, margin_mm / width_mm)
    raster = Raster(geometry, mlc.axis, along_mm, across_mm, width_mm, used, first_leaf, leaf_rows)
    return raster, shadow


def _grown(shadow: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    if radius <= 0:
        return shadow
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~shadow)
    return distance <= radius + 0.01


@dataclass(frozen=True, slots=True, eq=False)
class SourceBlur:
    """What the size of the source and the head's scatter make of an opening: a linear map of rasters.

    The opening's fluence is blurred by the focal spot and, for a share of it, by the extra-focal source, then
    multiplied by the beam's profile, as `machine.fluence` does on finer pixels.
    """

    sharp_along: NDArray[np.float32]
    sharp_across: NDArray[np.float32]
    wide_along: NDArray[np.float32]
    wide_across: NDArray[np.float32]
    wide_share: float
    profile: NDArray[np.float32]

    def apply(self, opening: Array) -> Array:
        """Return the fluence of an opening, shapes (rows, columns)."""
        return self.profile * self._blurred(opening)

    def adjoint(self, values: Array) -> Array:
        """Return the adjoint of `apply`; the blurs are symmetric."""
        return self._blurred(self.profile * values)

    def _blurred(self, values: Array) -> Array:
        values = np.ascontiguousarray(values, dtype=np.float32)
        sharp = separable(self.sharp_across, values, self.sharp_along)
        if self.wide_share == 0.0:
            return sharp
        wide = separable(self.wide_across, values, self.wide_along)
        return (1 - self.wide_share) * sharp + self.wide_share * wide


def source_blur(raster: Raster, model: BeamModel) -> SourceBlur:
    """Return the blur of a beam model on a raster (see `cantlie.machine.fluence.summed_fluence`)."""
    sad = raster.geometry.sad_mm
    gap = sad - model.collimator_distance_mm
    focal = model.focal_spot_sigma_mm * gap / model.collimator_distance_mm
    wide = model.extra_focal_sigma_mm * gap / max(model.collimator_distance_mm - model.extra_focal_distance_mm, 1.0)
    x, y = raster.centres_mm()
    return SourceBlur(
        _gaussian(raster.along_mm, raster.width_mm, focal),
        _gaussian(raster.across_mm, raster.width_mm, focal),
        _gaussian(raster.along_mm, raster.width_mm, wide),
        _gaussian(raster.across_mm, raster.width_mm, wide),
        float(model.extra_focal_fraction),
        np.asarray(model.relative_fluence(np.hypot(x, y)), dtype=np.float32),
    )


def _gaussian(centres_mm: NDArray[np.float64], width_mm: float, sigma_mm: float) -> NDArray[np.float32]:
    """Return the mean over each interval of another interval's Gaussian blur: a symmetric matrix."""
    from scipy.special import erf

    distance = np.abs(centres_mm[:, None] - centres_mm[None, :])
    if sigma_mm < 1e-3:
        return np.eye(len(centres_mm), dtype=np.float32)

    def integral(u: NDArray[np.float64]) -> NDArray[np.float64]:
        t = u / sigma_mm
        return 0.5 * u * erf(t / np.sqrt(2)) + sigma_mm / np.sqrt(2 * np.pi) * np.exp(-0.5 * t**2)

    matrix = (integral(distance + width_mm) - 2 * integral(distance) + integral(distance - width_mm)) / width_mm
    return matrix.astype(np.float32)
