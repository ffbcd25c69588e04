"""Pictures of the anatomy on three slices: target delineation, isodoses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cantlie.core.volume import Volume
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.slices import Slice, SlicePicture, take

# From cool to warm, each light enough to be seen on CT; red-green blindness leaves their order readable.
_ISODOSE_COLOURS = ("#4aa8ff", "#2fd3c9", "#8fdc5a", "#f2e24b", "#ffb02e", "#ff7043", "#ff4fa3", "#d9b8ff")
_MARGIN_MM = 6.0
_BEYOND_MM = 45.0
_GAP_IN = 0.06
_SCALE_BAR_MM = 50.0
_CONTOUR_PIXEL_MM = 1.5
_SHADOW = (patheffects.withStroke(linewidth=1.6, foreground="black"),)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a legend."""

    label: str
    colour: str
    width: float = 1.2
    dash: Any = "-"


@dataclass(frozen=True, slots=True)
class View:
    """What part of the patient the pictures show, and the point in which the three slices meet."""

    point_mm: tuple[float, float, float]
    lower_mm: tuple[float, float, float]
    upper_mm: tuple[float, float, float]

    @property
    def slices(self) -> tuple[Slice, Slice, Slice]:
        """The axial, coronal and sagittal slice through the point."""
        x, y, z = self.point_mm
        return Slice("axial", z), Slice("coronal", y), Slice("sagittal", x)


def view_of(
    ct: Volume, structures: Sequence[StructureView], point_mm: tuple[float, float, float] | None = None
) -> View:
    """Choose a view: the whole body across, the targets with 45 mm above and below along the patient.

    Parameters
    ----------
    point_mm
        Where the slices meet; the centre of mass of the targets when not given. It is moved to the nearest CT slice.
    """
    targets = [s for s in structures if s.role == "target"] or [s for s in structures if s.role != "body"]
    boxes = [box for s in targets if (box := _box_mm(s.fractions, 0.5)) is not None]
    bodies = [box for s in structures if s.role == "body" and (box := _box_mm(s.fractions, 0.5)) is not None]
    grid = ct.grid
    lower, upper = np.array(grid.lower_mm), np.array(grid.upper_mm)
    body = bodies[0] if bodies else _box_mm(Volume(grid, (ct.values > -400).astype(np.float32)), 0.5)
    if body is not None:
        lower[:2] = np.maximum(lower[:2], body[0][:2] - _MARGIN_MM)
        upper[:2] = np.minimum(upper[:2], body[1][:2] + _MARGIN_MM)
    if boxes:
        lower[2] = max(lower[2], min(box[0][2] for box in boxes) - _BEYOND_MM)
        upper[2] = min(upper[2], max(box[1][2] for box in boxes) + _BEYOND_MM)
    if point_mm is None:
        centres = [c for s in targets if (c := _centre_mm(s.fractions)) is not None]
        point = np.mean(centres, axis=0) if centres else 0.5 * (lower + upper)
    else:
        point = np.asarray(point_mm, dtype=np.float64)
    k = int(np.clip(round((point[2] - grid.origin_mm[2]) / grid.spacing_mm[2]), 0, grid.shape[0] - 1))
    point[2] = grid.origin_mm[2] + k * grid.spacing_mm[2]
    x, y, z = point
    return View((float(x), float(y), float(z)), _triple(lower), _triple(upper))


def target_figure(
    ct: Volume,
    structures: Sequence[StructureView],
    view: View,
    *,
    window: tuple[float, float],
    plane: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None,
    note: str = "",
) -> Figure:
    """Draw structures on three slices of the CT.

    Parameters
    ----------
    window
        Centre and width of the grey scale in HU.
    plane
        Point and normal of the plane that divides the liver, drawn as a dashed line.
    """

    def draw(axes: Axes, cut: Slice) -> None:
        for structure in structures:
            if structure.role == "body":
                continue
            line = 1.5 if structure.role == "target" else 0.9
            _outline(axes, structure.fractions, cut, structure.colour, line, _dash_of(structure))
        if plane is not None:
            _plane_line(axes, cut, plane)

    entries = _merged(
        Entry(s.name, s.colour, 1.6 if s.role == "target" else 1.1, _dash_of(s)) for s in structures if s.role != "body"
    )
    if plane is not None:
        entries.append(Entry("dividing plane", "#dddddd", 1.0, (0, (3, 2))))
    return _three_slices(ct, view, window, draw, [("Structures", entries)], note)


