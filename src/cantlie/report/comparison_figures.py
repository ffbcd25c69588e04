"""Pictures of a comparison: doses on the same slices with their difference, histograms laid over each other, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import Dvh
from cantlie.report import style
from cantlie.report.case_report import StructureView
from cantlie.report.comparison_report import ArmView, BandedDvh, ProbabilityLine
from cantlie.report.slices import Slice, take
from cantlie.report.view import View

_SHADOW = (patheffects.withStroke(linewidth=1.6, foreground="black"),)
_DOSE_COLOURS = ("#3b6fd4", "#2fb3d3", "#39c8a0", "#8fdc5a", "#e8e04a", "#ffb02e", "#ff7043", "#ff4fa3", "#d9b8ff")
_POINTS = 400
_GAP_IN = 0.05
_BAR_IN = 0.42
_TITLE_IN = 0.2
LEAST_SHOWN_GY = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One column of pictures: a dose, or the difference of two (``signed``)."""

    title: str
    volume: Volume
    outlines: Sequence[StructureView]
    signed: bool = False


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """Return the colour of every arm, the same in all figures."""
    return {name: style.SERIES[n % len(style.SERIES)] for n, name in enumerate(arms)}


def slices_figure(
    ct: Volume,
    panels: Sequence[Panel],
    organs: Sequence[StructureView],
    view: View,
    *,
    window_hu: tuple[float, float],
    quantity: str = "Dose",
    top_gy: float | None = None,
) -> Figure:
    """Draw doses and differences side by side on the same axial and coronal slice, all doses on one colour scale.

    Parameters
    ----------
    panels
        At most four fit the width of a page.
    organs
        Drawn thin in grey (organs) and pink (lesions) in every panel.
    window_hu
        Centre and width of the grey scale.
    quantity
        What the doses are, for the scale.
    top_gy
        The largest dose of the scale, where several figures share one.
    """
    size = np.asarray(view.upper_mm) - np.asarray(view.lower_mm)
    count = max(len(panels), 2)
    wide = (style.FULL_WIDTH_IN - _GAP_IN * (count - 1)) / count
    tall = [wide * size[1] / size[0], wide * size[2] / size[0]]
    height = _TITLE_IN + tall[0] + _GAP_IN + tall[1] + _BAR_IN
    doses = [panel for panel in panels if not panel.signed]
    levels = dose_levels(top_gy or max((float(panel.volume.values.max()) for panel in doses), default=1.0))
    signed = [panel for panel in panels if panel.signed]
    most = max((_largest(panel.volume, view) for panel in signed), default=0.0)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        for n, panel in enumerate(panels):
            left = n * (wide + _GAP_IN)
            low = _BAR_IN
            for cut, depth in ((view.slices[1], tall[1]), (view.slices[0], tall[0])):
                axes = figure.add_axes(
                    (left / style.FULL_WIDTH_IN, low / height, wide / style.FULL_WIDTH_IN, depth / height)
                )
                _slice(axes, ct, panel, organs, view, cut, window_hu, levels, most)
                low += depth + _GAP_IN
            figure.text(
                (left + 0.02) / style.FULL_WIDTH_IN,
                1 - 0.1 / height,
                panel.title,
                fontsize=7.5,
                fontweight=600,
                va="center",
            )
        if doses:
            end = (len(doses) * (wide + _GAP_IN) - _GAP_IN) / style.FULL_WIDTH_IN
            share = min(0.9 * end, 0.55)
            _bar(figure, (0.5 * (end - share), share), height, _dose_colours(levels), f"{quantity} [Gy]", levels)
        if signed:
            start = len(doses) * (wide + _GAP_IN) / style.FULL_WIDTH_IN
            share = min(0.85 * (1 - start), 0.45)
            place = (start + 0.5 * (1 - start - share), share)
            _bar(figure, place, height, None, "Difference [Gy]", [], max(most, LEAST_SHOWN_GY))
    return figure


def dose_levels(top_gy: float) -> list[float]:
    """Return seven to nine round doses from near nothing to near the largest."""
    steps = [1, 2, 2.5, 5, 10, 20, 25, 50]
    step = next((s for s in steps if top_gy / s <= 9), steps[-1])
    return [float(step * n) for n in range(1, int(top_gy / step) + 1)] or [0.5 * top_gy]


def _dose_colours(levels: Sequence[float]) -> list[str]:
    picks = np.round(np.linspace(0, len(_DOSE_COLOURS) - 1, len(levels))).astype(int)
    return [_DOSE_COLOURS[int(pick)] for pick in picks]


def _largest(volume: Volume, view: View) -> float:
    """Return the largest absolute difference on the two slices that are drawn."""
    found = [take(volume, cut) for cut in view.slices[:2]]
    return max((float(np.abs(picture.values).max()) for picture in found if picture is not None), default=0.0)


