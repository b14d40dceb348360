"""Precision, recall and lift of codes and neurons, by hand."""

from __future__ import annotations

import pytest
import torch

from speechvq.analysis.concept_scores import (
    NeuronTable,
    count_concepts,
    find_best_codes,
    score_codes,
    score_neurons,
)

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, -1, -1])
CODES = torch.tensor([[2], [2], [2], [0], [1], [2], [1], [0]])


def test_counts_by_hand() -> None:
    counts = count_concepts(CODES, LABELS, num_codes=4, num_labels=3)
    assert counts.both.tolist() == [[1, 0, 3, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert counts.codes.tolist() == [2, 2, 4, 0]
    assert counts.labels.tolist() == [4, 2, 0]
    assert counts.num_frames == 8
    chosen = find_best_codes(counts, min_recall=0.5)
    assert chosen[:2].tolist() == [2, 1]
    scores = score_codes(counts, chosen)
    assert scores.precision[:2].tolist() == [0.75, 0.5]
    assert scores.recall.tolist() == [0.75, 0.5, 0.0]
    assert scores.lift.tolist() == [1.5, 2.0, 0.0]
    assert scores.support.tolist() == [4, 2, 0]


def test_precise_codes_of_too_little_recall_are_passed_over() -> None:
    codes = torch.tensor([[0]] + [[1]] * 12)
    labels = torch.tensor([0] * 11 + [-1, -1])
    counts = count_concepts(codes, labels, num_codes=2, num_labels=1)
    assert find_best_codes(counts, min_recall=0.0).tolist() == [0]
    assert find_best_codes(counts, min_recall=0.1).tolist() == [1]
    assert find_best_codes(counts, min_recall=0.99).tolist() == [1]


def test_frames_have_several_codes_each_once_and_padding_none() -> None:
    codes = torch.tensor([[3, 1], [1, 1], [-1, 3], [-1, -1]])
    counts = count_concepts(codes, torch.tensor([0, 0, 1, 1]), num_codes=4, num_labels=2)
    assert counts.both.tolist() == [[0, 2, 0, 1], [0, 0, 0, 1]]
    assert counts.codes.tolist() == [0, 2, 0, 2]


def test_best_neuron_at_the_same_recall() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 10 + [1] * 10 + [-1] * 20)
    activations = torch.randn(40, 5, generator=generator)
    activations[:10, 3] += 10.0
    activations[10:20, 1] -= 10.0
    half = torch.tensor([0.5, 0.5])
    table = NeuronTable(activations, labels, 2)
    scores = score_neurons(table, table, recalls=(half, half))
    assert scores.chosen.tolist() == [3, 1 + 5]
    assert scores.precision.tolist() == [1.0, 1.0]
    assert scores.recall.tolist() == [0.5, 0.5]
    # Chosen on one set, measured on another in which it says nothing.
    other = NeuronTable(torch.zeros(40, 5), labels, 2)
    scores = score_neurons(table, other, recalls=(half, half))
    assert scores.precision.tolist() == [0.25, 0.25]
    assert scores.recall.tolist() == [1.0, 1.0]  # ties fire together


@pytest.mark.parametrize("both_signs", [True, False])
@pytest.mark.parametrize("recall", [0.1, 0.37, 1.0])
def test_neurons_against_plain_loops(recall: float, both_signs: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 3, (200,), generator=generator)
    activations = torch.randn(200, 4, generator=generator)
    recalls = torch.full((3,), recall, dtype=torch.float64)
    table = NeuronTable(activations, labels, 3, both_signs=both_signs)
    scores = score_neurons(table, table, recalls=(recalls, recalls))
    for label in range(3):
        best = 0.0
        for column in (*activations.t(), *((-activations.t()) if both_signs else ())):
            own = column[labels == label].sort(descending=True).values
            threshold = own[max(1, round(recall * len(own))) - 1]
            fired = column >= threshold
            best = max(best, float((fired & (labels == label)).sum() / fired.sum()))
        assert float(scores.precision[label]) == pytest.approx(best)
