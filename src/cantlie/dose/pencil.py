"""Pencil kernels: the dose of an infinitely narrow beam in water, as Gaussians, from the same point kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from cantlie.dose.attenuation import packaged, terma
from cantlie.dose.kernel import polyenergetic
from cantlie.machine.beam_model import BeamModel

SIGMA_MM = np.array([0.5, 1.5, 4.0, 10.0, 25.0, 60.0, 140.0])
"""Widths of the Gaussians; the first three are mostly electrons, the others scattered photons."""
_RESOLVED_MM = 3.0
_DEPTHS_MM = np.concatenate([np.arange(0.0, 30.0, 2.5), np.arange(30.0, 420.1, 15.0)])
_RADII_MM = np.concatenate([[0.0], np.geomspace(0.5, 300.0, 44)])


@dataclass(frozen=True, slots=True, eq=False)
class PencilKernel:
    """Dose across a narrow parallel beam in water.

    The dose at depth d and at a distance across the beam is ``sum_c amount[d, c] * gaussian(distance, SIGMA_MM[c])``
    with two-dimensional Gaussians of unit integral (per mm²).

    Parameters
    ----------
    depth_mm
        Depths, shape (n,).
    amount
        Gy mm² per unit fluence (1/cm²) and mm² of beam, shape (n, 7): the sum over c is the dose of a very wide beam.
    """

    depth_mm: NDArray[np.float64]
    amount: NDArray[np.float64]

    def at(self, depth_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the amounts at depths (m,), shape (m, 7)."""
        return np.stack([np.interp(depth_mm, self.depth_mm, column) for column in self.amount.T], axis=-1)


@lru_cache(maxsize=8)
def pencil_kernel(model: BeamModel) -> PencilKernel:
    """Return the pencil kernel of a beam model's spectrum: point kernels summed along a line.

    The way of Ahnesjö 1992, Med Phys 19:263.
    """
    theta = np.radians(packaged("theta_edges_deg"))
    r_edges = packaged("r_edges_mm")
    volumes = (
        2.0 * np.pi * (np.cos(theta[:-1]) - np.cos(theta[1:]))[:, None] * (r_edges[1:] ** 3 - r_edges[:-1] ** 3) / 3.0
    )
    kernels = [np.sum(polyenergetic(model, depth), axis=0) / volumes for depth in (0.0, 200.0)]
    table = terma(model)
    # Inside each annulus a few radii, weighted by their share of the area.
    share = (np.arange(4) + 0.5) / 4
    square = _RADII_MM[:-1, None] ** 2 * (1 - share) + _RADII_MM[1:, None] ** 2 * share
    radius = np.sqrt(square)
    area = np.pi * (_RADII_MM[1:] ** 2 - _RADII_MM[:-1] ** 2)
    # Sources along the line, dense near the point's depth; the step doubles with the distance.
    ahead = np.concatenate([np.arange(0.0, 10.0, 0.25), np.arange(10.0, 60.0, 2.0), np.arange(60.0, 601.0, 10.0)])
    middle = 0.5 * (ahead[1:] + ahead[:-1])
    length = np.diff(ahead)
    along = np.concatenate([-middle[::-1], middle])
    width = np.concatenate([length[::-1], length])
    r = np.sqrt(radius[..., None] ** 2 + along**2)
    ring = np.clip(np.searchsorted(theta, np.arccos(along / r)) - 1, 0, theta.size - 2)
    shell = np.searchsorted(r_edges, r) - 1
    outside = shell >= r_edges.size - 1
    shell = np.minimum(shell, r_edges.size - 2)
    near, far = (np.where(outside, 0.0, kernel[ring, shell]) for kernel in kernels)
    amounts = []
    for depth in _DEPTHS_MM:
        source = depth - along
        released = np.interp(source, table.depth_mm, table.gy_per_fluence) * width * (source > 0)
        mixed = np.interp(source, table.depth_mm, table.hardening)
        dose = ((near * (1 - mixed) + far * mixed) * released).sum(axis=-1).mean(axis=-1)
        amounts.append(_gaussians(dose * area))
    return PencilKernel(_DEPTHS_MM, np.array(amounts))


def _gaussians(per_annulus: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit amounts of the Gaussians to the dose in annuli: what lies within each radius counts most, for it is what
    fields of that size receive; radii below what a dose grid resolves count less, and the total is kept."""
    inside = np.exp(-0.5 * (_RADII_MM[:, None] / SIGMA_MM) ** 2)
    shares = inside[:-1] - inside[1:]
    within, total = per_annulus.cumsum(), per_annulus.sum()
    seen = np.minimum(_RADII_MM[1:] / _RESOLVED_MM, 1.0)
    alone = 0.1 * seen * np.sqrt(total / np.maximum(per_annulus, 1e-3 * per_annulus.max()))
    rows = [shares * alone[:, None], shares.cumsum(axis=0) * seen[:, None]]
    amount, _ = nnls(np.vstack(rows), np.concatenate([per_annulus * alone, within * seen]))
    return np.asarray(amount * total / (shares.sum(axis=0) @ amount))
