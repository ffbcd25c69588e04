"""Two registered images as a checkerboard: edges that run on from square to square show a good match."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cantlie.core.volume import Volume
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.slice_drawing import background, dash_of, furniture, outline
from cantlie.report.view import View

_GAP_IN = 0.06
_SQUARE_MM = 30.0


def checkerboard(first: Volume, second: Volume, square_mm: float = _SQUARE_MM) -> Volume:
    """Return an image made of squares of two images on one grid, cubes of ``square_mm``.

    Raises
    ------
    ValueError
        If the images lie on different grids.
    """
    if not first.grid.is_close(second.grid):
        raise ValueError("a checkerboard needs two images on one grid")
    grid = first.grid
    k, j, i = (np.floor((axis - axis[0]) / square_mm).astype(int) for axis in (grid.z_mm, grid.y_mm, grid.x_mm))
    odd = (k[:, None, None] + j[None, :, None] + i[None, None, :]) % 2 == 1
    return Volume(grid, np.where(odd, second.values, first.values).astype(np.float32))


def grey_scaled(image: Volume, window: tuple[float, float]) -> Volume:
    """Return an image with the window (centre, width) stretched from 0 to 1, so that two kinds of image compare."""
    centre, width = window
    values = (np.asarray(image.values, np.float32) - np.float32(centre - width / 2)) / np.float32(width)
    return Volume(image.grid, np.clip(values, 0, 1).astype(np.float32))


def checkerboard_figure(first: Volume, second: Volume, view: View, structures: Sequence[StructureView] = ()) -> Figure:
    """Draw the checkerboard of two images with grey values from 0 to 1, axial and coronal, with outlines."""
    mixed = checkerboard(first, second)
    size = np.asarray(view.upper_mm) - np.asarray(view.lower_mm)
    width_in = 0.5 * (style.FULL_WIDTH_IN - _GAP_IN)
    tall = (width_in * size[1] / size[0], width_in * size[2] / size[0])
    height = max(tall)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        figure.set_facecolor("black")
        for column, (cut, high) in enumerate(zip(view.slices[:2], tall, strict=True)):
            left = column * (width_in + _GAP_IN) / style.FULL_WIDTH_IN
            low = 0.5 * (height - high) / height
            axes = figure.add_axes((left, low, width_in / style.FULL_WIDTH_IN, high / height))
            background(axes, mixed, view, cut, (0.5, 1.0))
            for structure in structures:
                outline(axes, structure.fractions, cut, structure.colour, 1.0, dash_of(structure))
            furniture(axes, view, cut)
    return figure
