"""The treatment calendar: weeks as rows, days as columns, every session with its time and its target."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from cantlie.report import style
from cantlie.report.case_report import SessionRow

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def calendar_figure(sessions: Sequence[SessionRow], colours: dict[str, str]) -> Figure:
    """Draw the sessions of a course as a calendar.

    Parameters
    ----------
    sessions
        In order of time.
    colours
        Colour of each plan label.
    """
    by_day: dict[date, list[SessionRow]] = {}
    for session in sessions:
        by_day.setdefault(session.start.date(), []).append(session)
    first, last = min(by_day), max(by_day)
    monday = first - timedelta(days=first.weekday())
    weeks = (last - monday).days // 7 + 1
    deepest = max(len(day) for day in by_day.values())
    row_in = 0.24 + 0.2 * max(deepest, 2)
    height = 0.26 + weeks * row_in
    with style.figure_style():
        figure = style.new_figure(style.FULL_WIDTH_IN, height)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, style.FULL_WIDTH_IN)
        axes.set_ylim(height, 0)
        side = 0.5
        wide = (style.FULL_WIDTH_IN - side) / 7
        for n, name in enumerate(_DAYS):
            axes.text(side + n * wide + 0.05, 0.13, name, color=style.MUTED, fontsize=7, fontweight=600, va="center")
        for week in range(weeks):
            top = 0.26 + week * row_in
            axes.text(0.0, top + 0.12, f"Week {week + 1}", color=style.MUTED, fontsize=6.5, va="center")
            for n in range(7):
                day = monday + timedelta(days=7 * week + n)
                left = side + n * wide
                inside = first <= day <= last
                axes.add_patch(
                    Rectangle(
                        (left, top),
                        wide - 0.05,
                        row_in - 0.05,
                        facecolor="#ffffff" if inside and n < 5 else style.WASH,
                        edgecolor=style.RULE,
                        linewidth=0.5,
                    )
                )
                label = f"{day.day} {day:%b}" if day.day == 1 or day == first else str(day.day)
                axes.text(
                    left + 0.05, top + 0.11, label, color=style.INK if inside else "#a9b3bc", fontsize=6.5, va="center"
                )
                for m, session in enumerate(by_day.get(day, ())):
                    low = top + 0.2 + 0.2 * m
                    colour = colours.get(session.plan, style.ACCENT)
                    axes.add_patch(
                        FancyBboxPatch(
                            (left + 0.05, low),
                            wide - 0.15,
                            0.16,
                            boxstyle="round,pad=0,rounding_size=0.03",
                            facecolor=colour,
                            edgecolor="none",
                        )
                    )
                    axes.text(
                        left + 0.09,
                        low + 0.085,
                        f"{session.start:%H:%M} {session.plan}",
                        color="white",
                        fontsize=6,
                        va="center",
                        clip_on=True,
                    )
                    axes.text(
                        left + wide - 0.13,
                        low + 0.085,
                        f"{session.fraction}",
                        color="white",
                        fontsize=6,
                        va="center",
                        ha="right",
                    )
    return figure
