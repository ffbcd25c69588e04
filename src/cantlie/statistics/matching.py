"""Propensity-score matching: nearest neighbour in five orders, calipers, replacement, exact strata, optimal pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from cantlie.core.errors import StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import inputs
from cantlie.statistics.logistic import LogisticModel, logistic

Order = Literal["largest", "smallest", "data", "closest", "random"]
CaliperSD = Literal["all", "pooled", "treated"]
_LARGEST_ASSIGNMENT = 60_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Who was matched with whom.

    Parameters
    ----------
    treated, control
        Row of the treated and of the control of each pair, shape (pairs,); with a ratio several pairs share a treated,
        with replacement several share a control.
    distance
        Absolute difference of the score within each pair, shape (pairs,).
    subclass
        Matched set of each row of the data, −1 if unmatched (−1 also under replacement), shape (n,).
    weight
        Weight of each row in the matched sample, 0 if unmatched, shape (n,).
    caliper
        Largest difference allowed, on the scale of the score; None without one.
    score_sd
        Standard deviations of the score that a caliper could refer to: ``all``, ``pooled``, ``treated``.
    """

    treated: NDArray[np.intp]
    control: NDArray[np.intp]
    distance: NDArray[np.float64]
    subclass: NDArray[np.intp]
    weight: NDArray[np.float64]
    n_treated: int
    n_control: int
    caliper: float | None
    score_sd: dict[str, float]
    method: str
    notes: tuple[Note, ...]

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return int(self.treated.size)

    @property
    def unmatched_treated(self) -> int:
        """Number of treated patients without a match."""
        return self.n_treated - int(np.unique(self.treated).size)

    def table(self) -> pd.DataFrame:
        """Return one row per pair."""
        return pd.DataFrame({"treated": self.treated, "control": self.control, "distance": self.distance})


def score_sds(score: NDArray[np.float64], treated: NDArray[np.bool_]) -> dict[str, float]:
    """Return the standard deviations of a score over all, within groups (root mean variance) and of the treated."""
    v1, v0 = float(np.var(score[treated], ddof=1)), float(np.var(score[~treated], ddof=1))
    return {
        "all": float(np.std(score, ddof=1)),
        "pooled": float(np.sqrt((v1 + v0) / 2)),
        "treated": float(np.sqrt(v1)),
    }


@njit(cache=True)
def _find(link: NDArray[np.intp], i: int) -> int:
    root = i
    while link[root] != root:
        root = link[root]
    while link[i] != root:
        link[i], i = root, link[i]
    return root


@njit(cache=True)
def _nearest_free(
    value: float,
    place: int,
    score: NDArray[np.float64],
    left: NDArray[np.intp],
    right: NDArray[np.intp],
) -> int:
    """Return the free control (index into the sorted scores) nearest to a value, or −1.

    ``place`` is the number of controls sorted before the value. ``left`` and ``right`` lead to the next free one
    (shifted by one on the left, so that 0 means none); of an equal distance on both sides, the left one wins.
    """
    n = score.size
    low = _find(left, place) - 1
    high = _find(right, place)
    if low < 0:
        return high if high < n else -1
    if high >= n:
        return low
    return low if value - score[low] <= score[high] - value else high


@njit(cache=True)
def _take(i: int, left: NDArray[np.intp], right: NDArray[np.intp]) -> None:
    left[i + 1] = i
    right[i] = i + 1


