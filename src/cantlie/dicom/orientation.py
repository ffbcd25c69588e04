"""Axial images of any patient position, turned to the LPS order of `Grid`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import DicomError

_TILT = 1e-3


@dataclass(frozen=True, slots=True)
class AxialAxes:
    """Along which patient axis (0 is x, 1 is y) and in which sense column and row numbers of an image grow.

    ``row_axis`` and ``row_sign`` belong to the direction along a row, in which the column number grows.
    """

    row_axis: int
    row_sign: int
    column_axis: int
    column_sign: int

    @property
    def normal_sign(self) -> int:
        """Sense along z of the normal of the image (row direction x column direction)."""
        turn = self.row_sign * self.column_sign
        return turn if self.row_axis == 0 else -turn

    def turned(self, images: NDArray[Any]) -> NDArray[Any]:
        """Turn images [..., row, column] to [..., y, x], both growing."""
        if self.row_sign < 0:
            images = images[..., ::-1]
        if self.column_sign < 0:
            images = images[..., ::-1, :]
        return np.ascontiguousarray(images if self.row_axis == 0 else np.swapaxes(images, -1, -2))

    def origin_and_spacing_mm(
        self, corner_mm: NDArray[np.float64], spacing_mm: tuple[float, float], shape: tuple[int, int]
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the lowest pixel centre (x, y) and the spacings (dx, dy).

        Parameters
        ----------
        corner_mm
            Image position (patient): centre of the first pixel (x, y, z).
        spacing_mm
            Pixel spacing as DICOM gives it: between rows, between columns.
        shape
            Number of rows and columns of the image as stored.
        """
        steps = {self.row_axis: spacing_mm[1], self.column_axis: spacing_mm[0]}
        counts = {self.row_axis: shape[1], self.column_axis: shape[0]}
        signs = {self.row_axis: self.row_sign, self.column_axis: self.column_sign}
        low = [
            float(corner_mm[axis]) - ((counts[axis] - 1) * steps[axis] if signs[axis] < 0 else 0.0) for axis in (0, 1)
        ]
        return (low[0], low[1]), (steps[0], steps[1])


def axial_axes(cosines: NDArray[np.float64], where: str) -> AxialAxes:
    """Read an image orientation (patient), six direction cosines.

    Raises
    ------
    DicomError
        If the image is oblique, tilted, coronal or sagittal.
    """
    directions = cosines.reshape(2, 3)
    axes = np.argmax(np.abs(directions), axis=1)
    signs = np.sign(directions[[0, 1], axes])
    straight = np.zeros((2, 3))
    straight[[0, 1], axes] = signs
    if set(axes.tolist()) != {0, 1} or np.abs(directions - straight).max() > _TILT:
        raise DicomError(
            f"the image is not axial: its orientation is {', '.join(f'{value:.4g}' for value in cosines)}",
            where=where,
            remedy="use axial images without gantry tilt",
        )
    return AxialAxes(int(axes[0]), int(signs[0]), int(axes[1]), int(signs[1]))


def evenly_spaced(
    images: NDArray[np.float32], z_mm: NDArray[np.float64], spacing_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Interpolate images [k, row, column] at growing z linearly to an even spacing between the first and the last."""
    count = int(np.floor((z_mm[-1] - z_mm[0]) / spacing_mm + 1e-6)) + 1
    even = z_mm[0] + spacing_mm * np.arange(count)
    above = np.clip(np.searchsorted(z_mm, even), 1, len(z_mm) - 1)
    share = np.clip((even - z_mm[above - 1]) / (z_mm[above] - z_mm[above - 1]), 0, 1).astype(np.float32)[:, None, None]
    return images[above - 1] * (1 - share) + images[above] * share, even
