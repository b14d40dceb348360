"""Silence, voice and letters of frames."""

from __future__ import annotations

import numpy as np

from speechvq.analysis.letter_frames import spread_labels
from speechvq.analysis.voicing import measure_voicing
from speechvq.decoding.forced_alignment import LabelSpan

SAMPLE_RATE = 16_000


def test_pulses_are_voiced_noise_is_not_and_nothing_is_silent() -> None:
    rng = np.random.default_rng(1)
    size = SAMPLE_RATE // 2
    pulses = np.zeros(size)
    pulses[:: SAMPLE_RATE // 120] = 1.0
    voice = np.convolve(pulses, np.exp(-np.arange(80) / 12), "same")
    noise = rng.normal(0, 0.3, size)
    waveform = np.concatenate([voice, noise, 1e-4 * rng.normal(size=size)]).astype(np.float32)
    times = np.arange(0.01, 1.49, 0.02, dtype=np.float32)
    found = measure_voicing(waveform, times)
    inner = [(times > low + 0.03) & (times < low + 0.47) for low in (0.0, 0.5, 1.0)]
    assert found.is_voiced[inner[0]].all()
    assert not found.is_voiced[inner[1]].any()
    assert not found.is_silent[inner[0] | inner[1]].any()
    assert found.is_silent[inner[2]].all()
    assert not found.is_voiced[inner[2]].any()
    assert measure_voicing(waveform[:0], times[:0]).is_silent.shape == (0,)


def test_frames_have_the_nearest_letter() -> None:
    own_times = np.arange(0, 2, 0.1, dtype=np.float32)
    spans = [LabelSpan(1, 2, 3, 1.0), LabelSpan(2, 6, 8, 1.0), LabelSpan(3, 15, 16, 1.0)]
    times = np.array([0.05, 0.1, 0.2, 0.39, 0.41, 0.6, 0.65, 0.8, 1.1, 1.4, 1.65, 1.9])
    found = spread_labels(["a", "b", "c"], spans, own_times, times.astype(np.float32))
    assert found == ["a", "a", "a", "a", "b", "b", "b", "b", None, "c", "c", None]
    assert spread_labels([], [], own_times, own_times[:3]) == [None] * 3
