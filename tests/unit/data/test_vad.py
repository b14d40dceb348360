"""The speech detector gives one answer a window, whatever else it looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechvq.data.vad import WINDOW_SAMPLES, compute_speech_probabilities, compute_speech_ratio

pytest.importorskip("silero_vad")


def _clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (100, 512, 16_000, 40_001)]


def test_one_probability_per_window() -> None:
    results = compute_speech_probabilities([*_clips(), np.zeros(0, np.float32)])
    assert [len(row) for row in results] == [1, 1, 32, 79, 0]
    assert all((row >= 0).all() and (row <= 1).all() for row in results)


def test_a_clip_alone_has_the_bits_that_it_has_among_others() -> None:
    together = compute_speech_probabilities(_clips())
    for clip, row in zip(_clips(), together, strict=True):
        np.testing.assert_array_equal(compute_speech_probabilities([clip])[0], row)


def test_noise_and_silence_are_not_speech() -> None:
    clips = [np.zeros(32_000, np.float32), _clips()[3]]
    for row in compute_speech_probabilities(clips):
        assert compute_speech_ratio(row, 0.5) == 0
    assert compute_speech_ratio(np.zeros(0, np.float32), 0.5) is None


def test_about_half_of_a_spoken_recording_is_speech(shared_data: Path) -> None:
    from speechvq.data.audio import load_audio

    waveform = load_audio(shared_data / "kannada" / "audio" / "sample1.flac").waveform
    probabilities = compute_speech_probabilities([waveform])[0]
    assert len(probabilities) == -(-len(waveform) // WINDOW_SAMPLES)
    assert 0.3 < compute_speech_ratio(probabilities, 0.5) < 0.95
