"""Maps of labels by frames below the spectrogram of the audio that they belong to."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from speechvq.reporting.drawing import PALETTE, create_panels, label_axes, to_drawable, to_svg
from speechvq.reporting.time_maps import draw_level

_MAX_NAME = 16


def draw_posteriors(
    maps: Mapping[str, ArrayLike],
    *,
    row_labels: Sequence[str],
    span: tuple[float, float],
    marks: Sequence[tuple[float, float]],
    power: ArrayLike,
    max_hertz: float,
) -> str:
    """Draws a spectrogram and, below it on the same time axis, one map of posteriors after another.

    Args:
        maps: By title: (L, T) probabilities, labels from top to bottom, frames from left to right.
        row_labels: L labels; those that no font of charts can write have their Unicode names.
        span: Begin and end of the time axis, seconds.
        marks: Begin and end of stretches that are marked in all pictures, seconds.
        power: (F, K) power spectrogram of the span.
        max_hertz: Frequency of the last of the K bins.

    Returns:
        SVG text.
    """
    begin, end = span
    height = max(1.2, 0.19 * len(row_labels) + 0.5)
    shares = [1.1, *(height for _ in maps)]
    with create_panels((8.4, 0.6 + sum(shares)), shares) as (figure, panels):
        draw_level(panels[0], power, span=span, max_hertz=max_hertz)
        for axes, (title, values) in zip(panels[1:], maps.items(), strict=True):
            image = axes.imshow(
                np.asarray(values, dtype=np.float64),
                cmap="cividis",
                aspect="auto",
                interpolation="nearest",
                extent=(begin, end, len(row_labels) - 0.5, -0.5),
                vmin=0.0,
                vmax=1.0,
            )
            axes.set_yticks(range(len(row_labels)), [name_label(one) for one in row_labels])
            axes.tick_params(axis="y", labelsize=7.5)
            bar = figure.colorbar(image, ax=axes, label="P", pad=0.01)
            bar.outline.set_visible(False)
            label_axes(axes, "", "", title, legend=False)
        panels[-1].set_xlabel("seconds")
        for axes in panels:
            axes.grid(visible=False)
            axes.set_xlim(begin, end)
            for first, last in marks:
                for edge in (first, last):
                    axes.axvline(edge, color=PALETTE[1], linewidth=1.3)
        return to_svg(figure)


def name_label(label: str) -> str:
    """A label as a chart can write it: itself, or the Unicode names of its letters without script.

    Args:
        label: Such as "a", "क" (KA) or "ि" (sign I).
    """
    if "?" not in to_drawable(label):
        return label
    names = []
    for letter in label:
        words = unicodedata.name(letter, "?").split()
        kept = [word for word in words[1:] if word not in ("LETTER", "VOWEL")] or words
        names.append(" ".join("sign" if word == "SIGN" else word for word in kept))
    name = " + ".join(names)
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
