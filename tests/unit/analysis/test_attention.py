"""Where heads look: by hand, against their nulls, and out of a running encoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from speechvq.analysis.attention import (
    AttentionTally,
    capture_attention,
    compute_attention_weights,
    measure_attention,
)
from speechvq.nn.transformer import Encoder, SelfAttention, _create_attention_mask


def draw_weights(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).softmax(-1)


def test_diagonal_head() -> None:
    figures = measure_attention(torch.eye(30, dtype=torch.float64)[None])
    assert figures.distance.tolist() == [0.0]
    assert figures.local.tolist() == [[1.0, 1.0, 1.0]]
    assert figures.entropy.tolist() == [0.0]
    assert figures.diagonality.tolist() == [1.0]
    assert figures.shuffled_distance == pytest.approx(figures.uniform_distance)


def test_uniform_head_is_its_own_null() -> None:
    size = 40
    figures = measure_attention(torch.full((2, size, size), 1 / size, dtype=torch.float64))
    assert figures.distance == pytest.approx([(size**2 - 1) / (3 * size)] * 2)
    assert figures.entropy == pytest.approx([math.log2(size)] * 2)
    assert figures.diagonality == pytest.approx([0.0, 0.0], abs=1e-12)
    for window, share in zip((2, 5, 10), figures.uniform_local[0], strict=True):
        expected = (size * (2 * window + 1) - window * (window + 1)) / size**2
        assert share == pytest.approx(expected)
    assert figures.local == pytest.approx(figures.uniform_local)
    assert figures.shuffled_local == pytest.approx(figures.uniform_local)


def test_head_that_looks_at_one_frame_is_explained_by_the_shuffled_null() -> None:
    weights = torch.zeros(1, 25, 25, dtype=torch.float64)
    weights[:, :, 12] = 1.0
    figures = measure_attention(weights)
    assert figures.distance == pytest.approx(figures.shuffled_distance)
    assert figures.local == pytest.approx(figures.shuffled_local)
    assert figures.distance[0] < figures.uniform_distance[0]


def test_shuffled_null_is_the_mean_over_exchanged_rows() -> None:
    weights = draw_weights(2, 23, 23)
    generator = torch.Generator().manual_seed(1)
    drawn = [
        measure_attention(weights[:, torch.randperm(23, generator=generator)]).distance
        for _ in range(400)
    ]
    expected = measure_attention(weights).shuffled_distance
    assert np.mean(drawn, 0) == pytest.approx(expected, rel=0.01)


def test_padding_is_left_out_and_short_utterances_too() -> None:
    tally = AttentionTally()
    batch = torch.zeros(3, 2, 40, 40, dtype=torch.float64)
    for row, length in enumerate((40, 30, 9)):
        batch[row, :, :length, :length] = draw_weights(2, length, length)
    batch[1, :, 30:, :] = 1 / 40
    tally.add(4, batch, [40, 30, 9])
    assert tally.layers == [4]
    assert tally.get_count(4) == 2
    single = [measure_attention(draw_weights(2, length, length)) for length in (40, 30)]
    distances = np.stack([one.distance for one in single])
    assert tally.get_means(4).distance == pytest.approx(distances.mean(0))
    errors = distances.std(0, ddof=1) / math.sqrt(2)
    assert tally.get_errors(4).distance == pytest.approx(errors)


def create_encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        2,
        16,
        4,
        32,
        conv_kernel=0,
        norm_first=False,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        layer_drop_prob=0.0,
    ).eval()


def test_weights_are_those_of_the_fused_kernel() -> None:
    """Weights times values, through the output projection, is what the module returns."""
    attention = SelfAttention(16, 4, dropout=0.0).eval()
    frames = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    padding = torch.tensor([[False] * 9, [False] * 6 + [True] * 3])
    attend = _create_attention_mask(padding)
    weights = compute_attention_weights(attention, frames, attend)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9))
    assert weights[1, :, :, 6:].abs().max() == 0.0
    values = attention.qkv(frames)[..., 32:].view(2, 9, 4, 4).transpose(1, 2)
    mixed = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.output(mixed), attention(frames, attend))


def test_capturing_changes_nothing_and_leaves_nothing() -> None:
    encoder = create_encoder()
    frames = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(0))
    padding = torch.zeros(2, 30, dtype=torch.bool)
    padding[1, 25:] = True
    seen: list[tuple[int, tuple[int, ...]]] = []
    with torch.no_grad():
        plain, _ = encoder(frames, padding)
        with capture_attention(encoder, lambda layer, w: seen.append((layer, tuple(w.shape)))):
            captured, _ = encoder(frames, padding)
        encoder(frames, padding)
    assert torch.equal(plain, captured)
    assert seen == [(0, (2, 4, 30, 30)), (1, (2, 4, 30, 30))]


def test_an_utterance_alone_is_its_row_of_a_padded_batch() -> None:
    encoder = create_encoder()
    frames = torch.randn(1, 25, 16, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([frames, torch.zeros(1, 7, 16)], dim=1)
    padding = torch.zeros(1, 32, dtype=torch.bool)
    padding[:, 25:] = True
    alone, row = AttentionTally(), AttentionTally()
    with torch.no_grad():
        with capture_attention(encoder, lambda layer, w: alone.add(layer, w, [25])):
            encoder(frames, None)
        with capture_attention(encoder, lambda layer, w: row.add(layer, w, [25])):
            encoder(padded, padding)
    for layer in (0, 1):
        expected, found = alone.get_means(layer), row.get_means(layer)
        assert found.distance == pytest.approx(expected.distance, rel=1e-4)
        assert found.entropy == pytest.approx(expected.entropy, rel=1e-4)
