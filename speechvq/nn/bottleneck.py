"""A bottleneck of codes: hidden states become the mean of a few entries of a codebook.

Tamkin, Taufeeque, Goodman 2023, "Codebook Features" (arXiv 2310.17230), section 2, as its code has
it: layer norm first, the mean of the chosen codes (the paper's text has their sum).

`speechvq.nn.bottleneck_sites` puts bottlenecks into an encoder and takes them out again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.nearest import MAX_ELEMENTS
from speechvq.nn.precision import full_precision
from speechvq.nn.straight_through import replace_straight_through

ABLATED = -1
"""A slot that counts in the mean and gives nothing to it; in results also the slots of padding."""
ABSENT = -2
"""A slot that is not there: it does not count."""


@dataclass
class BottleneckOutput:
    """What a bottleneck made of a batch.

    Attributes:
        vectors: (B, T, D), exactly the means of the codes, in the type of the frames.
        codes: (B, T, G, k) long, the most similar first; `ABLATED` in padding.
        inputs: (B, T, G, d) float32 without gradient, what was compared with the codes.
        losses: (G,) float32, square distance of inputs to means, mean over valid frames; their sum
            times λ = 1 is the paper's auxiliary loss. Its gradient reaches codes only.
        padding: (B, T) bool, True = padding; None where there is none.
    """

    vectors: Tensor
    codes: Tensor
    inputs: Tensor
    losses: Tensor
    padding: Tensor | None

    def get_valid(self) -> tuple[Tensor, Tensor]:
        """Codes (N, G, k) and inputs (N, G, d) of the valid frames."""
        if self.padding is None:
            return self.codes.flatten(0, 1), self.inputs.flatten(0, 1)
        return self.codes[~self.padding], self.inputs[~self.padding]


class Bottleneck(nn.Module):
    """G codebooks of V codes, each for its own D/G channels; k codes of each stand for a frame.

    The gradient passes straight through to the normalised frames, and reaches the chosen codes too.

    Args:
        model_dim: D.
        num_codebooks: G, a divisor of D; the heads where the bottleneck stands before an output
            projection.
        codebook_size: V.
        num_active: k, may be changed later (`Bottleneck.num_active`).
    """

    def __init__(
        self, model_dim: int, *, num_codebooks: int, codebook_size: int, num_active: int
    ) -> None:
        super().__init__()
        if num_codebooks < 1 or model_dim % num_codebooks:
            raise ValueError(
                f"`num_codebooks` must divide the {model_dim} channels, but is {num_codebooks}."
            )
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.code_dim = model_dim // num_codebooks
        self.norm_weight = nn.Parameter(torch.ones(num_codebooks, self.code_dim))
        self.norm_bias = nn.Parameter(torch.zeros(num_codebooks, self.code_dim))
        self.codebooks = nn.Parameter(torch.randn(num_codebooks, codebook_size, self.code_dim))
        self.num_active = num_active

    @property
    def num_active(self) -> int:
        """k, codes of each codebook that stand for a frame."""
        return self._num_active

    @num_active.setter
    def num_active(self, num_active: int) -> None:
        if not 1 <= num_active <= self.codebook_size:
            raise ValueError(
                f"`num_active` must be from 1 to the codebook's size ({self.codebook_size}), but "
                f"is {num_active}."
            )
        self._num_active = num_active

    def forward(
        self,
        frames: Tensor,
        padding: Tensor | None = None,
        *,
        edit: Callable[[Tensor], Tensor] | None = None,
    ) -> BottleneckOutput:
        """Replaces frames by means of codes.

        Args:
            frames: (B, T, D) float.
            padding: (B, T) bool, True = padding, which enters no loss.
            edit: Changes the chosen codes (B, T, G, k) before they are averaged; may add slots.
        """
        with full_precision(frames):
            inputs = self.normalize(frames)  # (B, T, G, d)
            codes = find_active_codes(
                inputs.detach().flatten(0, 1), self.codebooks.detach(), self.num_active
            ).unflatten(0, frames.shape[:2])  # (B, T, G, k)
            average = average_codes
            if edit is not None:
                codes, average = edit(codes), average_slots
            means = average(self.codebooks, codes.flatten(0, 1)).view_as(inputs)
            losses = _compute_losses(means, inputs.detach(), padding)
            vectors = replace_straight_through(inputs, means, rotates=False)
        if padding is not None:
            codes = codes.masked_fill(padding[..., None, None], ABLATED)
        return BottleneckOutput(
            vectors.flatten(2).to(frames.dtype), codes, inputs.detach(), losses, padding
        )

    def normalize(self, frames: Tensor) -> Tensor:
        """Layer norm of each codebook's channels: (B, T, D) → (B, T, G, d) float32."""
        parts = frames.float().unflatten(-1, (self.num_codebooks, self.code_dim))
        normalized = F.layer_norm(parts, (self.code_dim,))
        return torch.addcmul(self.norm_bias, normalized, self.norm_weight)


