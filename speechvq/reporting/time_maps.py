"""Maps of frames by frames below the spectrogram that they belong to, with what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from speechvq.reporting.drawing import create_panels, label_axes, to_drawable, to_svg

_RANGE_DB = 60.0


def draw_time_maps(
    maps: Mapping[str, ArrayLike],
    *,
    span: tuple[float, float],
    power: ArrayLike,
    max_hertz: float,
    labels: Sequence[tuple[str, float, float]] = (),
) -> str:
    """Draws a spectrogram and, below it on the same time axis, one map after the other.

    Args:
        maps: By title: (T, T), queries from top to bottom, keys from left to right.
        span: Begin and end of the time axis of all pictures, seconds.
        power: (F, K) power spectrogram of the span.
        max_hertz: Frequency of the last of the K bins.
        labels: Name, begin and end in seconds of what was said; drawn as boundaries through all
            pictures and as names above the first.

    Returns:
        SVG text.
    """
    begin, end = span
    shares = [1.0, *(2.6 for _ in maps)]
    with create_panels((7.2, 1.2 + 2.9 * len(maps)), shares) as (figure, panels):
        draw_level(panels[0], power, span=span, max_hertz=max_hertz)
        for axes, (title, values) in zip(panels[1:], maps.items(), strict=True):
            matrix = np.asarray(values, dtype=np.float64)
            image = axes.imshow(
                matrix,
                cmap="cividis",
                aspect="auto",
                interpolation="nearest",
                extent=(begin, end, end, begin),
            )
            bar = figure.colorbar(image, ax=axes, label="weight", pad=0.01)
            bar.outline.set_visible(False)
            label_axes(axes, "", "query, s", title, legend=False)
        panels[-1].set_xlabel("key, s")
        edges = sorted({edge for _, *ends in labels for edge in ends if begin < edge < end})
        for axes in panels:
            axes.grid(visible=False)
            axes.set_xlim(begin, end)
            for edge in edges:
                axes.axvline(edge, color="white", linewidth=0.6, alpha=0.7)
        for name, first, last in labels:
            middle = (max(first, begin) + min(last, end)) / 2
            if begin < middle < end:
                panels[0].annotate(
                    to_drawable(name),
                    (middle, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7.5,
                )
        return to_svg(figure)


def draw_level(
    axes: Axes, power: ArrayLike, *, span: tuple[float, float], max_hertz: float
) -> None:
    """Draws the level of a spectrogram, 60 dB from the loudest cell down.

    Args:
        axes: Where.
        power: (F, K) power.
        span: Begin and end of the time axis, seconds.
        max_hertz: Frequency of the last of the K bins.
    """
    level = 10 * np.log10(np.asarray(power, dtype=np.float64).T + 1e-12)  # (K, F)
    top = float(level.max(initial=-120.0))
    axes.imshow(
        level,
        cmap="magma",
        aspect="auto",
        origin="lower",
        extent=(*span, 0.0, max_hertz / 1000),
        vmin=top - _RANGE_DB,
        vmax=top,
    )
    label_axes(axes, "", "kHz", "", legend=False)
