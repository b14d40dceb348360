"""How charts are drawn: style, fonts, and the way from a matplotlib Figure to SVG text.

Figure objects only, never pyplot, which keeps global state. `charts` stands on this.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

# Okabe & Ito (2008), "Color Universal Design"; black is left to the text, yellow is last (faint).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#010203"  # replaced by the page's text colour
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "speechvq",
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.7,
}
_LETTERS_PER_INCH = 12
"""Of a legend's text."""
_LEGEND_MARK_LETTERS = 7
"""What the line and the gap of a legend's entry take, in letters."""


@contextmanager
def create_axes(size: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """Gives a figure of (width, height) inches and its axes; draw and save within the context."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.add_subplot()


@contextmanager
def create_panels(
    size: tuple[float, float], shares: Sequence[float]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Gives a figure of (width, height) inches and axes one below the other on one x axis.

    Args:
        size: Of the figure.
        shares: Their heights, in any unit.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(
            len(shares), sharex=True, squeeze=False, height_ratios=list(shares)
        )
        yield figure, list(panels[:, 0])


def to_drawable(text: str) -> str:
    """Returns text with "?" for each character that the chart's font cannot draw."""
    glyphs = _load_glyphs()
    drawable = "".join(
        letter if letter == "\n" or ord(letter) in glyphs else "?" for letter in text
    )
    return drawable.replace("$", r"\$")  # a lone dollar would start a formula


def scale_axes(axes: Axes, *, log_x: bool, log_y: bool) -> None:
    """Sets logarithmic scales; an empty picture says so."""
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    if not axes.has_data():
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)


def label_axes(axes: Axes, x_label: str, y_label: str, title: str, *, legend: bool) -> None:
    """Names the axes, the picture and, with `legend`, its series."""
    axes.set_xlabel(to_drawable(x_label))
    axes.set_ylabel(to_drawable(y_label))
    if title:
        axes.set_title(to_drawable(title))
    figure = axes.figure
    if legend and isinstance(figure, Figure):
        handles, names = axes.get_legend_handles_labels()
        longest = max((len(name) for name in names), default=0) + _LEGEND_MARK_LETTERS
        columns = int(figure.get_figwidth() * _LETTERS_PER_INCH / longest)
        # Above the picture: a legend within would cover points.
        figure.legend(handles, names, loc="outside upper left", ncols=min(max(columns, 1), 4))


def to_svg(figure: Figure) -> str:
    """Returns a figure as SVG text without dates, in the text colour of whatever page holds it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, dpi=150)
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace(INK, "currentColor").rstrip()


@cache
def _load_glyphs() -> frozenset[int]:
    charmap = FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    # DejaVu has Arabic and Hebrew letters too, but matplotlib neither joins nor orders them.
    return frozenset(code for code in charmap if code < 0x0590 or 0x1D00 <= code < 0xD800)
