"""Vocabularies: which labels a CTC head has, and how text becomes labels and back.

Labels 0 and 1 are always the blank ("<pad>", as transformers names it) and the unknown character.
Characters are Unicode code points of normalised text, with "|" between words; grapheme clusters are
what a reader takes for one character, such as क्षि, which is four code points. A sentencepiece
vocabulary keeps its model inside, so that a vocabulary is one JSON object in any case.
"""

from __future__ import annotations

import base64
import binascii
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import regex

from speechvq.errors import MissingDependencyError, ModelError

BLANK = "<pad>"
UNKNOWN = "<unk>"
WORD_SEPARATOR = "|"
BLANK_ID = 0
UNKNOWN_ID = 1
_CLUSTERS = regex.compile(r"\X")
# What an unknown label reads as: never a letter of any language, so that it always counts as an
# error.
UNKNOWN_TEXT = "\u2047"


class Vocabulary(ABC):
    """Labels of one language.

    Attributes:
        labels: One string a label, in the order of the head's outputs.
    """

    labels: tuple[str, ...]

    def __len__(self) -> int:
        """N, number of labels, blank included."""
        return len(self.labels)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Labels of a normalised text; what is not in the vocabulary becomes `UNKNOWN_ID`."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of labels from which repetitions are already removed; blanks are left out."""

    @abstractmethod
    def unknown_characters(self, text: str) -> set[str]:
        """Characters of a text that the vocabulary cannot write."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The vocabulary as an object for `vocabulary_from_json`."""