def isodose_figure(
    ct: Volume,
    dose: Volume,
    structures: Sequence[StructureView],
    view: View,
    *,
    prescription_gy: float,
    levels_percent: Sequence[float],
    window: tuple[float, float],
    note: str = "",
) -> Figure:
    """Draw isodose lines on three slices of the CT, with the targets in white and organs in grey.

    Parameters
    ----------
    dose, prescription_gy
        Dose in Gy and the dose that is 100 %.
    levels_percent
        Isodoses in % of the prescription, in growing order.
    window
        Centre and width of the grey scale in HU.
    """
    levels = [float(level) for level in sorted(levels_percent)]
    colours = isodose_colours(levels)

    def draw(axes: Axes, cut: Slice) -> None:
        for structure in structures:
            if structure.role == "target":
                _outline(axes, structure.fractions, cut, "#ffffff", 1.3, _dash_of(structure))
            elif structure.role == "organ":
                _outline(axes, structure.fractions, cut, "#b9c2cb", 0.5, "-")
        picture = take(dose, cut)
        if picture is None:
            return
        fine = _finer(picture)
        percent = 100.0 * fine.values / prescription_gy
        if percent.max() <= levels[0]:
            return
        ceiling = max(levels[-1], float(percent.max())) + 1.0
        axes.contourf(
            fine.horizontal_mm,
            fine.vertical_mm,
            percent,
            [*levels, ceiling],
            colors=colours,
            alpha=0.16,
            antialiased=True,
        )
        drawn = [level for level in levels if level < percent.max()]
        axes.contour(
            fine.horizontal_mm, fine.vertical_mm, percent, drawn, colors=colours[: len(drawn)], linewidths=0.95
        )

    lines = [
        Entry(f"{level:g} %   {level * prescription_gy / 100:.1f} Gy", colour, 1.6)
        for level, colour in zip(levels[::-1], colours[::-1], strict=True)
    ]
    outlines = [Entry(s.name, "#ffffff", 1.3, _dash_of(s)) for s in structures if s.role == "target"]
    if any(s.role == "organ" for s in structures):
        outlines.append(Entry("organs at risk", "#b9c2cb", 0.8))
    groups = [(f"Isodoses, 100 % = {prescription_gy:g} Gy", lines), ("Outlines", outlines)]
    return _three_slices(ct, view, window, draw, groups, note)


def isodose_colours(levels_percent: Sequence[float]) -> list[str]:
    """Return a colour for each level in growing order; few levels are spread over the whole range."""
    count = len(levels_percent)
    top = len(_ISODOSE_COLOURS) - 2 if count <= len(_ISODOSE_COLOURS) - 1 else len(_ISODOSE_COLOURS) - 1
    picks = np.round(np.linspace(0, top, count)).astype(int) if count > 1 else [top]
    return [_ISODOSE_COLOURS[int(pick)] for pick in picks]


def _merged(entries: Iterable[Entry]) -> list[Entry]:
    """Write neighbours that look alike as one line: GTV_1 to GTV_6."""
    merged: list[Entry] = []
    for _, group in groupby(entries, key=lambda entry: (entry.colour, entry.width, entry.dash)):
        alike = list(group)
        label = alike[0].label if len(alike) == 1 else f"{alike[0].label} to {alike[-1].label}"
        merged.append(replace(alike[0], label=label))
    return merged


def _three_slices(
    ct: Volume,
    view: View,
    window: tuple[float, float],
    draw: Callable[[Axes, Slice], None],
    groups: Sequence[tuple[str, Sequence[Entry]]],
    note: str,
) -> Figure:
    """Lay out: axial above coronal on one scale, sagittal beside coronal, the legend beside axial."""
    size = np.asarray(view.upper_mm) - np.asarray(view.lower_mm)
    right_mm = max(size[1], 0.52 * size[0])
    scale = (style.FULL_WIDTH_IN - _GAP_IN) / (size[0] + right_mm)
    width_x, width_y, right = size[0] * scale, size[1] * scale, right_mm * scale
    top, bottom = width_y, size[2] * scale
    height = top + bottom + _GAP_IN
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        figure.set_facecolor("black")

        def place(left: float, low: float, wide: float, tall: float) -> Axes:
            return figure.add_axes(
                (left / style.FULL_WIDTH_IN, low / height, wide / style.FULL_WIDTH_IN, tall / height)
            )

        axial = place(0, bottom + _GAP_IN, width_x, top)
        coronal = place(0, 0, width_x, bottom)
        sagittal = place(width_x + _GAP_IN + 0.5 * (right - width_y), 0, width_y, bottom)
        legend = place(width_x + _GAP_IN, bottom + _GAP_IN, right, top)
        for axes, cut in zip((axial, coronal, sagittal), view.slices, strict=True):
            _background(axes, ct, view, cut, window)
            draw(axes, cut)
            _furniture(axes, view, cut)
        _legend(legend, groups, window, note, top)
    return figure


