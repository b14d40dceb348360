"""The contrastive loss of wav2vec 2.0 (section 3.2, equation 3), computed from one similarity
matrix.

Each masked frame has to find its own quantised target among K distractors of the same utterance.
All similarities of an utterance are one matrix product; the loss then picks scalars from it instead
of copying K vectors for every frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.lengths import lengths_to_padding_mask
from speechvq.nn.precision import full_precision
from speechvq.nn.quantizer import QuantizerOutput


@dataclass
class TaskOutput:
    """The loss of each masked frame, and what tells learning from collapse.

    Attributes:
        loss_per_frame: (B, M) float32, nats; 0 where not valid.
        correct: (B, M) float32, 1 where the target was found (contrastive: more similar than all
            distractors, of which at least one differs), or the share of its codes that were
            (prediction); 0 where not valid.
        equal_share: (B, M) float32, share of the K distractors whose codes equal the target's; 0
            where not valid.
        valid: (B, M) bool, frames that count: not padding, and at least one other masked frame in
            the utterance.
        logits: Contrastive: (B, M, 1 + K) float32, target first; excluded distractors are -inf.
            Prediction: (B, M, G, V) float32.
    """

    loss_per_frame: Tensor
    correct: Tensor
    equal_share: Tensor
    valid: Tensor
    logits: Tensor


def compute_equal_codes(codes: Tensor) -> Tensor:
    """Compares the codes of all pairs of frames, codebook by codebook.

    Args:
        codes: (B, M, G) long.

    Returns:
        (B, M, M) bool.
    """
    equal = codes[:, :, None, 0] == codes[:, None, :, 0]
    for group in range(1, codes.size(2)):
        equal = equal & (codes[:, :, None, group] == codes[:, None, :, group])
    return equal


def compute_contrastive_loss(
    context: Tensor,
    targets: Tensor,
    codes: Tensor,
    distractors: Tensor,
    num_masked: Tensor,
    logit_temperature: float,
) -> TaskOutput:
    """Cross-entropy of finding the target among the distractors.

    Distractors with the target's codes are left out. A frame whose distractors are all equal to the
    target has nothing to be told from: its loss is 0 and it counts as wrong, so that a collapsed
    codebook does not look like success.

    Args:
        context: (B, M, C), what the Transformer predicts at masked frames.
        targets: (B, M, C), quantised and projected targets.
        codes: (B, M, G) long, the targets' codes.
        distractors: (B, M, K) long, indices into the utterance's own M.
        num_masked: (B,) long, valid masked frames of each utterance.
        logit_temperature: Divides the cosine similarities.

    Returns:
        Loss and diagnostics by frame.
    """
    num_masked = num_masked.to(context.device, non_blocking=True)
    valid = ~lengths_to_padding_mask(num_masked, context.size(1)) & (num_masked > 1)[:, None]
    with full_precision(context):
        similarity = torch.bmm(
            F.normalize(context.float(), dim=-1, eps=1e-8),
            F.normalize(targets.float(), dim=-1, eps=1e-8).transpose(1, 2),
        )  # (B, M, M)
        equal = compute_equal_codes(codes).gather(2, distractors)  # (B, M, K)
        positive = similarity.diagonal(dim1=1, dim2=2)[..., None]  # (B, M, 1)
        negative = similarity.gather(2, distractors)  # (B, M, K)
        logits = torch.cat([positive, negative], dim=2) / logit_temperature
        excluded = F.pad(equal, (1, 0), value=False)
        logits = logits.masked_fill(excluded, float("-inf"))  # (B, M, 1 + K)
        loss = logits.logsumexp(-1) - logits[..., 0]
        loss = loss.masked_fill(~valid, 0.0)
    correct = (logits[..., :1] > logits[..., 1:]).all(-1) & ~equal.all(-1) & valid
    equal_share = equal.float().mean(-1) * valid
    return TaskOutput(loss, correct.float(), equal_share, valid, logits)


class ContrastiveTask(nn.Module):
    """The space in which context and targets meet.

    Args:
        model_dim: D of the context.
        code_dim: Channels of the quantised vectors.
        final_dim: Channels in which they are compared.
        logit_temperature: Divides cosine similarities.
    """

    def __init__(
        self, model_dim: int, code_dim: int, final_dim: int, *, logit_temperature: float
    ) -> None:
        super().__init__()
        self.context_projection = nn.Linear(model_dim, final_dim)
        self.target_projection = nn.Linear(code_dim, final_dim)
        self.logit_temperature = logit_temperature

    def forward(
        self, context: Tensor, quantized: QuantizerOutput, distractors: Tensor, num_masked: Tensor
    ) -> TaskOutput:
        """Computes the loss at masked frames.

        Args:
            context: (B, M, D), what the Transformer says at masked frames.
            quantized: The targets.
            distractors: (B, M, K) long, indices into the utterance's own M.
            num_masked: (B,) long, valid masked frames of each utterance.

        Returns:
            Loss and diagnostics by frame.
        """
        return compute_contrastive_loss(
            self.context_projection(context),
            self.target_projection(quantized.vectors),
            quantized.codes,
            distractors,
            num_masked,
            self.logit_temperature,
        )
