import base64
import html
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from speechvq.reporting.cells import Cell, format_value
from speechvq.reporting.charts import Series, draw_lines
from speechvq.reporting.page import EditorEntry, Metric, Page, find_edit_kind

EVIL = "<script>alert('x')</script>&\"quote\""
VOID = {"meta", "link", "br", "img", "hr", "input"}


def create_wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(160, np.float32), 16000, format="FLAC")
    return buffer.getvalue()


def fill(page: Page, text: str) -> None:
    """Puts a text into every place that takes one."""
    page.add_heading(text)
    page.add_paragraph(text, tone="warning", language="hi")
    page.add_preformatted(text)
    page.add_headline([Metric(label=text, value=text, detail=text)])
    page.add_facts({text: text, "cell": Cell(value=1.0, text=text)})
    page.add_table([text, "n"], [[text, 1], [Cell(value=text, language=text), None]], caption=text)
    page.add_figure(draw_lines([], x_label="x", y_label="y"), caption=text, alt=text)
    page.add_audio(create_wav(), label=text)
    page.add_alignment([(text, text), (text, None), (None, text)])
    entry = EditorEntry(id=text, text=text, audio=create_wav(), note=text, second_text=text)
    page.add_editor([entry], file_name=text, stamp=text, language="hi")
    with page.section(text), page.grid(), page.card():
        page.add_paragraph(text)


class _Balance(HTMLParser):
    """Checks that tags close in the order in which they opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page: Page) -> _Balance:
    parser = _Balance()
    parser.feed(page.render())
    assert parser.open == []
    return parser


def test_text_is_escaped_everywhere():
    page = Page(EVIL, EVIL, footer=EVIL)
    fill(page, EVIL)
    text = page.render()
    assert "<script>alert" not in text
    parser = parse(page)
    # One script (ours) and no attribute that a text has broken out into.
    assert [tag for tag, _ in parser.tags].count("script") == 1
    assert not any(name.startswith(("on", "quote")) for _, attrs in parser.tags for name in attrs)


def test_nothing_is_fetched():
    page = Page("x")
    fill(page, "plain")
    parser = parse(page)
    for tag, attributes in parser.tags:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    style = re.search(r"<style>(.*?)</style>", page.render(), re.DOTALL)
    assert style
    assert "url(" not in style.group(1)
    assert "@import" not in style.group(1)
    assert "default-src 'none'" in page.render()


def test_audio_is_inside_and_whole():
    page = Page("x")
    page.add_audio(create_wav())
    found = re.search(r'src="data:audio/flac;base64,([^"]+)"', page.render())
    assert found
    assert base64.b64decode(found.group(1)) == create_wav()
    with pytest.raises(ValueError, match="FLAC, WAV or Ogg"):
        page.add_audio(b"\x00\x01\x02\x03")


def test_fields_hold_their_texts_and_only_their_pages_have_the_script():
    page = Page("x")
    assert "localStorage" not in page.render()
    text = "\nleading line, </textarea> and देव"
    page.add_editor(
        [EditorEntry(id="u1", text=text, audio=create_wav())], file_name="c.tsv", stamp="s"
    )
    parser = parse(page)
    fields = dict(parser.tags)
    assert fields["textarea"]["aria-label"] == "Text of u1"
    assert (fields["audio"]["src"] or "").startswith("data:audio/flac;base64,")
    # The parser of HTML drops one line break at the begin of a field.
    shown = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page.render(), re.DOTALL)
    assert shown
    assert html.unescape(shown.group(1)) == text
    assert "localStorage" in page.render()


def test_figures_do_not_share_ids():
    page = Page("x")
    chart = draw_lines([Series(name="a", x=[1, 2], y=[1, 2])], x_label="x", y_label="y")
    page.add_figure(chart)
    page.add_figure(chart)
    text = page.render()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) > 20
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:url\(|href=")#([^")]+)', text):
        assert target in ids


def test_headings_of_one_name_get_anchors_of_their_own():
    page = Page("x")
    for name in ("Speakers", "Speakers", "हिन्दी", "தமிழ்"):
        page.add_heading(name)
    anchors = re.findall(r'<h2 id="([^"]+)"', page.render())
    assert len(set(anchors)) == 4
    assert re.findall(r'<a href="#([^"]+)"', page.render()) == anchors


def test_right_to_left_text_and_languages_are_marked():
    page = Page("x")
    page.add_alignment([("السلام", "السلم")], language="ar")
    assert '<div class="alignment" dir="auto" lang="ar">' in page.render()
    page.add_table(["a"], [[Cell(value="हिन्दी", language="hi")]])
    assert re.search(r'<td[^>]* dir="auto" lang="hi">हिन्दी</td>', page.render())


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        (("a", "a"), "equal"),
        (("a", "b"), "substitute"),
        (("a", None), "delete"),
        ((None, "b"), "insert"),
        # The same letter with a precomposed and a combining accent.
        (("\u00e9", "e\u0301"), "equal"),
    ],
)
def test_edit_kinds(pair, kind):
    assert find_edit_kind(*pair) == kind
    page = Page("x")
    page.add_alignment([pair])
    assert f'class="word {kind}"' in page.render()


def test_columns_of_numbers_sort_by_size_and_gaps_have_no_key():
    page = Page("x")
    page.add_table(["name", "n"], [["b", Cell(value=10, text="ten")], ["a", 9], ["c", None]])
    cells = re.findall(r'<td class="number"( data-sort="([^"]*)")?', page.render())
    assert [key for _, key in cells] == ["10.0", "9.0", ""]


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="Row 1 of the table must have 2 cells"):
        Page("x").add_table(["a", "b"], [[1, 2], [1]])


def test_unknown_tone_is_refused():
    with pytest.raises(ValueError, match="tone"):
        Page("x").add_paragraph("y", tone="red")


def test_same_calls_give_same_bytes(tmp_path):
    for name in ("a", "b"):
        page = Page("x")
        fill(page, "text")
        page.write(tmp_path / name / "page.html")
    assert (tmp_path / "a/page.html").read_bytes() == (tmp_path / "b/page.html").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (True, "yes"),
        (float("nan"), "–"),
        (123456.7, "123,457"),
        ("x", "x"),
    ],
)
def test_values_as_text(value, text):
    assert format_value(value) == text
