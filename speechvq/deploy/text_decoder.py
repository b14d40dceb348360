"""Beam search for one head of a recogniser: vocabulary, language model and weights together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from speechvq.decoding.config import BeamSettings
from speechvq.decoding.contract import compare_with_vocabulary
from speechvq.decoding.greedy import decode_best_path
from speechvq.decoding.hypotheses import EMPTY, Hypothesis
from speechvq.decoding.language_model import LanguageModel, load_language_model
from speechvq.decoding.search import FloatArray, ReferenceSearch, TextSearch
from speechvq.deploy.decoding_weights import read_tuned_settings
from speechvq.errors import ModelError
from speechvq.models.vocabulary import WORD_SEPARATOR, CharacterVocabulary, Vocabulary


class TextDecoder:
    """Turns a head's scores into n-best texts.

    Where the best path is all blank the text is empty: what the acoustics do not hear, a language
    model must not make up.

    Args:
        vocabulary: The head's.
        search: Finds the texts.
        settings: Weights and limits.
        model: The language model in it; None for acoustics alone.
        is_tuned: Whether the weights were tuned for it.
        remarks: Sentences about what cannot be written.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        search: TextSearch,
        settings: BeamSettings,
        *,
        model: LanguageModel | None = None,
        is_tuned: bool = False,
        remarks: list[str] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.settings = settings
        self.model = model
        self.is_tuned = is_tuned
        self.remarks = list(remarks or [])
        self._search = search

    def decode(self, log_probs: Tensor, settings: BeamSettings | None = None) -> list[Hypothesis]:
        """Returns the n-best of one utterance, best first, at least one.

        Args:
            log_probs: (T, N) natural log-probabilities, on the CPU.
            settings: Other weights than the decoder's own.
        """
        greedy = decode_best_path(log_probs, self.vocabulary)
        return self.decode_row(log_probs.numpy(), greedy, settings)

    def decode_row(
        self, log_probs: FloatArray, greedy: str, settings: BeamSettings | None = None
    ) -> list[Hypothesis]:
        """Returns the n-best of one utterance.

        Args:
            log_probs: (T, N) natural log-probabilities.
            greedy: The text of its best path.
            settings: Other weights than the decoder's own.
        """
        if not greedy:
            return [EMPTY]
        return self._search.search(log_probs, settings or self.settings) or [EMPTY]

    def describe(self) -> dict[str, Any]:
        """Returns what a score should say about the search, JSON values."""
        settings = self.settings
        found: dict[str, Any] = {"beam_size": settings.beam_size, "lm": None}
        if self.model is not None:
            found |= {
                "lm": str(self.model.directory),
                "lm_digest": self.model.digest,
                "unit": self.model.unit,
                "order": self.model.order,
                "lm_normalizer": self.model.normalizer,
                "lm_weight": settings.lm_weight,
                "word_score": settings.word_score,
                "tuned": self.is_tuned,
            }
        return found


def create_text_decoder(
    vocabulary: Vocabulary,
    language: str,
    *,
    kind: str = "beam",
    lm: LanguageModel | None = None,
    model_directory: Path | None = None,
    settings: BeamSettings | None = None,
) -> TextDecoder:
    """Makes the decoder of one head, all parts checked against each other.

    Args:
        vocabulary: The head's.
        language: The head's.
        kind: "beam" (flashlight-text) or "reference" (ours).
        lm: A language model, or None.
        model_directory: Where tuned weights are looked for.
        settings: Weights and limits; None: the tuned ones, else the defaults.

    Raises:
        ModelError: The parts do not fit; names every mismatch.
        MissingDependencyError: flashlight-text is not installed.
    """
    separator_id = find_separator(vocabulary)
    lexicon: dict[str, list[int]] = {}
    remarks: list[str] = []
    if lm is not None:
        contract = compare_with_vocabulary(
            lm, vocabulary, language=language, separator_id=separator_id
        )
        contract.check(lm)
        lexicon, remarks = contract.lexicon, contract.remarks
    tuned = None
    if lm is not None and model_directory is not None:
        tuned = read_tuned_settings(model_directory, language, lm.digest)
    return TextDecoder(
        vocabulary,
        _create_search(kind, vocabulary, separator_id, lm, lexicon),
        settings or tuned or BeamSettings(),
        model=lm,
        is_tuned=settings is None and tuned is not None,
        remarks=remarks,
    )


def load_language_models(directories: list[str]) -> dict[str, LanguageModel]:
    """Reads language models, by their language.

    Raises:
        ModelError: One cannot be read, or two are of one language.
    """
    models: dict[str, LanguageModel] = {}
    for directory in directories:
        model = load_language_model(directory)
        if model.language in models:
            raise ModelError(
                f"`lm` must name one language model a language, but {directory} and "
                f"{models[model.language].directory} are both of {model.language}."
            )
        models[model.language] = model
    return models


def find_separator(vocabulary: Vocabulary) -> int | None:
    """Returns the label between words; None where pieces hold the spaces."""
    if isinstance(vocabulary, CharacterVocabulary):
        return vocabulary.labels.index(WORD_SEPARATOR)
    return None


def override_settings(
    base: BeamSettings,
    *,
    lm_weight: float | None,
    word_score: float | None,
    beam_size: int | None,
    num_best: int | None = None,
) -> BeamSettings:
    """Returns settings with those values that are given."""
    given = {
        "lm_weight": lm_weight,
        "word_score": word_score,
        "beam_size": beam_size,
        "num_best": num_best,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return replace(base, **changes)


def _create_search(
    kind: str,
    vocabulary: Vocabulary,
    separator_id: int | None,
    lm: LanguageModel | None,
    lexicon: dict[str, list[int]],
) -> TextSearch:
    if kind == "reference":
        return ReferenceSearch(vocabulary, separator_id=separator_id, model=lm, lexicon=lexicon)
    from speechvq.decoding.flashlight_search import FlashlightSearch

    return FlashlightSearch(vocabulary, separator_id=separator_id, model=lm, lexicon=lexicon)
