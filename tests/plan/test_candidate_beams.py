"""Pencil-beam doses of candidate directions, against the dose engine's influence in water."""

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
from cantlie.plan.candidate_beams import _beamlets, beamlet_width_mm, candidate_beams, depths_mm

GRID = Grid((34, 34, 34), (6.0, 6.0, 6.0), (-99.0, -99.0, -99.0))
WATER = Volume(GRID, np.ones(GRID.shape, dtype=np.float32))
POINTS = GRID.points_mm().reshape(-1, 3)
TARGET = (np.linalg.norm(POINTS, axis=1) <= 24).astype(np.float32)
TARGET_MM = region_points_mm(GRID, TARGET.reshape(GRID.shape), 4.0)
MODEL = load_beam_model(load_machine("generic-6mv-mlci").beam_model)


def _candidates(**choices):
    geometry = BeamGeometry((0.0, 0.0, 0.0), 0.0)
    return candidate_beams(
        [geometry], WATER, MODEL, TARGET_MM, POINTS, TARGET / TARGET.sum(),
        width_mm=6.0, margin_mm=6.0, voxel_mm=6.0, **choices,
    )[0]  # fmt: skip


def _dose(beam, weights):
    dose = np.zeros(len(POINTS))
    rows = np.repeat(np.arange(len(POINTS)), np.diff(beam.start))
    np.add.at(dose, rows, beam.value * weights[beam.index])
    return dose


def test_depth_in_water_by_hand() -> None:
    geometry = BeamGeometry((0.0, 0.0, 0.0), 0.0)  # from the front: -y
    points = np.array([[0.0, 0.0, 0.0], [0.0, -51.0, 0.0], [30.0, 60.0, 0.0]])
    found = depths_mm(WATER.values, GRID.origin_mm, GRID.spacing_mm, points, geometry.source_mm)
    slanted = 162.0 * np.hypot(1060.0, 30.0) / 1060.0
    np.testing.assert_allclose(found, [102.0, 51.0, slanted], atol=8.0)


def test_the_open_field__against_the_influence_of_the_dose_engine() -> None:
    beam = _candidates()
    geometry = BeamGeometry((0.0, 0.0, 0.0), 0.0)
    x, y = _beamlets(geometry, TARGET_MM, 6.0, 6.0)
    engine = influence_matrix(WATER, [Beamlets(geometry, x, y, 6.0)], MODEL, GRID).forward(np.ones(len(x)))
    quick = _dose(beam, np.ones(len(x)))
    inside = TARGET > 0
    quick *= engine[inside].mean() / quick[inside].mean()
    np.testing.assert_allclose(quick[inside], engine[inside], rtol=0.04)
    entrance = (np.abs(POINTS[:, 0]) < 15) & (np.abs(POINTS[:, 2]) < 15) & (np.abs(POINTS[:, 1] + 60) < 10)
    np.testing.assert_allclose(quick[entrance], engine[entrance], rtol=0.06)


def test_a_whole_field_is_the_sum_of_its_beamlets() -> None:
    beam, whole = _candidates(), _candidates(whole=True)
    assert whole.to_target.shape == (1,)
    np.testing.assert_allclose(_dose(whole, np.ones(1)), _dose(beam, np.ones(len(beam.to_target))), rtol=1e-5)
    assert whole.to_target[0] == pytest.approx(beam.to_target.sum(), rel=1e-5)
    assert whole.to_target[0] == pytest.approx(_dose(beam, np.ones(len(beam.to_target)))[TARGET > 0].mean(), rel=1e-5)


def test_beamlets_grow_with_the_target() -> None:
    assert beamlet_width_mm(TARGET_MM) == pytest.approx(48 / 7, rel=0.1)
    assert beamlet_width_mm(TARGET_MM * 0.2) == 5.0
    assert beamlet_width_mm(TARGET_MM * 10) == 12.0
