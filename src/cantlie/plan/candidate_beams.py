"""Candidate beams: the dose engine's influence of many directions in few voxels, quick enough to choose among."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.progress import Progress, silent
from cantlie.core.threads import shared_out
from cantlie.core.volume import Volume
from cantlie.dose.influence import Beamlets, Influence, influence_matrix
from cantlie.machine.beam_model import BeamModel
from cantlie.plan.beam_choice import CandidateBeam
from cantlie.plan.raster import Raster

LEAST_SHARE = 0.002
"""Beamlets that give a voxel less than this share of the most that their beam gives are left out; what remains makes up
for it, or the beamlet that gives most where all give little."""


def opening_width_mm(points_mm: NDArray[np.float64]) -> float:
    """Return a width of openings at which the largest extent of a target takes about seven, 5 to 12 mm."""
    return float(np.clip(np.ptp(points_mm, axis=0).max() / 7.0, 5.0, 12.0))


def candidate_beams(
    rasters: Sequence[Raster],
    density: Volume,
    model: BeamModel,
    grid: Grid,
    voxels: NDArray[np.integer],
    in_target: NDArray[np.float64],
    *,
    opening_mm: float,
    extra: Sequence[float] = (),
    whole: bool = False,
    progress: Progress = silent,
) -> tuple[CandidateBeam, ...]:
    """Return candidates for `BeamSearch`.

    Parameters
    ----------
    rasters
        The beamlets of each direction.
    density
        Mass density in g/cm³.
    grid, voxels
        The voxels: flat indices into a grid, shape (m,).
    in_target
        Share of the target's volume that each voxel stands for, shape (m,); the sum is 1.
    opening_mm
        Beamlets under the same leaves are opened together, about as many as this width holds.
    extra
        What choosing each direction costs beside its dose (see `CandidateBeam`).
    whole
        Open all beamlets of a direction together: fields that are not modulated.
    """
    beamlets = []
    for raster in rasters:
        x, y = raster.centres_mm()
        beamlets.append(Beamlets(raster.geometry, x[raster.used], y[raster.used], raster.width_mm))
    influence = influence_matrix(density, beamlets, model, grid, voxels, progress=progress)

    def candidate(number: int) -> CandidateBeam:
        raster = rasters[number]
        together = np.zeros(beamlets[number].count, dtype=np.intp) if whole else opened_together(raster, opening_mm)
        openings = np.eye(int(together.max()) + 1, dtype=np.float32)[:, together]
        start, index, value = _rows(influence.of_beam(number), openings)
        rows = np.repeat(in_target, np.diff(start))
        to_target = np.bincount(index, rows * value, len(openings)).astype(np.float64)
        axis = np.asarray(raster.geometry.axes[2])
        return CandidateBeam(axis, start, index, value, to_target, extra[number] if extra else 0.0)

    return tuple(shared_out(candidate, range(len(rasters))))


def opened_together(raster: Raster, opening_mm: float) -> NDArray[np.intp]:
    """Return for each used beamlet the number of the opening that it belongs to.

    An opening is as wide as ``opening_mm`` in both directions, or one leaf where leaves are wider.
    """
    starts = np.flatnonzero(np.diff(raster.leaf_rows, prepend=-1))
    leaf_mm = raster.width_mm * starts[raster.leaf_rows]
    column_mm = raster.width_mm * np.arange(raster.shape[1])
    row, column = (np.floor(mm / opening_mm + 1e-6).astype(np.intp) for mm in (leaf_mm, column_mm))
    keys = row[:, None] * (int(column[-1]) + 1) + column
    return np.unique(keys[raster.used], return_inverse=True)[1]


def _rows(
    beam: Influence, openings: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.float32]]:
    """Return the dose of a beam's openings by rows of voxels; see `CandidateBeam`."""
    values = np.stack([beam.forward(one) for one in openings], axis=1)
    dose = values.sum(axis=1)
    least = LEAST_SHARE * dose.max(initial=np.float32(0.0))
    most = values.max(axis=1, keepdims=True)
    kept = (values >= np.minimum(most, least)) & (dose[:, None] >= least)
    remaining = np.where(kept, values, np.float32(0.0)).sum(axis=1)
    made_up = dose / np.maximum(remaining, np.float32(1e-30))
    start = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return start, np.nonzero(kept)[1].astype(np.uint16), (values * made_up[:, None])[kept]
