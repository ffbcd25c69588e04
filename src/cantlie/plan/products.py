"""Small products without the threads of BLAS, which cost more than they save on vectors and rasters of this size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:

    def dot(a: NDArray[Any], b: NDArray[Any]) -> float:
        """Return the sum of the products of two vectors."""
        ...

    def separable(left: NDArray[Any], middle: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float32]:
        """Return left · middle · right for three small matrices."""
        ...

else:

    @njit(cache=True, nogil=True, fastmath=True)
    def dot(a, b):
        """Return the sum of the products of two vectors."""
        total = 0.0
        for n in range(len(a)):
            total += a[n] * b[n]
        return total

    @njit(cache=True, nogil=True, fastmath=True)
    def separable(left, middle, right):
        """Return left · middle · right for three small matrices."""
        rows, columns = middle.shape
        half = np.zeros((left.shape[0], columns), dtype=np.float32)
        for r in range(left.shape[0]):
            for m in range(rows):
                factor = left[r, m]
                if factor != 0.0:
                    for c in range(columns):
                        half[r, c] += factor * middle[m, c]
        result = np.zeros((left.shape[0], right.shape[1]), dtype=np.float32)
        for r in range(left.shape[0]):
            for m in range(columns):
                factor = half[r, m]
                if factor != 0.0:
                    for c in range(right.shape[1]):
                        result[r, c] += factor * right[m, c]
        return result
