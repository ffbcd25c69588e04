"""Gamma on three slices, with its histogram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from cantlie.core.volume import Volume
from cantlie.evaluation.gamma import GammaResult
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.slice_drawing import background, dash_of, furniture, outline
from cantlie.report.slices import Slice, SlicePicture
from cantlie.report.view import View

_GAP_IN = 0.06
_PLOT_IN = 2.0
# Blue passes, orange to red fails; the step lies at gamma = 1, half of the scale.
_COLOURS = LinearSegmentedColormap.from_list(
    "gamma", [(0.0, "#10304f"), (0.4999, "#9fd0f5"), (0.5, "#ffd166"), (1.0, "#d7191c")]
)
_TOP = 2.0


def gamma_figure(
    ct: Volume,
    gamma: Volume,
    structures: Sequence[StructureView],
    view: View,
    result: GammaResult,
    *,
    window: tuple[float, float],
) -> Figure:
    """Draw gamma on an axial, a coronal and a sagittal slice, and how often each value occurs.

    Parameters
    ----------
    ct
        The grey background.
    gamma
        NaN where it was not judged.
    window
        Centre and width of the grey scale in HU.
    """
    size = np.asarray(view.upper_mm) - np.asarray(view.lower_mm)
    scale = (style.FULL_WIDTH_IN - _GAP_IN) / (size[0] + size[1])
    wide, deep, tall = size[0] * scale, size[1] * scale, size[2] * scale
    height = deep + _GAP_IN + max(tall, _PLOT_IN)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)

        def place(left: float, low: float, width: float, high: float) -> Axes:
            return figure.add_axes(
                (left / style.FULL_WIDTH_IN, low / height, width / style.FULL_WIDTH_IN, high / height)
            )

        top = height - deep
        cuts = view.slices
        # axial above coronal; sagittal in the upper right corner
        boxes = (
            (0.0, top, wide, deep),
            (0.0, top - _GAP_IN - tall, wide, tall),
            (wide + _GAP_IN, height - tall, deep, tall),
        )
        for cut, box in zip(cuts, boxes, strict=True):
            axes = place(*box)
            background(axes, ct, view, cut, window)
            _gamma(axes, gamma, cut)
            for structure in structures:
                if structure.role != "body":
                    width = 1.0 if structure.role == "target" else 0.5
                    outline(axes, structure.fractions, cut, "#ffffff", width, dash_of(structure))
            furniture(axes, view, cut)
        space = height - tall - 2 * _GAP_IN
        left = wide + 0.55
        bar = place(left, space - 0.22, style.FULL_WIDTH_IN - left - 0.12, 0.09)
        scale_bar = Colorbar(bar, cmap=_COLOURS, norm=Normalize(0.0, _TOP), orientation="horizontal")
        scale_bar.set_ticks([0.0, 0.5, 1.0, 1.5, 2.0])
        scale_bar.outline.set_linewidth(0.4)
        bar.tick_params(labelsize=6, length=2, pad=1)
        bar.set_xlabel("γ", fontsize=6.5, labelpad=1)
        bar.grid(False)
        _histogram(place(left, 0.36, style.FULL_WIDTH_IN - left - 0.12, max(space - 1.05, 0.5)), result)
    return figure


def _gamma(axes: Axes, gamma: Volume, cut: Slice) -> None:
    picture = _nearest(gamma, cut)
    if picture is None:
        return
    axes.imshow(
        np.ma.masked_invalid(picture.values),
        cmap=_COLOURS,
        norm=Normalize(0.0, _TOP),
        alpha=0.75,
        origin="lower",
        extent=picture.extent_mm,
        interpolation="nearest",
        aspect="auto",
    )


def _nearest(volume: Volume, cut: Slice) -> SlicePicture | None:
    """Return the nearest layer of a volume: gamma is not interpolated."""
    grid = volume.grid
    position = (cut.position_mm - grid.origin_mm[cut.across]) / grid.spacing_mm[cut.across]
    count = grid.shape[2 - cut.across]
    if not -0.5 - 1e-6 <= position <= count - 0.5 + 1e-6:
        return None
    layer = min(max(round(position), 0), count - 1)
    values = np.asarray(volume.values.take(layer, axis=2 - cut.across), dtype=np.float64)
    centres = (grid.x_mm, grid.y_mm, grid.z_mm)
    return SlicePicture(values, centres[cut.horizontal], centres[cut.vertical])


def _histogram(axes: Axes, result: GammaResult) -> None:
    values = result.gamma[np.isfinite(result.gamma)]
    edges = np.linspace(0.0, result.limit, 41)
    counts, _ = np.histogram(np.minimum(values, result.limit), bins=edges)
    shares = 100.0 * counts / values.size
    middle = 0.5 * (edges[1:] + edges[:-1])
    colours = _COLOURS(Normalize(0.0, _TOP)(middle))
    axes.bar(middle, shares, width=np.diff(edges), color=colours, linewidth=0)
    axes.axvline(1.0, color=style.INK, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_xlim(0.0, result.limit)
    axes.set_xlabel("γ", fontsize=6.5, labelpad=1)
    axes.set_ylabel("Voxels [%]", fontsize=6.5, labelpad=1)
    axes.tick_params(labelsize=6, pad=1.5)
