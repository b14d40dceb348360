"""Error rates of recognisers: corpus WER and CER, intervals, tables by group, comparisons.

Takes references and hypotheses (`score_utterances`) or counts (`compare_systems`) and gives plain
dataclasses that turn into JSON.

Rates are corpus rates: all errors over all reference units, never a mean of utterances' rates.
Intervals are percentiles of a bootstrap (`speechvq.decoding.bootstrap`) over speakers where enough
are named, else over utterances, which makes them too narrow: utterances of one speaker resemble
each other. Every rate says which it was.

Two character rates stand side by side: `cer` counts code points after NFC with the spaces between
words as characters, as jiwer does; `cer_no_spaces` leaves the spaces out, for languages whose
word boundaries are a matter of convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechvq.decoding.alignment import EditCounts, IntArray, Unit, count_edits
from speechvq.decoding.bootstrap import (
    NUM_RESAMPLES,
    SEED,
    BootstrapUnit,
    FloatArray,
    number_speakers,
    resample_rates,
    sum_by_speaker,
)


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """One corpus error rate.

    Attributes:
        rate: Errors over reference units, 0.314 for 31.4 %; None where the references are empty.
        low: Lower end of the 95 % interval; None with fewer than two utterances.
        high: Upper end.
        unit: What was drawn for it.
        num_units: How many there are to draw from.
        utterance_low: Lower end of the interval over utterances, where `unit` is the speaker.
        utterance_high: Upper end.
        errors: Substitutions, deletions and insertions together.
        reference_length: Units in the references.
        substitutions: Units taken for another.
        deletions: Units that the hypotheses lack.
        insertions: Units that only the hypotheses have.
    """

    rate: float | None
    low: float | None
    high: float | None
    unit: BootstrapUnit
    num_units: int
    utterance_low: float | None
    utterance_high: float | None
    errors: int
    reference_length: int
    substitutions: int
    deletions: int
    insertions: int


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """The scores of some utterances, such as all of a language or of a speaker.

    Attributes:
        name: The group's name.
        wer: Word error rate.
        cer: Character error rate, spaces between words counted as characters.
        cer_no_spaces: Character error rate without spaces.
        num_utterances: Utterances in the group.
        seconds: Their audio.
        num_empty_references: Utterances whose reference is empty; their hypotheses' units are
            insertions.
        num_empty_hypotheses: Utterances for which nothing was recognised (all frames blank).
    """

    name: str
    wer: ErrorRate
    cer: ErrorRate
    cer_no_spaces: ErrorRate
    num_utterances: int
    seconds: float
    num_empty_references: int
    num_empty_hypotheses: int


@dataclass(frozen=True, kw_only=True)
class UtteranceScores:
    """Edit counts of U utterances in every unit, the ground of all tables and tests.

    Attributes:
        words: Counts in words.
        characters: Counts in characters, spaces included.
        letters: Counts in characters without spaces.
        seconds: (U,) audio.
        empty_hypotheses: (U,) whether nothing was recognised.
        speakers: (U,) names, "" where not known.
        normalizer: Identifier of the normaliser that both sides went through, such as "basic-1".
    """

    words: EditCounts
    characters: EditCounts
    letters: EditCounts
    seconds: FloatArray
    empty_hypotheses: NDArray[np.bool_]
    speakers: NDArray[np.str_]
    normalizer: str

    def __len__(self) -> int:
        return len(self.words)

    def summarize(
        self, name: str = "all", rows: NDArray[np.bool_] | IntArray | None = None
    ) -> GroupScore:
        """Returns the scores of all or some of the utterances.

        Args:
            name: The group's name.
            rows: Mask (U,) or positions; None for all.
        """
        chosen = np.arange(len(self)) if rows is None else rows
        words, speakers = self.words.select(chosen), self.speakers[chosen]
        return GroupScore(
            name=name,
            wer=compute_error_rate(words, speakers),
            cer=compute_error_rate(self.characters.select(chosen), speakers),
            cer_no_spaces=compute_error_rate(self.letters.select(chosen), speakers),
            num_utterances=len(words),
            seconds=round(float(self.seconds[chosen].sum()), 3),
            num_empty_references=int((words.reference_lengths == 0).sum()),
            num_empty_hypotheses=int(self.empty_hypotheses[chosen].sum()),
        )

    def summarize_by(self, labels: Sequence[str]) -> list[GroupScore]:
        """Returns the scores of each group, ordered by name.

        Args:
            labels: The group of each of the U utterances.
        """
        if len(labels) != len(self):
            raise ValueError(f"There must be {len(self)} labels, but there are {len(labels)}.")
        array = np.array(labels, dtype=object)
        return [self.summarize(name, array == name) for name in sorted(set(labels))]


def score_utterances(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normalizer: str,
    seconds: Sequence[float] | None = None,
    speakers: Sequence[str] | None = None,
) -> UtteranceScores:
    """Counts the errors of U utterances.

    Args:
        references: U texts, normalised.
        hypotheses: U texts, normalised in the same way.
        normalizer: Identifier of that normaliser; it belongs to the score.
        seconds: U durations; zeros where they are not known.
        speakers: U names, "" where not known; None where nobody is.
    """
    return UtteranceScores(
        words=count_edits(references, hypotheses, Unit.WORD),
        characters=count_edits(references, hypotheses, Unit.CHARACTER),
        letters=count_edits(references, hypotheses, Unit.LETTER),
        seconds=np.asarray(
            seconds if seconds is not None else [0.0] * len(references), dtype=float
        ),
        empty_hypotheses=np.array([not text.strip() for text in hypotheses], dtype=bool),
        speakers=np.array(speakers if speakers is not None else [""] * len(references), dtype=str),
        normalizer=normalizer,
    )


def compute_error_rate(
    counts: EditCounts,
    speakers: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> ErrorRate:
    """Returns the corpus error rate with its 95 % bootstrap interval.

    Args:
        counts: Edit counts of U utterances.
        speakers: U names; the interval is over speakers where `number_speakers` finds enough.
        num_resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap; the same counts give the same interval.
    """
    errors, lengths = counts.errors, counts.reference_lengths
    length = int(lengths.sum())
    values = np.stack([errors, lengths], axis=1)
    unit, units = _group_by_unit(values, speakers)
    ends = _find_ends(resample_rates(units, num_resamples, seed))
    by_utterance: tuple[float | None, float | None] = (None, None)
    if unit is BootstrapUnit.SPEAKER:
        by_utterance = _find_ends(resample_rates(values, num_resamples, seed))
    return ErrorRate(
        rate=int(errors.sum()) / length if length else None,
        low=ends[0],
        high=ends[1],
        unit=unit,
        num_units=len(units),
        utterance_low=by_utterance[0],
        utterance_high=by_utterance[1],
        errors=int(errors.sum()),
        reference_length=length,
        substitutions=int(counts.substitutions.sum()),
        deletions=int(counts.deletions.sum()),
        insertions=int(counts.insertions.sum()),
    )


def _group_by_unit(
    values: IntArray, speakers: Sequence[str] | NDArray[np.str_] | None
) -> tuple[BootstrapUnit, IntArray]:
    numbers = None if speakers is None else number_speakers(list(speakers))
    if numbers is None:
        return BootstrapUnit.UTTERANCE, values
    return BootstrapUnit.SPEAKER, sum_by_speaker(values, numbers)


def _find_ends(rates: FloatArray | None) -> tuple[float | None, float | None]:
    if rates is None:
        return None, None
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A paired bootstrap test of two systems on the same utterances.

    Attributes:
        difference: Rate of b less rate of a: negative where b is better. None for empty references.
        low: Lower end of the difference's 95 % interval.
        high: Upper end.
        p_value: Two-sided: how often a resample contradicts the sign of the difference, doubled;
            never 0.
        num_utterances: Utterances compared.
        num_resamples: Bootstrap samples.
        unit: What was drawn.
        num_units: How many there are to draw from.
    """

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    num_utterances: int
    num_resamples: int
    unit: BootstrapUnit
    num_units: int


