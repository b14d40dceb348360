"""Where speech is: Silero's voice activity detector, run on many clips at once.

Silero reads 32 ms at a time and carries a state, which is slow one clip at a time (70 x real time
on one core) and fast for a batch (500 x). So clips are cut into blocks of 30 s that begin with 1 s
of warm-up, and blocks of like length run side by side. The model is a file inside the `silero-vad`
wheel; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from speechvq.data.records import SAMPLE_RATE
from speechvq.errors import MissingDependencyError

WINDOW_SAMPLES = 512
"""32 ms: one probability per window."""
WINDOW_SECONDS = WINDOW_SAMPLES / SAMPLE_RATE
_BLOCK_WINDOWS = 938  # 30 s
_WARM_UP_WINDOWS = 31  # 1 s
_BATCH_SIZE = 32

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


@dataclass(frozen=True, slots=True)
class _Block:
    clip: int
    begin: int  # in windows, warm-up included
    warm_up: int
    end: int


def compute_speech_probabilities(
    waveforms: Sequence[Samples],
) -> list[Probabilities]:
    """Computes how likely each window of 32 ms is speech.

    Args:
        waveforms: float32 (S,) each, 16 kHz.

    Returns:
        One array (ceil(S / 512),) a waveform.

    Raises:
        MissingDependencyError: If `silero-vad` is not installed.
    """
    counts = [-(-len(waveform) // WINDOW_SAMPLES) for waveform in waveforms]
    results = [np.zeros(count, dtype=np.float32) for count in counts]
    blocks = sorted(
        _split_blocks(counts), key=lambda block: (block.begin - block.end, block.clip, block.begin)
    )
    for first in range(0, len(blocks), _BATCH_SIZE):
        batch = blocks[first : first + _BATCH_SIZE]
        probabilities = _run_detector(
            np.stack([_cut(waveforms[b.clip], b, batch[0]) for b in batch])
        )
        for row, block in zip(probabilities, batch, strict=True):
            kept = block.begin + block.warm_up
            results[block.clip][kept : block.end] = row[block.warm_up : block.end - block.begin]
    return results


def compute_speech_ratio(probabilities: Probabilities, threshold: float) -> float | None:
    """Returns the share of windows that reach the threshold; None without windows."""
    return float(np.mean(probabilities >= threshold)) if len(probabilities) else None


def find_samples_near_speech(
    probabilities: Probabilities, num_samples: int, threshold: float
) -> npt.NDArray[np.bool_]:
    """Returns which samples lie within about 0.1 s of speech, bool (S,)."""
    speech = np.convolve(probabilities >= threshold, np.ones(7), "same") > 0
    return np.repeat(speech, WINDOW_SAMPLES)[:num_samples]


def _split_blocks(counts: Sequence[int]) -> Iterator[_Block]:
    for clip, count in enumerate(counts):
        for start in range(0, count, _BLOCK_WINDOWS):
            warm_up = min(start, _WARM_UP_WINDOWS)
            yield _Block(clip, start - warm_up, warm_up, min(start + _BLOCK_WINDOWS, count))


def _cut(waveform: Samples, block: _Block, longest: _Block) -> npt.NDArray[np.float32]:
    piece = waveform[block.begin * WINDOW_SAMPLES : block.end * WINDOW_SAMPLES]
    return np.pad(piece, (0, (longest.end - longest.begin) * WINDOW_SAMPLES - len(piece)))


def _run_detector(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Runs the model over (B, W * 512) samples; returns (B, W)."""
    import torch

    model = _load_detector()
    with torch.inference_mode():
        model.reset_states()
        windows = torch.from_numpy(batch).split(WINDOW_SAMPLES, dim=1)
        outputs = [model(window.contiguous(), SAMPLE_RATE) for window in windows]  # W x (B, 1)
        return np.asarray(torch.cat(outputs, dim=1).numpy(), dtype=np.float32)


@cache
def _load_detector() -> Any:
    try:
        from silero_vad import load_silero_vad
    except ImportError:
        raise MissingDependencyError("silero_vad", "prep", "find speech in recordings") from None
    return load_silero_vad(onnx=False)
