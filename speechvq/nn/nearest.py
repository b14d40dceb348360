"""Nearest codebook entries, and soft assignments to them, without a table of all frames by all
entries where the codebook is large.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_ELEMENTS = 1 << 23
"""Distances that are held at a time: 32 MiB of fp32."""

SOFTNESS = 0.5
"""Scale of the soft assignment, as a share of the mean gap between a point's two nearest entries:
three entries or so share a point, and the mean assignment is about as even as the hard choice."""


@torch.no_grad()
def find_nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Entries at the smallest Euclidean distance; the lowest index where several are as near.

    Args:
        points: (N, d) float32.
        codebook: (V, d) float32.

    Returns:
        (N,) long.
    """
    half_square = codebook.square().sum(-1) / 2  # (V,)
    size = max(1, MAX_ELEMENTS // len(codebook))
    parts = [
        # |p - c|² = |p|² + 2 (|c|² / 2 - p c): what is left does not change the order.
        torch.addmm(half_square, part, codebook.t(), alpha=-1.0).argmin(1)
        for part in points.split(size)
    ]
    return torch.cat(parts) if parts else points.new_zeros(0, dtype=torch.long)


def soft_assign(points: Tensor, codebook: Tensor) -> Tensor:
    """Share of each entry when points choose entries by a softmax over square distances.

    The softmax's scale is `SOFTNESS` × the mean gap between the square distances of a point to its
    nearest and its second entry, held constant for the gradient: it follows the codebook's scale
    and its number of channels, where a share of the mean distance does not. Where there are more
    frames than fit (`MAX_ELEMENTS`), evenly spaced ones stand for all.

    Args:
        points: (N, d) float32.
        codebook: (V, d) float32.

    Returns:
        (V,) float32, sums to 1; uniform where there is no point.
    """
    size = len(codebook)
    if len(points) == 0:
        return codebook.sum(-1) * 0.0 + 1.0 / size
    step = -(-len(points) * size // MAX_ELEMENTS)
    if step > 1:
        points = points[::step]
    square = (
        points.square().sum(-1, keepdim=True)
        - 2 * points @ codebook.t()
        + codebook.square().sum(-1)
    )  # (N, V)
    nearest = square.detach().topk(2, dim=1, largest=False).values  # (N, 2)
    scale = (SOFTNESS * (nearest[:, 1] - nearest[:, 0]).mean()).clamp(min=1e-8)
    return (-square / scale).softmax(-1).mean(0)


def compute_entropy_perplexity(share: Tensor) -> Tensor:
    """exp(H) of distributions, with a finite gradient at 0.

    Args:
        share: (..., V) float32, sums to 1.

    Returns:
        (...) float32, from 1 to V.
    """
    # xlogy gives 0 at 0, where p × log p gives NaN; the floor keeps its gradient finite there.
    return (-torch.xlogy(share, share.clamp(min=1e-20)).sum(-1)).exp()
