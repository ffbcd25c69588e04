"""Projected limited-memory quasi-Newton minimisation with simple bounds, warm starts, progress and cancellation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cantlie.plan.products import dot

Vector = NDArray[np.float64]
Function = Callable[[Vector], tuple[float, Vector]]
Projection = Callable[[Vector], Vector]
Watch = Callable[[int, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    """Where a minimisation ended: the point, its value, the values of all steps, and whether it stopped by itself."""

    x: Vector
    value: float
    values: tuple[float, ...]
    evaluations: int
    converged: bool


def minimise(
    function: Function,
    start: Vector,
    *,
    lower: Vector | float = 0.0,
    upper: Vector | float = np.inf,
    inverse_curvature: Vector | None = None,
    project: Projection | None = None,
    iterations: int = 100,
    tolerance: float = 1e-5,
    memory: int = 8,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise a smooth function within bounds.

    Two-metric projection with L-BFGS on the free variables (Bertsekas 1982, doi:10.1137/0320018; Nocedal and Wright,
    Numerical Optimization, algorithm 7.4): variables at a bound whose gradient points outwards rest, the others take a
    quasi-Newton step whose projection is shortened until it lowers the function enough.

    Parameters
    ----------
    function
        Gives the value and the gradient at a point.
    start
        First point, brought within the bounds.
    inverse_curvature
        First guess of the inverse Hessian's diagonal, shape of ``start``; the identity by default.
    project
        Replaces the clipping to the bounds where more than simple bounds must hold.
    tolerance
        The minimisation ends when ten steps together lower the value by less than this share.
    watch
        Called after every step with its number and value; it may raise to cancel.

    Returns
    -------
    Minimum
        The best point seen.
    """

    def clipped(x: Vector) -> Vector:
        return np.clip(x, lower, upper)

    project = project or clipped
    scaling = np.ones_like(start) if inverse_curvature is None else inverse_curvature
    x = project(np.asarray(start, dtype=np.float64))
    f, g = function(x)
    evaluations = 1
    values = [f]
    pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=memory)
    converged = False
    for iteration in range(iterations):
        free = ~(((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)))
        reduced = np.where(free, g, 0.0)
        if not reduced.any():
            converged = True
            break
        direction = -_two_loop(reduced, pairs, free, scaling)
        slope = dot(direction, reduced)
        if slope >= 0:
            pairs.clear()
            direction = -scaling * reduced
            slope = dot(direction, reduced)
        step = 1.0
        if not pairs:
            # the first step: as long as the value would fall by a tenth if the slope stayed as it is
            step = min(1.0, 0.1 * abs(f) / max(-slope, 1e-300)) if f != 0 else 1.0
        accepted = False
        for _ in range(20):
            trial = project(x + step * direction)
            f_trial, g_trial = function(trial)
            evaluations += 1
            if np.isfinite(f_trial) and f_trial <= f + 1e-4 * min(dot(g, trial - x), 0.0):
                accepted = True
                break
            step *= 0.5 if step > 0.2 else 0.25
        if not accepted or f_trial >= f:
            if not pairs:
                converged = True
                break
            pairs.clear()
            continue
        s, y = trial - x, g_trial - g
        curvature = dot(s, y)
        if curvature > 1e-10 * np.sqrt(dot(s, s) * dot(y, y)):
            pairs.append((s, y, curvature))
        x, f, g = trial, f_trial, g_trial
        values.append(f)
        if watch is not None:
            watch(iteration, f)
        if len(values) > 10 and values[-11] - f <= tolerance * max(abs(f), 1e-30):
            converged = True
            break
    return Minimum(x, f, tuple(values), evaluations, converged)


def _two_loop(
    gradient: Vector, pairs: deque[tuple[Vector, Vector, float]], free: NDArray[np.bool_], scaling: Vector
) -> Vector:
    """Return the inverse Hessian times the gradient, on the free variables only."""
    q = gradient.copy()
    kept = []
    for s, y, _ in reversed(pairs):
        y_free = np.where(free, y, 0.0)
        curvature = dot(s, y_free)
        if curvature <= 1e-12 * np.sqrt(dot(s, s) * dot(y, y)):
            continue
        alpha = dot(s, q) / curvature if free.all() else dot(np.where(free, s, 0.0), q) / curvature
        q -= alpha * y_free
        kept.append((s, y_free, curvature, alpha))
    if kept:
        _, y_last, curvature, _ = kept[0]
        q *= scaling * (curvature / max(dot(y_last, scaling * y_last), 1e-300))
    else:
        q *= scaling
    for s, y_free, curvature, alpha in reversed(kept):
        beta = dot(y_free, q) / curvature
        q += (alpha - beta) * np.where(free, s, 0.0)
    q[~free] = 0.0
    return q
