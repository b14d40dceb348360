"""How loud a clip is, how much of it is sound at all, and how far the speech stands above the
noise.

Pure functions of a waveform, float32 (S,), 16 kHz. A measure that is not defined is None, never
NaN: a filter such as `snr < 15` keeps NaN and so keeps exactly the clips that it should drop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from speechvq.data.records import SAMPLE_RATE
from speechvq.data.vad import Samples
from speechvq.data.wada import WADA_MIN_DB, WADA_STATISTIC, WADA_STEP_DB
from speechvq.errors import MissingDependencyError

FRAME_SAMPLES = SAMPLE_RATE // 50
"""20 ms."""
CLIPPED_SHARE = 0.001
_MIN_SNR_SECONDS = 0.3
_MIN_SNR_WINDOWS = 4
_LOUD_SHARE = 0.03
"""A frame within 15 dB of the loud ones."""
_TORN_SHARE = 0.25
_GATE_HOPS, _GATE_HOP_SECONDS = 4, 0.1
_GATE_LUFS, _GATE_BELOW_MEAN_DB = -70.0, 10.0
_LUFS_OFFSET = -0.691


@dataclass(frozen=True, slots=True)
class Loudness:
    """Measures of one clip.

    Attributes:
        peak_dbfs: Largest absolute sample in dB relative to full scale; None for digital silence.
        rms_dbfs: Root mean square in dB relative to full scale; None for digital silence.
        clipped_share: Share of the samples at full scale.
        zero_share: Share of the frames of 20 ms whose samples are all the same.
        dc_offset: Mean of the samples.
        snr_db: WADA estimate; None where there is too little speech.
    """

    peak_dbfs: float | None
    rms_dbfs: float | None
    clipped_share: float
    zero_share: float
    dc_offset: float
    snr_db: float | None


def measure_loudness(
    waveform: npt.NDArray[np.float32],
    *,
    silence_dbfs: float,
    near_speech: npt.NDArray[np.bool_] | None = None,
) -> Loudness:
    """Measures a clip.

    Args:
        waveform: float32 (S,), finite.
        silence_dbfs: Level under which a frame of 20 ms is no sound.
        near_speech: Samples at or close to speech, bool (S,); the noise estimate looks at them
            only. None for all.
    """
    peak = float(np.max(np.abs(waveform))) if len(waveform) else 0.0
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    frames = find_sound_frames(waveform, silence_dbfs)
    share = float(np.mean(np.abs(waveform) >= 0.999)) if len(waveform) else 0.0
    return Loudness(
        peak_dbfs=_decibels(peak * peak),
        rms_dbfs=_decibels(power),
        clipped_share=share,
        zero_share=_measure_constant_frames(waveform),
        dc_offset=float(waveform.mean(dtype=np.float64)) if len(waveform) else 0.0,
        snr_db=estimate_snr(waveform[_select(frames, near_speech, len(waveform))]),
    )


def measure_integrated_loudness(waveform: npt.NDArray[np.float32]) -> float | None:
    """Returns the loudness by ITU-R BS.1770-4 in LUFS; None under one gating block of 0.4 s, and
    where every block is below the gate of -70 LUFS.

    The weighting is that of pyloudnorm, whose meter adds up each sample four times.
    """
    if len(waveform) < _GATE_HOPS * _GATE_HOP_SECONDS * SAMPLE_RATE:
        return None
    weigh, sections = _load_weighting()
    hop = int(_GATE_HOP_SECONDS * SAMPLE_RATE)
    padded = np.zeros((-(-len(waveform) // hop), hop))
    padded.ravel()[: len(waveform)] = weigh(sections, waveform.astype(np.float64))
    energy = np.einsum("ij,ij->i", padded, padded)
    num_blocks = round((len(waveform) - _GATE_HOPS * hop) / hop) + 1
    power = sum(energy[i : i + num_blocks] for i in range(_GATE_HOPS)) / (_GATE_HOPS * hop)
    power = power[power >= 10 ** ((_GATE_LUFS - _LUFS_OFFSET) / 10)]
    if len(power) == 0:
        return None
    loud = power[power > power.mean() / 10 ** (_GATE_BELOW_MEAN_DB / 10)]
    return _LUFS_OFFSET + 10 * math.log10(float(loud.mean()))


def estimate_vad_snr(
    power: npt.NDArray[np.float64], speech: npt.NDArray[np.float32]
) -> float | None:
    """Returns the power of speech over that of its pauses, in dB.

    Args:
        power: Mean power of each window, (W,).
        speech: Probability of speech in each window, (W,).

    Returns:
        None with less than 0.1 s of either, or where the pauses are digital silence.
    """
    loud, quiet = power[speech >= 0.5], power[speech < 0.35]
    if len(loud) < _MIN_SNR_WINDOWS or len(quiet) < _MIN_SNR_WINDOWS:
        return None
    noise = float(quiet.mean())
    signal = max(float(loud.mean()) - noise, 0.0)
    if noise <= 0 or signal <= 0:
        return None
    return 10 * math.log10(signal / noise)


def measure_sound_seconds(samples: Samples, silence_dbfs: float) -> float:
    """Returns how many seconds of a clip are louder than the silence level, in frames of 20 ms."""
    step = 60 * SAMPLE_RATE
    frames = sum(
        int(find_sound_frames(samples[first : first + step], silence_dbfs).sum())
        for first in range(0, len(samples), step)
    )
    return frames * FRAME_SAMPLES / SAMPLE_RATE


def measure_levels(samples: Samples, window_samples: int) -> npt.NDArray[np.float32]:
    """Returns the level of each window in dB, float32 (ceil(S / window),); -120 at the least."""
    step = 1000 * window_samples
    levels = []
    for first in range(0, len(samples), step):
        block = samples[first : min(first + step, len(samples))]
        padded = np.pad(block, (0, -len(block) % window_samples)).reshape(-1, window_samples)
        power = np.einsum("ij,ij->i", padded, padded, dtype=np.float64) / window_samples
        levels.append(10 * np.log10(np.maximum(power, 1e-12)).astype(np.float32))
    return np.concatenate([np.zeros(0, np.float32), *levels])


def find_sound_frames(
    waveform: npt.NDArray[np.float32], silence_dbfs: float
) -> npt.NDArray[np.bool_]:
    """Returns which frames of 20 ms are louder than the silence level; the last frame may be
    partial.
    """
    num_whole = len(waveform) // FRAME_SAMPLES
    frames = waveform[: num_whole * FRAME_SAMPLES].reshape(num_whole, FRAME_SAMPLES)
    power = np.einsum("ij,ij->i", frames, frames) / FRAME_SAMPLES  # no copy of an hour in float64
    rest = waveform[num_whole * FRAME_SAMPLES :]
    if len(rest):
        power = np.append(power, np.mean(np.square(rest)))
    return np.asarray(power > 10 ** (silence_dbfs / 10), dtype=np.bool_)


def _select(
    frames: npt.NDArray[np.bool_], near_speech: npt.NDArray[np.bool_] | None, num_samples: int
) -> npt.NDArray[np.bool_]:
    sound = np.repeat(frames, FRAME_SAMPLES)[:num_samples]
    return sound if near_speech is None else sound & near_speech


def estimate_snr(waveform: npt.NDArray[np.float32]) -> float | None:
    """Estimates the signal-to-noise ratio from the distribution of amplitudes (WADA).

    Clean speech has Gamma distributed amplitudes of shape 0.4, noise Gaussian ones; ln E|x| - E
    ln|x| of the mixture grows with the ratio of the two (Kim & Stern, Interspeech 2008). The shape
    holds for running speech: long pauses and digital silence would count as the quietest speech and
    give 100 dB, so leave them out.

    Args:
        waveform: float32 (S,), speech without long pauses.

    Returns:
        dB within -20 to 100, or None where there is less than 0.3 s.
    """
    amplitude = np.abs(waveform).astype(np.float64)
    amplitude = amplitude[amplitude > 0]
    if len(amplitude) < _MIN_SNR_SECONDS * SAMPLE_RATE:
        return None
    statistic = math.log(float(amplitude.mean())) - float(np.log(amplitude).mean())
    position = float(np.interp(statistic, WADA_STATISTIC, np.arange(len(WADA_STATISTIC))))
    return WADA_MIN_DB + WADA_STEP_DB * position


def _measure_constant_frames(waveform: npt.NDArray[np.float32]) -> float:
    num_whole = len(waveform) // FRAME_SAMPLES
    if num_whole == 0:
        return 0.0
    frames = waveform[: num_whole * FRAME_SAMPLES].reshape(num_whole, FRAME_SAMPLES)
    return float(np.mean(frames.max(axis=1) == frames.min(axis=1)))


def measure_dropouts(waveform: npt.NDArray[np.float32]) -> float:
    """Returns the share of a segment that is torn out of it: frames of 20 ms of digital silence
    next to a loud frame, with the silence that follows, and loud frames with a quarter of zeros.

    Speech behind a noise gate is silent in its pauses, and fades in and out of them: that is no
    dropout.
    """
    num_whole = len(waveform) // FRAME_SAMPLES
    if num_whole == 0:
        return 0.0
    frames = waveform[: num_whole * FRAME_SAMPLES].reshape(num_whole, FRAME_SAMPLES)
    is_silent = frames.max(axis=1) == frames.min(axis=1)
    if is_silent.all():
        return 1.0
    power = np.einsum("ij,ij->i", frames, frames)
    is_loud = ~is_silent & (power > _LOUD_SHARE * np.quantile(power[~is_silent], 0.9))
    torn = int((is_loud & (np.mean(frames == 0, axis=1) > _TORN_SHARE)).sum())
    bounds = np.flatnonzero(np.diff(is_silent, prepend=False, append=False))
    for begin, end in zip(bounds[::2].tolist(), bounds[1::2].tolist(), strict=True):
        if (begin and is_loud[begin - 1]) or (end < num_whole and is_loud[end]):
            torn += end - begin
    return torn / num_whole


@cache
def _load_weighting() -> tuple[Any, npt.NDArray[np.float64]]:
    """Returns scipy's cascade of second-order sections, and the two of K-weighting."""
    try:
        from pyloudnorm import IIRfilter
        from scipy.signal import sosfilt
    except ImportError:
        raise MissingDependencyError("pyloudnorm", "prep", "measure loudness") from None
    shelf = IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, SAMPLE_RATE, "high_shelf")
    high_pass = IIRfilter(0.0, 0.5, 38.0, SAMPLE_RATE, "high_pass")
    return sosfilt, np.array([[*section.b, *section.a] for section in (shelf, high_pass)])


def _decibels(power: float) -> float | None:
    return 10 * math.log10(power) if power > 0 else None
