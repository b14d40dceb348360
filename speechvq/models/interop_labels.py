"""Reads what other projects keep the labels of their CTC heads in: transformers' `vocab.json` with
the settings of its tokenizer, fairseq's `dict.ltr.txt`, and sentencepiece models (fairseq2,
omnilingual-asr).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechvq.errors import ModelError
from speechvq.models.foreign_labels import (
    ForeignLabels,
    HeadLayout,
    arrange_characters,
    arrange_pieces,
    lower_labels,
)
from speechvq.models.vocabulary import SentencePieceVocabulary

FAIRSEQ_DICTIONARY = "dict.ltr.txt"
VOCABULARY_FILE = "vocab.json"
TOKENIZER_FILE = "tokenizer_config.json"
_TOKENIZERS = frozenset({"Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer"})
_DEFAULT_TOKENS = {"pad_token": "<pad>", "unk_token": "<unk>", "word_delimiter_token": "|"}
_FAIRSEQ_SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
"""fairseq's first four labels are <s>, <pad>, </s>, <unk>, and its blank is <s>: blank and padding
change names, as in transformers' own conversion."""
_MAX_BYTES = 64 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ModelError: It is missing, unreadable, or something else.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} must be at most {_MAX_BYTES >> 20} MB, but is larger.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path} must hold a JSON object.")
    return document


def read_huggingface_vocabularies(directory: Path) -> dict[str | None, dict[str, int]]:
    """Reads `vocab.json`: label → output, by language where it is nested as MMS has it.

    Args:
        directory: transformers' directory.

    Returns:
        Vocabularies by language; under None the only one.

    Raises:
        ModelError: It is missing or no vocabulary.
    """
    path = directory / VOCABULARY_FILE
    document = read_json(path)
    nested = bool(document) and all(isinstance(value, dict) for value in document.values())
    found: dict[str | None, Any] = {None: document}
    if nested:
        found = {str(language): labels for language, labels in document.items()}
    for labels in found.values():
        if not labels or any(type(index) is not int for index in labels.values()):
            raise ModelError(f"{path} must be an object from label to number, or several by name.")
    return found


def read_target_language(directory: Path) -> str | None:
    """The language whose head stands in the weights themselves, by the tokenizer's settings.

    Args:
        directory: transformers' directory, of a model with several languages.

    Returns:
        The name it has in `vocab.json`; None where the settings do not tell.

    Raises:
        ModelError: The settings cannot be read.
    """
    path = directory / TOKENIZER_FILE
    language = read_json(path).get("target_lang") if path.is_file() else None
    return language if isinstance(language, str) else None


