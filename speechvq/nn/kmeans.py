"""k-means and principal axes: where codebooks start when they start where the data are."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

NUM_ITERATIONS = 15


def split_channels(num_channels: int, num_codebooks: int) -> list[slice]:
    """Divides channels into equal parts, one for each codebook."""
    bounds = [num_channels * g // num_codebooks for g in range(num_codebooks + 1)]
    return [slice(first, end) for first, end in itertools.pairwise(bounds)]


@torch.no_grad()
def fit_principal_axes(points: Tensor, num_axes: int) -> tuple[Tensor, Tensor]:
    """Directions of the largest variance.

    Args:
        points: (N, D) float32.
        num_axes: How many are wanted.

    Returns:
        Orthonormal axes (min(`num_axes`, D), D), the largest variance first, and the mean (D,).
    """
    mean = points.mean(0)
    centred = (points - mean).double()
    covariance = centred.t() @ centred / max(1, len(points))
    _, vectors = torch.linalg.eigh(covariance)  # smallest first, in columns
    axes = vectors.flip(1).t()[:num_axes]
    # An axis is known up to its sign: the largest part is made positive, on every machine.
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return (axes * largest.sign()).to(points.dtype), mean


def draw_rows(points: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    """A copy of random rows (`num_rows`, D) of (N, D), none twice while there are enough."""
    order = torch.randperm(
        len(points), generator=generator, dtype=torch.long, device=generator.device
    )
    order = order.repeat(-(-num_rows // max(1, len(points))))
    return points[order[:num_rows].to(points.device)].clone()


@torch.no_grad()
def fit_kmeans(
    points: Tensor,
    num_centroids: int,
    *,
    generator: torch.Generator,
    num_iterations: int = NUM_ITERATIONS,
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from random points; a centroid that loses all of its points stays.

    Args:
        points: (N, D) float32, N at least `num_centroids`.
        num_centroids: K.
        generator: Chooses the first centroids.
        num_iterations: Rounds of assigning and averaging.

    Returns:
        Centroids (K, D), and the mean square distance per channel of a point to its centroid, ().

    Raises:
        ValueError: There are fewer points than centroids.
    """
    if len(points) < num_centroids:
        raise ValueError(f"{num_centroids} centroids need as many points, but got {len(points)}.")
    centroids = draw_rows(points, num_centroids, generator)
    for _ in range(num_iterations):
        nearest = torch.cdist(points, centroids).argmin(1)  # (N,)
        count = torch.bincount(nearest, minlength=num_centroids)[:, None]
        total = torch.zeros_like(centroids).index_add_(0, nearest, points)
        centroids = torch.where(count > 0, total / count.clamp(min=1), centroids)
    distance = torch.cdist(points, centroids).amin(1)  # (N,)
    return centroids, distance.square().mean() / points.size(1)
