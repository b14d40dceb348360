"""The directory of a language model: what `train_lm` leaves and decoders read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from speechvq.decoding.ngram import NgramModel, read_arpa, read_arpa_order, read_arpa_tokens
from speechvq.errors import ModelError

FORMAT = "speechvq-lm"
FORMAT_VERSION = 1
ARPA_FILE = "lm.arpa"
BINARY_FILE = "lm.bin"
LEXICON_FILE = "lexicon.txt"
SUMMARY_FILE = "summary.json"
_STRINGS = ("language", "unit", "normalizer", "word_separator", "digest")


@dataclass(frozen=True)
class LanguageModel:
    """A language model as it lies on the disk; files are read when they are needed.

    Attributes:
        directory: Where.
        language: `hin_Deva`.
        unit: "word" or "character".
        order: Longest n-gram.
        normalizer: Identifier of the normaliser of its text.
        word_separator: What stands between words.
        digest: Of `lm.arpa`; by it tuned weights are found again.
        spellings: Each word of the lexicon, the most frequent first, with its spelling.
    """

    directory: Path
    language: str
    unit: str
    order: int
    normalizer: str
    word_separator: str
    digest: str
    spellings: dict[str, tuple[str, ...]]

    @property
    def arpa(self) -> Path:
        """The model as text."""
        return self.directory / ARPA_FILE

    @property
    def fastest_file(self) -> Path:
        """The binary where there is one, else the text."""
        binary = self.directory / BINARY_FILE
        return binary if binary.is_file() else self.arpa

    @cached_property
    def tokens(self) -> frozenset[str]:
        """What the model knows, sentence marks left out."""
        return read_arpa_tokens(self.arpa)

    def read_ngrams(self) -> NgramModel:
        """Reads all of the model into memory; see `read_arpa`."""
        return read_arpa(self.arpa)


def load_language_model(directory: str | Path) -> LanguageModel:
    """Reads the directory of a language model, its n-grams left on the disk.

    Raises:
        ModelError: It is no language model, of another version, or damaged.
    """
    directory = Path(directory)
    path = directory / SUMMARY_FILE
    summary = _read_summary(path)
    problems = [f"`{key}` must be a text" for key in _STRINGS if type(summary.get(key)) is not str]
    order = summary.get("order")
    if type(order) is not int or order < 1:
        problems.append("`order` must be a whole number from 1 up")
    if summary.get("unit") not in ("word", "character"):
        problems.append("`unit` must be word or character")
    if problems:
        raise ModelError(f"{path}: {'; '.join(problems)}. Train the language model again.")
    assert type(order) is int
    found = read_arpa_order(directory / ARPA_FILE)
    if found != order:
        raise ModelError(
            f"{path}: `order` is {order}, but {ARPA_FILE} has order {found}: the files are not "
            "of one language model. Train it again."
        )
    return LanguageModel(
        directory=directory,
        order=order,
        spellings=read_lexicon(directory / LEXICON_FILE),
        **{key: summary[key] for key in _STRINGS},
    )


def is_language_model(directory: Path) -> bool:
    """Returns whether a directory is that of a language model, whole or damaged."""
    try:
        document = json.loads((directory / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def read_lexicon(path: Path) -> dict[str, tuple[str, ...]]:
    """Reads `word<TAB>spelling` lines.

    Raises:
        ModelError: The file cannot be read; names the line.
    """
    spellings: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                word, tab, spelling = line.rstrip("\n").partition("\t")
                if not (word and tab and spelling.split()) or len(word.split()) != 1:
                    raise ModelError(
                        f"{path}, line {number}: must be a word, a tab and its letters with "
                        f"spaces between, but is {line[:80].rstrip()!r}."
                    )
                spellings[word] = tuple(spelling.split())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}). Train the language model again."
        ) from None
    return spellings


def compute_digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent} holds no language model: it has no {SUMMARY_FILE}. "
            "`speechvq train_lm` makes one."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}).") from None
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        raise ModelError(
            f"{path} does not describe a language model: `speechvq train_lm` makes one."
        )
    if summary.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: `format_version` must be {FORMAT_VERSION}, but is "
            f"{summary.get('format_version')!r}. Train the language model again."
        )
    return summary
