"""Recall of each label, and the share of labels of an alphabet: pure functions of label rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechvq.decoding.alignment import Unit, align
from speechvq.models.vocabulary import BLANK, UNKNOWN, WORD_SEPARATOR

IntArray = NDArray[np.int64]


def count_hits(reference: Sequence[int], hypothesis: Sequence[int], num_labels: int) -> IntArray:
    """How often each label of a reference was recognised, by a best alignment.

    Args:
        reference: Labels that were said.
        hypothesis: Labels that were recognised.
        num_labels: N.

    Returns:
        (N,) hits.
    """
    hits = np.zeros(num_labels, dtype=np.int64)
    if not reference or not hypothesis:
        return hits
    first, second = (" ".join(map(str, labels)) for labels in (reference, hypothesis))
    for said, heard in align(first, second, Unit.WORD):
        if said is not None and said == heard:
            hits[int(said)] += 1
    return hits


@dataclass(frozen=True, kw_only=True)
class RecallCounts:
    """One utterance's hits of a concept's labels and of all others, before and after an ablation.

    Attributes:
        own_before: Of the concept's labels.
        own_after: The same with codes taken out.
        own_total: Of the reference.
        other_before: Of all other letters.
        other_after: The same with codes taken out.
        other_total: Of the reference.
    """

    own_before: int
    own_after: int
    own_total: int
    other_before: int
    other_after: int
    other_total: int


def count_recall(
    before: IntArray, after: IntArray, totals: IntArray, *, own: Collection[int], letters: IntArray
) -> RecallCounts:
    """Sums hits of a concept and of the rest.

    Args:
        before: (N,) hits of `count_hits` without an edit.
        after: (N,) hits with one.
        totals: (N,) how often each label is in the reference.
        own: Labels of the concept.
        letters: Labels that count at all, neither blank nor word separator.
    """
    mine = np.array(sorted(own), dtype=np.int64)
    rest = np.setdiff1d(letters, mine)
    return RecallCounts(
        own_before=int(before[mine].sum()),
        own_after=int(after[mine].sum()),
        own_total=int(totals[mine].sum()),
        other_before=int(before[rest].sum()),
        other_after=int(after[rest].sum()),
        other_total=int(totals[rest].sum()),
    )


def find_letters(labels: Sequence[str]) -> IntArray:
    """Numbers of the labels that write something."""
    silent = (BLANK, UNKNOWN, WORD_SEPARATOR, "\u2581")
    return np.array([n for n, label in enumerate(labels) if label not in silent], dtype=np.int64)


def find_alphabet(texts: Sequence[str]) -> frozenset[str]:
    """Characters of some normalised texts, without spaces."""
    return frozenset(character for text in texts for character in text if not character.isspace())


def find_own_labels(
    labels: Sequence[str], alphabet: Collection[str], others: Collection[str]
) -> frozenset[int]:
    """Labels that only one language writes.

    Args:
        labels: Of a head.
        alphabet: Characters of the language.
        others: Characters of the language that it is to be told from.
    """
    own = set(alphabet) - set(others)
    letters = find_letters(labels).tolist()
    return frozenset(
        number for number in letters if set(labels[number].replace("\u2581", "")) & own
    )


def count_own(
    hypothesis: Sequence[int], own: Collection[int], letters: IntArray
) -> tuple[int, int]:
    """Labels of a hypothesis that are of an alphabet, and all that write something."""
    known = set(letters.tolist())
    return sum(one in own for one in hypothesis), sum(one in known for one in hypothesis)
