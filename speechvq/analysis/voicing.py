"""Which frames are silent and which are voiced, from the audio alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE

SILENCE_DB = 35.0
"""A frame is silent that lies so far below the loud frames (95th percentile) of its utterance."""
VOICED_CORRELATION = 0.45
"""A frame is voiced whose normalised autocorrelation reaches this (Boersma 1993)."""
_WINDOW_SAMPLES = 640  # 40 ms: three periods of 75 Hz
_LEVEL_SAMPLES = 400
_SHORTEST, _LONGEST = SAMPLE_RATE // 400, SAMPLE_RATE // 75
_FLOOR = 1e-10


@dataclass(frozen=True, kw_only=True)
class FrameVoicing:
    """Of T frames.

    Attributes:
        is_silent: (T,) bool.
        is_voiced: (T,) bool; silent frames are not.
    """

    is_silent: NDArray[np.bool_]
    is_voiced: NDArray[np.bool_]


def measure_voicing(waveform: Waveform, times: NDArray[np.float32]) -> FrameVoicing:
    """Measures frames.

    Args:
        waveform: float32 (S,), 16 kHz.
        times: (T,) centres of frames, seconds.
    """
    centres = np.round(np.asarray(times, dtype=np.float64) * SAMPLE_RATE).astype(np.int64)
    half = _WINDOW_SAMPLES // 2
    padded = np.pad(waveform.astype(np.float64), (half, half + _WINDOW_SAMPLES))
    begins = np.clip(centres, 0, len(waveform))
    windows = padded[begins[:, None] + np.arange(_WINDOW_SAMPLES)]  # (T, W)
    margin = (_WINDOW_SAMPLES - _LEVEL_SAMPLES) // 2
    power = np.square(windows[:, margin : margin + _LEVEL_SAMPLES]).mean(1)
    level = 10 * np.log10(power + _FLOOR)
    is_silent = level < np.percentile(level, 95) - SILENCE_DB if len(level) else level < 0
    return FrameVoicing(
        is_silent=is_silent,
        is_voiced=(_correlate(windows) >= VOICED_CORRELATION) & ~is_silent,
    )


def _correlate(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest autocorrelation of each window (T, W) at the periods of voices, over that of the
    taper.
    """
    taper = np.hanning(_WINDOW_SAMPLES)
    size = 2 * _WINDOW_SAMPLES
    tapered = (windows - windows.mean(1, keepdims=True)) * taper
    own = np.fft.irfft(np.abs(np.fft.rfft(tapered, size)) ** 2, size)[:, : _LONGEST + 1]
    ideal = np.fft.irfft(np.abs(np.fft.rfft(taper, size)) ** 2, size)[: _LONGEST + 1]
    correlation = own / np.maximum(own[:, :1], _FLOOR) / (ideal / ideal[0])
    return np.asarray(correlation[:, _SHORTEST:].max(1))
