"""Measures beam searches, and writes `docs/results/25-beam-search.json` (speed) and
`25-beam-search-exhaustive.json` (accuracy).

    python -m docs.measure_beam_search --corpus CORPUS --work DIRECTORY --machine '…' \
        --model MODEL --lms CHARACTER-LM WORD-LM

Speed: dev goes through the recogniser once, then through flashlight's search and our reference with
beams of several sizes; the slow reference gets the first seconds only. Accuracy: on toy lattices
of random numbers every alignment is written down, so that the best text and the score of every text
are known; the searches are held against that.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from docs.measuring import create_parser, parse_path, write_result
from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.text import get_normalizer
from speechvq.decoding.alignment import Unit, count_edits
from speechvq.decoding.config import BeamSettings, TrainLmConfig
from speechvq.decoding.greedy import decode_best_path
from speechvq.decoding.language_model import LanguageModel, load_language_model
from speechvq.decoding.lm_training import train_language_model
from speechvq.deploy.evaluation import normalize_hypothesis
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.text_decoder import TextDecoder, create_text_decoder
from speechvq.models.vocabulary import CharacterVocabulary, Vocabulary
from tests.support.exhaustive import Labels, sum_alignments

COMMAND = (
    "python -m docs.measure_beam_search --corpus corpus --work work --model hindi/model "
    "--lms lm/hindi_characters lm/hindi_words --machine '…'"
)
SOURCES = {"mdw_Latn": "mboshi", "hin_Deva": "noa_hindi"}
KINDS = {"beam": "flashlight", "reference": "reference"}
BEAMS = (16, 64, 256)
WEIGHTS = BeamSettings(lm_weight=0.5, word_score=2.0, num_best=1)
REFERENCE_SECONDS = 6.0
"""Audio for the reference, which is slow: the shortest utterances."""
TOY = CharacterVocabulary("ab")
TOY_WORDS = ("a", "b", "ab", "ba", "bb")
TOY_LANGUAGE = "mdw_Latn"
TOY_BEAMS = (None, 64, 16, 4)
"""None: all."""
NUM_LATTICES = 200
NUM_FRAMES = 6


@dataclass(frozen=True)
class Case:
    """An utterance of dev."""

    reference: str
    greedy: str
    log_probs: NDArray[np.float32]
    seconds: float


def read_cases(corpus: Path, recognizer: Recognizer, language: str) -> tuple[list[Case], float]:
    """Dev through the recogniser.

    Returns:
        Its utterances, and the CPU seconds of the acoustic model.
    """
    rows = list(
        read_utterances(
            corpus, splits=["dev"], languages=[language],
            where=f"source={SOURCES[language]}", columns=["audio", "text", "num_samples"],
        )
    )  # fmt: skip
    waveforms = [decode_flac(row.audio) for row in rows]
    recognizer.compute_log_probs(waveforms[:2], language)  # warm
    begin = time.process_time()
    found = recognizer.compute_log_probs(waveforms, language)
    seconds = time.process_time() - begin
    normalizer, vocabulary = get_normalizer("basic"), recognizer.model.vocabularies[language]
    cases = [
        Case(
            reference=normalizer(row.text or "", language),
            greedy=decode_best_path(log_probs, vocabulary),
            log_probs=log_probs.numpy(),
            seconds=row.num_samples / SAMPLE_RATE,
        )
        for row, log_probs in zip(rows, found, strict=True)
    ]
    return cases, seconds


def describe_scorer(model: LanguageModel | None) -> str:
    """Name in the tables."""
    if model is None:
        return "none"
    if model.unit == "character":
        return f"characters, order {model.order}"
    return f"lexicon and words, order {model.order}"


def describe_rates(cases: Sequence[Case], texts: Sequence[str], language: str) -> list[str]:
    """WER and CER in percent."""
    normalizer = get_normalizer("basic")
    written = [normalize_hypothesis(text, normalizer, language) for text in texts]
    cells = []
    for unit in (Unit.WORD, Unit.CHARACTER):
        counts = count_edits([case.reference for case in cases], written, unit)
        rate = counts.errors.sum() / counts.reference_lengths.sum()
        cells.append(f"{100 * rate:.1f}")
    return cells


def measure_speed(options: argparse.Namespace, models: Sequence[LanguageModel | None]) -> None:
    """Write how fast searches are."""
    recognizer = Recognizer.load(options.model, device="cpu")
    (language,) = recognizer.languages
    cases, acoustic_seconds = read_cases(options.corpus, recognizer, language)
    total = sum(case.seconds for case in cases)
    acoustic_share = acoustic_seconds / total
    few: list[Case] = []
    for case in sorted(cases, key=lambda one: one.seconds):
        if few and sum(one.seconds for one in few) + case.seconds > REFERENCE_SECONDS:
            break
        few.append(case)
    best = describe_rates(cases, [case.greedy for case in cases], language)
    rows: list[list[str]] = [
        ["best path", "none", "1", f"{total:.0f}", "–", "–", f"{acoustic_share:.4f}", "–", *best]
    ]
    for kind, label in KINDS.items():
        chosen = cases if kind == "beam" else few
        for model in models:
            decoder = create_text_decoder(
                recognizer.model.vocabularies[language], language, kind=kind, lm=model
            )
            for beam in BEAMS:
                settings = replace(WEIGHTS, beam_size=beam)
                begin = time.process_time()
                found = [decoder.decode_row(one.log_probs, one.greedy, settings)[0]
                         for one in chosen]  # fmt: skip
                spent = time.process_time() - begin
                seconds = sum(case.seconds for case in chosen)
                rates = describe_rates(chosen, [one.text for one in found], language)
                rows.append(
                    [
                        label, describe_scorer(model), str(beam), f"{seconds:.0f}",
                        f"{3600 * spent / seconds:,.0f}",
                        f"{100 * spent / seconds / acoustic_share:,.0f}",
                        f"{acoustic_share + spent / seconds:.4f}",
                        f"{np.mean([one.score for one in found]):.2f}",
                        *(rates if kind == "beam" else ["–", "–"]),
                    ]
                )  # fmt: skip
                print(" | ".join(rows[-1]), flush=True)
    write_result(
        "25-beam-search.json",
        title="Beam searches: speed, and what wider beams are worth",
        machine=options.machine,
        command=COMMAND,
        columns=["search", "language model", "beam", "audio, s", "CPU s an hour of audio",
                 "% of the acoustic model's", "real-time factor with it", "mean score", "dev WER %",
                 "dev CER %"],
        rows=rows,
        notes=[
            f"{language}, dev, {len(cases)} utterances, vocabulary of "
            f"{len(recognizer.model.vocabularies[language])} labels, one thread, CPU time; the "
            f"acoustic model alone takes {3600 * acoustic_share:.0f} s an hour. Weights are "
            f"{WEIGHTS.lm_weight} and {WEIGHTS.word_score} for all, and not tuned. Mean scores "
            "compare beams of one search and language model: more is found. The reference is timed "
            f"on the {len(few)} shortest utterances, and its scores are theirs.",
        ],
    )  # fmt: skip


def train_toys(work: Path) -> list[LanguageModel]:
    """Language models of random sentences of a few words."""
    rng = np.random.default_rng(1)
    sentences = [
        " ".join(rng.choice(TOY_WORDS, rng.integers(1, 5), p=(0.4, 0.2, 0.2, 0.1, 0.1)))
        for _ in range(300)
    ]
    work.mkdir(parents=True, exist_ok=True)
    text = work / "toy.txt"
    text.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    models = []
    for unit in ("character", "word"):
        config = TrainLmConfig(
            language=TOY_LANGUAGE, unit=unit, text=[str(text)], order=3,
            output=str(work / f"toy_{unit}"),
        )  # fmt: skip
        train_language_model(config)
        models.append(load_language_model(config.output))
    return models


def create_scorer(model: LanguageModel | None) -> Callable[[Labels], float]:
    """What a language model adds to the score of a text, by the definition."""
    if model is None:
        return lambda labels: 0.0
    ngrams = model.read_ngrams()
    if model.unit == "character":
        return lambda labels: (
            WEIGHTS.lm_weight * ngrams.score_sentence([TOY.labels[label] for label in labels])
        )

    def score(labels: Labels) -> float:
        words = TOY.decode(labels).split()
        if not set(words) <= set(model.spellings):
            return -math.inf
        return WEIGHTS.lm_weight * ngrams.score_sentence(words) + WEIGHTS.word_score * len(words)

    return score


def create_lattices() -> Iterator[NDArray[np.float64]]:
    """Log-probabilities (T, N) of random numbers, the unknown label impossible but for a trace."""
    for seed in range(NUM_LATTICES):
        logits = 2 * np.random.default_rng(seed).normal(size=(NUM_FRAMES, len(TOY)))
        logits[:, 1] -= 20
        yield logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def compare(
    decoder: TextDecoder,
    lattices: Sequence[NDArray[np.float64]],
    truths: Sequence[dict[str, float]],
    beam: int | None,
) -> list[str]:
    """Cells about a search: how often it finds the best text, and what its scores are worth."""
    limits: dict[str, Any] = {"beam_size": beam or 10**5}
    if beam is None:
        limits["beam_threshold"] = 1e5
    settings = replace(WEIGHTS, num_best=1, **limits)
    right, losses, errors = 0, [], []
    for log_probs, truth in zip(lattices, truths, strict=True):
        (found,) = decoder.decode_row(log_probs, "?", settings)
        best = max(truth.values())
        reached = truth.get(found.text, -math.inf)
        right += reached >= best - 1e-9
        losses.append(best - reached)
        errors.append(abs(found.score - reached))
    return [
        f"{right} of {len(truths)}", f"{np.mean(losses):.4f}", f"{max(losses):.3f}",
        f"{max(errors):.1e}",
    ]  # fmt: skip


def measure_accuracy(options: argparse.Namespace) -> None:
    """Write how well searches do what they should."""
    lattices = list(create_lattices())
    separator = TOY.labels.index("|")
    sums = [sum_alignments(log_probs, separator) for log_probs in lattices]
    rows = []
    for model in (None, *train_toys(options.work)):
        score = create_scorer(model)
        truths = [_merge(one, score, TOY) for one in sums]
        for kind, label in KINDS.items():
            decoder = create_text_decoder(TOY, TOY_LANGUAGE, kind=kind, lm=model)
            for beam in TOY_BEAMS:
                cells = compare(decoder, lattices, truths, beam)
                rows.append([describe_scorer(model), label, str(beam or "all"), *cells])
                print(" | ".join(rows[-1]), flush=True)
    write_result(
        "25-beam-search-exhaustive.json",
        title="Beam searches against exhaustive search on toy lattices",
        machine=options.machine,
        command=COMMAND,
        columns=["language model", "search", "beam", "best text found", "score lost, mean",
                 "score lost, most", "wrong about its score by at most"],
        rows=rows,
        notes=[
            f"{NUM_LATTICES} lattices of {NUM_FRAMES} frames and {len(TOY)} labels: all "
            f"{len(TOY) ** NUM_FRAMES:,} alignments of each are summed by the text that they read "
            f"as ({np.mean([len(one) for one in sums]):.0f} texts on average). Scores are natural "
            "logarithms; lost is what the text found has less than the best one. A narrow beam "
            "forgets alignments, so that its scores are too low.",
            "With a model of characters flashlight weighs separators at the end of an utterance "
            "and repeated ones as letters (docs/decoding.md), which is another definition: hence "
            "its differences there even when it searches everything.",
        ],
    )  # fmt: skip


def _merge(
    sums: dict[Labels, float], score: Callable[[Labels], float], vocabulary: Vocabulary
) -> dict[str, float]:
    """Scores by text of all texts that the language model allows."""
    found: dict[str, float] = {}
    for labels, acoustic in sums.items():
        total = acoustic + score(labels)
        if total > -math.inf:
            text = vocabulary.decode(labels)
            found[text] = float(np.logaddexp(found.get(text, -math.inf), total))
    return found


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "corpus", "work")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=parse_path, required=True, help="a recogniser")
    parser.add_argument(
        "--lms", type=parse_path, nargs="+", required=True, help="language models of its language"
    )
    parser.add_argument("--only", choices=("accuracy", "speed"), help="one of the two only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only != "speed":
        measure_accuracy(options)
    if options.only != "accuracy":
        measure_speed(options, [None, *(load_language_model(str(path)) for path in options.lms)])


if __name__ == "__main__":
    main()
