"""Straight-through vector quantisation (van den Oord et al. 2017, arXiv 1711.00937)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechvq.nn.distance_quantizer import DistanceQuantizer
from speechvq.nn.kmeans import draw_rows, fit_kmeans


class VectorQuantizer(DistanceQuantizer):
    """A table of entries that learn by gradient, each only when it is chosen: prone to collapse.

    See `DistanceQuantizer` for the arguments.
    """

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
        super().__init__(
            input_dim,
            output_dim,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            commitment=commitment,
            rotates=rotates,
        )
        entries = torch.empty(num_codebooks, codebook_size, self.entry_dim)
        self.codebook = nn.Parameter(nn.init.normal_(entries, std=self.entry_dim**-0.5))

    def compute_codebook(self) -> Tensor:
        """See `DistanceQuantizer.compute_codebook`."""
        return self.codebook.float()

    @torch.no_grad()
    def place_codebook(self, vectors: Tensor, generator: torch.Generator) -> None:
        """k-means centroids; see `DistanceQuantizer.place_codebook`."""
        for g in range(self.num_codebooks):
            centroids, _ = fit_kmeans(vectors[:, g], self.codebook_size, generator=generator)
            self.codebook[g] = centroids

    @torch.no_grad()
    def restart(self, unused: Tensor, features: Tensor, generator: torch.Generator) -> None:
        """See `Quantizer.restart`."""
        for g in range(self.num_codebooks):
            places = unused[g].nonzero().flatten()
            frames = draw_rows(features, len(places), generator).to(self.codebook.device)
            self.codebook[g, places] = self.project(frames)[:, g]
