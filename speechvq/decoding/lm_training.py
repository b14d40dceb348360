"""Trains n-gram language models: text → ARPA → binary, lexicon, perplexity on dev.

Text comes from `speechvq.decoding.lm_text`; kaldingram (Kneser–Ney as SRILM has it, one discount
an order) or KenLM's `lmplz` (modified Kneser–Ney) does the counting, as a process of its own.
`speechvq.decoding.language_model` reads what this leaves:

    lm.arpa        the model
    lm.bin         the same, faster to load; where KenLM's `build_binary` is on the PATH
    lexicon.txt    a word a line, the most frequent first, with its spelling: `word<TAB>w o r d |`
    summary.json   language, unit, order, text, perplexity
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechvq.decoding.config import KALDINGRAM_ORDERS, TrainLmConfig
from speechvq.decoding.language_model import (
    ARPA_FILE,
    BINARY_FILE,
    FORMAT,
    FORMAT_VERSION,
    LEXICON_FILE,
    SUMMARY_FILE,
    compute_digest,
    is_language_model,
)
from speechvq.decoding.lm_text import DEV, WORD_SEPARATOR, LmText, to_tokens
from speechvq.decoding.ngram import BEGIN, iterate_arpa, read_arpa
from speechvq.durable import sync_files
from speechvq.errors import ConfigError, DataError, MissingDependencyError, NoSpaceError

_ZERO = -98.0
"""log10 probabilities below this stand for 0: kaldingram writes -99."""
_FEWEST_SENTENCES = 2


@dataclass(frozen=True, kw_only=True)
class LmSummary:
    """What `summary.json` says.

    Attributes:
        language: `hin_Deva`.
        unit: "word" or "character".
        order: Longest n-gram.
        requested_order: What was asked for; more where the text was too little.
        trainer: "kaldingram" or "lmplz".
        normalizer: Identifier of the text normaliser.
        word_separator: What stands between words and ends spellings.
        digest: Of `lm.arpa`.
        num_ngrams: By order.
        num_sentences: Sentences of text.
        num_words: Their words.
        num_lexicon_words: Words in the lexicon.
        num_lines: Lines and transcripts read.
        num_left_out: Of those, left out, by reason: "empty", "reserved", or the split whose
            sentence they hold.
        held_out_checked: Whether there was a corpus whose other splits were kept out.
        dev: On the corpus' dev sentences: "perplexity" (of tokens and sentence ends), "num_tokens",
            "num_unknown", "unknown_rate", "num_sentences"; and of words, against the lexicon,
            "num_words", "num_oov", "oov_rate". None without dev.
        config: What was asked for.
    """

    language: str
    unit: str
    order: int
    requested_order: int
    trainer: str
    normalizer: str
    word_separator: str
    digest: str
    num_ngrams: list[int]
    num_sentences: int
    num_words: int
    num_lexicon_words: int
    num_lines: int
    num_left_out: dict[str, int]
    held_out_checked: bool
    dev: dict[str, Any] | None
    config: dict[str, Any] = field(repr=False)


def train_language_model(config: TrainLmConfig) -> LmSummary:
    """Trains a language model and writes its directory, complete or not at all.

    Args:
        config: Of which text; see `TrainLmConfig`.

    Raises:
        ConfigError: The configuration cannot work, or `output` holds something else.
        DataError: The text cannot be read, or nothing of it is left.
        MissingDependencyError: kaldingram is to train and not installed.
    """
    problems = config.validate()
    output = Path(config.output)
    if output.exists() and not is_language_model(output) and any(output.iterdir()):
        problems.append(
            f"`output` must be new, empty or a language model's, but {output} holds other files."
        )
    if problems:
        raise ConfigError(problems)
    text = LmText(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        summary = _write_files(work, config, text)
        umask = os.umask(0o022)
        os.umask(umask)
        work.chmod(0o777 & ~umask)
        sync_files(work)
        if output.exists():
            shutil.rmtree(output)
        work.rename(output)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return summary


def describe(summary: LmSummary, output: str) -> str:
    """Returns the result in a few lines for a terminal."""
    ngrams = ", ".join(f"{count:,}" for count in summary.num_ngrams)
    lines = [
        f"{summary.language}: {summary.num_sentences:,} sentences, {summary.num_words:,} words, "
        f"{summary.num_lexicon_words:,} different; {summary.unit} {summary.order}-grams: {ngrams}"
    ]
    left_out = [f"{count:,} {reason}" for reason, count in summary.num_left_out.items() if count]
    if left_out:
        lines.append(f"left out: {', '.join(left_out)}")
    if summary.dev and summary.dev["perplexity"] is not None:
        lines.append(
            f"dev: perplexity {summary.dev['perplexity']:.1f} per {summary.unit}, "
            f"{100 * (summary.dev['oov_rate'] or 0):.1f} % of the words are not in the lexicon"
        )
    if not summary.held_out_checked:
        lines.append(
            "warning: without `corpus` nothing kept dev and test sentences out; a score with this "
            "model may flatter."
        )
    if summary.order < summary.requested_order:
        lines.append(
            f"warning: the order is {summary.order} instead of {summary.requested_order}: in so "
            f"little text no {summary.order + 1}-gram occurs twice, so nothing tells how much to "
            "discount."
        )
    return "\n".join([*lines, f"language model: {output}"])


def _write_files(work: Path, config: TrainLmConfig, text: LmText) -> LmSummary:
    words: Counter[str] = Counter()
    num_sentences = 0
    sentences = work / "text.tmp"
    with sentences.open("w", encoding="utf-8", newline="\n") as file:
        for sentence in text:
            file.write(" ".join(to_tokens(sentence, config.unit)) + "\n")
            words.update(sentence)
            num_sentences += 1
    if num_sentences < _FEWEST_SENTENCES:
        raise DataError(_explain_lack(config, text, num_sentences))
    order, num_ngrams = _train(work, sentences, config)
    sentences.unlink()
    lexicon = _choose_words(words, config.lexicon_size)
    _write_lexicon(work / LEXICON_FILE, lexicon)
    _build_binary(work)
    counts = text.counts
    summary = LmSummary(
        language=config.language,
        unit=config.unit,
        order=order,
        requested_order=config.get_order(),
        trainer=config.get_trainer(),
        normalizer=text.normalizer.identifier,
        word_separator=WORD_SEPARATOR,
        digest=compute_digest(work / ARPA_FILE),
        num_ngrams=num_ngrams,
        num_sentences=num_sentences,
        num_words=words.total(),
        num_lexicon_words=len(lexicon),
        num_lines=counts.num_lines,
        num_left_out={
            "empty": counts.num_empty,
            "reserved": counts.num_reserved,
            **{split: counts.excluded[split] for split in sorted(counts.excluded)},
        },
        held_out_checked=text.held_out is not None,
        dev=_measure(work / ARPA_FILE, config.unit, text, set(lexicon)),
        config=asdict(config),
    )
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(summary)}
    content = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    (work / SUMMARY_FILE).write_text(content, encoding="utf-8")
    return summary


def _explain_lack(config: TrainLmConfig, text: LmText, num_sentences: int) -> str:
    counts = text.counts
    return (
        f"A language model needs at least {_FEWEST_SENTENCES} sentences, but of "
        f"{counts.num_lines:,} lines {num_sentences} are left: {counts.num_empty:,} hold no letter "
        f"after normalisation, {counts.num_reserved:,} a reserved word, and "
        f"{counts.excluded.total():,} a sentence of another split "
        f"({', '.join(sorted(counts.excluded)) or 'none'}), which must not enter. Give more text "
        f"of {config.language} with `text=FILE`."
    )


def _train(work: Path, sentences: Path, config: TrainLmConfig) -> tuple[int, list[int]]:
    """Writes the ARPA file.

    Returns:
        The order, and the number of n-grams of each.
    """
    order = config.get_order()
    if config.get_trainer() == "lmplz":
        _run_lmplz(work, sentences, order, config.min_counts)
        return order, _count_ngrams(work / ARPA_FILE, order)
    if importlib.util.find_spec("kaldingram") is None:
        raise MissingDependencyError("kaldingram", "lm", "train a language model")
    while True:
        _run_kaldingram(work, sentences, order, config)
        reliable = _find_reliable_order(work / ARPA_FILE)
        if reliable >= order:
            return order, _count_ngrams(work / ARPA_FILE, order)
        if reliable < KALDINGRAM_ORDERS.start:
            raise DataError(
                "The text is too little for a language model: no two neighbouring "
                f"{config.unit}s occur twice. Give more text of {config.language} with "
                "`text=FILE`."
            )
        order = reliable


def _run_kaldingram(work: Path, sentences: Path, order: int, config: TrainLmConfig) -> None:
    arpa = work / ARPA_FILE
    program = [sys.executable, "-m", "kaldingram.cli"]
    paths = ["--text", str(sentences), "--lm", str(arpa)]
    _run([*program, "train", "--ngram-order", str(order), *paths])
    if config.prune:
        pruned = work / "pruned.tmp"
        paths = ["--lm", str(arpa), "--write-lm", str(pruned)]
        _run([*program, "prune", "--threshold", repr(config.prune), *paths])
        pruned.replace(arpa)


def _run_lmplz(work: Path, sentences: Path, order: int, min_counts: Sequence[int]) -> None:
    lmplz = shutil.which("lmplz")
    if lmplz is None:
        raise DataError(
            f"`order={order}` needs KenLM's `lmplz`, which is not on the PATH: build it "
            "(https://kheafield.com/code/kenlm/), or take `order=5`, which kaldingram trains."
        )
    paths = ["--text", str(sentences), "--arpa", str(work / ARPA_FILE), "-T", str(work / "lmplz")]
    # lmplz drops what occurs at most so often; `min_counts` keep what occurs at least so often.
    prune = [str(max(0, count - 1)) for count in min_counts]
    cutoffs = ["--prune", *prune] if prune else []
    _run([lmplz, "--order", str(order), *paths, "--discount_fallback", *cutoffs])


def _build_binary(work: Path) -> None:
    program = shutil.which("build_binary")
    if program is not None:
        _run([program, "trie", str(work / ARPA_FILE), str(work / BINARY_FILE)])


def _run(command: list[str]) -> None:
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No space left" in done.stderr:
        raise NoSpaceError(f"The disk is full: {done.stderr.strip().splitlines()[-1]}")
    last = "\n".join(done.stderr.strip().splitlines()[-5:])
    raise DataError(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{last}")


def _find_reliable_order(arpa: Path) -> int:
    """Returns the longest order below the first with n-grams of probability 0.

    Kneser–Ney's discount is n1 / (n1 + 2 n2), the numbers of n-grams that occur once and twice.
    Where none occurs twice it is 1, and what was seen once is left with nothing.
    """
    highest = 0
    for ngram, log_prob, _ in iterate_arpa(arpa):
        if log_prob < _ZERO and ngram != (BEGIN,):
            return len(ngram) - 1
        highest = len(ngram)
    return highest


def _count_ngrams(arpa: Path, order: int) -> list[int]:
    counts = [0] * order
    for ngram, _, _ in iterate_arpa(arpa):
        counts[len(ngram) - 1] += 1
    return counts


def _choose_words(words: Counter[str], size: int) -> list[str]:
    ordered = sorted(words, key=lambda word: (-words[word], word))
    return ordered[:size] if size else ordered


def _write_lexicon(path: Path, words: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for word in words:
            file.write(f"{word}\t{' '.join([*word, WORD_SEPARATOR])}\n")


def _measure(arpa: Path, unit: str, text: LmText, lexicon: set[str]) -> dict[str, Any] | None:
    if not text.dev:
        return None
    sentences = [to_tokens(sentence, unit) for sentence in text.dev]
    found = read_arpa(arpa, sentences).compute_perplexity(sentences)
    words = [word for sentence in text.dev for word in sentence]
    num_oov = sum(word not in lexicon for word in words)
    return {
        "split": DEV,
        **asdict(found),
        "unknown_rate": found.unknown_rate,
        "num_words": len(words),
        "num_oov": num_oov,
        "oov_rate": num_oov / len(words) if words else None,
    }
