"""When each label of a text is said: the best CTC path through a window that spells given labels.

Takes log-probabilities and labels; `speechvq.deploy.words` makes words of the result. The
lattice is that of Graves et al. 2006, section 4.1, with the maximum in place of the sum (Viterbi).
torchaudio's kernel computes it where torchaudio is installed, `align_with_numpy` elsewhere; both
give the same path wherever the best path is the only one.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechvq.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelSpan:
    """One label and the frames that say it.

    Attributes:
        label: Its number in the vocabulary; never the blank.
        begin_frame: First frame.
        end_frame: The frame after the last.
        probability: Mean of the label's probability over its frames.
    """

    label: int
    begin_frame: int
    end_frame: int
    probability: float


def align_labels(log_probs: Tensor, labels: Sequence[int], *, blank_id: int = 0) -> Tensor:
    """Finds the most probable path that spells the labels.

    Args:
        log_probs: (T, N) float32 log-probabilities of one window.
        labels: L labels in order, without blanks.
        blank_id: The label that stands for nothing.

    Returns:
        (T,) long: the label of each frame.

    Raises:
        DataError: If there are fewer frames than the labels need.
    """
    num_needed = len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
    if num_needed > log_probs.size(0):
        raise DataError(
            f"The text needs at least {num_needed} frames, but the audio has {log_probs.size(0)}: "
            "it belongs to other audio, or to more of it."
        )
    log_probs = log_probs.detach().float().cpu()
    if not labels:
        return torch.full((log_probs.size(0),), blank_id, dtype=torch.long)
    try:
        from torchaudio.functional import forced_align
    except (ImportError, OSError):  # absent, without this function, or built for another torch
        return torch.from_numpy(align_with_numpy(log_probs.numpy(), labels, blank_id=blank_id))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each call says that torchaudio is to change
        path, _ = forced_align(
            log_probs[None], torch.tensor([list(labels)], dtype=torch.int32), blank=blank_id
        )
    aligned: Tensor = path[0].long()
    return aligned


def align_with_numpy(
    log_probs: NDArray[np.float32], labels: Sequence[int], *, blank_id: int = 0
) -> NDArray[np.int64]:
    """Finds the most probable path as `align_labels` does, with nothing but NumPy.

    Args:
        log_probs: (T, N).
        labels: L labels that T frames are enough for.
        blank_id: The label that stands for nothing.

    Returns:
        (T,): the label of each frame.
    """
    states = np.full(2 * len(labels) + 1, blank_id, dtype=np.int64)  # blanks between labels
    states[1::2] = labels
    may_skip = np.zeros(len(states), dtype=bool)  # a blank, unless it parts two equal labels
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    scores = np.full(len(states), -np.inf)
    scores[:2] = log_probs[0, states[:2]]
    steps = np.zeros((len(log_probs), len(states)), dtype=np.int8)
    for frame in range(1, len(log_probs)):
        choices = np.full((3, len(states)), -np.inf)
        choices[0] = scores
        choices[1, 1:] = scores[:-1]
        choices[2, 2:] = np.where(may_skip[2:], scores[:-2], -np.inf)
        steps[frame] = choices.argmax(axis=0)
        scores = choices.max(axis=0) + log_probs[frame, states]
    state = len(states) - 1 if scores[-1] > scores[-2] else len(states) - 2
    path = np.empty(len(log_probs), dtype=np.int64)
    for frame in range(len(log_probs) - 1, -1, -1):
        path[frame] = states[state]
        state -= steps[frame, state]
    return path


def find_spans(log_probs: Tensor, path: Tensor, *, blank_id: int = 0) -> list[LabelSpan]:
    """Returns the labels that a path spells, with their frames and probabilities.

    The path of greedy decoding, the best label of each frame, is the alignment of its own text:
    no path is more probable.

    Args:
        log_probs: (T, N) log-probabilities.
        path: (T,) long, the label of each frame.
        blank_id: The label that stands for nothing.
    """
    chosen = log_probs.gather(1, path[:, None].to(log_probs.device))[:, 0]  # (T,)
    probabilities = chosen.double().exp().cpu().numpy()
    labels = path.cpu().numpy()
    edges = np.flatnonzero(np.diff(labels)) + 1
    bounds = [0, *edges.tolist(), len(labels)] if len(labels) else [0]
    return [
        LabelSpan(int(labels[begin]), begin, end, float(probabilities[begin:end].mean()))
        for begin, end in itertools.pairwise(bounds)
        if labels[begin] != blank_id
    ]


def align_spans(log_probs: Tensor, labels: Sequence[int]) -> list[LabelSpan] | None:
    """Finds when the labels of a text that a search found are said.

    Args:
        log_probs: (T, N) natural log-probabilities.
        labels: As the vocabulary spells the text; the search may have spelled it shorter.

    Returns:
        The labels; None where they do not fit into the frames.
    """
    if not labels:
        return []
    try:
        return find_spans(log_probs, align_labels(log_probs, labels))
    except DataError:
        return None
