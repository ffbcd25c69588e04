"""An influence stored for speed: near beamlets one by one, far ones by the mean of their block.

The dose engine's operator never writes its matrix down, which saves memory but costs two small matrix products per
beam and step. An optimiser multiplies hundreds of times, so it pays to store the matrix once. What a voxel gets from
beamlets far away (scatter, below a share of the beamlet's peak) hardly depends on which of them it comes from: it is
kept for blocks of beamlets, so that the dose of an evenly open field stays exact and nothing is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.dose.influence import Influence

Result = TypeVar("Result")

NEAR_SHARE = 0.005
BLOCK = 8


@dataclass(frozen=True, slots=True, eq=False)
class _StoredBeam:
    """The rows of one beam: for every voxel its entries; entries beyond the beamlets are blocks."""

    start: NDArray[np.int64]
    index: NDArray[np.uint16]
    value: NDArray[np.float32]
    block_of: NDArray[np.int32]
    block_size: NDArray[np.float32]

    def extended(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return beamlet weights followed by the mean of every block."""
        means = np.bincount(self.block_of, weights, len(self.block_size)).astype(np.float32) / self.block_size
        return np.concatenate([weights, means])

    def folded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the adjoint of `extended`."""
        count = len(self.block_of)
        shares = values[count:] / self.block_size
        return values[:count] + shares[self.block_of]


@dataclass(frozen=True, slots=True, eq=False)
class StoredInfluence:
    """A stored influence; multiplies like the operator that it was made of, within a few tenths of a percent."""

    voxels: int
    offsets: NDArray[np.int64]
    beams: tuple[_StoredBeam, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Voxels and beamlets."""
        return self.voxels, int(self.offsets[-1])

    @property
    def entries(self) -> int:
        """Number of stored values."""
        return sum(len(beam.value) for beam in self.beams)

    def forward(self, weights_mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the dose in Gy, shape (voxels,), of beamlet weights in MU, shape (beamlets,)."""
        weights = np.asarray(weights_mu, dtype=np.float32)

        def share(which: range) -> NDArray[np.float32]:
            dose = np.zeros(self.voxels, dtype=np.float32)
            for n in which:
                beam = self.beams[n]
                extended = beam.extended(weights[self.offsets[n] : self.offsets[n + 1]])
                _add_product(beam.start, beam.index, beam.value, extended, dose)
            return dose

        parts = _shared(share, len(self.beams))
        total = parts[0]
        for other in parts[1:]:
            total += other
        return total

    def adjoint(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the transpose times a value per voxel, shape (beamlets,)."""
        values = np.asarray(gradient, dtype=np.float32)

        def share(which: range) -> list[NDArray[np.float32]]:
            results = []
            for n in which:
                beam = self.beams[n]
                folded = np.zeros(len(beam.block_of) + len(beam.block_size), dtype=np.float32)
                _add_transposed(beam.start, beam.index, beam.value, values, folded)
                results.append(beam.folded(folded))
            return results

        parts = _shared(share, len(self.beams))
        ordered: list[NDArray[np.float32]] = [part[n] for n in range(len(parts[0])) for part in parts if n < len(part)]
        return np.concatenate(ordered)


def _threads() -> int:
    return max(1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 4))


def _shared(work: Callable[[range], Result], beams: int) -> list[Result]:
    """Return the results of a few threads that take the beams in turn (always the same shares: same sums)."""
    count = min(2, beams)
    shares = [range(n, beams, count) for n in range(count)]
    if count == 1 or _threads() == 1:
        return [work(share) for share in shares]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, shares))