def _slice(
    axes: Axes,
    ct: Volume,
    panel: Panel,
    organs: Sequence[StructureView],
    view: View,
    cut: Slice,
    window_hu: tuple[float, float],
    levels: Sequence[float],
    most: float,
) -> None:
    style.bare(axes)
    picture = take(ct, cut)
    if picture is not None:
        centre, width = window_hu
        grey = np.clip((picture.values - (centre - width / 2)) / width, 0.0, 1.0).astype(np.float32)
        axes.imshow(
            grey, cmap="gray", vmin=0, vmax=1, origin="lower", extent=picture.extent_mm, aspect="auto",
            interpolation="bilinear",
        )  # fmt: skip
    else:
        axes.add_patch(_black(axes))
    dose = take(panel.volume, cut)
    if dose is not None and panel.signed:
        limit = max(most, LEAST_SHOWN_GY)
        strength = np.clip(np.abs(dose.values) / (0.25 * limit), 0.0, 0.75)
        axes.imshow(
            dose.values, cmap="RdBu_r", norm=Normalize(-limit, limit), alpha=strength, origin="lower",
            extent=dose.extent_mm, aspect="auto", interpolation="nearest",
        )  # fmt: skip
    elif dose is not None and dose.values.max() > levels[0]:
        colours = _dose_colours(levels)
        ends = [*levels, max(levels[-1], float(dose.values.max())) + 1.0]
        axes.contourf(dose.horizontal_mm, dose.vertical_mm, dose.values, ends, colors=colours, alpha=0.28)
        drawn = [level for level in levels if level < dose.values.max()]
        axes.contour(
            dose.horizontal_mm, dose.vertical_mm, dose.values, drawn, colors=colours[: len(drawn)], linewidths=0.7
        )
    for structure in organs:
        if structure.role in ("organ", "gtv"):
            colour = "#ff8cf0" if structure.role == "gtv" else "#aab4bd"
            _outline(axes, structure.fractions, cut, colour, 0.7 if structure.role == "gtv" else 0.35)
    for n, structure in enumerate(panel.outlines):
        _outline(axes, structure.fractions, cut, "#ffffff", 0.9, "-" if n == 0 else (0, (3, 1.2)))
    axes.set_xlim(view.lower_mm[cut.horizontal], view.upper_mm[cut.horizontal])
    low, high = view.lower_mm[cut.vertical], view.upper_mm[cut.vertical]
    axes.set_ylim((high, low) if cut.downwards else (low, high))
    text: dict[str, Any] = {"color": "white", "path_effects": _SHADOW, "transform": axes.transAxes}
    axes.text(0.02, 0.97, cut.title(), ha="left", va="top", fontsize=5.5, **text)
    axes.text(0.015, 0.5, cut.letters[0], ha="left", va="center", fontsize=7, fontweight=600, **text)
    axes.text(0.985, 0.5, cut.letters[1], ha="right", va="center", fontsize=7, fontweight=600, **text)


def _black(axes: Axes) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor="black")


def _outline(axes: Axes, mask: Volume, cut: Slice, colour: str, width: float, dash: Any = "-") -> None:
    picture = take(mask, cut)
    if picture is None or picture.values.max(initial=0.0) < 0.5 or min(picture.values.shape) < 2:
        return
    axes.contour(
        picture.horizontal_mm, picture.vertical_mm, picture.values, [0.5], colors=[colour], linewidths=width,
        linestyles=[dash],
    )  # fmt: skip


def _bar(
    figure: Figure,
    place: tuple[float, float],
    height: float,
    colours: Sequence[str] | None,
    label: str,
    levels: Sequence[float],
    most: float = 0.0,
) -> None:
    axes = figure.add_axes((place[0], 0.27 / height, place[1], 0.09 / height))
    if colours is not None:
        ends = [*levels, 2 * levels[-1] - (levels[-2] if len(levels) > 1 else 0.0)]
        bar = Colorbar(axes, cmap=ListedColormap(list(colours)), norm=BoundaryNorm(ends, len(colours)),
                       orientation="horizontal", ticks=list(levels))  # fmt: skip
        bar.set_ticks(list(levels), labels=[f"{level:g}" for level in levels])
    else:
        bar = Colorbar(axes, cmap="RdBu_r", norm=Normalize(-most, most), orientation="horizontal")
        bar.locator = MaxNLocator(5)
        bar.update_ticks()
    bar.outline.set_linewidth(0.4)
    axes.tick_params(labelsize=6, length=2, pad=1)
    axes.set_xlabel(label, fontsize=6.5, labelpad=1)
    axes.grid(False)