@torch.no_grad()
def find_active_codes(inputs: Tensor, codebooks: Tensor, num_active: int) -> Tensor:
    """Codes with the largest cosine similarity. No table of all frames by all codes is held where
    it is large.

    Args:
        inputs: (N, G, d) float32; their lengths do not matter.
        codebooks: (G, V, d) float32.
        num_active: k.

    Returns:
        (N, G, k) long, the most similar first.
    """
    directions = F.normalize(codebooks, dim=-1).transpose(1, 2)  # (G, d, V)
    size = max(1, MAX_ELEMENTS // (codebooks.size(0) * codebooks.size(1)))
    found = []
    for part in inputs.split(size):
        similarity = torch.bmm(part.transpose(0, 1), directions)  # (G, n, V)
        if num_active == 1:
            best = similarity.max(-1, keepdim=True).indices  # faster than argmax on the CPU
        else:
            best = similarity.topk(num_active, dim=-1).indices
        found.append(best.transpose(0, 1))
    return torch.cat(found)


def average_codes(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Means of codes, without a copy of every code of every frame.

    Args:
        codebooks: (G, V, d) float.
        codes: (N, G, K) long.

    Returns:
        (N, G, d).
    """
    rows = _find_rows(codebooks, codes)
    sums = F.embedding_bag(rows, codebooks.flatten(0, 1), mode="sum")
    return (sums / codes.size(2)).view(*codes.shape[:2], -1)


def average_slots(codebooks: Tensor, codes: Tensor) -> Tensor:
    """The same where slots may be `ABLATED` or `ABSENT`.

    Args:
        codebooks: (G, V, d) float.
        codes: (N, G, K) long.

    Returns:
        (N, G, d): the sum of what is there over the number of slots that are not absent; 0 where
        nothing is there. Bit for bit that of `average_codes` where all is.
    """
    slots = codes.flatten(0, 1)  # (N G, K)
    is_live = slots >= 0
    counts = is_live.sum(1)
    rows = _find_rows(codebooks, codes)[is_live]
    sums = F.embedding_bag(rows, codebooks.flatten(0, 1), counts.cumsum(0) - counts, mode="sum")
    num_slots = (slots != ABSENT).sum(1, keepdim=True).clamp(min=1)
    return (sums / num_slots).view(*codes.shape[:2], -1)


def _find_rows(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Codes (N, G, K) of each codebook → rows (N G, K) of all codebooks in one table."""
    numbers = torch.arange(codebooks.size(0), dtype=torch.long, device=codes.device)
    return (codes + numbers[:, None] * codebooks.size(1)).flatten(0, 1)


def _compute_losses(means: Tensor, inputs: Tensor, padding: Tensor | None) -> Tensor:
    """Square distances (B, T, G, d) twice → (G,), mean over valid frames."""
    squares = (means - inputs).square().sum(-1)  # (B, T, G)
    if padding is None:
        return squares.sum((0, 1)) / max(1, squares.size(0) * squares.size(1))
    squares = squares.masked_fill(padding[..., None], 0.0)
    return squares.sum((0, 1)) / (~padding).sum().clamp(min=1)
