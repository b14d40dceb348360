"""What every quantiser promises, and what each promises alone (METHODS A.6)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from speechvq.models.build import create_quantizer
from speechvq.models.config import (
    EMAConfig,
    FSQConfig,
    GumbelConfig,
    QuantizerConfig,
    RandomProjectionConfig,
    SimVQConfig,
    VQConfig,
)
from speechvq.nn import nearest
from speechvq.nn.distance_quantizer import DistanceQuantizer
from speechvq.nn.ema_quantizer import EMAQuantizer
from speechvq.nn.fsq import FiniteScalarQuantizer
from speechvq.nn.nearest import find_nearest, soft_assign
from speechvq.nn.quantizer import Quantizer
from speechvq.nn.simvq import SimVQuantizer
from speechvq.nn.straight_through import replace_straight_through

INPUT_DIM = 24
SIZES = {"num_codebooks": 2, "codebook_size": 12, "code_dim": 8}
CONFIGS: dict[str, QuantizerConfig] = {
    "gumbel": GumbelConfig(**SIZES),
    "vq": VQConfig(**SIZES),
    "vq_rotated": VQConfig(**SIZES, rotates=True),
    "simvq": SimVQConfig(**SIZES),
    "simvq_shared": SimVQConfig(**SIZES, shares_basis=True),
    "simvq_trainable": SimVQConfig(**SIZES, learns_basis=True),
    "ema": EMAConfig(**SIZES),
    "fsq": FSQConfig(num_codebooks=2, codebook_size=12, levels=[4, 3], code_dim=4),
    "random": RandomProjectionConfig(**SIZES),
}
LEARNING = [name for name in CONFIGS if name != "random"]


def create(name: str, **changes: object) -> Quantizer:
    torch.manual_seed(0)
    config = CONFIGS[name]
    for key, value in changes.items():
        config = type(config)(**{**vars(config), key: value})
    assert config.validate() == []
    return create_quantizer(config, INPUT_DIM)


def _hold_still(quantizer: Quantizer) -> None:
    """Moving averages change the entries after a batch has used them; not in this test."""
    if isinstance(quantizer, EMAQuantizer):
        quantizer.follow = lambda vectors: None  # type: ignore[method-assign]


def draw(seed: int = 1, num_frames: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, num_frames, INPUT_DIM, generator=generator)
    return features, torch.ones(3, num_frames, dtype=torch.bool)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_vectors_are_the_entries_of_their_codes_bit_for_bit(name: str, training: bool) -> None:
    quantizer = create(name).train(training)
    _hold_still(quantizer)
    features, valid = draw()
    output = quantizer(features, temperature=1.0, valid=valid)
    assert output.codes.shape == (3, 60, 2)
    assert output.vectors.shape == (3, 60, quantizer.output_dim)
    assert torch.equal(output.vectors, quantizer.decode(output.codes))
    assert output.codes.min() >= 0
    assert output.codes.max() < 12
    if not training:
        assert torch.equal(output.codes, quantizer.encode(features))


@pytest.mark.parametrize("name", CONFIGS)
def test_equal_frames_get_equal_vectors(name: str) -> None:
    """So that no float is needed to find distractors that equal their target."""
    quantizer = create(name).eval()
    features, valid = draw()
    features[:, 30:] = features[:, :30]
    output = quantizer(features, temperature=1.0, valid=valid)
    assert torch.equal(output.vectors[:, 30:], output.vectors[:, :30])
    same = (output.codes[:, :, None] == output.codes[:, None]).all(-1)  # (B, M, M)
    alike = (output.vectors[:, :, None] == output.vectors[:, None]).all(-1)
    assert torch.equal(same, alike)


@pytest.mark.parametrize("name", CONFIGS)
def test_stored_and_loaded_it_gives_the_same_codes(name: str) -> None:
    quantizer, other = create(name), create_quantizer(CONFIGS[name], INPUT_DIM)
    other.load_state_dict(quantizer.state_dict())
    features, _ = draw()
    assert torch.equal(quantizer.encode(features), other.encode(features))
    codes = quantizer.encode(features)
    assert torch.equal(quantizer.decode(codes), other.decode(codes))


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_enters_no_statistic(name: str) -> None:
    quantizer = create(name).eval()
    features, valid = draw()
    valid[1, 40:] = False
    before = quantizer(features, temperature=1.0, valid=valid)
    changed = features.clone()
    changed[1, 40:] = 100.0
    after = quantizer(changed, temperature=1.0, valid=valid)
    assert torch.allclose(before.diversity_loss, after.diversity_loss, atol=1e-6)
    assert torch.allclose(before.soft_perplexity, after.soft_perplexity, rtol=1e-5)
    if before.vq_loss is not None:
        assert torch.allclose(before.vq_loss, after.vq_loss, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_without_a_valid_frame_is_finite_and_keeps_every_gradient(name: str) -> None:
    quantizer = create(name).train()
    features, valid = draw()
    output = quantizer(features, temperature=1.0, valid=torch.zeros_like(valid))
    loss = output.vectors.sum() * 0.0 + output.diversity_loss
    if output.vq_loss is not None:
        loss = loss + output.vq_loss
    assert loss.isfinite()
    if name in LEARNING:
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in quantizer.parameters())


@pytest.mark.parametrize("name", LEARNING)
def test_diversity_loss_spreads_the_codes(name: str) -> None:
    quantizer = create(name).train()
    _hold_still(quantizer)
    features, valid = draw()
    features = features * 0.3 + 1.0
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.01)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        output = quantizer(features, temperature=1.0, valid=valid)
        loss = output.diversity_loss
        loss.backward()
        optimizer.step()
        history.append(float(output.soft_perplexity.detach().mean()))
    assert history[-1] > history[0]


@pytest.mark.parametrize("name", [name for name in LEARNING if name != "gumbel"])
def test_task_gradient_passes_straight_through(name: str) -> None:
    quantizer = create(name).train()
    features, valid = draw()
    features.requires_grad_()
    quantizer(features, temperature=1.0, valid=valid).vectors.square().sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["vq", "simvq", "ema", "fsq", "gumbel"])
def test_placed_entries_describe_the_features(name: str) -> None:
    """Frames with one code are more alike than before."""
    quantizer = create(name).eval()
    generator = torch.Generator().manual_seed(3)
    centres = 2 * torch.randn(12, INPUT_DIM, generator=generator)
    which = torch.randint(12, (2000,), generator=generator)
    features = centres[which] + 0.2 * torch.randn(2000, INPUT_DIM, generator=generator)

    def measure_spread() -> float:
        joint = quantizer.encode(features[None])[0] @ torch.tensor([12, 1])
        rest = [
            (features[joint == code] - features[joint == code].mean(0)).square().sum()
            for code in joint.unique()
        ]
        return float(sum(rest)) / features.numel()

    before = measure_spread()
    quantizer.place(features, torch.Generator().manual_seed(1))
    after = measure_spread()
    assert after < before
    assert after < 1.5


@pytest.mark.parametrize("name", ["vq", "simvq", "simvq_trainable"])
def test_one_step_moves_all_entries_of_simvq_and_chosen_ones_of_vq(name: str) -> None:
    quantizer = create(name)
    assert isinstance(quantizer, DistanceQuantizer)
    before = quantizer.compute_codebook().detach().clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.1)
    output = quantizer(draw()[0][:1, :1], temperature=1.0, valid=torch.ones(1, 1, dtype=torch.bool))
    assert output.vq_loss is not None
    output.vq_loss.backward()
    optimizer.step()
    moved = (quantizer.compute_codebook() != before).any(-1)  # (G, V)
    if name.startswith("simvq"):
        assert moved.all()
    else:
        assert moved.sum(1).tolist() == [1, 1]
        assert moved[torch.arange(2), output.codes[0, 0]].all()


def test_map_of_simvq_takes_the_step_of_the_paper() -> None:
    """W - lr × qᵀ (q W + b - z) × 2 / d, by hand."""
    quantizer = create("simvq", num_codebooks=1, code_dim=2, commitment=0.0)
    assert isinstance(quantizer, SimVQuantizer)
    feature = draw()[0][:1, :1]
    output = quantizer(feature, temperature=1.0, valid=torch.ones(1, 1, dtype=torch.bool))
    q = quantizer.basis[0, output.codes[0, 0, 0]]  # (2,)
    z = quantizer.project(feature)[0, 0, 0].detach()
    error = q @ quantizer.map[0] + quantizer.shift[0, 0] - z
    expected = quantizer.map[0] - 0.5 * torch.outer(q, error)
    assert output.vq_loss is not None
    output.vq_loss.backward()
    torch.optim.SGD([quantizer.map], lr=0.5).step()
    assert torch.allclose(quantizer.map[0], expected, atol=1e-6)


def test_basis_of_simvq_is_stored_but_never_learned() -> None:
    quantizer = create("simvq")
    assert "basis" in quantizer.state_dict()
    assert "basis" not in dict(quantizer.named_parameters())
    assert create("simvq_shared").state_dict()["basis"].shape == (1, 12, 4)
    codebook = create("simvq_shared").compute_codebook()  # type: ignore[operator]
    assert not torch.allclose(codebook[0], codebook[1])


def test_ema_entries_are_moving_averages() -> None:
    quantizer = create("ema", decay=0.9, restart_share=0.0)
    assert isinstance(quantizer, EMAQuantizer)
    count, total = quantizer.average_count.clone(), quantizer.average_sum.clone()
    vectors = torch.randn(50, 2, 4)
    codes = quantizer.choose(vectors, quantizer.codebook)
    quantizer.follow(vectors)
    for g in range(2):
        for code in range(12):
            chosen = vectors[codes[:, g] == code, g]
            new_count = 0.9 * count[g, code] + 0.1 * len(chosen)
            new_total = 0.9 * total[g, code] + 0.1 * chosen.sum(0)
            assert torch.allclose(quantizer.codebook[g, code], new_total / new_count, atol=1e-5)


def test_unused_entries_of_ema_restart_on_frames() -> None:
    quantizer = create("ema", decay=0.5, restart_share=0.5)
    assert isinstance(quantizer, EMAQuantizer)
    quantizer.codebook[:, 1:] = 1000.0  # far from everything
    quantizer.average_sum.copy_(quantizer.codebook)
    vectors = torch.randn(200, 2, 4)
    for _ in range(12):
        quantizer.follow(vectors)
    used = [len(quantizer.choose(vectors, quantizer.codebook)[:, g].unique()) for g in range(2)]
    assert min(used) >= 10


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_ema_ignores_a_batch_that_is_not_finite(value: float) -> None:
    quantizer = create("ema")
    assert isinstance(quantizer, EMAQuantizer)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    vectors = torch.randn(20, 2, 4)
    vectors[3, 1] = value
    quantizer.follow(vectors)
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_ema_learns_in_training_only() -> None:
    quantizer = create("ema").eval()
    before = quantizer.compute_codebook()  # type: ignore[operator]
    features, valid = draw()
    quantizer(features, temperature=1.0, valid=valid)
    assert torch.equal(quantizer.compute_codebook(), before)  # type: ignore[operator]
    quantizer.train()(features, temperature=1.0, valid=valid)
    assert not torch.equal(quantizer.compute_codebook(), before)  # type: ignore[operator]


@pytest.mark.parametrize("levels", [[8, 8, 5], [3, 3], [2], [5, 4, 2, 2]])
def test_grid_of_fsq_holds_every_combination_once(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(6, num_codebooks=1, levels=levels)
    codes = torch.arange(quantizer.codebook_size)[:, None]
    entries = quantizer.decode(codes)  # (V, count)
    assert len(entries.unique(dim=0)) == quantizer.codebook_size
    assert entries.abs().max() <= 1.0
    bounded = entries * quantizer.half_widths
    assert torch.equal(quantizer._to_codes(bounded), codes[:, 0])
    # The soft assignment numbers the entries as the codes do.
    share = quantizer._assign_softly(bounded[[3 % len(codes)]][:, None])
    assert int(share.argmax()) == 3 % len(codes)


def test_levels_of_fsq_are_reached_and_never_left() -> None:
    quantizer = FiniteScalarQuantizer(2, num_codebooks=1, levels=[4, 3])
    torch.nn.init.eye_(quantizer.projection.weight)
    torch.nn.init.zeros_(quantizer.projection.bias)
    features = torch.linspace(-50, 50, 400)[:, None].repeat(1, 2)[None]
    codes = quantizer.encode(features)
    entries = quantizer.decode(codes)[0]
    assert entries[:, 0].unique().tolist() == [-1.0, -0.5, 0.0, 0.5]
    assert entries[:, 1].unique().tolist() == [-1.0, 0.0, 1.0]


def test_both_of_two_levels_are_reached_alike() -> None:
    quantizer = FiniteScalarQuantizer(3, num_codebooks=1, levels=[2, 4, 2])
    features = torch.randn(4000, 3)
    quantizer.place(features, torch.Generator().manual_seed(0))
    entries = quantizer.decode(quantizer.encode(features[None])[0])
    for column in (0, 2):
        assert entries[:, column].unique().tolist() == [-1.0, 0.0]
        assert 0.45 < (entries[:, column] == 0).float().mean() < 0.55


def test_random_projection_learns_nothing() -> None:
    quantizer = create("random")
    assert list(quantizer.parameters()) == []
    assert set(quantizer.state_dict()) == {"projection", "codebook"}


def test_rotation_trick_turns_the_gradient_with_the_vector() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    entries = torch.randn(5, 4, dtype=torch.double)
    direction = torch.randn(5, 4, dtype=torch.double)
    result = replace_straight_through(vectors, entries, rotates=True)
    assert torch.equal(result, entries)
    (result * direction).sum().backward()
    assert vectors.grad is not None
    for row in range(5):
        z, q = vectors[row].detach(), entries[row]
        e, u = z / z.norm(), q / q.norm()
        r = (e + u) / (e + u).norm()
        turn = torch.eye(4) - 2 * torch.outer(r, r) + 2 * torch.outer(u, e)
        assert torch.allclose(q.norm() / z.norm() * turn @ z, q)
        expected = q.norm() / z.norm() * turn.t() @ direction[row]
        assert torch.allclose(vectors.grad[row], expected)


def test_nearest_entry_is_found_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    points, codebook = torch.randn(501, 6), torch.randn(40, 6)
    expected = torch.cdist(points, codebook).argmin(1)
    assert torch.equal(find_nearest(points, codebook), expected)
    monkeypatch.setattr(nearest, "MAX_ELEMENTS", 100)
    assert torch.equal(find_nearest(points, codebook), expected)
    assert find_nearest(points[:0], codebook).tolist() == []


def test_soft_assignment_of_many_frames_is_that_of_evenly_spaced_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    points, codebook = torch.randn(400, 6), torch.randn(10, 6)
    monkeypatch.setattr(nearest, "MAX_ELEMENTS", 1000)
    share = soft_assign(points, codebook)
    assert torch.allclose(share.sum(), torch.tensor(1.0))
    assert torch.equal(share, soft_assign(points[::4], codebook))


@pytest.mark.parametrize("name", ["gumbel", "vq", "ema"])
def test_restarted_entries_are_chosen_again(name: str) -> None:
    quantizer = create(name).eval()
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(600, INPUT_DIM, generator=generator)
    quantizer.place(features, generator)
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    if isinstance(quantizer, DistanceQuantizer):
        with torch.no_grad():
            quantizer.codebook[:, 3:] = 1000.0  # type: ignore[index,operator]
    else:
        with torch.no_grad():
            quantizer.projection.bias.view(2, 12)[:, 3:] = -1e4  # type: ignore[union-attr,operator]
    codes = quantizer.encode(features[None])[0]
    unused = torch.stack([torch.bincount(codes[:, g], minlength=12) == 0 for g in range(2)])
    assert unused[:, 3:].all()
    quantizer.restart(unused, features, generator)
    codes = quantizer.encode(features[None])[0]
    assert min(len(codes[:, g].unique()) for g in range(2)) >= 10
    kept = quantizer.decode(torch.zeros(1, 1, 2, dtype=torch.long))
    quantizer.load_state_dict(state)
    assert torch.equal(kept, quantizer.decode(torch.zeros(1, 1, 2, dtype=torch.long)))


@pytest.mark.parametrize("name", ["simvq", "fsq", "random"])
def test_entries_that_move_together_cannot_restart(name: str) -> None:
    with pytest.raises(NotImplementedError, match="cannot restart single entries"):
        create(name).restart(torch.ones(2, 12, dtype=torch.bool), draw()[0][0], torch.Generator())
