"""Cutting loses nothing, repeats nothing, and keeps every limit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from speechvq.data.records import SAMPLE_RATE
from speechvq.data.segments import cut_at_pauses
from speechvq.data.vad import WINDOW_SAMPLES

_probabilities = st.one_of(
    hnp.arrays(np.float32, st.integers(0, 400), elements=st.floats(0, 1, width=32)),
    st.lists(
        st.tuples(st.integers(1, 120), st.sampled_from([0.0, 0.4, 0.9])), min_size=1, max_size=20
    ).map(lambda runs: np.concatenate([np.full(n, p, np.float32) for n, p in runs])),
)


@settings(max_examples=400, deadline=None)
@given(
    _probabilities,
    st.integers(0, WINDOW_SAMPLES - 1),
    st.floats(1, 12),
    st.floats(0.05, 3),
    st.floats(0, 2),
    st.floats(0, 0.25),
    st.none() | st.integers(0, 9),
)
def test_segments_keep_every_limit(
    probabilities: np.ndarray,
    missing: int,
    longest: float,
    pause: float,
    padding: float,
    min_share: float,
    seed: int | None,
) -> None:
    num_samples = max(0, len(probabilities) * WINDOW_SAMPLES - missing)
    shortest = min_share * longest
    levels = None
    if seed is not None:
        levels = np.random.default_rng(seed).normal(-40, 15, len(probabilities)).astype(np.float32)
    spans = cut_at_pauses(
        probabilities,
        num_samples,
        max_segment_seconds=longest,
        max_pause_seconds=pause,
        padding_seconds=padding,
        threshold=0.5,
        min_seconds=shortest,
        levels=levels,
    )
    covered = np.zeros(num_samples, dtype=int)
    position = 0
    for span in spans:
        assert position <= span.begin < span.end <= num_samples
        assert span.num_samples <= longest * SAMPLE_RATE
        assert span.num_samples >= min(shortest * SAMPLE_RATE, num_samples)
        covered[span.begin : span.end] += 1
        position = span.end
    for window in np.flatnonzero(probabilities >= 0.5):
        piece = covered[window * WINDOW_SAMPLES : (window + 1) * WINDOW_SAMPLES]
        assert (piece == 1).all(), "speech was lost or taken twice"


def _cut(runs: list[tuple[float, float]], **changes: float) -> list[tuple[float, float]]:
    windows = [np.full(round(s * SAMPLE_RATE / WINDOW_SAMPLES), p, np.float32) for s, p in runs]
    probabilities = np.concatenate(windows)
    settings = {
        "max_segment_seconds": 20.0,
        "max_pause_seconds": 0.5,
        "padding_seconds": 0.2,
        "threshold": 0.5,
    }
    spans = cut_at_pauses(
        probabilities, len(probabilities) * WINDOW_SAMPLES, **(settings | changes)
    )
    return [(span.begin / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in spans]


def test_cuts_at_long_pauses_only() -> None:
    runs = [(1.0, 0.0), (3.0, 0.9), (0.3, 0.0), (2.0, 0.9), (2.0, 0.0), (3.0, 0.9)]
    first, second = _cut(runs)
    np.testing.assert_allclose(first, (0.8, 6.5), atol=0.1)
    np.testing.assert_allclose(second, (8.1, 11.3), atol=0.1)


def test_a_long_run_is_cut_where_it_is_least_like_speech() -> None:
    runs = [(8.0, 0.9), (0.2, 0.4), (7.0, 0.9)]
    first, second = _cut(runs, max_segment_seconds=10.0)
    assert 7.9 < first[1] < 8.3
    assert second[0] == first[1]


def test_speech_without_a_pause_is_cut_at_its_quietest_point() -> None:
    probabilities = np.full(round(60 * SAMPLE_RATE / WINDOW_SAMPLES), 0.9, np.float32)
    levels = np.full(len(probabilities), -20, np.float32)
    quiet = [round(second * SAMPLE_RATE / WINDOW_SAMPLES) for second in (16.0, 30.0, 44.0)]
    for window in quiet:
        levels[window - 1 : window + 2] = -45
    spans = cut_at_pauses(
        probabilities,
        len(probabilities) * WINDOW_SAMPLES,
        max_segment_seconds=20.0,
        max_pause_seconds=1.0,
        padding_seconds=0.2,
        threshold=0.5,
        min_seconds=0.4,
        levels=levels,
    )
    np.testing.assert_allclose([s.end / SAMPLE_RATE for s in spans], (16, 30, 44, 60), atol=0.05)


def test_a_word_alone_is_widened_to_the_minimum() -> None:
    ((begin, end),) = _cut([(2.0, 0.0), (0.1, 0.9), (2.0, 0.0)], padding_seconds=0.0)
    assert end - begin < 0.2
    ((begin, end),) = _cut(
        [(2.0, 0.0), (0.1, 0.9), (2.0, 0.0)], padding_seconds=0.0, min_seconds=0.4
    )
    assert 0.4 <= end - begin < 0.45
    assert 1.7 < begin < 2.0 < end


def test_no_speech_no_segments() -> None:
    assert _cut([(30.0, 0.1)]) == []
