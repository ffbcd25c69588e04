"""The blurs of one beam: from the fluence of beamlets to dose on planes across the axis, and the transpose.

On every plane the dose is a sum of Gaussian blurs, each separable: a matrix along x and one along y. Narrow blurs reach
few beamlets, so that their matrices are bands, and only the bands are multiplied. Wide blurs are smooth: all of them,
on all planes, are combinations of few modes of the fluence and few of the dose, found by singular values. What these
two leave out is of the order of 1e-5 of the dose. The sums run in loops of our own and not in BLAS, whose threads cost
more than they save on matrices of this size, and which would make the sums depend on the number of cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

_WIDE_KINDS = 3
_BAND = 3e-5
"""Least share of a blur's peak that counts as part of its band."""
_MODES = 5e-4
"""Least singular value of a mode of the wide blurs, relative to the first; they carry a few percent of the dose."""

Matrix = NDArray[np.float32]
Reach = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class PlaneBlurs:
    """Blurs of a lattice of beamlets onto nodes of planes; see :meth:`of`."""

    along: Matrix  # (planes, kinds, nodes_x, columns)
    along_reach: Reach  # (planes, kinds, nodes_x, 2) columns
    along_back: Reach  # (planes, kinds, columns, 2) nodes
    across: Matrix  # (planes, kinds, nodes_y, rows)
    across_reach: Reach  # (planes, kinds, nodes_y, 2) rows
    across_back: Reach  # (planes, kinds, rows, 2) nodes
    modes_x: Matrix  # (columns, modes) of the fluence
    modes_y: Matrix  # (rows, modes)
    wide_x: Matrix  # (planes, wide kinds, modes of the fluence, modes of the dose)
    wide_y: Matrix  # (planes, wide kinds, modes of the dose, modes of the fluence)
    nodes_x: Matrix  # (modes of the dose, nodes_x)
    nodes_y: Matrix  # (nodes_y, modes of the dose)
    needed: Reach  # (planes, 2)

    @classmethod
    def of(cls, blur_x: NDArray[np.float64], blur_y: NDArray[np.float64], needed: Reach) -> PlaneBlurs:
        """Return the blurs given by whole matrices.

        Parameters
        ----------
        blur_x
            Share of the fluence of each column that each node gets, times amounts, shape (planes, kinds, nodes_x,
            columns). Kinds are in order of width.
        blur_y
            The same of each row, shape (planes, kinds, nodes_y, rows).
        needed
            First row of nodes of each plane that is read, and last + 1, shape (planes, 2); the others are not worth
            calculating.
        """
        near = max(blur_x.shape[1] - _WIDE_KINDS, 0)
        along, across = blur_x[:, :near], blur_y[:, :near]
        modes_x, wide_x, nodes_x = _modes(blur_x[:, near:])
        modes_y, wide_y, nodes_y = _modes(blur_y[:, near:])
        return cls(
            _single(along), *_reaches(along), _single(across), *_reaches(across), _single(modes_x), _single(modes_y),
            _single(wide_x.transpose(0, 1, 3, 2)), _single(wide_y), _single(nodes_x.T), _single(nodes_y), needed,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory that the blurs hold."""
        return sum(getattr(self, name).nbytes for name in self.__slots__)

    @property
    def plane_shape(self) -> tuple[int, int, int]:
        """Planes, and nodes of each along y and x."""
        return self.along.shape[0], self.across.shape[2], self.along.shape[2]

    def forward(self, row: NDArray[np.intp], column: NDArray[np.intp], weights: Matrix) -> Matrix:
        """Return the dose at the nodes of all planes, of shape `plane_shape`, of the weights of beamlets."""
        turned = np.zeros((self.along.shape[3], self.across.shape[3]), dtype=np.float32)
        turned[column, row] = weights
        planes = np.zeros(self.plane_shape, dtype=np.float32)
        _forward(
            turned, self.along, self.along_reach, self.across, self.across_reach, self.modes_x, self.modes_y,
            self.wide_x, self.wide_y, self.nodes_x, self.nodes_y, self.needed, planes,
        )  # fmt: skip
        return planes

    def adjoint(self, row: NDArray[np.intp], column: NDArray[np.intp], planes: Matrix) -> Matrix:
        """Return the transpose of `forward`: a value for each beamlet."""
        turned = np.zeros((self.along.shape[3], self.across.shape[3]), dtype=np.float32)
        _adjoint(
            planes, self.along, self.along_back, self.across, self.across_back, self.modes_x, self.modes_y,
            self.wide_x, self.wide_y, self.nodes_x, self.nodes_y, self.needed, turned,
        )  # fmt: skip
        return np.asarray(turned[column, row])


def _single(values: NDArray[np.float64]) -> Matrix:
    return np.ascontiguousarray(values, dtype=np.float32)


def _reaches(matrix: NDArray[np.float64]) -> tuple[Reach, Reach]:
    """Return first and last + 1 place that counts in each row of banded matrices, and in each column."""
    counts = np.abs(matrix) > _BAND * np.abs(matrix).max(axis=(2, 3), keepdims=True)
    reaches = []
    for rows in (counts, counts.swapaxes(2, 3)):
        first = rows.argmax(axis=-1)
        last = np.where(rows.any(axis=-1), rows.shape[-1] - rows[..., ::-1].argmax(axis=-1), 0)
        # Rows are added four at a time: a whole number of fours costs no more.
        last = np.minimum(first + 4 * -(-(last - first) // 4), rows.shape[-1])
        reaches.append(np.ascontiguousarray(np.stack([first, last], axis=-1), dtype=np.int32))
    return reaches[0], reaches[1]


def _modes(
    blur: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return modes of beamlets (beamlets, m), blurs between modes (planes, kinds, n, m), modes of nodes (nodes, n)."""
    beamlets = _space(blur.reshape(-1, blur.shape[3]))
    reduced = blur @ beamlets
    nodes = _space(reduced.transpose(0, 1, 3, 2).reshape(-1, blur.shape[2]))
    return beamlets, nodes.T @ reduced, nodes


def _space(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of the space that the rows of a matrix span, shape (columns, n)."""
    squares, vectors = np.linalg.eigh(rows.T @ rows)
    kept = squares > _MODES**2 * max(float(squares[-1]), 1e-300)
    return np.asarray(vectors[:, kept])


@numba.njit(inline="always")
def _add_rows(target, to, factors, row, matrix, low, high):  # type: ignore[no-untyped-def]
    """Add to one row of a matrix a few rows of another, each times its factor: four at a time, as stores are dear."""
    for r in range(low, high - 3, 4):
        a, b, c, d = factors[row, r], factors[row, r + 1], factors[row, r + 2], factors[row, r + 3]
        for i in range(target.shape[1]):
            target[to, i] += a * matrix[r, i] + b * matrix[r + 1, i] + c * matrix[r + 2, i] + d * matrix[r + 3, i]
    for r in range(high - (high - low) % 4, high):
        a = factors[row, r]
        for i in range(target.shape[1]):
            target[to, i] += a * matrix[r, i]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _turn(source, target):  # type: ignore[no-untyped-def]
    for a in range(source.shape[0]):
        for b in range(source.shape[1]):
            target[b, a] = source[a, b]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _forward(  # type: ignore[no-untyped-def]
    turned, along, along_reach, across, across_reach, modes_x, modes_y, wide_x, wide_y, nodes_x, nodes_y, needed, planes
):
    columns, rows = turned.shape
    count, nodes_i = planes.shape[0], planes.shape[2]
    kinds, wide_kinds, modes_j, modes_i = along.shape[1], wide_x.shape[1], nodes_y.shape[1], nodes_x.shape[0]
    small = np.zeros((modes_y.shape[1], modes_x.shape[1]), dtype=np.float32)
    for c in range(columns):
        for a in range(small.shape[0]):
            value = np.float32(0.0)
            for r in range(rows):
                value += turned[c, r] * modes_y[r, a]
            for m in range(small.shape[1]):
                small[a, m] += value * modes_x[c, m]
    inner = np.empty((small.shape[0], modes_i), dtype=np.float32)
    coarse = np.empty((modes_j, modes_i), dtype=np.float32)
    spread = np.empty((modes_j, nodes_i), dtype=np.float32)
    half_turned = np.empty((nodes_i, rows), dtype=np.float32)
    half = np.empty((rows, nodes_i), dtype=np.float32)
    for z in range(count):
        j0, j1 = needed[z]
        if j1 <= j0:
            continue
        plane = planes[z]
        coarse[:] = 0.0
        for k in range(wide_kinds):
            x, y = wide_x[z, k], wide_y[z, k]
            inner[:] = 0.0
            for a in range(small.shape[0]):
                _add_rows(inner, a, small, a, x, 0, small.shape[1])
            for d in range(modes_j):
                _add_rows(coarse, d, y, d, inner, 0, small.shape[0])
        spread[:] = 0.0
        for d in range(modes_j):
            _add_rows(spread, d, coarse, d, nodes_x, 0, modes_i)
        for j in range(j0, j1):
            _add_rows(plane, j, nodes_y, j, spread, 0, modes_j)
        for k in range(kinds):
            x, y = along[z, k], across[z, k]
            half_turned[:] = 0.0
            for i in range(nodes_i):
                _add_rows(half_turned, i, x, i, turned, along_reach[z, k, i, 0], along_reach[z, k, i, 1])
            _turn(half_turned, half)
            for j in range(j0, j1):
                _add_rows(plane, j, y, j, half, across_reach[z, k, j, 0], across_reach[z, k, j, 1])


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _adjoint(  # type: ignore[no-untyped-def]
    planes, along, along_back, across, across_back, modes_x, modes_y, wide_x, wide_y, nodes_x, nodes_y, needed, turned
):
    columns, rows = turned.shape
    count, nodes_i = planes.shape[0], planes.shape[2]
    kinds, wide_kinds, modes_j, modes_i = along.shape[1], wide_x.shape[1], nodes_y.shape[1], nodes_x.shape[0]
    small = np.zeros((modes_y.shape[1], modes_x.shape[1]), dtype=np.float32)
    inner = np.empty((small.shape[0], modes_i), dtype=np.float32)
    coarse = np.empty((modes_j, modes_i), dtype=np.float32)
    spread = np.empty((modes_j, nodes_i), dtype=np.float32)
    half_turned = np.empty((nodes_i, rows), dtype=np.float32)
    half = np.empty((rows, nodes_i), dtype=np.float32)
    onto_nodes = nodes_y.T
    for z in range(count):
        j0, j1 = needed[z]
        if j1 <= j0:
            continue
        plane = planes[z]
        spread[:] = 0.0
        for d in range(modes_j):
            _add_rows(spread, d, onto_nodes, d, plane, j0, j1)
            for c in range(modes_i):
                total = np.float32(0.0)
                for i in range(nodes_i):
                    total += spread[d, i] * nodes_x[c, i]
                coarse[d, c] = total
        for k in range(wide_kinds):
            x, y = wide_x[z, k], wide_y[z, k].T
            inner[:] = 0.0
            for a in range(small.shape[0]):
                _add_rows(inner, a, y, a, coarse, 0, modes_j)
                for b in range(small.shape[1]):
                    total = np.float32(0.0)
                    for c in range(modes_i):
                        total += inner[a, c] * x[b, c]
                    small[a, b] += total
        for k in range(kinds):
            x, y = along[z, k].T, across[z, k].T
            half[:] = 0.0
            for r in range(rows):
                low, high = max(across_back[z, k, r, 0], j0), min(across_back[z, k, r, 1], j1)
                _add_rows(half, r, y, r, plane, low, max(low, high))
            _turn(half, half_turned)
            for c in range(columns):
                _add_rows(turned, c, x, c, half_turned, along_back[z, k, c, 0], along_back[z, k, c, 1])
    for c in range(columns):
        for a in range(small.shape[0]):
            value = np.float32(0.0)
            for m in range(small.shape[1]):
                value += modes_x[c, m] * small[a, m]
            for r in range(rows):
                turned[c, r] += value * modes_y[r, a]
