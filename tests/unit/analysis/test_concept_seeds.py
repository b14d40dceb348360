"""Codes of two models are matched: all where they are the same, none where they are random."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.concept_seeds import count_together, match_places

NUM_CODES, NUM_HEADS = 30, 3


def draw_codes(seed: int, num_frames: int) -> np.ndarray:
    """(N, G, 2) codes of which each stands for one of six phones; and no code twice in a frame."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, NUM_CODES, (num_frames, NUM_HEADS))
    second = (first + rng.integers(1, NUM_CODES, (num_frames, NUM_HEADS))) % NUM_CODES
    return np.stack([first, second], axis=2)


def test_permuted_codes_and_heads_agree_wholly() -> None:
    pytest.importorskip("scipy")
    rng = np.random.default_rng(9)
    dev, test = draw_codes(1, 2000), draw_codes(2, 1500)
    heads = np.array([2, 0, 1])  # head h of the second is head heads[h] of the first
    names = [rng.permutation(NUM_CODES) for _ in range(NUM_HEADS)]

    def rename(codes: np.ndarray) -> np.ndarray:
        return np.stack([names[g][codes[:, heads[g]]] for g in range(NUM_HEADS)], axis=1)

    phones = test[:, 0, 0] % 6
    found = match_places(
        (dev, rename(dev)), (test, rename(test)), num_codes=NUM_CODES, phones=phones,
        num_phones=6, seed=1,
    )  # fmt: skip
    assert [one.agreement for one in found] == [1.0] * NUM_HEADS
    assert [one.same_phone for one in found] == [1.0] * NUM_HEADS
    assert [heads[one.second_head] for one in found] == [0, 1, 2]
    assert all(one.random_agreement < 0.15 for one in found)
    assert found[0].random_same_phone == pytest.approx(1 / 6, abs=0.08)
    assert all(one.num_compared == NUM_CODES for one in found)


def test_random_codes_agree_as_random_matchings_do() -> None:
    pytest.importorskip("scipy")
    dev = draw_codes(1, 4000), draw_codes(3, 4000)
    test = draw_codes(2, 4000), draw_codes(4, 4000)
    phones = test[0][:, 0, 0] % 6
    for one in match_places(dev, test, num_codes=NUM_CODES, phones=phones, num_phones=6, seed=1):
        assert one.agreement == pytest.approx(one.random_agreement, abs=0.02)
        assert one.same_phone == pytest.approx(one.random_same_phone, abs=0.35)
    alone = match_places(dev, test, num_codes=NUM_CODES, phones=None, num_phones=0, seed=1)
    assert alone[0].same_phone is None


def test_frames_together_by_hand() -> None:
    first, second = np.array([[0, 1], [1, 2]]), np.array([[2, 0], [2, 1]])
    assert count_together(first, second, 3).tolist() == [[1, 0, 1], [1, 1, 2], [0, 1, 1]]
