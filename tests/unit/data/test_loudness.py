"""Loudness and the noise estimate; what is undefined is None and never NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from speechvq.data.loudness import (
    CLIPPED_SHARE,
    measure_dropouts,
    measure_integrated_loudness,
    measure_loudness,
    measure_sound_seconds,
)
from speechvq.data.records import SAMPLE_RATE
from tests.unit.data.conftest import make_voice


def _mix(snr_db: float, seconds: float = 20.0, seed: int = 0) -> np.ndarray:
    """Speech and noise as the WADA model has them."""
    rng = np.random.default_rng(seed)
    size = int(seconds * SAMPLE_RATE)
    speech = rng.gamma(0.4, 1.0, size) * rng.choice([-1.0, 1.0], size)
    speech /= np.sqrt(np.mean(speech**2))
    noise = rng.standard_normal(size) * 10 ** (-snr_db / 20)
    mixed = speech + noise
    return (0.5 * mixed / np.abs(mixed).max()).astype(np.float32)


@pytest.mark.parametrize("snr_db", [-5, 0, 5, 10, 15, 20, 30, 40])
def test_snr_of_a_known_mixture(snr_db: float) -> None:
    estimate = measure_loudness(_mix(snr_db), silence_dbfs=-120).snr_db
    assert estimate == pytest.approx(snr_db, abs=1.5)


def test_snr_does_not_change_with_level_or_with_digital_silence() -> None:
    clip = _mix(12, seconds=5)
    plain = measure_loudness(clip, silence_dbfs=-70).snr_db
    quiet = measure_loudness(clip * np.float32(0.1), silence_dbfs=-70).snr_db
    # Half a clip of zeros made the estimate of others 100 dB.
    padded = np.concatenate([clip, np.zeros(len(clip) // 320 * 320, np.float32)])
    assert quiet == pytest.approx(plain, abs=0.3)
    assert measure_loudness(padded, silence_dbfs=-70).snr_db == pytest.approx(plain, abs=0.3)


@pytest.mark.parametrize("size", [0, 1, 100, SAMPLE_RATE])
def test_silence_is_undefined(size: int) -> None:
    loudness = measure_loudness(np.zeros(size, np.float32), silence_dbfs=-70)
    assert (loudness.peak_dbfs, loudness.rms_dbfs, loudness.snr_db) == (None, None, None)
    assert measure_sound_seconds(np.zeros(size, np.float32), -70) == 0


def test_a_click_is_not_sound() -> None:
    clip = np.zeros(SAMPLE_RATE, np.float32)
    clip[5000] = 1.0
    loudness = measure_loudness(clip, silence_dbfs=-70)
    assert measure_sound_seconds(clip, -70) == pytest.approx(0.02)
    assert loudness.snr_db is None
    assert loudness.peak_dbfs == 0


def test_levels_and_clipping() -> None:
    tone = np.sin(np.arange(SAMPLE_RATE) / 10).astype(np.float32)
    loudness = measure_loudness(tone * np.float32(0.5), silence_dbfs=-70)
    assert loudness.rms_dbfs == pytest.approx(-9.03, abs=0.02)
    assert loudness.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert loudness.clipped_share < CLIPPED_SHARE
    clipped = measure_loudness(np.clip(tone * 2, -1, 1), silence_dbfs=-70)
    assert clipped.clipped_share > CLIPPED_SHARE


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.integers(0, 9000), elements=st.floats(-1, 1, width=32)))
def test_never_nan(waveform: np.ndarray) -> None:
    loudness = measure_loudness(waveform, silence_dbfs=-70)
    for value in (loudness.peak_dbfs, loudness.rms_dbfs, loudness.snr_db):
        assert value is None or math.isfinite(value)


def test_pauses_do_not_count() -> None:
    speech = _mix(12, seconds=5)
    pause = (1e-3 * _mix(12, seconds=5, seed=1)).astype(np.float32)
    near_speech = np.arange(len(speech) + len(pause)) < len(speech)
    clip = np.concatenate([speech, pause])
    plain = measure_loudness(speech, silence_dbfs=-120).snr_db
    loudness = measure_loudness(clip, silence_dbfs=-120, near_speech=near_speech)
    assert loudness.snr_db == pytest.approx(plain, abs=0.1)
    assert measure_loudness(clip, silence_dbfs=-120).snr_db == 100


def test_what_is_torn_out_is_told_from_a_noise_gate() -> None:
    voice = make_voice(4)
    assert measure_dropouts(voice) == 0
    gated = voice.copy()
    frames = gated.reshape(-1, 320)
    quiet = np.square(frames).mean(axis=1) < 0.01 * np.square(voice).mean()
    held = quiet & np.roll(quiet, 1) & np.roll(quiet, -1)  # a gate waits before it shuts
    frames[held] = 0
    assert held.mean() > 0.05
    assert measure_dropouts(gated) < 0.1
    torn = voice.copy()
    torn.reshape(-1, 8000)[::2] = 0
    assert measure_dropouts(torn) > 0.3
    torn = voice.copy()
    torn[::2] = 0
    assert measure_dropouts(torn) > 0.3
    assert measure_dropouts(np.zeros(16_000, np.float32)) == 1
    assert measure_dropouts(np.zeros(100, np.float32)) == 0


@pytest.mark.parametrize("num_samples", [6400, 6401, 9000, 16_000, 100_123])
def test_integrated_loudness_is_that_of_pyloudnorm(num_samples: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    waveform = make_voice(7)[:num_samples]
    waveform[num_samples // 2 : num_samples // 2 + 8000] *= 0.01  # the relative gate leaves it out
    expected = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(waveform.astype(np.float64))
    assert measure_integrated_loudness(waveform) == pytest.approx(expected, abs=0.001)


def test_integrated_loudness_is_undefined_below_its_gate() -> None:
    pytest.importorskip("pyloudnorm")
    assert measure_integrated_loudness(make_voice(1)[:6399]) is None
    assert measure_integrated_loudness(np.zeros(SAMPLE_RATE, np.float32)) is None
    assert measure_integrated_loudness(1e-5 * make_voice(2)) is None
