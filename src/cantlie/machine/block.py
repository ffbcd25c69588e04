"""Blocks: shaped pieces of metal in a field, as their outline in the isocentre plane and what passes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PARTS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One block.

    Parameters
    ----------
    outline_mm
        Corners (x, y) of its edge in the isocentre plane, in the axes of the collimator, shape (n, 2).
    opens
        Whether the outline is a hole in the block (DICOM: APERTURE) or the block itself (SHIELDING).
    transmission
        Share of the fluence that passes the metal.
    """

    outline_mm: NDArray[np.float64]
    opens: bool
    transmission: float


def passing(blocks: Sequence[Block], x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the fluence that passes all blocks, as the mean over each pixel, shape (ny, nx).

    Holes of several aperture blocks lie side by side in one piece of metal; shielding blocks multiply.

    Parameters
    ----------
    x_mm, y_mm
        Evenly spaced pixel centres in the isocentre plane, shapes (nx,) and (ny,), at least two each.
    """
    share = np.ones((y_mm.size, x_mm.size))
    for block in blocks:
        if not block.opens:
            share *= 1.0 - (1.0 - block.transmission) * _covered(block.outline_mm, x_mm, y_mm)
    holes = [block for block in blocks if block.opens]
    if holes:
        opened = np.zeros_like(share)
        for block in holes:
            opened = np.maximum(opened, _covered(block.outline_mm, x_mm, y_mm))
        metal = float(np.prod([block.transmission for block in holes]) ** (1.0 / len(holes)))
        share *= metal + (1.0 - metal) * opened
    return share


def _covered(
    outline_mm: NDArray[np.float64], x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of each pixel inside a polygon (even-odd rule), exact along rows, by 16 lines across each."""
    width, height = float(x_mm[1] - x_mm[0]), float(y_mm[1] - y_mm[0])
    edges = np.append(x_mm - 0.5 * width, x_mm[-1] + 0.5 * width)
    x0, y0 = outline_mm.T
    x1, y1 = np.roll(outline_mm, -1, axis=0).T
    result = np.zeros((y_mm.size, x_mm.size))
    for row, middle in enumerate(y_mm):
        for part in range(_PARTS):
            y = middle + height * ((part + 0.5) / _PARTS - 0.5)
            crossed = (y0 <= y) != (y1 <= y)
            at = np.sort(x0[crossed] + (y - y0[crossed]) * (x1[crossed] - x0[crossed]) / (y1[crossed] - y0[crossed]))
            for low, high in zip(at[::2], at[1::2], strict=True):
                inside = np.clip(edges[1:], low, high) - np.clip(edges[:-1], low, high)
                result[row] += inside / (width * _PARTS)
    return result
