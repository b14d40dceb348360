"""Words with times and confidences, out of labels with times.

A word's confidence is the product of its labels' probabilities: what the model itself holds for
the chance that all of them are right, were they independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from speechvq.models.vocabulary import WORD_SEPARATOR, Vocabulary

_PIECE_BEGIN = "\u2581"


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word.

    Attributes:
        text: The word.
        begin_seconds: From the begin of the recording.
        end_seconds: From the begin of the recording.
        confidence: Within 0 to 1.
    """

    text: str
    begin_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True, slots=True)
class TimedLabel:
    """A recognised label.

    Attributes:
        label: Its number in the vocabulary.
        begin_seconds: From the begin of the recording.
        end_seconds: From the begin of the recording.
        probability: Within 0 to 1.
    """

    label: int
    begin_seconds: float
    end_seconds: float
    probability: float

    @property
    def middle_seconds(self) -> float:
        """Half-way from begin to end."""
        return (self.begin_seconds + self.end_seconds) / 2


class WordBuilder:
    """Makes words of labels that come in order.

    Args:
        vocabulary: Whose labels they are.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._labels: list[TimedLabel] = []

    def add(self, labels: Iterable[TimedLabel]) -> list[Word]:
        """Returns the words that these labels complete."""
        words = []
        for label in labels:
            text = self._vocabulary.labels[label.label]
            if text == WORD_SEPARATOR or text.startswith(_PIECE_BEGIN):
                words += self.flush()
            if text != WORD_SEPARATOR:
                self._labels.append(label)
        return words

    def flush(self) -> list[Word]:
        """Returns the word that was begun, if any, and begins anew."""
        labels, self._labels = self._labels, []
        text = self._vocabulary.decode([label.label for label in labels])
        if not text:
            return []
        confidence = math.prod(label.probability for label in labels)
        return [Word(text, labels[0].begin_seconds, labels[-1].end_seconds, min(1.0, confidence))]


def group_by_word(labels: Sequence[TimedLabel], vocabulary: Vocabulary) -> list[list[TimedLabel]]:
    """Returns the labels of each word; separators are left out."""
    groups: list[list[TimedLabel]] = [[]]
    for label in labels:
        text = vocabulary.labels[label.label]
        if text == WORD_SEPARATOR or text.startswith(_PIECE_BEGIN):
            groups.append([])
        if text != WORD_SEPARATOR:
            groups[-1].append(label)
    return [group for group in groups if group]
