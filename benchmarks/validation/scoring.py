"""A calculated dose against a Monte Carlo reference on cells of any width, as a physicist would compare them.

The calculated dose is averaged over every Monte Carlo cell exactly: trilinear interpolation is separable, so that the
mean over a box is one product of small matrices per axis. Regions are those of the oracle's own script (axis, field,
tail in the frame of the beam); the code is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.evaluation.gamma import gamma_index

from .beams import crossing

Array = NDArray[np.float64]
FROM_MM = 15.0
"""Depth at which scoring starts: build-up is judged by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A Monte Carlo dose in Gy on cells given by their edges along z, y, x; all arrays are [k, j, i]."""

    edges_mm: tuple[Array, Array, Array]
    dose_gy: Array
    sigma_gy: Array
    depth_mm: Array
    scored: NDArray[np.bool_]
    source_mm: Array
    isocentre_mm: Array
    field_mm: float
    case: dict[str, Any]

    @classmethod
    def of_case(cls, case: dict[str, Any], arrays: Any) -> Reference:
        """Return the reference of a case: its case.json and expected.npz."""
        dose, sigma = arrays["dose_Gy"].astype(float), arrays["sigma_Gy"].astype(float)
        depth = arrays["depth_mm"].astype(float)
        scored = np.isfinite(dose) & np.isfinite(depth) & (arrays["material"] != 0) & (sigma > 0) & (dose > 0)
        edges = tuple(arrays[f"{axis}_edges_mm"].astype(float) for axis in "zyx")
        return cls(
            edges, dose, sigma, depth, scored, np.array(case["source_mm"]), np.array(case["isocentre_mm"]),
            10.0 * case["field_cm_at_isocentre"], case,
        )  # fmt: skip

    @property
    def centres_mm(self) -> tuple[Array, ...]:
        """Centres of the cells along z, y, x."""
        return tuple(0.5 * (e[1:] + e[:-1]) for e in self.edges_mm)

    def points_mm(self) -> Array:
        """Return the centres (x, y, z), shape (nk, nj, ni, 3)."""
        z, y, x = np.meshgrid(*self.centres_mm, indexing="ij")
        return np.stack([x, y, z], axis=-1)


def mean_weights(edges_mm: Array, centres_mm: Array) -> Array:
    """Return the matrix that turns values at even centres into means over cells, shape (cells, centres).

    Between centres the values are interpolated linearly; rows of cells beyond the outermost centres sum to less than 1.
    """
    step = centres_mm[1] - centres_mm[0]
    t = np.clip((edges_mm[:, None] - centres_mm) / step, -1.0, 1.0)
    integral = np.where(t < 0, 0.5 * (1 + t) ** 2, 1 - 0.5 * (1 - t) ** 2)
    return np.diff(integral, axis=0) * step / np.diff(edges_mm)[:, None]


def linear_weights(centres_mm: Array, at_mm: Array) -> Array:
    """Return the matrix that interpolates values at any ascending centres linearly, shape (points, centres)."""
    low = np.clip(np.searchsorted(centres_mm, at_mm) - 1, 0, centres_mm.size - 2)
    share = np.clip((at_mm - centres_mm[low]) / (centres_mm[low + 1] - centres_mm[low]), 0.0, 1.0)
    weights = np.zeros((at_mm.size, centres_mm.size))
    weights[np.arange(at_mm.size), low] = 1 - share
    weights[np.arange(at_mm.size), low + 1] = share
    return weights


def apply(weights: tuple[Array, Array, Array], values: NDArray[Any]) -> Array:
    """Apply one matrix per axis [k, j, i] to an array."""
    result = np.asarray(values, dtype=np.float64)
    for axis, matrix in enumerate(weights):
        result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
    return result


@dataclass(slots=True)
class Score:
    """What came out; percentages of the reference unless the name says otherwise, with standard uncertainties."""

    axis_depth_mm: Array
    axis_percent: Array
    axis_sigma: Array
    axis_far: NDArray[np.bool_]
    axis_mean: tuple[float, float]
    axis_worst: tuple[float, float]
    field_mean: tuple[float, float]
    off_axis_excess: float
    tail: tuple[float, float]
    penumbra_mm: float
    edge_mm: float
    build_up_mm: tuple[float, float]
    gamma_local: float
    gamma_local_raw: float
    gamma_global: float
    gamma_points: int


def score(reference: Reference, dose: Volume) -> Score:
    """Compare a dose in Gy with a reference."""
    grid = dose.grid
    weights = tuple(
        mean_weights(e, c) for e, c in zip(reference.edges_mm, (grid.z_mm, grid.y_mm, grid.x_mm), strict=True)
    )
    ours = apply(weights, dose.values)
    reached = apply(weights, np.ones(grid.shape)) > 0.999
    case = reference.case
    theirs, sigma, depth = reference.dose_gy, reference.sigma_gy, reference.depth_mm
    widths = [np.diff(e) for e in reference.edges_mm]
    volume = widths[0][:, None, None] * widths[1][:, None] * widths[2]
    bx, bz, half_cell = _beam_frame(reference)
    outside = np.maximum(np.abs(bx), np.abs(bz)) - 0.5 * reference.field_mm
    base = reference.scored & reached & (depth >= FROM_MM)
    field_cm = reference.field_mm / 10
    margin = 4.0 if field_cm <= 2 else 5.0 if field_cm <= 3 else 7.0
    narrow = 4.0 if field_cm <= 2 else 6.0 if field_cm <= 3 else 10.0
    inside = base & (outside + half_cell < 1.0 - margin)
    on_axis = base & (np.abs(bx) < narrow) & (np.abs(bz) < narrow)
    inflation = case.get("sigma_inflation", {})
    symmetry = float(case.get("symmetry_multiplicity", 1))
    in_bin = symmetry * inflation.get("bin", 1.0) ** 2
    in_region = symmetry * inflation.get("region", 1.0) ** 2

    def mean_of(chosen: NDArray[np.bool_], share: float) -> tuple[float, float]:
        total = (theirs * volume)[chosen].sum()
        noise = np.sqrt((((sigma * volume)[chosen]) ** 2).sum() * share)
        return 100 * ((ours * volume)[chosen].sum() / total - 1), 100 * noise / total

    top = float(np.percentile(theirs[inside], 99.5))
    axis, far = _axis(reference, on_axis, mean_of, in_bin, top)
    best = 1 / np.maximum(axis[:, 2], 0.05) ** 2
    region_to_bin = inflation.get("region", 1.0) / inflation.get("bin", 1.0)
    axis_mean = float((best * axis[:, 1]).sum() / best.sum()), float(best.sum() ** -0.5) * region_to_bin
    worst = int(np.argmax(np.where(far, np.abs(axis[:, 1]) - 2 * axis[:, 2], -np.inf)))
    at_depth = np.interp(np.nan_to_num(depth), axis[:, 0], axis[:, 3])
    tail = base & (outside > 10) & (outside < 60)
    tail_found = float("nan"), 0.0
    if tail.any():
        scale = (at_depth * volume)[tail].sum()
        noise = np.sqrt((((sigma * volume)[tail]) ** 2).sum() * in_region)
        tail_found = 100 * ((ours - theirs) * volume)[tail].sum() / scale, 100 * noise / scale
    penumbra, edge = _edges(reference, ours, narrow)
    gamma = _gamma(reference, dose, base, top)
    return Score(
        axis[:, 0], axis[:, 1], axis[:, 2], far, axis_mean, (float(axis[worst, 1]), float(axis[worst, 2])),
        mean_of(inside, in_region), _off_axis(ours, reference, inside & ~on_axis, volume, bx, bz, in_bin), tail_found,
        penumbra, edge, _build_up(reference, dose, ours, outside + half_cell < 1.0 - margin, symmetry), *gamma,
    )  # fmt: skip


def _beam_frame(reference: Reference) -> tuple[Array, Array, Array]:
    """Return where cells project to on the isocentre plane (across the axis in the axial plane, along "
    "z), half width."""
    points = reference.points_mm() - reference.source_mm
    beam = reference.isocentre_mm - reference.source_mm
    sad = float(np.linalg.norm(beam))
    beam = beam / sad
    across = np.cross(beam, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    scale = sad / (points @ beam)
    wz, wy, wx = (np.diff(e) for e in reference.edges_mm)
    in_plane = np.abs(across[0]) * wx + np.abs(across[1]) * wy[:, None]
    half = 0.5 * np.maximum(in_plane[None], wz[:, None, None]) * scale
    return (points @ across) * scale, points[..., 2] * scale, half


def _axis(
    reference: Reference, on_axis: NDArray[np.bool_], mean_of: Any, share: float, top: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Return rows (depth, deviation, sigma, reference dose) of 5 mm, and which are not near an interface."""
    depth = reference.depth_mm
    deepest = depth[on_axis].max()
    interfaces = reference.case.get("interfaces_depth_mm", [])
    rows, far = [], []
    for low in np.arange(FROM_MM, deepest - 15.0 + 1e-6, 5.0):
        chosen = on_axis & (depth >= low) & (depth < low + 5)
        if not chosen.any() or reference.dose_gy[chosen].mean() < 0.03 * top:
            continue
        rows.append((low + 2.5, *mean_of(chosen, share), reference.dose_gy[chosen].mean()))
        far.append(all(abs(low + 2.5 - interface) >= 10 for interface in interfaces))
    return np.array(rows), np.array(far)


def _off_axis(
    ours: Array, reference: Reference, chosen: NDArray[np.bool_], volume: Array, bx: Array, bz: Array, share: float
) -> float:
    """Return the 99th percentile of what bins of 10 x 10 x 20 mm deviate (%) beyond twice their noise."""
    keys = np.stack([np.floor(a[chosen] / s) for a, s in ((bx, 10), (bz, 10), (reference.depth_mm, 20))])
    _, place = np.unique(keys, axis=1, return_inverse=True)
    place = place.ravel()
    v = volume[chosen]
    theirs = np.bincount(place, reference.dose_gy[chosen] * v)
    found = 100 * (np.bincount(place, ours[chosen] * v) / theirs - 1)
    noise = 100 * np.sqrt(np.bincount(place, (reference.sigma_gy[chosen] * v) ** 2) * share) / theirs
    usable = (np.bincount(place) >= 2) & (noise < 3)
    excess = np.sort(np.maximum(np.abs(found[usable]) - 2 * noise[usable], 0))[::-1]
    return float(excess[int(0.01 * excess.size)]) if excess.size else float("nan")


def _edges(reference: Reference, ours: Array, narrow: float) -> tuple[float, float]:
    """Return the largest difference of the 80-20 % penumbra and of the 50 % position (mm) along x, phantoms only."""
    z, y, x = reference.centres_mm
    x0, _, z0 = reference.isocentre_mm
    strip = np.abs(z - z0) < (5 if reference.field_mm <= 30 else 10)
    weight = np.diff(reference.edges_mm[0])[strip]
    widths, positions = [0.0], [0.0]
    depths = reference.case.get("profile_depths_mm") or []
    for depth in depths:
        j = int(np.argmin(np.abs(y - reference.case["surface_point_mm"][1] - depth)))
        edges = {}
        for name, values in (("theirs", reference.dose_gy), ("ours", ours)):
            profile = np.average(values[strip, j], axis=0, weights=weight)
            profile = profile / profile[np.abs(x - x0) < narrow].mean()
            for side in (1, -1):
                order = np.argsort(side * (x - x0))
                order = order[side * (x - x0)[order] >= 0]
                line = side * (x - x0)[order]
                edges[name, side] = [crossing(line, profile[order], level) for level in (0.8, 0.5, 0.2)]
        a, b = ([edges[name, side] for side in (1, -1)] for name in ("theirs", "ours"))
        widths.append(float(np.mean([(q[2] - q[0]) - (p[2] - p[0]) for p, q in zip(a, b, strict=True)])))
        positions += [q[1] - p[1] for p, q in zip(a, b, strict=True)]
    if not depths:
        return float("nan"), float("nan")
    return max(widths, key=abs), max(positions, key=abs)


def _build_up(
    reference: Reference, dose: Volume, ours: Array, inside: NDArray[np.bool_], symmetry: float
) -> tuple[float, float]:
    """Return how far along the beam (mm) the calculated build-up must be moved to fit that of the reference best."""
    chosen = reference.scored & inside & (reference.depth_mm >= 4) & (reference.depth_mm < 14)
    if np.count_nonzero(chosen) < 4:
        return float("nan"), 0.0
    beam = reference.isocentre_mm - reference.source_mm
    beam = beam / np.linalg.norm(beam)
    points = reference.points_mm()[chosen]
    slope = 0.5 * (dose.sample(points + beam) - dose.sample(points - beam))
    deeper = inside & reference.scored & (reference.depth_mm >= FROM_MM)
    scale = ours[deeper].sum() / reference.dose_gy[deeper].sum()
    gap = ours[chosen] / scale - reference.dose_gy[chosen]
    weight = 1 / (reference.sigma_gy[chosen] ** 2 + (0.02 * reference.dose_gy[chosen]) ** 2)
    strength = (weight * slope**2).sum()
    return float((weight * gap * slope).sum() / strength) * -1.0, float(np.sqrt(symmetry / strength))


def _gamma(reference: Reference, dose: Volume, base: NDArray[np.bool_], top: float) -> tuple[float, float, float, int]:
    """Return the share of points (%) with gamma 2 %/2 mm of at most 1: local, local without regard to noise, global.

    On even cells the calculated dose is averaged over a cell around every point. Uneven cells are interpolated to even
    points 3 mm apart where they are at most 8 mm wide. The dose criterion is widened by two standard deviations of the
    reference, in six classes of noise, each by the least noise in it.
    """
    edges = reference.edges_mm
    even = all(np.ptp(np.diff(e)) < 1e-3 for e in edges)
    if even:
        step = [float(e[1] - e[0]) for e in edges]
        grid = Grid(reference.dose_gy.shape, tuple(step[::-1]), tuple(float(c[0]) for c in reference.centres_mm[::-1]))
        theirs, sigma, region = reference.dose_gy, reference.sigma_gy, base
        own = (dose.grid.z_mm, dose.grid.y_mm, dose.grid.x_mm)
        blur = tuple(_box(c, w) for c, w in zip(own, step, strict=True))
        dose = Volume(dose.grid, apply(blur, dose.values))
    else:
        region_points = reference.points_mm()[base & (reference.dose_gy > 0.1 * top)]
        low, high = region_points.min(axis=0), region_points.max(axis=0)
        count = (np.floor((high - low) / 3.0) + 1).astype(int)
        grid = Grid(tuple(int(n) for n in count[::-1]), (3.0,) * 3, tuple(float(v) for v in low))
        weights = tuple(
            linear_weights(c, at) for c, at in zip(reference.centres_mm, (grid.z_mm, grid.y_mm, grid.x_mm), strict=True)
        )
        theirs = apply(weights, reference.dose_gy)
        sigma = np.sqrt(apply(tuple(w**2 for w in weights), reference.sigma_gy**2))
        slim = np.ones(reference.dose_gy.shape, dtype=bool)
        for axis, e in enumerate(edges):
            shape = [1, 1, 1]
            shape[axis] = -1
            slim &= (np.diff(e) <= 8).reshape(shape)
        region = apply(weights, (base & slim).astype(float)) > 0.999
    volume = Volume(grid, theirs)
    region = region & (theirs > 0.1 * top) & (sigma > 0)
    # every second point at most: neighbours say the same, and 40,000 are plenty
    every = max(1, int(np.count_nonzero(region) / 40_000) + 1)
    thinned = np.zeros(region.size, dtype=bool)
    thinned[np.flatnonzero(region)[::every]] = True
    region = thinned.reshape(region.shape)
    relative = np.where(region, sigma / np.maximum(theirs, 1e-9), 0)
    classes = np.quantile(relative[region], np.linspace(0, 1, 7))
    passed = {"local": 0.0, "global": 0.0}
    for low_noise, high_noise in pairwise(classes):
        last = high_noise == classes[-1]
        chosen = region & (relative >= low_noise) & ((relative <= high_noise) if last else (relative < high_noise))
        if not chosen.any():
            continue
        least_gy = float(sigma[chosen].min())
        for name, local, noise in (("local", True, 100 * low_noise), ("global", False, 100 * least_gy / top)):
            result = gamma_index(
                volume, dose, dose_percent=float(np.hypot(2.0, 2 * noise)), distance_mm=2.0, local=local,
                threshold_percent=10.0, normalisation_gy=top, limit=1.0, region=chosen,
            )  # fmt: skip
            passed[name] += result.judged * _below(result)
    raw = gamma_index(
        volume, dose, dose_percent=2.0, distance_mm=2.0, local=True, threshold_percent=10.0, normalisation_gy=top,
        limit=1.0, region=region,
    )  # fmt: skip
    return passed["local"] / raw.judged, _below(raw), passed["global"] / raw.judged, raw.judged


def _below(result: Any) -> float:
    """Return the share (%) of points below 1: the search stops at 1, so that 1 itself means not found."""
    values = result.gamma[np.isfinite(result.gamma)]
    return 100.0 * float(np.mean(values < 1.0))


def _box(centres_mm: Array, width_mm: float) -> Array:
    """Return the matrix that averages values at even centres over a box around each of them."""
    rows = [mean_weights(np.array([c - 0.5 * width_mm, c + 0.5 * width_mm]), centres_mm)[0] for c in centres_mm]
    weights = np.array(rows)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
