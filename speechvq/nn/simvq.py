"""SimVQ: one linear map moves the whole codebook at once, so that no entry is left behind.

Zhu et al. 2024 (arXiv 2411.02038), section 4: the effective codebook is C W, with C drawn once from
a Gaussian and frozen. Every step that changes W changes every entry.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechvq.nn.distance_quantizer import DistanceQuantizer

SMALLEST_VARIANCE = 1e-4


class SimVQuantizer(DistanceQuantizer):
    """Nearest of basis × map + shift, per codebook.

    Decoding goes through the map, too: codes that were stored give the vectors of training.

    Args:
        input_dim: D, channels of the features.
        output_dim: C, channels of the vectors; d = C / G.
        num_codebooks: G, each with a map of its own.
        codebook_size: V.
        commitment: Weight of what draws features to their entries.
        rotates: Rotation trick instead of a plain straight-through gradient.
        learns_basis: Lets the basis learn as well (the paper's ablation).
        shares_basis: One basis for all codebooks: their maps alone tell them apart.
    """

    basis: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        num_codebooks: int,
        codebook_size: int,
        commitment: float,
        rotates: bool,
        learns_basis: bool,
        shares_basis: bool,
    ) -> None:
        super().__init__(
            input_dim,
            output_dim,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            commitment=commitment,
            rotates=rotates,
        )
        num_bases = 1 if shares_basis else num_codebooks
        basis = torch.randn(num_bases, codebook_size, self.entry_dim) * self.entry_dim**-0.5
        if learns_basis:
            self.basis = nn.Parameter(basis)
        else:
            self.register_buffer("basis", basis)
        bound = self.entry_dim**-0.5  # the authors' nn.Linear
        self.map = nn.Parameter(
            torch.empty(num_codebooks, self.entry_dim, self.entry_dim).uniform_(-bound, bound)
        )
        self.shift = nn.Parameter(
            torch.empty(num_codebooks, 1, self.entry_dim).uniform_(-bound, bound)
        )

    def compute_codebook(self) -> Tensor:
        """See `DistanceQuantizer.compute_codebook`: one matrix product a codebook."""
        return torch.matmul(self.basis.float(), self.map.float()) + self.shift.float()

    @torch.no_grad()
    def place_codebook(self, vectors: Tensor, generator: torch.Generator) -> None:
        """The map and the shift that give the entries the mean and the covariance of the vectors;
        the basis stays as it was drawn. See `DistanceQuantizer.place_codebook`.
        """
        for g in range(self.num_codebooks):
            mean = vectors[:, g].mean(0)
            centred = vectors[:, g] - mean
            covariance = centred.t() @ centred / max(1, len(centred))
            covariance.diagonal().add_(SMALLEST_VARIANCE)
            # Rows of the basis have the covariance I / d; with L Lᵀ = covariance, basis √d Lᵀ has
            # that of the vectors.
            factor = torch.linalg.cholesky(covariance)
            self.map[g] = self.entry_dim**0.5 * factor.t()
            self.shift[g] = mean
