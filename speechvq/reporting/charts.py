"""Charts as SVG text for `Page.add_figure`: lines, bars, heat map, scatter, histogram.

The colours are those of Okabe and Ito, told apart by the colour-blind, and series differ in line
style or marker too; text and axes take the colour of the page's text, so that a chart follows
light and dark mode. The same data give the same bytes.

Matplotlib shapes no Indic or Arabic script and may have no glyphs for them: keep such text out of
charts and put it into HTML tables (a label here is "hin_Deva", never the name in its own script).
A character that cannot be drawn appears as "?".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from speechvq.reporting.cells import format_short
from speechvq.reporting.drawing import (
    INK,
    LINE_STYLES,
    MARKERS,
    PALETTE,
    create_axes,
    label_axes,
    scale_axes,
    to_drawable,
    to_svg,
)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve or one cloud of points.

    Attributes:
        name: Its name in the legend.
        x: P positions.
        y: P values; NaN leaves a gap.
        low: Lower ends of P intervals, drawn as a band (lines) or a bar (scatter).
        high: Upper ends.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


@dataclass(frozen=True, kw_only=True)
class BarSeries:
    """The bars of one colour, one in each group.

    Attributes:
        name: Its name in the legend.
        values: One value a group; NaN leaves the bar out.
        low: Lower ends of their intervals, absolute (not lengths), or None.
        high: Upper ends.
    """

    name: str
    values: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


def draw_lines(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    whole_x: bool = False,
    levels: Mapping[str, float] | None = None,
    size: tuple[float, float] = (6.4, 3.4),
) -> str:
    """Draws curves over a common axis.

    Args:
        series: The curves.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        title: A title inside the picture (a caption below is often better).
        log_x: Whether x is logarithmic; values that are not positive are left out.
        log_y: The same for y.
        whole_x: Whether the axis of x is marked at whole numbers only, as for counts.
        levels: Horizontal lines to compare with, name → y.
        size: Width and height in inches.

    Returns:
        SVG text.
    """
    with create_axes(size) as (figure, axes):
        for index, one in enumerate(series):
            color, style = PALETTE[index % len(PALETTE)], LINE_STYLES[index % len(LINE_STYLES)]
            x, y = _to_array(one.x), _to_array(one.y)
            marker = MARKERS[index % len(MARKERS)] if np.isfinite(y).sum() <= 2 else None
            axes.plot(
                x, y, style, color=color, label=to_drawable(one.name), marker=marker, markersize=4
            )
            if one.low is not None and one.high is not None:
                low, high = _to_array(one.low), _to_array(one.high)
                axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=INK, alpha=0.6, linewidth=1, linestyle=(0, (2, 2)))
            axes.annotate(
                to_drawable(name),
                (1, level),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8.5,
                alpha=0.8,
            )
        scale_axes(axes, log_x=log_x, log_y=log_y)
        if whole_x:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_axes(axes, x_label, y_label, title, legend=len(series) > 1)
        return to_svg(figure)


def draw_bars(
    groups: Sequence[str],
    series: Sequence[BarSeries],
    *,
    y_label: str,
    x_label: str = "",
    title: str = "",
    log_y: bool = False,
    size: tuple[float, float] | None = None,
) -> str:
    """Draws groups of bars with intervals.

    Args:
        groups: Names of the groups; long or many names are set upright.
        series: One colour each; `values` has one value a group.
        y_label: What the height is, with its unit.
        x_label: What the groups are.
        title: A title inside the picture.
        log_y: Whether the height is logarithmic.
        size: Width and height in inches; by default the width follows the number of bars.

    Returns:
        SVG text.
    """
    width = min(max(3.6, 1.2 + 0.24 * len(groups) * (len(series) + 1)), 11.0)
    with create_axes(size or (width, 3.4)) as (figure, axes):
        positions = np.arange(len(groups), dtype=np.float64)
        thickness = 0.8 / max(len(series), 1)
        for index, one in enumerate(series):
            values = _to_array(one.values)
            if values.shape != positions.shape:
                raise ValueError(
                    f"Series {one.name!r} must have {len(groups)} values, one a group, "
                    f"but has {values.size}."
                )
            offset = (index - (len(series) - 1) / 2) * thickness
            color = PALETTE[index % len(PALETTE)]
            label = to_drawable(one.name)
            axes.bar(positions + offset, values, thickness * 0.92, color=color, label=label)
            _draw_intervals(axes, positions + offset, values, one.low, one.high)
        names = [to_drawable(group) for group in groups]
        upright = len(names) * max((len(name) for name in names), default=0) > 11 * width
        axes.set_xticks(positions, names, rotation=90 if upright else 0)
        axes.grid(visible=False, axis="x")
        scale_axes(axes, log_x=False, log_y=log_y)
        label_axes(axes, x_label, y_label, title, legend=len(series) > 1)
        return to_svg(figure)


def draw_heat_map(
    values: ArrayLike,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    x_label: str = "",
    y_label: str = "",
    color_label: str = "",
    title: str = "",
    annotate: bool | None = None,
    value_range: tuple[float, float] | None = None,
    size: tuple[float, float] | None = None,
) -> str:
    """Draws a matrix in colours (cividis: even for the eye and for the colour-blind).

    Args:
        values: (R, C); NaN stays empty. Row 0 is at the top.
        row_labels: R names, or none.
        column_labels: C names, or none.
        x_label: What the columns are.
        y_label: What the rows are.
        color_label: What the values are, with their unit.
        title: A title inside the picture.
        annotate: Whether numbers are written into the cells; by default where they fit.
        value_range: Ends of the colour scale, to compare pictures with each other.
        size: Width and height in inches; by default it follows the shape.

    Returns:
        SVG text.
    """
    matrix = np.atleast_2d(_to_array(values))  # (R, C)
    rows, columns = matrix.shape
    default = (min(2.6 + 0.42 * columns, 8.0), min(1.4 + 0.32 * rows, 8.0 if row_labels else 4.5))
    with create_axes(size or default) as (figure, axes):
        low, high = value_range or (None, None)
        image = axes.imshow(
            np.ma.masked_invalid(matrix),
            cmap="cividis",
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="nearest",
        )
        axes.grid(visible=False)
        bar = figure.colorbar(image, ax=axes, label=to_drawable(color_label))
        bar.outline.set_visible(False)
        for labels, count, axis, rotation in (
            (column_labels, columns, axes.xaxis, 90),
            (row_labels, rows, axes.yaxis, 0),
        ):
            if labels:
                names = [to_drawable(label) for label in labels]
                turned = rotation if max(map(len, names)) > 4 else 0
                axis.set_ticks(range(count), names, rotation=turned)
        if annotate if annotate is not None else rows * columns <= 150 and columns <= 18:
            _annotate_cells(axes, matrix, np.asarray(image.norm(matrix), dtype=np.float64))
        label_axes(axes, x_label, y_label, title, legend=False)
        return to_svg(figure)


def draw_scatter(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    point_labels: Sequence[str] = (),
    size: tuple[float, float] = (6.4, 3.6),
) -> str:
    """Draws clouds of points.

    Args:
        series: One colour and marker each; `low` and `high` are intervals of y.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        title: A title inside the picture.
        log_x: Whether x is logarithmic.
        log_y: Whether y is logarithmic.
        point_labels: Names for the points of the first series, or none.
        size: Width and height in inches.

    Returns:
        SVG text.
    """
    with create_axes(size) as (figure, axes):
        for index, one in enumerate(series):
            x, y = _to_array(one.x), _to_array(one.y)
            few = x.size <= 200
            axes.scatter(
                x,
                y,
                s=26 if few else 9,
                alpha=0.85 if few else 0.45,
                marker=MARKERS[index % len(MARKERS)],
                color=PALETTE[index % len(PALETTE)],
                linewidths=0,
                label=to_drawable(one.name),
                # Thousands of paths make a slow page; a cloud of points is a picture then.
                rasterized=x.size > 2000,
            )
            _draw_intervals(axes, x, y, one.low, one.high)
        if series:
            x, y = _to_array(series[0].x), _to_array(series[0].y)
            for name, left, height in zip(point_labels, x, y, strict=False):
                axes.annotate(
                    to_drawable(name),
                    (float(left), float(height)),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=8,
                )
        scale_axes(axes, log_x=log_x, log_y=log_y)
        label_axes(axes, x_label, y_label, title, legend=len(series) > 1)
        return to_svg(figure)


def draw_histogram(
    values: Mapping[str, ArrayLike],
    *,
    x_label: str,
    y_label: str = "count",
    title: str = "",
    num_bins: int = 40,
    log_x: bool = False,
    log_y: bool = False,
    size: tuple[float, float] = (6.4, 3.2),
) -> str:
    """Draws distributions over common bins.

    Args:
        values: Name → sample; several are drawn as outlines over each other. NaN are left out.
        x_label: What is counted, with its unit.
        y_label: What the height is.
        title: A title inside the picture.
        num_bins: Number of bins between the smallest and the largest value.
        log_x: Whether bins are logarithmic; values that are not positive are left out.
        log_y: Whether counts are.
        size: Width and height in inches.

    Returns:
        SVG text.
    """
    samples = {name: _to_array(sample).ravel() for name, sample in values.items()}
    samples = {
        name: sample[np.isfinite(sample) & ((sample > 0) | (not log_x))]
        for name, sample in samples.items()
    }
    together = np.concatenate([*samples.values(), np.empty(0)])
    with create_axes(size) as (figure, axes):
        if together.size:
            low, high = float(together.min()), float(together.max())
            if low == high:
                low, high = (low / 2, low * 2) if log_x else (low - 0.5, high + 0.5)
            space = np.geomspace if log_x else np.linspace
            edges = space(low, high, num_bins + 1)
            for index, (name, sample) in enumerate(samples.items()):
                counts, _ = np.histogram(sample, edges)
                color = PALETTE[index % len(PALETTE)]
                style = LINE_STYLES[index % len(LINE_STYLES)]
                label = to_drawable(name)
                axes.stairs(
                    counts, edges, color=color, alpha=0.75 if len(samples) == 1 else 0.16, fill=True
                )
                axes.stairs(counts, edges, color=color, linestyle=style, linewidth=1.4, label=label)
        scale_axes(axes, log_x=log_x, log_y=log_y)
        label_axes(axes, x_label, y_label, title, legend=len(samples) > 1)
        return to_svg(figure)


def _to_array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _draw_intervals(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    low: ArrayLike | None,
    high: ArrayLike | None,
) -> None:
    if low is None or high is None:
        return
    lengths = np.stack([y - _to_array(low), _to_array(high) - y])  # (2, P)
    axes.errorbar(
        x, y, yerr=np.maximum(lengths, 0), fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5
    )


def _annotate_cells(
    axes: Axes, matrix: NDArray[np.float64], brightness: NDArray[np.float64]
) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            color = "#000000" if brightness[row, column] > 0.55 else "#ffffff"
            axes.text(
                *(column, row, format_short(value, 2)),
                ha="center",
                va="center",
                color=color,
                fontsize=8,
            )
