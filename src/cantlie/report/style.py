"""The look of all reports: colours that colour-blind readers can tell apart, the font, and how figures are encoded."""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#17212b"
MUTED = "#5b6875"
RULE = "#d5dbe1"
PAPER = "#ffffff"
WASH = "#f4f6f8"
ACCENT = "#0b5a72"
PASS = "#0f6b4f"
FAIL = "#b3261e"
WARNING = "#8a5a00"

# Okabe and Ito 2008 (https://jfly.uni-koeln.de/color/), yellow darkened to be read on white, then more.
SERIES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c6d1f",
    "#5b4ea1",
    "#17212b",
    "#7f8c99",
)
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))

FULL_WIDTH_IN = 7.0
HALF_WIDTH_IN = 3.42

_PATH = re.compile(rb' d="[^"]*"')
_DECIMALS = re.compile(rb"(\.\d{3})\d+")

_RC: Any = {
    "font.family": ["Inter", "DejaVu Sans"],
    "font.size": 7.5,
    "text.color": INK,
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": 7.5,
    "axes.labelcolor": INK,
    "axes.titlesize": 8.5,
    "axes.titleweight": 600,
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.9,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "patch.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": "auto",
    "figure.dpi": 100,
    "svg.fonttype": "path",
    "svg.hashsalt": "cantlie",
    "image.interpolation": "bilinear",
    "path.simplify": True,
    "path.simplify_threshold": 0.15,
}


def font_bytes(name: str) -> bytes:
    """Return a font file of the package: ``Inter-Regular.ttf``, ``Inter-SemiBold.ttf`` or ``Inter-Italic.ttf``."""
    return resources.files("cantlie.report").joinpath("fonts", name).read_bytes()


def font_base64(name: str) -> str:
    """Return a font file of the package in base64, to be embedded in HTML."""
    return base64.b64encode(font_bytes(name)).decode("ascii")


@cache
def _register_fonts() -> None:
    folder = resources.files("cantlie.report").joinpath("fonts")
    for name in ("Inter-Regular.ttf", "Inter-SemiBold.ttf", "Inter-Italic.ttf"):
        with resources.as_file(folder.joinpath(name)) as path:
            font_manager.fontManager.addfont(path)


@contextmanager
def figure_style() -> Iterator[None]:
    """Make figures in the look of the house inside this context; the caller's own settings come back after it."""
    _register_fonts()
    # The fallback font has no semibold and says so in the log each time; what it draws is right.
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(_RC):
            yield
    finally:
        log.setLevel(level)


def new_figure(width_in: float = FULL_WIDTH_IN, height_in: float = 3.0) -> Figure:
    """Return an empty figure with its own canvas, without touching pyplot. Use it inside `figure_style`."""
    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasAgg(figure)
    return figure


def svg_of_figure(figure: Figure) -> bytes:
    """Return a figure as SVG, the same bytes for the same figure; text becomes outlines, so that no font is needed."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="svg", dpi=170, metadata={"Date": None, "Creator": "Cantlie"})
    return _PATH.sub(_shorter, buffer.getvalue())


def _shorter(match: re.Match[bytes]) -> bytes:
    """Cut coordinates to a thousandth of a point."""
    return _DECIMALS.sub(rb"\1", match[0])


def png_of_figure(figure: Figure, dpi: float = 160.0) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(
            buffer, format="png", dpi=dpi, metadata={"Software": "Cantlie"}, pil_kwargs={"compress_level": 4}
        )
    return buffer.getvalue()


def bare(axes: Axes) -> None:
    """Take everything but the picture off an axes."""
    axes.set_axis_off()
    axes.set_facecolor("black")
