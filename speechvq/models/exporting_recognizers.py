"""Recognisers as transformers' Wav2Vec2ForCTC with its processor: what `speechvq export` writes of
a recogniser. `speechvq.models.exporting` puts the files into place.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.config import Features
from speechvq.models.ctc_model import CTCModel
from speechvq.models.interop_adapters import adapters_to_huggingface
from speechvq.models.interop_huggingface import config_to_huggingface, state_to_huggingface
from speechvq.models.vocabulary import (
    BLANK,
    BLANK_ID,
    UNKNOWN,
    UNKNOWN_TEXT,
    WORD_SEPARATOR,
    GraphemeVocabulary,
    SentencePieceVocabulary,
    Vocabulary,
)

_SPACE_MARK = "\u2581"
"""What sentencepiece writes at the beginning of a word."""


def choose_languages(model: CTCModel, language: str | None) -> list[str]:
    """The languages to export.

    Args:
        model: The recogniser.
        language: One of its languages; None for all.

    Raises:
        ModelError: It has no such language, or cannot be a Wav2Vec2ForCTC.
    """
    if model.config.features is not Features.waveform:
        raise ModelError(
            "`features` must be waveform for an export to transformers, but is "
            f"{model.config.features.value}: Wav2Vec2 has no filter banks. Export this recogniser "
            "to ONNX, with `speechvq export MODEL OUTPUT --to onnx`."
        )
    if model.config.adapter_dim and not model.config.encoder.norm_first:
        raise ModelError(
            "`adapter_dim` must be 0 for an export to transformers where `encoder.norm_first` is "
            "false: Wav2Vec2 has adapters in its pre-norm layers only."
        )
    if language is None:
        return list(model.vocabularies)
    if language not in model.vocabularies:
        raise ModelError(
            f"`--language` must be one of the model ({', '.join(model.vocabularies)}), but is "
            f"{language!r}."
        )
    return [language]


def describe_recognizer(model: CTCModel, language: str) -> dict[str, dict[str, Any]]:
    """The JSON files of a directory for `Wav2Vec2ForCTC` and `Wav2Vec2Processor`.

    Args:
        model: The recogniser, with the waveform front end.
        language: Whose head it is.

    Returns:
        Documents by file name; `preprocessor_config.json` is that of every model.
    """
    vocabulary = model.vocabularies[language]
    config = config_to_huggingface(model.config, num_labels=len(vocabulary))
    special = {"pad_token": BLANK, "unk_token": UNKNOWN, "bos_token": None, "eos_token": None}
    return {
        "config.json": config
        | {"pad_token_id": BLANK_ID, "bos_token_id": None, "eos_token_id": None},
        "vocab.json": {label: index for index, label in enumerate(_write_labels(vocabulary))},
        "tokenizer_config.json": {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "processor_class": "Wav2Vec2Processor",
            **special,
            "word_delimiter_token": WORD_SEPARATOR,
            "replace_word_delimiter_char": " ",
            "do_lower_case": False,
            "clean_up_tokenization_spaces": False,
        },
        "special_tokens_map.json": {"pad_token": BLANK, "unk_token": UNKNOWN},
    }


def collect_weights(model: CTCModel, language: str) -> dict[str, Tensor]:
    """The weights of a Wav2Vec2ForCTC.

    Args:
        model: The recogniser.
        language: Whose head and adapters are taken.
    """
    state = model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("adapters.")}
    return {
        **state_to_huggingface(kept, language=language),
        **adapters_to_huggingface(state, language),
    }


def list_recognizer_notes(model: CTCModel, languages: list[str]) -> list[str]:
    """Sentences on where transformers computes something else.

    Args:
        model: The recogniser.
        languages: Those that are exported.
    """
    notes = [
        f"A frame of `{UNKNOWN}` reads as {UNKNOWN} there and as {UNKNOWN_TEXT} here; spaces that "
        "follow each other stay there and become one here."
    ]
    if any(isinstance(model.vocabularies[name], SentencePieceVocabulary) for name in languages):
        notes.append(
            "The tokenizer decodes as the sentencepiece model does, but does not cut text into "
            "pieces as that does: do not finetune with it there."
        )
    if any(isinstance(model.vocabularies[name], GraphemeVocabulary) for name in languages):
        notes.append(
            "The tokenizer decodes grapheme clusters as here, but drops the spaces beside them "
            "where it cuts text into labels: do not finetune with it there."
        )
    return notes


def _write_labels(vocabulary: Vocabulary) -> list[str]:
    """Labels that Wav2Vec2CTCTokenizer puts together to the same text."""
    if not isinstance(vocabulary, SentencePieceVocabulary):
        return list(vocabulary.labels)
    labels = [label.replace(_SPACE_MARK, " ") for label in vocabulary.labels]
    if WORD_SEPARATOR in labels or len(set(labels)) < len(labels):
        raise ModelError(
            "The pieces of a sentencepiece model must differ from each other and from "
            f"{WORD_SEPARATOR!r} for an export to transformers, whose tokenizer has them as plain "
            "labels. Export this recogniser to ONNX, with `speechvq export MODEL OUTPUT --to onnx`."
        )
    return labels
