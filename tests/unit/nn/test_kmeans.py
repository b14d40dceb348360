import pytest
import torch

from speechvq.nn.kmeans import fit_kmeans


def test_clusters_are_found():
    torch.manual_seed(0)
    centres = torch.tensor([[-5.0, 0.0], [5.0, 0.0], [0.0, 8.0]])
    points = (centres[:, None] + 0.1 * torch.randn(3, 200, 2)).reshape(-1, 2)
    best = min(
        fit_kmeans(points, 3, generator=torch.Generator().manual_seed(seed))[1] for seed in range(5)
    )
    assert abs(float(best) - 0.01) < 0.001


def test_variance_is_that_of_the_result():
    torch.manual_seed(0)
    points = torch.randn(500, 7)
    centroids, variance = fit_kmeans(points, 20, generator=torch.Generator().manual_seed(0))
    square = (points[:, None] - centroids).square().sum(-1).amin(1)
    assert torch.allclose(variance, square.mean() / 7, rtol=1e-4)
    assert variance < 0.8  # of 1, the variance of the points


def test_the_same_seed_gives_the_same_centroids():
    points = torch.randn(300, 4)
    first, second = (
        fit_kmeans(points, 10, generator=torch.Generator().manual_seed(3))[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_points_that_are_all_alike_stay_finite():
    centroids, variance = fit_kmeans(
        torch.ones(50, 3), 5, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(centroids, torch.ones(5, 3))
    assert variance == 0


def test_more_centroids_than_points_are_refused():
    with pytest.raises(ValueError, match="5 centroids need as many points, but got 4"):
        fit_kmeans(torch.randn(4, 2), 5, generator=torch.Generator())
