"""Figures of arcs: openings seen from the source along the way, and what gantry, dose rate and opening do."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cantlie.report import style
from cantlie.report.arc_view import ApertureView, ArcView
from cantlie.report.beams_eye import framed, outlined, scale_bar

_TILES = 8


def arc_figure(arc: ArcView) -> Figure:
    """Draw an arc: openings in beam's eye view, and monitor units, opening, dose rate and gantry speed on its way."""
    width = style.FULL_WIDTH_IN
    gap, label, chart, tiles = 0.08, 0.2, 1.15, min(_TILES, len(arc.apertures))
    tile = (width - gap * (_TILES - 1)) / _TILES
    height = tile + label + 2 * (chart + 0.22) + 0.35
    half = max(_reach(view) for view in arc.apertures)
    with style.figure_style():
        figure = style.new_figure(width, height)
        for n, view in enumerate(arc.apertures[:tiles]):
            axes = figure.add_axes(
                (n * (tile + gap) / width, (height - tile - label) / height, tile / width, tile / height)
            )
            _opening(axes, view, half, scale=n == 0)
        profile = arc.profile
        along = np.unwrap(np.radians(profile.gantry_deg))
        along = np.degrees(along)
        rows = (
            (profile.mu_per_deg, "MU per degree", profile.open_cm2, "open area, cm²"),
            (profile.dose_rate_mu_min, "dose rate, MU/min", profile.gantry_deg_s, "gantry, °/s"),
        )
        for n, (left, left_label, right, right_label) in enumerate(rows):
            low = 0.42 + (1 - n) * (chart + 0.22)
            axes = figure.add_axes((0.5 / width, low / height, (width - 1.0) / width, chart / height))
            twin = axes.twinx()
            (first,) = axes.plot(along, left, color=style.SERIES[0], linewidth=1.1)
            (second,) = twin.plot(along, right, color=style.SERIES[1], linewidth=1.1, linestyle=style.DASHES[1])
            axes.set_ylabel(left_label, color=first.get_color())
            twin.set_ylabel(right_label, color=second.get_color())
            for one, values in ((axes, left), (twin, right)):
                one.set_ylim(0, 1.08 * max(float(np.max(values)), 1e-9))
            twin.grid(False)
            twin.spines["right"].set_visible(True)
            ticks = _ticks(along)
            axes.set_xlim(min(along[0], along[-1]), max(along[0], along[-1]))
            if along[0] > along[-1]:
                axes.invert_xaxis()
            axes.set_xticks(ticks, [f"{tick % 360:g}°" for tick in ticks] if n == 1 else [])
            if n == 1:
                axes.set_xlabel("gantry angle (IEC 61217), in the order of delivery")
    return figure


def _ticks(along_deg: NDArray[np.float64]) -> list[float]:
    low, high = float(along_deg.min()), float(along_deg.max())
    step = 30.0 if high - low > 120 else 10.0
    return [float(tick) for tick in np.arange(np.ceil(low / step) * step, high + 1e-6, step)]


def _opening(axes: Axes, view: ApertureView, half: float, *, scale: bool) -> None:
    corners = [
        [(low_x, low_y), (high_x, low_y), (high_x, high_y), (low_x, high_y)]
        for low_x, high_x, low_y, high_y in view.open_mm
    ]
    axes.set_facecolor("#cfd6dd")
    axes.add_collection(PolyCollection(corners, facecolors="white", edgecolors=style.MUTED, linewidths=0.3))
    outlined(axes, view.target_outlines_mm)
    framed(axes, half, f"{view.gantry_deg % 360:.0f}°")
    if scale:
        scale_bar(axes, half, 20.0 if half < 60 else 50.0)


def _reach(view: ApertureView) -> float:
    reach = 15.0
    if view.open_mm.size:
        reach = max(reach, float(np.abs(view.open_mm).max()))
    for outline in view.target_outlines_mm:
        reach = max(reach, float(np.abs(outline).max()))
    return 1.08 * reach
