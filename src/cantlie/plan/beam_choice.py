"""Beam directions chosen by what they can do together: fluence of all candidates, thinned out to the fields asked for.

Whether a direction is good depends on the others, so that no cost of single directions ranks them. Here the objectives
of the plan are minimised over the beamlets of all candidates at once, on few voxels; the beams that give the target
least are given up, step by step; then single beams are exchanged as long as the objective falls (backward elimination
and local search, as compared by Bangert et al. 2012, doi:10.1088/0031-9155/57/16/5047). Other sets, such as equispaced
ones, are judged in the same way: the choice is never worse than the best of them. Sets are compared once their fluence
has come to rest: before, they differ more by how far they have come than by what they can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError
from cantlie.core.progress import Progress, silent
from cantlie.core.threads import shared_out, spans
from cantlie.plan.matrix import add_product, add_transposed
from cantlie.plan.problem import Problem
from cantlie.plan.solver import minimise

Vector = NDArray[np.float64]

SHARE_DROPPED = 0.25
"""Share of the beams beyond those asked for that is given up at a time."""
FIRST_ITERATIONS, THINNING_ITERATIONS, FINAL_ITERATIONS, TRIAL_ITERATIONS = 30, 10, 150, 20
LEAST_CURVATURE = 0.02
"""Beamlets are stepped by what they give the target, those beside it as if by this share of the most."""
SWEEPS = 3
SHARED_VOXELS = 2048
"""Voxels whose dose is worth a share of the work."""
BESIDE_DEG = 25.0
"""Beams are exchanged for those that stand this near, and for those that promise most."""
PROMISING = 2
LEAST_GAIN = 0.002
"""Share by which an exchange lowers the objective at least."""


@dataclass(frozen=True, slots=True, eq=False)
class CandidateBeam:
    """The dose of one direction's beamlets, by rows of voxels.

    Parameters
    ----------
    axis
        Unit vector from the isocentre to the source, shape (3,).
    start, index, value
        Place of the first entry of every voxel and the end; beamlet and dose in Gy of every entry.
    to_target
        Mean dose of the target for a unit of each beamlet, shape (beamlets,).
    extra
        What choosing the beam costs beside its dose, as a share of the objective (a turn of the couch).
    """

    axis: NDArray[np.float64]
    start: NDArray[np.int64]
    index: NDArray[np.uint16]
    value: NDArray[np.float32]
    to_target: NDArray[np.float64]
    extra: float = 0.0


@dataclass(frozen=True, slots=True)
class BeamChoice:
    """Positions of the chosen candidates, increasing; the objective with them and with each of the other sets."""

    chosen: tuple[int, ...]
    value: float
    of_others: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Fluence:
    """The fluence of some candidates and what it is worth."""

    value: float
    x: Mapping[int, Vector]


class BeamSearch:
    """The search among candidates for the beams whose fluence together serves the objectives best.

    Parameters
    ----------
    beams
        All candidates.
    problem
        Objectives on the dose of one plan in the voxels.
    start_gy
        Mean dose of the target to start from.
    nearest_deg
        Least angle between two chosen beams.
    shares
        Least and most of each beamlet, of what gives every beam an equal share of the target's dose.
    """

    def __init__(
        self,
        beams: Sequence[CandidateBeam],
        problem: Problem,
        start_gy: float,
        nearest_deg: float,
        shares: tuple[float, float] = (0.0, np.inf),
    ) -> None:
        self.beams, self.problem, self.start_gy, self.shares = beams, problem, start_gy, shares
        axes = np.array([beam.axis for beam in beams])
        self.apart_deg = np.degrees(np.arccos(np.clip(axes @ axes.T, -1.0, 1.0)))
        self.crowded = (self.apart_deg < nearest_deg - 0.01) & ~np.eye(len(beams), dtype=bool)
        self.nearest_deg = nearest_deg

    def choose(self, fields: int, others: Sequence[Sequence[int]] = (), progress: Progress = silent) -> BeamChoice:
        """Choose beams.

        Parameters
        ----------
        fields
            How many.
        others
            Sets of as many candidates that are judged as well.

        Raises
        ------
        PlanningError
            If there are fewer candidates than fields, or so many cannot stand that far apart.
        """
        if len(self.beams) < fields:
            raise PlanningError(
                f"only {len(self.beams)} directions are possible for {fields} fields",
                where="beam directions",
                remedy="ask for fewer fields or allow more couch angles",
            )
        progress(0.0, "beam directions: fluence of all")
        everything = self._solved(self._opened(range(len(self.beams))), FIRST_ITERATIONS)
        progress(0.3, "beam directions: thinning out")
        best = self._settled(self._thinned(everything, fields).x)
        rivals = [self._settled(self._opened(other)) for other in others]
        for rival in rivals:
            best = min(best, rival, key=lambda one: one.value)
        best = self._exchanged(best, progress)
        return BeamChoice(tuple(sorted(best.x)), best.value, tuple(rival.value for rival in rivals))

    def _opened(self, chosen: Sequence[int]) -> dict[int, Vector]:
        """Return open fields that give the target its mean dose in equal shares."""
        share = self.start_gy / len(chosen)
        return {
            n: np.full(len(self.beams[n].to_target), share / max(float(self.beams[n].to_target.sum()), 1e-12))
            for n in chosen
        }

    def _solved(self, start: Mapping[int, Vector], iterations: int) -> _Fluence:
        """Return the fluence of the same beams after some steps."""
        chosen = sorted(start)
        parts = list(pairwise(np.cumsum([0, *(len(start[n]) for n in chosen)]).tolist()))
        first = np.concatenate([start[n] for n in chosen])
        scale = max(float(first.mean()), 1e-12)

        def fluence(z: Vector) -> dict[int, Vector]:
            return {n: scale * z[a:b] for n, (a, b) in zip(chosen, parts, strict=True)}

        def function(z: Vector) -> tuple[float, Vector]:
            value, slope = self._evaluated(fluence(z))
            return value, scale * np.concatenate(self._gathered(chosen, slope))

        equal = self._opened(chosen)
        shares = np.concatenate([equal[n] for n in chosen]) / scale
        lower, upper = self.shares[0] * shares, self.shares[1] * np.maximum(shares, 1e-12)
        to_target = np.concatenate([self.beams[n].to_target for n in chosen])
        curvature = np.maximum(to_target / to_target.max(), LEAST_CURVATURE)
        result = minimise(
            function, first / scale, lower=lower, upper=upper, inverse_curvature=1.0 / curvature,
            iterations=iterations, tolerance=1e-3,
        )  # fmt: skip
        extra = float(np.mean([self.beams[n].extra for n in chosen]))
        return _Fluence(result.value * (1.0 + extra), fluence(result.x))

    def _settled(self, start: Mapping[int, Vector]) -> _Fluence:
        return self._solved(start, FINAL_ITERATIONS)

    def _thinned(self, fluence: _Fluence, fields: int) -> _Fluence:
        """Return the fluence of as many beams as asked for: those too near to a stronger one go, then the weakest.

        Raises
        ------
        PlanningError
            If so many cannot stand far enough apart.
        """
        given = self._given(fluence.x)
        alive: list[int] = []
        for n in sorted(given, key=lambda n: -given[n]):
            if not any(self.crowded[n, m] for m in alive):
                alive.append(n)
        if len(alive) < fields:
            raise PlanningError(
                f"{fields} fields cannot stand {self.nearest_deg:g} degrees apart", where="beam directions"
            )
        fluence = self._solved(self._filled({n: fluence.x[n] for n in alive}), THINNING_ITERATIONS)
        while len(fluence.x) > fields:
            given = self._given(fluence.x)
            number = len(given) - max(1, int(SHARE_DROPPED * (len(given) - fields)))
            kept = sorted(given, key=lambda n: -given[n])[:number]
            fluence = self._solved(self._filled({n: fluence.x[n] for n in kept}), THINNING_ITERATIONS)
        return fluence

    def _exchanged(self, fluence: _Fluence, progress: Progress) -> _Fluence:
        """Return a fluence in which single beams were exchanged as long as the objective fell."""
        for sweep in range(SWEEPS):
            before = fluence.value
            given = self._given(fluence.x)
            for step, out in enumerate(sorted(given, key=lambda n: given[n])):
                share = (sweep + step / len(given)) / SWEEPS
                progress(0.5 + 0.5 * share, f"beam directions: objective {fluence.value:.4g}")
                rest = {n: x for n, x in fluence.x.items() if n != out}
                for coming in self._coming(rest, out):
                    start = {**rest, coming: self._opened([coming])[coming] * (given[out] / self.start_gy)}
                    trial = self._solved(self._filled(start), TRIAL_ITERATIONS)
                    if trial.value < (1.0 - LEAST_GAIN) * fluence.value:
                        fluence = trial
                        break
            fluence = self._settled(fluence.x)
            if fluence.value > (1.0 - LEAST_GAIN) * before:
                break
        return fluence

    def _coming(self, rest: Mapping[int, Vector], out: int) -> list[int]:
        """Return candidates to take the place of a beam: those beside it and those that promise most without it."""
        _, slope = self._evaluated(rest)
        free = [
            n
            for n in range(len(self.beams))
            if n != out and n not in rest and not any(self.crowded[n, m] for m in rest)
        ]
        promise = {}
        for n, own in zip(free, self._gathered(free, slope), strict=True):
            price = np.maximum(-own, 0.0) / max(float(self.beams[n].to_target.mean()), 1e-12)
            promise[n] = float(np.sum(price**2))
        order = sorted(promise, key=lambda n: -promise[n])
        return [n for place, n in enumerate(order) if place < PROMISING or self.apart_deg[n, out] <= BESIDE_DEG]

    def _dose_gy(self, x: Mapping[int, Vector]) -> NDArray[np.float64]:
        dose = np.zeros(len(self.beams[0].start) - 1, dtype=np.float32)
        weights = {n: own.astype(np.float32) for n, own in x.items()}

        def add(voxels: slice) -> None:
            for n, own in weights.items():
                beam = self.beams[n]
                add_product(beam.start[voxels.start : voxels.stop + 1], beam.index, beam.value, own, dose[voxels])

        shared_out(add, spans(len(dose), SHARED_VOXELS))
        return dose.astype(np.float64)

    def _evaluated(self, x: Mapping[int, Vector]) -> tuple[float, NDArray[np.float32]]:
        value, (slope,) = self.problem.evaluate([self._dose_gy(x)])
        return value, slope.astype(np.float32)

    def _gathered(self, numbers: Sequence[int], slope: NDArray[np.float32]) -> list[Vector]:
        """Return what a slope per voxel is for the beamlets of some beams."""

        def gathered(n: int) -> Vector:
            beam = self.beams[n]
            result = np.zeros(len(beam.to_target), dtype=np.float32)
            add_transposed(beam.start, beam.index, beam.value, slope, result)
            return result.astype(np.float64)

        return shared_out(gathered, numbers)

    def _given(self, x: Mapping[int, Vector]) -> dict[int, float]:
        """Return the mean dose that each beam gives the target."""
        return {n: float(self.beams[n].to_target @ weights) for n, weights in x.items()}

    def _filled(self, x: Mapping[int, Vector]) -> dict[int, Vector]:
        """Return fluence brought to the target's mean dose."""
        factor = self.start_gy / max(sum(self._given(x).values()), 1e-9)
        return {n: factor * weights for n, weights in x.items()}
