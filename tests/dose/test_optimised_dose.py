"""The dose that is optimised on the influence operator is that of the full collapsed cone of the same fluence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.influence import Beamlets, influence_matrix
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.geometry import BeamGeometry

POINT = BeamModel.named("reference-6mv-point")
PRESCRIPTION_GY = 2.0


@pytest.mark.slow
def test_the_optimised_target_dose_holds_without_correction():
    grid = Grid((40, 44, 60), (5.0, 5.0, 5.0), (-147.5, -107.5, -97.5))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    density = np.where((x / 140) ** 2 + (y / 100) ** 2 < 1, 1.03, 0.0012).astype(np.float32)
    density[((x + 70) / 50) ** 2 + (y / 70) ** 2 + ((z - 70) / 70) ** 2 < 1] = 0.26  # a lung above
    liver = ((x + 50) / 60) ** 2 + (y / 60) ** 2 + ((z + 20) / 60) ** 2 < 1
    target = liver & (x < -50)
    spared = liver & (x > -40)
    isocentre = tuple(float(c) for c in grid.points_mm()[target].mean(axis=0))
    beams = []
    for angle in (200.0, 240.0, 280.0, 320.0, 0.0):
        geometry = BeamGeometry(isocentre, angle)
        a, b, _ = geometry.project(grid.points_mm()[target])
        cells = np.unique(np.stack([np.floor(a / 5.0), np.floor(b / 5.0)]), axis=1)
        beams.append(Beamlets(geometry, (cells[0] + 0.5) * 5.0, (cells[1] + 0.5) * 5.0, 5.0))
    body = density > 0.05
    operator = influence_matrix(Volume(grid, density), beams, POINT, grid, body)
    inside, healthy = target[body], spared[body]
    scale = PRESCRIPTION_GY / operator.forward(np.ones(operator.shape[1]))[inside].mean()

    def cost(weights):
        dose = operator.forward(scale * weights).astype(float)
        off = np.where(inside, dose - PRESCRIPTION_GY, np.where(healthy, 0.3 * dose, 0.05 * dose))
        return float(off @ off), 2.0 * scale * operator.adjoint(
            off * np.where(inside, 1.0, np.where(healthy, 0.3, 0.05))
        ).astype(float)

    found = minimize(
        cost, np.ones(operator.shape[1]), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * operator.shape[1],
        options={"maxiter": 40},
    )  # fmt: skip
    weights = scale * found.x
    assert found.fun < 0.5 * cost(np.ones(operator.shape[1]))[0]
    assert weights.max() > 2.0 * weights.mean()  # the fluence is modulated
    fields = [
        Field(beam.geometry, beam.fluence(weights[operator.offsets[n] : operator.offsets[n + 1]]))
        for n, beam in enumerate(beams)
    ]
    promised = operator.forward(weights)[inside]
    full = collapsed_cone_dose(Volume(grid, density), fields, POINT).values[target]
    assert promised.mean() == pytest.approx(full.mean(), rel=0.02)
    assert np.percentile(promised, 5) == pytest.approx(np.percentile(full, 5), rel=0.03)
