"""Which characters the transcripts of a corpus hold, and how often: `vocabulary.tsv`.

A character that is rare in its language is a typing error, a foreign word or an encoding gone wrong
more often than a letter, and becomes an output of a CTC model all the same.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

VOCABULARY_FILE = "vocabulary.tsv"
RARE_SHARE = 1e-5
"""A character with a smaller share of its language's characters is rare."""
RARE_COUNT = 5
"""So is one that occurs less often."""
_COLUMNS = (
    "language",
    "character",
    "code_point",
    "name",
    "category",
    "count",
    "utterances",
    "rare",
)


@dataclass(frozen=True, slots=True)
class CharacterCount:
    """One character of one language.

    Attributes:
        language: `hin_Deva`.
        character: One code point.
        count: How often it occurs.
        num_utterances: In how many utterances.
        is_rare: Whether it may be no letter of the language.
    """

    language: str
    character: str
    count: int
    num_utterances: int
    is_rare: bool


def count_characters(language: str, texts: Iterable[str]) -> list[CharacterCount]:
    """Counts the characters of a language's transcripts, the most frequent first; white space is
    left out.
    """
    counts: Counter[str] = Counter()
    utterances: Counter[str] = Counter()
    for text in texts:
        here = Counter(text)
        counts.update(here)
        utterances.update(here.keys())
    for character in [c for c in counts if c.isspace()]:
        del counts[character]
    total = counts.total()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        CharacterCount(
            language=language,
            character=character,
            count=count,
            num_utterances=utterances[character],
            is_rare=count < RARE_COUNT or count < RARE_SHARE * total,
        )
        for character, count in ordered
    ]


def count_corpus_characters(corpus: Path) -> list[CharacterCount]:
    """Counts the characters of all transcripts in a corpus's part files, by language."""
    files: dict[str, list[Path]] = {}
    for file in sorted(corpus.glob("split=*/language=*/part-*.parquet")):
        files.setdefault(file.parent.name.removeprefix("language="), []).append(file)
    counts = []
    for language, members in sorted(files.items()):
        texts = (text for file in members for text in _read_texts(file))
        counts += count_characters(language, texts)
    return counts


def format_vocabulary(counts: Iterable[CharacterCount]) -> str:
    """Returns `vocabulary.tsv`: a line per language and character."""
    lines = ["\t".join(_COLUMNS)]
    for one in counts:
        cells = (
            *(one.language, one.character, f"U+{ord(one.character):04X}"),
            *(unicodedata.name(one.character, ""), unicodedata.category(one.character)),
            *(str(one.count), str(one.num_utterances), "yes" if one.is_rare else ""),
        )
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def _read_texts(file: Path) -> list[str]:
    with pq.ParquetFile(file) as parquet:
        column = parquet.read(columns=["text"])["text"]
    return [text for text in column.to_pylist() if text]
