"""A codebook that follows its frames by moving averages, and sends unused entries elsewhere.

van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1, for the averages; restarting unused
entries on frames of the batch is Jukebox's (Dhariwal et al. 2020, arXiv 2005.00341, section 3.1).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from speechvq.nn.distance_quantizer import DistanceQuantizer
from speechvq.nn.kmeans import draw_rows, fit_kmeans


class EMAQuantizer(DistanceQuantizer):
    """Entries are the moving averages of the vectors that chose them. No gradient reaches them.

    With several ranks the averages are over all of them, and new places for unused entries come
    from rank 0: the codebooks stay equal on every rank. A batch with a value that is not finite
    changes nothing.

    Args:
        input_dim: D, channels of the features.
        output_dim: C, channels of the vectors; d = C / G.
        num_codebooks: G.
        codebook_size: V.
        commitment: Weight of what draws features to their entries.
        rotates: Rotation trick instead of a plain straight-through gradient.
        decay: Share of the old average that a step keeps.
        restart_share: An entry that is chosen less than this share of an even choice is put on a
            random vector of the batch; 0 never restarts.
    """

    learns_from_task = False
    codebook: Tensor
    average_count: Tensor
    average_sum: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        num_codebooks: int,
        codebook_size: int,
        commitment: float,
        rotates: bool,
        decay: float,
        restart_share: float,
    ) -> None:
        super().__init__(
            input_dim,
            output_dim,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            commitment=commitment,
            rotates=rotates,
        )
        self.decay = decay
        self.restart_share = restart_share
        codebook = torch.randn(num_codebooks, codebook_size, self.entry_dim)
        self.register_buffer("codebook", codebook * self.entry_dim**-0.5)
        self.register_buffer("average_count", torch.ones(num_codebooks, codebook_size))
        self.register_buffer("average_sum", self.codebook.clone())

    def compute_codebook(self) -> Tensor:
        """See `DistanceQuantizer.compute_codebook`. A copy: the averages change in place."""
        return self.codebook.clone()

    def compute_codebook_loss(self, vectors: Tensor, entries: Tensor) -> Tensor:
        """Commitment alone, as entries have no gradient; in training, also moves the averages."""
        if self.training:
            self.follow(vectors.detach())
        if len(vectors) == 0:
            return vectors.sum() * 0.0
        return self.commitment * (vectors - entries.detach()).square().mean()

    @torch.no_grad()
    def follow(self, vectors: Tensor) -> None:
        """Moves the averages by one batch of valid vectors (N, G, d) of this rank."""
        count = torch.zeros_like(self.average_count)
        total = torch.zeros_like(self.average_sum)
        for g in range(self.num_codebooks):
            codes = self.choose(vectors, self.codebook)[:, g]
            count[g] = torch.bincount(codes, minlength=self.codebook_size)
            total[g].index_add_(0, codes, vectors[:, g])
        _sum_over_ranks(count)
        _sum_over_ranks(total)
        if count.sum() == 0 or not total.isfinite().all():
            return
        self.average_count.lerp_(count, 1 - self.decay)
        self.average_sum.lerp_(total, 1 - self.decay)
        used = self.average_count > 1e-5
        means = self.average_sum / self.average_count.clamp(min=1e-5)[..., None]
        self.codebook.copy_(torch.where(used[..., None], means, self.codebook))
        if self.restart_share > 0:
            self._restart(vectors)

    def _restart(self, vectors: Tensor) -> None:
        """Puts entries that are hardly chosen on random vectors of rank 0."""
        even = self.average_count.sum(1, keepdim=True) / self.codebook_size  # (G, 1)
        unused = self.average_count < self.restart_share * even  # (G, V)
        if not unused.any():
            return
        places = self.codebook.clone()
        if len(vectors) > 0:
            drawn = torch.randint(len(vectors), unused.shape, device="cpu", dtype=torch.long).to(
                vectors.device
            )
            for g in range(self.num_codebooks):
                places[g] = vectors[drawn[g], g]
        if _is_distributed():
            dist.broadcast(places, src=0)
        self.codebook.copy_(torch.where(unused[..., None], places, self.codebook))
        self.average_count.copy_(torch.where(unused, even.expand_as(unused), self.average_count))
        self.average_sum.copy_(
            torch.where(
                unused[..., None], self.codebook * self.average_count[..., None], self.average_sum
            )
        )

    @torch.no_grad()
    def place_codebook(self, vectors: Tensor, generator: torch.Generator) -> None:
        """k-means centroids; see `DistanceQuantizer.place_codebook`."""
        for g in range(self.num_codebooks):
            centroids, _ = fit_kmeans(vectors[:, g], self.codebook_size, generator=generator)
            self.codebook[g] = centroids
        self.average_count.fill_(1.0)
        self.average_sum.copy_(self.codebook)

    @torch.no_grad()
    def restart(self, unused: Tensor, features: Tensor, generator: torch.Generator) -> None:
        """See `Quantizer.restart`; the averages begin anew there."""
        even = self.average_count.mean(1)
        for g in range(self.num_codebooks):
            places = unused[g].nonzero().flatten()
            frames = draw_rows(features, len(places), generator).to(self.codebook.device)
            self.codebook[g, places] = self.project(frames)[:, g]
            self.average_count[g, places] = even[g]
            self.average_sum[g, places] = self.codebook[g, places] * even[g]


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum_over_ranks(tensor: Tensor) -> None:
    if _is_distributed():
        dist.all_reduce(tensor)
