from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.nn.masking import compute_span_mask, sample_distractors


def test_share_of_masked_frames_is_that_of_overlapping_spans():
    rng = np.random.default_rng(0)
    masks = [compute_span_mask(500, prob=0.65, length=10, min_spans=2, rng=rng) for _ in range(300)]
    # 32.5 spans of 10 among 491 starts: a frame is free when no start is within reach.
    expected = 1 - (1 - 32.5 / 491) ** 10
    assert np.mean(masks) == pytest.approx(expected, abs=0.015)


def test_number_of_spans_is_right_on_average():
    rng = np.random.default_rng(1)
    # Spans of one frame do not overlap, so that their number can be counted: 0.05 × 30 = 1.5.
    counts = [
        compute_span_mask(30, prob=0.05, length=1, min_spans=0, rng=rng).sum() for _ in range(2000)
    ]
    assert np.mean(counts) == pytest.approx(1.5, abs=0.05)
    assert set(counts) == {1, 2}


@settings(max_examples=200, deadline=None)
@given(
    num_frames=st.integers(0, 200),
    prob=st.floats(0, 0.99),
    length=st.integers(1, 30),
    min_spans=st.integers(0, 4),
    seed=st.integers(0, 2**32),
)
def test_mask_keeps_to_the_utterance(num_frames, prob, length, min_spans, seed):
    mask = compute_span_mask(
        num_frames, prob=prob, length=length, min_spans=min_spans, rng=np.random.default_rng(seed)
    )
    assert mask.shape == (num_frames,)
    assert mask.dtype == np.bool_
    if num_frames < 2:
        assert not mask.any()
        return
    span = min(length, num_frames - 1)
    if min_spans > 0:
        assert mask.sum() >= span
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
    assert all(edges[1::2] - edges[::2] >= span)


def test_same_generator_same_mask():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return compute_span_mask(100, prob=0.5, length=5, min_spans=1, rng=rng)

    assert (draw(3) == draw(3)).all()
    assert (draw(3) != draw(4)).any()


@settings(max_examples=100, deadline=None)
@given(num_masked=st.integers(2, 60), seed=st.integers(0, 2**32))
def test_distractors_are_other_masked_frames(num_masked, seed):
    drawn = sample_distractors(num_masked, 20, np.random.default_rng(seed))
    assert drawn.shape == (num_masked, 20)
    assert drawn.min() >= 0
    assert drawn.max() < num_masked
    assert (drawn != np.arange(num_masked)[:, None]).all()


def test_distractors_are_uniform():
    drawn = sample_distractors(5, 40_000, np.random.default_rng(0))
    counts = np.stack([np.bincount(row, minlength=5) for row in drawn]) / 40_000
    np.testing.assert_allclose(counts, (1 - np.eye(5)) / 4, atol=0.01)


@pytest.mark.parametrize("num_masked", [0, 1])
def test_too_few_frames_for_distractors(num_masked):
    drawn = sample_distractors(num_masked, 7, np.random.default_rng(0))
    assert drawn.shape == (num_masked, 7)
    assert not drawn.any()
