from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from speechvq.nn.prediction import PredictionTask, compute_prediction_loss
from speechvq.nn.quantizer import QuantizerOutput


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 3, 5, requires_grad=True)
    codes = torch.randint(5, (2, 6, 3))
    distractors = torch.randint(4, (2, 6, 10))
    return logits, codes, distractors, torch.tensor([6, 4])


def test_loss_is_the_sum_over_codebooks(batch):
    logits, codes, distractors, num_masked = batch
    output = compute_prediction_loss(logits, codes, distractors, num_masked)
    for b, m in [(0, 0), (0, 5), (1, 3)]:
        expected = sum(F.cross_entropy(logits[b, m, g], codes[b, m, g]) for g in range(3))
        assert torch.allclose(output.loss_per_frame[b, m], expected)
        right = (logits[b, m].argmax(-1) == codes[b, m]).float().mean()
        assert torch.allclose(output.correct[b, m], right)
    assert output.valid.sum(1).tolist() == [6, 4]


def test_padding_has_no_loss_and_no_gradient(batch):
    logits, codes, distractors, num_masked = batch
    output = compute_prediction_loss(logits, codes, distractors, num_masked)
    assert output.loss_per_frame[1, 4:].tolist() == [0.0, 0.0]
    output.loss_per_frame.sum().backward()
    assert not logits.grad[1, 4:].any()
    assert logits.grad[1, :4].any()


def test_collapse_shows_although_it_is_easy_to_predict(batch):
    _, codes, distractors, num_masked = batch
    codes = torch.zeros_like(codes)
    logits = 20 * F.one_hot(codes, 5).float()
    output = compute_prediction_loss(logits, codes, distractors, num_masked)
    assert output.loss_per_frame.sum() < 1e-4
    assert output.equal_share[output.valid].tolist() == [1.0] * 10


def test_task_leaves_the_targets_alone():
    task = PredictionTask(8, num_codebooks=3, codebook_size=5)
    context = torch.randn(2, 6, 8, requires_grad=True)
    vectors = torch.randn(2, 6, 4, requires_grad=True)
    codes = torch.randint(5, (2, 6, 3))
    zero = torch.zeros(())
    quantized = QuantizerOutput(vectors, codes, zero, None, torch.ones(3))
    output = task(context, quantized, torch.randint(4, (2, 6, 10)), torch.tensor([6, 4]))
    output.loss_per_frame.sum().backward()
    assert vectors.grad is None
    assert context.grad.abs().sum() > 0
