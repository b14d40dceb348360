"""Finds the weights of a language model on dev and keeps them with the recogniser.

The model runs once; each pair of weights is a search over the same log-probabilities. Never on
another split: there is no key for it (D10 of the design).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechvq.data.audio import Waveform, decode_flac
from speechvq.data.corpus import list_partitions, read_utterances
from speechvq.data.length_batches import batch_by_length
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.text import TextNormalizer, get_normalizer
from speechvq.decoding.alignment import Unit, count_edits
from speechvq.decoding.config import BeamSettings, TuneLmConfig
from speechvq.decoding.greedy import decode_best_path
from speechvq.decoding.language_model import LanguageModel, load_language_model
from speechvq.decoding.lm_text import DEV
from speechvq.decoding.search import FloatArray
from speechvq.deploy.decoding_weights import WEIGHTS_FILE, save_tuned_settings
from speechvq.deploy.progress import ProgressLine
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.score_variants import normalize_hypothesis
from speechvq.deploy.text_decoder import TextDecoder, create_text_decoder
from speechvq.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Error rates with one pair of weights."""

    lm_weight: float
    word_score: float
    wer: float
    cer: float


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was tried.

    Attributes:
        language: The head.
        num_utterances: Of dev.
        seconds: Their audio.
        greedy: Error rates without a language model; its weights are 0.
        trials: In the order of the grid.
        best: The chosen one.
        metric: "wer" or "cer": what it is best in.
        at_edge: Sentences about a best weight that is the grid's last.
    """

    language: str
    num_utterances: int
    seconds: float
    greedy: Trial
    trials: list[Trial]
    best: Trial
    metric: str
    at_edge: list[str]


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One utterance of dev: its reference, its best path, (T, N) log-probabilities."""

    reference: str
    greedy: str
    log_probs: FloatArray
    seconds: float


