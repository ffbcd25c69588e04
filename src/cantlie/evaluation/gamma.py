"""The gamma index of two doses, in two or three dimensions.

Low et al. 1998, doi:10.1118/1.598248, equations 4 to 6; tolerances and thresholds as in AAPM TG-218, Miften et al.
2018, doi:10.1002/mp.12810.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.core.errors import DoseError
from cantlie.core.volume import Volume

_SHARES = 10
_BOXES = 4


@dataclass(frozen=True, slots=True, eq=False)
class GammaResult:
    """Gamma of every reference voxel.

    Attributes
    ----------
    gamma
        On the reference grid, [k, j, i]; NaN below the threshold and where the evaluated dose does not reach. Values
        stop at ``limit``.
    pass_percent
        Share of the judged voxels with gamma of at most 1.
    judged
        Number of voxels judged.
    mean, median, p95
        Of gamma over the judged voxels.
    uncovered
        Voxels above the threshold that were not judged because the evaluated dose does not reach them.
    """

    gamma: NDArray[np.float32]
    pass_percent: float
    judged: int
    mean: float
    median: float
    p95: float
    dose_percent: float
    distance_mm: float
    local: bool
    threshold_percent: float
    normalisation_gy: float
    limit: float
    two_dimensional: bool = False
    uncovered: int = 0


def gamma_index(
    reference: Volume,
    evaluated: Volume,
    *,
    dose_percent: float = 3.0,
    distance_mm: float = 2.0,
    local: bool = False,
    threshold_percent: float = 10.0,
    normalisation_gy: float | None = None,
    limit: float = 2.0,
    two_dimensional: bool = False,
    region: NDArray[np.bool_] | None = None,
) -> GammaResult:
    """Return the gamma index of an evaluated dose at the voxels of a reference dose.

    The evaluated dose is interpolated trilinearly and searched on shells around each reference voxel, a tenth of the
    distance criterion apart and with points about as close to each other on it. A shell is connected, so the dose
    it takes every value between the least and the largest; between two shells the gap to the reference dose is taken as
    linear. The search stops as soon as no farther point can be better, and passes over shells that cannot be: the dose
    around a voxel lies between the least and the largest value of the voxels around it.

    Parameters
    ----------
    reference, evaluated
        Doses in Gy on any two grids.
    dose_percent, distance_mm
        The criteria, such as 3 % and 2 mm.
    local
        Whether the dose criterion is relative to the reference dose in the voxel; otherwise to ``normalisation_gy``.
    threshold_percent
        Voxels whose reference dose is below this share of ``normalisation_gy`` are not judged.
    normalisation_gy
        The dose that is 100 %; the maximum of the reference when not given.
    limit
        Gamma beyond which the search stops.
    two_dimensional
        Search only in the axial plane of each voxel.
    region
        Judge only these voxels of the reference, shape of its grid.

    Raises
    ------
    DoseError
        If a criterion is not positive, or no voxel can be judged.
    """
    if dose_percent <= 0 or distance_mm <= 0 or limit < 1:
        raise DoseError(
            "gamma needs positive criteria and a limit of at least 1", where=f"{dose_percent} % / {distance_mm} mm"
        )
    normal = float(reference.values.max()) if normalisation_gy is None else normalisation_gy
    if not normal > 0:
        raise DoseError("the reference dose is zero everywhere", where="gamma")
    wanted = reference.values >= threshold_percent / 100.0 * normal
    if region is not None:
        wanted &= region
    offsets, starts = _shells(distance_mm, limit, two_dimensional)
    spacing = np.asarray(reference.grid.spacing_mm)[::-1]
    origin = np.asarray(reference.grid.origin_mm)[::-1]
    evaluated_spacing = np.asarray(evaluated.grid.spacing_mm)[::-1]
    gamma = np.full(reference.grid.shape, np.nan, dtype=np.float32)
    values = np.ascontiguousarray(evaluated.values, dtype=np.float32)
    shift = (origin - np.asarray(evaluated.grid.origin_mm)[::-1]) / evaluated_spacing
    scale = spacing / evaluated_spacing
    steps = offsets / evaluated_spacing
    voxels = np.argwhere(wanted)
    least, largest, corner = _windows(values, voxels, shift, scale, steps, starts)
    given = (np.ascontiguousarray(reference.values, dtype=np.float32), values, least, largest, corner)
    numbers = (distance_mm / _SHARES, distance_mm, dose_percent / 100.0, normal, local, limit, gamma)
    threads = min(len(voxels), numba.get_num_threads(), 8) or 1

    def search(thread: int) -> None:
        _search(*given, np.ascontiguousarray(voxels[thread::threads]), shift, scale, steps, starts, *numbers)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, range(threads)))
    values = gamma[np.isfinite(gamma)]
    if not values.size:
        raise DoseError(
            "no voxel can be judged",
            where="gamma",
            remedy="check that both doses share a frame of reference and that the threshold is below the maximum",
        )
    median, p95 = np.percentile(values, [50, 95])
    return GammaResult(
        gamma=gamma,
        pass_percent=100.0 * float(np.mean(values <= 1.0)),
        judged=int(values.size),
        mean=float(values.mean(dtype=np.float64)),
        median=float(median),
        p95=float(p95),
        dose_percent=dose_percent,
        distance_mm=distance_mm,
        local=local,
        threshold_percent=threshold_percent,
        normalisation_gy=normal,
        limit=limit,
        two_dimensional=two_dimensional,
        uncovered=int(np.count_nonzero(wanted)) - int(values.size),
    )


def _shells(distance_mm: float, limit: float, flat: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return search offsets (z, y, x) in mm, shell by shell, and where each shell starts."""
    step = distance_mm / _SHARES
    shells: list[NDArray[np.floating]] = [np.zeros((1, 3))]
    direction: NDArray[np.floating]
    height: NDArray[np.floating]
    turn: NDArray[np.floating]
    for n in range(1, int(np.ceil(limit * _SHARES)) + 1):
        if flat:
            count = max(8, int(np.ceil(2 * np.pi * n)))
            turn = 2 * np.pi * (np.arange(count) + 0.5 * (n % 2)) / count
            direction = np.stack([np.zeros(count), np.sin(turn), np.cos(turn)], axis=1)
        else:
            # Fibonacci points, about one per square of the shell distance.
            count = max(26, int(np.ceil(4 * np.pi * n * n)))
            height = 1.0 - 2.0 * (np.arange(count, dtype=np.float64) + 0.5) / count
            turn = np.pi * (1 + 5**0.5) * np.arange(count)
            across = np.sqrt(1 - height**2)
            direction = np.stack([height, across * np.sin(turn), across * np.cos(turn)], axis=1)
            direction = np.concatenate([direction, np.eye(3), -np.eye(3)])
        shells.append(n * step * direction)
    starts = np.concatenate([[0], np.cumsum([len(shell) for shell in shells])])
    return np.concatenate(shells).astype(np.float64), starts.astype(np.int64)


