"""Beam search by flashlight-text, which has KenLM inside (`pip install "speechvq[lm]"`).

Lexicon-free, alone or with a model of characters; or with a lexicon and a model of words.
Alignments of one text are summed (`log_add`), as in `speechvq.decoding.prefix_beam`.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from speechvq.decoding.config import BeamSettings
from speechvq.decoding.contract import TextVocabulary
from speechvq.decoding.hypotheses import Hypothesis, merge_hypotheses
from speechvq.decoding.language_model import LanguageModel
from speechvq.decoding.ngram import UNKNOWN
from speechvq.decoding.search import FloatArray
from speechvq.errors import MissingDependencyError, ModelError

_LN10 = math.log(10.0)
_NEVER = -1e4
_MOST_LABELS = 200
"""Labels that are tried in each frame, the best ones."""


class FlashlightSearch:
    """flashlight-text's search.

    Args:
        vocabulary: The head's.
        separator_id: Its label between words; None where pieces hold the spaces.
        model: The language model; None for acoustics alone.
        lexicon: Labels of the words that may be written, for a model of words.

    Raises:
        MissingDependencyError: flashlight-text is not installed.
        ModelError: KenLM cannot read the model.
    """

    def __init__(
        self,
        vocabulary: TextVocabulary,
        *,
        separator_id: int | None,
        model: LanguageModel | None,
        lexicon: Mapping[str, Sequence[int]],
    ) -> None:
        try:
            from flashlight.lib.text import decoder
        except ImportError as error:
            raise MissingDependencyError(
                "flashlight", "lm", "search with `decoder=beam` (`decoder=reference` does without)"
            ) from error
        self._flashlight = decoder
        self._vocabulary = vocabulary
        self._num_labels = len(vocabulary.labels)
        self._has_separator = separator_id is not None
        # The search wants a label for silence between words. Pieces have none, so one is added
        # that never occurs.
        self._separator_id = self._num_labels if separator_id is None else separator_id
        self._words: list[str] | None = None
        self._trie: Any = None
        if model is None:
            self._lm: Any = decoder.ZeroLM()
        elif model.unit == "character":
            self._lm = _load_kenlm(model, vocabulary.labels)
        else:
            self._words = [*lexicon, UNKNOWN]
            self._lm = _load_kenlm(model, self._words)
            self._trie = self._create_trie(lexicon)

    def search(self, log_probs: FloatArray, settings: BeamSettings) -> list[Hypothesis]:
        """See `TextSearch.search`."""
        emissions = self._create_emissions(log_probs)
        search = self._create_decoder(settings, emissions.shape[1])
        results = search.decode(emissions.ctypes.data, *emissions.shape)
        found = (
            Hypothesis(
                text=self._read_text(result),
                score=float(result.score),
                language_score=self._compute_language_score(result, settings),
            )
            for result in results
        )
        return merge_hypotheses(found, settings.num_best)

    def _create_trie(self, lexicon: Mapping[str, Sequence[int]]) -> Any:
        trie = self._flashlight.Trie(self._num_labels + 1, self._separator_id)
        start = self._lm.start(False)
        for index, labels in enumerate(lexicon.values()):
            spelling = [*labels, self._separator_id] if self._has_separator else list(labels)
            trie.insert(spelling, index, self._lm.score(start, index)[1])
        trie.smear(self._flashlight.SmearingMode.MAX)
        return trie

    def _create_emissions(self, log_probs: FloatArray) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Returns (T', N') scores, C-contiguous.

        With a lexicon a word is complete at its separator, so one more frame holds nothing else.
        """
        num_frames, num_labels = log_probs.shape
        needs_end = self._trie is not None and self._has_separator
        emissions = np.full(
            (num_frames + needs_end, num_labels + (not self._has_separator)), _NEVER, np.float32
        )
        emissions[:num_frames, :num_labels] = np.maximum(log_probs, _NEVER)
        if needs_end:
            emissions[num_frames, self._separator_id] = 0.0
        return emissions

    def _create_decoder(self, settings: BeamSettings, num_labels: int) -> Any:
        limits = {
            "beam_size": settings.beam_size,
            "beam_size_token": min(num_labels, _MOST_LABELS),
            "beam_threshold": settings.beam_threshold,
            "lm_weight": settings.lm_weight * _LN10,
            "sil_score": 0.0,
            "log_add": True,
            "criterion_type": self._flashlight.CriterionType.CTC,
        }
        if self._words is None or self._trie is None:
            options = self._flashlight.LexiconFreeDecoderOptions(**limits)
            return self._flashlight.LexiconFreeDecoder(options, self._lm, self._separator_id, 0, [])
        options = self._flashlight.LexiconDecoderOptions(
            **limits, word_score=settings.word_score, unk_score=-math.inf
        )
        unknown = len(self._words) - 1
        return self._flashlight.LexiconDecoder(
            options, self._trie, self._lm, self._separator_id, 0, unknown, [], False
        )

    def _read_text(self, result: Any) -> str:
        if self._words is not None:
            return " ".join(self._words[index] for index in result.words if index >= 0)
        labels: list[int] = []
        last = -1
        for label in result.tokens:
            if label not in (last, 0, -1) and label < self._num_labels:
                labels.append(label)
            last = label
        return self._vocabulary.decode(labels)

    def _compute_language_score(self, result: Any, settings: BeamSettings) -> float:
        score = settings.lm_weight * _LN10 * float(result.lmScore)
        if self._words is not None:
            score += settings.word_score * sum(index >= 0 for index in result.words)
        return score


def _load_kenlm(model: LanguageModel, tokens: Sequence[str]) -> Any:
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    try:
        with _silence_standard_error():
            return KenLM(str(model.fastest_file), Dictionary(list(tokens)))
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise ModelError(
            f"{model.fastest_file} cannot be read by KenLM: {last} Train the language model again."
        ) from error


@contextlib.contextmanager
def _silence_standard_error() -> Iterator[None]:
    """KenLM draws a progress bar there, which nothing switches off."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