def tune_language_model(config: TuneLmConfig) -> Tuning:
    """Tries all pairs of weights on dev and saves the best in the model directory.

    Raises:
        ConfigError: The configuration cannot work.
        ModelError: The language model does not fit the recogniser.
        DataError: The corpus has no dev split of the language, or no transcripts in it.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    model = load_language_model(config.lm)
    recognizer = Recognizer.load(config.model, device=config.device)
    language = recognizer.check_language(model.language)
    decoder = create_text_decoder(
        recognizer.model.vocabularies[language], language, kind=config.decoder, lm=model
    )
    normalizer = get_normalizer(config.normalizer)
    cases = _read_cases(config, recognizer, language, normalizer)
    trials = _try_all(config, decoder, cases, normalizer, model)
    greedy = _score(0.0, 0.0, cases, [case.greedy for case in cases])
    other = "cer" if config.metric == "wer" else "wer"
    best = min(trials, key=lambda one: (getattr(one, config.metric), getattr(one, other)))
    tuning = Tuning(
        language=language,
        num_utterances=len(cases),
        seconds=sum(case.seconds for case in cases),
        greedy=greedy,
        trials=trials,
        best=best,
        metric=config.metric,
        at_edge=_find_edges(best, trials),
    )
    entry = _create_entry(config, tuning, normalizer)
    save_tuned_settings(Path(config.model), language, model.digest, entry)
    return tuning


def describe(tuning: Tuning, model: str) -> str:
    """Returns the result in some lines for a terminal."""
    lines = [
        f"{tuning.language}, dev: {tuning.num_utterances:,} utterances, "
        f"{tuning.seconds / 3600:.2f} h; the least {tuning.metric.upper()} wins",
        "lm_weight  word_score     WER     CER",
        f"{'greedy':>9}  {'':>10}  {_format(tuning.greedy)}",
    ]
    for trial in tuning.trials:
        mark = "  <- best" if trial is tuning.best else ""
        lines.append(f"{trial.lm_weight:9g}  {trial.word_score:10g}  {_format(trial)}{mark}")
    lines += [f"warning: {sentence}" for sentence in tuning.at_edge]
    return "\n".join([*lines, f"weights: {Path(model) / WEIGHTS_FILE}"])


def _format(trial: Trial) -> str:
    return f"{100 * trial.wer:5.1f} %  {100 * trial.cer:5.1f} %"


def _read_cases(
    config: TuneLmConfig, recognizer: Recognizer, language: str, normalizer: TextNormalizer
) -> list[_Case]:
    splits = {part.split for part in list_partitions(config.corpus) if part.language == language}
    if DEV not in splits:
        raise DataError(
            f"{config.corpus} has no dev split in {language} (it has "
            f"{', '.join(sorted(splits)) or 'nothing'}): weights are tuned on dev only."
        )
    rows = read_utterances(
        config.corpus,
        splits=[DEV],
        languages=[language],
        where=config.where,
        columns=["audio", "num_samples", "text"],
    )
    transcribed = (row for row in rows if row.text)
    chosen = itertools.islice(transcribed, config.limit or None)
    vocabulary = recognizer.model.vocabularies[language]
    cases: list[_Case] = []
    for batch in batch_by_length(chosen, config.batch_seconds):
        waveforms: list[Waveform] = [decode_flac(row.audio) for row in batch]
        found = recognizer.compute_log_probs(waveforms, language)
        for row, log_probs in zip(batch, found, strict=True):
            text = decode_best_path(log_probs, vocabulary)
            reference = normalizer(row.text or "", language)
            greedy = normalize_hypothesis(text, normalizer, language)
            cases.append(
                _Case(
                    reference=reference,
                    greedy=greedy,
                    log_probs=log_probs.numpy(),
                    seconds=row.num_samples / SAMPLE_RATE,
                )
            )
    if not any(case.reference for case in cases):
        raise DataError(
            f"{config.corpus}, split 'dev', language {language!r}: no row with "
            f"`where={config.where!r}` has a transcript, so nothing can be tuned."
        )
    return cases


def _try_all(
    config: TuneLmConfig,
    decoder: TextDecoder,
    cases: list[_Case],
    normalizer: TextNormalizer,
    model: LanguageModel,
) -> list[Trial]:
    word_scores = config.word_scores if model.unit == "word" else [0.0]
    pairs = list(itertools.product(config.lm_weights, word_scores))
    base = replace(BeamSettings(), beam_size=config.beam_size, num_best=1)
    seconds = sum(case.seconds for case in cases)
    progress = ProgressLine("tune_lm", seconds * len(pairs))
    trials = []
    for lm_weight, word_score in pairs:
        settings = replace(base, lm_weight=lm_weight, word_score=word_score)
        texts = []
        for case in cases:
            found = decoder.decode_row(case.log_probs, case.greedy, settings)
            texts.append(normalize_hypothesis(found[0].text, normalizer, model.language))
            progress.advance(1, case.seconds)
        trials.append(_score(lm_weight, word_score, cases, texts))
    progress.close()
    return trials


def _score(lm_weight: float, word_score: float, cases: list[_Case], texts: list[str]) -> Trial:
    references = [case.reference for case in cases]
    rates = []
    for unit in (Unit.WORD, Unit.CHARACTER):
        counts = count_edits(references, texts, unit)
        rates.append(int(counts.errors.sum()) / int(counts.reference_lengths.sum()))
    return Trial(lm_weight=lm_weight, word_score=word_score, wer=rates[0], cer=rates[1])


def _find_edges(best: Trial, trials: list[Trial]) -> list[str]:
    sentences = []
    for key, verb in (("lm_weight", "lm_weights"), ("word_score", "word_scores")):
        values = {getattr(trial, key) for trial in trials}
        value = getattr(best, key)
        if len(values) > 1 and value in (min(values), max(values)):
            sentences.append(
                f"the best `{key}`, {value:g}, is the {'least' if value == min(values) else 'most'}"
                f" that was tried: give `{verb}` beyond it."
            )
    return sentences


def _create_entry(
    config: TuneLmConfig, tuning: Tuning, normalizer: TextNormalizer
) -> dict[str, Any]:
    return {
        "lm_weight": tuning.best.lm_weight,
        "word_score": tuning.best.word_score,
        "beam_size": config.beam_size,
        "metric": config.metric,
        "dev": {
            "wer": tuning.best.wer,
            "cer": tuning.best.cer,
            "greedy_wer": tuning.greedy.wer,
            "greedy_cer": tuning.greedy.cer,
            "num_utterances": tuning.num_utterances,
            "seconds": round(tuning.seconds, 3),
            "where": config.where,
            "normalizer": normalizer.identifier,
        },
    }
