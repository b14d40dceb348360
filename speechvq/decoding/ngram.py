"""Back-off n-gram models in plain Python: read from ARPA files, score tokens, give perplexities.

Katz's back-off form, which every trainer writes, whatever its smoothing: log p(w | h) stands in the
file, or is the back-off weight of h plus log p(w | h without its first token). For the searches of
platforms without KenLM, for perplexities, and as the check of what KenLM says.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechvq.errors import ModelError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
RESERVED = frozenset({BEGIN, END, UNKNOWN, "<UNK>"})
"""Tokens that no text may hold."""
Ngram = tuple[str, ...]
_LN10 = math.log(10.0)
_MISSING_UNKNOWN = -100.0
"""log10 probability of an unknown token where the file has none for it, as KenLM has it."""


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """How well a model foresees some sentences.

    Attributes:
        perplexity: exp of the mean negative log-probability of known tokens and sentence ends;
            None where there is nothing to score.
        num_sentences: Sentences.
        num_tokens: Tokens, unknown ones included, sentence ends not.
        num_unknown: Tokens that the model does not know; left out of the perplexity, but not of
            the histories.
    """

    perplexity: float | None
    num_sentences: int
    num_tokens: int
    num_unknown: int

    @property
    def unknown_rate(self) -> float | None:
        """Share of unknown tokens; None without tokens."""
        return self.num_unknown / self.num_tokens if self.num_tokens else None


class NgramModel:
    """A back-off model.

    Args:
        order: Longest n-gram.
        ngrams: By tokens: natural logarithms of probability and back-off weight.
    """

    def __init__(self, order: int, ngrams: dict[Ngram, tuple[float, float]]) -> None:
        self.order = order
        self._ngrams = ngrams
        unknown = ngrams.get((UNKNOWN,)) or ngrams.get(("<UNK>",))
        self._unknown = unknown[0] if unknown else _MISSING_UNKNOWN * _LN10

    def __contains__(self, token: str) -> bool:
        return (token,) in self._ngrams

    def __len__(self) -> int:
        return len(self._ngrams)

    def start(self) -> Ngram:
        """Returns the history at the beginning of a sentence."""
        return (BEGIN,) if self.order > 1 else ()

    def score(self, history: Ngram, token: str) -> tuple[Ngram, float]:
        """Returns the history after a token, and the token's natural log-probability."""
        longest = (*history, token)[-(self.order - 1) :] if self.order > 1 else ()
        back_off = 0.0
        for begin in range(len(history) + 1):
            context = history[begin:]
            entry = self._ngrams.get((*context, token))
            if entry is not None:
                return longest, entry[0] + back_off
            if context:
                back_off += self._ngrams.get(context, (0.0, 0.0))[1]
        return longest, self._unknown + back_off

    def score_sentence(self, tokens: Iterable[str]) -> float:
        """Returns the natural log-probability of a sentence, its end included."""
        total, history = 0.0, self.start()
        for token in (*tokens, END):
            history, score = self.score(history, token)
            total += score
        return total

    def compute_perplexity(self, sentences: Iterable[Collection[str]]) -> Perplexity:
        """Returns how well the model foresees sentences of tokens."""
        total = 0.0
        num_scored = num_sentences = num_tokens = num_unknown = 0
        for sentence in sentences:
            history = self.start()
            for token in (*sentence, END):
                history, score = self.score(history, token)
                if token in self:
                    total += score
                    num_scored += 1
                else:
                    num_unknown += 1
            num_sentences += 1
            num_tokens += len(sentence)
        return Perplexity(
            perplexity=math.exp(-total / num_scored) if num_scored else None,
            num_sentences=num_sentences,
            num_tokens=num_tokens,
            num_unknown=num_unknown,
        )


