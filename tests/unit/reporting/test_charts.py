import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.axes import Axes

from speechvq.reporting.charts import (
    BarSeries,
    Series,
    draw_bars,
    draw_heat_map,
    draw_histogram,
    draw_lines,
    draw_scatter,
)
from speechvq.reporting.drawing import INK, to_drawable

X = np.arange(1.0, 9.0)
CHARTS = {
    "lines": lambda: draw_lines(
        [
            Series(name="a", x=X, y=X**2, low=X, high=X**3),
            Series(name="b", x=X, y=np.where(X > 4, np.nan, X)),
        ],
        x_label="x",
        y_label="y",
        title="t",
        log_x=True,
        log_y=True,
        levels={"chance": 2.0},
    ),
    "bars": lambda: draw_bars(
        ["hin_Deva", "mdw_Latn"],
        [BarSeries(name="WER", values=[1, np.nan], low=[0.5, np.nan], high=[1.5, np.nan])],
        y_label="y",
    ),
    "heat": lambda: draw_heat_map([[1, np.nan], [3, 4]], row_labels=["a", "b"], color_label="c"),
    "scatter": lambda: draw_scatter(
        [Series(name="a", x=X, y=X)], x_label="x", y_label="y", point_labels=["p"]
    ),
    "histogram": lambda: draw_histogram({"a": X, "b": [np.nan, 3.0]}, x_label="x", log_x=True),
    "empty lines": lambda: draw_lines([], x_label="x", y_label="y"),
    "empty histogram": lambda: draw_histogram({"a": []}, x_label="x"),
    "one value": lambda: draw_histogram({"a": [2.0]}, x_label="x"),
    "empty bars": lambda: draw_bars([], [], y_label="y"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_clean_repeatable_svg_in_the_colour_of_the_page(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = CHARTS[name]()
    assert ET.fromstring(text).tag.endswith("svg")
    assert text == CHARTS[name]()
    assert "currentColor" in text
    assert INK not in text
    assert "<metadata" not in text


def test_data_change_the_picture():
    def draw(values):
        return draw_lines([Series(name="a", x=X, y=values)], x_label="x", y_label="y")

    assert draw(X) != draw(X[::-1])


def test_intervals_are_ends_not_lengths(monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "errorbar", lambda self, x, y, yerr, **_: drawn.append(yerr))
    draw_bars(["g"], [BarSeries(name="a", values=[5.0], low=[4.5], high=[7.0])], y_label="y")
    assert drawn[0].tolist() == [[0.5], [2.0]]


def test_bars_without_a_group_are_refused():
    with pytest.raises(ValueError, match="one a group"):
        draw_bars(["g", "h"], [BarSeries(name="a", values=[1.0])], y_label="y")


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("hin_Deva ɔ́bɛ́ – é", "hin_Deva ɔ́bɛ́ – é"),
        ("हिन्दी", "?" * len("हिन्दी")),
        ("السلام", "??????"),
        ("5 $ and 6 $", r"5 \$ and 6 \$"),
    ],
)
def test_what_cannot_be_drawn_is_a_question_mark(text, drawn):
    assert to_drawable(text) == drawn


def test_neither_pyplot_nor_torch_is_imported():
    code = (
        "import sys, speechvq.reporting.charts, speechvq.reporting.page as p\n"
        "p.Page('x').render()\n"
        "print([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