class CharacterVocabulary(Vocabulary):
    """One label a code point.

    Args:
        characters: Without blank, unknown and word separator; their order is the order of labels.

    Raises:
        ModelError: A label has half of a surrogate pair, which no file can hold.
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.labels = (BLANK, UNKNOWN, WORD_SEPARATOR, *characters)
        for label in self.labels:
            if any("\ud800" <= character <= "\udfff" for character in label):
                raise ModelError(
                    f"A vocabulary's `labels` must be Unicode text, but {label!r} is half of a "
                    "surrogate pair."
                )
        self._ids = {label: index for index, label in enumerate(self.labels)}

    def encode(self, text: str) -> list[int]:
        """See `Vocabulary.encode`."""
        separator = self._ids[WORD_SEPARATOR]
        ids: list[int] = []
        for word in text.split():
            if ids:
                ids.append(separator)
            ids += [self._get_id(character) for character in word]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """See `Vocabulary.decode`."""
        pieces = []
        for index in ids:
            if index == UNKNOWN_ID:
                pieces.append(UNKNOWN_TEXT)
            elif index != BLANK_ID:
                label = self.labels[index]
                pieces.append(" " if label == WORD_SEPARATOR else label)
        return " ".join("".join(pieces).split())

    def unknown_characters(self, text: str) -> set[str]:
        """See `Vocabulary.unknown_characters`."""
        return {c for c in "".join(text.split()) if self._get_id(c) == UNKNOWN_ID}

    def to_json(self) -> dict[str, Any]:
        """See `Vocabulary.to_json`."""
        return {"kind": "character", "labels": list(self.labels)}

    def _get_id(self, character: str) -> int:
        # A bar in the text is not the separator between words.
        return UNKNOWN_ID if character == WORD_SEPARATOR else self._ids.get(character, UNKNOWN_ID)


class GraphemeVocabulary(CharacterVocabulary):
    """One label a grapheme cluster (Unicode UAX #29); a cluster without a label of its own is
    spelled by its code points.

    Args:
        clusters: Without blank, unknown and word separator: clusters and single code points; their
            order is the order of labels.
    """

    def encode(self, text: str) -> list[int]:
        """See `Vocabulary.encode`."""
        separator = self._ids[WORD_SEPARATOR]
        ids: list[int] = []
        for word in text.split():
            if ids:
                ids.append(separator)
            for cluster in _CLUSTERS.findall(word):
                if cluster in self._ids and cluster != WORD_SEPARATOR:
                    ids.append(self._ids[cluster])
                else:
                    ids += [self._get_id(character) for character in cluster]
        return ids

    def unknown_characters(self, text: str) -> set[str]:
        """See `Vocabulary.unknown_characters`."""
        clusters = (cluster for word in text.split() for cluster in _CLUSTERS.findall(word))
        missing = {c for c in clusters if c not in self._ids or c == WORD_SEPARATOR}
        return {c for cluster in missing for c in cluster if self._get_id(c) == UNKNOWN_ID}

    def to_json(self) -> dict[str, Any]:
        """See `Vocabulary.to_json`."""
        return {"kind": "grapheme", "labels": list(self.labels)}


class SentencePieceVocabulary(Vocabulary):
    """One label a piece of a sentencepiece model.

    Args:
        model: The serialised model, the bytes of a `.model` file.

    Raises:
        MissingDependencyError: sentencepiece is not installed.
        ModelError: The bytes are no sentencepiece model.
    """

    def __init__(self, model: bytes) -> None:
        try:
            import sentencepiece
        except ImportError as error:
            raise MissingDependencyError(
                "sentencepiece", "train", "read this vocabulary"
            ) from error
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ModelError(
                "The vocabulary's `model` is not a sentencepiece model; copy the file again."
            ) from error
        size = self._processor.GetPieceSize()
        special = {
            i for i in range(size) if self._processor.IsControl(i) or self._processor.IsUnknown(i)
        }
        self._pieces = [i for i in range(size) if i not in special]
        self._ids = {piece: index for index, piece in enumerate(self._pieces, start=2)}
        self.labels = (BLANK, UNKNOWN, *(self._processor.IdToPiece(i) for i in self._pieces))

    @property
    def piece_ids(self) -> tuple[int, ...]:
        """The sentencepiece model's own number of each label after blank and unknown."""
        return tuple(self._pieces)

    @property
    def unknown_piece(self) -> int:
        """The sentencepiece model's own number of the unknown piece."""
        number: int = self._processor.unk_id()
        return number

    @property
    def num_pieces(self) -> int:
        """Pieces of the sentencepiece model, control symbols and unknown ones included."""
        size: int = self._processor.GetPieceSize()
        return size

    def encode(self, text: str) -> list[int]:
        """See `Vocabulary.encode`."""
        return [self._ids.get(piece, UNKNOWN_ID) for piece in self._processor.EncodeAsIds(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Vocabulary.decode`."""
        pieces = [UNKNOWN_TEXT if i == UNKNOWN_ID else self.labels[i] for i in ids if i != BLANK_ID]
        return " ".join("".join(pieces).replace("\u2581", " ").split())

    def unknown_characters(self, text: str) -> set[str]:
        """See `Vocabulary.unknown_characters`."""
        return {c for c in "".join(text.split()) if UNKNOWN_ID in self.encode(c)}

    def to_json(self) -> dict[str, Any]:
        """See `Vocabulary.to_json`."""
        return {"kind": "sentencepiece", "model": base64.b64encode(self._model).decode("ascii")}


def build_character_vocabulary(texts: Iterable[str]) -> CharacterVocabulary:
    """The vocabulary of all code points in some normalised texts, sorted.

    Args:
        texts: Usually a language's training transcripts.

    Returns:
        The vocabulary.
    """
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    return CharacterVocabulary(
        sorted(c for c in characters if not c.isspace() and c != WORD_SEPARATOR)
    )


def is_cluster(text: str) -> bool:
    """Whether a text is one grapheme cluster."""
    return _CLUSTERS.fullmatch(text) is not None


def build_grapheme_vocabulary(texts: Iterable[str], min_count: int) -> GraphemeVocabulary:
    """The vocabulary of the grapheme clusters in some normalised texts, sorted.

    Args:
        texts: Usually a language's training transcripts.
        min_count: Clusters that occur less often are spelled by their code points, which all have
            labels.

    Returns:
        The vocabulary.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(cluster for word in text.split() for cluster in _CLUSTERS.findall(word))
    labels = {cluster for cluster, count in counts.items() if count >= min_count}
    labels.update(character for cluster in counts for character in cluster)
    return GraphemeVocabulary(sorted(labels - {WORD_SEPARATOR}))


def vocabulary_from_json(document: object) -> Vocabulary:
    """Reads what `Vocabulary.to_json` wrote.

    Args:
        document: Parsed JSON.

    Returns:
        The vocabulary.

    Raises:
        ModelError: The object is not a vocabulary of ours.
    """
    match document:
        case {"kind": "character", "labels": list(labels), **rest} if not rest:
            return CharacterVocabulary(_check_labels(labels))
        case {"kind": "grapheme", "labels": list(labels), **rest} if not rest:
            return GraphemeVocabulary(_check_labels(labels))
        case {"kind": "sentencepiece", "model": str(encoded), **rest} if not rest:
            try:
                return SentencePieceVocabulary(base64.b64decode(encoded, validate=True))
            except binascii.Error as error:
                raise ModelError("The vocabulary's `model` must be base64, but is not.") from error
    found = sorted(document) if isinstance(document, Mapping) else type(document).__name__
    raise ModelError(
        'A vocabulary must be {"kind": "character", "labels": [...]}, {"kind": "grapheme", '
        f'"labels": [...]}} or {{"kind": "sentencepiece", "model": "..."}}, but has {found}.'
    )


def _check_labels(labels: list[Any]) -> list[str]:
    """Returns the labels after the special ones."""
    specials = [BLANK, UNKNOWN, WORD_SEPARATOR]
    if labels[:3] != specials or not all(isinstance(label, str) and label for label in labels):
        raise ModelError(
            f"A vocabulary's `labels` must be non-empty strings that begin with "
            f"{specials}, but begin with {labels[:3]}."
        )
    if len(set(labels)) != len(labels):
        raise ModelError("A vocabulary's `labels` must differ from each other.")
    return labels[3:]
