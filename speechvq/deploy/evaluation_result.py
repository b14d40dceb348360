"""What an evaluation found: utterances, their counts, warnings, and the numbers of `metrics.json`.

`speechvq.deploy.evaluation` makes it, `evaluation_files` and `evaluation_report` write it down.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechvq import __version__
from speechvq.decoding.bootstrap import MIN_SPEAKERS, NUM_RESAMPLES, SEED, BootstrapUnit
from speechvq.decoding.calibration import Calibration, collect_words, compute_calibration
from speechvq.decoding.config import EvaluateConfig
from speechvq.decoding.scoring import ErrorRate, GroupScore, UtteranceScores
from speechvq.deploy.n_best import NBest, list_decoding_warnings
from speechvq.deploy.result_groups import ScoreGroups, group_scores
from speechvq.deploy.score_variants import ScoreVariant
from speechvq.errors import ModelError
from speechvq.models.directory import read_model_config
from speechvq.reporting.cells import is_number

KIND = "evaluation"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One scored utterance; texts are normalised.

    Attributes:
        id: The utterance.
        language: Its language.
        speaker: `<source>/<speaker>`, "" where not known.
        seconds: Length of its audio.
        reference: What was said.
        hypothesis: What was recognised.
        source: Where the recording comes from.
        snr_db: Its signal-to-noise ratio; None where not measured.
        confidences: Of the hypothesis' words; None where not known.
    """

    id: str
    language: str
    speaker: str
    seconds: float
    reference: str
    hypothesis: str
    source: str = ""
    snr_db: float | None = None
    confidences: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A recogniser's results on U utterances.

    Attributes:
        config: What was asked for.
        results: U utterances in the corpus's order.
        scores: Their edit counts.
        corpus_normalizer: Identifier of the normaliser that the corpus was prepared with.
        model_digest: Digest of the model's files.
        device: Where the model ran.
        recognition_seconds: Wall time of decoding audio, model and search together.
        num_untranscribed: Utterances of the selection that have no transcript.
        shared_speakers: Speakers that the training split has too; None where nobody is named.
        unwritable: Letters of the references that the vocabulary lacks, and how often they occur.
        decoding: By language, how the beam search was set up; empty for greedy decoding.
        n_best: By utterance, what it found, normalised.
        oracle: Error rates of always choosing the best of the n-best.
        variants: The same texts scored under other normalisers, the configured one first.
        training: What the model was finetuned on: `verb`, `hours`, and hours by language.
    """

    config: EvaluateConfig
    results: list[Result]
    scores: UtteranceScores
    corpus_normalizer: str
    model_digest: str
    device: str
    recognition_seconds: float
    num_untranscribed: int
    shared_speakers: list[str] | None
    unwritable: dict[str, int]
    decoding: dict[str, Any] = field(default_factory=dict)
    n_best: NBest = field(default_factory=dict)
    oracle: dict[str, Any] | None = None
    variants: list[ScoreVariant] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        """Languages scored, in order."""
        return sorted({result.language for result in self.results})

    @property
    def decoder_name(self) -> str:
        """What decoded, for people."""
        kind = self.config.get_decoder()
        models = [
            f"{language}: {found['unit']} {found['order']}-grams, weight {found['lm_weight']:g}, "
            f"{'word score ' + format(found['word_score'], 'g') if found['unit'] == 'word' else ''}"
            for language, found in self.decoding.items()
            if found["lm"] is not None
        ]
        names = "; ".join(name.rstrip(", ") for name in models)
        return f"{kind}, {names}" if names else f"{kind}, no language model"

    @property
    def real_time_factor(self) -> float:
        """Wall time over audio: 0.1 is ten times faster than speech."""
        return self.recognition_seconds / max(float(self.scores.seconds.sum()), 1e-9)

    @functools.cached_property
    def total(self) -> GroupScore:
        """The scores of all utterances."""
        return self.scores.summarize()

    @functools.cached_property
    def by_language(self) -> list[GroupScore]:
        """The scores of each language."""
        return self.scores.summarize_by([one.language for one in self.results])

    @functools.cached_property
    def by_speaker(self) -> list[GroupScore]:
        """The scores of each speaker, "?" being those that are not named."""
        return self.scores.summarize_by([one.speaker or "?" for one in self.results])

    @functools.cached_property
    def groups(self) -> list[ScoreGroups]:
        """The scores by source, duration and signal-to-noise ratio."""
        return group_scores(
            self.scores,
            [one.source for one in self.results],
            [one.snr_db for one in self.results],
        )

    @functools.cached_property
    def calibrations(self) -> dict[str, Calibration]:
        """By language, how well confidences foretell what is right; "all" together. Languages
        without a recognised word, or without confidences, are left out.
        """
        found = {}
        for name in ("all", *self.languages):
            chosen = [one for one in self.results if name in ("all", one.language)]
            confidences, correct, _ = collect_words(
                (one.reference, one.hypothesis, one.confidences) for one in chosen
            )
            calibration = compute_calibration(confidences, correct)
            if calibration is not None:
                found[name] = calibration
        return found

    def describe_interval(self) -> str:
        """Returns what the intervals are made of, and why, for people."""
        rate = self.total.wer
        if rate.unit is BootstrapUnit.SPEAKER:
            return f"over {rate.num_units:,} speakers"
        names = {result.speaker for result in self.results}
        why = (
            "speakers are not all named"
            if "" in names
            else f"{len(names)} speakers, and {MIN_SPEAKERS} are needed"
        )
        return f"over {rate.num_units:,} utterances ({why})"

    def choose_examples(self, count: int) -> tuple[list[int], list[int]]:
        """Returns the rows of the worst and of the best utterances, none in both.

        Ordered by word errors and then by character errors, each relative to its length; among
        the best, longer ones come first where all else is equal. Where nothing was recognised
        there is nothing to look at: such utterances come only when there are no others.
        """
        words, letters = self.scores.words, self.scores.characters
        keys = [
            (words.errors[row] / max(words.reference_lengths[row], 1),
             letters.errors[row] / max(letters.reference_lengths[row], 1))
            for row in range(len(self.results))
        ]  # fmt: skip
        order = sorted(
            range(len(keys)),
            key=lambda row: (keys[row], -words.reference_lengths[row], self.results[row].id),
        )
        num_best = min(count, len(order) // 2)
        rest = reversed(order[num_best:])
        worst = sorted(rest, key=lambda row: bool(self.scores.empty_hypotheses[row]))
        return worst[:count], order[:num_best]

    def list_warnings(self) -> list[str]:
        """Returns sentences about what makes these numbers less than they seem."""
        warnings = []
        total = self.total
        blank, count = total.num_empty_hypotheses, total.num_utterances
        if blank * 2 >= count:
            warnings.append(
                f"Nothing at all was recognised in {blank:,} of {count:,} utterances (all frames "
                "blank): the model has not learned to write yet. Train for more steps, with a "
                "higher learning rate or more transcribed audio, and see whether the training "
                "loss still falls."
            )
        if self.shared_speakers:
            warnings.append(
                f"{len(self.shared_speakers)} speakers of this split speak in the training split "
                f"too ({_shorten(self.shared_speakers)}): new speakers will fare worse."
            )
        if self.unwritable:
            letters = _shorten([f"{key} ({num})" for key, num in self.unwritable.items()])
            warnings.append(
                f"The references have {sum(self.unwritable.values()):,} letters that the model's "
                f"vocabulary lacks, each a certain error: {letters}."
            )
        if self.corpus_normalizer != self.scores.normalizer:
            warnings.append(
                f"The corpus was prepared with the text normaliser {self.corpus_normalizer}, the "
                f"score uses {self.scores.normalizer}: compare only with scores that use the same."
            )
        if total.num_empty_references:
            warnings.append(
                f"{total.num_empty_references:,} references are empty; whatever was recognised "
                "there counts as insertions."
            )
        warnings += list_decoding_warnings(
            self.decoding, split=self.config.split, normalizer=self.scores.normalizer
        )
        if count < 30:
            warnings.append(f"{count} utterances are few: the interval itself is uncertain.")
        return warnings

    def to_metrics(self) -> dict[str, Any]:
        """Returns the contents of `metrics.json`."""
        total, groups, speakers = self.total, self.by_language, self.by_speaker
        rates = [group.wer.rate for group in groups if group.wer.rate is not None]
        return {
            "kind": KIND,
            "format_version": 1,
            "speechvq_version": __version__,
            **_to_flat(total),
            "wer_mean_over_languages": sum(rates) / len(rates) if rates else None,
            "num_untranscribed": self.num_untranscribed,
            "normalizer": self.scores.normalizer,
            "corpus_normalizer": self.corpus_normalizer,
            "decoder": self.config.get_decoder(),
            "decoding": self.decoding,
            "oracle": self.oracle,
            "model_digest": self.model_digest,
            "test_set_digest": self._compute_test_set_digest(),
            "interval": {
                "level": 0.95,
                "method": f"percentile bootstrap over {total.wer.unit}s",
                "unit": total.wer.unit.value,
                "num_units": total.wer.num_units,
                "min_speakers": MIN_SPEAKERS,
                "num_resamples": NUM_RESAMPLES,
                "seed": SEED,
            },
            "variants": [variant.to_json() for variant in self.variants],
            "calibration": {name: asdict(one) for name, one in self.calibrations.items()},
            "num_words_without_confidence": sum(
                len(one.hypothesis.split()) for one in self.results if one.confidences is None
            ),
            "training": self.training,
            "real_time_factor": self.real_time_factor,
            "device": self.device,
            "shared_speakers": self.shared_speakers,
            "unwritable_letters": self.unwritable,
            "warnings": self.list_warnings(),
            "languages": {group.name: _to_flat(group) for group in groups},
            "speakers": {group.name: _to_flat(group) for group in speakers},
            **{
                one.key: {group.name: _to_flat(group) for group in one.groups}
                for one in self.groups
            },
            "config": asdict(self.config),
        }

    def _compute_test_set_digest(self) -> str:
        digest = hashlib.sha256()
        for result in sorted(self.results, key=lambda one: one.id):
            digest.update(f"{result.id}\t{result.reference}\n".encode())
        return digest.hexdigest()


def read_training(directory: str | Path) -> dict[str, Any]:
    """Returns what a model's own files say of its training: `verb`, `hours` of audio, and
    `languages` with the hours of each; what they do not say is left out.
    """
    try:
        document = read_model_config(directory)
    except ModelError:
        return {}
    corpus, training = document.get("corpus") or {}, document.get("training") or {}
    found: dict[str, Any] = {}
    if isinstance(training.get("verb"), str):
        found["verb"] = training["verb"]
    if is_number(corpus.get("hours")):
        found["hours"] = corpus["hours"]
    languages = corpus.get("languages")
    if isinstance(languages, dict):
        found["languages"] = {
            name: part["hours"]
            for name, part in languages.items()
            if isinstance(part, dict) and is_number(part.get("hours"))
        }
    return found


def _to_flat(group: GroupScore) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    rates: tuple[tuple[str, str, ErrorRate], ...] = (
        ("wer", "words", group.wer),
        ("cer", "characters", group.cer),
        ("cer_no_spaces", "letters", group.cer_no_spaces),
    )
    for name, _, rate in rates:
        flat[name] = rate.rate
        flat[f"{name}_interval"] = None if rate.low is None else [rate.low, rate.high]
        if rate.utterance_low is not None:
            flat[f"{name}_interval_over_utterances"] = [rate.utterance_low, rate.utterance_high]
    flat["interval_unit"] = group.wer.unit.value
    flat["num_interval_units"] = group.wer.num_units
    for _, unit, rate in rates:
        flat[unit] = {
            "errors": rate.errors,
            "substitutions": rate.substitutions,
            "deletions": rate.deletions,
            "insertions": rate.insertions,
            "reference_length": rate.reference_length,
        }
    flat["num_utterances"] = group.num_utterances
    flat["hours"] = group.seconds / 3600
    flat["num_empty_references"] = group.num_empty_references
    flat["num_empty_hypotheses"] = group.num_empty_hypotheses
    return flat


def _shorten(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
