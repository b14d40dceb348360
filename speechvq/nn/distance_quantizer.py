"""What all quantisers that choose the nearest entry have in common."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from speechvq.nn.gumbel_quantizer import lookup
from speechvq.nn.kmeans import fit_principal_axes, split_channels
from speechvq.nn.nearest import compute_entropy_perplexity, find_nearest, soft_assign
from speechvq.nn.precision import full_precision
from speechvq.nn.quantizer import Quantizer, QuantizerOutput
from speechvq.nn.straight_through import replace_straight_through


class DistanceQuantizer(Quantizer):
    """Projects features to G vectors of d channels and takes the nearest of V entries for each.

    The loss of the codebook is that of VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937, equation
    3), averaged over elements: |sg(z) - q|² + commitment × |z - sg(q)|².

    Args:
        input_dim: D, channels of the features.
        output_dim: C, channels of the vectors, a multiple of `num_codebooks`; d = C / G.
        num_codebooks: G.
        codebook_size: V.
        commitment: Weight of what draws features to their entries.
        rotates: Rotation trick instead of a plain straight-through gradient.
    """

    learns_from_task = True
    """Whether the gradient of the task reaches the entries as well."""

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        num_codebooks: int,
        codebook_size: int,
        commitment: float,
        rotates: bool,
    ) -> None:
        super().__init__()
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.output_dim = output_dim
        self.entry_dim = output_dim // num_codebooks
        self.commitment = commitment
        self.rotates = rotates
        self.projection = nn.Linear(input_dim, output_dim)

    @abstractmethod
    def compute_codebook(self) -> Tensor:
        """Returns the effective entries, (G, V, d) float32, differentiable where they learn."""

    @abstractmethod
    def place_codebook(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Puts the entries where projected vectors (N, G, d) are; see `Quantizer.place`."""

    def compute_codebook_loss(self, vectors: Tensor, entries: Tensor) -> Tensor:
        """Mean over the elements of valid frames: (N, G, d) each → ()."""
        if len(vectors) == 0:
            return (vectors.sum() + entries.sum()) * 0.0
        pull = (entries - vectors.detach()).square().mean()
        commit = (vectors - entries.detach()).square().mean()
        return pull + self.commitment * commit

    def forward(self, features: Tensor, *, temperature: float, valid: Tensor) -> QuantizerOutput:
        """See `Quantizer.forward`; `temperature` has no role here."""
        with full_precision(features):
            vectors = self.project(features)  # (B, M, G, d)
            codebook = self.compute_codebook()  # (G, V, d)
            codes = self.choose(vectors, codebook)  # (B, M, G)
            entries = lookup(codebook, codes).unflatten(-1, (self.num_codebooks, self.entry_dim))
            loss = self.compute_codebook_loss(vectors[valid], entries[valid])
            targets = entries if self.learns_from_task else entries.detach()
            replaced = replace_straight_through(vectors, targets, rotates=self.rotates)
            share = self.assign_softly(vectors[valid], codebook)  # (G, V)
            perplexity = compute_entropy_perplexity(share)
        num_entries = self.num_codebooks * self.codebook_size
        diversity_loss = (num_entries - perplexity.sum()) / num_entries
        return QuantizerOutput(replaced.flatten(-2), codes, diversity_loss, loss, perplexity)

    def project(self, features: Tensor) -> Tensor:
        """(..., D) → (..., G, d) float32; to be called where autocast is off."""
        projected: Tensor = self.projection(features.float())
        return projected.view(*projected.shape[:-1], self.num_codebooks, self.entry_dim)

    def choose(self, vectors: Tensor, codebook: Tensor) -> Tensor:
        """Nearest entries: (B, M, G, d) and (G, V, d) → (B, M, G) long."""
        flat = vectors.detach().reshape(-1, self.num_codebooks, self.entry_dim)
        codes = [find_nearest(flat[:, g], codebook[g].detach()) for g in range(self.num_codebooks)]
        return torch.stack(codes, dim=-1).view(vectors.shape[:-1])

    def assign_softly(self, vectors: Tensor, codebook: Tensor) -> Tensor:
        """Mean soft assignment of valid frames: (N, G, d) and (G, V, d) → (G, V)."""
        return torch.stack(
            [soft_assign(vectors[:, g], codebook[g]) for g in range(self.num_codebooks)]
        )

    @torch.no_grad()
    def place(self, features: Tensor, generator: torch.Generator) -> None:
        """See `Quantizer.place`. A codebook sees the principal components of its part of the
        channels, so that near means alike from the start; its entries are placed among them.
        """
        weight = torch.zeros_like(self.projection.weight, device="cpu")
        bias = torch.zeros_like(self.projection.bias, device="cpu")
        parts = split_channels(features.size(1), self.num_codebooks)
        for g, part in enumerate(parts):
            axes, mean = fit_principal_axes(features[:, part], self.entry_dim)
            rows = slice(g * self.entry_dim, g * self.entry_dim + len(axes))
            weight[rows, part] = axes
            bias[rows] = -axes @ mean
        self.projection.weight.copy_(weight)
        self.projection.bias.copy_(bias)
        device = self.projection.weight.device
        self.place_codebook(self.project(features.to(device)).cpu(), generator)

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        with full_precision(features):
            return self.choose(self.project(features), self.compute_codebook())

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer.decode`."""
        return lookup(self.compute_codebook(), codes)
