"""Codes and phones, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from speechvq.analysis.phones import (
    compute_chance_pnmi,
    compute_cluster_purity,
    compute_phone_purity,
    compute_pnmi,
    count_pairs,
)


def test_pairs_are_counted_in_rising_order_of_what_occurs() -> None:
    counts = count_pairs([7, 7, 3, 7], [90, 5, 5, 90])
    assert counts.tolist() == [[1, 0], [1, 2]]  # phones 3, 7; codes 5, 90


def test_combinations_of_codes_count_as_one_code() -> None:
    codes = [[0, 1], [1, 0], [0, 1], [1, 1]]
    assert count_pairs([0, 0, 1, 1], codes).tolist() == [[1, 1, 0], [1, 0, 1]]


def test_by_hand() -> None:
    """Four frames of each of two phones; code 0 has 3 of the first, code 1 all the rest."""
    counts = [[3, 1], [0, 4]]
    joint = -(3 / 8 * math.log(3 / 8) + 1 / 8 * math.log(1 / 8) + 1 / 2 * math.log(1 / 2))
    codes = -(3 / 8 * math.log(3 / 8) + 5 / 8 * math.log(5 / 8))
    assert compute_pnmi(counts) == pytest.approx((math.log(2) + codes - joint) / math.log(2))
    assert compute_pnmi(counts) == pytest.approx(0.548795, abs=1e-6)
    assert compute_phone_purity(counts) == pytest.approx(7 / 8)
    assert compute_cluster_purity(counts) == pytest.approx(7 / 8)


def test_two_codes_for_a_phone_cost_cluster_purity_alone() -> None:
    counts = [[2, 2, 0], [0, 0, 4]]
    assert compute_pnmi(counts) == pytest.approx(1.0)
    assert compute_phone_purity(counts) == 1.0
    assert compute_cluster_purity(counts) == pytest.approx(6 / 8)


def test_one_code_for_all_phones_says_nothing() -> None:
    counts = [[1], [2], [1]]
    assert compute_pnmi(counts) == 0.0
    assert compute_phone_purity(counts) == 0.5
    assert compute_cluster_purity(counts) == 1.0


def test_one_phone_alone_leaves_nothing_to_be_told() -> None:
    assert math.isnan(compute_pnmi([[3, 4]]))


def test_chance_is_what_many_codes_give_without_meaning() -> None:
    rng = np.random.default_rng(0)
    phones = rng.integers(40, size=4000)
    few, many = rng.integers(10, size=4000), rng.integers(2000, size=4000)
    chance = [compute_chance_pnmi(phones, codes, rng=rng) for codes in (few, many)]
    assert chance[0] < 0.02
    assert chance[1] > 0.7
    assert compute_chance_pnmi(phones, phones, rng=rng) < 0.1 < compute_pnmi(np.eye(40))


@given(arrays.arrays(np.int64, (4, 6), elements=st.integers(0, 50)))
def test_bounds_and_indifference_to_order(counts: np.ndarray) -> None:
    counts[0, 0] += 1
    counts[1, 1] += 1
    for measure in (compute_pnmi, compute_phone_purity, compute_cluster_purity):
        value = measure(counts)
        assert 0.0 <= value <= 1.0
        assert measure(counts[::-1, ::-1]) == pytest.approx(value, abs=1e-12)
    merged = np.concatenate([counts[:, :1] + counts[:, 1:2], counts[:, 2:]], axis=1)
    assert compute_pnmi(merged) <= compute_pnmi(counts) + 1e-12  # forgetting a difference
    assert compute_phone_purity(merged) <= compute_phone_purity(counts) + 1e-12


@pytest.mark.parametrize(
    ("phones", "codes", "message"),
    [
        ([], [], "at least one frame"),
        ([1, 2], [1], r"\(N,\) and `codes`"),
        ([[1], [2]], [1, 2], r"they are \(2, 1\) and \(2,\)"),
    ],
)
def test_tables_that_cannot_be_are_refused(phones: object, codes: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_pairs(phones, codes)  # type: ignore[arg-type]


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        compute_pnmi(np.zeros((3, 4)))
