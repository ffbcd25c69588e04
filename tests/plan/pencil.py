"""A toy pencil beam for tests of the planner: attenuation along the ray times a Gaussian and a wide tail across it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import erf

from cantlie.core.volume import Volume
from cantlie.plan.beams import _arriving
from cantlie.plan.raster import Raster


class MatrixInfluence:
    """An influence held as a sparse matrix."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self.matrix = matrix
        self.transposed = matrix.T.tocsr()

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    def forward(self, weights_mu: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.matrix @ weights_mu

    def adjoint(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.transposed @ gradient


def pencil_influence(
    density: Volume, rasters: Sequence[Raster], points_mm: NDArray[np.float64], gy_per_mu: float = 0.012
) -> MatrixInfluence:
    """Return the toy influence of the used beamlets of rasters on points."""
    blocks = []
    for raster in rasters:
        x, y, _ = raster.geometry.project(points_mm)
        along, across = (x, y) if raster.axis == "X" else (y, x)
        arriving = _arriving(density, points_mm, raster.geometry)

        def across_beam(distance: NDArray[np.float64], half: float = raster.width_mm / 2) -> NDArray[np.float64]:
            result = np.zeros_like(distance)
            for sigma, share in ((3.0, 0.8), (15.0, 0.2)):
                edges = [erf((distance + side * half) / (sigma * np.sqrt(2))) for side in (1, -1)]
                result += share * 0.5 * (edges[0] - edges[1])
            return result

        u = across_beam(along[:, None] - raster.along_mm[None, :])
        v = across_beam(across[:, None] - raster.across_mm[None, :])
        rows, columns = np.nonzero(raster.used)
        dense = (gy_per_mu * arriving[:, None] * u[:, columns] * v[:, rows]).astype(np.float32)
        dense[dense < 1e-4 * gy_per_mu] = 0
        blocks.append(sparse.csr_matrix(dense))
    return MatrixInfluence(sparse.hstack(blocks).tocsr())
