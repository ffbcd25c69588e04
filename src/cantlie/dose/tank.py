"""A water tank: dose per monitor unit at the points of measured curves, by the engine and by a quick pencil sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.field import Field
from cantlie.dose.pencil import SIGMA_MM, PencilKernel, pencil_kernel
from cantlie.dose.phantom import on_lattice, phantom
from cantlie.dose.superposition import unit_dose
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.measured import MeasuredCurve, OutputFactors

_VOXEL_MM = 2.5
_AROUND_MM = 80.0
_BEHIND_MM = 80.0
_TAIL_MM = 90.0
_PIXEL_MM = 2.0
_SPLINE_MARGIN = 10
# Nodes and weights of a mean over a unit Gaussian (three points along each axis).
_NODES = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)])
_WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0


@dataclass(frozen=True, slots=True, eq=False)
class TankPoints:
    """Points in flat water, each in one open rectangular field that enters it perpendicularly.

    Parameters
    ----------
    x_mm, y_mm, depth_mm
        Where the points lie, shape (n,).
    half_x_mm, half_y_mm, ssd_mm
        Half widths of the field at the isocentre plane and the distance to the surface, shape (n,).
    runs
        Which points belong to each curve or set of output factors, in the order given.
    sad_mm
        Source-axis distance.
    """

    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    depth_mm: NDArray[np.float64]
    half_x_mm: NDArray[np.float64]
    half_y_mm: NDArray[np.float64]
    ssd_mm: NDArray[np.float64]
    runs: tuple[slice, ...]
    sad_mm: float = 1000.0

    @property
    def axial_mm(self) -> NDArray[np.float64]:
        """Distance from the source along the axis, shape (n,)."""
        return self.ssd_mm + self.depth_mm

    def fields(self) -> list[NDArray[np.int64]]:
        """Return the indices of the points of each field (size and distance)."""
        keys = np.stack([self.half_x_mm, self.half_y_mm, self.ssd_mm], axis=1)
        _, which = np.unique(keys, axis=0, return_inverse=True)
        return [np.flatnonzero(which.ravel() == n) for n in range(int(which.max()) + 1)]


def tank_points(sets: Sequence[MeasuredCurve | OutputFactors], sad_mm: float = 1000.0) -> TankPoints:
    """Return the points of curves and output factors, one run for each."""
    columns: list[list[NDArray[np.float64]]] = [[] for _ in range(6)]
    runs = []
    start = 0
    for item in sets:
        n = item.value.size
        if isinstance(item, MeasuredCurve):
            width = np.tile(np.asarray(item.field_mm), (n, 1))
            place = (item.x_mm, item.y_mm, item.depth_mm)
        else:
            width = item.field_mm
            place = (np.zeros(n), np.zeros(n), np.full(n, item.depth_mm))
        values = (*place, 0.5 * width[:, 0], 0.5 * width[:, 1], np.full(n, item.ssd_mm))
        for column, part in zip(columns, values, strict=True):
            column.append(np.asarray(part, dtype=np.float64))
        runs.append(slice(start, start + n))
        start += n
    x, y, depth, half_x, half_y, ssd = (np.concatenate(column) for column in columns)
    return TankPoints(x, y, depth, half_x, half_y, ssd, tuple(runs), sad_mm)


def tank_dose(model: BeamModel, points: TankPoints, progress: Progress = silent) -> NDArray[np.float64]:
    """Return the dose (Gy per MU) at points of a tank by the dose engine, shape (n,).

    Voxels are 2.5 mm and pixels of the fluence 2 mm wide, as in plans, since both widen the penumbra; between the
    middles of voxels cubic splines are read.
    """
    photon_factor = fluence_per_mu(model, points.sad_mm)
    electron_factor = model.electron_contamination * model.calibration.gy_per_mu
    result = np.zeros(points.x_mm.size)
    groups = points.fields()
    for number, group in enumerate(groups):
        progress(number / len(groups), f"dose of field {number + 1} of {len(groups)}")
        grid, field = _tank_field(model, points, group)
        patient = phantom(Volume(grid, np.ones(grid.shape, dtype=np.float32)), model, grid)
        photons, electrons = unit_dose(patient, field, model)
        dose = photons * np.float32(photon_factor)
        if electrons is not None:
            dose += electrons * np.float32(electron_factor)
        place = np.stack([points.x_mm[group], points.depth_mm[group], points.y_mm[group]], axis=1)
        result[group] = _spline(on_lattice(dose, patient.grid, grid), grid.index_from_mm(place))
    return result


def _tank_field(model: BeamModel, points: TankPoints, group: NDArray[np.int64]) -> tuple[Grid, Field]:
    """Return the water around the points of one field, its surface at y = 0, and the field from gantry 0."""
    first = group[0]
    half = (float(points.half_x_mm[first]), float(points.half_y_mm[first]))
    ssd, sad = float(points.ssd_mm[first]), points.sad_mm
    behind = float(points.depth_mm[group].max()) + _BEHIND_MM
    stretch = (ssd + behind) / sad
    reach = [
        max(width * stretch + _AROUND_MM, float(np.abs(place[group]).max()) + 20.0)
        for width, place in zip(half, (points.x_mm, points.y_mm), strict=True)
    ]
    nx, nz = (2 * int(np.ceil(width / _VOXEL_MM)) + 1 for width in reach)
    ny = int(np.ceil(behind / _VOXEL_MM))
    origin = (-0.5 * (nx - 1) * _VOXEL_MM, 0.5 * _VOXEL_MM, -0.5 * (nz - 1) * _VOXEL_MM)
    grid = Grid((nz, ny, nx), (_VOXEL_MM,) * 3, origin)
    pixels = [pixel_centres(-width - _TAIL_MM, width + _TAIL_MM, _PIXEL_MM) for width in half]
    aperture = Aperture((-half[0], half[0]), (-half[1], half[1]))
    fluence = aperture_fluence(aperture, 1.0, None, model, pixels[0], pixels[1], sad)
    return grid, Field(BeamGeometry((0.0, sad - ssd, 0.0), 0.0, sad_mm=sad), fluence)


def _spline(values: NDArray[np.float32], index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read an array between its voxels by cubic splines of the part around the points; index (n, 3) as [k, j, i]."""
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - _SPLINE_MARGIN, 0)
    high = np.ceil(index.max(axis=0)).astype(int) + _SPLINE_MARGIN + 1
    cut = values[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float64)
    return np.asarray(ndimage.map_coordinates(cut, (index - low).T, order=3, mode="nearest"))