def read_huggingface_layout(
    directory: Path, vocabulary: Mapping[str, int], num_outputs: int, *, lowercase: bool
) -> HeadLayout:
    """Reads the labels of a head of transformers.

    Args:
        directory: transformers' directory, with the tokenizer's settings where there are any.
        vocabulary: Label → output.
        num_outputs: Outputs of the head.
        lowercase: Whether labels are put into lower case, as they are where the tokenizer does so.

    Returns:
        The layout.

    Raises:
        ModelError: Labels and outputs do not fit together, or the tokenizer is of another kind.
    """
    path = directory / VOCABULARY_FILE
    settings = _read_tokenizer_settings(directory)
    indices = {**vocabulary, **_read_added_tokens(directory / "added_tokens.json")}
    tokens: dict[int, str] = {}
    for token, index in indices.items():
        if index in tokens:
            raise ModelError(
                f"{path}: each label must have a number of its own, but {tokens[index]!r} and "
                f"{token!r} have {index}."
            )
        tokens[index] = token
    if set(tokens) != set(range(num_outputs)):
        raise ModelError(
            f"{path} must have a label for each of the {num_outputs} outputs of the head, "
            f"0 to {num_outputs - 1}, but has {len(tokens)} labels, "
            f"{min(tokens)} to {max(tokens)}."
        )
    special = {key: indices.get(settings[key]) for key in _DEFAULT_TOKENS}
    if (blank := special["pad_token"]) is None:
        raise ModelError(
            f"{path} must have the blank, which is {settings['pad_token']!r} by the tokenizer's "
            "`pad_token`, but has not."
        )
    labels = ForeignLabels(
        tokens=tuple(tokens[index] for index in range(num_outputs)),
        blank=blank,
        unknown=special["unk_token"],
        separator=special["word_delimiter_token"],
    )
    try:
        lowered = lower_labels(labels) if lowercase or settings["do_lower_case"] else labels
        return arrange_characters(lowered)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _read_added_tokens(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    found = read_json(path)
    if any(type(index) is not int for index in found.values()):
        raise ModelError(f"{path} must be an object from label to number.")
    return found


def _read_tokenizer_settings(directory: Path) -> dict[str, Any]:
    """Names of the special tokens, and whether text is put into lower case."""
    settings: dict[str, Any] = {"do_lower_case": False, **_DEFAULT_TOKENS}
    for name in ("special_tokens_map.json", TOKENIZER_FILE):
        if not (directory / name).is_file():
            continue
        document = read_json(directory / name)
        kind = document.get("tokenizer_class", "Wav2Vec2CTCTokenizer")
        if kind not in _TOKENIZERS:
            raise ModelError(
                f"{directory / name}: tokenizer_class must be Wav2Vec2CTCTokenizer to be read as a "
                f"vocabulary of speechvq, but is {kind!r}."
            )
        if document.get("replace_word_delimiter_char", " ") != " ":
            raise ModelError(f"{directory / name}: replace_word_delimiter_char must be a space.")
        for key in settings:
            value = document.get(key, settings[key])
            value = value.get("content") if isinstance(value, dict) else value
            value = "" if value is None and key != "pad_token" else value
            if not isinstance(value, type(settings[key])):
                raise ModelError(f"{directory / name}: {key} cannot be {str(value)[:60]!r}.")
            settings[key] = value
    return settings


def read_fairseq_layout(path: Path, num_outputs: int, *, lowercase: bool) -> HeadLayout:
    """Reads a dictionary of fairseq: a line a label, with its count behind it.

    Args:
        path: `dict.ltr.txt`.
        num_outputs: Outputs of the head.
        lowercase: Whether labels are put into lower case.

    Returns:
        The layout.

    Raises:
        ModelError: It is missing, no dictionary, or another head's.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}); name the dictionary of the recogniser, "
            f"{FAIRSEQ_DICTIONARY}, with `--labels FILE`."
        ) from error
    tokens = [*_FAIRSEQ_SPECIALS]
    for number, line in enumerate(lines, start=1):
        token, _, count = line.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not token or not count.lstrip("-").isdecimal():
            raise ModelError(
                f"{path}, line {number}: must be a label, a space and a count, but is "
                f"{line[:60]!r}."
            )
        tokens.append(token)
    if len(tokens) != num_outputs:
        raise ModelError(
            f"{path} must have {num_outputs - len(_FAIRSEQ_SPECIALS)} lines, as the head has "
            f"{num_outputs} outputs, four of them fairseq's own, but has {len(lines)}."
        )
    labels = ForeignLabels(
        tokens=tuple(tokens),
        blank=0,
        unknown=3,
        separator=tokens.index("|") if "|" in tokens else None,
    )
    try:
        return arrange_characters(lower_labels(labels) if lowercase else labels)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def read_sentencepiece_layout(path: Path, num_outputs: int) -> HeadLayout:
    """Reads the sentencepiece model of a recogniser of fairseq2, whose blank is output 0.

    Args:
        path: The `.model` file.
        num_outputs: Outputs of the head.

    Returns:
        The layout.

    Raises:
        ModelError: It is missing, no sentencepiece model, or another head's.
        MissingDependencyError: sentencepiece is not installed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    try:
        vocabulary = SentencePieceVocabulary(content)
    except ModelError:
        raise ModelError(f"{path} must be a sentencepiece model, but is none.") from None
    if vocabulary.num_pieces != num_outputs:
        raise ModelError(
            f"{path} must have {num_outputs} pieces, one for each output of the head, but has "
            f"{vocabulary.num_pieces}."
        )
    if 0 in vocabulary.piece_ids:
        raise ModelError(
            f"{path}: piece 0 must be a control symbol, as output 0 is the blank in fairseq2, but "
            f"is {vocabulary.labels[2]!r}."
        )
    unknown = vocabulary.unknown_piece
    return arrange_pieces(vocabulary, blank=0, unknown=unknown or None)
