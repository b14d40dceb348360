"""A quantiser that learns nothing: BEST-RQ's random projection (Chiu et al. 2022, arXiv 2202.01855,
section 3.1). The control for every quantiser that does learn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechvq.nn.gumbel_quantizer import lookup
from speechvq.nn.nearest import compute_entropy_perplexity, find_nearest, soft_assign
from speechvq.nn.precision import full_precision
from speechvq.nn.quantizer import Quantizer, QuantizerOutput


class RandomProjectionQuantizer(Quantizer):
    """A frozen random projection and frozen random entries, both of unit length.

    Features must have zero mean and unit variance, as both front ends give them: without it nearly
    all frames fall on few codes.

    Args:
        input_dim: D, channels of the features.
        output_dim: C, channels of the vectors; d = C / G.
        num_codebooks: G.
        codebook_size: V.
    """

    projection: Tensor
    codebook: Tensor

    def __init__(
        self, input_dim: int, output_dim: int, *, num_codebooks: int, codebook_size: int
    ) -> None:
        super().__init__()
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.output_dim = output_dim
        self.entry_dim = output_dim // num_codebooks
        projection = nn.init.xavier_uniform_(torch.empty(output_dim, input_dim))
        codebook = torch.randn(num_codebooks, codebook_size, self.entry_dim)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=-1))

    @torch.no_grad()
    def forward(self, features: Tensor, *, temperature: float, valid: Tensor) -> QuantizerOutput:
        """See `Quantizer.forward`; `temperature` has no role, and there is nothing to learn."""
        with full_precision(features):
            vectors = self._project(features)
            codes = self._choose(vectors)
            share = torch.stack(
                [
                    soft_assign(vectors[valid][:, g], self.codebook[g])
                    for g in range(self.num_codebooks)
                ]
            )
            perplexity = compute_entropy_perplexity(share)
        num_entries = self.num_codebooks * self.codebook_size
        diversity_loss = (num_entries - perplexity.sum()) / num_entries
        return QuantizerOutput(self.decode(codes), codes, diversity_loss, None, perplexity)

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        with full_precision(features):
            return self._choose(self._project(features))

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer.decode`."""
        return lookup(self.codebook, codes)

    def place(self, features: Tensor, generator: torch.Generator) -> None:
        """Does nothing: what is random here stays as it was drawn."""

    def _project(self, features: Tensor) -> Tensor:
        """(..., D) → (..., G, d) of unit length."""
        projected = F.linear(features.float(), self.projection)
        return F.normalize(projected.unflatten(-1, (self.num_codebooks, self.entry_dim)), dim=-1)

    def _choose(self, vectors: Tensor) -> Tensor:
        flat = vectors.reshape(-1, self.num_codebooks, self.entry_dim)
        codes = [find_nearest(flat[:, g], self.codebook[g]) for g in range(self.num_codebooks)]
        return torch.stack(codes, dim=-1).view(vectors.shape[:-1])
