"""An independent check: dose at points by pencil kernels with path correction; it shares no transport with the engine.

For each point the water-equivalent depth is measured along its own ray, and the fluence around the ray is blurred by
the Gaussians of :mod:`cantlie.dose.pencil` at that depth. Neither lateral heterogeneity nor the patient's outline is
known to it, so that it agrees with the collapsed cone where the dose is flat and the medium like water around the
point, and an error of calibration, geometry, depth or monitor units shows there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from cantlie.core.errors import DoseError
from cantlie.core.volume import Volume
from cantlie.dose.attenuation import water_equivalent_ratio
from cantlie.dose.field import Field
from cantlie.dose.pencil import SIGMA_MM, pencil_kernel
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres

_STEP_MM = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class IndependentCheck:
    """Two doses at the same points of low gradient.

    Parameters
    ----------
    points_mm
        Points (x, y, z), shape (n, 3).
    dose_gy, independent_gy
        The engine's dose and that of the independent algorithm, shape (n,).
    """

    points_mm: NDArray[np.float64]
    dose_gy: NDArray[np.float64]
    independent_gy: NDArray[np.float64]

    @property
    def difference_percent(self) -> NDArray[np.float64]:
        """Independent minus engine, in per cent of the engine's dose, shape (n,)."""
        return np.asarray(100.0 * (self.independent_gy / self.dose_gy - 1.0))

    @property
    def median_percent(self) -> float:
        """Median of the differences."""
        return float(np.median(self.difference_percent))

    def share_within(self, tolerance_percent: float = 5.0) -> float:
        """Return the share of the points whose doses agree within a tolerance."""
        return float((np.abs(self.difference_percent) <= tolerance_percent).mean())


def independent_check(
    density: Volume,
    fields: Sequence[Field],
    model: BeamModel,
    dose: Volume,
    *,
    count: int = 300,
    gradient_percent_per_mm: float = 1.0,
    seed: int = 0,
) -> IndependentCheck:
    """Compare a dose with the independent algorithm at random points of high dose and low gradient.

    Parameters
    ----------
    density, fields, model
        As for :func:`cantlie.dose.collapsed_cone.collapsed_cone_dose`.
    dose
        The dose (Gy) of these fields.
    count
        Number of points, fewer if there are not so many voxels above half of the maximum.
    gradient_percent_per_mm
        What counts as a low gradient, relative to the maximum.
    seed
        Of the choice of points.

    Raises
    ------
    DoseError
        If no voxel has a high dose and a low gradient.
    """
    values = np.asarray(dose.values, dtype=np.float64)
    top = values.max()
    steep = np.zeros_like(values)
    for axis, spacing in enumerate(dose.grid.spacing_mm[::-1]):
        if values.shape[axis] > 1:
            steep = np.maximum(steep, np.abs(np.gradient(values, spacing, axis=axis)))
    at_voxels = density.resample(dose.grid).values
    chosen = np.flatnonzero((values > 0.5 * top) & (steep < 0.01 * gradient_percent_per_mm * top) & (at_voxels > 0.8))
    if chosen.size == 0:
        raise DoseError("no voxel has a high dose and a low gradient, so that the independent check has no points")
    picked = np.random.default_rng(seed).choice(chosen, min(count, chosen.size), replace=False)
    picked.sort()
    points = dose.grid.mm_from_index(np.stack(np.unravel_index(picked, dose.grid.shape), axis=-1))
    return IndependentCheck(points, values.ravel()[picked], independent_dose(density, fields, model, points))


def independent_dose(
    density: Volume, fields: Sequence[Field], model: BeamModel, points_mm: ArrayLike
) -> NDArray[np.float64]:
    """Return the dose (Gy, to the medium) at points by pencil kernels with path correction.

    Parameters
    ----------
    density
        Mass density (g/cm³), air around the patient.
    fields
        Beam directions with their fluence.
    model
        The beam model. Electron contamination is left out.
    points_mm
        Points (x, y, z), shape (n, 3).

    Returns
    -------
    ndarray
        Dose, shape (n,).
    """
    points = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
    ratio = water_equivalent_ratio(np.maximum(density.values, 0), model)
    equivalent = Volume(density.grid, np.asarray(density.values, dtype=np.float32) * ratio)
    to_medium = Volume(density.grid, ratio).sample(points, outside=1.0)
    total = np.zeros(points.shape[0])
    for field in fields:
        source = field.geometry.source_mm
        depth = _depths(
            np.ascontiguousarray(equivalent.values), np.asarray(density.grid.lower_mm),
            np.asarray(density.grid.spacing_mm), source, points,
        )  # fmt: skip
        x, y, axial = field.geometry.project(points)
        distance = np.linalg.norm(points - source, axis=1)
        sad = field.geometry.sad_mm
        total += _scale(model, sad) * _dose_of_field(field, model, x, y, axial, distance, depth, sad)
    return total * to_medium