@njit(cache=True, nogil=True, inline="always")  # pragma: no cover
def _value(values: NDArray[np.float32], k: float, j: float, i: float) -> float:
    """Trilinear value at fractional indices, NaN outside the outermost voxel edges."""
    nk, nj, ni = values.shape
    if k < -0.5 or j < -0.5 or i < -0.5 or k > nk - 0.5 or j > nj - 0.5 or i > ni - 0.5:
        return np.nan
    k, j, i = min(max(k, 0.0), nk - 1.0), min(max(j, 0.0), nj - 1.0), min(max(i, 0.0), ni - 1.0)
    k0, j0, i0 = min(int(k), max(nk - 2, 0)), min(int(j), max(nj - 2, 0)), min(int(i), max(ni - 2, 0))
    k1, j1, i1 = min(k0 + 1, nk - 1), min(j0 + 1, nj - 1), min(i0 + 1, ni - 1)
    c, b, a = k - k0, j - j0, i - i0
    near = (values[k0, j0, i0] * (1 - a) + values[k0, j0, i1] * a) * (1 - b)
    near += (values[k0, j1, i0] * (1 - a) + values[k0, j1, i1] * a) * b
    far = (values[k1, j0, i0] * (1 - a) + values[k1, j0, i1] * a) * (1 - b)
    far += (values[k1, j1, i0] * (1 - a) + values[k1, j1, i1] * a) * b
    return near * (1 - c) + far * c


