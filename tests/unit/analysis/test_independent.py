"""The numbers of an analysis against scikit-learn, scipy and textbook formulas."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial import distance
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    completeness_score,
    homogeneity_score,
    mutual_info_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from speechvq.analysis.code_phones import compare_distances, compute_perplexity, draw_chance_table
from speechvq.analysis.divergence import compute_divergence, compute_entropy
from speechvq.analysis.intervals import compute_interval
from speechvq.analysis.language_tree import compare_with_tree, compute_tree_distances
from speechvq.analysis.phones import (
    compute_cluster_purity,
    compute_phone_purity,
    compute_pnmi,
    count_pairs,
)
from speechvq.analysis.probes import fit_logistic, reduce_dimensions
from speechvq.analysis.similarity import compute_cka, link_average

SHAPES = [(2, 2, 40), (9, 30, 3000), (40, 320, 500), (5, 1, 60)]
"""Phones, codes, frames: also more codes than frames could fill, and a single code."""


def draw_frames(num_phones: int, num_codes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Phones of very unlike frequency, and codes that half of the time depend on them."""
    rng = np.random.default_rng(num_phones + num_codes)
    phones = rng.choice(num_phones, size=size, p=rng.dirichlet(np.full(num_phones, 0.7)))
    codes = np.where(rng.random(size) < 0.5, phones * 7, rng.integers(0, 10**6, size)) % num_codes
    return phones, codes


@pytest.mark.parametrize("shape", SHAPES)
def test_pnmi_and_purities_are_scikit_learns(shape: tuple[int, int, int]) -> None:
    phones, codes = draw_frames(*shape)
    counts = count_pairs(phones, codes)
    table = contingency_matrix(phones, codes)
    assert np.array_equal(counts, table)
    information, entropy = mutual_info_score(phones, codes), mutual_info_score(phones, phones)
    pnmi = compute_pnmi(counts)
    assert pnmi == pytest.approx(information / entropy, abs=1e-12)
    assert pnmi == pytest.approx(homogeneity_score(phones, codes), abs=1e-12)
    assert compute_phone_purity(counts) == pytest.approx(table.max(axis=0).sum() / table.sum())
    assert compute_cluster_purity(counts) == pytest.approx(table.max(axis=1).sum() / table.sum())
    assert compute_perplexity(counts.sum(0)) == pytest.approx(np.exp(stats.entropy(counts.sum(0))))


def test_pnmi_normalises_by_the_phones_alone() -> None:
    """The symmetric variants are other numbers, in the relation that their definitions give."""
    phones, codes = draw_frames(9, 30, 3000)
    pnmi = compute_pnmi(count_pairs(phones, codes))
    completeness = completeness_score(phones, codes)  # I / H(code)
    assert compute_pnmi(count_pairs(codes, phones)) == pytest.approx(completeness)
    symmetric = normalized_mutual_info_score(phones, codes, average_method="geometric")
    assert symmetric == pytest.approx(np.sqrt(pnmi * completeness))
    assert abs(pnmi - symmetric) > 0.01


def test_pairs_of_codes_are_counted_as_one_code() -> None:
    phones, first = draw_frames(9, 12, 2000)
    second = np.random.default_rng(1).integers(0, 5, 2000)
    found = compute_pnmi(count_pairs(phones, np.stack([first, second], axis=1)))
    assert found == pytest.approx(homogeneity_score(phones, first * 5 + second))


@pytest.mark.parametrize("shape", [(9, 30, 600), (40, 80, 500)])
def test_chance_is_the_expected_information(shape: tuple[int, int, int]) -> None:
    """scikit-learn has the expectation in closed form (Vinh et al. 2010)."""
    phones, codes = draw_frames(*shape)
    table = contingency_matrix(phones, codes).astype(np.int64)
    rng = np.random.default_rng(0)
    drawn = [compute_pnmi(draw_chance_table(table, rng)) for _ in range(200)]
    exact = expected_mutual_information(table, int(table.sum()))
    exact /= mutual_info_score(phones, phones)
    assert np.mean(drawn) == pytest.approx(exact, abs=4 * stats.sem(drawn))
    assert exact > 0.02


def test_divergence_and_entropy_are_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (20, 12)), rng.integers(0, 9, (20, 12))
    expected = distance.jensenshannon(first, second, base=2, axis=1) ** 2
    assert compute_divergence(first, second) == pytest.approx(expected, abs=1e-12)
    assert compute_entropy(first) == pytest.approx(stats.entropy(first, base=2, axis=1), abs=1e-12)
    assert compute_divergence([3, 0, 1], [0, 2, 0]) == pytest.approx(1.0)


