"""Parts of pictures on slices of the anatomy: the CT, outlines, orientation letters, scale bar, legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cantlie.core.volume import Volume
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.slices import Slice, SlicePicture, take
from cantlie.report.view import View

_SCALE_BAR_MM = 50.0
_SHADOW = (patheffects.withStroke(linewidth=1.6, foreground="black"),)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a legend."""

    label: str
    colour: str
    width: float = 1.2
    dash: Any = "-"


_LONGEST_LABEL = 60  # signs that fit beside a line of a legend


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """Write neighbours that look alike as one line: ``GTV_1 to GTV_6``, or ``Liver, Spleen``."""
    merged: list[Entry] = []
    for _, group in groupby(entries, key=lambda entry: (entry.colour, entry.width, entry.dash)):
        alike = list(group)
        merged.append(replace(alike[0], label=_joined([entry.label for entry in alike])))
    return merged


def _joined(labels: Sequence[str]) -> str:
    stems = {label.rstrip("0123456789") for label in labels}
    numbered = len(stems) == 1 and all(label not in stems for label in labels)
    if numbered and len(labels) > 2:
        return f"{labels[0]} to {labels[-1]}"
    shown = list(labels)
    while len(shown) > 1 and len(", ".join(shown)) > _LONGEST_LABEL:
        shown.pop()
    more = len(labels) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def background(axes: Axes, ct: Volume, view: View, cut: Slice, window: tuple[float, float]) -> None:
    style.bare(axes)
    picture = take(ct, cut)
    low_h, high_h = view.lower_mm[cut.horizontal], view.upper_mm[cut.horizontal]
    low_v, high_v = view.lower_mm[cut.vertical], view.upper_mm[cut.vertical]
    if picture is not None:
        columns = (picture.horizontal_mm >= low_h - 2) & (picture.horizontal_mm <= high_h + 2)
        rows = (picture.vertical_mm >= low_v - 10) & (picture.vertical_mm <= high_v + 10)
        part = SlicePicture(
            picture.values[np.ix_(rows, columns)], picture.horizontal_mm[columns], picture.vertical_mm[rows]
        )
        centre, width = window
        grey = np.clip((part.values - (centre - width / 2)) / width, 0.0, 1.0)
        axes.imshow(
            grey.astype(np.float32),
            cmap="gray",
            vmin=0.0,
            vmax=1.0,
            origin="lower",
            extent=part.extent_mm,
            interpolation="bilinear",
            aspect="auto",
        )
    axes.set_xlim(low_h, high_h)
    axes.set_ylim((high_v, low_v) if cut.downwards else (low_v, high_v))


def furniture(axes: Axes, view: View, cut: Slice) -> None:
    """Orientation letters, scale bar, the title, and where the other two slices cross."""
    left, right, top, bottom = cut.letters
    text: dict[str, Any] = {
        "color": "white",
        "fontsize": 8.5,
        "fontweight": 600,
        "path_effects": _SHADOW,
        "transform": axes.transAxes,
    }
    axes.text(0.015, 0.5, left, ha="left", va="center", **text)
    axes.text(0.985, 0.5, right, ha="right", va="center", **text)
    axes.text(0.5, 0.985, top, ha="center", va="top", **text)
    axes.text(0.5, 0.015, bottom, ha="center", va="bottom", **text)
    axes.text(
        0.015,
        0.975,
        cut.title(),
        ha="left",
        va="top",
        color="white",
        fontsize=7,
        path_effects=_SHADOW,
        transform=axes.transAxes,
    )
    low_h, high_h = axes.get_xlim()
    low_v, high_v = axes.get_ylim()
    cross_h, cross_v = view.point_mm[cut.horizontal], view.point_mm[cut.vertical]
    tick_h, tick_v = 0.03 * (high_h - low_h), 0.03 * (high_v - low_v)
    for near, far in ((low_v, low_v + tick_v), (high_v - tick_v, high_v)):
        axes.plot([cross_h, cross_h], [near, far], color="#ffd54a", linewidth=0.8)
    for near, far in ((low_h, low_h + tick_h), (high_h - tick_h, high_h)):
        axes.plot([near, far], [cross_v, cross_v], color="#ffd54a", linewidth=0.8)
    start = low_h + 0.03 * (high_h - low_h)
    level = low_v + 0.045 * (high_v - low_v)
    axes.plot([start, start + _SCALE_BAR_MM], [level, level], color="white", linewidth=1.8, solid_capstyle="butt")
    axes.text(
        start,
        level + 0.012 * (high_v - low_v),
        f"{_SCALE_BAR_MM / 10:g} cm",
        ha="left",
        va="bottom",
        color="white",
        fontsize=6.5,
        path_effects=_SHADOW,
    )


def legend(
    axes: Axes, groups: Sequence[tuple[str, Sequence[Entry]]], window: tuple[float, float], note: str, height_in: float
) -> None:
    style.bare(axes)
    axes.set_xlim(0, 1)
    rows = sum(len(entries) + 1.7 for _, entries in groups) + 2 + (1 if note else 0)
    columns = 1
    step_in = 0.155
    if rows * step_in > height_in - 0.2:
        step_in = max((height_in - 0.2) / rows, 0.105)
        columns = 1 if rows * step_in <= height_in - 0.1 else 2
    size = min(7.0, 46.0 * step_in)
    axes.set_ylim(height_in, 0)
    y, x = 0.16, 0.06
    for title, entries in groups:
        axes.text(x, y, title, color="white", fontsize=size, fontweight=600, va="center")
        y += step_in
        per_column = -(-len(entries) // columns)
        for n, entry in enumerate(entries):
            column, row = divmod(n, per_column)
            left, at = x + column * 0.46, y + row * step_in
            axes.plot([left, left + 0.09], [at, at], color=entry.colour, linewidth=entry.width, linestyle=entry.dash)
            axes.text(left + 0.12, at, entry.label, color="#e8edf2", fontsize=size, va="center")
        y += (per_column + 0.7) * step_in
    centre, width = window
    lines = [f"CT window: centre {centre:g} HU, width {width:g} HU", "Yellow marks: where the slices cross"]
    for line in [*lines, *([note] if note else [])]:
        axes.text(x, y, line, color="#9aa7b4", fontsize=size - 0.5, va="center")
        y += step_in


def outline(axes: Axes, fractions: Volume, cut: Slice, colour: str, width: float, dash: Any) -> None:
    picture = take(fractions, cut)
    if picture is None or picture.values.max(initial=0.0) < 0.5 or min(picture.values.shape) < 2:
        return
    padded = SlicePicture(np.pad(picture.values, 1), _padded(picture.horizontal_mm), _padded(picture.vertical_mm))
    axes.contour(
        padded.horizontal_mm,
        padded.vertical_mm,
        padded.values,
        [0.5],
        colors=[colour],
        linewidths=width,
        linestyles=[dash],
    )


def _padded(centres_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    step = centres_mm[1] - centres_mm[0]
    return np.concatenate([[centres_mm[0] - step], centres_mm, [centres_mm[-1] + step]])


def dash_of(structure: StructureView) -> Any:
    return (0, (4, 1.6)) if structure.role == "ctv" else "-"
