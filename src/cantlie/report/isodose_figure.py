"""Pictures of the anatomy on three slices: target delineation, isodoses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cantlie.core.volume import Volume
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.slice_drawing import Entry, background, dash_of, furniture, legend, merged, outline
from cantlie.report.slices import Slice, SlicePicture, take
from cantlie.report.view import View

# From cool to warm, each light enough to be seen on CT; red-green blindness leaves their order readable.
_ISODOSE_COLOURS = ("#4aa8ff", "#2fd3c9", "#8fdc5a", "#f2e24b", "#ffb02e", "#ff7043", "#ff4fa3", "#d9b8ff")
_GAP_IN = 0.06
_CONTOUR_PIXEL_MM = 1.5


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
            outline(axes, structure.fractions, cut, structure.colour, line, dash_of(structure))
        if plane is not None:
            _plane_line(axes, cut, plane)

    entries = merged(
        Entry(s.name, s.colour, 1.6 if s.role == "target" else 1.1, dash_of(s)) for s in structures if s.role != "body"
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
                outline(axes, structure.fractions, cut, "#ffffff", 1.3, dash_of(structure))
            elif structure.role == "organ":
                outline(axes, structure.fractions, cut, "#b9c2cb", 0.5, "-")
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
    outlines = [Entry(s.name, "#ffffff", 1.3, dash_of(s)) for s in structures if s.role == "target"]
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
        beside = place(width_x + _GAP_IN, bottom + _GAP_IN, right, top)
        for axes, cut in zip((axial, coronal, sagittal), view.slices, strict=True):
            background(axes, ct, view, cut, window)
            draw(axes, cut)
            furniture(axes, view, cut)
        legend(beside, groups, window, note, top)
    return figure


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