def overlay_figure(
    panels: Sequence[tuple[str, Mapping[str, BandedDvh]]], arms: Sequence[str], x_label: str | Sequence[str]
) -> Figure:
    """Draw one small diagram per structure with the histograms of all arms laid over each other.

    Parameters
    ----------
    panels
        Title and arm id to histogram; where it has ends, the band between them is shaded.
    x_label
        Of all diagrams, or one for each.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    each, legend = 1.72, 0.28
    height = rows * each + legend
    colours = arm_colours(arms)
    labels = [x_label] * len(panels) if isinstance(x_label, str) else list(x_label)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        wide = 1.0 / columns
        for n, (title, curves) in enumerate(panels):
            row, column = divmod(n, columns)
            bottom = height - legend - (row + 1) * each
            axes = figure.add_axes(
                (column * wide + 0.058, (bottom + 0.38) / height, wide - 0.078, (each - 0.62) / height)
            )
            top = max((_top(curve) for curve in curves.values()), default=1.0) * 1.03 or 1.0
            for number, arm in enumerate(arms):
                if arm in curves:
                    _banded(axes, curves[arm], colours[arm], style.DASHES[number % len(style.DASHES)], top)
            axes.set_xlim(0, top)
            axes.set_ylim(0, 101)
            axes.set_title(title, fontsize=7.5, pad=3)
            axes.set_xlabel(labels[n], fontsize=6.5, labelpad=1)
            axes.tick_params(labelsize=6, pad=1.5)
            if column == 0:
                axes.set_ylabel("Volume [%]", fontsize=6.5, labelpad=1)
        handles = [
            Line2D([], [], color=colours[arm], linestyle=style.DASHES[n % len(style.DASHES)], label=arm, linewidth=1.4)
            for n, arm in enumerate(arms)
        ]
        figure.legend(handles=handles, loc="upper left", ncols=len(arms), bbox_to_anchor=(0.045, 1.0), fontsize=7)
    return figure


def _top(curve: BandedDvh) -> float:
    return max(one.max_gy for one in (curve.full, curve.least, curve.most) if one is not None)


def _banded(axes: Axes, curve: BandedDvh, colour: str, dash: Any, top: float) -> None:
    dose = np.linspace(0.0, top, _POINTS)
    axes.plot(dose, _percent(curve.full, dose), color=colour, linestyle=dash, linewidth=1.25)
    if curve.least is not None and curve.most is not None:
        axes.fill_between(
            dose, _percent(curve.least, dose), _percent(curve.most, dose), color=colour, alpha=0.25, linewidth=0
        )


def _percent(curve: Dvh, dose: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return curve.volume_at_dose_percent(dose)


def timeline_figure(arms: Sequence[ArmView]) -> Figure:
    """Draw the sessions of all arms on one axis of days; sessions of one day stand above each other."""
    row_in = 0.46
    height = 0.5 + row_in * len(arms)
    last = max(mark.day for arm in arms for mark in arm.sessions)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        axes = figure.add_axes((0.2, 0.36 / height, 0.785, (height - 0.42) / height))
        for n, arm in enumerate(arms):
            names = list(dict.fromkeys(mark.target for mark in arm.sessions))
            for mark in arm.sessions:
                which = names.index(mark.target)
                height_of_mark = n - 0.16 + 0.32 * mark.within_day if _several(arm) else n
                axes.plot(
                    [mark.day], [height_of_mark], marker="o" if which == 0 else "s", markersize=4.2,
                    color=style.SERIES[which % len(style.SERIES)], linestyle="none", markeredgewidth=0,
                )  # fmt: skip
            labels = "   ".join(f"{'●' if m == 0 else '■'} {name}" for m, name in enumerate(names))
            axes.text(last + 0.6, n - 0.42, labels, fontsize=5.5, color=style.MUTED, ha="right", va="center")
        axes.set_yticks(range(len(arms)), [arm.id for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.62)
        axes.set_xlim(-0.8, last + 0.8)
        axes.set_xticks(range(0, last + 1, 7))
        axes.set_xlabel("Days after the first session")
        axes.grid(axis="y", visible=False)
    return figure


def _several(arm: ArmView) -> bool:
    return any(mark.within_day > 0 for mark in arm.sessions)


def probability_figure(lines: Sequence[ProbabilityLine], arms: Sequence[str]) -> Figure:
    """Draw probabilities with their bands, one group per model; open circles lie outside the range of the model."""
    models = list(dict.fromkeys(line.model for line in lines if line.value is not None))
    colours = arm_colours(arms)
    rows: list[tuple[float, ProbabilityLine]] = []
    heads: list[tuple[float, str]] = []
    y = 0.0
    for model in models:
        heads.append((y, model))
        for line in (one for one in lines if one.model == model and one.value is not None):
            y += 1.0
            rows.append((y, line))
        y += 1.3
    height = 0.52 + 0.15 * (y + 0.2)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        axes = figure.add_axes((0.235, 0.42 / height, 0.74, (height - 0.46) / height))
        for at, line in rows:
            value, low, high = (
                100 * float(v if v is not None else line.value or 0) for v in (line.value, line.low, line.high)
            )
            colour = colours[line.arm]
            axes.plot([low, high], [at, at], color=colour, linewidth=2.2, alpha=0.45, solid_capstyle="butt")
            face = colour if line.trusted else "white"
            axes.plot([value], [at], marker="o", markersize=4.5, color=colour, markerfacecolor=face, linestyle="none")
        for at, model in heads:
            axes.text(0.0, at, model, transform=axes.get_yaxis_transform(), fontsize=6.5, fontweight=600, va="center")
        axes.set_yticks([at for at, _ in rows], [line.arm for _, line in rows], fontsize=6.5)
        axes.set_ylim(y - 0.6, -0.7)
        axes.set_xlim(-1, 101)
        axes.set_xlabel("Probability [%]")
        axes.grid(axis="y", visible=False)
    return figure
