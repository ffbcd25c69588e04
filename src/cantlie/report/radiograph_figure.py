"""Radiographs of beams and of the set-up pair, with field aperture, target and isocentre drawn into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from numpy.typing import NDArray

from cantlie.dose.radiograph import Radiograph
from cantlie.machine.aperture import FluenceMap
from cantlie.report import style
from cantlie.report.document import Block, Figure, Paragraph, Section

_COLUMNS = 4
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
_APERTURE, _TARGET, _CROSS = "#ffd23f", "#ff5a4e", "#4be3a4"


@dataclass(frozen=True, slots=True, eq=False)
class RadiographView:
    """A radiograph with what is drawn into it.

    Parameters
    ----------
    image
        Taken without collimator rotation, so that it is upright.
    fluence, collimator_deg
        Fluence of the field in its turned frame; None for a set-up image.
    jaws_mm
        (x low, x high, y low, y high) in the turned frame.
    outlines_mm
        Outline of the target in the frame of the image, polygons of shape (n, 2).
    """

    title: str
    image: Radiograph
    fluence: FluenceMap | None = None
    collimator_deg: float = 0.0
    jaws_mm: tuple[float, float, float, float] | None = None
    outlines_mm: Sequence[NDArray[np.float64]] = ()


def radiograph_section(groups: Sequence[tuple[str, Sequence[RadiographView]]]) -> Section:
    """Return the chapter: a figure for each group (a plan's beams, the set-up pair)."""
    blocks: list[Block] = [
        Paragraph(
            "Radiographs reconstructed from the planning CT, in the plane of the isocentre as the source sees the "
            "patient, without collimator rotation. Yellow: what leaves and jaws open in any segment, dashed the jaws; "
            "red: the target; green cross: the isocentre. Letters name the patient's side: R L, A P, H F."
        )
    ]
    for name, views in groups:
        blocks.append(
            Figure(
                radiograph_figure(views),
                f"{name}. The scale is in cm at the isocentre.",
                f"Reconstructed radiographs: {name}",
                "drr-" + "".join(letter.lower() if letter.isalnum() else "-" for letter in name).strip("-"),
            )
        )
    return Section("Radiographs", blocks, new_page=True)


def radiograph_figure(views: Sequence[RadiographView]) -> MatplotlibFigure:
    """Draw radiographs side by side, bone bright."""
    columns = min(_COLUMNS, max(len(views), 1))
    rows = max(-(-len(views) // columns), 1)
    width = style.FULL_WIDTH_IN * (1.0 if columns >= 3 else 0.34 * columns)
    cell = width / columns
    with style.figure_style():
        figure = style.new_figure(width, rows * (cell + 0.22))
        for n, view in enumerate(views):
            row, column = divmod(n, columns)
            height = rows * (cell + 0.22)
            box = (
                (column * cell + 0.02) / width,
                1 - (row * (cell + 0.22) + 0.2 + cell - 0.04) / height,
                (cell - 0.04) / width,
                (cell - 0.04) / height,
            )
            _draw(figure.add_axes(box), view)
    return figure


def _draw(axes: Axes, view: RadiographView) -> None:
    image = view.image
    x, y = image.x_mm / 10, image.y_mm / 10
    half = 0.5 * float(x[1] - x[0])
    extent = (float(x[0]) - half, float(x[-1]) + half, float(y[0]) - half, float(y[-1]) + half)
    inside = image.attenuation[image.attenuation > 0]
    top = float(np.quantile(inside, 0.995)) if inside.size else 1.0
    low = float(np.quantile(inside, 0.02)) if inside.size else 0.0
    axes.imshow(image.attenuation, cmap="gray", origin="lower", extent=extent, vmin=low, vmax=top, aspect="equal")
    if view.fluence is not None:
        grid_x, grid_y = np.meshgrid(view.fluence.x_mm / 10, view.fluence.y_mm / 10)
        turned_x, turned_y = turned(grid_x, grid_y, view.collimator_deg)
        values = np.asarray(view.fluence.values_mu, dtype=np.float64)
        axes.contour(turned_x, turned_y, values, levels=[_open_level(values)], colors=[_APERTURE], linewidths=0.9)
    if view.jaws_mm is not None:
        x0, x1, y0, y1 = (value / 10 for value in view.jaws_mm)
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])
        jaw_x, jaw_y = turned(corners[:, 0], corners[:, 1], view.collimator_deg)
        axes.plot(jaw_x, jaw_y, color=_APERTURE, linewidth=0.6, linestyle=(0, (4, 2)))
    for line in view.outlines_mm:
        axes.plot(line[:, 0] / 10, line[:, 1] / 10, color=_TARGET, linewidth=0.8)
    axes.plot([0], [0], marker="+", color=_CROSS, markersize=9, markeredgewidth=0.9)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    _letters(axes, view.image.geometry.axes)
    axes.grid(False)
    axes.set_xticks(np.arange(-15, 16, 5))
    axes.set_yticks(np.arange(-15, 16, 5))
    axes.tick_params(labelbottom=False, labelleft=False, length=1.5, direction="in", color="white")
    axes.set_title(view.title, fontsize=7, pad=2)


def turned(
    x: NDArray[np.float64], y: NDArray[np.float64], collimator_deg: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of the turned beam-limiting-device frame in the frame without collimator rotation (IEC 61217)."""
    angle = np.radians(collimator_deg)
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y


def _open_level(values: NDArray[np.float64]) -> float:
    """Return the fluence at the edge of what any segment opens: a share of the least that a segment brings."""
    top = float(values.max())
    return 0.08 * top if top > 0 else 1.0


def _letters(axes: Axes, directions: NDArray[np.float64]) -> None:
    places = (
        (0.97, 0.5, directions[0]),
        (0.03, 0.5, -directions[0]),
        (0.5, 0.96, directions[1]),
        (0.5, 0.04, -directions[1]),
    )
    for x, y, direction in places:
        axis = int(np.argmax(np.abs(direction)))
        letter = _LETTERS[axis][0 if direction[axis] > 0 else 1]
        axes.text(
            x, y, letter, color="white", fontsize=7, fontweight="bold", ha="center", va="center",
            transform=axes.transAxes,
        )  # fmt: skip
