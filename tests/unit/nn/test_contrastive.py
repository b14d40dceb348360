from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from speechvq.nn.contrastive import compute_contrastive_loss
from speechvq.nn.masking import sample_distractors

COUNTS = [12, 7, 1, 0]


def create_batch(num_distractors: int = 9, codebook_size: int = 4):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    size = max(COUNTS)
    distractors = torch.zeros(len(COUNTS), size, num_distractors, dtype=torch.long)
    for row, count in enumerate(COUNTS):
        drawn = sample_distractors(count, num_distractors, rng)
        distractors[row, :count] = torch.from_numpy(drawn)
    codes = torch.randint(codebook_size, (len(COUNTS), size, 2))
    codebook = torch.randn(codebook_size, codebook_size, 16)
    targets = codebook[codes[..., 0], codes[..., 1]]
    context = torch.randn(len(COUNTS), size, 16)
    return context, targets, codes, distractors, torch.tensor(COUNTS)


def compute_slowly(context, targets, codes, distractors, num_masked, temperature):
    """The same loss with loops and gathered vectors: the definition."""
    losses = torch.zeros(codes.shape[:2])
    for b, count in enumerate(num_masked.tolist()):
        for m in range(count if count > 1 else 0):
            kept = [targets[b, m]]
            for k in distractors[b, m].tolist():
                if not torch.equal(codes[b, k], codes[b, m]):
                    kept.append(targets[b, k])
            scores = torch.cosine_similarity(context[b, m], torch.stack(kept), dim=-1)
            losses[b, m] = -torch.log_softmax(scores / temperature, dim=0)[0]
    return losses


def test_loss_and_gradient_are_those_of_gathered_vectors():
    context, targets, codes, distractors, counts = create_batch()
    context.requires_grad_()
    targets.requires_grad_()
    output = compute_contrastive_loss(context, targets, codes, distractors, counts, 0.1)
    wanted = compute_slowly(context, targets, codes, distractors, counts, 0.1)
    assert wanted.sum() > 1.0
    assert torch.allclose(output.loss_per_frame, wanted, atol=1e-5)
    found = torch.autograd.grad(output.loss_per_frame.sum(), [context, targets])
    expected = torch.autograd.grad(wanted.sum(), [context, targets])
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_utterances_with_fewer_than_two_masked_frames_are_left_out():
    output = compute_contrastive_loss(*create_batch(), 0.1)
    assert output.valid.sum(1).tolist() == [12, 7, 0, 0]
    assert not output.loss_per_frame[~output.valid].any()
    assert not output.correct[~output.valid].any()
    assert not output.equal_share[~output.valid].any()
    assert output.loss_per_frame.isfinite().all()


def test_distractors_with_the_same_codes_are_excluded():
    context, targets, codes, distractors, counts = create_batch()
    output = compute_contrastive_loss(context, targets, codes, distractors, counts, 0.1)
    same = (codes[:, :, None] == codes[:, None]).all(-1).gather(2, distractors)
    assert same[output.valid].any()
    assert torch.equal(output.logits[..., 1:].isinf(), same)
    assert not output.logits[..., 0].isinf().any()
    share = same.float().mean(-1)
    assert torch.allclose(output.equal_share[output.valid], share[output.valid])


def test_equality_is_that_of_codes_not_of_vectors():
    """Noise in the vectors (dropout, precision) must not hide a duplicate."""
    context, targets, codes, distractors, counts = create_batch()
    noisy = targets + 1e-4 * torch.randn_like(targets)
    clean = compute_contrastive_loss(context, targets, codes, distractors, counts, 0.1)
    output = compute_contrastive_loss(context, noisy, codes, distractors, counts, 0.1)
    assert torch.equal(output.logits.isinf(), clean.logits.isinf())


def test_collapse_does_not_look_like_success():
    context, targets, codes, distractors, counts = create_batch()
    context.requires_grad_()
    collapsed = targets[:1, :1].expand_as(targets)
    output = compute_contrastive_loss(
        context, collapsed, torch.zeros_like(codes), distractors, counts, 0.1
    )
    assert not output.correct.any()
    assert (output.equal_share[output.valid] == 1.0).all()
    assert not output.loss_per_frame.any()
    (gradient,) = torch.autograd.grad(output.loss_per_frame.sum(), context)
    assert gradient.isfinite().all()


def test_perfect_context_is_correct_and_random_context_is_at_chance():
    context, targets, codes, distractors, counts = create_batch(codebook_size=64)
    perfect = compute_contrastive_loss(targets, targets, codes, distractors, counts, 0.1)
    assert perfect.correct[perfect.valid].all()
    assert perfect.loss_per_frame.max() < 0.5
    zeros = torch.zeros_like(context)
    chance = compute_contrastive_loss(zeros, targets, codes, distractors, counts, 0.1)
    kept = chance.logits.isfinite().sum(-1)[chance.valid]
    assert torch.allclose(chance.loss_per_frame[chance.valid], kept.float().log())
    assert kept.max() == 10
    assert math.isclose(chance.loss_per_frame.max(), math.log(10), abs_tol=1e-5)
    assert not chance.correct.any()  # a draw is not a win


def test_fp32_under_autocast():
    batch = create_batch()
    plain = compute_contrastive_loss(*batch, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = compute_contrastive_loss(*batch, 0.1)
    assert output.loss_per_frame.dtype == torch.float32
    assert torch.equal(output.loss_per_frame, plain.loss_per_frame)


@pytest.mark.parametrize("num_masked", [0, 1])
def test_batch_without_targets(num_masked):
    vectors = torch.randn(2, num_masked, 8, requires_grad=True)
    codes = torch.zeros(2, num_masked, 2, dtype=torch.long)
    distractors = torch.zeros(2, num_masked, 5, dtype=torch.long)
    counts = torch.full((2,), num_masked)
    output = compute_contrastive_loss(vectors, vectors, codes, distractors, counts, 0.1)
    assert output.loss_per_frame.sum() == 0
    assert output.valid.sum() == 0
    (gradient,) = torch.autograd.grad(output.loss_per_frame.sum(), vectors)
    assert not gradient.any()
