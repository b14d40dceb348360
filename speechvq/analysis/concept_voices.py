"""Which codes of one codebook stand for concepts of whole utterances: language, sex, pitch.

Counted by utterances, since all frames of an utterance share the label. An utterance has a code
where the code stands in more than a threshold of its frames. Threshold and code are those of the
largest informedness on dev (Youden 1950: recall minus the share of other utterances that have the
code; 0 for a code that knows nothing, however frequent it or the concept is). No speaker is in both
halves: else codes that know speakers would seem to know what speakers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from speechvq.analysis.concept_files import ConceptKind, ConceptRow
from speechvq.analysis.concept_null import permute_units
from speechvq.analysis.concept_scores import NeuronTable, score_neurons
from speechvq.analysis.concept_search import compute_p_value
from speechvq.nn.places import Place

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_MIN_UNITS = 2


@dataclass(frozen=True, kw_only=True)
class UtteranceLabels:
    """Labels of one kind.

    Attributes:
        kind: What they are about.
        names: L names.
        labels: (U,) of all utterances; below 0 where unknown.
        units: (U,) speakers, or utterances where these are not known.
        is_dev: (U,) bool, utterances on which codes are chosen; all others are for measuring.
    """

    kind: ConceptKind
    names: Sequence[str]
    labels: IntArray
    units: IntArray
    is_dev: BoolArray


def divide_units(labels: IntArray, units: IntArray, rng: np.random.Generator) -> BoolArray:
    """Halves utterances so that no unit is on both sides, and each label is on both where it has
    several units.

    Args:
        labels: (U,) of utterances; below 0 where unknown.
        units: (U,) who spoke them.
        rng: Source of randomness.

    Returns:
        (U,) bool, True for dev.
    """
    found, first, owners = np.unique(units, return_index=True, return_inverse=True)
    of_unit = labels[first]
    is_dev = np.zeros(len(found), dtype=bool)
    for label in np.unique(of_unit):
        own = rng.permutation(np.flatnonzero(of_unit == label))
        is_dev[own[: (len(own) + int(rng.integers(2))) // 2]] = True
    return np.asarray(is_dev[owners.reshape(-1)])


class ShareTable:
    """How much of each utterance each code fills, ordered once for any label.

    Args:
        shares: (U, V).
    """

    def __init__(self, shares: FloatArray) -> None:
        self.shares = shares
        if not len(shares):
            shares = np.zeros((1, shares.shape[1]))
        self._order = np.argsort(-shares, axis=0, kind="stable")  # (U, V)
        self._sorted = np.take_along_axis(shares, self._order, axis=0)
        below = np.vstack([self._sorted[1:], np.full((1, shares.shape[1]), -1.0)])
        self._cuts = (self._sorted + np.maximum(below, 0)) / 2  # half-way to the next
        self._is_cut = (self._sorted > below) & (self._sorted > 0)

    def choose_thresholds(self, is_concept: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Chooses each code's threshold.

        Args:
            is_concept: (U,) bool.

        Returns:
            (V,) thresholds, and (V,) informedness there; infinite and −1 for unused codes.
        """
        own = is_concept if len(is_concept) else np.zeros(1, dtype=bool)
        hits = np.cumsum(own[self._order], axis=0)  # (U, V)
        ranks = np.arange(1, len(hits) + 1)[:, None]
        positive, negative = max(1, int(own.sum())), max(1, int((~own).sum()))
        scores = np.where(self._is_cut, hits / positive - (ranks - hits) / negative, -1.0)
        best, columns = scores.argmax(0), np.arange(scores.shape[1])
        found = scores[best, columns]
        return np.where(found <= -1.0, np.inf, self._cuts[best, columns]), found


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """Of a detector: of those that fire, of those that should, and recall minus false alarms."""

    precision: float
    recall: float
    informedness: float


def _score(fires: BoolArray, is_concept: BoolArray) -> _Scores:
    hits = int((fires & is_concept).sum())
    num_fired, num_own = int(fires.sum()), int(is_concept.sum())
    recall = hits / max(1, num_own)
    return _Scores(
        precision=hits / max(1, num_fired),
        recall=recall,
        informedness=recall - (num_fired - hits) / max(1, len(fires) - num_own),
    )


