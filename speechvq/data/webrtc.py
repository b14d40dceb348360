"""WebRTC's voice activity detector with the settings of IndicWav2Vec's preparation, the light
choice.

Frames of 30 ms, mode 2; speech begins where 90 % of the last 300 ms are voiced, with those 300 ms,
and ends where 90 % of the last 300 ms are not (the collector of py-webrtcvad's example, as
IndicWav2Vec's `vad.py` uses it). Two faults of theirs are mended: the last frame counts, and a
segment that is open at the end is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from speechvq.data.audio import to_pcm
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.vad import WINDOW_SAMPLES, Probabilities, Samples
from speechvq.errors import MissingDependencyError

FRAME_SAMPLES = 30 * SAMPLE_RATE // 1000
_MODE = 2
_RING_FRAMES = 10  # 300 ms
_SHARE = 0.9
_BLOCK_FRAMES = 2000


def compute_webrtc_probabilities(samples: Samples) -> Probabilities:
    """Returns the share of each window of 32 ms that lies in speech, float32 (ceil(S / 512),).

    Args:
        samples: float32 (S,), 16 kHz.

    Raises:
        MissingDependencyError: If `webrtcvad-wheels` is not installed.
    """
    num_windows = -(-len(samples) // WINDOW_SAMPLES)
    speech = np.zeros(num_windows * WINDOW_SAMPLES, np.bool_)
    for begin, end in collect_speech(find_voiced_frames(samples)):
        speech[begin * FRAME_SAMPLES : min(end * FRAME_SAMPLES, len(samples))] = True
    return np.asarray(speech.reshape(num_windows, WINDOW_SAMPLES).mean(axis=1, dtype=np.float32))


def find_voiced_frames(samples: Samples) -> npt.NDArray[np.bool_]:
    """Returns WebRTC's decision for each frame of 30 ms; the last one is filled up with zeros."""
    detector = _create_detector()
    num_frames = -(-len(samples) // FRAME_SAMPLES)
    voiced = np.zeros(num_frames, np.bool_)
    for first in range(0, num_frames, _BLOCK_FRAMES):
        last = min(first + _BLOCK_FRAMES, num_frames)
        block = to_pcm(samples[first * FRAME_SAMPLES : last * FRAME_SAMPLES])
        data = np.pad(block, (0, (last - first) * FRAME_SAMPLES - len(block))).tobytes()
        for frame in range(last - first):
            piece = data[2 * FRAME_SAMPLES * frame : 2 * FRAME_SAMPLES * (frame + 1)]
            voiced[first + frame] = detector.is_speech(piece, SAMPLE_RATE)
    return voiced


def collect_speech(voiced: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yields stretches of speech as frames (begin, end).

    Args:
        voiced: Decision for each frame, bool (F,).
    """
    totals = [0, *np.cumsum(voiced).tolist()]
    begin, ring_begin, limit = -1, 0, _SHARE * _RING_FRAMES
    for end in range(1, len(totals)):
        first = max(ring_begin, end - _RING_FRAMES)
        num_voiced = totals[end] - totals[first]
        if begin < 0 and num_voiced > limit:
            begin, ring_begin = first, end
        elif begin >= 0 and end - first - num_voiced > limit:
            yield begin, end
            begin, ring_begin = -1, end
    if begin >= 0:
        yield begin, len(voiced)


def _create_detector() -> Any:
    try:
        import webrtcvad
    except ImportError:
        raise MissingDependencyError("webrtcvad", "prep", "find speech with `webrtc`") from None
    return webrtcvad.Vad(_MODE)
