"""Tests 1 to 3 and 7 of METHODS A.6 at the size of toy 1; tests/unit/nn has them for every kind at
small size.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from speechvq.models.build import create_quantizer
from speechvq.models.config import GumbelConfig, QuantizerConfig, SimVQConfig, VQConfig
from speechvq.nn.contrastive import compute_contrastive_loss
from speechvq.nn.distance_quantizer import DistanceQuantizer
from speechvq.nn.quantizer import Quantizer, QuantizerOutput
from speechvq.nn.simvq import SimVQuantizer

SIZE, DIM = 1024, 64
SIZES = {"num_codebooks": 1, "codebook_size": SIZE, "code_dim": DIM}


def create_simvq(**changes: object) -> SimVQuantizer:
    torch.manual_seed(0)
    quantizer = create_quantizer(SimVQConfig(**{**SIZES, **changes}), DIM)  # type: ignore[arg-type]
    assert isinstance(quantizer, SimVQuantizer)
    return quantizer


def take_step(quantizer: DistanceQuantizer, features: Tensor) -> Tensor:
    """One step on the loss of the codebook; returns which entries moved, (G, V) bool."""
    before = quantizer.compute_codebook().detach().clone()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-3, betas=(0.5, 0.9))
    valid = torch.ones(features.shape[:2], dtype=torch.bool)
    output = quantizer(features, temperature=1.0, valid=valid)
    assert output.vq_loss is not None
    output.vq_loss.backward()
    optimizer.step()
    return (quantizer.compute_codebook().detach() != before).any(-1)


def test_one_frame_moves_every_entry_of_simvq_and_one_row_of_vq() -> None:
    features = torch.randn(1, 1, DIM)
    assert take_step(create_simvq(), features).float().mean() == 1.0
    vq = create_quantizer(VQConfig(**SIZES), DIM)
    assert isinstance(vq, DistanceQuantizer)
    assert take_step(vq, features).sum() == 1


@pytest.mark.parametrize("num_codebooks", [1, 2])
@pytest.mark.parametrize("size", [256, 4096])
def test_simvq_learns_a_map_and_a_shift_whatever_its_size(num_codebooks: int, size: int) -> None:
    quantizer = create_simvq(num_codebooks=num_codebooks, codebook_size=size)
    dim = DIM // num_codebooks
    learned = {name: p.numel() for name, p in quantizer.named_parameters() if p.requires_grad}
    assert learned == {
        "map": num_codebooks * dim**2,
        "shift": num_codebooks * dim,
        "projection.weight": DIM * DIM,
        "projection.bias": DIM,
    }
    assert quantizer.state_dict()["basis"].shape == (num_codebooks, size, dim)


def test_basis_stays_as_it_was_drawn() -> None:
    quantizer = create_simvq()
    before = quantizer.basis.clone()
    for seed in range(3):
        features = torch.randn(1, 50, DIM, generator=torch.Generator().manual_seed(seed))
        assert take_step(quantizer, features).all()
    assert torch.equal(quantizer.basis, before)


def test_map_takes_the_step_computed_by_hand() -> None:
    """q₀ W = (1, 2) and q₁ W = (6, 8); frames (2, 2) and (6, 10) miss them by (−1, 0) and (0, −2).
    The gradient of W is 2 / 4 × (q₀ᵀ e₀ + q₁ᵀ e₁), that of the shift 2 / 4 × (e₀ + e₁).
    """
    quantizer = create_simvq(codebook_size=2, code_dim=2, commitment=0.0)
    with torch.no_grad():
        quantizer.projection.weight.zero_()
        quantizer.projection.weight[:, :2] = torch.eye(2)
        quantizer.projection.bias.zero_()
        quantizer.basis.copy_(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]))
        quantizer.map.copy_(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        quantizer.shift.zero_()
    features = torch.zeros(1, 2, DIM)
    features[0, :, :2] = torch.tensor([[2.0, 2.0], [6.0, 10.0]])
    output = quantizer(features, temperature=1.0, valid=torch.ones(1, 2, dtype=torch.bool))
    assert output.codes.flatten().tolist() == [0, 1]
    assert output.vq_loss is not None
    assert output.vq_loss.item() == (1 + 4) / 4
    output.vq_loss.backward()
    torch.optim.SGD([quantizer.map, quantizer.shift], lr=1.0).step()
    assert quantizer.map[0].tolist() == [[1.5, 2.0], [3.0, 6.0]]
    assert quantizer.shift[0].tolist() == [[0.5, 1.0]]


SMALL = {"num_codebooks": 2, "codebook_size": 6, "code_dim": DIM}
NUM_MASKED = 200


def create_duplicates(config: QuantizerConfig) -> tuple[Quantizer, Tensor, QuantizerOutput, Tensor]:
    """A quantiser, features, targets, and distractors of which many have their target's codes."""
    torch.manual_seed(0)
    quantizer = create_quantizer(config, DIM).train()
    features = torch.randn(4, NUM_MASKED, DIM)
    valid = torch.ones(4, NUM_MASKED, dtype=torch.bool)
    output = quantizer(features, temperature=1.0, valid=valid)
    return quantizer, features, output, torch.randint(NUM_MASKED, (4, NUM_MASKED, 40))


def find_duplicates(values: Tensor, distractors: Tensor) -> Tensor:
    """Where all channels of a distractor equal its target's: (B, M, C), (B, M, K) → (B, M, K)."""
    rows = torch.arange(len(values))[:, None, None]
    return (values[:, :, None] == values[rows, distractors]).all(-1)


@pytest.mark.parametrize("config", [SimVQConfig(**SMALL), VQConfig(**SMALL), GumbelConfig(**SMALL)])
def test_no_duplicate_is_missed(config: QuantizerConfig) -> None:
    _, _, output, distractors = create_duplicates(config)
    duplicates = find_duplicates(output.codes, distractors)
    assert duplicates.sum() > 500
    task = compute_contrastive_loss(
        torch.randn_like(output.vectors),
        output.vectors,
        output.codes,
        distractors,
        torch.full((4,), NUM_MASKED),
        0.1,
    )
    assert torch.equal(task.logits[..., 1:].isinf(), duplicates)
    assert torch.equal(find_duplicates(output.vectors, distractors), duplicates)


@pytest.mark.parametrize("config", [SimVQConfig(**SMALL), VQConfig(**SMALL)])
def test_comparing_floats_after_the_usual_straight_through_misses_many(
    config: QuantizerConfig,
) -> None:
    quantizer, features, output, distractors = create_duplicates(config)
    assert isinstance(quantizer, DistanceQuantizer)
    projected = quantizer.project(features).flatten(-2)
    usual = projected + (output.vectors - projected).detach()
    assert torch.allclose(usual, output.vectors, atol=1e-5)
    duplicates = find_duplicates(output.codes, distractors)
    missed = duplicates & ~find_duplicates(usual, distractors)
    assert missed.sum() / duplicates.sum() > 0.3
