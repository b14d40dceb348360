"""How loud a clip is, how much of it is sound at all, and how far the speech stands above the
noise.

Pure functions of a waveform, float32 (S,), 16 kHz. A measure that is not defined is None, never
NaN: a filter such as `snr < 15` keeps NaN and so keeps exactly the clips that it should drop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechvq.data.records import SAMPLE_RATE
from speechvq.data.wada import WADA_MIN_DB, WADA_STATISTIC, WADA_STEP_DB

FRAME_SAMPLES = SAMPLE_RATE // 50
"""20 ms."""
CLIPPED_SHARE = 0.001
_MIN_SNR_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Loudness:
    """Measures of one clip.

    Attributes:
        peak_dbfs: Largest absolute sample in dB relative to full scale; None for digital silence.
        rms_dbfs: Root mean square in dB relative to full scale; None for digital silence.
        sound_seconds: Length of the frames above the silence level.
        is_clipped: Whether more than 0.1 % of the samples stand at full scale.
        snr_db: WADA estimate; None where there is too little sound.
    """

    peak_dbfs: float | None
    rms_dbfs: float | None
    sound_seconds: float
    is_clipped: bool
    snr_db: float | None


def measure_loudness(waveform: npt.NDArray[np.float32], *, silence_dbfs: float) -> Loudness:
    """Measures a clip.

    Args:
        waveform: float32 (S,), finite.
        silence_dbfs: Level under which a frame of 20 ms is no sound.
    """
    peak = float(np.max(np.abs(waveform))) if len(waveform) else 0.0
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    frames = find_sound_frames(waveform, silence_dbfs)
    share = float(np.mean(np.abs(waveform) >= 0.999)) if len(waveform) else 0.0
    sound_seconds = float(frames.sum()) * FRAME_SAMPLES / SAMPLE_RATE
    return Loudness(
        peak_dbfs=_decibels(peak * peak),
        rms_dbfs=_decibels(power),
        sound_seconds=min(sound_seconds, len(waveform) / SAMPLE_RATE),
        is_clipped=share > CLIPPED_SHARE,
        snr_db=estimate_snr(waveform, frames),
    )


def find_sound_frames(
    waveform: npt.NDArray[np.float32], silence_dbfs: float
) -> npt.NDArray[np.bool_]:
    """Returns which frames of 20 ms are louder than the silence level; the last frame may be
    partial.
    """
    if len(waveform) == 0:
        return np.zeros(0, dtype=np.bool_)
    energy = np.add.reduceat(
        np.square(waveform, dtype=np.float64), np.arange(0, len(waveform), FRAME_SAMPLES)
    )
    lengths = np.full(len(energy), FRAME_SAMPLES)
    lengths[-1] = len(waveform) - FRAME_SAMPLES * (len(energy) - 1)
    return np.asarray(energy / lengths > 10 ** (silence_dbfs / 10), dtype=np.bool_)


def estimate_snr(
    waveform: npt.NDArray[np.float32], sound_frames: npt.NDArray[np.bool_]
) -> float | None:
    """Estimates the signal-to-noise ratio from the distribution of amplitudes (WADA).

    Clean speech has Gamma distributed amplitudes of shape 0.4, noise Gaussian ones; ln E|x| - E
    ln|x| of the mixture grows with the ratio of the two (Kim & Stern, Interspeech 2008). Digital
    silence would count as the quietest speech, so only frames with sound enter.

    Args:
        waveform: float32 (S,).
        sound_frames: Frames of 20 ms to look at, (ceil(S / 320),).

    Returns:
        dB within -20 to 100, or None where there is less than 0.3 s of sound.
    """
    mask = np.repeat(sound_frames, FRAME_SAMPLES)[: len(waveform)]
    amplitude = np.abs(waveform[mask]).astype(np.float64)
    amplitude = amplitude[amplitude > 0]
    if len(amplitude) < _MIN_SNR_SECONDS * SAMPLE_RATE:
        return None
    statistic = math.log(float(amplitude.mean())) - float(np.log(amplitude).mean())
    position = float(np.interp(statistic, WADA_STATISTIC, np.arange(len(WADA_STATISTIC))))
    return WADA_MIN_DB + WADA_STEP_DB * position


def _decibels(power: float) -> float | None:
    return 10 * math.log10(power) if power > 0 else None
