"""Label files: golden ones, both ways, against praatio, and bad ones refused by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.data.labels import read_labels, write_labels
from speechvq.data.timed_label import Label, LabelError
from speechvq.errors import DataError

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1.0
            text = "say ""नमस्ते"""
        intervals [3]:
            xmin = 1.0
            xmax = 1.5
            text = "two
lines"
    item [2]:
        class = "TextTier"
        name = "bells"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.75
            mark = "ding"
'''
SHORT = '''File type = "ooTextFile short"
"TextGrid"

0
1.5
<exists>
2
"IntervalTier"
"words"
0
1.5
3
0
0.25
""
0.25 ! a remark of 7 words
1.0
"say ""नमस्ते"""
1.0
1.5
"two
lines"
"TextTier"
"bells"
0
1.5
1
0.75
"ding"
'''


def _label(recording: str, tier: str, text: str, begin: float, end: float, **more: object) -> Label:
    return Label(
        recording=recording, tier=tier, text=text, begin_seconds=begin, end_seconds=end, **more
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [LONG, SHORT, LONG.replace("\n", "\r\n")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrids_of_praat(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_bytes(text.encode(encoding))
    assert read_labels(path) == [
        _label("a", "words", 'say "नमस्ते"', 0.25, 1.0),
        _label("a", "words", "two\nlines", 1.0, 1.5),
        _label("a", "bells", "ding", 0.75, 0.75),
    ]


def test_ctm(tmp_path: Path) -> None:
    path = tmp_path / "x.ctm"
    path.write_text(";; by a recogniser\nrec1 A 11.34 0.2 YES 0.997\nrec1 A 12 0.34 हाँ\n")
    assert read_labels(path) == [
        _label("rec1", "words", "YES", 11.34, 11.54, channel="A", confidence=0.997),
        _label("rec1", "words", "हाँ", 12.0, 12.34, channel="A"),
    ]


def test_rttm(tmp_path: Path) -> None:
    path = tmp_path / "x.rttm"
    path.write_text(
        "SPKR-INFO rec 1 <NA> <NA> <NA> adult_male bob <NA> <NA>\n"
        "SPEAKER rec 1 5.5 0.75 <NA> <NA> bob <NA> <NA>\n"
        "LEXEME rec 1 5.5 0.25 hi lex bob 0.5\n"
    )
    assert read_labels(path) == [
        _label("rec", "speakers", "bob", 5.5, 6.25),
        _label("rec", "words", "hi", 5.5, 5.75, confidence=0.5),
    ]


def test_tables_of_phones(tmp_path: Path) -> None:
    path = tmp_path / "phones.tsv"
    path.write_text("path\tphone\tstart_seconds\tend_seconds\na.ogg\tSIL\t0.116\t0.756\n")
    assert read_labels(path) == [_label("a.ogg", "phones", "SIL", 0.116, 0.756)]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("x.ctm", "a 1 0 1 ok\na 1 0 1\n", 2),
        ("x.ctm", "a 1 0 -1 ok\n", 1),
        ("x.ctm", "\na 1 nan 1 ok\n", 2),
        ("x.ctm", "a 1 0 1 ok high\n", 1),
        ("x.rttm", "SPEAKER a 1 0 1 <NA> <NA> bob <NA>\nSPEAKR a 1 0 1 <NA> <NA> b <NA>\n", 2),
        ("x.rttm", "SPEAKER a 1 zero 1 <NA> <NA> bob <NA>\n", 1),
        ("x.tsv", "path\tphone\tstart_seconds\n", 1),
        ("x.tsv", "path\tphone\tstart_seconds\tend_seconds\na\tb\t2\t1\n", 2),
        ("x.tsv", "path\tphone\tstart_seconds\tend_seconds\n\na\tb\t2\n", 3),
        ("x.tsv", "", 1),
        ("x.TextGrid", "", 1),
        ("x.TextGrid", LONG.replace("ooTextFile", "ooBinary"), 1),
        ("x.TextGrid", LONG.replace('Object class = "TextGrid"', 'Object class = "Pitch"'), 2),
        ("x.TextGrid", LONG.replace("xmin = 0.25", "xmin = 0.1"), 21),
        ("x.TextGrid", LONG.replace("xmax = 1.0", "xmax = abc"), 22),
        ("x.TextGrid", LONG.replace('"ding"', '"ding'), 36),
        ("x.TextGrid", LONG.replace("points: size = 1", "points: size = 3"), 37),
        ("x.TextGrid", LONG.replace("points: size = 1", "points: size = 0.5"), 33),
        ("x.TextGrid", LONG.replace('"IntervalTier"', '"Tier"'), 14),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=rf"{name}:{line}: "):
        read_labels(tmp_path / name)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "x.ctm").write_bytes(b"a 1 0 1 ok\n\xff\xfa\n")
    with pytest.raises(LabelError, match=r"x\.ctm:2: the text is no utf-8"):
        read_labels(tmp_path / "x.ctm")
    with pytest.raises(DataError, match=r"\.TextGrid, \.ctm"):
        read_labels(tmp_path / "x.srt")
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "none.ctm")


WORDS = st.text(st.sampled_from("aनक्\u200dज़\"'<>!#é"), min_size=1, max_size=6).filter(
    lambda word: not word.startswith((";;", "#"))
)


@st.composite
def sequences(draw: st.DrawFn, tier: str) -> list[Label]:
    """Labels that follow one another, with gaps."""
    steps = draw(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6), WORDS)))
    labels, time = [], 0
    for gap, length, word in steps:
        begin = (time + gap) / 10**6
        time += gap + length
        labels.append(_label("rec", tier, word, begin, time / 10**6))
    return labels


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("rec.TextGrid", "phones"),
        ("x.ctm", "words"),
        ("x.rttm", "words"),
        ("x.rttm", "speakers"),
        ("x.tsv", "phones"),
    ],
)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, tier: str, data: st.DataObject
) -> None:
    labels = data.draw(sequences(tier))
    path = tmp_path_factory.mktemp("labels") / name
    write_labels(labels, path)
    assert read_labels(path) == labels


def test_praat_reads_what_we_write_and_we_what_praat_writes(tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid")
    labels = [
        _label("a", "words", 'नमस्ते "जी"', 0.5, 1.25),
        _label("a", "words", "b", 1.25, 2.0),
        _label("a", "bells", "ding", 0.75, 0.75),
    ]
    write_labels(labels, tmp_path / "a.TextGrid", num_seconds=3.0)
    grid = textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    assert grid.maxTimestamp == 3.0
    assert [tuple(entry) for entry in grid.getTier("words").entries] == [
        (0.0, 0.5, ""),
        (0.5, 1.25, 'नमस्ते "जी"'),
        (1.25, 2.0, "b"),
        (2.0, 3.0, ""),
    ]
    assert [tuple(entry) for entry in grid.getTier("bells").entries] == [(0.75, "ding")]
    for form in ("long_textgrid", "short_textgrid"):
        (tmp_path / form).mkdir()
        path = tmp_path / form / "a.TextGrid"
        grid.save(str(path), format=form, includeBlankSpaces=True)
        assert read_labels(path) == labels


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    overlap = [_label("a", "t", "x", 0, 2), _label("a", "t", "y", 1, 3)]
    others = [_label("a", "t", "x", 0, 1), _label("b", "u", "y", 1, 2)]
    spaced = [_label("a", "words", "two words", 0, 1)]
    for name, labels, message in [
        ("x.TextGrid", overlap, "must not overlap"),
        ("x.TextGrid", others, "one recording"),
        ("x.tsv", others, "one tier"),
        ("x.ctm", spaced, "white space"),
        ("x.rttm", spaced, "white space"),
    ]:
        with pytest.raises(DataError, match=message):
            write_labels(labels, tmp_path / name)
    with pytest.raises(DataError, match="after the recording"):
        write_labels(overlap[:1], tmp_path / "x.TextGrid", num_seconds=1.0)
    assert list(tmp_path.iterdir()) == []
