"""Which codes of one codebook stand for concepts of frames: found on dev, measured on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from speechvq.analysis.concept_files import ConceptKind, ConceptRow
from speechvq.analysis.concept_null import FramePermuter
from speechvq.analysis.concept_scores import (
    LEFT_OUT,
    CodePairs,
    ConceptCounts,
    NeuronTable,
    find_best_codes,
    score_codes,
    score_neurons,
)
from speechvq.analysis.concept_unions import CodeIndex, grow_union, measure_union
from speechvq.nn.places import Place

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Neurons = tuple[NeuronTable, NeuronTable]


@dataclass(frozen=True, kw_only=True)
class FrameLabels:
    """Labels of one kind.

    Attributes:
        kind: What they are about.
        names: L names.
        dev: (N,) long on dev; −1: none of them, `LEFT_OUT`: not known.
        test: The same on test.
    """

    kind: ConceptKind
    names: Sequence[str]
    dev: IntArray
    test: IntArray


@dataclass(kw_only=True)
class CodebookConcepts:
    """What one codebook stands for.

    Attributes:
        rows: A row a concept, in the order of kinds and names.
        null: By kind: (2, P, L) of the code that was chosen among permuted labels, its worth on
            dev (`compute_worth`) and its precision on test.
        counts: By kind: on dev and on test.
    """

    rows: list[ConceptRow] = field(default_factory=list)
    null: dict[ConceptKind, FloatArray] = field(default_factory=dict)
    counts: dict[ConceptKind, tuple[ConceptCounts, ConceptCounts]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SearchRules:
    """How codes are chosen.

    Attributes:
        min_recall: See `find_best_codes`.
        min_support: Fewer frames on dev or test make a concept rare.
        num_permutations: P.
    """

    min_recall: float = 0.1
    min_support: int = 30
    num_permutations: int = 100


def search_frames(
    codes: tuple[IntArray, IntArray],
    labels: Sequence[FrameLabels],
    *,
    place: Place,
    head: int,
    num_codes: int,
    rules: SearchRules,
    permuters: tuple[FramePermuter, FramePermuter],
    neurons: Callable[[ConceptKind], Neurons | None],
) -> CodebookConcepts:
    """Finds the codes of all concepts in one codebook.

    Args:
        codes: (N, k) of dev and of test.
        labels: By kind.
        place: Of the codebook.
        head: Its number there.
        num_codes: V.
        rules: How codes are chosen.
        permuters: Of dev and of test.
        neurons: Activations on dev and test to compare with, by kind.
    """
    pairs = tuple(CodePairs(torch.from_numpy(one), num_codes) for one in codes)
    index = CodeIndex(pairs[0].frames, pairs[0].codes, len(codes[0]), num_codes)
    result = CodebookConcepts()
    nulls = _search_permuted(pairs, labels, rules, permuters)
    for one in labels:
        counts = _count(pairs, (one.dev, one.test), len(one.names))
        chosen = find_best_codes(counts[0], min_recall=rules.min_recall)
        dev, test = (score_codes(part, chosen) for part in counts)
        tables = neurons(one.kind)
        compared = None
        if tables is not None:
            compared = score_neurons(tables[0], tables[1], recalls=(dev.recall, test.recall))
        null = nulls[one.kind]
        result.counts[one.kind] = counts
        result.null[one.kind] = null
        is_known = one.test > LEFT_OUT
        known = codes[1][is_known], one.test[is_known]
        for number in range(len(one.names)):
            union = _find_union(index, one.dev, number, int(chosen[number]), counts[0])
            found = measure_union(known[0], union, known[1] == number, num_codes)
            precision = float(test.precision[number])
            result.rows.append(
                ConceptRow(
                    kind=one.kind,
                    concept=one.names[number],
                    layer=place.layer,
                    site=place.site,
                    head=head,
                    code=int(chosen[number]),
                    codes=tuple(union),
                    precision=precision,
                    recall=float(test.recall[number]),
                    support=int(test.support[number]),
                    lift=float(test.lift[number]),
                    union_precision=found[0],
                    union_recall=found[1],
                    neuron_precision=None
                    if compared is None
                    else float(compared.precision[number]),
                    permuted_precision=float(null[1, :, number].mean()) if null.size else None,
                    p=compute_p_value(precision, null[1, :, number]),
                    dev_precision=float(dev.precision[number]),
                    dev_recall=float(dev.recall[number]),
                    dev_support=int(dev.support[number]),
                    is_rare=bool(
                        min(dev.support[number], test.support[number]) < rules.min_support
                    ),
                )
            )
    return result


def compute_worth(precision: ArrayLike, recall: ArrayLike, min_recall: float) -> FloatArray:
    """What codes are worth on dev, to choose among places: precision + 1, or only the recall where
    that is below the minimum.
    """
    own, share = np.asarray(precision, np.float64), np.asarray(recall, np.float64)
    return np.where(share >= min_recall, own + 1, share)


def compute_p_value(value: float, null: FloatArray) -> float | None:
    """Share of permutations that reach a value, the true labels counted in; None without any."""
    if not len(null):
        return None
    return float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))


def _count(
    pairs: Sequence[CodePairs], labels: Sequence[IntArray], num_labels: int
) -> tuple[ConceptCounts, ConceptCounts]:
    dev, test = (
        one.count(torch.from_numpy(own), num_labels) for one, own in zip(pairs, labels, strict=True)
    )
    return dev, test


def _search_permuted(
    pairs: Sequence[CodePairs],
    labels: Sequence[FrameLabels],
    rules: SearchRules,
    permuters: tuple[FramePermuter, FramePermuter],
) -> Mapping[ConceptKind, FloatArray]:
    """The whole search among permuted labels, see `CodebookConcepts.null`."""
    nulls = {
        one.kind: np.zeros((2, rules.num_permutations, len(one.names)), dtype=np.float64)
        for one in labels
    }
    for number in range(rules.num_permutations):
        orders = [one.draw(number) for one in permuters]
        for one in labels:
            own = [part[order] for part, order in zip((one.dev, one.test), orders, strict=True)]
            counts = _count(pairs, own, len(one.names))
            chosen = find_best_codes(counts[0], min_recall=rules.min_recall)
            dev, test = (score_codes(part, chosen) for part in counts)
            nulls[one.kind][0, number] = compute_worth(
                dev.precision.numpy(), dev.recall.numpy(), rules.min_recall
            )
            nulls[one.kind][1, number] = test.precision.numpy()
    return nulls


def _find_union(
    index: CodeIndex, labels: IntArray, number: int, first: int, counts: ConceptCounts
) -> list[int]:
    """The union of a concept, the most precise code first."""
    hits, fired = counts.both[number].numpy(), counts.codes.numpy()
    union = grow_union(
        index, labels == number, labels > LEFT_OUT, first=first, hits=hits, fired=fired
    )
    return sorted(union, key=lambda code: -hits[code] / max(1, fired[code]))
