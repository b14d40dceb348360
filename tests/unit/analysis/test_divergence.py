"""Divergences in bits by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from speechvq.analysis.divergence import (
    compute_divergence,
    compute_divergence_table,
    compute_entropy,
)


def test_by_hand() -> None:
    assert compute_divergence([2, 2], [7, 7]) == 0.0
    assert compute_divergence([3, 0], [0, 9]) == 1.0
    middle = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert compute_divergence([1, 0], [1, 1]) == pytest.approx(middle - 0.5)
    assert compute_entropy([5, 5, 5, 5]) == 2.0


def test_tables_hold_all_pairs() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(1, 9, (3, 5)), rng.integers(1, 9, (4, 5))
    table = compute_divergence_table(first, second)
    assert table.shape == (3, 4)
    assert table[2, 1] == compute_divergence(first[2], second[1])


def test_nothing_counted_is_unknown() -> None:
    assert np.isnan(compute_divergence([0, 0], [1, 0]))
    assert np.isnan(compute_entropy([0, 0]))
