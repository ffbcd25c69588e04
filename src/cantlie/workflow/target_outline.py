"""The outline of a target as a beam sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cantlie.machine.geometry import BeamGeometry
from cantlie.patient.regions import Regions


def outline_points(regions: Regions, name: str) -> NDArray[np.float64]:
    """Return voxel centres of a target, thinned out, shape (n, 3)."""
    index = np.argwhere(regions[name] > 0.5)
    step = max(1, len(index) // 20000)
    return regions.grid.mm_from_index(index[::step])


def outline_of_points(geometry: BeamGeometry, points_mm: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the outline of projected points in the isocentre plane, as closed polygons of shape (n, 2)."""
    from contourpy import contour_generator
    from scipy import ndimage

    x, y, _ = geometry.project(points_mm)
    step = 4.0
    edges_x = np.arange(x.min() - 4 * step, x.max() + 5 * step, step)
    edges_y = np.arange(y.min() - 4 * step, y.max() + 5 * step, step)
    hit, _, _ = np.histogram2d(y, x, bins=(edges_y, edges_x))
    filled = ndimage.binary_closing(hit > 0, iterations=2)
    smooth = ndimage.gaussian_filter(filled.astype(np.float64), 0.8)
    lines = contour_generator(edges_x[:-1] + step / 2, edges_y[:-1] + step / 2, smooth).lines(0.5)
    return tuple(np.asarray(line, dtype=np.float64) for line in lines)