@lru_cache(maxsize=8)
def _scale(model: BeamModel, sad: float) -> float:
    """Return the fluence of a monitor unit by this algorithm's own dose at the calibration point."""
    calibration = model.calibration
    half = 0.5 * calibration.field_mm
    pixels = pixel_centres(-half - 60.0, half + 60.0, 2.0)
    fluence = aperture_fluence(Aperture((-half, half), (-half, half)), 1.0, None, model, pixels, pixels, sad)
    place = calibration.ssd_mm + calibration.depth_mm
    zero, at = np.zeros(1), np.array([place])
    dose = _weighted(
        np.asarray(fluence.values_mu, dtype=np.float64),
        pixels,
        pixels,
        2.0,
        model,
        zero,
        zero,
        at,
        at,
        np.array([calibration.depth_mm]),
        sad,
    )
    return calibration.gy_per_mu / float(dose[0])


def _dose_of_field(
    field: Field,
    model: BeamModel,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    axial: NDArray[np.float64],
    distance: NDArray[np.float64],
    depth: NDArray[np.float64],
    sad_mm: float,
) -> NDArray[np.float64]:
    fluence = field.fluence
    values = np.asarray(fluence.values_mu, dtype=np.float64)
    return _weighted(values, fluence.x_mm, fluence.y_mm, fluence.pixel_mm, model, x, y, axial, distance, depth, sad_mm)


def _weighted(
    values: NDArray[np.float64],
    columns_mm: NDArray[np.float64],
    rows_mm: NDArray[np.float64],
    pixel_mm: float,
    model: BeamModel,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    axial: NDArray[np.float64],
    distance: NDArray[np.float64],
    depth: NDArray[np.float64],
    sad_mm: float,
) -> NDArray[np.float64]:
    slant = depth * model.relative_attenuation(np.hypot(x, y))
    amount = pencil_kernel(model).at(slant)
    half = 0.5 * pixel_mm
    result = np.zeros(x.size)
    for kind, sigma_mm in enumerate(SIGMA_MM):
        sigma = (sigma_mm * sad_mm / axial)[:, None]
        off_x, off_y = columns_mm - x[:, None], rows_mm - y[:, None]
        share_x = ndtr((off_x + half) / sigma) - ndtr((off_x - half) / sigma)
        share_y = ndtr((off_y + half) / sigma) - ndtr((off_y - half) / sigma)
        result += amount[:, kind] * np.einsum("ny,nx,yx->n", share_y, share_x, values, optimize=True)
    return np.asarray(result * (sad_mm / distance) ** 2)


@numba.njit(cache=True, nogil=True)
def _depths(density, lower, spacing, source, points):  # type: ignore[no-untyped-def]
    """Return the water-equivalent length (mm) from the source to each point, by samples of the nearest voxel."""
    nk, nj, ni = density.shape
    result = np.zeros(points.shape[0])
    for n in range(points.shape[0]):
        direction = points[n] - source
        length = np.sqrt((direction**2).sum())
        direction /= length
        total = 0.0
        travelled = 0.5 * _STEP_MM
        while travelled < length:
            i = int(np.floor((source[0] + travelled * direction[0] - lower[0]) / spacing[0]))
            j = int(np.floor((source[1] + travelled * direction[1] - lower[1]) / spacing[1]))
            k = int(np.floor((source[2] + travelled * direction[2] - lower[2]) / spacing[2]))
            if 0 <= i < ni and 0 <= j < nj and 0 <= k < nk:
                total += density[k, j, i]
            travelled += _STEP_MM
        result[n] = total * _STEP_MM
    return result
