"""Beam search from log-probabilities to n-best texts, by flashlight-text or by our reference.

`speechvq.deploy.text_decoder` puts a vocabulary, a language model and a lexicon together, checked
against each other, and feeds the search. Weights come with each call, so that tuning builds nothing
anew. Scores are natural logarithms throughout; published weights for flashlight are for
log10: theirs are ours × 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speechvq.decoding.config import BeamSettings
from speechvq.decoding.contract import TextVocabulary
from speechvq.decoding.hypotheses import Hypothesis, merge_hypotheses
from speechvq.decoding.language_model import LanguageModel
from speechvq.decoding.ngram import NgramModel
from speechvq.decoding.prefix_beam import PrefixScorer, search_prefixes
from speechvq.decoding.prefix_scorers import LabelScorer, WordScorer
from speechvq.errors import ModelError

FloatArray = NDArray[np.floating[Any]]


class TextSearch(Protocol):
    """Finds the best texts for one utterance."""

    def search(self, log_probs: FloatArray, settings: BeamSettings) -> list[Hypothesis]:
        """Returns at most `settings.num_best` texts, best first.

        Args:
            log_probs: (T, N) natural log-probabilities of labels.
            settings: Weights and limits.
        """


class ReferenceSearch:
    """The search of `speechvq.decoding.prefix_beam`: needs no package, and is slow.

    Args:
        vocabulary: The head's.
        separator_id: Its label between words; None where pieces hold the spaces.
        model: The language model; None for acoustics alone.
        lexicon: Labels of the words that may be written; empty for any.

    Raises:
        ModelError: A model of words with a vocabulary of pieces.
    """

    def __init__(
        self,
        vocabulary: TextVocabulary,
        *,
        separator_id: int | None,
        model: LanguageModel | None,
        lexicon: Mapping[str, Sequence[int]],
    ) -> None:
        if model is not None and separator_id is None:
            raise ModelError(
                "`decoder=reference` takes a language model only with a vocabulary of characters, "
                "but the recogniser's has pieces of words: use `decoder=beam`."
            )
        self._vocabulary = vocabulary
        self._separator_id = separator_id
        self._unit = None if model is None else model.unit
        self._ngrams: NgramModel | None = None if model is None else model.read_ngrams()
        self._lexicon = dict(lexicon) or None

    def search(self, log_probs: FloatArray, settings: BeamSettings) -> list[Hypothesis]:
        """See `TextSearch.search`."""
        found = search_prefixes(
            log_probs,
            scorer=self._create_scorer(settings),
            beam_size=settings.beam_size,
            beam_threshold=settings.beam_threshold,
            separator_id=self._separator_id,
        )
        texts = (
            Hypothesis(
                text=self._vocabulary.decode(one.labels),
                score=one.score,
                language_score=one.language_score,
            )
            for one in found
        )
        return merge_hypotheses(texts, settings.num_best)

    def _create_scorer(self, settings: BeamSettings) -> PrefixScorer | None:
        labels = self._vocabulary.labels
        if self._ngrams is None:
            return None
        if self._unit == "character" or self._separator_id is None:
            return LabelScorer(self._ngrams, labels, lm_weight=settings.lm_weight)
        return WordScorer(
            self._ngrams,
            labels,
            self._separator_id,
            lm_weight=settings.lm_weight,
            word_score=settings.word_score,
            lexicon=self._lexicon,
        )