def search_utterances(
    shares: FloatArray,
    labels: Sequence[UtteranceLabels],
    *,
    place: Place,
    head: int,
    num_permutations: int,
    min_utterances: int,
    seed: int,
    neurons: NDArray[np.float32] | None,
) -> tuple[list[ConceptRow], list[float]]:
    """Finds the codes of all concepts of utterances in one codebook.

    Args:
        shares: (U, V) share of each utterance's frames that have each code.
        labels: By kind.
        place: Of the codebook.
        head: Its number there.
        num_permutations: P.
        min_utterances: Fewer on dev or test make a concept rare, as do fewer than two units.
        seed: Of permutations.
        neurons: (U, M) means of activations over each utterance, to compare with.

    Returns:
        Rows, and the informedness of each code on dev.
    """
    rows: list[ConceptRow] = []
    informedness: list[float] = []
    for one in labels:
        known = one.labels >= 0
        dev, test = (np.flatnonzero(known & side) for side in (one.is_dev, ~one.is_dev))
        table, measured = ShareTable(shares[dev]), shares[test]
        null = np.zeros((2, num_permutations, len(one.names)))  # precision, informedness
        for number in range(num_permutations):
            rng = np.random.default_rng([seed, number])
            own, other = (permute_units(one.labels[x], one.units[x], rng) for x in (dev, test))
            for label in range(len(one.names)):
                thresholds, worth = table.choose_thresholds(own == label)
                code = int(worth.argmax())
                scores = _score(measured[:, code] >= thresholds[code], other == label)
                null[:, number, label] = scores.precision, scores.informedness
        found = []
        for label, name in enumerate(one.names):
            on_dev, on_test = one.labels[dev] == label, one.labels[test] == label
            thresholds, worth = table.choose_thresholds(on_dev)
            code = int(worth.argmax())
            union = _grow_union(table.shares >= thresholds, on_dev, code)
            informedness.append(float(worth[code]))
            chosen = _score(table.shares[:, code] >= thresholds[code], on_dev)
            scores = _score(measured[:, code] >= thresholds[code], on_test)
            in_union = np.asarray((measured[:, union] >= thresholds[union]).any(1))
            joint = _score(in_union, on_test)
            units = [len(np.unique(one.units[x][one.labels[x] == label])) for x in (dev, test)]
            support = int(on_test.sum())
            is_rare = min(support, on_dev.sum()) < min_utterances or min(units) < _MIN_UNITS
            found.append(
                ConceptRow(
                    kind=one.kind,
                    concept=name,
                    layer=place.layer,
                    site=place.site,
                    head=head,
                    code=code,
                    codes=tuple(union),
                    precision=scores.precision,
                    recall=scores.recall,
                    support=support,
                    lift=scores.precision * len(test) / support if support else 0.0,
                    union_precision=joint.precision,
                    union_recall=joint.recall,
                    permuted_precision=float(null[0, :, label].mean()) if null.size else None,
                    p=compute_p_value(scores.informedness, null[1, :, label]),
                    dev_precision=chosen.precision,
                    dev_recall=chosen.recall,
                    dev_support=int(on_dev.sum()),
                    is_rare=bool(is_rare),
                )
            )
        rows += _add_neurons(found, one, neurons, dev, test)
    return rows, informedness


def _grow_union(has_code: BoolArray, is_concept: BoolArray, first: int) -> list[int]:
    """Adds the code that raises informedness most, as long as one does; the most precise first."""
    union, fires = [first], has_code[:, first]
    while True:
        joint = has_code | fires[:, None]  # (U, V)
        recall = (joint & is_concept[:, None]).sum(0) / max(1, int(is_concept.sum()))
        alarms = (joint & ~is_concept[:, None]).sum(0) / max(1, int((~is_concept).sum()))
        worth = recall - alarms
        best = int(worth.argmax())
        if not worth[best] > worth[first] + 1e-12:  # that of the union as it is
            break
        union.append(best)
        fires = joint[:, best]
    return sorted(union, key=lambda code: -_score(has_code[:, code], is_concept).precision)


def _add_neurons(
    rows: Sequence[ConceptRow],
    labels: UtteranceLabels,
    neurons: NDArray[np.float32] | None,
    dev: IntArray,
    test: IntArray,
) -> list[ConceptRow]:
    """The rows with the best neuron at the same recall."""
    if neurons is None or not len(dev) or not len(test):
        return list(rows)
    tables = [
        NeuronTable(
            torch.from_numpy(neurons[half]), torch.from_numpy(labels.labels[half]), len(rows)
        )
        for half in (dev, test)
    ]
    recalls = [
        torch.tensor([getattr(row, key) for row in rows]) for key in ("dev_recall", "recall")
    ]
    scores = score_neurons(tables[0], tables[1], recalls=(recalls[0], recalls[1]))
    return [
        replace(row, neuron_precision=float(scores.precision[number]))
        for number, row in enumerate(rows)
    ]
