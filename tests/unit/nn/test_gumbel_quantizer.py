from __future__ import annotations

import pytest
import torch

from speechvq.nn.gumbel_quantizer import (
    GumbelQuantizer,
    compute_soft_perplexity,
    gumbel_temperature,
)


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    return GumbelQuantizer(12, 8, num_codebooks=2, codebook_size=10)


def test_temperature_falls_to_its_floor():
    assert gumbel_temperature(0, 2.0, 0.5, 0.999995) == 2.0
    assert gumbel_temperature(100_000, 2.0, 0.5, 0.999995) == pytest.approx(1.2131, abs=1e-4)
    assert gumbel_temperature(10**7, 2.0, 0.5, 0.999995) == 0.5


@pytest.mark.parametrize("training", [True, False])
def test_vectors_are_exactly_the_entries_of_their_codes(quantizer, training):
    features, valid = torch.randn(3, 50, 12), torch.ones(3, 50, dtype=torch.bool)
    output = quantizer.train(training)(features, temperature=0.7, valid=valid)
    assert output.codes.shape == (3, 50, 2)
    assert torch.equal(output.vectors, quantizer.decode(output.codes))
    by_hand = torch.cat([quantizer.codebook[g][output.codes[..., g]] for g in range(2)], dim=-1)
    assert torch.equal(output.vectors, by_hand)


def test_evaluation_has_no_noise_and_training_has(quantizer):
    features, valid = torch.randn(2, 80, 12), torch.ones(2, 80, dtype=torch.bool)
    with torch.no_grad():
        quiet = quantizer.eval()(features, temperature=2.0, valid=valid).codes
        assert torch.equal(quiet, quantizer.encode(features))
        quantizer.train()
        quantizer.projection.weight.mul_(0.1)  # logits of the size of the noise
        noisy = quantizer(features, temperature=2.0, valid=valid).codes
    assert not torch.equal(noisy, quiet)


def test_noise_draws_codes_from_the_softmax(quantizer):
    """The Gumbel trick: an entry wins with its softmax probability, whatever the temperature."""
    with torch.no_grad():
        quantizer.projection.weight.zero_()
        quantizer.projection.bias.copy_(torch.randn(20))
        valid = torch.ones(1, 20_000, dtype=torch.bool)
        codes = quantizer(torch.zeros(1, 20_000, 12), temperature=0.5, valid=valid).codes[0]
    expected = quantizer.projection.bias.view(2, 10).softmax(-1)
    for group in range(2):
        share = torch.bincount(codes[:, group], minlength=10) / 20_000
        assert torch.allclose(share, expected[group], atol=0.015)


def test_gradient_is_that_of_the_straight_through_sum(quantizer):
    quantizer.double().eval()
    features = torch.randn(2, 6, 12, dtype=torch.float64)
    valid = torch.ones(2, 6, dtype=torch.bool)
    direction = torch.randn(2, 6, 8, dtype=torch.float64)
    output = quantizer(features, temperature=0.9, valid=valid)
    # The quantiser works in fp32 inside; the reference does all of it again, the published way.
    logits = (
        torch.nn.functional.linear(features, quantizer.projection.weight, quantizer.projection.bias)
        .float()
        .view(2, 6, 2, 10)
    )
    soft = (logits / 0.9).softmax(-1)
    hard = torch.nn.functional.one_hot(logits.argmax(-1), 10).float()
    mixed = (hard + soft - soft.detach()).double()
    reference = torch.einsum("bmgv,gvc->bmgc", mixed, quantizer.codebook).flatten(-2)
    parameters = list(quantizer.parameters())
    found = torch.autograd.grad((output.vectors * direction).sum(), parameters)
    wanted = torch.autograd.grad((reference * direction).sum(), parameters)
    for a, b in zip(found, wanted, strict=True):
        assert a.abs().max() > 0
        assert torch.allclose(a, b, atol=1e-5)


