"""The speech detector gives the same answer one by one, in a batch, and across blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechvq.data import vad
from speechvq.data.vad import WINDOW_SAMPLES, compute_speech_probabilities, compute_speech_ratio

pytest.importorskip("silero_vad")


def _clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (100, 512, 16_000, 40_001)]


def test_one_probability_per_window() -> None:
    results = compute_speech_probabilities([*_clips(), np.zeros(0, np.float32)])
    assert [len(row) for row in results] == [1, 1, 32, 79, 0]
    assert all((row >= 0).all() and (row <= 1).all() for row in results)


def test_a_clip_alone_equals_its_row_in_a_batch() -> None:
    together = compute_speech_probabilities(_clips())
    for clip, row in zip(_clips(), together, strict=True):
        np.testing.assert_allclose(compute_speech_probabilities([clip])[0], row, atol=1e-5)


def test_noise_and_silence_are_not_speech() -> None:
    clips = [np.zeros(32_000, np.float32), _clips()[3]]
    for row in compute_speech_probabilities(clips):
        assert compute_speech_ratio(row, 0.5) == 0
    assert compute_speech_ratio(np.zeros(0, np.float32), 0.5) is None


def test_blocks_of_a_long_recording_agree_with_the_whole(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechvq.data.audio import load_audio

    waveform = load_audio(shared_data / "kannada" / "audio" / "sample1.flac").waveform
    whole = compute_speech_probabilities([waveform])[0]
    monkeypatch.setattr(vad, "_BLOCK_WINDOWS", 100)
    blocks = compute_speech_probabilities([waveform])[0]
    assert len(blocks) == -(-len(waveform) // WINDOW_SAMPLES)
    assert 0.3 < compute_speech_ratio(whole, 0.5) < 0.95
    assert np.mean((whole >= 0.5) != (blocks >= 0.5)) < 0.03
