"""Attenuation: from mass density to water-equivalent density, and what a hardening beam releases in water."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.threads import shared_out, spans
from cantlie.machine.beam_model import BeamModel

DEPTH_STEP_MM = 2.0
"""Spacing of the tables against water-equivalent depth."""
_DEPTHS_MM = np.arange(0.0, 1202.0, DEPTH_STEP_MM)
_MEV_PER_G_IN_GY = 1.602176634e-10
_SPAN_VOXELS = 1 << 15

# Mass densities (g/cm³) between which one material gives way to the next, blended linearly: air to lung, lung to soft
# tissue, soft tissue to cortical bone. They surround the thresholds 0.10, 0.60 and 1.16 that Monte Carlo dose engines
# use for media of a CT (those of the reference sets too).
_LUNG_TO_TISSUE = (0.55, 0.65)
_TISSUE_TO_BONE = (1.13, 1.19)
_WATER_TOLERANCE = 5e-4
_BONE_STOPPING = 0.893
"""Mass collision stopping power, restricted to 10 keV, of ICRP cortical bone over that of water: 0.888 to 0.898."""


@lru_cache
def packaged(name: str) -> NDArray[np.float64]:
    """Return a packaged array: energies, attenuation coefficients, point kernels of water (Monte Carlo, see docs)."""
    path = resources.files("cantlie.dose") / "data" / "water_kernels.npz"
    with path.open("rb") as stream, np.load(stream) as archive:
        values = np.asarray(archive[name], dtype=np.float64)
    values.setflags(write=False)
    return values


def mass_attenuation_cm2_g(material: str, energies_mev: ArrayLike) -> NDArray[np.float64]:
    """Return μ/ρ without coherent scatter of water, tissue, lung or bone, by log-log interpolation."""
    table = packaged(f"mu_{material}_cm2_g")
    return np.exp(np.interp(np.log(energies_mev), np.log(packaged("mu_energies_mev")), np.log(table)))


@dataclass(frozen=True, slots=True, eq=False)
class Terma:
    """Energy released per mass of water by the primary photons of a beam, against water-equivalent depth.

    Parameters
    ----------
    depth_mm
        Water-equivalent depths (mm of density 1), shape (n,).
    gy_per_fluence
        TERMA at unit primary fluence (one photon per cm² in air), shape (n,).
    hardening
        How far the energy mixture has moved from that at the surface (0) to that at 200 mm (1), shape (n,); it mixes
        the two point kernels of :mod:`cantlie.dose.kernel`.
    """

    depth_mm: NDArray[np.float64]
    gy_per_fluence: NDArray[np.float64]
    hardening: NDArray[np.float64]


def energy_released(model: BeamModel, depth_mm: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies (n,) and the energy that photons of each release per mass of water at depths (m,), shape (m, n).

    Σ over the spectrum of Φ E μ/ρ exp(-μ d), in Gy per unit fluence (Ahnesjö 1989, doi:10.1118/1.596360).
    """
    energies, share = model.photons()
    mu = mass_attenuation_cm2_g("water", energies)
    depth_cm = np.asarray(depth_mm, dtype=np.float64)[..., None] / 10.0
    return energies, share * energies * mu * np.exp(-mu * depth_cm) * _MEV_PER_G_IN_GY


@lru_cache(maxsize=8)
def terma(model: BeamModel) -> Terma:
    """Return the table of energy released in water for a beam model's spectrum."""
    energies, released = energy_released(model, _DEPTHS_MM)
    total = released.sum(axis=1)
    # The share that becomes electrons' energy near by moves the mixture's kernel; it is monotonic in depth.
    local = packaged("primary").sum(axis=(1, 2))
    near = (released @ np.interp(np.log(energies), np.log(packaged("energies_mev")), local)) / total
    surface, deep = near[0], np.interp(200.0, _DEPTHS_MM, near)
    hardening = (near - surface) / (deep - surface) if deep - surface > 1e-6 else np.zeros_like(near)
    return Terma(_DEPTHS_MM, total, hardening)


@lru_cache(maxsize=8)
def relative_to_water(model: BeamModel) -> dict[str, float]:
    """Return μ/ρ of each material over that of water, averaged over the energy released at 100 mm depth in water."""
    energies, released = energy_released(model, 100.0)
    water = mass_attenuation_cm2_g("water", energies)
    return {
        material: float((released * mass_attenuation_cm2_g(material, energies) / water).sum() / released.sum())
        for material in ("water", "tissue", "lung", "bone")
    }


def water_equivalent_ratio(density_g_cm3: NDArray[np.floating], model: BeamModel) -> NDArray[np.float32]:
    """Return the water-equivalent density over the mass density of each voxel.

    The mass density alone would count bone 7 % too dense, for its electrons are fewer per gram. The ratio is that of
    the mass attenuation coefficients at the energies of the beam (nearly that of electrons per gram), and it serves
    attenuation, the transport of electrons and scattered photons, and the dose to the medium alike.

    Voxels of exactly 1.000 g/cm³ are water; others between the thresholds are soft tissue.
    """
    density = np.asarray(density_g_cm3)
    ratio = relative_to_water(model)
    # A fine table over density is much quicker than np.interp on every voxel, and exact to 0.001 g/cm³.
    top = max(float(density.max()) if density.size else 0.0, 2.0)
    nodes = np.arange(0.0, top + 0.002, 0.001)
    points = (*_LUNG_TO_TISSUE, *_TISSUE_TO_BONE)
    values = (ratio["lung"], ratio["tissue"], ratio["tissue"], ratio["bone"])
    table = np.interp(nodes, points, values)
    table[np.abs(nodes - 1.0) < _WATER_TOLERANCE] = ratio["water"]
    flat, table = np.ascontiguousarray(density).ravel(), table.astype(np.float32)
    result = np.empty(flat.size, dtype=np.float32)
    shared_out(lambda voxels: _look_up(flat[voxels], table, result[voxels]), spans(flat.size, _SPAN_VOXELS))
    return result.reshape(density.shape)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _look_up(density, table, found):  # type: ignore[no-untyped-def]
    for n in range(density.size):
        found[n] = table[int(np.rint(density[n] * np.float32(1000.0)))]


def stopping_power_ratio(ratio: NDArray[np.float32], model: BeamModel) -> NDArray[np.float32]:
    """Return the mass collision stopping power of each voxel over that of water.

    In water, lung and soft tissue it is that of the attenuation within 0.4 %, and taken to be the same. In bone it is
    0.893 (0.888 to 0.898 between 0.05 and 6 MeV; Bethe's formula with the density effect of Sternheimer, Berger and
    Seltzer 1984, doi:10.1016/0092-640X(84)90002-0), where μ/ρ is 0.951 of water's at 6 MV; between tissue and bone it
    goes with the share of bone in the mass.

    Parameters
    ----------
    ratio
        Water-equivalent over mass density, as :func:`water_equivalent_ratio` gives it.
    """
    known = relative_to_water(model)
    per_bone = (known["bone"] - _BONE_STOPPING) / (known["tissue"] - known["bone"])
    bone = np.maximum(np.float32(known["tissue"]) - ratio, np.float32(0.0))
    return np.asarray(ratio - np.float32(per_bone) * bone, dtype=np.float32)