@njit(cache=True)
def _greedy(
    wanted: NDArray[np.float64],
    place: NDArray[np.intp],
    score: NDArray[np.float64],
    caliper: float,
    ratio: int,
    replace: bool,
) -> NDArray[np.intp]:
    """Match treated in the given order; returns sorted-control indices, shape (treated, ratio), −1 for none."""
    n = score.size
    left, right = np.arange(n + 1), np.arange(n + 1)
    match = np.full((wanted.size, ratio), -1)
    if replace:
        for t in range(wanted.size):
            low, high = place[t] - 1, place[t]
            for r in range(ratio):
                if low < 0 and high >= n:
                    break
                take_low = high >= n or (low >= 0 and wanted[t] - score[low] <= score[high] - wanted[t])
                i = low if take_low else high
                if abs(score[i] - wanted[t]) > caliper:
                    break
                match[t, r] = i
                if take_low:
                    low -= 1
                else:
                    high += 1
        return match
    for r in range(ratio):
        for t in range(wanted.size):
            if r > 0 and match[t, r - 1] < 0:
                continue
            i = _nearest_free(wanted[t], place[t], score, left, right)
            if i >= 0 and abs(score[i] - wanted[t]) <= caliper:
                match[t, r] = i
                _take(i, left, right)
    return match


@njit(cache=True)
def _closest(
    wanted: NDArray[np.float64], place: NDArray[np.intp], score: NDArray[np.float64], caliper: float, ratio: int
) -> NDArray[np.intp]:
    """Match the closest pair of all that remain, again and again.

    A heap holds each treated with the distance to its nearest free control; one whose control is gone is put back with
    its next distance. Of equal distances the first row is served first, but those put back come before, last in first
    out (MatchIt's order).
    """
    n, m = score.size, wanted.size
    left, right = np.arange(n + 1), np.arange(n + 1)
    match = np.full((m, ratio), -1)
    for r in range(ratio):
        heap = np.empty((m, 2))
        who = np.empty(m, dtype=np.intp)
        size = 0
        put_back = 0.0
        for t in range(m):
            if r > 0 and match[t, r - 1] < 0:
                continue
            i = _nearest_free(wanted[t], place[t], score, left, right)
            if i < 0 or abs(score[i] - wanted[t]) > caliper:
                continue
            size = _push(heap, who, size, abs(score[i] - wanted[t]), float(t), t)
        while size > 0:
            distance, t = heap[0, 0], who[0]
            size = _pop(heap, who, size)
            i = _nearest_free(wanted[t], place[t], score, left, right)
            if i < 0:
                continue
            now = abs(score[i] - wanted[t])
            if now > distance:
                if now <= caliper:
                    put_back -= 1.0
                    size = _push(heap, who, size, now, put_back, t)
                continue
            match[t, r] = i
            _take(i, left, right)
    return match


@njit(cache=True)
def _before(heap: NDArray[np.float64], i: int, distance: float, turn: float) -> bool:
    return heap[i, 0] < distance or (heap[i, 0] == distance and heap[i, 1] < turn)


@njit(cache=True)
def _push(heap: NDArray[np.float64], who: NDArray[np.intp], size: int, distance: float, turn: float, t: int) -> int:
    i = size
    while i > 0:
        parent = (i - 1) // 2
        if _before(heap, parent, distance, turn):
            break
        heap[i], who[i] = heap[parent], who[parent]
        i = parent
    heap[i, 0], heap[i, 1], who[i] = distance, turn, t
    return size + 1


