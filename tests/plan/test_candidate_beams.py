"""Candidate directions: the dose engine's influence in few voxels, with what is too little left out and made up."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.influence import Beamlets, influence_matrix
from cantlie.machine.beam_model_file import load_beam_model
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.beams import region_points_mm
from cantlie.plan.candidate_beams import candidate_beams, opened_together, opening_width_mm
from cantlie.plan.raster import raster_of

GRID = Grid((34, 34, 34), (6.0, 6.0, 6.0), (-99.0, -99.0, -99.0))
POINTS = GRID.points_mm().reshape(-1, 3)
LUNG = np.where(POINTS[:, 1] < -40, 0.3, 1.0).astype(np.float32).reshape(GRID.shape)
TARGET = (np.linalg.norm(POINTS, axis=1) <= 24).astype(np.float32)
TARGET_MM = region_points_mm(GRID, TARGET.reshape(GRID.shape), 4.0)
MACHINE = load_machine("generic-6mv-mlci")  # leaves of 10 mm
MODEL = load_beam_model(MACHINE.beam_model)
RASTERS = [raster_of(BeamGeometry((0.0, 0.0, 0.0), angle), MACHINE, TARGET_MM, 5.0, 6.0)[0] for angle in (0.0, 60.0)]


def _candidates(**choices):
    return candidate_beams(
        RASTERS, Volume(GRID, LUNG), MODEL, GRID, np.arange(GRID.size), TARGET / TARGET.sum(), opening_mm=5.0, **choices
    )


def _dose(beam, weights):
    dose = np.zeros(len(POINTS))
    rows = np.repeat(np.arange(len(POINTS)), np.diff(beam.start))
    np.add.at(dose, rows, beam.value * weights[beam.index])
    return dose


def test_the_dose_of_any_fluence_is_the_engines() -> None:
    rng = np.random.default_rng(1)
    for candidate, raster in zip(_candidates(), RASTERS, strict=True):
        x, y = raster.centres_mm()
        own = Beamlets(raster.geometry, x[raster.used], y[raster.used], raster.width_mm)
        weights = rng.uniform(0.2, 1.0, len(candidate.to_target))
        engine = influence_matrix(Volume(GRID, LUNG), [own], MODEL, GRID).forward(weights[opened_together(raster, 5.0)])
        quick = _dose(candidate, weights)
        assert np.abs(quick - engine).max() <= 0.02 * engine.max()
        assert np.sqrt(np.mean((quick - engine) ** 2)) <= 0.005 * engine.max()
        assert candidate.to_target @ weights == pytest.approx(engine[TARGET > 0].mean(), rel=0.005)
        assert len(candidate.value) < 0.1 * GRID.size * len(weights)


def test_a_whole_field_is_the_sum_of_its_openings() -> None:
    for beam, whole in zip(_candidates(), _candidates(whole=True), strict=True):
        assert whole.to_target.shape == (1,)
        every = _dose(beam, np.ones(len(beam.to_target)))
        assert np.abs(_dose(whole, np.ones(1)) - every).max() <= 0.02 * every.max()
        assert whole.to_target[0] == pytest.approx(beam.to_target.sum(), rel=0.005)


@pytest.mark.parametrize(("opening_mm", "rows", "columns"), [(5.0, 2, 1), (10.0, 2, 2), (20.0, 4, 4)])
def test_openings_are_whole_leaves(opening_mm: float, rows: int, columns: int) -> None:
    """Beamlets of 5 mm under leaves of 10 mm."""
    raster = RASTERS[0]
    together = np.full(raster.shape, -1)
    together[raster.used] = opened_together(raster, opening_mm)
    for number in range(int(together.max()) + 1):
        row, column = np.nonzero(together == number)
        assert np.ptp(row // rows) == 0
        assert np.ptp(column // columns) == 0
    blocks = {(r // rows, c // columns) for r, c in zip(*np.nonzero(raster.used), strict=True)}
    assert together.max() + 1 == len(blocks)


def test_openings_grow_with_the_target() -> None:
    assert opening_width_mm(TARGET_MM) == pytest.approx(48 / 7, rel=0.1)
    assert opening_width_mm(TARGET_MM * 0.2) == 5.0
    assert opening_width_mm(TARGET_MM * 10) == 12.0
