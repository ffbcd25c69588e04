"""DVH figures: curves in relative volume with the limits of the protocol marked on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cantlie.evaluation.constraints import ConstraintResult
from cantlie.evaluation.dvh import Dvh
from cantlie.protocol.metric import Metric
from cantlie.report import style
from cantlie.report.case_report import StructureView

_POINTS = 400


def dvh_figure(
    dvhs: Mapping[str, Dvh],
    structures: Sequence[StructureView],
    *,
    title: str = "",
    constraints: Sequence[ConstraintResult] = (),
    prescription_gy: float | None = None,
    height_in: float = 3.3,
) -> Figure:
    """Draw cumulative DVHs in % of the structure volume.

    Parameters
    ----------
    dvhs
        By structure name; structures without a view (boolean recipes such as ``Liver - GTV*``) are drawn too.
    structures
        Colours and roles; the order of the legend.
    constraints
        Limits to mark: a triangle at the dose and volume of the limit, in the colour of its structure, filled where the
        limit holds and crossed where it does not.
    prescription_gy
        Marked by a thin vertical line.
    """
    views = {view.name: view for view in structures}
    order = [view.name for view in structures if view.name in dvhs and view.role != "body"]
    order += [name for name in dvhs if name not in views]
    colours = colours_on_white(structures, order)
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height_in)
        axes = figure.add_axes((0.068, 0.44 / height_in, 0.70, 1 - (0.44 + 0.28) / height_in))
        top = max((dvhs[name].max_gy for name in order), default=1.0) * 1.04 or 1.0
        marked = [c for c in constraints if c.evaluated_structure in dvhs]
        places = [place[0] for c in marked if (place := _mark(c)) is not None and place[0] <= 1.6 * top]
        top = max([top, *(1.1 * dose for dose in places)])
        # The same dash for the same structure in all figures of a report.
        places_in_order = {name: n for n, name in enumerate([*views, *(name for name in dvhs if name not in views)])}
        handles: list[Line2D] = []
        for name in order:
            role = views[name].role if name in views else "organ"
            dose = np.linspace(0.0, min(dvhs[name].max_gy * 1.0001, top), _POINTS)
            volume = dvhs[name].volume_at_dose_percent(dose)
            dash = "-" if role in ("target", "gtv") else style.DASHES[places_in_order[name] % len(style.DASHES)]
            width = 1.9 if role == "target" else 1.2
            (line,) = axes.plot(
                np.append(dose, dose[-1]),
                np.append(volume, 0.0),
                color=colours[name],
                linewidth=width,
                linestyle=dash,
                label=name,
            )
            handles.append(line)
        if prescription_gy is not None:
            axes.axvline(prescription_gy, color=style.MUTED, linewidth=0.7, zorder=0.5)
            axes.text(
                prescription_gy,
                101.2,
                f"{prescription_gy:g} Gy",
                color=style.MUTED,
                fontsize=6.5,
                ha="center",
                va="bottom",
            )
        _limits(axes, constraints, colours, top)
        axes.set_xlim(0, top)
        axes.set_ylim(0, 100.5)
        axes.set_xlabel("Dose [Gy]")
        axes.set_ylabel("Volume [%]")
        if title:
            axes.set_title(title, pad=9)
        shown = _one_of_each(handles)
        size = min(7.0, 72 * (height_in - 0.3) / (1.62 * max(len(shown), 1)))
        axes.legend(
            handles=shown,
            loc="upper left",
            bbox_to_anchor=(1.015, 1.02),
            fontsize=size,
            labelspacing=0.42,
            borderaxespad=0,
        )
    return figure


def _one_of_each(handles: Sequence[Line2D]) -> list[Line2D]:
    """Write neighbours that look alike as one line of the legend: GTV_1 to GTV_6."""
    merged: list[Line2D] = []
    for _, group in groupby(
        handles, key=lambda line: (str(line.get_color()), line.get_linewidth(), line.get_linestyle())
    ):
        alike = list(group)
        names = [str(line.get_label()) for line in alike]
        alike[0].set_label(names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}")
        merged.append(alike[0])
    return merged


def colours_on_white(structures: Sequence[StructureView], names: Iterable[str] = ()) -> dict[str, str]:
    """Return the colour of every structure as it is drawn on white, and of names that are not among them.

    Boolean recipes (``Liver - GTV*``) have no picture; they get colours in the order of ``names``.
    """
    colours = {view.name: on_white(view.colour) for view in structures}
    spare = cycle(style.SERIES[6:] + style.SERIES[:6])
    for name in names:
        if name not in colours:
            colours[name] = next(spare)
    return colours


def on_white(colour: str, brightest: float = 0.36) -> str:
    """Return a colour dark enough for white paper: structure colours are chosen for the black of a CT.

    Parameters
    ----------
    brightest
        The largest relative luminance allowed; 0.18 lets white text be read on it (contrast 4.5 to 1, WCAG 2).
    """
    red, green, blue = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    if luminance <= brightest:
        return colour
    factor = (brightest / luminance) ** (1 / 2.2)
    return "#" + "".join(f"{round(255 * value * factor):02x}" for value in (red, green, blue))


def _mark(constraint: ConstraintResult) -> tuple[float, float] | None:
    """Return the place (Gy, %) of a limit in the diagram, or None where it has none."""
    metric = Metric.parse(constraint.metric)
    if metric.kind == "volume_at_dose" and metric.argument_unit == "Gy" and metric.unit == "%":
        return metric.argument, constraint.limit
    if metric.kind == "max" and metric.unit == "Gy":
        return constraint.limit, 0.0
    if metric.kind == "dose_at_volume" and metric.argument_unit == "%" and metric.unit == "Gy":
        return constraint.limit, metric.argument
    return None


def _limits(axes: Axes, constraints: Sequence[ConstraintResult], colours: Mapping[str, str], top: float) -> None:
    for constraint in constraints:
        place = _mark(constraint)
        colour = colours.get(constraint.evaluated_structure)
        if place is None or colour is None or place[0] > top:
            continue
        passed = constraint.verdict == "pass"
        axes.plot(
            [place[0]],
            [max(place[1], 1.3)],
            marker="v",
            markersize=5.5,
            markerfacecolor=colour if passed else "white",
            markeredgecolor=colour,
            markeredgewidth=1.0,
            linestyle="none",
            clip_on=False,
            zorder=5,
        )