@njit(cache=True)
def _pop(heap: NDArray[np.float64], who: NDArray[np.intp], size: int) -> int:
    size -= 1
    distance, turn, t = heap[size, 0], heap[size, 1], who[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and _before(heap, child + 1, heap[child, 0], heap[child, 1]):
            child += 1
        if not _before(heap, child, distance, turn):
            break
        heap[i], who[i] = heap[child], who[child]
        i = child
    heap[i, 0], heap[i, 1], who[i] = distance, turn, t
    return size


def propensity_score(
    treatment: ArrayLike, covariates: pd.DataFrame | ArrayLike, *, firth: bool = False
) -> LogisticModel:
    """Return the logistic model of treatment given covariates: ``fitted`` is the score, ``linear`` its logit.

    References
    ----------
    Rosenbaum and Rubin 1983, doi:10.1093/biomet/70.1.41.
    """
    return logistic(treatment, covariates, firth=firth)


def match(
    treatment: ArrayLike,
    score: ArrayLike,
    *,
    method: Literal["nearest", "optimal"] = "nearest",
    order: Order = "largest",
    caliper: float | None = 0.2,
    caliper_sd: CaliperSD | None = "all",
    ratio: int = 1,
    replace: bool = False,
    exact: ArrayLike | None = None,
    seed: int = 0,
) -> Matching:
    """Match every treated patient to controls of a similar score.

    Parameters
    ----------
    treatment
        1 for treated, 0 for control.
    score
        What to match on: the logit of the propensity score (recommended) or the score itself.
    method
        ``nearest`` (greedy) or ``optimal`` (most pairs within the caliper, then the smallest sum of distances).
    order
        Whom greedy matching serves first: the ``largest`` score (MatchIt's default), the ``smallest``, in order of the
        ``data``, the ``closest`` pair of all, or at ``random`` (with ``seed``). Equal scores keep the order of the
        data; among them the nearest in that order is taken.
    caliper
        Largest distance in a pair, in standard deviations (or absolute, if ``caliper_sd`` is None); None for no limit.
    caliper_sd
        Which standard deviation: of the score over ``all`` patients (as MatchIt), ``pooled`` within groups (as Austin
        recommends), of the ``treated``, or None for an absolute caliper. The result says which one was used.
    ratio
        Controls per treated patient; everybody gets a first one before anyone gets a second.
    replace
        Let controls serve several times.
    exact
        Label per patient; matched patients share it.

    Raises
    ------
    StatisticsError
        If a group is empty, an option unknown, or there are no pairs within the caliper.

    References
    ----------
    Austin 2011, doi:10.1002/pst.433 (caliper); Ho, Imai, King and Stuart 2011, doi:10.18637/jss.v042.i08.
    """
    x = inputs.numbers(score, "score")
    z = inputs.events(treatment, "treatment", length=x.size)
    if not z.any() or z.all():
        raise StatisticsError("matching needs treated patients and controls", where="treatment")
    if min(int(z.sum()), int((~z).sum())) < 2:
        raise StatisticsError("matching needs at least two patients in each group", where="treatment")
    if order not in ("largest", "smallest", "data", "closest", "random"):
        raise StatisticsError(f"unknown order {order!r}", where="matching", remedy="largest, smallest, data, closest")
    if ratio < 1 or ratio != int(ratio):
        raise StatisticsError(f"the ratio is a whole number from 1 up, not {ratio}", where="matching")
    sds = score_sds(x, z)
    limit = None if caliper is None else _limit(caliper, caliper_sd, sds)
    width = float("inf") if limit is None else limit
    scale = float(np.abs(x).max())
    rounded = np.round(x / scale, 12) * scale if scale > 0 else x
    blocks = np.zeros(x.size, dtype=np.intp) if exact is None else inputs.labels(exact, "exact", length=x.size)[0]
    generator = np.random.default_rng(seed)
    found: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for block in range(int(blocks.max()) + 1):
        treated, controls = np.flatnonzero(z & (blocks == block)), np.flatnonzero(~z & (blocks == block))
        if treated.size == 0 or controls.size == 0:
            continue
        if method == "optimal":
            found.append(_optimal(treated, controls, rounded, width, ratio))
        else:
            found.append(_nearest(treated, controls, rounded, width, int(ratio), order, replace, generator))
    if not found or not sum(t.size for t, _ in found):
        raise StatisticsError("no pair lies within the caliper", where="matching", remedy="widen the caliper")
    first = np.concatenate([t for t, _ in found])
    second = np.concatenate([c for _, c in found])
    place = np.argsort(first, kind="stable")
    first, second = first[place], second[place]
    subclass, weight = _subclasses_and_weights(first, second, x.size, replace)
    lost = int(z.sum()) - np.unique(first).size
    notes = []
    if lost:
        notes.append(Note(f"{lost} of {int(z.sum())} treated patients found no match and are left out", "matching"))
    if limit is not None and caliper_sd is not None:
        words = {"all": "over all patients", "pooled": "pooled within groups", "treated": "of the treated"}[caliper_sd]
        notes.append(Note(f"caliper {caliper:g} SD of the score {words} = {limit:.4g}", "matching", "info"))
    name = "optimal" if method == "optimal" else f"nearest neighbour, {order} first"
    return Matching(
        treated=first,
        control=second,
        distance=np.abs(x[first] - x[second]),
        subclass=subclass,
        weight=weight,
        n_treated=int(z.sum()),
        n_control=int((~z).sum()),
        caliper=limit,
        score_sd=sds,
        method=f"{name}, {ratio}:1, {'with' if replace else 'without'} replacement",
        notes=tuple(notes),
    )


def _limit(caliper: float, caliper_sd: CaliperSD | None, sds: Mapping[str, float]) -> float:
    """Return the largest distance in a pair, in the unit of the score."""
    if not caliper > 0:
        raise StatisticsError(f"a caliper is positive, not {caliper:g}", where="matching")
    if caliper_sd is not None and caliper_sd not in sds:
        raise StatisticsError(f"unknown standard deviation {caliper_sd!r}", where="matching", remedy="use all")
    return caliper * (1.0 if caliper_sd is None else sds[caliper_sd])


def _subclasses_and_weights(
    treated: NDArray[np.intp], controls: NDArray[np.intp], size: int, replace: bool
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the subclass (-1: none) and the weight of every patient, given pairs in the order of the treated."""
    per_treated = np.bincount(treated, minlength=size)
    weight = inputs.sums(controls, 1.0 / per_treated[treated], size)
    used = weight > 0
    weight[used] *= used.sum() / weight[used].sum()
    weight[np.unique(treated)] = 1.0
    subclass = np.full(size, -1, dtype=np.intp)
    if not replace:
        number = np.unique(treated, return_inverse=True)[1]
        subclass[treated] = number
        subclass[controls] = number
    return subclass, weight


def _nearest(
    treated: NDArray[np.intp],
    controls: NDArray[np.intp],
    score: NDArray[np.float64],
    width: float,
    ratio: int,
    order: Order,
    replace: bool,
    generator: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of a block by nearest-neighbour matching."""
    # Equal scores stand in the order of the data, treated and controls together.
    together = np.sort(np.concatenate([treated, controls]))
    together = together[np.argsort(score[together], kind="stable")]
    before = np.zeros(score.size, dtype=np.intp)
    before[together] = np.cumsum(np.isin(together, controls))
    if order in ("largest", "smallest"):
        sign = -1.0 if order == "largest" else 1.0
        treated = treated[np.argsort(sign * score[treated], kind="stable")]
    elif order == "random":
        treated = generator.permutation(treated)
    controls = controls[np.argsort(score[controls], kind="stable")]
    if order == "closest" and not replace:
        chosen = _closest(score[treated], before[treated], score[controls], width, ratio)
    else:
        chosen = _greedy(score[treated], before[treated], score[controls], width, ratio, replace)
    t_index, r_index = np.nonzero(chosen >= 0)
    return treated[t_index], controls[chosen[t_index, r_index]]


def _optimal(
    treated: NDArray[np.intp], controls: NDArray[np.intp], score: NDArray[np.float64], width: float, ratio: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    repeated = np.repeat(treated, ratio)
    if repeated.size * controls.size > _LARGEST_ASSIGNMENT:
        raise StatisticsError(
            f"optimal matching of {repeated.size} × {controls.size} patients needs too much memory",
            where="matching",
            remedy="use nearest-neighbour matching, or exact strata",
        )
    cost = np.abs(score[repeated][:, None] - score[controls][None, :])
    forbidden = cost > width
    penalty = (float(cost[~forbidden].max()) + 1.0) * (min(cost.shape) + 1) if (~forbidden).any() else 1.0
    rows, columns = optimize.linear_sum_assignment(np.where(forbidden, penalty, cost))
    allowed = ~forbidden[rows, columns]
    return repeated[rows[allowed]], controls[columns[allowed]]
