"""Dendrograms as SVG text for `Page.add_figure`, in the style of `speechvq.reporting.charts`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.reporting.drawing import PALETTE, create_axes, label_axes, to_drawable, to_svg


def compute_brackets(merges: ArrayLike, order: Sequence[int]) -> NDArray[np.float64]:
    """Returns the lines of a dendrogram.

    Args:
        merges: (N − 1, 4) clusters joined, distance, size: scipy's layout.
        order: N items as they stand below one another.

    Returns:
        (N − 1, 4, 2): corners of the bracket of each merge as (distance, place), from the first
        cluster to the second.
    """
    rows = np.asarray(merges, dtype=np.float64).reshape(-1, 4)
    places = {int(item): float(place) for place, item in enumerate(order)}
    heights = dict.fromkeys(places, 0.0)
    brackets = []
    for number, (first, second, distance, _) in enumerate(rows, start=len(places)):
        ends = [(heights[int(one)], places[int(one)]) for one in (first, second)]
        (low, top), (other_low, bottom) = ends
        brackets.append([(low, top), (distance, top), (distance, bottom), (other_low, bottom)])
        places[number], heights[number] = (top + bottom) / 2, float(distance)
    return np.array(brackets).reshape(-1, 4, 2)


def draw_dendrogram(
    merges: ArrayLike,
    order: Sequence[int],
    labels: Sequence[str],
    *,
    x_label: str,
    title: str = "",
    size: tuple[float, float] | None = None,
) -> str:
    """Draws a dendrogram with its items on the left, the first of the order at the top.

    Args:
        merges: (N − 1, 4) clusters joined, distance, size: scipy's layout.
        order: N items as they stand below one another.
        labels: N names, by item.
        x_label: What the distance is, with its unit.
        title: A title inside the picture.
        size: Width and height in inches; by default the height follows the number of items.

    Returns:
        SVG text.
    """
    brackets = compute_brackets(merges, order)
    with create_axes(size or (5.0, min(1.2 + 0.26 * len(order), 9.0))) as (figure, axes):
        for bracket in brackets:
            axes.plot(*bracket.T, color=PALETTE[0], linewidth=1.4)
        names = [to_drawable(labels[item]) for item in order]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        label_axes(axes, x_label, "", title, legend=False)
        return to_svg(figure)
