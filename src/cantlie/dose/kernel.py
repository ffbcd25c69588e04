"""Point kernels: how the energy that photons release at a point is carried away from it, along cones.

Scattered photons fade along a cone as two exponentials. Electrons have a range: they carry their energy with little
loss at first and have given it all away soon after. Four stages in a chain describe them, each of which passes what it
holds on to the next with the same rate; only the last one deposits. What is left of energy released into stage c is
``sum_(j <= c) (a s)^j / j! exp(-a s)``, so that their mixture is a polynomial times one exponential.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cantlie.dose.attenuation import energy_released, packaged
from cantlie.machine.beam_model import BeamModel

# Polar angles (degrees) that bound the rings of cones, and the number of cones around each ring. The primary kernel
# (electrons) is steep and short, that of scattered photons long and smooth.
PRIMARY_RINGS = ((0.0, 7.5, 15.0, 22.5, 30.0, 37.5, 45.0, 60.0, 75.0, 101.25, 180.0), (4, 8, 8, 8, 8, 8, 8, 8, 8, 4))
SCATTER_RINGS = (
    (0.0, 7.5, 15.0, 22.5, 30.0, 37.5, 45.0, 60.0, 75.0, 90.0, 105.0, 120.0, 150.0, 180.0),
    (4, 8, 8, 12, 12, 12, 16, 16, 16, 12, 12, 8, 4),
)


# Photons scattered twice and more, as a walk of one group of photons: from the second interaction on, each deposits so
# many times the energy of the one before it, an exponential flight away, with so large a mean cosine to the beam. The
# last values hold for all interactions after. Fitted by a random walk that starts from the first scatter of the EGSnrc
# kernels and must end in their second and multiple scatter; see docs/explanation/dose.md. The first share is scaled so
# that the energy of the whole walk is that of the kernels for the beam's own spectrum.
FURTHER_SHARE = (0.42, 0.65, 0.65)
FURTHER_COSINE = (0.3, -0.2, 0.0)
FURTHER_RATE_PER_MM = 0.008
_FURTHER_CONES = 64

STAGES = 4
"""Stages in the chain of the electrons."""
_ELECTRON_RATES_PER_MM = (0.02, 6.0)
_SCATTER_RATES_PER_MM = (0.001, 0.3)
_FARTHEST_FLIGHT = 14.0
"""How far electrons are looked at, in units of the distance over which a stage passes its energy on."""
Fit = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Cones:
    """A set of cones, each with an axis and the kernel that is collapsed onto it.

    The energy that flows along cone m at a water-equivalent distance s from where it was released is
    ``sum_c fraction[m, h, c] * exp(-rate_per_mm[m, c] * s)`` of the energy released, if the cones have two rates. With
    one rate, ``fraction[m, h, c]`` is released into stage c of a chain (see the module's text); stage 0 deposits.

    Parameters
    ----------
    polar_rad, azimuth_rad
        Direction of each cone's axis around the direction of the photons, shape (m,).
    rate_per_mm
        Rates of the two exponentials, or the one rate of a chain of stages, shape (m, 2) or (m, 1).
    fraction
        Share of the released energy that each exponential or stage carries, for the mixture of energies at the surface
        and for that at 200 mm depth, shape (m, 2, 2) or (m, 2, :data:`STAGES`). Some may be negative: scatter builds up
        before it falls, and electrons deposit less at first than a little later.
    tilt
        Relative change of a cone's energy per radian by which the photons' own direction is turned towards its azimuth,
        shape (m,): the kernel turns with the rays of a divergent beam, while the cones stay.
    """

    polar_rad: NDArray[np.float64]
    azimuth_rad: NDArray[np.float64]
    rate_per_mm: NDArray[np.float64]
    fraction: NDArray[np.float64]
    tilt: NDArray[np.float64]

    @property
    def staged(self) -> bool:
        """Whether energy is carried by a chain of stages, not by two exponentials."""
        return self.rate_per_mm.shape[1] == 1

    @property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors in a frame whose z axis is the direction of the photons, shape (m, 3)."""
        sine = np.sin(self.polar_rad)
        return np.stack(
            [sine * np.cos(self.azimuth_rad), sine * np.sin(self.azimuth_rad), np.cos(self.polar_rad)], axis=1
        )


def polyenergetic(model: BeamModel, depth_mm: float) -> tuple[NDArray[np.float64], ...]:
    """Return kernels of the spectrum hardened by water: primary, first scatter, further scatter; shapes (48, 24).

    Primary is what the electrons of the first interaction deposit, first scatter those of once scattered photons,
    bremsstrahlung and annihilation, further scatter those of photons scattered twice and more.

    Each is the share of the energy released that is deposited in a cell; kernels of single energies are mixed by the
    energy that each bin of the spectrum releases, with interpolation in log energy.
    """
    energies, released = energy_released(model, depth_mm)
    nodes = np.log(packaged("energies_mev"))
    position = np.interp(np.log(energies), nodes, np.arange(nodes.size))
    low = np.minimum(position.astype(int), nodes.size - 2)
    weights = np.zeros(nodes.size)
    np.add.at(weights, low, released * (low + 1 - position))
    np.add.at(weights, low + 1, released * (position - low))
    weights /= weights.sum()
    names = ("primary", "first_scatter", "further_scatter")
    return tuple(np.tensordot(weights, packaged(name), axes=1) for name in names)


@lru_cache(maxsize=8)
def cones(model: BeamModel) -> tuple[Cones, Cones]:
    """Return the cones of primary energy and of first scatter for a beam model's spectrum."""
    surface, middle, deep = (polyenergetic(model, depth) for depth in (0.0, 100.0, 200.0))
    return (
        _collapse(surface[0], middle[0], deep[0], *PRIMARY_RINGS, fit=_by_reach),
        _collapse(surface[1], middle[1], deep[1], *SCATTER_RINGS, fit=_by_shells),
    )


@lru_cache(maxsize=8)
def further_cones(model: BeamModel) -> tuple[Cones, ...]:
    """Return cones for the second interaction of scattered photons, the third, and each one after."""
    n = np.arange(_FURTHER_CONES) + 0.5
    cosine = 1.0 - 2.0 * n / _FURTHER_CONES
    azimuth = np.pi * (1.0 + 5.0**0.5) * n
    rates = np.tile([FURTHER_RATE_PER_MM, 1.0], (n.size, 1))
    scales = (_further_energy(model, 0.0), 1.0, 1.0)
    result = []
    for scale, share, forward in zip(scales, FURTHER_SHARE, FURTHER_COSINE, strict=True):
        fraction = np.zeros((n.size, 2, 2))
        fraction[:, :, 0] = (scale * share * (1.0 + 3.0 * forward * cosine) / n.size)[:, None]
        result.append(Cones(np.arccos(cosine), azimuth, rates, fraction, np.zeros(n.size)))
    return tuple(result)


@lru_cache(maxsize=8)
def further_hardening(model: BeamModel) -> Cones:
    """Return cones of the first scatter that correct the source of further scatter for the hardening of the beam.

    Photons of a hardened beam scatter fewer times: further scatter is 1.20 times the first for the 6 MV spectrum at the
    surface, 1.07 times at 200 mm. What these cones deposit, added to the first scatter, makes the walk's energy right
    for any mixture; nothing is added for photons at the surface.
    """
    _, first = cones(model)
    change = _further_energy(model, 200.0) / _further_energy(model, 0.0) - 1.0
    fraction = first.fraction * np.array([0.0, change])[:, None]
    return Cones(first.polar_rad, first.azimuth_rad, first.rate_per_mm, fraction, first.tilt)


def _further_energy(model: BeamModel, depth_mm: float) -> float:
    """Return the energy of further over that of first scatter in the kernels, relative to that of the walk as it is.

    What lies beyond the kernels' last shell goes on falling as from the last but one to the last.
    """
    _, *scatter = polyenergetic(model, depth_mm)
    first, further = (
        shells.sum() + shells[-1] ** 2 / (shells[-2] - shells[-1]) for shells in (k.sum(axis=0) for k in scatter)
    )
    walk = FURTHER_SHARE[0] * (1.0 + FURTHER_SHARE[1] / (1.0 - FURTHER_SHARE[2]))
    return float(further / first / walk)


def _collapse(
    surface: NDArray[np.float64],
    middle: NDArray[np.float64],
    deep: NDArray[np.float64],
    edges_deg: tuple[float, ...],
    counts: tuple[int, ...],
    fit: Fit,
) -> Cones:
    theta_edges = packaged("theta_edges_deg")
    theta = np.radians(0.5 * (theta_edges[1:] + theta_edges[:-1]))
    polar, azimuth, rates, fractions, tilts = [], [], [], [], []
    for ring, count in enumerate(counts):
        first, last = np.searchsorted(theta_edges, [edges_deg[ring] - 1e-6, edges_deg[ring + 1] - 1e-6])
        inside = slice(int(first), int(last))
        radial = [kernel[inside].sum(axis=0) for kernel in (surface, middle, deep)]
        energy = middle[inside].sum(axis=1)
        angle = float((energy * theta[inside]).sum() / energy.sum())
        rate, near, far = fit(*radial)
        tilt = _tilt(middle.sum(axis=1), edges_deg[ring], edges_deg[ring + 1])
        for n in range(count):
            polar.append(angle)
            azimuth.append(2.0 * np.pi * (n + 0.5 * (ring % 2)) / count + 0.1)
            rates.append(rate)
            fractions.append(np.stack([near, far]) / count)
            tilts.append(tilt)
    return Cones(np.array(polar), np.array(azimuth), np.array(rates), np.array(fractions), np.array(tilts))


def _tilt(energy: NDArray[np.float64], low_deg: float, high_deg: float) -> float:
    """Return the relative change of the energy in a ring per radian of tilt, along the azimuth of the tilt.

    Turning the kernel k(θ) per solid angle by a small δ turns it into k(θ - δ cos φ). Over the ring by parts,
    -∫ k' sin θ dθ = -[k sin θ] + ∫ k cos θ dθ, with k linear in angle between the middles of the kernel's rows.
    """
    edges = np.radians(packaged("theta_edges_deg"))
    middle = 0.5 * (edges[1:] + edges[:-1])
    per_sr = energy / (np.cos(edges[:-1]) - np.cos(edges[1:]))
    theta = np.linspace(np.radians(low_deg), np.radians(high_deg), 200)
    k = np.interp(theta, middle, per_sr)
    change = -(k[-1] * np.sin(theta[-1]) - k[0] * np.sin(theta[0])) + np.trapezoid(k * np.cos(theta), theta)
    return float(change / np.trapezoid(k * np.sin(theta), theta))


def _by_shells(
    surface: NDArray[np.float64], middle: NDArray[np.float64], deep: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit the energy per radial shell by two exponentials: their rates, and their shares at the surface and deep.

    Rates are those of the middle depth. Every pair on a logarithmic lattice is tried, the shares being a linear
    least-squares problem. Weights (the inverse fourth root of the energy) hold both what falls near, which makes the
    scatter of small fields, and the long tails. The total energy is kept.
    """
    edges = packaged("r_edges_mm")
    lattice = np.geomspace(*_SCATTER_RATES_PER_MM, 60)
    basis = np.exp(-np.outer(lattice, edges[:-1])) - np.exp(-np.outer(lattice, edges[1:]))
    weight = np.maximum(middle, 1e-5 * middle.max()) ** -0.25
    best = (np.inf, 0, 1)
    for i in range(lattice.size):
        for j in range(i + 2, lattice.size):
            error = _shares(basis[[i, j]], middle, weight)[1]
            if error < best[0]:
                best = (error, i, j)
    pair = basis[[best[1], best[2]]]
    near, far = (
        share * kernel.sum() / (share @ pair.sum(axis=1))
        for kernel in (surface, deep)
        for share, _ in (_shares(pair, kernel, weight),)
    )
    return lattice[[best[1], best[2]]], near, far


def _by_reach(
    surface: NDArray[np.float64], middle: NDArray[np.float64], deep: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit the energy within each radius by a chain of stages: its rate, and the shares at the surface and deep.

    What electrons deposit within a distance makes the build-up and the penumbra, and it is this that must be right.
    Every rate on a logarithmic lattice is tried, the shares being a linear least-squares problem, and the best for the
    middle depth is taken among those with which nothing is ever taken back: what is deposited at any distance is
    ``sum_c fraction[c] (a s)^c / c! exp(-a s)`` per ``a ds``, which must not be negative. The total energy is kept.
    """
    radii = packaged("r_edges_mm")[1:]
    power = np.arange(STAGES)
    factorial = np.array([math.factorial(n) for n in power])
    deposit = np.linspace(0.0, _FARTHEST_FLIGHT, 200)[:, None] ** power / factorial
    best = (np.inf, np.empty(1), np.empty(0), np.empty(0))
    for rate in np.geomspace(*_ELECTRON_RATES_PER_MM, 120):
        way = (rate * radii)[:, None]
        left = way**power / factorial * np.exp(-way)
        shares, error = [], np.inf
        for kernel in (surface, deep, middle):
            wanted = 1.0 - left[:, 0] - kernel.cumsum() / kernel.sum()
            reached, *_ = np.linalg.lstsq(left[:, 1:], wanted, rcond=None)
            error = float(((left[:, 1:] @ reached - wanted) ** 2).sum())
            shares.append(-np.diff(np.concatenate([[1.0], reached, [0.0]])))
        if error < best[0] and all(share[-1] >= 0.0 and (deposit @ share).min() >= 0.0 for share in shares):
            best = (error, np.array([rate]), shares[0] * surface.sum(), shares[1] * deep.sum())
    return best[1:]


def _shares(
    pair: NDArray[np.float64], shape: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    a = pair * weight
    b = shape * weight
    m00, m01, m11 = a[0] @ a[0], a[0] @ a[1], a[1] @ a[1]
    r0, r1 = a[0] @ b, a[1] @ b
    determinant = m00 * m11 - m01 * m01
    share = np.array([m11 * r0 - m01 * r1, m00 * r1 - m01 * r0]) / determinant
    return share, float(((share @ a - b) ** 2).sum())
