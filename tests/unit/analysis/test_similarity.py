"""CKA, SVCCA, distances and dendrograms against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.similarity import (
    compute_centre_distances,
    compute_cka,
    compute_cka_matrix,
    compute_phone_centres,
    link_average,
)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def draw_rotation(size: int) -> np.ndarray:
    return np.linalg.qr(draw(size, size, seed=9))[0]


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_one_after_rotation_scale_and_shift(debiased: bool) -> None:
    vectors = draw(30, 8)
    other = 3.0 * vectors @ draw_rotation(8) + 5.0
    assert compute_cka(vectors, other, debiased=debiased) == pytest.approx(1.0)


def test_cka_of_one_dimension_is_the_squared_correlation() -> None:
    first, second = draw(50, 1), draw(50, 1, seed=1)
    second += first
    expected = np.corrcoef(first[:, 0], second[:, 0])[0, 1] ** 2
    assert compute_cka(first, second, debiased=False) == pytest.approx(expected)


def test_cka_of_orthogonal_subspaces_is_zero_and_of_a_part_is_its_share() -> None:
    """Columns without correlation and of variance 1: CKA with k of d columns is √(k / d)."""
    columns = np.linalg.qr(draw(40, 9) - draw(40, 9).mean(0))[0]
    columns -= columns.mean(0)
    columns = np.linalg.qr(columns)[0]
    assert compute_cka(columns[:, :4], columns[:, 4:], debiased=False) == pytest.approx(0, abs=1e-9)
    part = compute_cka(columns[:, :4], columns, debiased=False)
    assert part == pytest.approx(np.sqrt(4 / 9))


def test_debiased_hsic_is_that_of_the_kernel_matrices() -> None:
    """Song et al. 2012, equation 5, written out with (N, N) kernels."""
    x, y = draw(12, 5), draw(12, 7, seed=1)

    def compute(one: np.ndarray, other: np.ndarray) -> float:
        size = len(one)
        k, m = one @ one.T, other @ other.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        ones = np.ones(size)
        total = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((size - 1) * (size - 2))
        return float((total - 2 / (size - 2) * ones @ k @ m @ ones) / (size * (size - 3)))

    expected = compute(x, y) / np.sqrt(compute(x, x) * compute(y, y))
    assert compute_cka(x, y) == pytest.approx(expected)


def test_noise_in_many_dimensions_is_alike_only_with_the_bias() -> None:
    plain, debiased = [], []
    for seed in range(20):
        x, y = draw(20, 200, seed=2 * seed), draw(20, 200, seed=2 * seed + 1)
        plain.append(compute_cka(x, y, debiased=False))
        debiased.append(compute_cka(x, y))
    assert np.mean(plain) > 0.8
    assert abs(np.mean(debiased)) < 0.05
    assert np.isnan(compute_cka(np.ones((5, 2)), draw(5, 2), debiased=False))


def test_languages_are_compared_by_the_phones_they_have_in_common() -> None:
    phones = ["a", "b", "c", "d", "sil", "q", "a", "b", "c", "d", "sil"]
    languages = ["x"] * 6 + ["y"] * 5
    vectors = draw(11, 5)
    vectors[6:10] = 2 * vectors[:4] @ draw_rotation(5)
    names, common, centres = compute_phone_centres(vectors, phones, languages)
    assert names == ["x", "y"]
    assert common == ["a", "b", "c", "d"]
    assert np.array_equal(centres[0], vectors[:4])
    assert compute_cka_matrix(centres) == pytest.approx(np.ones((2, 2)))


def test_distances_of_centres_do_not_grow_with_noise() -> None:
    """Two groups of one kind, and a third that is 3 standard deviations away in one of 50
    dimensions, that is 3 / √50 of the spread.
    """
    vectors = draw(900, 50)
    vectors[600:, 0] += 3.0
    names, distances = compute_centre_distances(vectors, _thirds())
    assert names == ["a", "b", "c"]
    assert distances[0, 1] < 0.06
    assert distances[0, 2] == pytest.approx(3 / np.sqrt(50), abs=0.03)
    with pytest.raises(ValueError, match="'c' has one"):
        compute_centre_distances(draw(5, 2), ["a", "a", "b", "b", "c"])


def _thirds() -> list[str]:
    return ["a"] * 300 + ["b"] * 300 + ["c"] * 300


def test_dendrogram_puts_near_ones_side_by_side() -> None:
    found = link_average([[0, 9, 1], [9, 0, 9], [1, 9, 0]])
    assert found.merges.tolist() == [[0, 2, 1, 2], [1, 3, 9, 3]]
    assert found.order == [1, 0, 2]
    assert link_average([[0.0]]).order == [0]
    with pytest.raises(ValueError, match="symmetric"):
        link_average([[0, 1], [2, 0]])