def stored(influence: Influence, near_share: float = NEAR_SHARE, block: int = BLOCK) -> StoredInfluence:
    """Return the stored form of an influence operator.

    Parameters
    ----------
    influence
        The operator of the dose engine.
    near_share
        Beamlets that give a voxel less than this share of the peak at its depth count with the mean of their block.
    block
        Beamlets along each side of a block.
    """

    def one(number: int) -> _StoredBeam:
        beam = influence.beams[number]
        column, row = np.asarray(beam.column, dtype=np.int64), np.asarray(beam.row, dtype=np.int64)
        lattice = np.full(beam.shape, -1, dtype=np.int64)
        lattice[row, column] = np.arange(len(column))
        blocks_across = beam.shape[1] // block + 1
        raw = (row // block) * blocks_across + column // block
        _, block_of = np.unique(raw, return_inverse=True)
        block_of = block_of.astype(np.int32)
        size = np.bincount(block_of).astype(np.float32)
        start, index, value = _rows(
            beam.blur_x, beam.blur_y, beam.base, beam.part, beam.factor, lattice, block_of, len(size), near_share
        )
        return _StoredBeam(start, index, value, block_of, size)

    with ThreadPoolExecutor(_threads()) as pool:
        beams = tuple(pool.map(one, range(len(influence.beams))))
    return StoredInfluence(influence.shape[0], np.asarray(influence.offsets), beams)


@njit(cache=True, nogil=True, fastmath=True)
def _rows(blur_x, blur_y, base, part, factor, lattice, block_of, blocks, near_share):  # type: ignore[no-untyped-def]
    planes, kinds, nodes_x, columns = blur_x.shape
    nodes_y, rows = blur_y.shape[2], blur_y.shape[3]
    beamlets = len(block_of)
    peak = np.zeros(planes, dtype=np.float32)
    for z in range(planes):
        for k in range(kinds):
            peak[z] += blur_x[z, k].max() * blur_y[z, k].max()
    capacity = 64 * len(base)
    index = np.empty(capacity, dtype=np.uint16)
    value = np.empty(capacity, dtype=np.float32)
    start = np.zeros(len(base) + 1, dtype=np.int64)
    along = np.empty((2 * kinds, columns), dtype=np.float32)
    across = np.empty((2 * kinds, rows), dtype=np.float32)
    line = np.empty(columns, dtype=np.float32)
    far = np.empty(blocks, dtype=np.float32)
    count = 0
    for n in range(len(base)):
        start[n] = count
        b = base[n]
        if b < 0 or factor[n] == 0.0:
            continue
        z = b // (nodes_x * nodes_y)
        j = (b // nodes_x) % nodes_y
        i = b % nodes_x
        w, v, u = part[n, 0], part[n, 1], part[n, 2]
        for half in range(2):
            share = factor[n] * (w if half == 1 else 1 - w)
            plane = min(z + half, planes - 1)
            for k in range(kinds):
                for c in range(columns):
                    along[half * kinds + k, c] = share * (
                        (1 - u) * blur_x[plane, k, i, c] + u * blur_x[plane, k, i + 1, c]
                    )
                for r in range(rows):
                    across[half * kinds + k, r] = (1 - v) * blur_y[plane, k, j, r] + v * blur_y[plane, k, j + 1, r]
        least = near_share * factor[n] * peak[z]
        far[:] = 0.0
        if count + beamlets + blocks > capacity:
            capacity = capacity + capacity // 2 + beamlets + blocks
            longer_index = np.empty(capacity, dtype=np.uint16)
            longer_index[:count] = index[:count]
            longer_value = np.empty(capacity, dtype=np.float32)
            longer_value[:count] = value[:count]
            index, value = longer_index, longer_value
        for r in range(rows):
            line[:] = 0.0
            for k in range(2 * kinds):
                factor_r = across[k, r]
                for c in range(columns):
                    line[c] += factor_r * along[k, c]
            for c in range(columns):
                beamlet = lattice[r, c]
                if beamlet < 0:
                    continue
                if line[c] >= least:
                    index[count] = beamlet
                    value[count] = line[c]
                    count += 1
                else:
                    far[block_of[beamlet]] += line[c]
        for block in range(blocks):
            if far[block] > 0.0:
                index[count] = beamlets + block
                value[count] = far[block]
                count += 1
    start[len(base)] = count
    return start, index[:count].copy(), value[:count].copy()


@njit(cache=True, nogil=True, fastmath=True)
def _add_product(start, index, value, weights, dose):  # type: ignore[no-untyped-def]
    for n in range(len(dose)):
        total = np.float32(0.0)
        for place in range(start[n], start[n + 1]):
            total += value[place] * weights[index[place]]
        dose[n] += total


@njit(cache=True, nogil=True, fastmath=True)
def _add_transposed(start, index, value, values, result):  # type: ignore[no-untyped-def]
    for n in range(len(values)):
        factor = values[n]
        if factor == 0.0:
            continue
        for place in range(start[n], start[n + 1]):
            result[index[place]] += factor * value[place]
