"""Masked prediction: name the codes of masked frames by cross-entropy, over the same codebooks as
the contrastive task. BEST-RQ (Chiu et al. 2022, arXiv 2202.01855, section 3) and HuBERT do so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.contrastive import TaskOutput, compute_equal_codes
from speechvq.nn.lengths import lengths_to_padding_mask
from speechvq.nn.precision import full_precision
from speechvq.nn.quantizer import QuantizerOutput


def compute_prediction_loss(
    logits: Tensor, codes: Tensor, distractors: Tensor, num_masked: Tensor
) -> TaskOutput:
    """Cross-entropy of the targets' codes, summed over codebooks.

    A collapsed codebook is easy to predict: `equal_share` tells it from success, over the same
    distractors as in the contrastive task.

    Args:
        logits: (B, M, G, V), what the Transformer says of each codebook at masked frames.
        codes: (B, M, G) long, the targets' codes.
        distractors: (B, M, K) long, indices into the utterance's own M.
        num_masked: (B,) long, valid masked frames of each utterance.

    Returns:
        Loss and diagnostics by frame.
    """
    num_masked = num_masked.to(logits.device, non_blocking=True)
    valid = ~lengths_to_padding_mask(num_masked, logits.size(1)) & (num_masked > 1)[:, None]
    with full_precision(logits):
        logits = logits.float()
        loss = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none")
        loss = loss.view(codes.shape).sum(-1).masked_fill(~valid, 0.0)  # (B, M)
        with torch.no_grad():
            correct = (logits.argmax(-1) == codes).float().mean(-1) * valid
            equal = compute_equal_codes(codes).gather(2, distractors)  # (B, M, K)
            equal_share = equal.float().mean(-1) * valid
    return TaskOutput(loss, correct, equal_share, valid, logits)


class PredictionTask(nn.Module):
    """Names each codebook's entry from the context. Gradients do not reach the targets, which learn
    from their own losses if they learn at all.

    Args:
        model_dim: D of the context.
        num_codebooks: G.
        codebook_size: V.
    """

    def __init__(self, model_dim: int, *, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.num_codebooks = num_codebooks
        self.predictor = nn.Linear(model_dim, num_codebooks * codebook_size)

    def forward(
        self, context: Tensor, quantized: QuantizerOutput, distractors: Tensor, num_masked: Tensor
    ) -> TaskOutput:
        """See `ContrastiveTask.forward`."""
        logits = self.predictor(context).view(*context.shape[:2], self.num_codebooks, -1)
        return compute_prediction_loss(logits, quantized.codes, distractors, num_masked)
