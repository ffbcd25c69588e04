"""A small photon Monte Carlo of its own: where the energy of a beam ends up in a water cube, and how much escapes.

Photons are followed from collision to collision with the attenuation of water (no coherent scatter). Compton scatter
is Klein and Nishina's on free electrons; what the attenuation has beyond it is photoelectric absorption below 1.022 MeV
and pair production above. Electrons and positrons leave their energy where they are set free, annihilation gives two
photons of 511 keV, bremsstrahlung is left out (some 0.5 % of the energy of 6 MV). That is far too coarse for a dose,
but the sum over a slab or a cube many centimetres wide does not feel it. It shares nothing with the engine but μ/ρ and
spectrum.
"""
# ruff: noqa: NPY002 - compiled code has its own generator, which goes by the old names

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from cantlie.dose.attenuation import mass_attenuation_cm2_g
from cantlie.machine.beam_model import BeamModel

Array = NDArray[np.float64]
_ELECTRON_MEV = 0.51099895
_RADIUS_CM = 2.8179403262e-13
_ELECTRONS_PER_G = 3.34279e23
_LEAST_MEV = 0.010


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """Energies in MeV per photon/cm² of fluence on the axis at the isocentre plane.

    ``layers`` are the energies imparted to slabs of ``layer_mm`` across the beam, ``escaped`` is what leaves as photons
    that have interacted, ``released`` is what interacting primary photons carried; ``sigma`` is of the imparted energy.
    """

    released: float
    imparted: float
    escaped: float
    layers: Array
    layer_mm: float
    sigma: float


def klein_nishina_cm2_g(energies_mev: Array) -> Array:
    """Return the mass attenuation of water by Compton scatter on free electrons (Klein and Nishina 1929)."""
    a = energies_mev / _ELECTRON_MEV
    log = np.log1p(2 * a)
    first = (1 + a) / a**2 * (2 * (1 + a) / (1 + 2 * a) - log / a)
    return _ELECTRONS_PER_G * 2 * np.pi * _RADIUS_CM**2 * (first + log / (2 * a) - (1 + 3 * a) / (1 + 2 * a) ** 2)


def walk(
    model: BeamModel, field_mm: float, side_mm: float, *, ssd_mm: float = 900.0, isocentre_mm: float = 100.0,
    layer_mm: float = 20.0, photons: int = 400_000, seed: int = 1,
) -> Balance:  # fmt: skip
    """Return the energy balance of a square field in a water cube whose face the beam enters in the middle."""
    energies, share = model.photons()
    rng = np.random.default_rng(seed)
    # The bins of the spectrum are as the engine takes them: at their middles.
    start = rng.choice(energies, photons, p=share)
    sad = ssd_mm + isocentre_mm
    across = rng.uniform(-0.5 * field_mm, 0.5 * field_mm, (photons, 2))
    cosine = sad / np.sqrt(sad**2 + (across**2).sum(axis=1))
    table = np.geomspace(_LEAST_MEV, 7.0, 600)
    total = mass_attenuation_cm2_g("water", table)
    compton = np.minimum(klein_nishina_cm2_g(table) / total, 1.0)
    layers = np.zeros(round(side_mm / layer_mm))
    per_photon = np.zeros(photons)
    sums = np.zeros(2)
    _follow(start, across / sad, cosine**3, ssd_mm, side_mm, table, total / 10.0, compton, layers, layer_mm, per_photon,
            sums, seed)  # fmt: skip
    # A photon on the axis stands for one photon/cm² over its share of the field.
    scale = (field_mm / 10) ** 2 / photons
    sigma = scale * float(per_photon.std()) * np.sqrt(photons)
    return Balance(scale * sums[0], scale * float(per_photon.sum()), scale * sums[1], scale * layers, layer_mm, sigma)


@numba.njit(cache=True)
def _follow(  # type: ignore[no-untyped-def]
    start, slope, weight, ssd, side, table, mu_per_mm, compton, layers, layer_mm, per_photon, sums, seed
):
    np.random.seed(seed)
    stack = np.zeros((64, 7))
    log_low = np.log(table[0])
    per_log = (table.size - 1) / (np.log(table[-1]) - log_low)
    half = 0.5 * side
    for n in range(start.size):
        sx, sy = slope[n, 0], slope[n, 1]
        norm = 1.0 / np.sqrt(sx * sx + sy * sy + 1.0)
        stack[0] = np.array([sx * ssd, sy * ssd, 0.0, sx * norm, sy * norm, norm, start[n]])
        held = 1
        first = True
        while held > 0:
            held -= 1
            x, y, z, u, v, w, energy = stack[held]
            while True:
                place = (np.log(energy) - log_low) * per_log
                at = min(max(int(place), 0), table.size - 2)
                part = place - at
                mu = mu_per_mm[at] * (1 - part) + mu_per_mm[at + 1] * part
                scatter = compton[at] * (1 - part) + compton[at + 1] * part
                path = -np.log(1.0 - np.random.random()) / mu
                x, y, z = x + path * u, y + path * v, z + path * w
                if not (-half < x < half and -half < y < half and 0 < z < side):
                    if not first:
                        sums[1] += weight[n] * energy
                    break
                if first:
                    sums[0] += weight[n] * energy
                    first = False
                if np.random.random() < scatter:
                    # Kahn's way of choosing the energy of a Compton photon.
                    a = energy / 0.51099895
                    while True:
                        r1, r2, r3 = np.random.random(), np.random.random(), np.random.random()
                        if r1 <= (1 + 2 * a) / (9 + 2 * a):
                            eta = 1 + 2 * a * r2
                            if r3 <= 4 * (1 / eta - 1 / eta**2):
                                break
                        else:
                            eta = (1 + 2 * a) / (1 + 2 * a * r2)
                            turn = 1 - (eta - 1) / a
                            if r3 <= 0.5 * (turn**2 + 1 / eta):
                                break
                    turn = 1 - (eta - 1) / a
                    given = energy - energy / eta
                    energy = energy / eta
                    u, v, w = _turned(u, v, w, turn, 2 * np.pi * np.random.random())
                    over = energy < 0.010
                    if over:
                        given += energy
                else:
                    over = True
                    given = energy
                    if energy > 1.022:
                        given -= 1.02199790
                        cosine = 2 * np.random.random() - 1
                        sine = np.sqrt(1 - cosine * cosine)
                        phi = 2 * np.pi * np.random.random()
                        for sign in (1.0, -1.0):
                            if held < 64:
                                stack[held] = np.array([x, y, z, sign * sine * np.cos(phi), sign * sine * np.sin(phi),
                                                        sign * cosine, 0.51099895])  # fmt: skip
                                held += 1
                per_photon[n] += weight[n] * given
                layers[min(int(z / layer_mm), layers.size - 1)] += weight[n] * given
                if over:
                    break


@numba.njit(cache=True)
def _turned(u, v, w, cosine, phi):  # type: ignore[no-untyped-def]
    sine = np.sqrt(max(0.0, 1 - cosine * cosine))
    flat = np.sqrt(max(1e-30, 1 - w * w))
    a, b = sine * np.cos(phi), sine * np.sin(phi)
    if flat < 1e-6:
        return a, b, cosine * np.sign(w)
    return (
        u * cosine + (u * w * a - v * b) / flat,
        v * cosine + (v * w * a + u * b) / flat,
        w * cosine - a * flat,
    )