def compare_systems(
    counts_a: EditCounts,
    counts_b: EditCounts,
    speakers: Sequence[str] | None = None,
    *,
    num_resamples: int = 10_000,
    seed: int = SEED,
) -> Comparison:
    """Tests whether two systems differ on the same utterances (Bisani & Ney 2004, section 4).

    Both are resampled together, so that hard utterances are hard for both.

    Args:
        counts_a: Edit counts of the first system on U utterances.
        counts_b: Edit counts of the second on the same U utterances, in the same order.
        speakers: U names; speakers are drawn where `number_speakers` finds enough.
        num_resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If the reference lengths differ, which no two scores of the same test set do.
    """
    return compare_all(counts_a, [counts_b], speakers, num_resamples=num_resamples, seed=seed)[0]


def compare_all(
    reference: EditCounts,
    others: Sequence[EditCounts],
    speakers: Sequence[str] | None = None,
    *,
    num_resamples: int = 10_000,
    seed: int = SEED,
) -> list[Comparison]:
    """Tests each of several systems against one, with the same draws; see `compare_systems`.

    Raises:
        ValueError: If reference lengths differ.
    """
    lengths = reference.reference_lengths
    if not all(np.array_equal(lengths, other.reference_lengths) for other in others):
        raise ValueError(
            "Both systems must be scored on the same utterances with the same normaliser, "
            "but their reference lengths differ."
        )
    gains = [other.errors - reference.errors for other in others]
    total = int(lengths.sum())
    unit, units = _group_by_unit(np.stack([*gains, lengths], axis=1), speakers)
    differences = resample_rates(units, num_resamples, seed)  # (R, len(others))
    comparisons = []
    for number, gain in enumerate(gains):
        column = None if differences is None else differences[:, number]
        low, high = _find_ends(column)
        p_value = None
        if column is not None:
            contradicting = min(int((column >= 0).sum()), int((column <= 0).sum()))
            p_value = min(1.0, 2 * (contradicting + 1) / (len(column) + 1))
        comparisons.append(
            Comparison(
                difference=int(gain.sum()) / total if total else None,
                low=low,
                high=high,
                p_value=p_value,
                num_utterances=len(reference),
                num_resamples=0 if column is None else num_resamples,
                unit=unit,
                num_units=len(units),
            )
        )
    return comparisons
