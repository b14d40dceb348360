"""Takes a concept's codes out of whole utterances: are they needed to recognise its letters?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor, nn

from speechvq.analysis.concept_files import ConceptRow
from speechvq.analysis.intervals import Estimate
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.code_edits import Ablation
from speechvq.nn.places import Place
from speechvq.steering.dev_statistics import DevStatistics, draw_matched
from speechvq.steering.estimates import estimate_ratios
from speechvq.steering.material import AlignedUtterance, UtterancePass
from speechvq.steering.measures import collapse
from speechvq.steering.recall import RecallCounts, count_hits, count_recall
from speechvq.steering.targets import Target

CodeSet = dict[tuple[Place, int], tuple[int, ...]]
"""Codes by place and codebook."""


class AblationKind(StrEnum):
    """Which codes are taken out."""

    codes = "codes"
    """The concept's, `ConceptRow.codes`."""
    random = "random codes"
    """As many others, each about as frequent as one of these."""


@dataclass(frozen=True, kw_only=True)
class MadeAblation:
    """One ablation in one utterance.

    Attributes:
        target: The concept.
        utterance: Id.
        kind: Which codes.
        num_places: Codebooks.
        counts: Hits before and after.
    """

    target: str
    utterance: str
    kind: AblationKind
    num_places: int
    counts: RecallCounts


@dataclass(frozen=True, kw_only=True)
class AblationSummary:
    """Recall over utterances, with intervals of a bootstrap over them.

    Attributes:
        kind: Which codes were taken out.
        num_places: In how many codebooks.
        num_utterances: Where.
        own_total: Letters of the concept in their references.
        own_before: Their recall without an edit.
        own_drop: By how much it fell.
        other_before: Recall of all other letters.
        other_drop: By how much that fell.
    """

    kind: AblationKind
    num_places: int
    num_utterances: int
    own_total: int
    own_before: Estimate
    own_drop: Estimate
    other_before: Estimate
    other_drop: Estimate


def create_ablations(module: nn.Module, sets: Sequence[CodeSet]) -> list[Ablation]:
    """Ablations of R rows, each with its own codes.

    Args:
        module: A model with bottlenecks.
        sets: R sets of codes.
    """
    bottlenecks = list_bottlenecks(module)
    masks: dict[Place, Tensor] = {}
    for row, codes in enumerate(sets):
        for (place, head), values in codes.items():
            one = bottlenecks[place]
            mask = masks.setdefault(
                place,
                torch.zeros(len(sets), one.num_codebooks, one.codebook_size, dtype=torch.bool),
            )
            mask[row, head, torch.tensor(values, dtype=torch.long)] = True
    return [
        Ablation(layer=place.layer, site=place.site, is_ablated=mask)
        for place, mask in masks.items()
    ]


def choose_codes(rows: Sequence[ConceptRow]) -> CodeSet:
    """The concept's codes in some codebooks."""
    return {(row.place, row.head): row.codes for row in rows}


def draw_codes(codes: CodeSet, statistics: DevStatistics, generator: torch.Generator) -> CodeSet:
    """As many other codes, each about as frequent as one of these."""
    drawn: CodeSet = {}
    for (place, head), values in codes.items():
        found: list[int] = []
        for code in values:
            counts = statistics.code_counts[place][head]
            one = draw_matched(counts, code, {*values, *found}, generator)
            if one is not None:
                found.append(one)
        drawn[place, head] = tuple(found)
    return drawn


def make_ablations(
    model: nn.Module,
    utterance: UtterancePass,
    aligned: AlignedUtterance,
    targets: Sequence[Target],
    *,
    num_places: int,
    statistics: DevStatistics,
    generator: torch.Generator,
    max_rows: int,
    advance: Callable[[int], None],
) -> list[MadeAblation]:
    """Takes codes of each target out of an utterance: in its best codebooks, and in all.

    Args:
        model: The recogniser.
        utterance: In it.
        aligned: The same utterance's labels.
        targets: Concepts whose letters are in its reference.
        num_places: How many codebooks are the best.
        statistics: Of dev.
        generator: Draws the control's codes, on the CPU.
        max_rows: Rows at a time.
        advance: Called after each batch with its rows.
    """
    jobs: list[tuple[Target, AblationKind, CodeSet]] = []
    for target in targets:
        for size in list_sizes(target, num_places):
            codes = choose_codes(target.rows[:size])
            jobs.append((target, AblationKind.codes, codes))
            control = draw_codes(codes, statistics, generator)
            jobs.append((target, AblationKind.random, control))
    num_labels = len(aligned.label_texts)
    totals = np.bincount(np.asarray(aligned.labels, dtype=np.int64), minlength=num_labels)
    before = count_hits(aligned.labels, collapse(aligned.best_path.clone()), num_labels)
    letters = np.array(sorted(aligned.letters), dtype=np.int64)
    made = []
    for begin in range(0, len(jobs), max_rows):
        part = jobs[begin : begin + max_rows]
        ablations = create_ablations(model, [codes for _, _, codes in part])
        paths = utterance.run(len(part), ablations).argmax(-1)
        for (target, kind, codes), path in zip(part, paths, strict=True):
            after = count_hits(aligned.labels, collapse(path), num_labels)
            own = target.labels[aligned.head].tolist()
            made.append(
                MadeAblation(
                    target=target.key,
                    utterance=aligned.utterance.id,
                    kind=kind,
                    num_places=len(codes),
                    counts=count_recall(before, after, totals, own=own, letters=letters),
                )
            )
        advance(len(part))
    return made


def list_sizes(target: Target, num_places: int) -> list[int]:
    """In how many codebooks codes are taken out: the best, and all."""
    return sorted({min(num_places, len(target.rows)), len(target.rows)})


def summarize_ablations(made: Sequence[MadeAblation], *, seed: int) -> list[AblationSummary]:
    """Sums ablations up by kind and number of codebooks."""
    groups: dict[tuple[AblationKind, int], list[MadeAblation]] = {}
    for one in made:
        groups.setdefault((one.kind, one.num_places), []).append(one)
    return [_summarize(*key, group, seed) for key, group in groups.items()]


def _summarize(
    kind: AblationKind, num_places: int, made: Sequence[MadeAblation], seed: int
) -> AblationSummary:
    names = [one.utterance for one in made]
    counts = [one.counts for one in made]
    own_before, own_drop = estimate_ratios(
        [(c.own_before, c.own_before - c.own_after) for c in counts],
        [c.own_total for c in counts],
        names,
        seed=seed,
    )
    other_before, other_drop = estimate_ratios(
        [(c.other_before, c.other_before - c.other_after) for c in counts],
        [c.other_total for c in counts],
        names,
        seed=seed,
    )
    return AblationSummary(
        kind=kind,
        num_places=num_places,
        num_utterances=len(set(names)),
        own_total=sum(c.own_total for c in counts),
        own_before=own_before,
        own_drop=own_drop,
        other_before=other_before,
        other_drop=other_drop,
    )
