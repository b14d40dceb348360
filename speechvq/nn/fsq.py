"""Finite scalar quantisation: no table, a few numbers rounded to a few levels each.

Mentzer et al. 2023 (arXiv 2309.15505), section 3. The entries are all combinations of the levels,
so none can die; whether all are used is another question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechvq.nn.kmeans import fit_principal_axes, split_channels
from speechvq.nn.nearest import compute_entropy_perplexity
from speechvq.nn.precision import full_precision
from speechvq.nn.quantizer import Quantizer, QuantizerOutput
from speechvq.nn.straight_through import replace_straight_through

MARGIN = 1e-3
"""How far the bounded numbers may go beyond the outer levels (the authors' value)."""

SOFTNESS = 0.25
"""Scale of the soft assignment in square level distances: neighbours get a fiftieth."""


class FiniteScalarQuantizer(Quantizer):
    """Each codebook is a grid: numbers bounded by tanh and rounded to whole levels.

    The first number is the fastest in a code. Vectors hold the levels divided by half of their
    number, so that they lie in [-1, 1].

    Args:
        input_dim: D, channels of the features.
        num_codebooks: G.
        levels: Levels of each number of a codebook, at least 2 each; V is their product, and C is
            G × their count.
    """

    levels: Tensor
    half_widths: Tensor
    entries: Tensor

    def __init__(self, input_dim: int, *, num_codebooks: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.num_codebooks = num_codebooks
        self.codebook_size = math.prod(levels)
        self.output_dim = num_codebooks * len(levels)
        self.projection = nn.Linear(input_dim, self.output_dim)
        number = torch.tensor(list(levels), dtype=torch.long, device="cpu")
        self.register_buffer("levels", number, persistent=False)
        self.register_buffer("half_widths", (number // 2).float(), persistent=False)
        steps = [torch.arange(n, dtype=torch.long, device="cpu") for n in reversed(levels)]
        digits = torch.cartesian_prod(*steps)
        digits = digits.reshape(self.codebook_size, len(levels)).flip(1)
        self.register_buffer(
            "entries", (digits - number // 2) / (number // 2).float(), persistent=False
        )

    def bound(self, features: Tensor) -> Tensor:
        """(..., D) → (..., G, count) float32, in units of levels around 0."""
        projected = self.projection(features.float()).unflatten(-1, (self.num_codebooks, -1))
        half = (self.levels - 1) * (1 + MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        # Where levels are even, zero becomes a whole level; of two levels one would be out of
        # reach, and zero lies between them.
        shift = torch.where(self.levels == 2, 0.0, torch.atanh(offset / half))
        result: Tensor = (projected + shift).tanh() * half - offset
        return result

    def forward(self, features: Tensor, *, temperature: float, valid: Tensor) -> QuantizerOutput:
        """See `Quantizer.forward`; `temperature` has no role here."""
        with full_precision(features):
            bounded = self.bound(features)  # (B, M, G, count)
            codes = self._to_codes(bounded)
            entries = self.entries[codes]
            scaled = bounded / self.half_widths
            vectors = replace_straight_through(scaled, entries, rotates=False)
            share = self._assign_softly(bounded[valid])  # (G, V)
            perplexity = compute_entropy_perplexity(share)
        num_entries = self.num_codebooks * self.codebook_size
        diversity_loss = (num_entries - perplexity.sum()) / num_entries
        return QuantizerOutput(vectors.flatten(-2), codes, diversity_loss, None, perplexity)

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        with full_precision(features):
            return self._to_codes(self.bound(features))

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer.decode`."""
        return self.entries[codes].flatten(-2)

    @torch.no_grad()
    def place(self, features: Tensor, generator: torch.Generator) -> None:
        """See `Quantizer.place`: the numbers are the first principal components of each codebook's
        part of the channels, with unit variance.
        """
        weight = torch.zeros_like(self.projection.weight, device="cpu")
        bias = torch.zeros_like(self.projection.bias, device="cpu")
        count = len(self.levels)
        for g, part in enumerate(split_channels(features.size(1), self.num_codebooks)):
            axes, mean = fit_principal_axes(features[:, part], count)
            spread = ((features[:, part] - mean) @ axes.t()).std(0).clamp(min=1e-4)
            axes = axes / spread[:, None]
            weight[g * count : g * count + len(axes), part] = axes
            bias[g * count : g * count + len(axes)] = -axes @ mean
        self.projection.weight.copy_(weight)
        self.projection.bias.copy_(bias)

    def _to_codes(self, bounded: Tensor) -> Tensor:
        """Whole levels as one number: (..., G, count) → (..., G) long."""
        digits = bounded.detach().round().long() + self.levels // 2
        place = torch.cumprod(self.levels, 0) // self.levels
        return (digits * place).sum(-1)

    def _assign_softly(self, bounded: Tensor) -> Tensor:
        """Mean soft assignment of valid frames: (N, G, count) → (G, V)."""
        if len(bounded) == 0:
            even = 1.0 / self.codebook_size
            return bounded.sum() * 0.0 + bounded.new_full(
                (self.num_codebooks, self.codebook_size), even
            )
        shares = []
        for i, count in enumerate(self.levels.tolist()):
            grid = torch.arange(count, device=bounded.device, dtype=bounded.dtype) - count // 2
            shares.append((-(bounded[..., i, None] - grid).square() / SOFTNESS).softmax(-1))
        # The mean of products of two halves is one matrix product: no table of all frames by all
        # entries, however large the grid.
        half = (len(shares) + 1) // 2
        one = bounded.new_ones(*bounded.shape[:2], 1)
        first, second = _combine(one, shares[:half]), _combine(one, shares[half:])
        return torch.einsum("ngs,ngf->gsf", second, first).flatten(1) / len(bounded)


def _combine(joint: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """Joint assignment of independent numbers: (N, G, 1) and (N, G, level) each → (N, G, product of
    the levels).
    """
    for share in shares:
        # The first number is the fastest: what comes later varies outside of it.
        joint = (share[..., :, None] * joint[..., None, :]).flatten(-2)
    return joint
