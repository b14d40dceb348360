"""CTC decoding by its definition: every alignment is written down. For searches to be held against,
by tests and by `docs/measure_beam_search.py`.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = tuple[int, ...]


def collapse(path: Sequence[int], separator_id: int | None) -> Labels:
    """The definition: merge repeats, drop blanks, then separators that separate nothing."""
    labels = [label for label, _ in itertools.groupby(path) if label != 0]
    if separator_id is None:
        return tuple(labels)
    words = [
        tuple(group)
        for is_separator, group in itertools.groupby(labels, lambda one: one == separator_id)
        if not is_separator
    ]
    joined: list[int] = []
    for word in words:
        joined += [*word, separator_id]
    return tuple(joined[:-1])


def sum_alignments(
    log_probs: NDArray[np.floating[Any]], separator_id: int | None
) -> dict[Labels, float]:
    """Log-probabilities of all texts that any of the N**T alignments reads as.

    Args:
        log_probs: (T, N) of labels, 0 the blank.
        separator_id: The label between words; None where there is none.
    """
    totals: dict[Labels, list[float]] = defaultdict(list)
    frames, num_labels = log_probs.shape
    for path in itertools.product(range(num_labels), repeat=frames):
        score = sum(log_probs[frame, label] for frame, label in enumerate(path))
        totals[collapse(path, separator_id)].append(score)
    return {labels: float(np.logaddexp.reduce(scores)) for labels, scores in totals.items()}


def search_exhaustively(
    log_probs: NDArray[np.floating[Any]],
    separator_id: int | None,
    score_text: Callable[[Labels], float],
) -> dict[Labels, float]:
    """Scores of all texts that a language model allows; see `sum_alignments`."""
    found = {
        labels: acoustic + score_text(labels)
        for labels, acoustic in sum_alignments(log_probs, separator_id).items()
    }
    return {labels: score for labels, score in found.items() if score > -math.inf}
