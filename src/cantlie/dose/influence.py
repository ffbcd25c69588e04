"""Influence: the dose of every beamlet in every voxel, as an operator that never writes the matrix down.

The dose of a beam is, on planes across its axis, a sum of Gaussian blurs of its fluence (:mod:`cantlie.dose.pencil`),
each separable (:mod:`cantlie.dose.plane_blurs`); a voxel reads its dose between two planes. The whole of it is linear
in the fluence, has an exact adjoint and is quick enough to be what an optimiser multiplies with at every step. What a
pencil beam cannot know (the patient's heterogeneity across the rays) comes in as a factor per voxel and beam: the
collapsed-cone dose of the open beam over the pencil-beam dose of the open beam. Tails are not cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.threads import shared_out, spans
from cantlie.core.volume import Volume
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.collapsed_cone import Accumulator, CpuDose, accumulator
from cantlie.dose.device import Device, chosen
from cantlie.dose.field import Field
from cantlie.dose.pencil import SIGMA_MM, pencil_kernel
from cantlie.dose.phantom import Phantom, on_lattice, phantom
from cantlie.dose.plane_blurs import PlaneBlurs
from cantlie.dose.plane_reading import add_read, read_places, rows_read, write
from cantlie.dose.rays import trace
from cantlie.machine.aperture import FluenceMap
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry

_PLANE_STEP_MM = 15.0
_FINE_MM = 2.5
_COARSE_MM = 12.5
_FINE_MARGIN_MM = 15.0
_FAR_MM = 200.0
_SHARE_VOXELS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Beamlets:
    """The beamlets of one beam direction: squares of one lattice of the isocentre plane.

    Parameters
    ----------
    geometry
        The beam direction.
    x_mm, y_mm
        Centres, shape (n,), which differ by whole numbers of widths.
    width_mm
        Width of a beamlet.
    """

    geometry: BeamGeometry
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    width_mm: float

    @property
    def count(self) -> int:
        """Number of beamlets."""
        return int(self.x_mm.size)

    def lattice(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        """Return centres of the columns and rows of the smallest lattice, and the column and row of each beamlet.

        Raises
        ------
        DoseError
            If the beamlets are none, or do not lie on one lattice.
        """
        if self.x_mm.size == 0 or self.x_mm.shape != self.y_mm.shape or self.width_mm <= 0:
            raise DoseError("a beam has no beamlets, or their positions do not match")
        places = []
        for centres in (self.x_mm, self.y_mm):
            position = (centres - centres.min()) / self.width_mm
            index = np.rint(position).astype(np.intp)
            if np.abs(position - index).max() > 1e-3:
                raise DoseError("the beamlets of a beam do not lie on a lattice of their width")
            places.append(index)
        column, row = places
        x = self.x_mm.min() + self.width_mm * np.arange(max(int(column.max()) + 1, 2))
        y = self.y_mm.min() + self.width_mm * np.arange(max(int(row.max()) + 1, 2))
        return x, y, column, row

    def fluence(self, weights_mu: ArrayLike) -> FluenceMap:
        """Return the fluence map of beamlet weights."""
        x, y, column, row = self.lattice()
        values = np.zeros((y.size, x.size))
        values[row, column] = np.asarray(weights_mu, dtype=np.float64)
        return FluenceMap(x, y, values)


@dataclass(frozen=True, slots=True, eq=False)
class _BeamOperator:
    """One beam: blurs onto planes, then reading at voxels."""

    column: NDArray[np.intp]
    row: NDArray[np.intp]
    blurs: PlaneBlurs
    base: NDArray[np.int32]  # (voxels,) index of the lower corner among the nodes of all planes
    part: NDArray[np.float32]  # (voxels, 3) fractions along plane, y, x
    factor: NDArray[np.float32]  # (voxels,)

    @property
    def nbytes(self) -> int:
        return self.blurs.nbytes + self.base.nbytes + self.part.nbytes + self.factor.nbytes

    def planes(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the dose at the nodes of all planes."""
        return self.blurs.forward(self.row, self.column, weights)

    def add_read(self, planes: NDArray[np.float32], dose: NDArray[np.float32], voxels: slice) -> None:
        """Add what some voxels read on the planes."""
        add_read(planes, self.base[voxels], self.part[voxels], self.factor[voxels], dose[voxels])

    def gather(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the transpose: what values per voxel are worth for each beamlet."""
        planes = np.zeros(self.blurs.plane_shape, dtype=np.float32)
        write(planes, self.base, self.part, self.factor, values)
        return self.blurs.adjoint(self.row, self.column, planes)


@dataclass(frozen=True, slots=True, eq=False)
class Influence:
    """The linear map from beamlet weights (MU) to dose (Gy) in chosen voxels.

    Parameters
    ----------
    grid
        The dose grid.
    voxels
        Flat indices into the grid of the voxels (rows), shape (n_voxels,).
    offsets
        First beamlet (column) of each beam, and the total, shape (n_beams + 1,).
    """

    grid: Grid
    voxels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    beams: tuple[_BeamOperator, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of voxels and of beamlets."""
        return int(self.voxels.size), int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        """Memory that the operator holds."""
        return int(self.voxels.nbytes + sum(beam.nbytes for beam in self.beams))

    def of_beam(self, number: int) -> Influence:
        """Return the influence of one of the beams."""
        count = self.offsets[number + 1] - self.offsets[number]
        return replace(self, offsets=np.array([0, count]), beams=self.beams[number : number + 1])

    def forward(self, weights_mu: ArrayLike) -> NDArray[np.float32]:
        """Return the dose in Gy, shape (n_voxels,), of beamlet weights in MU, shape (n_beamlets,)."""
        weights = np.asarray(weights_mu, dtype=np.float32)
        if weights.shape != (self.shape[1],):
            raise DoseError(f"{weights.size} beamlet weights for {self.shape[1]} beamlets")

        own = [slice(a, b) for a, b in pairwise(self.offsets.tolist())]
        planes = shared_out(lambda one: one[0].planes(weights[one[1]]), zip(self.beams, own, strict=True))
        dose = np.zeros(self.voxels.size, dtype=np.float32)

        def read(voxels: slice) -> None:
            for beam, on_planes in zip(self.beams, planes, strict=True):
                beam.add_read(on_planes, dose, voxels)

        shared_out(read, spans(self.voxels.size, _SHARE_VOXELS))
        return dose

    def adjoint(self, gradient: ArrayLike) -> NDArray[np.float32]:
        """Return the transpose applied to values per voxel, shape (n_voxels,): one value per beamlet."""
        values = np.asarray(gradient, dtype=np.float32)
        if values.shape != (self.shape[0],):
            raise DoseError(f"{values.size} voxel values for {self.shape[0]} voxels")
        return np.concatenate(shared_out(lambda beam: beam.gather(values), self.beams))

    def volume(self, dose_gy: ArrayLike) -> Volume:
        """Return a dose per voxel as a volume, zero in voxels that are not in the operator."""
        values = np.zeros(self.grid.size, dtype=np.float32)
        values[self.voxels] = np.asarray(dose_gy)
        return Volume(self.grid, values.reshape(self.grid.shape))


def influence_matrix(
    density: Volume,
    beamlets: Sequence[Beamlets],
    model: BeamModel,
    grid: Grid,
    voxels: NDArray[np.bool_] | NDArray[np.integer] | None = None,
    *,
    medium: Literal["medium", "water"] = "medium",
    progress: Progress = silent,
    device: Device | None = None,
) -> Influence:
    """Return the influence of beamlets on the dose of voxels.

    Parameters
    ----------
    density
        Mass density of the patient (g/cm³), as for :func:`cantlie.dose.collapsed_cone.collapsed_cone_dose`.
    beamlets
        The beamlets of each beam.
    model
        The beam model. Focal spot and horns are part of the beamlets' dose; extra-focal radiation enters through the
        factor of the open beam.
    grid
        The dose grid of the optimisation.
    voxels
        Which voxels are rows: a mask of shape ``grid.shape`` or flat indices; all if None.
    medium
        Dose to the local medium, or to water in the same place.
    device
        Where the collapsed cones are computed, as for :func:`cantlie.dose.collapsed_cone.collapsed_cone_dose`.

    Raises
    ------
    DoseError
        If there is no patient in the volume, beamlets are not on a lattice, or there is no GPU for ``cuda``.
    """
    if voxels is None:
        rows = np.arange(grid.size, dtype=np.int64)
    elif voxels.dtype == np.bool_:
        if voxels.shape != grid.shape:
            raise DoseError(f"a mask of shape {voxels.shape} for a dose grid of shape {grid.shape}")
        rows = np.flatnonzero(voxels).astype(np.int64)
    else:
        rows = np.asarray(voxels, dtype=np.int64).ravel()
    patient = phantom(density, model, grid)
    pencil_kernel(model), fluence_per_mu(model)  # once, before all beams ask for them at the same time
    done = count(1)

    def corrected(operator: _BeamOperator, beam: Beamlets, dose: Accumulator) -> _BeamOperator:
        factor = _factor(operator, beam, patient, dose, grid, rows, medium)
        progress(next(done) / len(beamlets), f"influence of {len(beamlets)} beams")
        return replace(operator, factor=factor)

    def on_cpu(beam: Beamlets) -> _BeamOperator:
        return corrected(_beam_operator(patient, beam, model, grid, rows), beam, CpuDose(patient, model))

    if chosen(device) == "cpu":
        operators = shared_out(on_cpu, beamlets)
    else:  # one GPU computes one beam after another, on the patient that it holds
        bare = shared_out(lambda beam: _beam_operator(patient, beam, model, grid, rows), beamlets)
        dose = accumulator(patient, model, device)
        operators = [corrected(operator, beam, dose) for operator, beam in zip(bare, beamlets, strict=True)]
    progress(1.0, "influence")
    offsets = np.concatenate([[0], np.cumsum([beam.count for beam in beamlets])]).astype(np.int64)
    return Influence(grid, rows, offsets, tuple(operators))


def _nodes(low_mm: float, high_mm: float) -> NDArray[np.float64]:
    """Return node positions: fine across the field and its penumbra, coarse far out, where the dose is smooth."""
    low, high = low_mm - _FINE_MARGIN_MM, high_mm + _FINE_MARGIN_MM
    fine = np.linspace(low, high, int(np.ceil((high - low) / _FINE_MM)) + 1)
    outside = np.geomspace(_COARSE_MM, _FAR_MM, 10)
    return np.concatenate([low - outside[::-1], fine, high + outside])


def _beam_operator(
    patient: Phantom, beam: Beamlets, model: BeamModel, grid: Grid, rows: NDArray[np.int64]
) -> _BeamOperator:
    """Return the operator of a beam as pencil beams have it: without the factor of each voxel."""
    geometry = beam.geometry
    x_beamlets, y_beamlets, column, row = beam.lattice()
    half = 0.5 * beam.width_mm
    x_range = (float(x_beamlets[0] - half), float(x_beamlets[-1] + half))
    y_range = (float(y_beamlets[0] - half), float(y_beamlets[-1] + half))

    # Mean water-equivalent depth and density of the beam's rays at each plane across the axis.
    rays = trace(geometry, patient.density, patient.grid, x_range, y_range, 2 * beam.width_mm, _PLANE_STEP_MM)
    covered = np.zeros((y_beamlets.size, x_beamlets.size), dtype=bool)
    covered[row, column] = True
    ray_x = np.arange(rays.depth_mm.shape[2]) * rays.pitch_mm + rays.first_mm[0]
    ray_y = np.arange(rays.depth_mm.shape[1]) * rays.pitch_mm + rays.first_mm[1]
    open_x = np.clip(np.rint((ray_x - x_beamlets[0]) / beam.width_mm).astype(int), 0, x_beamlets.size - 1)
    open_y = np.clip(np.rint((ray_y - y_beamlets[0]) / beam.width_mm).astype(int), 0, y_beamlets.size - 1)
    weight = covered[np.ix_(open_y, open_x)].astype(np.float64)
    if weight.sum() == 0:
        weight[:] = 1.0
    mean_depth = np.tensordot(rays.depth_mm.astype(np.float64), weight, axes=2) / weight.sum()
    planes = rays.start_mm + rays.step_mm * np.arange(mean_depth.size)
    local = np.clip(np.gradient(mean_depth, rays.step_mm), 0.2, 1.5)

    # Planes and nodes from the first to the last that a voxel reads.
    (planes, nodes_y, nodes_x), (used, _, _), index, part = read_places(
        grid, rows, geometry, (planes, _nodes(*y_range), _nodes(*x_range))
    )
    mean_depth, local = mean_depth[used], local[used]
    amount = pencil_kernel(model).at(mean_depth) * fluence_per_mu(model, geometry.sad_mm)
    amount *= ((geometry.sad_mm / planes) ** 2)[:, None]
    blur_x, blur_y = _blurs(
        geometry, model, planes, local, amount, nodes_x, x_beamlets, nodes_y, y_beamlets, half, grid.spacing_mm
    )
    blurs = PlaneBlurs.of(blur_x, blur_y, rows_read(index, planes.size))
    base = np.ravel_multi_index(tuple(index.T), blurs.plane_shape).astype(np.int32)
    return _BeamOperator(column, row, blurs, base, part, np.ones(rows.size, dtype=np.float32))


def _factor(
    operator: _BeamOperator,
    beam: Beamlets,
    patient: Phantom,
    dose: Accumulator,
    grid: Grid,
    rows: NDArray[np.int64],
    medium: Literal["medium", "water"],
) -> NDArray[np.float32]:
    """Return the open beam's collapsed cone over its pencil beams; far from the beam their ratio fades to one."""
    narrow = np.zeros(rows.size, dtype=np.float32)
    operator.add_read(operator.planes(np.ones(beam.count, dtype=np.float32)), narrow, slice(None))
    dose.add([Field(beam.geometry, beam.fluence(np.ones(beam.count)))])
    open_beam = dose.total()
    if medium == "medium":
        open_beam *= patient.ratio
    exact = on_lattice(open_beam, patient.grid, grid).ravel()[rows]
    floor = np.float32(0.02) * narrow.max(initial=np.float32(1e-20))
    return np.clip((exact + floor) / (narrow + floor), 0.0, 5.0).astype(np.float32)


def _blurs(
    geometry: BeamGeometry,
    model: BeamModel,
    planes_mm: NDArray[np.float64],
    local_density: NDArray[np.float64],
    amount: NDArray[np.float64],
    nodes_x: NDArray[np.float64],
    x_beamlets: NDArray[np.float64],
    nodes_y: NDArray[np.float64],
    y_beamlets: NDArray[np.float64],
    half_mm: float,
    spacing_mm: tuple[float, float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of each Gaussian, around each node, that falls on each column and row of beamlets.

    Widths are those of water over the local density, and contain the voxel, read as a mean, and the focal spot.
    """
    focal = model.focal_spot_sigma_mm * (geometry.sad_mm - model.collimator_distance_mm) / model.collimator_distance_mm
    # Reading between nodes is a blur of its own (on average the variance of a sixth of their distance squared).
    voxel = max(float(np.mean(np.square(spacing_mm))) / 12.0 - _FINE_MM**2 / 6.0, 0.0)
    widths = []
    for plane, density in zip(planes_mm, local_density, strict=True):
        sigma = SIGMA_MM / density
        widths.append(np.sqrt(sigma**2 + voxel) * geometry.sad_mm / plane)
    sigma = np.sqrt(np.square(widths) + focal**2)[:, :, None, None]

    def shares(nodes: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
        edges = np.append(
            centres - half_mm, centres[-1] + half_mm
        )  # of one lattice: each closes one and opens the next
        return np.diff(ndtr((edges[None, :] - nodes[:, None]) / sigma), axis=-1)

    blur_x = shares(nodes_x, x_beamlets) * amount[:, :, None, None]
    if model.off_axis_fluence:
        blur_x *= model.relative_fluence(np.abs(x_beamlets))
    blur_y = shares(nodes_y, y_beamlets)
    return blur_x, blur_y
