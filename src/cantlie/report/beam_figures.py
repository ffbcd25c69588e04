"""Beam figures: delivered fluences seen from the source, and the directions of the beams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cantlie.report import style
from cantlie.report.beams_eye import framed, outlined, scale_bar
from cantlie.report.case_report import BeamRow, FluenceView

_COLUMNS = 5


def fluence_figure(fluences: Sequence[FluenceView], beams: Sequence[BeamRow]) -> Figure:
    """Draw the delivered fluence of every beam on one scale, with the outline of the target.

    Views are from the source (beam's eye) in the beam-limiting-device frame of IEC 61217: x to the right, y up.

    Parameters
    ----------
    fluences
        One per beam; their ``beam`` names match those of ``beams``.
    """
    angles = {
        beam.name: f"{beam.gantry_deg:g}°" + (f", couch {beam.couch_deg:g}°" if beam.couch_deg else "")
        for beam in beams
    }
    rows = -(-len(fluences) // _COLUMNS)
    columns = min(_COLUMNS, len(fluences))
    half = max(_reach(view) for view in fluences)
    peak = max(float(np.max(view.fluence.values_mu, initial=0.0)) for view in fluences) or 1.0
    width = style.FULL_WIDTH_IN
    gap, label, bar = 0.08, 0.2, 0.42
    tile = (width - bar - gap * (_COLUMNS - 1)) / _COLUMNS
    height = rows * (tile + label) + (rows - 1) * gap + 0.02
    with style.figure_style():
        figure = style.new_figure(width, height)
        image = None
        for n, view in enumerate(fluences):
            row, column = divmod(n, columns)
            left = column * (tile + gap)
            low = height - (row + 1) * (tile + label) - row * gap
            axes = figure.add_axes((left / width, low / height, tile / width, tile / height))
            x, y = view.fluence.x_mm, view.fluence.y_mm
            step = view.fluence.pixel_mm / 2
            axes.set_facecolor("#f2f4f6")
            image = axes.imshow(
                np.ma.masked_less_equal(np.asarray(view.fluence.values_mu, dtype=np.float32), 1e-3 * peak),
                origin="lower",
                extent=(x[0] - step, x[-1] + step, y[0] - step, y[-1] + step),
                cmap="cividis",
                vmin=0,
                vmax=peak,
                interpolation="nearest",
            )
            outlined(axes, view.target_outlines_mm)
            axes.axhline(0, color="white", linewidth=0.35, alpha=0.7)
            axes.axvline(0, color="white", linewidth=0.35, alpha=0.7)
            angle = f"  {angles[view.beam]}" if view.beam in angles else ""
            framed(axes, half, f"{view.beam}{angle}")
            if n == 0:
                scale_bar(axes, half, 50.0)
        if image is not None:
            scale = figure.add_axes(
                ((width - bar + 0.1) / width, 0.02, 0.08 / width, min(1 - label / height - 0.02, 1.6 / height))
            )
            colourbar = figure.colorbar(image, cax=scale)
            colourbar.outline.set_visible(False)
            colourbar.ax.tick_params(labelsize=6, length=2)
            colourbar.ax.set_title(beams[0].meterset_unit if beams else "MU", fontsize=6.5, pad=3, loc="left")
    return figure


def _reach(view: FluenceView) -> float:
    """Half width of the picture that holds the open field and the target."""
    values = np.asarray(view.fluence.values_mu)
    used = values > 1e-3 * (values.max(initial=0.0) or 1.0)
    reach = 20.0
    if used.any():
        reach = max(
            reach, np.abs(view.fluence.x_mm[used.any(axis=0)]).max(), np.abs(view.fluence.y_mm[used.any(axis=1)]).max()
        )
    for outline in view.target_outlines_mm:
        reach = max(reach, float(np.abs(outline).max()))
    return 1.06 * float(reach)