def _windows(
    values: NDArray[np.float32],
    voxels: NDArray[np.int64],
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
    steps: NDArray[np.float64],
    starts: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return the least and the largest evaluated dose around every voxel, in boxes that hold whole shells.

    Returns
    -------
    least, largest
        Shapes (boxes, nk, nj, ni); box b holds the shells up to share (b + 1) / boxes of all, with the corners that
        interpolation takes. Only the part of the evaluated grid around the judged voxels.
    corner
        Index of its first voxel in the evaluated grid.
    """
    from scipy import ndimage

    top = np.asarray(values.shape) - 1
    if len(voxels):
        low = np.clip(np.floor(shift + scale * voxels.min(axis=0)).astype(np.int64), 0, top)
        high = np.clip(np.ceil(shift + scale * voxels.max(axis=0)).astype(np.int64), 0, top)
    else:
        low, high = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    reach = np.ceil(np.abs(steps).max(axis=0) + 0.5).astype(np.int64)
    outer_low, outer_high = np.maximum(low - reach, 0), np.minimum(high + reach, top)
    outer = values[tuple(slice(a, b + 1) for a, b in zip(outer_low, outer_high, strict=True))]
    inner = tuple(slice(a, b + 1) for a, b in zip(low - outer_low, high - outer_low, strict=True))
    least, largest = [], []
    shells = len(starts) - 1
    for box in range(_BOXES):
        last = starts[_box_end(shells, box)]
        size = tuple(int(2 * r + 1) for r in np.ceil(np.abs(steps[:last]).max(axis=0) + 0.5))
        least.append(ndimage.minimum_filter(outer, size, mode="nearest")[inner])
        largest.append(ndimage.maximum_filter(outer, size, mode="nearest")[inner])
    return np.stack(least), np.stack(largest), low


@njit(cache=True, nogil=True, inline="always")  # pragma: no cover
def _box_end(shells: int, box: int) -> int:
    """Return the number of shells that lie inside a box."""
    return (shells * (box + 1) + _BOXES - 1) // _BOXES


@njit(cache=True, nogil=True)  # pragma: no cover
def _gap(
    evaluated: NDArray[np.float32],
    dose: float,
    at: tuple[float, float, float],
    offsets: NDArray[np.float64],
    start: int,
    stop: int,
) -> float:
    """Return the least distance in Gy between a dose and those on a shell."""
    low, high, smallest = np.inf, -np.inf, np.inf
    whole = True
    for m in range(start, stop):
        value = _value(evaluated, at[0] + offsets[m, 0], at[1] + offsets[m, 1], at[2] + offsets[m, 2])
        if np.isnan(value):
            whole = False
            continue
        low, high = min(low, value), max(high, value)
        smallest = min(smallest, abs(value - dose))
        if whole and low <= dose <= high:
            return 0.0
    return smallest


@njit(cache=True, nogil=True)  # pragma: no cover
def _search(
    reference: NDArray[np.float32],
    evaluated: NDArray[np.float32],
    least: NDArray[np.float32],
    largest: NDArray[np.float32],
    corner: NDArray[np.int64],
    voxels: NDArray[np.int64],
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
    offsets: NDArray[np.float64],
    starts: NDArray[np.int64],
    step_mm: float,
    distance_mm: float,
    dose_share: float,
    normal_gy: float,
    local: bool,
    limit: float,
    gamma: NDArray[np.float32],
) -> None:
    """Fill gamma at the given voxels."""
    for n in range(len(voxels)):
        k, j, i = voxels[n]
        dose = reference[k, j, i]
        criterion = dose_share * (dose if local else normal_gy)
        if criterion <= 0.0:
            continue
        ek, ej, ei = shift[0] + scale[0] * k, shift[1] + scale[1] * j, shift[2] + scale[2] * i
        if np.isnan(_value(evaluated, ek, ej, ei)):
            continue
        wk = min(max(int(np.floor(ek + 0.5)) - corner[0], 0), least.shape[1] - 1)
        wj = min(max(int(np.floor(ej + 0.5)) - corner[1], 0), least.shape[2] - 1)
        wi = min(max(int(np.floor(ei + 0.5)) - corner[2], 0), least.shape[3] - 1)
        best = limit * limit
        last_gap = -1.0
        box = 0
        shells = len(starts) - 1
        for shell in range(shells):
            inner = max(shell - 1, 0) * step_mm / distance_mm
            if inner * inner >= best:
                break
            while shell >= _box_end(shells, box):
                box += 1
            bound = max(least[box, wk, wj, wi] - dose, dose - largest[box, wk, wj, wi], 0.0) / criterion
            if inner * inner + bound * bound >= best:
                last_gap = -1.0
                continue
            if shell > 0 and last_gap < 0.0:
                last_gap = _gap(evaluated, dose, (ek, ej, ei), offsets, starts[shell - 1], starts[shell]) / criterion
            gap = _gap(evaluated, dose, (ek, ej, ei), offsets, starts[shell], starts[shell + 1]) / criterion
            outer = shell * step_mm / distance_mm
            best = min(best, outer * outer + gap * gap)
            if shell > 0 and gap < last_gap < np.inf:
                # Least square of (inner + t·width, last_gap - t·fall) for t from 0 to 1.
                width, fall = outer - inner, last_gap - gap
                t = min(max((last_gap * fall - inner * width) / (width * width + fall * fall), 0.0), 1.0)
                best = min(best, (inner + t * width) ** 2 + (last_gap - t * fall) ** 2)
            if gap == 0.0:
                break
            last_gap = gap
        gamma[k, j, i] = np.sqrt(best)
