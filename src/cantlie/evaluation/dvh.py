"""Dose-volume histograms from partial-volume masks and interpolated dose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import GeometryError, StructureError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.sampling import accumulate, scan_nodes

BINS = 1 << 14
_INNER_STEP_MM = 2.5
_SURFACE_STEP_MM = 1.0
_SURFACE_LEAST = 3
_MOST_PER_AXIS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Dvh:
    """The distribution of dose over the volume of a structure.

    Attributes
    ----------
    dose_gy
        Edges of the dose bins in Gy, from 0 to the maximum, shape (n + 1,). The bins are so narrow (maximum / 16384)
        that what is read between them is as good as exact.
    differential_cc
        Volume in each bin in cm³, shape (n,).
    cumulative_cc
        Volume that gets at least the dose of each edge, in cm³, shape (n + 1,).
    volume_cc, min_gy, mean_gy, max_gy
        Volume of the structure and the least, mean and largest dose in it.
    uncovered_cc
        Volume outside the dose grid; it counts with 0 Gy.
    """

    name: str
    dose_gy: NDArray[np.float64]
    differential_cc: NDArray[np.float64]
    cumulative_cc: NDArray[np.float64]
    volume_cc: float
    min_gy: float
    mean_gy: float
    max_gy: float
    uncovered_cc: float = 0.0
    notes: tuple[Note, ...] = ()

    def volume_at_dose_cc(self, dose_gy: ArrayLike) -> NDArray[np.float64]:
        """Return the volume in cm³ that gets at least a dose in Gy, for any array of doses."""
        dose = np.asarray(dose_gy, dtype=np.float64)
        volume = np.interp(dose, self.dose_gy, self.cumulative_cc)
        volume = np.where(dose <= self.min_gy, self.volume_cc, volume)
        result: NDArray[np.float64] = np.where(dose > self.max_gy, 0.0, volume)
        return result

    def volume_at_dose_percent(self, dose_gy: ArrayLike) -> NDArray[np.float64]:
        """Return the share of the structure in % that gets at least a dose in Gy, for any array of doses."""
        return self.volume_at_dose_cc(dose_gy) * (100.0 / self.volume_cc)

    def dose_at_volume_gy(self, volume_cc: ArrayLike) -> NDArray[np.float64]:
        """Return the least dose in Gy in the hottest ``volume_cc`` cm³, for any array of volumes.

        Raises
        ------
        StructureError
            If a volume is larger than the structure.
        """
        volume = np.asarray(volume_cc, dtype=np.float64)
        if (volume > self.volume_cc * (1 + 1e-9)).any():
            raise StructureError(
                f"the structure has {self.volume_cc:.3g} cc, less than the {volume.max():g} cc asked for",
                where=self.name,
            )
        falling = self.cumulative_cc[::-1]
        found = np.interp(volume, falling, self.dose_gy[::-1])
        result: NDArray[np.float64] = np.clip(found, self.min_gy, self.max_gy)
        return result

    def dose_at_percent_gy(self, volume_percent: ArrayLike) -> NDArray[np.float64]:
        """Return the least dose in Gy in the hottest ``volume_percent`` % of the structure (D95% = 95)."""
        return self.dose_at_volume_gy(np.asarray(volume_percent, dtype=np.float64) * (self.volume_cc / 100.0))

    def curve(self, step_gy: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return dose in Gy in even steps from 0 to past the maximum and the volume in cm³ that gets at least it."""
        dose = np.arange(0.0, self.max_gy + 2 * step_gy, step_gy)
        return dose, self.volume_at_dose_cc(dose)


