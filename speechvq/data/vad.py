"""Where speech is: one probability per window of 32 ms, and what follows from it.

`speechvq.data.silero` finds them, or `speechvq.data.webrtc`, the light choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from speechvq.data.records import SAMPLE_RATE

WINDOW_SAMPLES = 512
"""32 ms: one probability per window."""
WINDOW_SECONDS = WINDOW_SAMPLES / SAMPLE_RATE

Probabilities = npt.NDArray[np.float32]
"""float32 (W,), one per window of 32 ms; the last window may be partial."""


class Samples(Protocol):
    """Samples at 16 kHz that are read in stretches: a waveform, or a
    `speechvq.data.recording.Recording`.
    """

    def __len__(self) -> int:
        """Returns the number of samples."""

    def __getitem__(self, key: slice, /) -> npt.NDArray[np.float32]:
        """Returns a stretch, float32 (S,)."""


def compute_speech_probabilities(
    waveforms: Sequence[Samples],
) -> list[Probabilities]:
    """Computes how likely each window of 32 ms is speech, with Silero's detector.

    Args:
        waveforms: float32 (S,) each, 16 kHz.

    Returns:
        One array (ceil(S / 512),) a waveform.

    Raises:
        MissingDependencyError: If `silero-vad` is not installed.
        ModelError: If its model is built otherwise than that of silero-vad 6.2.
    """
    from speechvq.data.silero import compute_silero_probabilities

    return [compute_silero_probabilities(waveform) for waveform in waveforms]


def compute_speech_ratio(probabilities: Probabilities, threshold: float) -> float | None:
    """Returns the share of windows that reach the threshold; None without windows."""
    return float(np.mean(probabilities >= threshold)) if len(probabilities) else None


def find_samples_near_speech(
    probabilities: Probabilities, num_samples: int, threshold: float
) -> npt.NDArray[np.bool_]:
    """Returns which samples lie within about 0.1 s of speech, bool (S,)."""
    speech = np.convolve(probabilities >= threshold, np.ones(7), "same") > 0
    return np.repeat(speech, WINDOW_SAMPLES)[:num_samples]