def test_perplexity_has_its_bounds_and_leaves_padding_out():
    valid = torch.tensor([[True, True, False, False]])
    one_hot = torch.zeros(1, 4, 1, 16)
    one_hot[..., 3] = 1.0
    assert compute_soft_perplexity(one_hot, valid).item() == pytest.approx(1.0, abs=1e-5)
    uniform = torch.full((1, 4, 1, 16), 1 / 16)
    assert compute_soft_perplexity(uniform, valid).item() == pytest.approx(16.0, abs=1e-4)
    two = one_hot.clone()
    two[0, 1, 0] = torch.eye(16)[5]
    two[0, 2:, 0] = torch.eye(16)[7]  # padding must not count as a third code
    assert compute_soft_perplexity(two, valid).item() == pytest.approx(2.0, abs=1e-5)
    assert compute_soft_perplexity(two, torch.zeros_like(valid)).item() == pytest.approx(1.0)


def test_collapse_costs_more_diversity_loss_than_spread(quantizer):
    features, valid = torch.randn(4, 100, 12), torch.ones(4, 100, dtype=torch.bool)
    with torch.no_grad():
        quantizer.projection.weight.zero_()
        spread = quantizer(features, temperature=1.0, valid=valid).diversity_loss
        quantizer.projection.bias[::10] = 50.0
        collapsed = quantizer(features, temperature=1.0, valid=valid).diversity_loss
    assert spread.item() == pytest.approx(0.0, abs=1e-5)
    assert collapsed.item() == pytest.approx((20 - 2) / 20, abs=1e-5)


def test_statistics_stay_in_fp32_under_autocast(quantizer):
    features, valid = torch.randn(2, 30, 12), torch.ones(2, 30, dtype=torch.bool)
    quantizer.eval()
    plain = quantizer(features, temperature=1.0, valid=valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = quantizer(features, temperature=1.0, valid=valid)
    assert output.diversity_loss.dtype == torch.float32
    assert torch.equal(output.codes, plain.codes)
    assert torch.equal(output.diversity_loss, plain.diversity_loss)


def test_placed_codebooks_share_the_channels_and_name_clusters(quantizer):
    """Each codebook names the cluster of its own half of the channels, whatever the other does."""
    torch.manual_seed(0)
    centres = 3 * torch.randn(2, 10, 6)
    truth = torch.randint(10, (4000, 2))
    features = torch.cat([centres[0][truth[:, 0]], centres[1][truth[:, 1]]], dim=1)
    features = features + 0.1 * torch.randn_like(features)
    quantizer.place(features, torch.Generator().manual_seed(1))
    codes = quantizer.encode(features[None])[0]
    for g in range(2):
        joint = torch.zeros(10, 10).index_put_(
            (truth[:, g], codes[:, g]), torch.ones(()), accumulate=True
        )
        # A cluster has one name or, where two centroids fell into it, two; k-means from random
        # points may give two clusters one name.
        assert joint.amax(1).sum() / joint.sum() > 0.6
        assert joint.amax(0).sum() / joint.sum() > 0.6
    changed = features.clone()
    changed[:, 6:] = torch.randn(4000, 6)
    assert torch.equal(quantizer.encode(changed[None])[0, :, 0], codes[:, 0])


def test_placed_codebooks_choose_the_nearest_centroid(quantizer):
    torch.manual_seed(0)
    features = torch.randn(3000, 12)
    quantizer.place(features, torch.Generator().manual_seed(1))
    weight = quantizer.projection.weight.view(2, 10, 12)
    bias = quantizer.projection.bias.view(2, 10)
    for g, part in enumerate((slice(0, 6), slice(6, 12))):
        # bias = -|c|² / (2 variance) and weight = c / variance give variance = -2 bias / |weight|²
        variance = -2 * bias[g] / weight[g].square().sum(1)
        assert torch.allclose(variance, variance[0].expand(10), rtol=1e-4)
        centroids = weight[g, :, part] * variance[0]
        nearest = torch.cdist(features[:, part], centroids).argmin(1)
        assert torch.equal(quantizer.encode(features[None])[0, :, g], nearest)


def test_codebooks_placed_on_silence_are_finite(quantizer):
    quantizer.place(torch.zeros(100, 12), torch.Generator().manual_seed(1))
    assert quantizer.compute_logits(torch.randn(1, 5, 12)).isfinite().all()