def dvh(dose: Volume, fractions: NDArray[np.float32], grid: Grid, *, name: str = "") -> Dvh:
    """Return the DVH of a structure.

    Voxels count with the share of them that lies inside the structure. Inside a voxel the dose is interpolated
    trilinearly at evenly spaced points, close enough for the voxel size and the dose grid. In a voxel on the surface
    only those points count that lie on the inner side of the plane that cuts off the voxel's share, across the
    gradient of the shares (as in the volume-of-fluid method of Youngs 1982). The maximum is that of these points and of
    the dose grid's own voxels wholly inside the structure.

    Parameters
    ----------
    dose
        Dose in Gy on any grid.
    fractions
        Share of every voxel inside the structure, 0 to 1, shape ``grid.shape``.
    grid
        The grid of ``fractions``.
    name
        Name of the structure, for messages.

    Raises
    ------
    GeometryError
        If ``fractions`` does not have the shape of ``grid``.
    StructureError
        If the structure has no volume on the grid or the dose is not finite in it.
    """
    if fractions.shape != grid.shape:
        raise GeometryError(f"mask of shape {fractions.shape} on a grid of shape {grid.shape}", where=name)
    box = _bounding_box(fractions)
    if box is None:
        raise StructureError(
            "the structure has no volume on this grid",
            where=name,
            remedy="check its contours and the image they lie on",
        )
    shares = np.ascontiguousarray(fractions[box], dtype=np.float32)
    spacing = np.asarray(grid.spacing_mm)[::-1]
    origin = np.asarray(grid.origin_mm)[::-1] + spacing * np.array([part.start for part in box])
    dose_spacing = np.asarray(dose.grid.spacing_mm)[::-1]
    dose_origin = np.asarray(dose.grid.origin_mm)[::-1]
    values, dose_origin = _dose_near(dose, origin, spacing, shares.shape, dose_origin, dose_spacing)
    if not np.isfinite(values).all():
        raise StructureError("the dose is not a number somewhere in the structure", where=name)
    inner = np.clip(np.ceil(spacing / np.minimum(_INNER_STEP_MM, 0.9 * dose_spacing)), 1, _MOST_PER_AXIS)
    surface = np.clip(np.ceil(spacing / _SURFACE_STEP_MM), _SURFACE_LEAST, _MOST_PER_AXIS)
    top = float(values.max(initial=0.0))
    if float(values.min(initial=0.0)) < 0:
        raise StructureError("the dose is negative somewhere in the structure", where=name)
    steps = np.zeros(BINS + 2)
    extremes = accumulate(
        shares,
        origin,
        spacing,
        values,
        dose_origin,
        dose_spacing,
        inner.astype(np.int64),
        surface.astype(np.int64),
        BINS / top if top > 0 else 0.0,
        steps,
    )
    weight, weighted_dose, low, high, outside = extremes
    node_low, node_high = scan_nodes(shares, origin, spacing, values, dose_origin, dose_spacing)
    voxel_cc = grid.voxel_cc
    return _finished(
        name,
        np.maximum(np.cumsum(steps)[:BINS], 0.0) * voxel_cc,
        top,
        volume_cc=weight * voxel_cc,
        mean_gy=weighted_dose / weight,
        min_gy=min(low, node_low),
        max_gy=max(high, node_high),
        uncovered_cc=outside * voxel_cc,
    )


def _finished(
    name: str,
    differential: NDArray[np.float64],
    top: float,
    *,
    volume_cc: float,
    mean_gy: float,
    min_gy: float,
    max_gy: float,
    uncovered_cc: float,
) -> Dvh:
    count = int(np.flatnonzero(differential > 1e-9 * differential.sum())[-1]) + 1
    width = (top if top > 0 else 1.0) / BINS
    differential = differential[:count] * (volume_cc / differential.sum())
    cumulative = np.concatenate([np.cumsum(differential[::-1])[::-1], [0.0]])
    cumulative[0] = volume_cc
    notes: tuple[Note, ...] = ()
    if uncovered_cc > 1e-3 * volume_cc:
        share = 100.0 * uncovered_cc / volume_cc
        message = f"{uncovered_cc:.1f} cc ({share:.1f} %) lie outside the dose grid and count with 0 Gy"
        notes = (Note(message, where=name),)
    return Dvh(
        name=name,
        dose_gy=width * np.arange(count + 1, dtype=np.float64),
        differential_cc=differential,
        cumulative_cc=cumulative,
        volume_cc=volume_cc,
        min_gy=min_gy,
        mean_gy=mean_gy,
        max_gy=max_gy,
        uncovered_cc=uncovered_cc,
        notes=notes,
    )


def _bounding_box(fractions: NDArray[np.float32]) -> tuple[slice, slice, slice] | None:
    """Return the box around all voxels with a share above 0, or None."""
    planes = np.flatnonzero(np.any(fractions, axis=(1, 2)))
    if not planes.size:
        return None
    part = fractions[planes[0] : planes[-1] + 1]
    image: NDArray[np.bool_] = np.any(part, axis=0)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return (
        slice(int(planes[0]), int(planes[-1]) + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def _dose_near(
    dose: Volume,
    origin: NDArray[np.float64],
    spacing: NDArray[np.float64],
    shape: tuple[int, ...],
    dose_origin: NDArray[np.float64],
    dose_spacing: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the part of the dose that interpolation in a box of voxels can reach, and its origin (z, y, x).

    The edge of the dose grid is kept where the box goes beyond it, so that inside and outside stay what they are.
    """
    low = (origin - 0.5 * spacing - dose_origin) / dose_spacing
    high = (origin + (np.asarray(shape) - 0.5) * spacing - dose_origin) / dose_spacing
    count = np.asarray(dose.values.shape)
    start = np.clip(np.floor(low).astype(int) - 1, 0, count - 1)
    stop = np.clip(np.ceil(high).astype(int) + 2, start + 1, count)
    part = dose.values[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    return np.ascontiguousarray(part, dtype=np.float32), dose_origin + start * dose_spacing