def read_arpa(path: Path, sentences: Iterable[Collection[str]] | None = None) -> NgramModel:
    """Reads an ARPA file.

    Args:
        path: The file, UTF-8.
        sentences: Where only these are to be scored, what else is in the file is passed over, so
            that memory does not grow with it.

    Raises:
        ModelError: The file is missing, cut off or no ARPA file; names the line.
    """
    order = read_arpa_order(path)
    wanted = None if sentences is None else _list_ngrams(sentences, order)
    ngrams = {}
    for ngram, log_prob, back_off in iterate_arpa(path):
        if wanted is None or ngram in wanted:
            ngrams[ngram] = (log_prob * _LN10, back_off * _LN10)
    return NgramModel(order, ngrams)


def read_arpa_order(path: Path) -> int:
    """Returns the longest n-gram of an ARPA file.

    Raises:
        ModelError: The file is missing or no ARPA file.
    """
    return len(_read_counts(path, _iterate_lines(path)))


def read_arpa_tokens(path: Path) -> frozenset[str]:
    """Returns the tokens that an ARPA file knows, sentence marks left out; reads no further.

    Raises:
        ModelError: The file is missing, cut off or no ARPA file.
    """
    tokens = set()
    for ngram, _, _ in iterate_arpa(path):
        if len(ngram) > 1:
            break
        tokens.add(ngram[0])
    return frozenset(tokens - RESERVED)


def iterate_arpa(path: Path) -> Iterator[tuple[Ngram, float, float]]:
    """Yields the n-grams of an ARPA file: tokens, log10 probability, log10 back-off weight.

    Raises:
        ModelError: The file is missing, cut off or no ARPA file; names the line.
    """
    lines = _iterate_lines(path)
    counts = _read_counts(path, lines)
    for order, count in enumerate(counts, start=1):
        if order > 1:
            _expect(path, lines, f"\\{order}-grams:")
        for _ in range(count):
            number, line = next(lines, (0, ""))
            ngram = _parse_entry(line, order)
            if ngram is None:
                raise ModelError(
                    f"{path}, line {number or 'after the last'}: must be one of {count} "
                    f"{order}-grams, but is {line[:80]!r}. Train the language model again."
                )
            yield ngram
    _expect(path, lines, "\\end\\")


def _parse_entry(line: str, order: int) -> tuple[Ngram, float, float] | None:
    parts = line.split()
    if len(parts) not in (order + 1, order + 2):
        return None
    try:
        log_prob = float(parts[0])
        back_off = float(parts[-1]) if len(parts) == order + 2 else 0.0
    except ValueError:
        return None
    # Some trainers write a certain event as slightly more than 1.
    if not (-math.inf < log_prob <= 1e-3 and math.isfinite(back_off)):
        return None
    return tuple(parts[1 : order + 1]), log_prob, back_off


def _iterate_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}). Train the language model again."
        ) from None


def _read_counts(path: Path, lines: Iterator[tuple[int, str]]) -> list[int]:
    """Reads the counts and the mark of the unigrams after them."""
    _expect(path, lines, "\\data\\")
    counts: list[int] = []
    for number, line in lines:
        if counts and line == "\\1-grams:":
            return counts
        name, _, count = line.partition("=")
        if name.split() == ["ngram", str(len(counts) + 1)] and count.strip().isdecimal():
            counts.append(int(count))
            continue
        raise ModelError(
            f"{path}, line {number}: must say how many {len(counts) + 1}-grams follow, "
            f"but is {line[:80]!r}."
        )
    raise ModelError(f"{path} is cut off. Train the language model again.")


def _expect(path: Path, lines: Iterator[tuple[int, str]], mark: str) -> None:
    number, line = next(lines, (0, ""))
    if line != mark:
        raise ModelError(
            f"{path}, line {number or 'after the last'}: must be {mark!r}, but is {line[:80]!r}: "
            "the file is damaged or no ARPA file. Train the language model again."
        )


def _list_ngrams(sentences: Iterable[Collection[str]], order: int) -> set[Ngram]:
    ngrams: set[Ngram] = {(UNKNOWN,), ("<UNK>",)}
    for sentence in sentences:
        tokens = (BEGIN, *sentence, END)
        for length in range(1, order + 1):
            ngrams.update(tokens[i : i + length] for i in range(len(tokens) - length + 1))
    return ngrams
