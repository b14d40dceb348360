"""The Gumbel product quantiser of wav2vec 2.0 (section 2, "Quantization module", and section 3.2,
"Diversity loss").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechvq.nn.kmeans import draw_rows, fit_kmeans, split_channels
from speechvq.nn.nearest import compute_entropy_perplexity
from speechvq.nn.precision import full_precision
from speechvq.nn.quantizer import Quantizer, QuantizerOutput

SMALLEST_VARIANCE = 1e-4
"""Of a codebook placed on data: clusters without any spread would give infinite logits."""


def gumbel_temperature(step: int, start: float, end: float, decay: float) -> float:
    """Temperature of the Gumbel softmax at a step: exponential decay with a floor.

    Args:
        step: Number of updates done.
        start: Temperature at step 0.
        end: Smallest temperature.
        decay: Factor of one step (wav2vec 2.0: 0.999995).

    Returns:
        max(start × decay^step, end).
    """
    return max(start * decay**step, end)


class _StraightThroughLookup(torch.autograd.Function):
    """Codebook entries of `codes`, with the gradient of one_hot(codes) + probs - sg(probs).

    The usual sum of three floats is not exactly one-hot: the same code then gives vectors that
    differ in their last bits. Here the forward value is the entry itself, and only the gradient is
    that of the sum.
    """

    @staticmethod
    def forward(ctx: Any, probs: Tensor, codebook: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(codebook, codes)
        return lookup(codebook, codes)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        codebook, codes = ctx.saved_tensors
        num_codebooks, codebook_size, dim = codebook.shape
        grad = grads[0].reshape(-1, num_codebooks, dim).transpose(0, 1)  # (G, B*M, C/G)
        grad_probs = torch.bmm(grad, codebook.transpose(1, 2)).transpose(0, 1)  # (B*M, G, V)
        index = codes.reshape(-1, num_codebooks) + codebook_size * torch.arange(
            num_codebooks, device=codes.device
        )
        grad_codebook = torch.zeros_like(codebook).view(-1, dim)
        grad_codebook.index_add_(0, index.t().reshape(-1), grad.reshape(-1, dim))
        return (
            grad_probs.reshape(*codes.shape, codebook_size),
            grad_codebook.view_as(codebook),
            None,
        )


def lookup(codebook: Tensor, codes: Tensor) -> Tensor:
    """Concatenates the entries of all codebooks.

    Args:
        codebook: (G, V, C/G).
        codes: (..., G) long.

    Returns:
        (..., C).
    """
    groups = torch.arange(codebook.size(0), device=codebook.device)
    return codebook[groups, codes].flatten(-2)  # (..., G, C/G) -> (..., C)


def compute_soft_perplexity(probs: Tensor, valid: Tensor) -> Tensor:
    """Perplexity of the mean assignment over valid frames.

    Args:
        probs: (B, M, G, V) float32, sums to 1 over V.
        valid: (B, M) bool.

    Returns:
        (G,) float32, from 1 to V (1 when there is no valid frame).
    """
    weights = valid.to(probs.dtype)
    count = weights.sum().clamp(min=1.0)
    return compute_entropy_perplexity(torch.einsum("bm,bmgv->gv", weights, probs) / count)


class GumbelQuantizer(Quantizer):
    """Chooses one of V entries in each of G codebooks by a Gumbel softmax.

    Args:
        input_dim: D, channels of the features.
        output_dim: C, channels of the vectors, a multiple of `num_codebooks`.
        num_codebooks: G.
        codebook_size: V.
    """

    def __init__(
        self, input_dim: int, output_dim: int, *, num_codebooks: int, codebook_size: int
    ) -> None:
        super().__init__()
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.output_dim = output_dim
        self.projection = nn.Linear(input_dim, num_codebooks * codebook_size)
        self.codebook = nn.Parameter(
            torch.empty(num_codebooks, codebook_size, output_dim // num_codebooks)
        )
        # fairseq's initial values: codes are spread over the codebook from the first step on.
        nn.init.normal_(self.projection.weight, std=1.0)
        nn.init.zeros_(self.projection.bias)
        nn.init.uniform_(self.codebook)

    def compute_logits(self, features: Tensor) -> Tensor:
        """Scores all entries, in fp32 also under autocast.

        Args:
            features: (B, M, D).

        Returns:
            (B, M, G, V) float32.
        """
        with full_precision(features):
            logits: Tensor = self.projection(features.to(self.projection.weight.dtype)).float()
        return logits.reshape(*features.shape[:-1], self.num_codebooks, self.codebook_size)

    def forward(self, features: Tensor, *, temperature: float, valid: Tensor) -> QuantizerOutput:
        """Quantises; with Gumbel noise in training, without in evaluation. See
        `Quantizer.forward`.
        """
        logits = self.compute_logits(features)  # (B, M, G, V)
        with full_precision(features):
            perplexity = compute_soft_perplexity(logits.softmax(-1), valid)
            noisy = logits
            if self.training:
                noisy = logits - torch.empty_like(logits).exponential_().log()
            codes = noisy.argmax(-1)  # (B, M, G)
            probs = (noisy / temperature).softmax(-1)
            vectors: Tensor = _StraightThroughLookup.apply(probs, self.codebook, codes)  # type: ignore[no-untyped-call]
            num_entries = self.num_codebooks * self.codebook_size
            diversity_loss = (num_entries - perplexity.sum()) / num_entries
        return QuantizerOutput(vectors, codes, diversity_loss, None, perplexity)

    @torch.no_grad()
    def place(self, features: Tensor, generator: torch.Generator) -> None:
        """See `Quantizer.place`. Codebook g clusters the g-th of G equal parts of the channels; the
        logits become those of a Gaussian around each centroid, so that an entry stands for a kind
        of sound from the first step on, and not for a random direction.
        """
        dim = features.size(1)
        weight = self.projection.weight.view(self.num_codebooks, self.codebook_size, dim)
        bias = self.projection.bias.view(self.num_codebooks, self.codebook_size)
        weight.zero_()
        for g, part in enumerate(split_channels(dim, self.num_codebooks)):
            centroids, variance = fit_kmeans(
                features[:, part], self.codebook_size, generator=generator
            )
            variance = variance.clamp(min=SMALLEST_VARIANCE)
            # log N(x; c, variance) = (2 x c - c c) / (2 variance) + what all entries share
            weight[g, :, part] = centroids / variance
            bias[g] = -centroids.square().sum(1) / (2 * variance)

    @torch.no_grad()
    def restart(self, unused: Tensor, features: Tensor, generator: torch.Generator) -> None:
        """See `Quantizer.restart`: an unused entry gets a frame's direction, at the length that the
        used entries' weights have, and their mean bias.
        """
        dim = features.size(1)
        weight = self.projection.weight.view(self.num_codebooks, self.codebook_size, dim)
        bias = self.projection.bias.view(self.num_codebooks, self.codebook_size)
        for g, part in enumerate(split_channels(dim, self.num_codebooks)):
            places = unused[g].nonzero().flatten()
            if len(places) in (0, self.codebook_size):
                continue
            frames = draw_rows(features, len(places), generator).to(weight.device)
            used = ~unused[g].to(weight.device)
            direction = torch.zeros_like(frames)
            direction[:, part] = frames[:, part]
            length = weight[g, used].norm(dim=1).mean()
            norm = direction.norm(dim=1, keepdim=True).clamp(min=1e-8)
            weight[g, places] = direction / norm * length
            bias[g, places] = bias[g, used].mean()

    def encode(self, features: Tensor) -> Tensor:
        """Best entries without noise. See `Quantizer.encode`."""
        return self.compute_logits(features).argmax(-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Looks codes up. See `Quantizer.decode`."""
        return lookup(self.codebook, codes)
