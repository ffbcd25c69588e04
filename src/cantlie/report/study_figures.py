"""The figures of a study: survival curves with numbers at risk, incidence, forest, balance, flow, responses."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cantlie.cohort.response import CohortResponse
from cantlie.cohort.tables import Cohort
from cantlie.report import style
from cantlie.report.response_figures import swimmer_figure, waterfall_figure
from cantlie.study.results import StudyFigure, StudyResult

SYNTHETIC = "SYNTHETIC"


def draw(figure: StudyFigure, result: StudyResult) -> Figure:
    """Return a figure of a study as a picture, marked when its patients do not exist."""
    if isinstance(figure.source, CohortResponse):
        return waterfall_figure(figure.source, synthetic=result.synthetic)
    if isinstance(figure.source, Cohort):
        return swimmer_figure(figure.source)
    with style.figure_style():
        makers = {
            "km": _curves,
            "cif": _curves,
            "forest": _forest,
            "love": _love,
            "flow": _flow,
            "response": _responses,
        }
        picture = makers[figure.spec.kind](figure, result)
        if result.synthetic:
            picture.text(
                0.5, 0.55, SYNTHETIC, fontsize=34, color="#b3261e", alpha=0.10, ha="center", va="center", rotation=20
            )
            picture.text(0.995, 0.995, SYNTHETIC, fontsize=6.5, color="#b3261e", ha="right", va="top", weight=600)
    return picture


def _curves(figure: StudyFigure, result: StudyResult) -> Figure:
    groups = figure.groups
    rows = len(groups)
    bottom = 0.30 + 0.15 * (rows + 1)
    height = 2.75 + bottom
    width = 5.6
    picture = style.new_figure(width, height)
    left, right = 1.45 / width, 0.97
    axes = picture.add_axes((left, (bottom + 0.42) / height, right - left, (height - bottom - 0.72) / height))
    table = picture.add_axes((left, 0.05 / height, right - left, bottom / height), sharex=axes)
    incidence = figure.spec.kind == "cif"
    for number, group in enumerate(groups):
        colour = style.SERIES[number % len(style.SERIES)]
        dash = style.DASHES[number % len(style.DASHES)]
        axes.fill_between(
            group.time, 100 * group.lower, 100 * group.upper, step="post", color=colour, alpha=0.12, linewidth=0
        )
        axes.step(
            group.time, 100 * group.value, where="post", color=colour, linestyle=dash,
            label=f"{_cut(group.label, 36)}, {group.events} of {group.n}",
        )  # fmt: skip
        axes.plot(group.censor_time, 100 * group.censor_value, "|", color=colour, markersize=4.5, markeredgewidth=0.8)
    endpoint = result.study.endpoint(figure.spec.endpoint)
    axes.set_ylabel(f"{'Cumulative incidence' if incidence else _short(endpoint.label or endpoint.name)} (%)")
    axes.set_xlabel("Months", labelpad=1)
    axes.set_ylim(0, 102)
    ticks = groups[0].risk_time
    axes.set_xlim(-0.015 * max(ticks[-1], 1), max(ticks[-1], max(float(g.time[-1]) for g in groups)) * 1.02)
    axes.set_xticks(ticks)
    axes.legend(loc="upper left" if incidence else "upper right")
    if figure.text:
        axes.text(0.02, 0.05 if not incidence else 0.62, figure.text, transform=axes.transAxes, fontsize=7)
    axes.set_title(figure.spec.title)
    _risk_table(table, figure)
    return picture


def _cut(label: str, width: int) -> str:
    """Return a label that is at most so many characters long."""
    return label if len(label) <= width else label[: width - 2].rstrip() + " …"


def _short(label: str) -> str:
    return label if len(label) <= 34 else label.split(",")[0]


def _risk_table(table: Axes, figure: StudyFigure) -> None:
    table.set_axis_off()
    rows = len(figure.groups)
    table.set_ylim(rows + 0.6, -0.6)
    table.text(-0.03, -0.05, "At risk", transform=table.get_yaxis_transform(), ha="right", va="center", weight=600)
    for number, group in enumerate(figure.groups):
        colour = style.SERIES[number % len(style.SERIES)]
        name = "\n".join(textwrap.wrap(group.label, 24)[:1])
        name = name if len(name) == len(group.label) else f"{name} …"
        table.text(
            -0.03, number + 0.95, name, transform=table.get_yaxis_transform(), ha="right", va="center", color=colour
        )
        for month, count in zip(group.risk_time, group.at_risk, strict=True):
            table.text(month, number + 0.95, f"{count:.0f}", ha="center", va="center")


def _forest(figure: StudyFigure, result: StudyResult) -> Figure:
    points = list(figure.points)
    height = 0.9 + 0.24 * len(points)
    picture = style.new_figure(6.6, height)
    axes = picture.add_axes((0.30, 0.42 / height, 0.40, (height - 0.72) / height))
    y = np.arange(len(points))
    for row, point in enumerate(points):
        low, value, high = (float(point[name]) for name in ("lower", "value", "upper"))
        axes.plot([low, high], [row, row], color=style.SERIES[0], linewidth=1.2)
        axes.plot(value, row, "s", color=style.SERIES[0], markersize=4.5)
        axes.text(1.03, row, f"{value:.2f} ({low:.2f}-{high:.2f})", transform=axes.get_yaxis_transform(), va="center")
    axes.axvline(1.0, color=style.MUTED, linewidth=0.8)
    axes.set_xscale("log")
    lowest = min(float(p["lower"]) for p in points)
    highest = max(float(p["upper"]) for p in points)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10) if lowest / 1.6 <= t <= highest * 1.6]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_yticks(y, [str(point["label"]) for point in points])
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.set_xlabel("Univariable hazard ratio (95% CI), logarithmic")
    axes.set_title(figure.spec.title)
    axes.grid(axis="y", visible=False)
    return picture


def _love(figure: StudyFigure, result: StudyResult) -> Figure:
    points = list(figure.points)
    names = [name for name in points[0] if name != "label"]
    height = 1.13 + 0.17 * len(points)
    picture = style.new_figure(6.2, height)
    axes = picture.add_axes((0.36, 0.42 / height, 0.60, (height - 0.95) / height))
    y = np.arange(len(points))
    markers = ("o", "s", "^")
    for number, name in enumerate(names):
        values = [abs(float(point[name])) for point in points]
        filled = "none" if number == 0 else style.SERIES[number]
        axes.plot(
            values, y, markers[number % 3], color=style.SERIES[number], markersize=4.5, label=name,
            markerfacecolor=filled, linestyle="none", zorder=4 if number == 0 else 3, clip_on=False,
        )  # fmt: skip
    axes.axvline(0.1, color=style.FAIL, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(y, [str(point["label"]) for point in points])
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("Standardised mean difference (absolute)")
    axes.set_title(figure.spec.title, pad=18)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(names), borderaxespad=0.1)
    return picture


def _flow(figure: StudyFigure, result: StudyResult) -> Figure:
    steps = [step for step in result.flow if step.left or step.not_assessed] or list(result.flow[-1:])
    arms = list(result.arms)
    count = len(steps) + 1 + (1 if arms else 0)
    width, box = 6.6, 0.62
    height = 0.35 + count * (box + 0.26) + (0.25 if arms else 0.0)
    picture = style.new_figure(width, height)
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(0.15, 0.16, figure.spec.title, weight=600, fontsize=8.5, va="center")
    y = 0.35
    entered = result.flow[0].entered if result.flow else result.size
    _box(axes, 1.9, y, 2.8, box, f"In the data\nn = {entered}")
    for step in steps:
        _arrow(axes, 3.3, y + box, 3.3, y + box + 0.26)
        if step.left:
            middle = y + box + 0.13
            _arrow(axes, 3.3, middle, 4.85, middle)
            _box(axes, 4.85, middle - 0.26, 1.7, 0.52, f"Rule not met\nn = {step.left}")
        y += box + 0.26
        unknown = f" ({step.not_assessed} not assessed)" if step.not_assessed else ""
        rule = "\n".join(textwrap.wrap(step.text, 46)[:2])
        _box(axes, 1.9, y, 2.8, box, f"{rule}\nn = {step.remained}{unknown}")
    if arms:
        top = y + box
        y = top + 0.34
        each = (width - 0.3) / len(arms)
        for number, arm in enumerate(arms):
            x = 0.15 + number * each
            _arrow(axes, 3.3, top, x + each / 2, y)
            reasons = "; ".join(f"{n} {reason}" for reason, n in arm.reasons.items())
            dropped = f"\nnot completed {arm.allocated - arm.completed}" + (f" ({reasons})" if reasons else "")
            lines = f"{arm.arm}: allocated {arm.allocated}" + (dropped if arm.allocated > arm.completed else "")
            lines += (f", lost {arm.lost}" if arm.lost else "") + f"\nanalysed {arm.analysed}"
            wrapped = "\n".join(textwrap.fill(line, 52) for line in lines.split("\n"))
            _box(axes, x + 0.08, y, each - 0.16, box + 0.2, wrapped)
    return picture


def _box(axes: Axes, x: float, y: float, width: float, height: float, text: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=style.WASH,
            edgecolor=style.MUTED,
            linewidth=0.7,
        )
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=6.6)


def _arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    axes.annotate(
        "", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": style.MUTED, "linewidth": 0.8}
    )  # fmt: skip


def _responses(figure: StudyFigure, result: StudyResult) -> Figure:
    points = list(figure.points)
    levels = [name for name in points[0] if name != "label"]
    height = 0.95 + 0.42 * len(points)
    picture = style.new_figure(6.2, height)
    axes = picture.add_axes((0.24, 0.42 / height, 0.72, (height - 0.95) / height))
    colours = dict(
        zip(("CR", "PR", "SD", "PD"), (style.SERIES[2], style.SERIES[5], style.SERIES[9], style.SERIES[1]), strict=True)
    )
    for row, point in enumerate(points):
        total = sum(float(point[level]) for level in levels) or 1.0
        start = 0.0
        for level in levels:
            share = 100 * float(point[level]) / total
            axes.barh(row, share, left=start, color=colours.get(level, style.MUTED), height=0.62, edgecolor="white",
                      label=level if row == 0 else None)  # fmt: skip
            if share > 4:
                axes.text(start + share / 2, row, f"{point[level]}", ha="center", va="center", fontsize=7)
            start += share
    axes.set_yticks(range(len(points)), [textwrap.fill(_cut(str(point["label"]), 44), 22) for point in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Assessed patients (%); numbers are counts")
    axes.grid(visible=False)
    axes.set_title(figure.spec.title, pad=18)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(levels), borderaxespad=0.1)
    return picture
