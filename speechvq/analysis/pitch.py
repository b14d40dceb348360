"""The pitch of voices, to compare languages between voices alike."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from speechvq.analysis.code_counts import CodeCounts
from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE

LOW_BELOW_HERTZ = 165.0
"""Between the means of men and women, about 120 and 210 Hz (Traunmüller & Eriksson 1995)."""
_LOWEST_HERTZ, _HIGHEST_HERTZ = 60, 400
_HOP_SAMPLES = 160
_MIN_SECONDS, _MAX_SECONDS = 0.5, 4.0


def can_measure_pitch() -> bool:
    """Whether torchaudio is installed (with the extra `train`)."""
    return find_spec("torchaudio") is not None


def measure_pitch(waveform: Waveform) -> float:
    """Returns the median pitch of the louder half of an utterance, Hz; NaN below half a second.

    Args:
        waveform: float32 (S,), 16 kHz; the first four seconds are taken.
    """
    from torchaudio.functional import detect_pitch_frequency

    if len(waveform) < _MIN_SECONDS * SAMPLE_RATE:
        return float("nan")
    samples = torch.from_numpy(waveform[: round(_MAX_SECONDS * SAMPLE_RATE)])
    pitch = detect_pitch_frequency(
        samples[None],
        SAMPLE_RATE,
        frame_time=_HOP_SAMPLES / SAMPLE_RATE,
        freq_low=_LOWEST_HERTZ,
        freq_high=_HIGHEST_HERTZ,
    )[0]
    # Smoothing drops the last frames, so that there are fewer than the samples have hops.
    power = samples[: _HOP_SAMPLES * len(pitch)].view(len(pitch), _HOP_SAMPLES).square().mean(1)
    return float(pitch[power >= power.median()].median())


def group_by_pitch(counts: CodeCounts, pitch: Mapping[str, float]) -> NDArray[np.str_]:
    """Calls voices low or high: each speaker's by the median of the utterances, an utterance's own
    where its speaker is not known.

    Args:
        counts: The table.
        pitch: Hz by utterance; NaN or missing where it is not known.

    Returns:
        (U,) "low", "high" or "".
    """
    hertz = np.array([pitch.get(name, np.nan) for name in counts.utterances.tolist()])
    return name_voices(hertz, np.where(counts.speakers == "", counts.utterances, counts.speakers))


def name_voices(hertz: NDArray[np.float64], speakers: NDArray[np.str_]) -> NDArray[np.str_]:
    """Calls voices low or high by the median of each speaker's utterances.

    Args:
        hertz: (U,) pitch of utterances; NaN where it is not known.
        speakers: (U,) who spoke them.

    Returns:
        (U,) "low", "high" or "".
    """
    found, owners = np.unique(speakers, return_inverse=True)
    names = np.full(len(found), "", dtype="U4")
    known = np.flatnonzero(np.isfinite(hertz))
    known = known[np.argsort(owners[known], kind="stable")]
    first = np.unique(owners[known], return_index=True)[1]
    for own in np.split(known, first[1:]) if len(known) else ():
        low = np.median(hertz[own]) < LOW_BELOW_HERTZ
        names[owners[own[0]]] = "low" if low else "high"
    return np.asarray(names[owners])
