"""Bandwidth, variation, tones and fingerprints tell apart what they are meant to tell apart."""

from __future__ import annotations

import numpy as np
import soxr

from speechvq.data.duplicates import find_equal, find_near_equal
from speechvq.data.spectrum import measure_spectrum
from tests.unit.data.conftest import make_voice

RATE = 16_000


def _noisy(seed: int, seconds: float = 3.0) -> np.ndarray:
    """A voice whose syllables come at random times, with breath up to 8 kHz."""
    rng = np.random.default_rng(seed)
    voice = make_voice(seconds, seed=seed)
    size = RATE // 8
    gains = np.repeat(rng.uniform(0.05, 1, -(-len(voice) // size)), size)[: len(voice)]
    breath = (
        rng.standard_normal(len(voice))
        * np.repeat(rng.uniform(0, 0.05, -(-len(voice) // size)), size)[: len(voice)]
    )
    return (gains * voice + breath).astype(np.float32)


def test_telephone_speech_that_was_resampled_is_found() -> None:
    for seed in range(5):
        wide = _noisy(seed)
        narrow = soxr.resample(soxr.resample(wide, RATE, 8000), 8000, RATE).astype(np.float32)
        assert measure_spectrum(wide).bandwidth_hz == 8000
        bandwidth = measure_spectrum(narrow).bandwidth_hz
        assert bandwidth is not None
        assert 3500 < bandwidth < 4200


def test_steady_noise_and_tones_do_not_vary() -> None:
    time = np.arange(3 * RATE) / RATE
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(time)).astype(np.float32)
    hum = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    assert (measure_spectrum(noise).variation_db or 9) < 3
    assert (measure_spectrum(hum).variation_db or 9) < 1
    for seed in range(5):
        assert (measure_spectrum(_noisy(seed)).variation_db or 0) > 4


def test_music_has_tones() -> None:
    rng = np.random.default_rng(0)
    music = np.zeros(4 * RATE)
    for begin in range(0, 4 * RATE, RATE // 2):
        time = np.arange(RATE // 2) / RATE
        for pitch in 220 * 2 ** (rng.integers(0, 24, 3) / 12):
            for harmonic in range(1, 6):
                wave = np.sin(2 * np.pi * harmonic * pitch * time) / harmonic
                music[begin : begin + len(time)] += wave * np.exp(-2 * time)
    music = (0.3 * music / np.abs(music).max()).astype(np.float32)
    assert (measure_spectrum(music).tone_share or 0) > 0.35
    noise = 0.1 * rng.standard_normal(4 * RATE).astype(np.float32)
    assert measure_spectrum(noise).tone_share == 0


def test_silence_and_clicks_are_undefined() -> None:
    for samples in (np.zeros(RATE, np.float32), np.ones(100, np.float32)):
        spectrum = measure_spectrum(samples)
        assert spectrum.bandwidth_hz is None
        assert spectrum.variation_db is None
        assert spectrum.fingerprint is None


def _babble(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Forty partials that swell and fade at random."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    knots = np.linspace(0, seconds, int(6 * seconds))
    waves = [
        np.interp(time, knots, rng.exponential(1, len(knots)) ** 2)
        * np.sin(2 * np.pi * frequency * time)
        for frequency in np.linspace(300, 4200, 40)
    ]
    total = np.sum(waves, axis=0)
    return (0.4 * total / np.abs(total).max()).astype(np.float32)


def _compare(clips: list[np.ndarray], max_bits: int = 20) -> list[int]:
    prints = [measure_spectrum(clip).fingerprint or bytes(16) for clip in clips]
    return find_near_equal(
        np.frombuffer(b"".join(prints), np.uint8).reshape(-1, 16),
        np.array([len(clip) / RATE for clip in clips]),
        np.ones(len(clips), np.bool_),
        max_bits=max_bits,
    ).tolist()


def test_copies_are_found_and_others_are_not() -> None:
    clips = [_babble(seed) for seed in range(20)]
    rng = np.random.default_rng(0)
    copies = [
        0.3 * clips[3],
        soxr.resample(soxr.resample(clips[4], RATE, 8000), 8000, RATE).astype(np.float32),
        clips[5] + 0.002 * rng.standard_normal(len(clips[5])).astype(np.float32),
        clips[6][:-300],
    ]
    assert _compare([*clips, *copies]) == [*range(20), 3, 4, 5, 6]
    # The same beginning in a clip of another length is another utterance.
    assert _compare([clips[0], clips[0][: 2 * RATE]]) == [0, 1]


def test_equal_samples_are_found() -> None:
    digests = np.array([b"a" * 16, b"b" * 16, b"a" * 16, b"a" * 16], "V16")
    is_defined = np.array([True, True, False, True])
    assert find_equal(digests, is_defined).tolist() == [0, 1, 2, 0]
