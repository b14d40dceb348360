"""Dendrograms: where their lines go."""

from __future__ import annotations

import pytest

from speechvq.reporting.dendrogram import compute_brackets, draw_dendrogram

MERGES = [[0, 2, 1.0, 2], [1, 3, 4.0, 3]]
ORDER = [1, 0, 2]


def test_brackets_join_the_middles_of_what_they_join() -> None:
    first, second = compute_brackets(MERGES, ORDER).tolist()
    assert first == [[0, 1], [1, 1], [1, 2], [0, 2]]  # items 0 and 2 stand at places 1 and 2
    assert second == [[0, 0], [4, 0], [4, 1.5], [1, 1.5]]


def test_drawing_is_svg_and_repeatable() -> None:
    names = ["hin_Deva", "tam_Taml", "mar_Deva"]
    picture = draw_dendrogram(MERGES, ORDER, names, x_label="bits")
    assert picture.lstrip().startswith("<svg")
    assert picture == draw_dendrogram(MERGES, ORDER, names, x_label="bits")


@pytest.mark.parametrize(("merges", "order"), [([], [0]), ([], [])])
def test_nothing_to_join(merges: list[list[float]], order: list[int]) -> None:
    assert compute_brackets(merges, order).shape == (0, 4, 2)
    assert "<svg" in draw_dendrogram(merges, order, ["a"], x_label="bits")
