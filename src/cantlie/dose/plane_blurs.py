"""The blurs of one beam: from the fluence of beamlets to dose on planes across the axis, and the transpose.

On every plane the dose is a sum of Gaussian blurs, each separable: a matrix along x and one along y. Narrow blurs reach
few beamlets, so that their matrices are bands, and only the bands are multiplied. Wide blurs are smooth: all of them,
on all planes, are combinations of few modes of the fluence and few of the dose. What these two leave out is below 1e-4
of the largest dose. The sums run in loops of our own and not in BLAS, whose threads cost more than they save on
matrices of this size, and which would make the sums depend on the number of cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

_WIDE_KINDS = 3
_BAND = 1e-4
"""Least share of a blur's peak that counts as part of its band."""
_MODES = 1e-3
"""Share of a wide blur that its modes may leave out; wide blurs carry a few percent of the dose."""
_LANES = 8
"""Rows of matrices are padded with zeros to whole numbers of these, and taken in pairs."""

Matrix = NDArray[np.float32]
Reach = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class PlaneBlurs:
    """Blurs of a lattice of beamlets onto nodes of planes; see :meth:`of`. All axes are padded with zeros."""

    along: Matrix  # (planes, kinds, nodes_x, columns)
    along_reach: Reach  # (planes, kinds, pairs of nodes_x, 2) columns
    along_back: Reach  # (planes, kinds, pairs of columns, 2) nodes
    across: Matrix  # (planes, kinds, nodes_y, rows)
    across_reach: Reach  # (planes, kinds, pairs of nodes_y, 2) rows
    across_back: Reach  # (planes, kinds, pairs of rows, 2) nodes
    modes_x: Matrix  # (columns, modes) of the fluence
    modes_y: Matrix  # (rows, modes)
    wide_x: Matrix  # (planes, wide kinds, modes of the dose, modes of the fluence)
    wide_y: Matrix  # (planes, wide kinds, modes of the dose, modes of the fluence)
    nodes_x: Matrix  # (nodes_x, modes of the dose)
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
        along, across = _padded(blur_x[:, :near]), _padded(blur_y[:, :near])
        modes_x, wide_x, nodes_x = _modes(_padded(blur_x[:, near:]))
        modes_y, wide_y, nodes_y = _modes(_padded(blur_y[:, near:]))
        pairs = np.stack([needed[:, 0] // 2 * 2, (needed[:, 1] + 1) // 2 * 2], axis=1).astype(np.int32)
        return cls(
            along, *_reaches(along), across, *_reaches(across), modes_x, modes_y, wide_x, wide_y, nodes_x, nodes_y,
            pairs,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Memory that the blurs hold."""
        return sum(getattr(self, name).nbytes for name in self.__slots__)

    @property
    def plane_shape(self) -> tuple[int, int, int]:
        """Planes, and nodes of each along y and x, with those that are padding."""
        return self.along.shape[0], self.across.shape[2], self.along.shape[2]

    def forward(self, row: NDArray[np.intp], column: NDArray[np.intp], weights: Matrix) -> Matrix:
        """Return the dose at the nodes of all planes, of shape `plane_shape`, of the weights of beamlets."""
        turned = np.zeros((self.along.shape[3], self.across.shape[3]), dtype=np.float32)
        turned[column, row] = weights
        planes = np.zeros(self.plane_shape, dtype=np.float32)
        small = np.ascontiguousarray((self.modes_x.T @ turned @ self.modes_y).T)
        _forward(
            turned, small, self.along, self.along_reach, self.across, self.across_reach, self.wide_x, self.wide_y,
            self.nodes_x, self.nodes_y, self.needed, planes,
        )  # fmt: skip
        return planes

    def adjoint(self, row: NDArray[np.intp], column: NDArray[np.intp], planes: Matrix) -> Matrix:
        """Return the transpose of `forward`: a value for each beamlet."""
        turned = np.zeros((self.along.shape[3], self.across.shape[3]), dtype=np.float32)
        small = np.zeros((self.modes_y.shape[1], self.modes_x.shape[1]), dtype=np.float32)
        _adjoint(
            planes, self.along, self.along_back, self.across, self.across_back, self.wide_x, self.wide_y,
            self.nodes_x, self.nodes_y, self.needed, turned, small,
        )  # fmt: skip
        turned += self.modes_x @ small.T @ self.modes_y.T
        return np.asarray(turned[column, row])


def _padded(values: NDArray[np.float64]) -> Matrix:
    """Return matrices in 32 bits, whose last two axes are padded with zeros to whole numbers of lanes."""
    more = [(0, -size % _LANES) for size in values.shape[-2:]]
    return np.pad(values, [(0, 0)] * (values.ndim - 2) + more).astype(np.float32)


def _reaches(matrix: Matrix) -> tuple[Reach, Reach]:
    """Return the first and last + 1 place that counts in each pair of rows of banded matrices, and of columns."""
    counts = matrix > _BAND * matrix.max(axis=(2, 3), keepdims=True)
    reaches = []
    for rows in (counts, counts.swapaxes(2, 3)):
        pairs = rows[:, :, 0::2] | rows[:, :, 1::2]
        first = pairs.argmax(axis=-1)
        last = np.where(pairs.any(axis=-1), pairs.shape[-1] - pairs[..., ::-1].argmax(axis=-1), 0)
        # Four are added at a time: a whole number of fours costs no more.
        last = first + 4 * -(-(last - first) // 4)
        over = np.maximum(last - pairs.shape[-1], 0)
        reaches.append(np.ascontiguousarray(np.stack([first - over, last - over], axis=-1), dtype=np.int32))
    return reaches[0], reaches[1]


def _modes(blur: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return modes of beamlets (beamlets, m), blurs between modes (planes, kinds, n, m), modes of nodes (nodes, n)."""
    beamlets = _span(blur.reshape(-1, blur.shape[3]).astype(np.float64), _MODES)
    reduced = blur @ beamlets.T
    nodes = _span(reduced.transpose(0, 1, 3, 2).reshape(-1, blur.shape[2]), _MODES)
    return _padded(beamlets.T), _padded(nodes @ reduced), _padded(nodes.T)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _span(rows, least):  # type: ignore[no-untyped-def]
    """Return orthonormal rows in whose span all rows of a matrix lie, but for a share of the longest.

    The row that is left longest is taken out of all others, over and over (Gram-Schmidt with pivoting). Only the rest
    of the matrix is left of it.
    """
    count, size = rows.shape
    basis = np.zeros((size, size))
    length = np.zeros(count)
    for n in range(count):
        for i in range(size):
            length[n] += rows[n, i] ** 2
    first = length.max()
    for m in range(size):
        longest = length.argmax()
        if length[longest] <= least**2 * first:
            return basis[:m].copy()
        new = basis[m]
        new[:] = rows[longest]
        for old in range(m):  # once more, against rounding
            along = 0.0
            for i in range(size):
                along += new[i] * basis[old, i]
            for i in range(size):
                new[i] -= along * basis[old, i]
        new /= np.sqrt(np.sum(new**2))
        for n in range(count):
            if length[n] > 0.0:
                along = 0.0
                for i in range(size):
                    along += rows[n, i] * new[i]
                left = 0.0
                for i in range(size):
                    rows[n, i] -= along * new[i]
                    left += rows[n, i] ** 2
                length[n] = left if n != longest else 0.0
    return basis


@numba.njit(inline="always")
def _add_rows(target, to, factors, matrix, low, high):  # type: ignore[no-untyped-def]
    """Add to two rows of a matrix a whole number of fours of rows of another, each times its factors."""
    for r in range(low, high, 4):
        a, b, c, d = factors[to, r], factors[to, r + 1], factors[to, r + 2], factors[to, r + 3]
        e, f, g, h = factors[to + 1, r], factors[to + 1, r + 1], factors[to + 1, r + 2], factors[to + 1, r + 3]
        for i in range(target.shape[1]):
            w, x, y, z = matrix[r, i], matrix[r + 1, i], matrix[r + 2, i], matrix[r + 3, i]
            target[to, i] += a * w + b * x + c * y + d * z
            target[to + 1, i] += e * w + f * x + g * y + h * z


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _turn(source, target):  # type: ignore[no-untyped-def]
    for b in range(source.shape[1]):
        for a in range(source.shape[0]):
            target[b, a] = source[a, b]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _forward(  # type: ignore[no-untyped-def]
    turned, small, along, along_reach, across, across_reach, wide_x, wide_y, nodes_x, nodes_y, needed, planes
):
    rows, (nodes_i, modes_i), modes_j = turned.shape[1], nodes_x.shape, nodes_y.shape[1]
    inner = np.empty((small.shape[0], modes_i), dtype=np.float32)
    coarse = np.empty((modes_j, modes_i), dtype=np.float32)
    spread = np.empty((modes_j, nodes_i), dtype=np.float32)
    half_turned = np.empty((nodes_i, rows), dtype=np.float32)
    half = np.empty((rows, nodes_i), dtype=np.float32)
    between = np.empty((small.shape[1], modes_i), dtype=np.float32)
    onto_nodes = np.empty((modes_i, nodes_i), dtype=np.float32)
    _turn(nodes_x, onto_nodes)
    for n in range(planes.shape[0]):
        j0, j1 = needed[n]
        if j1 <= j0:
            continue
        plane = planes[n]
        coarse[:] = 0.0
        for k in range(wide_x.shape[1]):
            inner[:] = 0.0
            _turn(wide_x[n, k], between)
            for m in range(0, small.shape[0], 2):
                _add_rows(inner, m, small, between, 0, small.shape[1])
            to_dose = wide_y[n, k]
            for m in range(0, modes_j, 2):
                _add_rows(coarse, m, to_dose, inner, 0, small.shape[0])
        spread[:] = 0.0
        for m in range(0, modes_j, 2):
            _add_rows(spread, m, coarse, onto_nodes, 0, modes_i)
        for j in range(j0, j1, 2):
            _add_rows(plane, j, nodes_y, spread, 0, modes_j)
        for k in range(along.shape[1]):
            blur_x, blur_y = along[n, k], across[n, k]
            half_turned[:] = 0.0
            for i in range(0, nodes_i, 2):
                reach = along_reach[n, k, i // 2]
                _add_rows(half_turned, i, blur_x, turned, reach[0], reach[1])
            _turn(half_turned, half)
            for j in range(j0, j1, 2):
                reach = across_reach[n, k, j // 2]
                _add_rows(plane, j, blur_y, half, reach[0], reach[1])


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _adjoint(  # type: ignore[no-untyped-def]
    planes, along, along_back, across, across_back, wide_x, wide_y, nodes_x, nodes_y, needed, turned, small
):
    (columns, rows), (nodes_i, modes_i), modes_j = turned.shape, nodes_x.shape, nodes_y.shape[1]
    inner = np.empty((small.shape[0], modes_i), dtype=np.float32)
    coarse = np.empty((modes_j, modes_i), dtype=np.float32)
    spread = np.empty((modes_j, nodes_i), dtype=np.float32)
    half_turned = np.empty((nodes_i, rows), dtype=np.float32)
    half = np.empty((rows, nodes_i), dtype=np.float32)
    from_nodes = nodes_y.T
    for n in range(planes.shape[0]):
        j0, j1 = needed[n]
        if j1 <= j0:
            continue
        plane = planes[n]
        ends = j0 + (j1 - j0 + 3) // 4 * 4
        if ends > plane.shape[0]:
            ends = plane.shape[0]
        starts = ends - (ends - j0 + 3) // 4 * 4
        spread[:] = 0.0
        coarse[:] = 0.0
        for m in range(0, modes_j, 2):
            _add_rows(spread, m, from_nodes, plane, starts, ends)
            _add_rows(coarse, m, spread, nodes_x, 0, nodes_i)
        for k in range(wide_x.shape[1]):
            inner[:] = 0.0
            from_dose, between = wide_y[n, k].T, wide_x[n, k]
            for m in range(0, small.shape[0], 2):
                _add_rows(inner, m, from_dose, coarse, 0, modes_j)
                _add_rows(small, m, inner, between, 0, modes_i)
        for k in range(along.shape[1]):
            back_x, back_y = along[n, k].T, across[n, k].T
            half[:] = 0.0
            for r in range(0, rows, 2):
                reach = across_back[n, k, r // 2]
                _add_rows(half, r, back_y, plane, reach[0], reach[1])
            _turn(half, half_turned)
            for c in range(0, columns, 2):
                reach = along_back[n, k, c // 2]
                _add_rows(turned, c, back_x, half_turned, reach[0], reach[1])
