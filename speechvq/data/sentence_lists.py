"""Simple sentences of many languages, made from word lists, for synthetic speech.

Each `sentences/<language>.tsv` holds patterns such as ``{subject} {object} {verb}`` and the words
of every slot; the words of a slot agree with those of every other (one person, one gender, the case
already applied), so that any combination is a grammatical if plain sentence. A list of fifty words
gives tens of thousands of distinct sentences. They are ours, and under the licence of the project.

They feed `speechvq.data.synthetic_corpus`, and through it the demo.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from speechvq.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SentenceGrammar:
    """Patterns and the words of their slots.

    Attributes:
        language: Code such as ``hin_Deva``.
        patterns: Format strings with named slots.
        words: Words of each slot, in the order of the file.
    """

    language: str
    patterns: Sequence[str]
    words: Mapping[str, Sequence[str]]

    @property
    def num_sentences(self) -> int:
        """Number of combinations over all patterns."""
        return sum(self._count(pattern) for pattern in self.patterns)

    def sample(self, count: int, *, seed: int) -> list[str]:
        """Draw distinct sentences; a function of the arguments alone.

        Args:
            count: How many sentences.
            seed: Seed of the draw.

        Returns:
            `count` sentences, no two alike.

        Raises:
            DataError: When the grammar has fewer sentences than asked for.
        """
        if count > self.num_sentences:
            raise DataError(
                f"The sentence list of {self.language} gives {self.num_sentences} sentences, but "
                f"{count} are asked for: ask for fewer, or add words to the list."
            )
        rng = random.Random(f"{self.language}:{seed}")
        return [self._compose(index) for index in rng.sample(range(self.num_sentences), count)]

    def _count(self, pattern: str) -> int:
        count = 1
        for slot in _list_slots(pattern):
            count *= len(self.words[slot])
        return count

    def _compose(self, index: int) -> str:
        """Sentence number `index`: the pattern first, then mixed-radix digits for its slots."""
        for pattern in self.patterns:
            if index < (count := self._count(pattern)):
                break
            index -= count
        chosen = {}
        for slot in _list_slots(pattern):
            index, digit = divmod(index, len(self.words[slot]))
            chosen[slot] = self.words[slot][digit]
        return pattern.format(**chosen)


def list_sentence_languages() -> list[str]:
    """Codes of all languages with a sentence list, sorted."""
    folder = resources.files("speechvq.data") / "sentences"
    return sorted(f.name.removesuffix(".tsv") for f in folder.iterdir() if f.name.endswith(".tsv"))


def load_grammar(language: str) -> SentenceGrammar:
    """Read the sentence list of one language.

    Args:
        language: Code such as ``hin_Deva``.

    Returns:
        Its patterns and words.

    Raises:
        DataError: When there is no list for the language, or it is malformed.
    """
    resource = resources.files("speechvq.data") / "sentences" / f"{language}.tsv"
    if not resource.is_file():
        known = ", ".join(list_sentence_languages())
        raise DataError(f"There is no sentence list for `{language}`; there are lists for {known}.")
    return parse_grammar(language, resource.read_text(encoding="utf-8"))


def parse_grammar(language: str, content: str) -> SentenceGrammar:
    """Parse the text of a sentence list.

    Args:
        language: Code of the language, for messages and seeds.
        content: Tab-separated lines ``slot text`` below a header; the slot ``pattern`` holds the
            patterns.

    Returns:
        The grammar.

    Raises:
        DataError: When a row is malformed, or a pattern uses a slot without words.
    """
    words: dict[str, list[str]] = {}
    for number, line in enumerate(content.splitlines()[1:], start=2):
        slot, separator, text = line.partition("\t")
        if not separator or not slot or not text.strip():
            raise DataError(
                f"Sentence list of {language}, line {number}: must be `slot<TAB>text`, "
                f"but is {line!r}."
            )
        words.setdefault(slot, []).append(text.strip())
    patterns = words.pop("pattern", [])
    missing = {s for pattern in patterns for s in _list_slots(pattern) if s not in words}
    if not patterns or missing:
        problem = f"has no words for {sorted(missing)}" if missing else "has no `pattern` line"
        raise DataError(f"The sentence list of {language} {problem}.")
    return SentenceGrammar(language=language, patterns=patterns, words=words)


def _list_slots(pattern: str) -> list[str]:
    return [slot for _, slot, _, _ in string.Formatter().parse(pattern) if slot]
