"""Step-and-shoot leaf sequences: a fluence map as the sum of few apertures that the machine can form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from cantlie.machine.machine import Machine
from cantlie.plan.raster import Raster
from cantlie.plan.segments import Segments, make_legal
from cantlie.plan.shapes import best_shape, leaf_rules

Array = NDArray[np.float64]

_LEVELS = (0.2, 0.3, 0.45, 0.6, 0.8)


def sequence(
    fluence_mu: NDArray[np.floating],
    raster: Raster,
    machine: Machine,
    *,
    max_segments: int,
    tolerance: float = 0.02,
) -> Segments:
    """Return segments whose sum comes close to a fluence map.

    Segments are taken one by one: the shape and the monitor units that lower the squared difference most, the shape
    by exact dynamic programming under the rules of the leaves; then the monitor units of all segments are fitted
    again. Segments below the machine's least monitor units are given up.

    Parameters
    ----------
    fluence_mu
        Fluence of the leaf pairs of the raster, shape (leaves, columns), not negative.
    max_segments
        Most segments.
    tolerance
        The sequence ends when the squared difference is below this share (squared) of the squared fluence.

    Returns
    -------
    Segments
        At least one if any fluence is worth the least monitor units, else none.
    """
    wanted = np.asarray(fluence_mu, dtype=np.float64)
    rules = leaf_rules(machine, raster)
    shapes: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    columns: list[Array] = []
    mu = np.zeros(0)
    total = float(np.sum(wanted**2))
    residual = wanted.copy()
    least = max(machine.min_segment_mu, 1e-9)
    while len(shapes) < max_segments and total > 0:
        peak = float(residual.max())
        best_gain = 0.0
        found: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        for level in _LEVELS:
            mu_level = max(level * peak, least)
            worth, lower, upper = best_shape(2 * residual - mu_level, rules)
            if mu_level * worth > best_gain:
                best_gain, found = mu_level * worth, (lower, upper)
        if found is None or best_gain < 1e-4 * total:
            break
        shapes.append(found)
        columns.append(_filled(*found, wanted.shape).ravel())
        matrix = np.stack(columns, axis=1)
        mu = optimize.nnls(matrix, wanted.ravel())[0]
        residual = wanted - (matrix @ mu).reshape(wanted.shape)
        if float(np.sum(residual**2)) <= tolerance**2 * total:
            break
    kept = mu >= least
    while shapes and not kept.all():
        worst = int(np.argmin(mu))
        shapes.pop(worst)
        columns.pop(worst)
        mu = optimize.nnls(np.stack(columns, axis=1), wanted.ravel())[0] if columns else np.zeros(0)
        kept = mu >= least
    segments = _segments(shapes, mu, raster, machine)
    make_legal(segments, machine)
    return segments


def _filled(lower: NDArray[np.int64], upper: NDArray[np.int64], shape: tuple[int, int]) -> Array:
    column = np.arange(shape[1])
    inside = (column >= lower[:, None]) & (column < upper[:, None]) & (lower >= 0)[:, None]
    return inside.astype(np.float64)


def _segments(
    shapes: list[tuple[NDArray[np.int64], NDArray[np.int64]]], mu: Array, raster: Raster, machine: Machine
) -> Segments:
    """Return tips that open the columns of shapes: rounded ends stand as much closer as they open beyond their tips."""
    mlc = machine.mlc
    assert mlc is not None
    leaves = raster.leaves
    lower = raster.left_mm + raster.width_mm * np.array([s[0] for s in shapes], dtype=np.float64).reshape(-1, leaves)
    upper = raster.left_mm + raster.width_mm * np.array([s[1] for s in shapes], dtype=np.float64).reshape(-1, leaves)
    closer = np.clip(0.5 * (upper - lower - mlc.min_gap_mm), 0.0, mlc.tip_offset_mm)
    is_open = np.array([s[0] for s in shapes], dtype=np.int64).reshape(-1, leaves) >= 0
    return Segments(mu.copy(), lower + closer, upper - closer, is_open)
