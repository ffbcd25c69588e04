from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import PlanningError
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import pixel_centres, summed_fluence
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.raster import Raster, raster_of, source_blur

GEOMETRY = BeamGeometry((0.0, 0.0, 0.0), 0.0)
MLCI = load_machine("generic-6mv-mlci")


def box_points(x_mm: float, z_mm: float) -> np.ndarray:
    x, z = np.meshgrid(np.arange(-x_mm, x_mm + 1, 4.0), np.arange(-z_mm, z_mm + 1, 4.0))
    return np.stack([x.ravel(), 0 * x.ravel(), z.ravel()], axis=1)


def raster(machine_id: str = "generic-6mv-mlci", x_mm: float = 42.0, z_mm: float = 33.0) -> Raster:
    return raster_of(GEOMETRY, load_machine(machine_id), box_points(x_mm, z_mm), 5.0, 5.0)[0]


@pytest.mark.parametrize("machine_id", ["generic-6mv-mlci", "generic-6mv-120", "generic-6mv-160"])
def test_rows_lie_under_their_leaves(machine_id: str) -> None:
    made = raster(machine_id)
    mlc = load_machine(machine_id).mlc
    assert mlc is not None
    leaf = made.first_leaf + made.leaf_rows
    assert (mlc.leaf_boundaries_mm[leaf] <= made.across_mm - 2.5 + 1e-6).all()
    assert (mlc.leaf_boundaries_mm[leaf + 1] >= made.across_mm + 2.5 - 1e-6).all()
    x, y = made.centres_mm()
    assert np.abs(x[made.used]).max() <= 42 + 5 + 5
    assert np.abs(y[made.used]).max() <= 33 + 5 + 5
    assert made.used[len(made.across_mm) // 2, len(made.along_mm) // 2]


def test_gather_is_the_adjoint_of_spread() -> None:
    made = raster("generic-6mv-120", 60, 150)
    rng = np.random.default_rng(1)
    leaves = rng.normal(size=(made.leaves, made.shape[1]))
    rows = rng.normal(size=made.shape)
    assert np.sum(made.spread(leaves) * rows) == pytest.approx(np.sum(leaves * made.gather(rows)))


def test_blur_adjoint_and_open_field() -> None:
    model = BeamModel.named("generic-6mv")
    made = raster(x_mm=120, z_mm=120)
    blur = source_blur(made, model)
    rng = np.random.default_rng(2)
    a, b = rng.random(made.shape).astype(np.float32), rng.random(made.shape).astype(np.float32)
    assert float(np.sum(blur.apply(a) * b)) == pytest.approx(float(np.sum(a * blur.adjoint(b))), rel=1e-4)
    x, y = made.centres_mm()
    opening = ((np.abs(x) < 60) & (np.abs(y) < 60)).astype(np.float32)
    aperture = Aperture((-60, 60), (-60, 60))
    fine = pixel_centres(-130, 130, 1.0)
    expected = summed_fluence([aperture], [1.0], None, model, fine, fine)
    values = expected.values_mu.reshape(52, 5, 52, 5).mean(axis=(1, 3))
    column = np.rint((made.along_mm - fine[:5].mean()) / 5).astype(int)
    row = np.rint((made.across_mm - fine[:5].mean()) / 5).astype(int)
    # the jaws' transmission is not part of the blur
    np.testing.assert_allclose(blur.apply(opening), values[np.ix_(row, column)], atol=0.012)


def test_refusals() -> None:
    points = box_points(40, 40)
    with pytest.raises(PlanningError, match="no multileaf collimator"):
        raster_of(GEOMETRY, load_machine("reference-6mv-point"), points, 5.0, 5.0)
    with pytest.raises(PlanningError, match="do not fit the leaves"):
        raster_of(GEOMETRY, MLCI, points, 3.0, 5.0)
    with pytest.raises(PlanningError, match="outside the field"):
        raster_of(GEOMETRY, MLCI, points + np.array([0.0, 0.0, 400.0]), 5.0, 5.0)


def test_a_target_wider_than_the_field_is_cut_to_it() -> None:
    made = raster_of(GEOMETRY, MLCI, box_points(260, 250), 5.0, 5.0)[0]
    assert made.along_mm[0] == -197.5 and made.along_mm[-1] == 197.5
    assert made.leaves == 40
