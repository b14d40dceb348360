"""Whether a language model, its lexicon and a recogniser's vocabulary speak of the same things.

Asked before a search is made. What would make every text wrong is a problem and refused; what
keeps some words from being written is a remark, and told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from speechvq.decoding.language_model import ARPA_FILE, LanguageModel, compute_digest
from speechvq.errors import ModelError
from speechvq.languages import parse_language

_MOST_SHOWN = 8


class TextVocabulary(Protocol):
    """What decoding with a language model needs of a vocabulary."""

    labels: tuple[str, ...]

    def encode(self, text: str, /) -> list[int]:
        """Returns the labels of a text."""

    def decode(self, ids: Sequence[int], /) -> str:
        """Returns the text of labels."""

    def unknown_characters(self, text: str, /) -> set[str]:
        """Returns the characters of a text that the vocabulary cannot write."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a language model and a vocabulary agree on.

    Attributes:
        problems: Sentences; with any, nothing may be decoded.
        remarks: Sentences about what cannot be written.
        lexicon: Labels of the words that may be written, separators left out; empty for models of
            characters.
    """

    problems: list[str]
    remarks: list[str]
    lexicon: dict[str, list[int]]

    def check(self, model: LanguageModel) -> None:
        """Refuses a broken contract.

        Raises:
            ModelError: Names every mismatch.
        """
        if self.problems:
            listed = "\n".join(f"- {problem}" for problem in self.problems)
            raise ModelError(
                f"The language model {model.directory} does not fit the recogniser:\n{listed}"
            )


def compare_with_vocabulary(
    model: LanguageModel, vocabulary: TextVocabulary, *, language: str, separator_id: int | None
) -> Contract:
    """Compares a language model with the vocabulary of a recogniser's head.

    Args:
        model: The language model.
        vocabulary: The head's.
        language: The head's.
        separator_id: Its label between words; None where pieces hold the spaces.
    """
    problems = _compare_languages(model, language)
    if compute_digest(model.arpa) != model.digest:
        problems.append(
            f"{ARPA_FILE} is not the one that summary.json was written for: train it again."
        )
    remarks: list[str] = []
    lexicon: dict[str, list[int]] = {}
    separator = None if separator_id is None else vocabulary.labels[separator_id]
    if separator is not None and separator != model.word_separator:
        problems.append(
            f"The recogniser writes {separator!r} between words, the language model "
            f"{model.word_separator!r}."
        )
    if model.unit == "character":
        letters = vocabulary.labels[2 if separator_id is None else 3 :]
        _compare_letters(model, letters, separator, problems, remarks)
    else:
        lexicon = _choose_words(model, vocabulary, problems, remarks)
        if separator is not None:
            _compare_spellings(model, vocabulary, separator, lexicon, problems)
    return Contract(problems=problems, remarks=remarks, lexicon=lexicon)


def _compare_languages(model: LanguageModel, language: str) -> list[str]:
    if model.language == language:
        return []
    theirs, ours = parse_language(model.language), parse_language(language)
    script = (
        f", and of another script ({theirs.script} instead of {ours.script})"
        if theirs.script != ours.script
        else ""
    )
    return [f"It is of {model.language}, the recogniser's head of {language}{script}."]


def _compare_letters(
    model: LanguageModel,
    letters: Sequence[str],
    separator: str | None,
    problems: list[str],
    remarks: list[str],
) -> None:
    if separator is None:
        problems.append(
            "It is a model of characters, but the recogniser's vocabulary has pieces of words: "
            "train one with `unit=word`."
        )
        return
    if any(len(letter) > 1 for letter in letters):
        problems.append(
            "It is a model of characters, but the recogniser's labels are grapheme clusters of "
            "several: train one with `unit=word`."
        )
        return
    if separator not in model.tokens:
        problems.append(
            f"It does not know the separator {separator!r} between words: was its text one word "
            "a line?"
        )
    known = model.tokens - {separator}
    foreign, unseen = sorted(known - set(letters)), sorted(set(letters) - known)
    if len(foreign) * 2 > len(known):
        problems.append(
            f"{len(foreign)} of its {len(known)} letters are not in the recogniser's vocabulary "
            f"({_shorten(foreign)}): it is of another script, or of text in another spelling."
        )
    elif foreign:
        remarks.append(
            f"{len(foreign)} letters of the language model are not in the recogniser's "
            f"vocabulary and cannot be written: {_shorten(foreign)}."
        )
    if unseen:
        sentence = (
            f"{len(unseen)} of the recogniser's {len(letters)} letters are unknown to the "
            f"language model, which will not let them be written: {_shorten(unseen)}."
        )
        (problems if len(unseen) * 2 > len(letters) else remarks).append(sentence)


def _choose_words(
    model: LanguageModel, vocabulary: TextVocabulary, problems: list[str], remarks: list[str]
) -> dict[str, list[int]]:
    """Returns the words that the model knows and the vocabulary can write."""
    unwritable: list[str] = []
    unknown: list[str] = []
    letters: set[str] = set()
    lexicon: dict[str, list[int]] = {}
    for word in model.spellings:
        missing = vocabulary.unknown_characters(word)
        letters |= missing
        if missing:
            unwritable.append(word)
        elif word not in model.tokens:
            unknown.append(word)
        else:
            lexicon[word] = vocabulary.encode(word)
    total = len(model.spellings)
    if unwritable:
        sentence = (
            f"{len(unwritable):,} of the lexicon's {total:,} words hold letters that the "
            f"recogniser's vocabulary lacks ({_shorten(sorted(letters))}): {_shorten(unwritable)}."
        )
        (problems if len(unwritable) * 2 > total else remarks).append(sentence)
    if unknown:
        sentence = (
            f"{len(unknown):,} of the lexicon's {total:,} words are not in the language model: "
            f"{_shorten(unknown)}."
        )
        (problems if len(unknown) * 2 > total else remarks).append(sentence)
    if not lexicon and not problems:
        problems.append("Its lexicon has no word, so nothing could be written.")
    return lexicon


def _compare_spellings(
    model: LanguageModel,
    vocabulary: TextVocabulary,
    separator: str,
    lexicon: dict[str, list[int]],
    problems: list[str],
) -> None:
    # The lexicon spells by code points; a label may be a cluster of several.
    different = [
        word
        for word, labels in lexicon.items()
        if "".join(model.spellings[word])
        != "".join([*(vocabulary.labels[label] for label in labels), separator])
    ]
    if different:
        problems.append(
            f"{len(different):,} words are spelled otherwise in the lexicon than by the "
            f"recogniser: {_shorten(different)}."
        )


def _shorten(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_MOST_SHOWN])
    return shown if len(names) <= _MOST_SHOWN else f"{shown} and {len(names) - _MOST_SHOWN:,} more"
