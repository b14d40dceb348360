"""Frames in which nothing can be heard: there a recogniser must say nothing, whatever it scores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.data.records import SAMPLE_RATE

SILENCE_DBFS = -60.0
"""Power below which audio is silence; speech that was recorded usably lies 20 dB above."""
BLOCK_SAMPLES = SAMPLE_RATE // 100
"""Samples over which power is measured."""
REACH_BLOCKS = 25
"""Silence counts from a quarter of a second away from any sound: pauses stay the model's."""
CERTAIN_LOGIT = -1e4
"""Of every label but the blank where it is silent."""


def find_silent_frames(
    waveform: NDArray[np.float32], num_frames: int, frame_samples: int
) -> NDArray[np.bool_]:
    """Returns which frames lie in silence, (T,).

    Args:
        waveform: (S,) at 16 kHz.
        num_frames: T.
        frame_samples: From one frame to the next.
    """
    num_blocks = -(-len(waveform) // BLOCK_SAMPLES)
    if num_blocks == 0:
        return np.ones(num_frames, dtype=bool)
    padded = np.pad(waveform, (0, num_blocks * BLOCK_SAMPLES - len(waveform)))
    blocks = padded.reshape(num_blocks, BLOCK_SAMPLES)
    loud = np.einsum("ij,ij->i", blocks, blocks) > BLOCK_SAMPLES * 10 ** (SILENCE_DBFS / 10)
    # How many loud blocks lie within reach of each block, by a running sum.
    sums = np.concatenate([[0], np.cumsum(loud)])
    position = np.arange(num_blocks)
    near = (
        sums[np.minimum(position + REACH_BLOCKS + 1, num_blocks)]
        - sums[np.maximum(position - REACH_BLOCKS, 0)]
    ) > 0
    middles = (np.arange(num_frames) * frame_samples + frame_samples // 2) // BLOCK_SAMPLES
    return np.asarray(~near[np.minimum(middles, num_blocks - 1)])


def blank_silence(logits: Tensor, silent: NDArray[np.bool_], *, blank_id: int = 0) -> Tensor:
    """Returns logits that say blank in silent frames, with certainty.

    Args:
        logits: (T, N).
        silent: (T,).
        blank_id: The label that stands for nothing.
    """
    if not silent.any():
        return logits
    certain = torch.full_like(logits[0], CERTAIN_LOGIT)
    certain[blank_id] = 0.0
    mask = torch.from_numpy(silent).to(logits.device)
    return torch.where(mask[:, None], certain, logits)
