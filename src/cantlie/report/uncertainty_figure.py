"""How sure a carried-over dose is: its standard error on slices of the anatomy, and the dose itself as lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cantlie.core.volume import Volume
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.slice_drawing import background, dash_of, furniture, outline
from cantlie.report.slices import take
from cantlie.report.view import View

_GAP_IN = 0.06
_BAR_IN = 0.75


def uncertainty_figure(
    ct: Volume,
    uncertainty: Volume,
    view: View,
    structures: Sequence[StructureView] = (),
    *,
    window: tuple[float, float] = (50.0, 400.0),
) -> Figure:
    """Draw the standard error of a dose in Gy over the CT, axial and coronal, with a colour bar."""
    size = np.asarray(view.upper_mm) - np.asarray(view.lower_mm)
    width_in = 0.5 * (style.FULL_WIDTH_IN - _GAP_IN - _BAR_IN)
    tall = (width_in * size[1] / size[0], width_in * size[2] / size[0])
    height = max(tall)
    top = float(np.percentile(uncertainty.values[uncertainty.values > 0], 99.5)) if uncertainty.values.any() else 1.0
    drawn = None
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        figure.set_facecolor("black")
        for column, (cut, high) in enumerate(zip(view.slices[:2], tall, strict=True)):
            left = column * (width_in + _GAP_IN) / style.FULL_WIDTH_IN
            axes = figure.add_axes(
                (left, 0.5 * (height - high) / height, width_in / style.FULL_WIDTH_IN, high / height)
            )
            background(axes, ct, view, cut, window)
            picture = take(uncertainty, cut)
            if picture is not None:
                drawn = axes.imshow(
                    picture.values, cmap="inferno", vmin=0.0, vmax=top, origin="lower", extent=picture.extent_mm,
                    interpolation="bilinear", aspect="auto",
                    alpha=np.clip(picture.values / (0.15 * top), 0.0, 0.75).astype(np.float32),
                )  # fmt: skip
            for structure in structures:
                outline(axes, structure.fractions, cut, structure.colour, 1.0, dash_of(structure))
            furniture(axes, view, cut)
        if drawn is not None:
            left = (2 * width_in + _GAP_IN + 0.15) / style.FULL_WIDTH_IN
            bar_axes = figure.add_axes((left, 0.1, 0.14 / style.FULL_WIDTH_IN, 0.75))
            bar = figure.colorbar(drawn, cax=bar_axes)
            bar.ax.tick_params(labelsize=6.5, colors="white")
            bar.set_label("standard error / Gy", color="white", fontsize=7)
    return figure
