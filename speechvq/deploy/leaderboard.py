"""Any number of evaluations ranked, test set by test set.

Error rates of different test sets, or under different normalisers, have no order: such evaluations
go into tables of their own. Within a table every system is tested against one other, the best or
the first, by the paired bootstrap of `speechvq.decoding.scoring`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechvq.decoding.alignment import EditCounts, IntArray
from speechvq.decoding.scoring import Comparison, ErrorRate, compare_all, compute_error_rate
from speechvq.deploy.evaluation_files import read_metrics, read_results
from speechvq.deploy.evaluation_result import Result

UNITS = {"wer": "words", "cer": "characters", "cer_no_spaces": "letters"}
"""By rate, the counts that it is made of."""
SIGNIFICANCE = 0.05
Metrics = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One evaluation in a table.

    Attributes:
        path: Its directory.
        metrics: Its `metrics.json`.
        rank: 1 is the best; equal scores share a rank.
        score: What it is ranked by: the mean of the languages' rates, each language counting the
            same. None where no reference has a word.
        rates: `wer`, `cer` and `cer_no_spaces` over all utterances.
        languages: Word error rates by language.
        tests: By rate, the comparison with the reference system; None for that system itself.
    """

    path: Path
    metrics: Metrics
    rank: int
    score: float | None
    rates: dict[str, ErrorRate]
    languages: dict[str, ErrorRate]
    tests: dict[str, Comparison] | None

    @property
    def decoder(self) -> str:
        """Decoder and language model, for people."""
        decoder = str(self.metrics.get("decoder", "?"))
        models = [
            f"{found.get('unit')} {found.get('order')}-grams, weight {found.get('lm_weight'):g}"
            for found in (self.metrics.get("decoding") or {}).values()
            if found.get("lm") is not None
        ]
        return f"{decoder}, {'; '.join(sorted(set(models)))}" if models else f"{decoder}, no LM"

    @property
    def training_hours(self) -> float | None:
        """Hours of audio that the model was finetuned on; None where it does not say."""
        hours = (self.metrics.get("training") or {}).get("hours")
        return float(hours) if isinstance(hours, int | float) else None

    def differs_by(self, name: str) -> bool:
        """Returns whether a rate differs from the reference system's beyond chance."""
        test = self.tests[name] if self.tests else None
        return test is not None and test.p_value is not None and test.p_value < SIGNIFICANCE


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Evaluations of one test set under one normaliser.

    Attributes:
        entries: The best first.
        reference: The directory that the others are tested against.
        normalizer: Identifier of the normaliser of all of them.
        test_set: SHA-256 over utterances and references.
        name: Split, languages and size of the test set, for people.
        num_utterances: Of the test set.
        unit: What the bootstrap drew, in words: "37 speakers".
    """

    entries: list[Entry]
    reference: Path
    normalizer: str
    test_set: str
    name: str
    num_utterances: int
    unit: str

    @property
    def languages(self) -> list[str]:
        """Languages of the test set, in order."""
        return sorted(self.entries[0].languages)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    path: Path
    metrics: Metrics
    results: list[Result]
    counts: dict[str, EditCounts]


def create_leaderboards(
    paths: Sequence[Path], *, against: str = "best", rank_by: str = "wer"
) -> list[Leaderboard]:
    """Ranks evaluations.

    Args:
        paths: Directories that `speechvq evaluate` left.
        against: `best` or `first`: which of a table the others are tested against, the one with the
            least rate or the one that was named first.
        rank_by: `wer`, `cer` or `cer_no_spaces`.

    Returns:
        One table a test set and normaliser, that of the first directory first.

    Raises:
        DataError: A directory holds no evaluation, or a damaged one.
    """
    groups: dict[tuple[str, str], list[_Candidate]] = {}
    for path in paths:
        metrics = read_metrics(path)
        results, counts = read_results(path)
        key = (digest_test_set(results), str(metrics.get("normalizer")))
        group = groups.setdefault(key, [])
        if group:  # in the order of the first, so that rows can be paired
            positions = {result.id: number for number, result in enumerate(results)}
            order = np.array([positions[one.id] for one in group[0].results], dtype=np.int64)
            counts = {unit: edits.select(order) for unit, edits in counts.items()}
            results = [results[number] for number in order]
        group.append(_Candidate(path=path, metrics=metrics, results=results, counts=counts))
    return [
        _create_leaderboard(found, key, against=against, rank_by=rank_by)
        for key, found in groups.items()
    ]


def digest_test_set(results: Sequence[Result]) -> str:
    """Returns the SHA-256 over utterances and references, whatever their order."""
    digest = hashlib.sha256()
    for result in sorted(results, key=lambda one: one.id):
        digest.update(f"{result.id}\t{result.reference}\n".encode())
    return digest.hexdigest()


def _create_leaderboard(
    candidates: list[_Candidate], key: tuple[str, str], *, against: str, rank_by: str
) -> Leaderboard:
    # Speakers are those of the first: a corpus that was named anew must not part equal systems.
    results = candidates[0].results
    speakers = [one.speaker for one in results]
    labels = np.array([one.language for one in results], dtype=object)
    languages = sorted(set(labels))
    masks = {name: labels == name for name in languages}
    scores = [_compute_macro_rate(one.counts[UNITS[rank_by]], masks) for one in candidates]
    order = sorted(
        range(len(candidates)),
        key=lambda number: (scores[number] is None, scores[number] or 0.0, number),
    )
    reference = candidates[0 if against == "first" else order[0]]
    others = [one for one in candidates if one is not reference]
    tests = {
        name: compare_all(reference.counts[unit], [one.counts[unit] for one in others], speakers)
        for name, unit in UNITS.items()
    }
    entries = []
    for number in order:
        one, score = candidates[number], scores[number]
        rates = {
            name: compute_error_rate(one.counts[unit], speakers) for name, unit in UNITS.items()
        }
        entries.append(
            Entry(
                path=one.path,
                metrics=one.metrics,
                rank=1 + sum(_is_better(other, score) for other in scores),
                score=score,
                rates=rates,
                languages={
                    name: compute_error_rate(
                        one.counts["words"].select(mask), list(np.array(speakers)[mask])
                    )
                    for name, mask in masks.items()
                },
                tests=None
                if one is reference
                else {name: found[others.index(one)] for name, found in tests.items()},
            )
        )
    rate = entries[0].rates["wer"]
    split = (candidates[0].metrics.get("config") or {}).get("split", "?")
    return Leaderboard(
        entries=entries,
        reference=reference.path,
        normalizer=key[1],
        test_set=key[0],
        name=f"{split}, {', '.join(languages)}, {len(results):,} utterances",
        num_utterances=len(results),
        unit=f"{rate.num_units:,} {rate.unit}s",
    )


def _compute_macro_rate(counts: EditCounts, masks: dict[str, IntArray]) -> float | None:
    rates = []
    for mask in masks.values():
        part = counts.select(mask)
        if length := int(part.reference_lengths.sum()):
            rates.append(int(part.errors.sum()) / length)
    return sum(rates) / len(rates) if rates else None


def _is_better(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)