def _background(axes: Axes, ct: Volume, view: View, cut: Slice, window: tuple[float, float]) -> None:
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


def _furniture(axes: Axes, view: View, cut: Slice) -> None:
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


def _legend(
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


def _outline(axes: Axes, fractions: Volume, cut: Slice, colour: str, width: float, dash: Any) -> None:
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


def _plane_line(axes: Axes, cut: Slice, plane: tuple[tuple[float, float, float], tuple[float, float, float]]) -> None:
    """Draw where a plane crosses the slice."""
    point, normal = (np.asarray(value, dtype=np.float64) for value in plane)
    a, b = normal[cut.horizontal], normal[cut.vertical]
    if np.hypot(a, b) < 0.05 * np.linalg.norm(normal):
        return
    c = normal @ point - normal[cut.across] * cut.position_mm
    low_h, high_h = axes.get_xlim()
    low_v, high_v = axes.get_ylim()
    if abs(a) > abs(b):
        v = np.array([low_v, high_v])
        h = (c - b * v) / a
    else:
        h = np.array([low_h, high_h])
        v = (c - a * h) / b
    axes.plot(h, v, color="#dddddd", linestyle=(0, (3, 2)), linewidth=0.9, scalex=False, scaley=False)


def _finer(picture: SlicePicture) -> SlicePicture:
    """Interpolate onto pixels of 1.5 mm, so that isodose lines are smooth on coarse grids."""
    values, h, v = picture.values, picture.horizontal_mm, picture.vertical_mm
    new_h = np.arange(h[0], h[-1] + 1e-6, _CONTOUR_PIXEL_MM)
    new_v = np.arange(v[0], v[-1] + 1e-6, _CONTOUR_PIXEL_MM)
    if len(h) < 3 or len(v) < 3 or (len(new_h) <= len(h) and len(new_v) <= len(v)):
        return picture
    from scipy.ndimage import map_coordinates

    rows = (new_v - v[0]) / (v[1] - v[0])
    columns = (new_h - h[0]) / (h[1] - h[0])
    finer = map_coordinates(values, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    return SlicePicture(finer, new_h, new_v)


def _padded(centres_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    step = centres_mm[1] - centres_mm[0]
    return np.concatenate([[centres_mm[0] - step], centres_mm, [centres_mm[-1] + step]])


def _dash_of(structure: StructureView) -> Any:
    return (0, (4, 1.6)) if structure.role == "ctv" else "-"


def _box_mm(mask: Volume, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    inside = np.asarray(mask.values) >= level
    spans = []
    for axis in (2, 1, 0):
        others = tuple(n for n in range(3) if n != axis)
        hits = np.flatnonzero(inside.any(axis=others))
        if not hits.size:
            return None
        spans.append((hits[0], hits[-1]))
    spacing, origin = np.asarray(mask.grid.spacing_mm), np.asarray(mask.grid.origin_mm)
    low = origin + spacing * (np.array([span[0] for span in spans]) - 0.5)
    high = origin + spacing * (np.array([span[1] for span in spans]) + 0.5)
    return low, high


def _centre_mm(mask: Volume) -> NDArray[np.float64] | None:
    values = np.asarray(mask.values, dtype=np.float64)
    total = values.sum()
    if total <= 0:
        return None
    grid = mask.grid
    return (
        np.array(
            [
                values.sum(axis=(0, 1)) @ grid.x_mm,
                values.sum(axis=(0, 2)) @ grid.y_mm,
                values.sum(axis=(1, 2)) @ grid.z_mm,
            ]
        )
        / total
    )


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)
