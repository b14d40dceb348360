from __future__ import annotations

import pytest
import torch

from speechvq.nn.gradients import keep_in_graph, scale_gradient
from speechvq.nn.local_convolution import LocalConvolution
from speechvq.nn.positions import ConvPositions, convolve_fourier, find_fourier_size
from speechvq.nn.transformer import Encoder


def create_encoder(**changes) -> Encoder:
    torch.manual_seed(0)
    options = {
        "conv_kernel": 0,
        "norm_first": True,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "layer_drop_prob": 0.0,
    }
    return Encoder(3, 16, 4, 32, **(options | changes))


@pytest.mark.parametrize("conv_kernel", [0, 5])
@pytest.mark.parametrize("norm_first", [True, False])
def test_padding_does_not_change_valid_frames(norm_first, conv_kernel):
    encoder = create_encoder(norm_first=norm_first, conv_kernel=conv_kernel)
    frames = torch.randn(2, 20, 16)
    padding = torch.arange(20) >= torch.tensor([20, 13])[:, None]
    full, _ = encoder(frames, padding)
    alone, _ = encoder(frames[1:, :13], None)
    assert torch.allclose(full[1, :13], alone[0], atol=1e-6)
    changed = frames.masked_fill(padding[..., None], 9.0)
    assert torch.equal(encoder(changed, padding)[0][~padding], full[~padding])


def test_utterance_without_frames_is_finite():
    padding = torch.arange(6) >= torch.tensor([6, 0])[:, None]
    frames = torch.randn(2, 6, 16, requires_grad=True)
    context, _ = create_encoder()(frames, padding)
    context[0].sum().backward()
    assert context.isfinite().all()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


@pytest.mark.parametrize("norm_first", [True, False])
def test_layers_are_returned_on_request(norm_first):
    encoder = create_encoder(norm_first=norm_first)
    frames = torch.randn(2, 9, 16)
    context, layers = encoder(frames, None, return_layers=True)
    assert len(layers) == 4
    last = encoder.norm(layers[-1]) if norm_first else layers[-1]
    assert torch.equal(last, context)
    assert torch.equal(layers[0], frames if norm_first else encoder.norm(frames))
    assert encoder(frames, None)[1] == []


@pytest.mark.parametrize("conv_kernel", [0, 5])
def test_layer_drop_gives_every_parameter_a_gradient(conv_kernel):
    encoder = create_encoder(layer_drop_prob=0.5, conv_kernel=conv_kernel).train()
    frames = torch.randn(1, 5, 16)
    dropped = 0
    for seed in range(20):
        torch.manual_seed(seed)
        encoder.zero_grad(set_to_none=True)
        encoder(frames, None)[0].square().sum().backward()
        assert all(parameter.grad is not None for parameter in encoder.parameters())
        dropped += sum(not layer.attention.qkv.weight.grad.any() for layer in encoder.layers)
    assert 15 <= dropped <= 45  # 30 of 60 expected
    assert encoder.eval()(frames, None)[0].equal(encoder(frames, None)[0])


def test_local_convolution_sees_half_a_kernel_to_each_side():
    torch.manual_seed(0)
    convolution = LocalConvolution(8, 5)
    frames = torch.randn(1, 30, 8)
    baseline = convolution(frames, None)
    frames[0, 10] += 1.0
    reached = (convolution(frames, None) - baseline).abs().amax(-1)[0] > 1e-6
    assert reached.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


def test_local_convolution_is_part_of_every_layer():
    """Frames far apart meet in attention only; with attention silenced, three layers of five taps
    reach six frames to each side.
    """
    encoder = create_encoder(conv_kernel=5)
    for layer in encoder.layers:
        torch.nn.init.zeros_(layer.attention.output.weight)
    frames = torch.randn(1, 40, 16)
    baseline, _ = encoder(frames, None)
    changed = frames.clone()
    changed[0, 20] += torch.randn(16)
    reached = (encoder(changed, None)[0] - baseline).abs().amax(-1)[0] > 0
    assert reached.nonzero().flatten().tolist() == list(range(14, 27))


def test_keep_in_graph_changes_nothing_but_gives_zero_gradients():
    value = torch.randn(3, requires_grad=True)
    unused, frozen = torch.nn.Parameter(torch.randn(2)), torch.nn.Parameter(torch.randn(2), False)
    result = keep_in_graph(value, [unused, frozen])
    result.sum().backward()
    assert torch.equal(result, value)
    assert torch.equal(unused.grad, torch.zeros(2))
    assert frozen.grad is None
    assert torch.equal(value.grad, torch.ones(3))


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.0])
def test_scaled_gradient(scale):
    value = torch.randn(3, requires_grad=True)
    result = scale_gradient(value, scale)
    assert torch.equal(result, value)
    (result.sum() + 0 * value.sum()).backward()
    assert torch.allclose(value.grad, torch.full((3,), scale))


@pytest.mark.parametrize(
    ("kernel", "num_frames"), [(32, 50), (33, 50), (128, 40), (128, 3), (64, 1)]
)
def test_fourier_convolution_is_the_direct_one(kernel, num_frames):
    torch.manual_seed(0)
    frames = torch.randn(2, num_frames, 12, requires_grad=True)
    weight = torch.randn(12, 3, kernel, requires_grad=True)
    direct = torch.nn.functional.conv1d(
        frames.transpose(1, 2), weight, padding=kernel // 2, groups=4
    )[..., :num_frames].transpose(1, 2)
    found = convolve_fourier(frames, weight, 4)
    assert torch.allclose(found, direct, atol=1e-4)
    direction = torch.randn_like(direct)
    for a, b in zip(
        torch.autograd.grad(found, [frames, weight], direction),
        torch.autograd.grad(direct, [frames, weight], direction),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-3)


def test_fourier_sizes_are_fast():
    assert [find_fourier_size(n) for n in (1, 7, 13, 563, 577)] == [1, 8, 15, 576, 600]


def test_positions_see_half_a_kernel_to_each_side():
    positions = ConvPositions(8, kernel=32, groups=2)
    frames = torch.zeros(1, 100, 8)
    baseline = positions(frames)
    frames[0, 50] = 1.0
    reached = (positions(frames) - baseline).abs().amax(-1)[0] > 1e-5
    assert reached.nonzero().flatten().tolist() == list(range(35, 67))