def test_cka_is_that_of_centred_gram_matrices() -> None:
    """Kornblith et al. 2019, equations 2 and 3, with kernels (N, N) and the centring matrix."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(25, 6)) + 3, rng.normal(size=(25, 40))
    y[:, :6] += x
    centring = np.eye(25) - 1 / 25

    def compute_hsic(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.trace(one @ one.T @ centring @ other @ other.T @ centring)) / 24**2

    expected = compute_hsic(x, y) / np.sqrt(compute_hsic(x, x) * compute_hsic(y, y))
    assert compute_cka(x, y, debiased=False) == pytest.approx(expected)
    assert 0.1 < expected < 0.9


def test_cka_of_a_linear_map_follows_from_the_covariance() -> None:
    """For y = x A and rows with covariance C: |C A|² / (|C| |AᵀCA|), Frobenius; the debiased one
    comes to the same for many rows.
    """
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(4000, 3))
    rows -= rows.mean(0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(rows.T @ rows / 4000)).T  # exactly white
    spread, mapping = np.diag([3.0, 1.0, 0.5]), np.array([[0.1, 2, 0], [1, 0, 0], [0, 0, 4.0]])
    x = rows @ spread
    covariance = spread @ spread
    expected = np.linalg.norm(covariance @ mapping) ** 2 / (
        np.linalg.norm(covariance) * np.linalg.norm(mapping.T @ covariance @ mapping)
    )
    assert compute_cka(x, x @ mapping, debiased=False) == pytest.approx(expected)
    assert compute_cka(x, x @ mapping) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("l2", [1e-2, 1.0])
def test_probe_is_scikit_learns_logistic_regression(num_classes: int, l2: float) -> None:
    """One objective: the mean loss over rows whose classes weigh alike + l2 / 2 · Σ weights².

    scikit-learn has C = 1 / l2; for two classes one vector, the difference of ours, whose square is
    twice the sum of theirs.
    """
    rng = np.random.default_rng(num_classes)
    targets = np.minimum(rng.geometric(0.4, size=300), num_classes) - 1  # classes of unlike size
    features = rng.normal(size=(300, 5)) + 0.6 * rng.normal(size=(num_classes, 5))[targets]
    weight, bias = fit_logistic(features, targets, num_classes, l2)
    sizes = np.bincount(targets)
    strength = (2 if num_classes == 2 else 1) / l2
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
    theirs.fit(features, targets, sample_weight=1 / (num_classes * sizes[targets]))
    if num_classes == 2:
        assert weight[:, 1] - weight[:, 0] == pytest.approx(theirs.coef_[0], abs=1e-4)
        assert bias[1] - bias[0] == pytest.approx(theirs.intercept_[0], abs=1e-4)
    else:
        assert weight == pytest.approx(theirs.coef_.T, abs=1e-4)
        expected = theirs.intercept_ - theirs.intercept_.mean()
        assert bias - bias.mean() == pytest.approx(expected, abs=1e-4)
    logits = features @ weight + bias
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert probs == pytest.approx(theirs.predict_proba(features), abs=1e-4)
    assert (logits.argmax(1) == theirs.predict(features)).all()


def test_components_are_scikit_learns() -> None:
    features = np.random.default_rng(5).normal(size=(60, 8)) * np.arange(1, 9)
    ours = reduce_dimensions(features, 3)
    theirs = PCA(3).fit_transform(features)
    assert np.abs(ours) == pytest.approx(np.abs(theirs))


@pytest.mark.parametrize("size", [2, 3, 12, 40])
def test_linkage_is_scipys(size: int) -> None:
    points = np.random.default_rng(size).normal(size=(size, 3))
    condensed = distance.pdist(points)
    found = link_average(distance.squareform(condensed))
    expected = hierarchy.linkage(condensed, "average")
    assert found.merges == pytest.approx(expected)
    heights = hierarchy.cophenet(expected)
    assert hierarchy.cophenet(found.merges) == pytest.approx(heights)
    assert sorted(found.order) == list(range(size))


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.integers(0, 3, size=(30, 4)).astype(float)  # many ties
    sounds = rng.integers(0, 3, size=(30, 2)).astype(float)
    ours = compare_distances("c", "x", vectors, sounds, seed=1, num_permutations=9)
    theirs = stats.spearmanr(distance.pdist(vectors), distance.pdist(sounds)).statistic
    assert ours is not None
    assert ours.rho == pytest.approx(theirs, abs=1e-6)


def test_mantels_test_is_exact_up_to_its_draws() -> None:
    """Of all orders of 6 codes; 999 draws hit that share within 4 standard errors."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(6, 3))
    sounds = vectors[:, :2] + 0.8 * rng.normal(size=(6, 2))
    ours = compare_distances("c", "x", vectors, sounds, seed=1)
    first, second = distance.pdist(vectors), distance.squareform(distance.pdist(sounds))
    pairs = np.triu_indices(6, 1)
    null = np.array(
        [
            stats.spearmanr(first, second[np.ix_(order, order)][pairs]).statistic
            for order in permutations(range(6))
        ]
    )
    exact = np.mean(null >= null[0] - 1e-12)  # the first is the order as it is
    assert ours is not None
    assert 0.01 < exact < 0.5
    assert ours.rho == pytest.approx(null[0])
    assert ours.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 999))
    assert ours.null_high == pytest.approx(np.quantile(null, 0.975), abs=0.05)


def test_correlation_with_the_tree_is_scipys() -> None:
    languages = ["hin_Deva", "kan_Knda", "mal_Mlym", "mar_Deva", "eng_Latn"]
    rng = np.random.default_rng(8)
    matrix = distance.squareform(distance.pdist(rng.normal(size=(5, 2))))
    tree = compute_tree_distances(languages)
    pairs = np.triu_indices(5, 1)
    null = [
        stats.pearsonr(matrix[pairs], tree[np.ix_(order, order)][pairs]).statistic
        for order in permutations(range(5))
    ]
    found = compare_with_tree(matrix, languages, np.random.default_rng(0))
    assert found.correlation == pytest.approx(null[0])
    assert found.p_value == pytest.approx(np.mean(np.array(null) >= null[0] - 1e-9))


@pytest.mark.parametrize("num_units", [5, 12, 100])
def test_intervals_are_students_for_few_units(num_units: int) -> None:
    """A bootstrap of K units that is normal becomes the interval of Student's t with K − 1."""
    quantiles = np.linspace(0.0005, 0.9995, 1000)
    samples = stats.norm.ppf(quantiles)
    found = compute_interval(3.0, samples, num_units, 0.95)
    factor = np.sqrt(num_units / (num_units - 1))
    expected = factor * stats.t.ppf(0.975, num_units - 1)
    assert found.high - 3.0 == pytest.approx(expected, rel=0.01)
    assert 3.0 - found.low == pytest.approx(expected, rel=0.01)
