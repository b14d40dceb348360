"""Which frames are hidden, and which frames serve as their distractors (wav2vec 2.0, sections 3.1
and 3.2).

Pure functions of a numpy generator, called where batches are made, so that a mask depends on (seed,
step, utterance) alone and never on the device or the number of ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def compute_span_mask(
    num_frames: int, *, prob: float, length: int, min_spans: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draws spans of masked frames; spans may overlap and never leave the utterance.

    `prob` is wav2vec 2.0's: the share of frames that would be masked if no spans overlapped (0.65
    with length 10 masks about half of a long utterance).

    Args:
        num_frames: T, valid frames of the utterance.
        prob: Expected number of span starts times `length` divided by T.
        length: Frames of a span; at most T - 1 are used, so that a short utterance keeps some
            context.
        min_spans: Smallest number of spans.
        rng: Source of randomness.

    Returns:
        (T,) bool, True = masked. Nothing is masked in an utterance of fewer than two frames.
    """
    mask = np.zeros(max(num_frames, 0), dtype=np.bool_)
    if num_frames < 2 or length < 1:
        return mask
    length = min(length, num_frames - 1)
    num_starts = num_frames - length + 1
    # The random part makes the expected number of spans exact (fairseq's "probabilistic rounding").
    num_spans = max(min_spans, int(prob * num_frames / length + rng.random()))
    starts = rng.choice(num_starts, size=min(num_spans, num_starts), replace=False)
    mask[starts[:, None] + np.arange(length)] = True
    return mask


def sample_distractors(
    num_masked: int, num_distractors: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draws distractors uniformly among the other masked frames of the same utterance, with
    replacement.

    Args:
        num_masked: M, masked frames of the utterance.
        num_distractors: K.
        rng: Source of randomness.

    Returns:
        (M, K) int64, indices into the utterance's own masked frames, never the frame itself. With
        one masked frame there is nothing to draw from: the result is zeros, and the loss leaves the
        utterance out.
    """
    if num_masked < 2:
        return np.zeros((max(num_masked, 0), num_distractors), dtype=np.int64)
    drawn = rng.integers(0, num_masked - 1, size=(num_masked, num_distractors))  # (M, K)
    return drawn + (drawn >= np.arange(num_masked)[:, None])
