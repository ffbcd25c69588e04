"""Before and after: two images of one patient on the same slices, with the same window, scale and outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cantlie.core.volume import Volume
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.isodose_figure import isodose_colours
from cantlie.report.slice_drawing import Entry, background, dash_of, furniture, legend, merged, outline
from cantlie.report.view import View

_GAP_IN = 0.06
_LEGEND_IN = 1.3
_TITLE_IN = 0.22


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One side of a pair.

    Parameters
    ----------
    title
        Such as ``Planning CT`` with its date.
    image
        Volume in the frame that both sides share.
    structures
        Outlines drawn on this side.
    isodoses
        Pairs of a dose volume and its level in the same unit, drawn as lines; the label stands in the legend.
    """

    title: str
    image: Volume
    structures: Sequence[StructureView] = ()
    isodoses: Sequence[tuple[Volume, float, str]] = ()


def image_pair_figure(
    before: Picture, after: Picture, view: View, *, window: tuple[float, float], note: str = ""
) -> Figure:
    """Draw two images side by side, the axial slices above the coronal ones.

    Parameters
    ----------
    view
        The part of the patient and the point through which all slices go, in the frame that both images share.
    window
        Centre and width of the grey scale, of both.
    """
    size = np.asarray(view.upper_mm) - np.asarray(view.lower_mm)
    width_in = 0.5 * (style.FULL_WIDTH_IN - _GAP_IN)
    tall = (width_in * size[1] / size[0], width_in * size[2] / size[0])
    height = _TITLE_IN + sum(tall) + 2 * _GAP_IN + _LEGEND_IN
    colours = isodose_colours([level for _, level, _ in before.isodoses] or [1.0])
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        figure.set_facecolor("black")
        for column, side in enumerate((before, after)):
            left = column * (width_in + _GAP_IN)
            top = height - 0.5 * _TITLE_IN
            figure.text(
                (left + 0.05) / style.FULL_WIDTH_IN, top / height, side.title, color="white", fontsize=8, va="center"
            )
            low = height - _TITLE_IN
            for cut, high in zip(view.slices[:2], tall, strict=True):
                low -= high
                axes = figure.add_axes(
                    (left / style.FULL_WIDTH_IN, low / height, width_in / style.FULL_WIDTH_IN, high / height)
                )
                low -= _GAP_IN
                background(axes, side.image, view, cut, window)
                for (dose, level, _), colour in zip(side.isodoses, colours, strict=False):
                    scaled = Volume(dose.grid, np.asarray(dose.values, np.float32) * np.float32(0.5 / level))
                    outline(axes, scaled, cut, colour, 0.8, (0, (2, 1.2)))
                for structure in side.structures:
                    outline(axes, structure.fractions, cut, structure.colour, 1.3, dash_of(structure))
                furniture(axes, view, cut)
        below = figure.add_axes((0, 0, 1, _LEGEND_IN / height))
        outlines = {s.name: Entry(s.name, s.colour, 1.3, dash_of(s)) for s in (*before.structures, *after.structures)}
        lines = [
            Entry(label, colour, 0.8, (0, (2, 1.2)))
            for (_, _, label), colour in zip(before.isodoses, colours, strict=False)
        ]
        groups = [("Outlines and isodoses" if lines else "Outlines", [*merged(outlines.values()), *lines])]
        legend(below, groups, window, note, _LEGEND_IN)
    return figure
