import numpy as np
import pytest

from speechvq.decoding.forced_alignment import LabelSpan
from speechvq.deploy.windows import WindowMerger, cut_windows
from speechvq.models.vocabulary import build_character_vocabulary

VOCABULARY = build_character_vocabulary(["abcdefghijklmnopqrstuvwxyz"])
RATE = 16_000


def cut(num_samples, block, window=30.0, overlap=4.0):
    waveform = np.arange(num_samples, dtype=np.float32)
    blocks = (waveform[i : i + block] for i in range(0, num_samples, block))
    return waveform, list(cut_windows(blocks, window, overlap))


@pytest.mark.parametrize("block", [1_000, 37_777, 320_000, 5_000_000])
@pytest.mark.parametrize("seconds", [0.1, 29.9, 30.0, 30.1, 56.0, 56.1, 150.0])
def test_windows_lie_on_a_grid_and_hold_everything(seconds, block):
    waveform, windows = cut(round(seconds * RATE), block)
    assert [window.begin_seconds for window in windows] == [26.0 * i for i in range(len(windows))]
    for window in windows:
        begin = round(window.begin_seconds * RATE)
        assert np.array_equal(window.samples, waveform[begin : begin + len(window.samples)])
        assert len(window.samples) == 30 * RATE or window.is_last
    assert [window.is_last for window in windows] == [False] * (len(windows) - 1) + [True]
    assert windows[-1].end_seconds == pytest.approx(seconds)
    assert len(windows) == 1 or len(windows[-1].samples) > 4 * RATE


def test_nothing_has_no_window():
    assert list(cut_windows([], 30.0, 4.0)) == []


def spell(words, begin=0.0, end=np.inf, spaces=True):
    """Spans, 10 frames a second, of the words [(text, begin, end)] that lie within a window."""
    spans = []
    for text, first, last in words:
        times = np.linspace(first, last, len(text) + 1)
        for letter, at, after in zip(text, times, times[1:], strict=False):
            if at >= begin and after <= end:
                frames = round((at - begin) * 10), max(round((after - begin) * 10), 1)
                spans.append(LabelSpan(VOCABULARY.encode(letter)[0], *frames, 0.9))
        if spaces and begin <= last < end - 0.1:
            frame = round((last - begin) * 10)
            spans.append(LabelSpan(2, frame, frame + 1, 0.9))
    return spans


def merge(words, seconds, spaces=True):
    merger = WindowMerger(VOCABULARY, frame_seconds=0.1, overlap_seconds=4.0)
    found = []
    begin = 0.0
    while True:
        end = min(begin + 30.0, seconds)
        spans = spell(words, begin, end, spaces)
        found += merger.add(begin, end, end == seconds, spans)
        if end == seconds:
            return found
        begin += 26.0


@pytest.mark.parametrize("length", [0.3, 0.7, 1.3])
@pytest.mark.parametrize("pause", [0.2, 0.5, 3.1])
def test_each_word_is_heard_once_whatever_the_seams(length, pause):
    rng = np.random.default_rng(1)
    words, at = [], 0.4
    while at < 178:
        text = "".join(rng.choice(list("abcdefghij"), size=3))
        words.append((text, at, at + length))
        at += length + pause
    found = merge(words, 180.0)
    assert [word.text for word in found] == [text for text, _, _ in words]
    for word, (_, begin, end) in zip(found, words, strict=True):
        assert word.begin_seconds == pytest.approx(begin, abs=0.11)
        assert word.end_seconds == pytest.approx(end, abs=0.11)
        assert word.confidence == pytest.approx(0.9**3)


def test_what_was_heard_before_the_last_word_of_a_window_stays():
    words = [("abc", 1 + 0.7 * i, 1.5 + 0.7 * i) for i in range(100)]
    alone = merge(words, 30.0)
    together = merge(words, 75.0)
    assert together[: len(alone) - 1] == alone[:-1]


def test_a_script_without_spaces_joins_within_its_one_word():
    letters = [("abcdefghijklmnopqrstuvwxyz"[i % 26], 0.5 * i, 0.5 * i + 0.2) for i in range(170)]
    found = merge(letters, 85.5, spaces=False)
    assert [word.text for word in found] == ["".join(text for text, _, _ in letters)]


def test_silence_between_words_is_a_seam():
    words = [("abc", 1.0, 1.5), ("def", 100.0, 100.5), ("ghi", 129.0, 129.5)]
    assert [word.text for word in merge(words, 150.0)] == ["abc", "def", "ghi"]
    assert merge([], 150.0) == []


def test_words_that_windows_see_some_frames_apart_do_not_overlap():
    merger = WindowMerger(VOCABULARY, frame_seconds=0.1, overlap_seconds=4.0)
    first = spell([("abc", 27.0, 28.0), ("def", 28.2, 29.0), ("ghi", 29.2, 30.0)], 0.0, 30.0)
    # The second window hears "ghi" begin before the first heard "def" end.
    second = spell([("def", 1.5, 2.0), ("ghi", 2.9, 4.0)])
    found = merger.add(0.0, 30.0, False, first) + merger.add(26.0, 40.0, True, second)
    assert [word.text for word in found] == ["abc", "def", "ghi"]
    assert found[2].begin_seconds == found[1].end_seconds < found[2].end_seconds
