"""Greedy CTC decoding: the best label of each frame, repeats merged, blanks removed.

Takes what `speechvq.models.ctc_model` returns and gives text to `speechvq.decoding.scoring`.
Graves et al. 2006, "Connectionist Temporal Classification", section 3.2 (best path decoding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class LabelDecoder(Protocol):
    """What greedy decoding needs of a vocabulary."""

    def decode(self, ids: Sequence[int], /) -> str:
        """Returns the text of labels."""
        ...


def decode_greedy(
    logits: Tensor, lengths: Tensor, vocabulary: LabelDecoder, *, blank_id: int = 0
) -> list[str]:
    """Returns the text of each row's best path.

    Args:
        logits: (B, T, N) scores of the labels; any monotone transform gives the same.
        lengths: (B,) valid frames; what follows them has no influence.
        vocabulary: Turns labels into text.
        blank_id: The label that stands for nothing.

    Returns:
        B texts; "" where every frame is blank.
    """
    return [vocabulary.decode(labels) for labels in decode_labels(logits, lengths, blank_id)]


def decode_best_path(log_probs: Tensor, vocabulary: LabelDecoder, *, blank_id: int = 0) -> str:
    """Returns the text of one utterance's best path.

    Args:
        log_probs: (T, N) scores of the labels.
        vocabulary: Turns labels into text.
        blank_id: The label that stands for nothing.
    """
    lengths = torch.tensor([len(log_probs)])
    return decode_greedy(log_probs[None], lengths, vocabulary, blank_id=blank_id)[0]


def decode_labels(logits: Tensor, lengths: Tensor, blank_id: int = 0) -> list[list[int]]:
    """Returns the labels of each row's best path, repeats merged and blanks removed.

    One pass over the whole batch, then one copy to the CPU.

    Args:
        logits: (B, T, N).
        lengths: (B,) valid frames.
        blank_id: The label that stands for nothing.
    """
    if logits.dim() != 3 or lengths.shape != logits.shape[:1]:
        raise ValueError(
            "`logits` must be (B, T, N) with `lengths` (B,), but their shapes are "
            f"{tuple(logits.shape)} and {tuple(lengths.shape)}."
        )
    best = logits.argmax(dim=-1)  # (B, T)
    keep = best != blank_id  # (B, T)
    keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    frames = torch.arange(best.size(1), device=best.device)
    keep &= frames < lengths.to(best.device)[:, None]
    labels = best[keep].tolist()  # row by row
    rows = []
    start = 0
    for count in keep.sum(dim=1).tolist():
        rows.append(labels[start : start + count])
        start += count
    return rows
