"""Figures of results: survival with numbers at risk, cumulative incidence, forest, love plot. Colour-safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cantlie.core.errors import StatisticsError
from cantlie.statistics import inputs
from cantlie.statistics.balance import Balance
from cantlie.statistics.competing import CumulativeIncidence
from cantlie.statistics.cox import CoxModel
from cantlie.statistics.hypothesis import HypothesisTest, format_p
from cantlie.statistics.subgroup import Forest
from cantlie.statistics.survival import KaplanMeier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, in an order that also differs in lightness; with line styles for print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)


def _ticks(last: float, given: ArrayLike | None) -> NDArray[np.float64]:
    if given is not None:
        return np.asarray(given, dtype=np.float64)
    raw = last / 6
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(s * size for s in (1, 2, 2.5, 3, 5, 6, 10) if s * size >= raw)
    if 6 <= last <= 240 and step > 2:
        step = min((6.0, 12.0, 24.0, 36.0, 60.0), key=lambda s: abs(last / s - 6))
    return np.arange(0.0, last + 1e-9, step)


def _risk_table(axes: Axes, ticks: NDArray[np.float64], rows: Sequence[tuple[str, NDArray[np.float64], str]]) -> None:
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    for label, (_, _, colour) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(colour)
    for position, (_, counts, _) in enumerate(rows):
        for x, count in zip(ticks, counts, strict=True):
            axes.text(x, position, f"{count:.0f}", ha="center", va="center", fontsize=8)
    axes.set_title("Number at risk", loc="left", fontsize=8)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelbottom=False)
    axes.tick_params(axis="y", pad=18)


def plot_survival(
    curves: KaplanMeier,
    *,
    time_label: str = "Time",
    survival_label: str = "Survival",
    ticks: ArrayLike | None = None,
    until: float | None = None,
    band: bool = True,
    test: HypothesisTest | None = None,
    mark: str = "",
) -> Figure:
    """Draw Kaplan–Meier curves with censor marks, bands and the numbers at risk aligned under the time axis.

    Parameters
    ----------
    curves
        From ``kaplan_meier``.
    ticks
        Times of the ticks and of the numbers at risk; chosen if not given.
    until
        Last time shown.
    band
        Shade the pointwise confidence band.
    test
        A test whose name and p-value are printed in the figure.
    mark
        A word printed across, such as SYNTHETIC.
    """
    groups = curves.curves
    last = until if until is not None else max(float(c.time[-1]) for c in groups)
    if not last > 0:
        raise StatisticsError("there is no follow-up to draw", where="survival figure")
    at = _ticks(last, ticks)
    figure = _figure(6.0, 4.0 + 0.22 * len(groups))
    grid = figure.add_gridspec(2, 1, height_ratios=[4.0, 0.35 + 0.28 * len(groups)])
    axes = figure.add_subplot(grid[0])
    table = figure.add_subplot(grid[1], sharex=axes)
    rows = []
    for index, curve in enumerate(groups):
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]
        time = np.concatenate([[0.0], curve.time])
        axes.step(
            time, np.concatenate([[1.0], curve.survival]), where="post", color=colour, linestyle=style, lw=1.5,
            label=f"{inputs.label_text(curve.label)} (n = {curve.n}, events {curve.events})",
        )  # fmt: skip
        if band:
            low = np.concatenate([[1.0], np.where(np.isfinite(curve.lower), curve.lower, curve.survival)])
            high = np.concatenate([[1.0], np.where(np.isfinite(curve.upper), curve.upper, curve.survival)])
            axes.fill_between(time, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
        lost = curve.n_censored > 0
        axes.plot(curve.time[lost], curve.survival[lost], "|", color=colour, markersize=5, markeredgewidth=0.8)
        rows.append((inputs.label_text(curve.label), curve.at_risk(at), colour))
    axes.set(xlim=(0, last * 1.02), ylim=(0, 1.02), ylabel=survival_label, xlabel=time_label)
    axes.set_xticks(at)
    _tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    if test is not None:
        axes.text(0.02, 0.04, f"{test.method}: p = {format_p(test.p_value)}".replace("= <", "< "),
                  transform=axes.transAxes, fontsize=8)  # fmt: skip
    if mark:
        axes.text(
            0.5, 0.5, mark, transform=axes.transAxes, fontsize=34, color="0.85", ha="center", rotation=25, zorder=0
        )
    _risk_table(table, at, rows)
    return figure


def plot_incidence(
    incidence: CumulativeIncidence,
    *,
    causes: Sequence[int] | None = None,
    names: dict[int, str] | None = None,
    time_label: str = "Time",
    ticks: ArrayLike | None = None,
    naive: bool = False,
    test: HypothesisTest | None = None,
) -> Figure:
    """Draw cumulative incidence curves; ``naive`` adds 1 − Kaplan–Meier in grey to show what it overstates."""
    shown = [c for c in incidence.curves if causes is None or c.cause in causes]
    if not shown:
        raise StatisticsError("there is no such cause", where="incidence figure")
    last = max(float(c.time[-1]) for c in shown)
    at = _ticks(last, ticks)
    labels = list(dict.fromkeys(c.label for c in shown))
    kinds = list(dict.fromkeys(c.cause for c in shown))
    figure = _figure(6.0, 4.0 + 0.22 * len(labels))
    grid = figure.add_gridspec(2, 1, height_ratios=[4.0, 0.35 + 0.28 * len(labels)])
    axes = figure.add_subplot(grid[0])
    table = figure.add_subplot(grid[1], sharex=axes)
    top = 0.0
    for curve in shown:
        colour = COLOURS[labels.index(curve.label) % len(COLOURS)]
        style = STYLES[kinds.index(curve.cause) % len(STYLES)]
        cause = (names or {}).get(curve.cause, f"cause {curve.cause}")
        label = cause if len(labels) == 1 else f"{curve.label}: {cause}"
        time = np.concatenate([[0.0], curve.time])
        axes.step(
            time, np.concatenate([[0.0], curve.incidence]), where="post", color=colour, linestyle=style, label=label
        )
        if naive:
            first = "1 − Kaplan–Meier (too high)" if curve is shown[0] else None
            height = np.concatenate([[0.0], curve.naive])
            axes.step(time, height, where="post", color="0.65", linestyle=style, lw=0.9, label=first)
        top = max(top, float((curve.naive if naive else curve.incidence)[-1]))
    axes.set(xlim=(0, last * 1.02), ylim=(0, min(1.02, top * 1.15 + 0.02)), xlabel=time_label)
    axes.set_ylabel("Cumulative incidence")
    axes.set_xticks(at)
    _tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    if test is not None:
        axes.text(0.98, 0.04, f"{test.method}: p = {format_p(test.p_value)}".replace("= <", "< "),
                  transform=axes.transAxes, fontsize=8, ha="right")  # fmt: skip
    rows = []
    for index, name in enumerate(labels):
        curve = next(c for c in shown if c.label == name)
        place = np.searchsorted(curve.time, at, side="left")
        rows.append((inputs.label_text(name), np.append(curve.n_risk, 0.0)[place], COLOURS[index % len(COLOURS)]))
    _risk_table(table, at, rows)
    return figure


def _forest(lines: Sequence[tuple[str, str, float, float, float, str]], label: str) -> Figure:
    figure = _figure(7.2, 0.9 + 0.28 * len(lines))
    axes = figure.add_subplot()
    finite = [v for line in lines for v in line[2:5] if np.isfinite(v) and v > 0]
    low, high = (min([*finite, 0.8]), max([*finite, 1.25]))
    axes.set_xscale("log")
    left, right = max(low / 1.15, 0.02), min(high * 1.15, 50.0)
    for row, (_, _, ratio, lower, upper, text) in enumerate(lines):
        if np.isfinite(ratio):
            axes.plot([max(lower, left), min(upper, right)], [row, row], color="black", lw=1)
            axes.plot(np.clip(ratio, left, right), row, "s", color=COLOURS[0], markersize=5)
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.axvline(1.0, color="0.5", lw=0.8, linestyle="--")
    axes.set(xlim=(left, right), ylim=(len(lines) - 0.5, -0.5), xlabel=label)
    names = [name if not level else f"   {level}" if not name else f"{name}: {level}" for name, level, *_ in lines]
    axes.set_yticks(range(len(lines)), names)
    marks = [m for m in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20) if left <= m <= right]
    axes.set_xticks(marks, [f"{m:g}" for m in marks])
    axes.minorticks_off()
    _tidy(axes)
    return figure


def _ratio_text(ratio: float, lower: float, upper: float, p: float) -> str:
    if not np.isfinite(ratio):
        return "not estimable"
    return f"{ratio:.2f} ({lower:.2f}–{upper:.2f})  p = {format_p(p)}".replace("= <", "< ")


def plot_cox(model: CoxModel, *, label: str = "Hazard ratio (95 % CI)") -> Figure:
    """Draw the hazard ratios of a Cox model as a forest plot."""
    rows: list[tuple[str, str, float, float, float, str]] = []
    table = zip(model.terms, model.hazard_ratio, model.interval, model.p_value, strict=True)
    for name, ratio, (low, high), p in table:
        rows.append((name, "", float(ratio), float(low), float(high), _ratio_text(ratio, low, high, p)))
    return _forest(rows, label)


def plot_subgroups(forest: Forest, *, label: str = "Hazard ratio (95 % CI)") -> Figure:
    """Draw a subgroup analysis as a forest plot, with events and the p-value of interaction."""
    rows: list[tuple[str, str, float, float, float, str]] = []
    for row in forest.rows:
        text = f"{row.events}/{row.n}  " + _ratio_text(row.hazard_ratio, row.lower, row.upper, row.p_value)
        if row.p_interaction is not None:
            text += f"  interaction p = {format_p(row.p_interaction)}".replace("= <", "< ")
        name = "all patients" if row.variable == "all" else row.variable
        level = "" if row.variable == "all" else inputs.label_text(row.level)
        rows.append((name, level, row.hazard_ratio, row.lower, row.upper, text))
    return _forest(rows, label)


def plot_balance(result: Balance, *, limit: float = 0.1) -> Figure:
    """Draw a love plot: absolute standardised mean differences before and after, with the usual limit of 0.1."""
    order: list[Any] = np.argsort(np.abs(result.before)).tolist()
    figure = _figure(5.5, 1.1 + 0.26 * len(order))
    axes = figure.add_subplot()
    rows = np.arange(len(order))
    axes.plot(np.abs(result.before)[order], rows, "o", mfc="none", color=COLOURS[1], label="before")
    if result.after is not None:
        axes.plot(np.abs(result.after)[order], rows, "s", color=COLOURS[0], label="after")
    axes.axvline(limit, color="0.5", lw=0.8, linestyle="--")
    axes.set_yticks(rows, [result.terms[i] for i in order])
    axes.set(xlabel="|standardised mean difference|", ylim=(-0.6, len(order) - 0.4))
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.set_axisbelow(True)
    _tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure
