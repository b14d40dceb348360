"""CTC prefix beam search in plain NumPy and Python: the reference, and what runs everywhere.

A text's probability is the sum over all alignments that read as it (Graves et al. 2006, section
3.2; the search is Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition
using Bi-Directional Recurrent DNNs", algorithm 1, in the logarithm). Without a limit on the beam
the n-best and their scores are exact; with one, scores are lower bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

IMPOSSIBLE = -math.inf


class PrefixScorer(Protocol):
    """Scores a text while it grows label by label; natural logarithms, already weighted."""

    def start(self) -> Any:
        """Returns the state of the empty text."""

    def extend(self, state: Any, label: int) -> tuple[Any, float]:
        """Returns the state after one more label, and what the label adds to the score.

        `-inf` forbids the label there.
        """

    def finish(self, state: Any) -> float:
        """Returns what ending the text here adds to the score."""


@dataclass(frozen=True, kw_only=True)
class LabelHypothesis:
    """Labels that a search found.

    Attributes:
        labels: Without blanks; repeats merged; no separators at the ends or next to each other.
        score: Acoustic and language score together, natural logarithm.
        language_score: What the scorer gave.
    """

    labels: tuple[int, ...]
    score: float
    language_score: float


class _Prefix:
    """Labels so far, and the probability of the alignments that end in blank or in a label."""

    __slots__ = ("blank", "label", "labels", "language", "parent", "state")

    def __init__(
        self, labels: tuple[int, ...], state: Any, language: float, parent: _Prefix | None
    ) -> None:
        self.labels = labels
        self.state = state
        self.language = language
        self.parent = parent
        self.blank = self.label = IMPOSSIBLE

    @property
    def acoustic(self) -> float:
        return _add(self.blank, self.label)


def search_prefixes(
    log_probs: NDArray[np.floating[Any]],
    *,
    scorer: PrefixScorer | None = None,
    beam_size: int | None = None,
    beam_threshold: float = math.inf,
    num_best: int | None = None,
    blank_id: int = 0,
    separator_id: int | None = None,
) -> list[LabelHypothesis]:
    """Finds the label sequences with the best scores.

    Args:
        log_probs: (T, N) natural log-probabilities of labels.
        scorer: The language model; None for acoustics alone.
        beam_size: Prefixes kept after each frame; None for all, which is exact and exponential.
        beam_threshold: Labels of a frame this much below its best one are passed over, and so
            are prefixes this much below the best.
        num_best: Hypotheses to return; None for all that are left.
        blank_id: The label that stands for nothing.
        separator_id: The label between words: at the ends, or after another one, it changes
            nothing. None where there is none.

    Returns:
        Hypotheses, best first; equal scores in the order of their labels. Never empty, unless the
        scorer forbids every text.
    """
    root = _Prefix((), None if scorer is None else scorer.start(), 0.0, None)
    root.blank = 0.0
    beam = [root]
    for frame in np.asarray(log_probs, dtype=np.float64):
        beam = _advance(beam, frame, scorer, blank_id, separator_id, beam_threshold)
        beam = _prune(beam, beam_size, beam_threshold)
    found = _finish(beam, scorer, separator_id)
    found.sort(key=lambda one: (-one.score, one.labels))
    return found[:num_best]


def _advance(
    beam: Sequence[_Prefix],
    frame: NDArray[np.float64],
    scorer: PrefixScorer | None,
    blank_id: int,
    separator_id: int | None,
    threshold: float,
) -> list[_Prefix]:
    """Returns all prefixes after one more frame."""
    after: dict[tuple[int, ...], _Prefix] = {}

    def get(labels: tuple[int, ...], before: _Prefix) -> _Prefix:
        if labels not in after:
            after[labels] = _Prefix(labels, before.state, before.language, before.parent)
        return after[labels]

    lowest = float(frame.max()) - threshold
    scores = frame.tolist()
    labels = [int(label) for label in np.flatnonzero(frame >= lowest) if label != blank_id]
    extended: dict[tuple[int, ...], _Prefix | None] = {}
    for prefix in beam:
        acoustic = prefix.acoustic
        stay = get(prefix.labels, prefix)
        stay.blank = _add(stay.blank, acoustic + scores[blank_id])
        last = prefix.labels[-1] if prefix.labels else separator_id
        for label in labels:
            before = acoustic
            if label == last:
                repeated = acoustic if label == separator_id else prefix.label
                stay.label = _add(stay.label, repeated + scores[label])
                before = IMPOSSIBLE if label == separator_id else prefix.blank
            if before == IMPOSSIBLE:
                continue
            longer = (*prefix.labels, label)
            if longer not in extended:
                extended[longer] = _extend(prefix, label, scorer)
            template = extended[longer]
            if template is not None:
                grown = get(longer, template)
                grown.label = _add(grown.label, before + scores[label])
    return list(after.values())


def _extend(prefix: _Prefix, label: int, scorer: PrefixScorer | None) -> _Prefix | None:
    labels = (*prefix.labels, label)
    if scorer is None:
        return _Prefix(labels, None, 0.0, prefix)
    state, added = scorer.extend(prefix.state, label)
    if added == IMPOSSIBLE:
        return None
    return _Prefix(labels, state, prefix.language + added, prefix)


def _prune(beam: list[_Prefix], beam_size: int | None, threshold: float) -> list[_Prefix]:
    if threshold == math.inf and (beam_size is None or len(beam) <= beam_size):
        return beam
    scored = sorted(
        ((prefix.acoustic + prefix.language, prefix) for prefix in beam),
        key=lambda item: (-item[0], item[1].labels),
    )
    lowest = scored[0][0] - threshold
    return [prefix for score, prefix in scored[:beam_size] if score >= lowest]


def _finish(
    beam: Sequence[_Prefix], scorer: PrefixScorer | None, separator_id: int | None
) -> list[LabelHypothesis]:
    """Ends every text; a separator at its end is left out."""
    ended: dict[tuple[int, ...], tuple[_Prefix, float]] = {}
    for prefix in beam:
        acoustic = prefix.acoustic
        if prefix.labels and prefix.labels[-1] == separator_id and prefix.parent is not None:
            prefix = prefix.parent
        _, before = ended.get(prefix.labels, (prefix, IMPOSSIBLE))
        ended[prefix.labels] = (prefix, _add(before, acoustic))
    found = []
    for prefix, acoustic in ended.values():
        language = prefix.language + (0.0 if scorer is None else scorer.finish(prefix.state))
        if acoustic + language > IMPOSSIBLE:
            found.append(
                LabelHypothesis(
                    labels=prefix.labels, score=acoustic + language, language_score=language
                )
            )
    return found


def _add(left: float, right: float) -> float:
    """Returns log(exp(left) + exp(right)); exact for `-inf`."""
    if left < right:
        left, right = right, left
    return left if right == IMPOSSIBLE else left + math.log1p(math.exp(right - left))