def quick_dose(model: BeamModel, points: TankPoints) -> NDArray[np.float64]:
    """Return about the dose (Gy per MU) at points of a tank by pencil kernels, in milliseconds, shape (n,).

    A sum of Gaussians for an open rectangle in closed form (pencil kernels: Ahnesjö 1992, Med Phys 19:263). It is a
    few per cent off the engine, but it follows every change of the beam model nearly as the engine does.
    """
    calibration = model.calibration
    one = np.ones(1)
    half = 0.5 * calibration.field_mm * one
    at = TankPoints(
        0 * one, 0 * one, calibration.depth_mm * one, half, half, calibration.ssd_mm * one, (), points.sad_mm
    )
    fade = float(np.exp(-calibration.depth_mm / model.electron_contamination_depth_mm))
    scale = calibration.gy_per_mu / (_photons(model, at)[0] * (1.0 + model.electron_contamination * fade))
    result = scale * _photons(model, points)
    if model.electron_contamination:
        x, y, stretch = _projected(points)
        slant = points.depth_mm * stretch
        fluence = _open_share(model, points, x, y, np.zeros(1)) * model.relative_fluence(np.hypot(x, y))
        fluence *= np.exp(-slant / model.electron_contamination_depth_mm)
        fluence *= (points.sad_mm / (points.axial_mm * stretch)) ** 2
        result += model.electron_contamination * calibration.gy_per_mu * fluence
    return np.asarray(result)


def _projected(points: TankPoints) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y on the isocentre plane and the length of each ray over its axial length."""
    x = points.x_mm * points.sad_mm / points.axial_mm
    y = points.y_mm * points.sad_mm / points.axial_mm
    return x, y, np.sqrt(1.0 + (x**2 + y**2) / points.sad_mm**2)


@lru_cache(maxsize=32)
def _kernel(spectrum: BeamModel) -> PencilKernel:
    return pencil_kernel(spectrum)


def _photons(model: BeamModel, points: TankPoints) -> NDArray[np.float64]:
    x, y, stretch = _projected(points)
    slant = points.depth_mm * stretch * model.relative_attenuation(np.hypot(x, y))
    kernel = _kernel(
        BeamModel(
            name="spectrum",
            spectrum=model.spectrum,
            spectrum_edges_mev=model.spectrum_edges_mev,
            spectrum_weights=model.spectrum_weights,
        )
    )
    amount = kernel.at(slant)
    result = np.zeros(x.size)
    for kind, sigma_mm in enumerate(SIGMA_MM):
        blur = sigma_mm * points.sad_mm / points.axial_mm
        share = _open_share(model, points, x, y, blur)
        if model.off_axis_fluence:
            share = share * _mean_fluence(model, points, x, y, blur)
        result += amount[:, kind] * share
    return np.asarray(result * (points.sad_mm / (points.axial_mm * stretch)) ** 2)


def _open_share(
    model: BeamModel, points: TankPoints, x: NDArray[np.float64], y: NDArray[np.float64], blur: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the fluence of the jaws' opening, blurred by the two sources and a further Gaussian."""
    gap = points.sad_mm - model.collimator_distance_mm
    sharp = model.focal_spot_sigma_mm * gap / model.collimator_distance_mm
    shares = [(1.0 - model.extra_focal_fraction, sharp)]
    if model.extra_focal_fraction:
        wide = model.extra_focal_sigma_mm * gap / (model.collimator_distance_mm - model.extra_focal_distance_mm)
        shares.append((model.extra_focal_fraction, wide))
    opening = np.zeros(x.size)
    for share, source in shares:
        sigma = np.maximum(np.hypot(blur, source), 0.3)
        along = ndtr((points.half_x_mm - x) / sigma) - ndtr((-points.half_x_mm - x) / sigma)
        across = ndtr((points.half_y_mm - y) / sigma) - ndtr((-points.half_y_mm - y) / sigma)
        opening += share * along * across
    return model.jaw_transmission + (1.0 - model.jaw_transmission) * opening


def _mean_fluence(
    model: BeamModel, points: TankPoints, x: NDArray[np.float64], y: NDArray[np.float64], blur: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of the profile of the open beam around each point, as far as the field reaches."""
    xs = np.clip(x[:, None] + blur[:, None] * _NODES, -points.half_x_mm[:, None], points.half_x_mm[:, None])
    ys = np.clip(y[:, None] + blur[:, None] * _NODES, -points.half_y_mm[:, None], points.half_y_mm[:, None])
    fluence = model.relative_fluence(np.hypot(xs[:, :, None], ys[:, None, :]))
    return np.asarray(np.einsum("nij,i,j->n", fluence, _WEIGHTS, _WEIGHTS))
