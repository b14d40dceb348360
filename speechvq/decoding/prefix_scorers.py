"""Language models for `speechvq.decoding.prefix_beam`: over labels, or over words.

Scores are `lm_weight` × natural log-probability, and for words `word_score` for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from speechvq.decoding.ngram import END, Ngram, NgramModel
from speechvq.decoding.prefix_beam import IMPOSSIBLE

WordState = tuple[Ngram, tuple[int, ...]]


class LabelScorer:
    """A model over labels, the separator between words among them.

    Args:
        model: The model.
        labels: By id; what the model does not know gets its unknown token's probability.
        lm_weight: Factor of log-probabilities.
    """

    def __init__(self, model: NgramModel, labels: Sequence[str], *, lm_weight: float) -> None:
        self._model = model
        self._labels = labels
        self._weight = lm_weight

    def start(self) -> Ngram:
        """See `PrefixScorer.start`."""
        return self._model.start()

    def extend(self, state: Ngram, label: int) -> tuple[Ngram, float]:
        """See `PrefixScorer.extend`."""
        history, score = self._model.score(state, self._labels[label])
        return history, self._weight * score

    def finish(self, state: Ngram) -> float:
        """See `PrefixScorer.finish`."""
        return self._weight * self._model.score(state, END)[1]


class WordScorer:
    """A model over words, each scored when it is complete.

    Args:
        model: The model; None for a lexicon alone.
        labels: By id.
        separator_id: The label between words.
        lm_weight: Factor of log-probabilities.
        word_score: Added for each word.
        lexicon: Labels of each word that may be written; None for any word. Words that the model
            does not know get its unknown token's probability.
    """

    def __init__(
        self,
        model: NgramModel | None,
        labels: Sequence[str],
        separator_id: int,
        *,
        lm_weight: float,
        word_score: float,
        lexicon: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._model = model
        self._labels = labels
        self._separator = separator_id
        self._weight = lm_weight
        self._word_score = word_score
        self._words = None if lexicon is None else {tuple(ids): w for w, ids in lexicon.items()}
        self._beginnings = None if lexicon is None else _list_beginnings(lexicon.values())

    def start(self) -> WordState:
        """See `PrefixScorer.start`."""
        return (() if self._model is None else self._model.start()), ()

    def extend(self, state: WordState, label: int) -> tuple[WordState, float]:
        """See `PrefixScorer.extend`."""
        history, letters = state
        if label != self._separator:
            letters = (*letters, label)
            is_allowed = self._beginnings is None or letters in self._beginnings
            return (history, letters), 0.0 if is_allowed else IMPOSSIBLE
        history, score = self._score_word(history, letters)
        return (history, ()), score

    def finish(self, state: WordState) -> float:
        """See `PrefixScorer.finish`."""
        history, letters = state
        total = 0.0
        if letters:
            history, total = self._score_word(history, letters)
        if self._model is not None and total > IMPOSSIBLE:
            total += self._weight * self._model.score(history, END)[1]
        return total

    def _score_word(self, history: Ngram, letters: tuple[int, ...]) -> tuple[Ngram, float]:
        if self._words is None:
            word: str | None = "".join(self._labels[letter] for letter in letters)
        else:
            word = self._words.get(letters)
        if word is None:
            return history, IMPOSSIBLE
        if self._model is None:
            return history, self._word_score
        history, score = self._model.score(history, word)
        return history, self._word_score + self._weight * score


def _list_beginnings(spellings: Iterable[Sequence[int]]) -> set[tuple[int, ...]]:
    return {tuple(ids[:end]) for ids in spellings for end in range(1, len(ids) + 1)}
