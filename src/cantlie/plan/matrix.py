"""An influence matrix written down: voxels by beamlets, in 32-bit values, multiplied by both cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cantlie.core.errors import PlanningError

THREADS = 2


@dataclass(frozen=True, slots=True, eq=False)
class SparseInfluence:
    """A sparse matrix of dose per beamlet, by rows (voxels).

    Parameters
    ----------
    start
        Place of the first entry of every voxel and the end, shape (voxels + 1,).
    index, value
        Beamlet and dose of every entry, shape (entries,).
    beamlets
        Number of columns.
    """

    start: NDArray[np.int64]
    index: NDArray[np.uint16] | NDArray[np.uint32]
    value: NDArray[np.float32]
    beamlets: int

    @classmethod
    def of_columns(
        cls,
        data: NDArray[np.floating],
        indices: NDArray[np.integer],
        indptr: NDArray[np.integer],
        shape: tuple[int, int],
    ) -> SparseInfluence:
        """Return a matrix given by columns, as most planning systems store it (compressed sparse columns).

        Parameters
        ----------
        data, indices
            Dose and voxel of every entry, beamlet after beamlet.
        indptr
            Place of the first entry of every beamlet and the end, shape (beamlets + 1,).
        shape
            Voxels and beamlets.

        Raises
        ------
        PlanningError
            If the arrays do not make a matrix of this shape.
        """
        voxels, beamlets = int(shape[0]), int(shape[1])
        fits = len(indptr) == beamlets + 1 and len(data) == len(indices) == int(indptr[-1])
        if not fits or (len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < voxels):
            raise PlanningError(
                f"the arrays are not a matrix of {voxels} voxels by {beamlets} beamlets in compressed columns",
                where="influence",
                remedy="give data, indices and indptr of scipy's csc_matrix",
            )
        narrow = np.uint16 if beamlets <= 1 << 16 else np.uint32
        start, index, value = _by_rows(
            np.asarray(data, dtype=np.float32), np.asarray(indices), np.asarray(indptr, dtype=np.int64), voxels,
            np.zeros(0, dtype=narrow),
        )  # fmt: skip
        return cls(start, index, value, beamlets)

    @property
    def shape(self) -> tuple[int, int]:
        """Voxels and beamlets."""
        return len(self.start) - 1, self.beamlets

    def rows(self, chosen: NDArray[np.int64]) -> SparseInfluence:
        """Return the matrix of some voxels."""
        counts = np.diff(self.start)[chosen]
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.repeat(self.start[chosen] - start[:-1], counts) + np.arange(start[-1])
        return SparseInfluence(start, self.index[places], self.value[places], self.beamlets)

    def squared_columns(self, weight: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sum of the squared entries of each beamlet, each weighted by its voxel: a Hessian's diagonal."""
        result = np.zeros(self.beamlets)
        _add_squares(self.start, self.index, self.value, np.asarray(weight, dtype=np.float32), result)
        return result

    def forward(self, weights_mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the dose of each voxel for the monitor units of each beamlet."""
        weights = np.asarray(weights_mu, dtype=np.float32)
        dose = np.zeros(len(self.start) - 1, dtype=np.float32)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda s: add_product(self.start[s[0] : s[1] + 1], self.index, self.value, weights,
                                                 dose[s[0] : s[1]]), self._shares()))  # fmt: skip
        return dose

    def adjoint(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the transposed matrix times a vector of voxels."""
        values = np.asarray(gradient, dtype=np.float32)

        def share(s: tuple[int, int]) -> NDArray[np.float32]:
            result = np.zeros(self.beamlets, dtype=np.float32)
            add_transposed(self.start[s[0] : s[1] + 1], self.index, self.value, values[s[0] : s[1]], result)
            return result

        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(share, self._shares()))
        return np.sum(parts, axis=0, dtype=np.float32)

    def _shares(self) -> list[tuple[int, int]]:
        """Return ranges of voxels with about as many entries each."""
        cuts = np.searchsorted(self.start, np.linspace(0, self.start[-1], THREADS + 1))
        cuts[0], cuts[-1] = 0, len(self.start) - 1
        return [(int(a), int(b)) for a, b in pairwise(cuts)]


@njit(cache=True, nogil=True)
def _by_rows(data, indices, indptr, voxels, like):  # type: ignore[no-untyped-def]
    start = np.zeros(voxels + 1, dtype=np.int64)
    for place in range(len(indices)):
        start[indices[place] + 1] += 1
    for n in range(voxels):
        start[n + 1] += start[n]
    following = start[:-1].copy()
    index = np.empty(len(data), dtype=like.dtype)
    value = np.empty(len(data), dtype=np.float32)
    for beamlet in range(len(indptr) - 1):
        for place in range(indptr[beamlet], indptr[beamlet + 1]):
            to = following[indices[place]]
            following[indices[place]] = to + 1
            index[to] = beamlet
            value[to] = data[place]
    return start, index, value


@njit(cache=True, nogil=True, fastmath=True)
def add_product(start, index, value, weights, dose):  # type: ignore[no-untyped-def]
    """Add to a dose per voxel the product of a matrix, given by rows, with a weight per beamlet."""
    for n in range(len(dose)):
        total = np.float32(0.0)
        for place in range(start[n], start[n + 1]):
            total += value[place] * weights[index[place]]
        dose[n] += total


@njit(cache=True, nogil=True, fastmath=True)
def add_transposed(start, index, value, values, result):  # type: ignore[no-untyped-def]
    """Add to a value per beamlet the product of the transposed matrix with a value per voxel."""
    for n in range(len(values)):
        factor = values[n]
        if factor == 0.0:
            continue
        for place in range(start[n], start[n + 1]):
            result[index[place]] += factor * value[place]


@njit(cache=True, nogil=True, fastmath=True)
def _add_squares(start, index, value, weight, result):  # type: ignore[no-untyped-def]
    for n in range(len(start) - 1):
        factor = weight[n]
        if factor != 0.0:
            for place in range(start[n], start[n + 1]):
                result[index[place]] += factor * value[place] * value[place]
