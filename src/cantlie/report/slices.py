"""Axial, coronal and sagittal slices, in radiological convention: the patient's right on the image's left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.volume import Volume

Orientation = Literal["axial", "coronal", "sagittal"]

# For each orientation: patient axis across the slice, along the image's width, along its height (0 x, 1 y, 2 z),
# whether the height grows downwards, and the letters left, right, top, bottom of the image.
_AXES: dict[Orientation, tuple[int, int, int, bool, tuple[str, str, str, str]]] = {
    "axial": (2, 0, 1, True, ("R", "L", "A", "P")),
    "coronal": (1, 0, 2, False, ("R", "L", "S", "I")),
    "sagittal": (0, 1, 2, False, ("A", "P", "S", "I")),
}


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice through the patient.

    Parameters
    ----------
    orientation
        ``axial``, ``coronal`` or ``sagittal``.
    position_mm
        Where it crosses the axis that it is perpendicular to.
    """

    orientation: Orientation
    position_mm: float

    @property
    def across(self) -> int:
        """Patient axis perpendicular to the slice: 0 x, 1 y, 2 z."""
        return _AXES[self.orientation][0]

    @property
    def horizontal(self) -> int:
        """Patient axis along the width of the image."""
        return _AXES[self.orientation][1]

    @property
    def vertical(self) -> int:
        """Patient axis along the height of the image."""
        return _AXES[self.orientation][2]

    @property
    def downwards(self) -> bool:
        """Whether the vertical patient axis grows downwards in the image."""
        return _AXES[self.orientation][3]

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Letters of the patient's directions at the left, right, top and bottom of the image."""
        return _AXES[self.orientation][4]

    def title(self) -> str:
        """Return the name and place of the slice, such as ``Axial, z = -250 mm``."""
        axis = "xyz"[self.across]
        return f"{self.orientation.capitalize()}, {axis} = {self.position_mm:.0f} mm".replace("-", "−")


@dataclass(frozen=True, slots=True, eq=False)
class SlicePicture:
    """Values on a slice.

    Attributes
    ----------
    values
        Shape (rows, columns); rows grow with the vertical patient axis, columns with the horizontal one.
    horizontal_mm, vertical_mm
        Pixel centres.
    """

    values: NDArray[np.float64]
    horizontal_mm: NDArray[np.float64]
    vertical_mm: NDArray[np.float64]

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Outer edges: least and largest horizontal, least and largest vertical position."""
        dh = self.horizontal_mm[1] - self.horizontal_mm[0] if len(self.horizontal_mm) > 1 else 1.0
        dv = self.vertical_mm[1] - self.vertical_mm[0] if len(self.vertical_mm) > 1 else 1.0
        return (
            float(self.horizontal_mm[0] - dh / 2),
            float(self.horizontal_mm[-1] + dh / 2),
            float(self.vertical_mm[0] - dv / 2),
            float(self.vertical_mm[-1] + dv / 2),
        )


def take(volume: Volume, cut: Slice) -> SlicePicture | None:
    """Return values on a slice, interpolated between the two nearest layers; None where the volume ends before it."""
    grid = volume.grid
    axis = 2 - cut.across
    position = (cut.position_mm - grid.origin_mm[cut.across]) / grid.spacing_mm[cut.across]
    count = grid.shape[axis]
    if not -0.5 - 1e-6 <= position <= count - 0.5 + 1e-6:
        return None
    position = min(max(position, 0.0), count - 1.0)
    low = min(int(position), max(count - 2, 0))
    weight = position - low
    layers = np.asarray(volume.values)
    values = np.asarray(layers.take(low, axis=axis), dtype=np.float64)
    if weight > 0 and count > 1:
        values = (1 - weight) * values + weight * layers.take(low + 1, axis=axis)
    centres = (grid.x_mm, grid.y_mm, grid.z_mm)
    # What is left has the axes (z, y), (z, x) or (y, x): the vertical one always comes first.
    return SlicePicture(values, centres[cut.horizontal], centres[cut.vertical])
