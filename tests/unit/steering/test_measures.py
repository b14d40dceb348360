"""Measures of edits on cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from speechvq.steering.estimates import estimate_ratios
from speechvq.steering.measures import (
    collapse,
    compute_divergence,
    count_label_edits,
    exclude_blank,
    measure_spans,
)
from speechvq.steering.recall import (
    count_hits,
    count_own,
    count_recall,
    find_alphabet,
    find_letters,
    find_own_labels,
)

LABELS = ("<pad>", "<unk>", "|", "a", "b", "क", "ख")


def create_log_probs(path: list[int], num_labels: int = 5) -> torch.Tensor:
    logits = torch.zeros(len(path), num_labels, dtype=torch.float64)
    logits[torch.arange(len(path)), torch.tensor(path)] = 4.0
    return logits.log_softmax(-1)


def measure(before: torch.Tensor, after: torch.Tensor, **changes: object):
    options = {"targets": [torch.tensor([4])], "spans": [(10, 12)], "window": 1, "off_distance": 5}
    return measure_spans(before, after[None], **options | changes)[0]


def test_no_change_measures_exactly_nothing():
    before = create_log_probs([0, 3, 0, 2, 3] * 5)
    found = measure(before, before.clone())
    assert (found.effect, found.effect_without_blank) == (0.0, 0.0)
    assert (found.window_kl, found.off_kl, found.rest_edits, found.success) == (0.0, 0.0, 0, 0)
    assert found.rest_labels == len(collapse(before.argmax(-1)[:9])) + len(
        collapse(before.argmax(-1)[13:])
    )


def test_effect_is_the_change_of_log_mass_in_the_window():
    before = create_log_probs([0] * 25)
    after = before.clone()
    after[11] = create_log_probs([4])[0]
    found = measure(before, after)
    blank, label = before[0, 0].exp().item(), before[0, 4].exp().item()
    high = after[11, 4].exp().item()
    assert found.effect == pytest.approx(math.log((3 * label + high) / (4 * label)), abs=1e-9)
    rest = label / (1 - blank)
    high_rest = high / (1 - after[11, 0].exp().item())
    expected = math.log((3 * rest + high_rest) / (4 * rest))
    assert found.effect_without_blank == pytest.approx(expected, abs=1e-9)
    assert found.success == 1
    divergence = (before[11].exp() * (before[11] - after[11])).sum().item()
    assert found.window_kl == pytest.approx(divergence / 4, abs=1e-9)
    assert found.off_kl == 0.0
    assert found.rest_edits == 0


def test_what_happens_near_the_span_is_neither_within_nor_off():
    before = create_log_probs([0] * 25)
    after = before.clone()
    after[7] = create_log_probs([3])[0]  # three frames before the span: outside of the window
    found = measure(before, after)
    assert (found.effect, found.window_kl, found.off_kl) == (0.0, 0.0, 0.0)
    assert found.rest_edits == 1
    after[2] = create_log_probs([3])[0]
    assert measure(before, after).off_kl > 0


def test_a_span_of_all_frames_has_no_frames_off_it():
    before = create_log_probs([0] * 6)
    assert math.isnan(measure(before, before, spans=[(0, 6)]).off_kl)


def test_a_target_of_several_labels_adds_their_probabilities():
    before, after = create_log_probs([0] * 20), create_log_probs([0] * 9 + [3, 4] + [0] * 9)
    both = measure(before, after, targets=[torch.tensor([3, 4])])
    one = measure(before, after)
    assert both.success == one.success == 1
    assert both.effect > 0


def test_divergence_is_that_of_torch():
    torch.manual_seed(0)
    before, after = torch.randn(6, 5).log_softmax(-1), torch.randn(2, 6, 5).log_softmax(-1)
    expected = torch.nn.functional.kl_div(
        after, before.expand(2, -1, -1), log_target=True, reduction="none"
    ).sum(-1)
    assert torch.allclose(compute_divergence(before, after).float(), expected, atol=1e-5)


def test_without_blank_the_others_sum_to_one():
    probs = exclude_blank(create_log_probs([0, 3])).exp()
    assert torch.allclose(probs.sum(-1), torch.ones(2, dtype=torch.float64))
    assert not probs[:, 0].any()


def test_label_edits_are_edit_distances():
    assert count_label_edits([3, 4, 5], [3, 4, 5]) == 0
    assert count_label_edits([3, 4, 5], [3, 5]) == 1
    assert count_label_edits([], [3, 5]) == 2
    assert count_label_edits([30, 4], [3, 4]) == 1


def test_recall_counts_a_concept_and_the_rest_apart():
    reference = [3, 4, 3, 2, 5, 3]
    totals = np.bincount(reference, minlength=7)
    before = count_hits(reference, [3, 4, 3, 2, 5], 7)
    after = count_hits(reference, [4, 2, 5], 7)
    found = count_recall(before, after, totals, own=[3], letters=find_letters(LABELS))
    assert (found.own_before, found.own_after, found.own_total) == (2, 0, 3)
    assert (found.other_before, found.other_after, found.other_total) == (2, 2, 2)
    assert not count_hits(reference, [], 7).any()


def test_an_alphabet_s_own_labels_are_counted():
    latin, hindi = find_alphabet(["ab ba"]), find_alphabet(["कख a"])
    assert find_own_labels(LABELS, hindi, latin) == {5, 6}
    assert find_own_labels(LABELS, latin, hindi) == {4}
    letters = find_letters(LABELS)
    assert letters.tolist() == [3, 4, 5, 6]
    assert count_own([5, 2, 6, 3, 1], find_own_labels(LABELS, hindi, latin), letters) == (2, 3)


def test_estimates_are_ratios_of_sums_with_intervals_over_utterances():
    values = [(1.0, 0.25), (3.0, 0.25), (5.0, 0.25), (7.0, 0.25)]
    mean, constant = estimate_ratios(values, [1, 1, 1, 1], ["a", "a", "b", "c"], seed=1)
    assert mean.value == 4.0
    assert mean.low < 4.0 < mean.high
    assert (constant.value, constant.low, constant.high) == (0.25, 0.25, 0.25)
    [alone] = estimate_ratios([(2.0,)], [4], ["a"], seed=1)
    assert alone.value == 0.5
    assert math.isnan(alone.low)
    [nothing] = estimate_ratios([(2.0,)], [0], ["a"], seed=1)
    assert math.isnan(nothing.value)
