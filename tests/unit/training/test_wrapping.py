"""Recomputing and compiling encoder layers changes nothing that is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from speechvq.nn.transformer import Encoder
from speechvq.training.wrapping import apply_checkpointing, compile_layers


class Model(nn.Module):
    """The names that both kinds of model have."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.transformer = Encoder(
            2, 16, 2, 32, conv_kernel=3, norm_first=True, dropout=dropout,
            attention_dropout=dropout, activation_dropout=dropout, layer_drop_prob=0.3,
        )  # fmt: skip

    def forward(self, frames: Tensor, padding: Tensor) -> Tensor:
        context, _ = self.encoder.transformer(frames, padding)
        assert isinstance(context, Tensor)
        return context


def learn(model: Model, lengths: tuple[int, ...] = (9, 6, 11)) -> list[Tensor]:
    """Return outputs of batches of several lengths, and the gradients of their sum."""
    torch.manual_seed(3)
    outputs = []
    for length in lengths:
        frames = torch.randn(2, length, 16)
        padding = torch.arange(length)[None] >= torch.tensor([length, length - 2])[:, None]
        output = model(frames, padding)
        output.square().sum().backward()
        outputs.append(output.detach())
    return [*outputs, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def create_pair(wrap: Callable[[Model], object], dropout: float) -> tuple[Model, Model]:
    torch.manual_seed(1)
    plain = Model(dropout)
    wrapped = copy.deepcopy(plain)
    wrap(wrapped)
    return plain, wrapped


def test_recomputing_gives_the_same_numbers_with_dropout() -> None:
    plain, wrapped = create_pair(lambda model: apply_checkpointing(model, 1), 0.2)
    for expected, found in zip(learn(plain), learn(wrapped), strict=True):
        assert torch.equal(expected, found)
    assert list(plain.state_dict()) == list(wrapped.state_dict())


def test_recomputing_keeps_fewer_activations() -> None:
    def count_saved(model: Model) -> int:
        saved = [0]

        def note(value: Tensor) -> Tensor:
            saved[0] += value.numel()
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            torch.manual_seed(5)
            model(torch.randn(2, 50, 16), torch.zeros(2, 50, dtype=torch.bool))
        return saved[0]

    plain, wrapped = create_pair(lambda model: apply_checkpointing(model, 1), 0.0)
    assert count_saved(wrapped) < count_saved(plain) / 3


@pytest.mark.slow
def test_compiling_gives_the_same_numbers() -> None:
    plain, wrapped = create_pair(
        lambda model: compile_layers(model, backend="aot_eager", dynamic=True), 0.0
    )
    torch._dynamo.utils.counters.clear()
    for expected, found in zip(learn(plain), learn(wrapped), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert list(plain.state_dict()) == list(wrapped.state_dict())


@pytest.mark.slow
def test_compiling_leaves_the_layers_recomputed() -> None:
    def wrap(model: Model) -> None:
        apply_checkpointing(model, 1)
        compile_layers(model, backend="aot_eager", dynamic=True)

    plain, wrapped = create_pair(wrap, 0.0)
    for expected, found in zip(learn(plain), learn(wrapped), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("every", [1, 2])
def test_every_nth_layer_is_recomputed(every: int) -> None:
    plain, wrapped = create_pair(lambda model: apply_checkpointing(model, every), 0.0)
    layers = wrapped.encoder.transformer.layers
    assert ["forward" in vars(layer) for layer in layers] == [True, every == 1]
    assert torch.equal(learn(plain)[0], learn(wrapped)[0])
