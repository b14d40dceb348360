"""Bottlenecks of codes: by hand, their gradients, and padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechvq.nn import bottleneck as module
from speechvq.nn.bottleneck import (
    ABLATED,
    ABSENT,
    Bottleneck,
    average_codes,
    average_slots,
    find_active_codes,
)


def create_bottleneck(num_active: int = 3, num_codebooks: int = 2, size: int = 11) -> Bottleneck:
    torch.manual_seed(0)
    made = Bottleneck(8, num_codebooks=num_codebooks, codebook_size=size, num_active=num_active)
    with torch.no_grad():
        made.norm_weight.uniform_(0.5, 1.5)
        made.norm_bias.normal_()
    return made


def gather(bottleneck: Bottleneck, codes: Tensor) -> Tensor:
    """(B, T, G, k) → (B, T, G, k, d)."""
    parts = [bottleneck.codebooks[g][codes[:, :, g]] for g in range(bottleneck.num_codebooks)]
    return torch.stack(parts, 2)


@pytest.mark.parametrize("num_active", [1, 3])
def test_output_is_the_mean_of_the_most_similar_codes(num_active: int) -> None:
    bottleneck = create_bottleneck(num_active)
    frames = torch.randn(2, 5, 8)
    output = bottleneck(frames)
    normalized = [
        F.layer_norm(frames[..., 4 * g : 4 * g + 4], (4,), weight, bias)
        for g, (weight, bias) in enumerate(
            zip(bottleneck.norm_weight, bottleneck.norm_bias, strict=True)
        )
    ]
    torch.testing.assert_close(output.inputs, torch.stack(normalized, 2))
    similarity = F.cosine_similarity(
        output.inputs[..., None, :], bottleneck.codebooks[None, None], dim=-1
    )
    assert torch.equal(output.codes, similarity.topk(num_active).indices)
    rows = gather(bottleneck, output.codes)
    expected = sum(rows.unbind(3)) / num_active
    assert torch.equal(output.vectors, expected.flatten(2))
    torch.testing.assert_close(output.vectors, rows.mean(3).flatten(2))


def test_ranking_does_not_depend_on_lengths() -> None:
    inputs, codebooks = torch.randn(40, 2, 4), torch.randn(2, 11, 4)
    codes = find_active_codes(inputs, codebooks, 3)
    assert torch.equal(find_active_codes(inputs * 37.0, codebooks, 3), codes)
    scaled = codebooks * torch.rand(2, 11, 1).add(0.1)
    assert torch.equal(find_active_codes(inputs, scaled, 3), codes)
    assert len(find_active_codes(inputs[:0], codebooks, 3)) == 0


def test_pieces_find_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, codebooks = torch.randn(100, 2, 4), torch.randn(2, 11, 4)
    whole = find_active_codes(inputs, codebooks, 2)
    monkeypatch.setattr(module, "MAX_ELEMENTS", 22 * 7)
    assert torch.equal(find_active_codes(inputs, codebooks, 2), whole)


def test_auxiliary_gradient_reaches_chosen_codes_only() -> None:
    bottleneck = create_bottleneck()
    frames = torch.randn(2, 5, 8, requires_grad=True)
    output = bottleneck(frames)
    output.losses.sum().backward()
    assert frames.grad is None
    assert bottleneck.norm_weight.grad is None
    assert bottleneck.norm_bias.grad is None
    expected = torch.zeros_like(bottleneck.codebooks)
    difference = output.vectors.detach().unflatten(-1, (2, 4)) - output.inputs
    for g in range(2):
        for slot in range(3):
            # d/dc of the mean over 10 frames of |mean of 3 codes - input|²
            share = 2 * difference[:, :, g].flatten(0, 1) / (3 * 10)
            expected[g].index_add_(0, output.codes[:, :, g, slot].flatten(), share)
    torch.testing.assert_close(bottleneck.codebooks.grad, expected)
    square = (gather(bottleneck, output.codes).mean(3) - output.inputs).square().sum(-1)
    torch.testing.assert_close(output.losses, square.mean((0, 1)))


def test_task_gradient_reaches_chosen_codes_and_passes_straight_through() -> None:
    bottleneck = create_bottleneck()
    frames = torch.randn(2, 5, 8, requires_grad=True)
    output = bottleneck(frames)
    grad = torch.randn(2, 5, 8)
    output.vectors.backward(grad)
    expected = torch.zeros_like(bottleneck.codebooks)
    for g in range(2):
        for slot in range(3):
            share = grad[..., 4 * g : 4 * g + 4].flatten(0, 1) / 3
            expected[g].index_add_(0, output.codes[:, :, g, slot].flatten(), share)
    torch.testing.assert_close(bottleneck.codebooks.grad, expected)
    chosen = torch.zeros(2, 11, dtype=torch.bool)
    for g in range(2):
        chosen[g, output.codes[:, :, g].flatten()] = True
    assert not chosen.all()
    assert torch.all(bottleneck.codebooks.grad[~chosen] == 0.0)
    # The Jacobian of layer norm by hand: weight / σ × (g − mean g − y × mean(g y)).
    plain = F.layer_norm(frames.detach().unflatten(-1, (2, 4)), (4,))
    deviation = frames.detach().unflatten(-1, (2, 4)).var(-1, unbiased=False, keepdim=True)
    scaled = grad.unflatten(-1, (2, 4)) * bottleneck.norm_weight.detach()
    mean = scaled.mean(-1, keepdim=True) + plain * (scaled * plain).mean(-1, keepdim=True)
    jacobian = (scaled - mean) / (deviation + 1e-5).sqrt()
    torch.testing.assert_close(frames.grad, jacobian.flatten(2))


def test_padding_enters_nothing() -> None:
    bottleneck = create_bottleneck()
    frames = torch.randn(2, 6, 8)
    padding = torch.arange(6) >= torch.tensor([6, 4])[:, None]
    output = bottleneck(frames, padding)
    alone = [bottleneck(frames[:1]), bottleneck(frames[1:, :4])]
    total = sum(one.losses * one.codes.size(1) for one in alone) / 10
    torch.testing.assert_close(output.losses, total)
    assert torch.equal(output.codes[1, :4], alone[1].codes[0])
    assert (output.codes[1, 4:] == ABLATED).all()
    assert [len(one) for one in output.get_valid()] == [10, 10]
    output.losses.sum().backward()
    before = bottleneck.codebooks.grad.clone()
    bottleneck.codebooks.grad = None
    changed = bottleneck(frames.masked_fill(padding[..., None], 9.0), padding)
    changed.losses.sum().backward()
    torch.testing.assert_close(bottleneck.codebooks.grad, before)


def test_slots_average_like_codes() -> None:
    codebooks = torch.randn(2, 11, 4)
    codes = torch.randint(0, 11, (50, 2, 8))
    means = average_codes(codebooks, codes)
    assert torch.equal(average_slots(codebooks, codes), means)
    absent = F.pad(codes, (0, 2), value=ABSENT)
    assert torch.equal(average_slots(codebooks, absent), means)
    half = codes.clone()
    half[..., 4:] = ABLATED
    torch.testing.assert_close(
        average_slots(codebooks, half), average_codes(codebooks, codes[..., :4]) / 2
    )
    assert torch.all(average_slots(codebooks, torch.full_like(codes, ABLATED)) == 0.0)
    assert torch.all(average_slots(codebooks, torch.full_like(codes, ABSENT)) == 0.0)


def test_low_precision_changes_no_code() -> None:
    bottleneck = create_bottleneck()
    frames = torch.randn(2, 5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = bottleneck(frames)
    assert torch.equal(output.codes, bottleneck(frames).codes)
    assert bottleneck(frames.bfloat16()).vectors.dtype is torch.bfloat16


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_active` must be from 1 to"):
        create_bottleneck(num_active=12)
    with pytest.raises(ValueError, match="`num_codebooks` must divide the 8 channels"):
        create_bottleneck(num_codebooks=3)
