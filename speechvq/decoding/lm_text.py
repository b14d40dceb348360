"""The text of a language model: transcripts and files, cleaned, without what will be scored.

Sentences of the corpus' other splits (dev, test and any more) never enter: neither alone, whatever
their case, spaces and punctuation, nor inside of a longer line. Feeds
`speechvq.decoding.lm_training`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speechvq.data.corpus import list_partitions, read_corpus_info, read_utterances
from speechvq.data.text import TextNormalizer, digest_text, get_normalizer
from speechvq.decoding.config import TrainLmConfig
from speechvq.decoding.ngram import RESERVED
from speechvq.errors import DataError
from speechvq.languages import parse_language

WORD_SEPARATOR = "|"
"""Stands between words in models of characters and at the end of spellings."""
TRAIN = "train"
DEV = "dev"
_MIN_CONTAINED_WORDS = 4
"""A held-out sentence of so many words is looked for inside of longer lines too."""
Sentence = tuple[str, ...]


@dataclass(kw_only=True)
class TextCounts:
    """What became of the lines.

    Attributes:
        num_lines: Lines and transcripts read.
        num_empty: Of those, lines without a letter.
        num_reserved: Lines with a word that stands for something else in a model: `<s>`, and `|`
            in models of characters.
        excluded: Lines that are or hold a sentence of another split, by that split.
    """

    num_lines: int = 0
    num_empty: int = 0
    num_reserved: int = 0
    excluded: Counter[str] = field(default_factory=Counter)


class HeldOut:
    """Sentences that must not enter a language model.

    Args:
        sentences: By split, in words.
        language: Their language.
    """

    def __init__(self, sentences: dict[str, list[Sentence]], language: str) -> None:
        self._language = language
        self._digests: dict[int, str] = {}
        self._by_beginning: dict[Sentence, dict[Sentence, str]] = {}
        for split, members in sorted(sentences.items()):
            for words in members:
                digest = digest_text(" ".join(words), language)
                if digest is not None:
                    self._digests.setdefault(digest, split)
                if len(words) >= _MIN_CONTAINED_WORDS:
                    beginning = words[:_MIN_CONTAINED_WORDS]
                    self._by_beginning.setdefault(beginning, {}).setdefault(words, split)

    def find_split(self, words: Sentence) -> str | None:
        """Returns the split that has this sentence, or one inside of it; None where none has."""
        digest = digest_text(" ".join(words), self._language)
        if digest in self._digests:
            return self._digests[digest]
        for begin in range(len(words) - _MIN_CONTAINED_WORDS + 1):
            candidates = self._by_beginning.get(words[begin : begin + _MIN_CONTAINED_WORDS], {})
            for sentence, split in candidates.items():
                if words[begin : begin + len(sentence)] == sentence:
                    return split
        return None


class LmText:
    """The sentences of a language model; read anew by each iteration, never held in memory.

    Args:
        config: Where the text is and what language it has.

    Raises:
        DataError: A file or corpus is missing, or the corpus lacks the language.
    """

    def __init__(self, config: TrainLmConfig) -> None:
        parse_language(config.language)
        self._config = config
        self.normalizer = _choose_normalizer(config)
        self.dev: list[Sentence] = []
        self.held_out: HeldOut | None = None
        for file in config.text:
            if not Path(file).is_file():
                raise DataError(f"`text` must be text files, but {file!r} is none.")
        if config.corpus:
            sentences = _read_held_out(config, self.normalizer)
            self.dev = sentences.get(DEV, [])
            self.held_out = HeldOut(sentences, config.language)
        self.counts = TextCounts()

    def __iter__(self) -> Iterator[Sentence]:
        self.counts = counts = TextCounts()
        for line in self._iterate_lines():
            counts.num_lines += 1
            words = tuple(self.normalizer(line, self._config.language).split())
            split = None if self.held_out is None else self.held_out.find_split(words)
            if not words:
                counts.num_empty += 1
            elif self._has_reserved(words):
                counts.num_reserved += 1
            elif split is not None:
                counts.excluded[split] += 1
            else:
                yield words

    def _iterate_lines(self) -> Iterator[str]:
        config = self._config
        if config.corpus:
            rows = read_utterances(
                config.corpus,
                splits=[TRAIN],
                languages=[config.language],
                where=config.where,
                columns=["text"],
            )
            yield from (row.text for row in rows if row.text)
        for file in config.text:
            try:
                with Path(file).open(encoding="utf-8-sig") as lines:
                    yield from lines
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"`text`: {file} cannot be read as UTF-8 ({error}).") from None

    def _has_reserved(self, words: Sentence) -> bool:
        if self._config.unit == "character":
            return any(WORD_SEPARATOR in word for word in words)
        return not RESERVED.isdisjoint(words)


def to_tokens(words: Sequence[str], unit: str) -> list[str]:
    """Returns what a model of words or of characters sees of a sentence."""
    return list(words) if unit == "word" else list(WORD_SEPARATOR.join(words))


def _choose_normalizer(config: TrainLmConfig) -> TextNormalizer:
    if config.normalizer is not None or not config.corpus:
        return get_normalizer(config.normalizer or "basic")
    name = str(read_corpus_info(config.corpus).get("normalizer", "none"))
    return get_normalizer("verbatim" if name == "none" else name)


def _read_held_out(config: TrainLmConfig, normalizer: TextNormalizer) -> dict[str, list[Sentence]]:
    """Sentences of all splits but train, whatever their source."""
    assert config.corpus is not None
    partitions = [
        part for part in list_partitions(config.corpus) if part.language == config.language
    ]
    if not partitions:
        raise DataError(f"{config.corpus} has nothing in `language` {config.language!r}.")
    found: dict[str, list[Sentence]] = {}
    for split in sorted({part.split for part in partitions} - {TRAIN}):
        rows = read_utterances(
            config.corpus, splits=[split], languages=[config.language], columns=["text"]
        )
        sentences = (tuple(normalizer(row.text or "", config.language).split()) for row in rows)
        found[split] = [sentence for sentence in sentences if sentence]
    return found
