"""Large codebooks: no tensor of all frames by all entries is ever made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from speechvq.models.build import create_quantizer
from speechvq.models.config import (
    EMAConfig,
    FSQConfig,
    QuantizerConfig,
    RandomProjectionConfig,
    SimVQConfig,
    VQConfig,
)
from speechvq.nn.nearest import MAX_ELEMENTS

SIZE, DIM, NUM_TARGETS = 65_536, 64, 1500
SIZES = {"num_codebooks": 1, "codebook_size": SIZE, "code_dim": DIM}
CONFIGS: dict[str, QuantizerConfig] = {
    "simvq": SimVQConfig(**SIZES),
    "vq": VQConfig(**SIZES),
    "ema": EMAConfig(**SIZES),
    "fsq": FSQConfig(num_codebooks=1, codebook_size=SIZE, levels=[8, 8, 8, 8, 4, 4], code_dim=6),
    "random": RandomProjectionConfig(**SIZES),
}


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that a tensor of any operation had, backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.num_elements = max(self.num_elements, *sizes, 0)
        return result


def measure_largest(config: QuantizerConfig) -> int:
    """Elements of the largest tensor of a forward and backward pass on 1,500 targets."""
    torch.manual_seed(0)
    quantizer = create_quantizer(config, 320)
    features = torch.randn(1, NUM_TARGETS, 320, requires_grad=True)
    valid = torch.ones(1, NUM_TARGETS, dtype=torch.bool)
    with LargestTensor() as largest:
        output = quantizer(features, temperature=1.0, valid=valid)
        loss = output.vectors.sum() + output.diversity_loss
        if output.vq_loss is not None:
            loss = loss + output.vq_loss
        if loss.requires_grad:
            loss.backward()
    return largest.num_elements


@pytest.mark.parametrize("name", CONFIGS)
def test_no_tensor_holds_all_frames_by_all_entries(name: str) -> None:
    """65,536 entries by 1,500 frames would be 98 million numbers, 375 MiB; the distances that are
    held at a time are 32 MiB.
    """
    bound = max(MAX_ELEMENTS, SIZE * DIM)
    assert 10 * bound < NUM_TARGETS * SIZE
    assert SIZE <= measure_largest(CONFIGS[name]) <= bound


def test_the_measure_sees_a_dense_table() -> None:
    with LargestTensor() as largest:
        codes = torch.randint(1000, (NUM_TARGETS,))
        weight = torch.randn(1000, 8, requires_grad=True)
        (torch.nn.functional.one_hot(codes, 1000).float() @ weight).sum().backward()
    assert largest.num_elements == NUM_TARGETS * 1000
