"""The influence operator: linear, with an exact adjoint, and close to the collapsed cone."""

from __future__ import annotations

import numpy as np
import pytest

from cantlie.core.errors import DoseError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.influence import Beamlets, influence_matrix
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry

POINT = BeamModel.named("reference-6mv-point")


def patient():
    """A cylinder of tissue with a lung in it, 5 mm voxels."""
    grid = Grid((40, 44, 60), (5.0, 5.0, 5.0), (-147.5, -107.5, -97.5))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    density = np.where((x / 140) ** 2 + (y / 100) ** 2 < 1, 1.03, 0.0012)
    density[((x - 70) / 45) ** 2 + (y / 60) ** 2 + ((z - 60) / 60) ** 2 < 1] = 0.26
    return Volume(grid, density.astype(np.float32)), (np.hypot(x, y) < 35) & (np.abs(z) < 35)


def beams(width_mm=5.0):
    result = []
    for angle in (0.0, 75.0, 200.0):
        centres = np.arange(-47.5, 50.0, width_mm)
        x, y = (a.ravel() for a in np.meshgrid(centres, centres))
        inside = np.hypot(x, y) < 48
        result.append(Beamlets(BeamGeometry((0.0, 0.0, 0.0), angle, 20.0), x[inside], y[inside], width_mm))
    return result


@pytest.fixture(scope="module")
def operator():
    density, _ = patient()
    return influence_matrix(density, beams(), POINT, density.grid, density.values > 0.05)


def test_adjoint_is_the_transpose(operator):
    generator = np.random.default_rng(1)
    weights = generator.random(operator.shape[1])
    gradient = generator.normal(size=operator.shape[0])
    left = np.dot(operator.forward(weights).astype(float), gradient)
    right = np.dot(operator.adjoint(gradient).astype(float), weights)
    assert left == pytest.approx(right, rel=1e-4)


def test_forward_is_linear_and_repeatable(operator):
    generator = np.random.default_rng(2)
    a, b = generator.random((2, operator.shape[1]))
    np.testing.assert_array_equal(operator.forward(a), operator.forward(a))
    np.testing.assert_allclose(
        operator.forward(2 * a + b), 2 * operator.forward(a) + operator.forward(b), rtol=1e-4, atol=1e-7
    )


def test_results_do_not_depend_on_the_number_of_cores(operator, monkeypatch):
    generator = np.random.default_rng(3)
    weights, values = generator.random(operator.shape[1]), generator.random(operator.shape[0])
    found = []
    for cores in (1, 3):
        monkeypatch.setattr("cantlie.core.threads.threads", lambda cores=cores: cores)
        found.append((operator.forward(weights), operator.adjoint(values)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_offsets_tell_the_beams_apart(operator):
    weights = np.zeros(operator.shape[1])
    weights[operator.offsets[1] : operator.offsets[2]] = 1.0
    assert operator.offsets[-1] == operator.shape[1] == sum(beam.count for beam in beams())
    assert 0 < operator.forward(weights).sum() < operator.forward(np.ones(operator.shape[1])).sum()


@pytest.mark.parametrize("pattern", ["open", "smooth", "stripes"])
def test_modulated_target_dose_is_that_of_the_collapsed_cone(operator, pattern):
    density, target = patient()
    fields, weights = [], []
    for beam in beams():
        mu = {
            "open": np.ones(beam.count),
            "smooth": 1.0 + 0.5 * np.sin(beam.x_mm / 20.0) * np.cos(beam.y_mm / 15.0),
            "stripes": np.where(np.floor(beam.x_mm / 20.0) % 2 == 0, 1.5, 0.5),
        }[pattern]
        weights.append(mu)
        fields.append(Field(beam.geometry, beam.fluence(mu)))
    full = collapsed_cone_dose(density, fields, POINT).values
    quick = operator.volume(operator.forward(np.concatenate(weights))).values
    assert quick[target].mean() == pytest.approx(full[target].mean(), rel=0.01)
    coldest = 0.04 if pattern == "stripes" else 0.02  # stripes of four beamlets: the hardest for a pencil beam
    assert np.percentile(quick[target], 5) == pytest.approx(np.percentile(full[target], 5), rel=coldest)
    outside = (density.values > 0.5) & ~target
    assert np.abs(quick - full)[outside].mean() < 0.02 * full[target].mean()


def test_chosen_voxels_are_rows_of_the_whole():
    density, target = patient()
    weights = np.ones(sum(beam.count for beam in beams()))
    whole = influence_matrix(density, beams(), POINT, density.grid)
    some = influence_matrix(density, beams(), POINT, density.grid, target)
    indices = influence_matrix(density, beams(), POINT, density.grid, np.flatnonzero(target))
    np.testing.assert_allclose(some.forward(weights), whole.forward(weights)[target.ravel()], rtol=2e-3)
    np.testing.assert_array_equal(some.forward(weights), indices.forward(weights))
    assert some.nbytes < whole.nbytes


def test_wrong_shapes_are_refused(operator):
    with pytest.raises(DoseError, match="beamlet weights"):
        operator.forward(np.ones(3))
    with pytest.raises(DoseError, match="voxel values"):
        operator.adjoint(np.ones(3))
    with pytest.raises(DoseError, match="lattice"):
        Beamlets(BeamGeometry((0, 0, 0), 0), np.array([0.0, 5.0, 7.0]), np.zeros(3), 5.0).lattice()
