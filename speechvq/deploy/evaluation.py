"""Scores a recogniser on a split of a corpus and writes numbers, hypotheses and a report.

Reads a corpus (`speechvq.data.corpus`) and a model directory; the numbers come from
`speechvq.decoding.scoring`, the files from `speechvq.deploy.evaluation_files`, the page from
`speechvq.deploy.evaluation_report`. Audio is streamed: memory holds some batches, whatever the
size of the corpus.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from speechvq.data.audio import Waveform, decode_flac
from speechvq.data.corpus import list_partitions, read_corpus_info, read_utterances
from speechvq.data.length_batches import batch_by_length
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.data.text import TextNormalizer, get_normalizer
from speechvq.decoding.config import EvaluateConfig
from speechvq.decoding.scoring import UtteranceScores, score_utterances
from speechvq.deploy.evaluation_files import check_output, write_evaluation
from speechvq.deploy.evaluation_report import create_report
from speechvq.deploy.evaluation_result import Evaluation, Result, read_training
from speechvq.deploy.n_best import add_decoders, compute_oracle, normalize_n_best
from speechvq.deploy.progress import ProgressLine
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.score_variants import ScoredText, normalize_hypothesis, score_variants
from speechvq.deploy.word_confidences import (
    Recognized,
    follow_normalization,
    recognize_with_confidences,
)
from speechvq.errors import ConfigError, DataError, ModelError
from speechvq.models.digest import compute_model_digest


@dataclass(frozen=True, kw_only=True)
class _Selection:
    """What is to be scored: rows without their audio, in the corpus's order."""

    utterances: list[Utterance]
    num_untranscribed: int


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Scores a recogniser and writes its report.

    Args:
        config: What is scored on what; see `EvaluateConfig`.

    Returns:
        What was written to `metrics.json` and `hypotheses.tsv`.

    Raises:
        ConfigError: If the configuration cannot work, or `output` holds another evaluation.
        ModelError: If the model is no recogniser, or has no head for a language.
        DataError: If nothing is left to score.
    """
    evaluation = score_recognizer(config)
    page = create_report(evaluation, _read_audio(config, evaluation))
    write_evaluation(evaluation, page)
    return evaluation


def score_recognizer(config: EvaluateConfig) -> Evaluation:
    """Scores a recogniser and writes nothing; see `evaluate`."""
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    check_output(config)
    normalizer = get_normalizer(config.normalizer)
    info = read_corpus_info(config.corpus)
    recognizer = Recognizer.load(config.model, device=config.device)
    selection = _select(config, recognizer)
    languages = {row.id: row.language for row in selection.utterances}
    conditions = add_decoders(recognizer, config, sorted(set(languages.values())))
    recognized, elapsed = _recognize_all(config, recognizer, selection.utterances)
    results = [_create_result(row, recognized[row.id], normalizer) for row in selection.utterances]
    n_best = normalize_n_best(
        {name: found.n_best for name, found in recognized.items() if found.n_best},
        languages,
        lambda text, code: normalize_hypothesis(text, normalizer, code),
    )
    texts = [
        ScoredText(
            language=row.language,
            transcript=row.raw_text,
            prepared=row.text or "",
            recognized=recognized[row.id].text,
            reference=result.reference,
            hypothesis=result.hypothesis,
        )
        for row, result in zip(selection.utterances, results, strict=True)
    ]
    return Evaluation(
        config=config,
        results=results,
        scores=_score(results, normalizer.identifier),
        corpus_normalizer=str(info.get("normalizer", "unknown")),
        model_digest=compute_model_digest(config.model),
        device=str(recognizer.device),
        recognition_seconds=elapsed,
        num_untranscribed=selection.num_untranscribed,
        shared_speakers=_find_shared_speakers(config, results),
        unwritable=_count_unwritable(recognizer, results),
        decoding=conditions,
        n_best=n_best,
        oracle=compute_oracle(
            {one.id: one.reference for one in results},
            n_best,
            {one.id: one.speaker for one in results},
        ),
        variants=score_variants(texts, normalizer.identifier),
        training=read_training(config.model),
    )


def _create_result(row: Utterance, found: Recognized, normalizer: TextNormalizer) -> Result:
    def normalize(text: str) -> str:
        return normalize_hypothesis(text, normalizer, row.language)

    hypothesis = normalize(found.text)
    return Result(
        id=row.id,
        language=row.language,
        speaker=name_speaker(row),
        seconds=row.num_seconds,
        reference=normalizer(row.text or "", row.language),
        hypothesis=hypothesis,
        source=row.source,
        snr_db=row.snr_db,
        confidences=follow_normalization(found.text, found.confidences, hypothesis, normalize),
    )


def name_speaker(utterance: Utterance) -> str:
    """Returns `<source>/<speaker>` (labels are unique within a source only), "" where unknown."""
    return f"{utterance.source}/{utterance.speaker}" if utterance.speaker else ""


def _select(config: EvaluateConfig, recognizer: Recognizer) -> _Selection:
    languages = _choose_languages(config, recognizer)
    counts = dict.fromkeys(languages, 0)
    selected: list[Utterance] = []
    num_rows = dict.fromkeys(languages, 0)
    columns = ["num_samples", "text", "raw_text", "source", "speaker", "snr_db"]
    for row in read_utterances(
        config.corpus,
        splits=[config.split],
        languages=languages,
        where=config.where,
        columns=columns,
    ):
        num_rows[row.language] += 1
        if row.text is None or (config.limit and counts[row.language] >= config.limit):
            continue
        counts[row.language] += 1
        selected.append(row)
    for language in languages:
        _check_selection(config, language, num_rows[language], counts[language])
    if not selected:
        raise DataError(
            f"{config.corpus} has no transcribed utterance in split {config.split!r} "
            f"with `where={config.where!r}` for any of the model's languages "
            f"({', '.join(languages)}): nothing to score."
        )
    num_untranscribed = sum(num_rows.values()) - len(selected) if not config.limit else 0
    return _Selection(utterances=selected, num_untranscribed=num_untranscribed)


def _check_selection(config: EvaluateConfig, language: str, num_rows: int, num_texts: int) -> None:
    if num_texts or language not in config.language:
        return
    place = f"{config.corpus}, split {config.split!r}, language {language!r}"
    if not num_rows:
        raise DataError(f"{place}: no row has `where={config.where!r}`, so nothing is to score.")
    raise DataError(
        f"{place}: none of the {num_rows} utterances has a transcript, so nothing can be scored. "
        "Give the manifest a transcript column and prepare the corpus again, or take another split."
    )


def _choose_languages(config: EvaluateConfig, recognizer: Recognizer) -> list[str]:
    partitions = list_partitions(config.corpus)
    splits = sorted({partition.split for partition in partitions})
    if config.split not in splits:
        raise DataError(
            f"`split` must be one that {config.corpus} has ({', '.join(splits)}), "
            f"but is {config.split!r}."
        )
    present = sorted({part.language for part in partitions if part.split == config.split})
    for language in config.language:
        recognizer.check_language(language)
        if language not in present:
            raise DataError(
                f"`language` must be one that {config.corpus} has in split {config.split!r} "
                f"({', '.join(present)}), but is {language!r}."
            )
    chosen = config.language or [name for name in recognizer.languages if name in present]
    if not chosen:
        raise ModelError(
            f"{config.model} has heads for {', '.join(recognizer.languages)}, but split "
            f"{config.split!r} of {config.corpus} has only {', '.join(present)}."
        )
    return chosen


def _recognize_all(
    config: EvaluateConfig, recognizer: Recognizer, utterances: list[Utterance]
) -> tuple[dict[str, Recognized], float]:
    wanted = {row.id for row in utterances}
    progress = ProgressLine("evaluate", sum(row.num_seconds for row in utterances))
    recognized: dict[str, Recognized] = {}
    elapsed = 0.0
    for language in sorted({row.language for row in utterances}):
        rows = read_utterances(
            config.corpus,
            splits=[config.split],
            languages=[language],
            where=config.where,
            columns=["audio", "num_samples"],
        )
        chosen = (row for row in rows if row.id in wanted)
        for batch in batch_by_length(chosen, config.batch_seconds):
            begin = time.perf_counter()
            waveforms: list[Waveform] = [decode_flac(row.audio) for row in batch]
            found = recognize_with_confidences(recognizer, waveforms, language)
            elapsed += time.perf_counter() - begin
            recognized.update(zip((row.id for row in batch), found, strict=True))
            progress.advance(len(batch), sum(row.num_samples for row in batch) / SAMPLE_RATE)
    progress.close()
    return recognized, elapsed


def _score(results: list[Result], normalizer: str) -> UtteranceScores:
    return score_utterances(
        [result.reference for result in results],
        [result.hypothesis for result in results],
        normalizer=normalizer,
        seconds=[result.seconds for result in results],
        speakers=[result.speaker for result in results],
    )


def _find_shared_speakers(config: EvaluateConfig, results: list[Result]) -> list[str] | None:
    """Speakers of the scored split who also speak in `train`; None where nobody is named."""
    speakers = {result.speaker for result in results if result.speaker}
    if not speakers:
        return None
    if config.split == "train":
        return []
    languages = sorted({result.language for result in results})
    trained = read_utterances(
        config.corpus, splits=["train"], languages=languages, columns=["source", "speaker"]
    )
    return sorted(speakers & {name_speaker(row) for row in trained})


def _count_unwritable(recognizer: Recognizer, results: list[Result]) -> dict[str, int]:
    """Letters of the references that the vocabulary lacks: they can never be recognised."""
    counts: dict[str, int] = {}
    for result in results:
        vocabulary = recognizer.model.vocabularies[result.language]
        for letter in vocabulary.unknown_characters(result.reference):
            counts[letter] = counts.get(letter, 0) + result.reference.count(letter)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _read_audio(config: EvaluateConfig, evaluation: Evaluation) -> dict[str, bytes]:
    """FLAC bytes of the utterances that the report lets one hear."""
    worst, best = evaluation.choose_examples(config.num_examples)
    wanted = {evaluation.results[row].id for row in (*worst, *best)}
    languages = sorted({evaluation.results[row].language for row in (*worst, *best)})
    audio: dict[str, bytes] = {}
    if not wanted:
        return audio
    rows = read_utterances(
        config.corpus, splits=[config.split], languages=languages, columns=["audio"]
    )
    for row in rows:
        if row.id in wanted:
            audio[row.id] = row.audio
            if len(audio) == len(wanted):
                break
    return audio
