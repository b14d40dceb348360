"""Counting codes, and the likeness of languages."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.demo.codes import (
    CodeCounts,
    count_halves,
    read_code_counts,
    write_code_counts,
)


def test_halves_are_every_other_utterance():
    utterances = [np.array([[0, 1], [0, 2]]), np.array([[3, 3]]), np.array([[0, 1]])]
    counts = count_halves(utterances, num_codebooks=2, codebook_size=4)
    assert counts.tolist() == [
        [[3, 0, 0, 0], [0, 2, 1, 0]],
        [[0, 0, 0, 1], [0, 0, 0, 1]],
    ]


def test_similarity_of_languages_without_a_common_code_is_zero():
    counts = np.zeros((2, 2, 1, 4), dtype=np.int64)
    counts[0, :, 0, 0] = 5
    counts[1, :, 0, 3] = 7
    similarity = CodeCounts(languages=["a", "b"], counts=counts).compute_similarity()
    np.testing.assert_allclose(similarity, np.eye(2), atol=1e-12)


def test_diagonal_compares_different_halves():
    counts = np.zeros((1, 2, 1, 2), dtype=np.int64)
    counts[0, 0, 0, 0] = counts[0, 1, 0, 1] = 9
    similarity = CodeCounts(languages=["a"], counts=counts).compute_similarity()
    assert similarity == pytest.approx(0)


def test_similarity_is_symmetric_and_a_mean_over_codebooks():
    rng = np.random.default_rng(2)
    counts = CodeCounts(languages=list("abc"), counts=rng.integers(0, 50, (3, 2, 2, 8)))
    similarity = counts.compute_similarity()
    np.testing.assert_allclose(similarity, similarity.T)
    single = [
        CodeCounts(languages=list("abc"), counts=counts.counts[:, :, [g]]).compute_similarity()
        for g in range(2)
    ]
    np.testing.assert_allclose(similarity, np.mean(single, axis=0))


def test_usage_sums_to_one_even_where_nothing_was_counted():
    counts = np.zeros((2, 2, 1, 3), dtype=np.int64)
    counts[0] = [[[1, 2, 3]], [[1, 0, 3]]]
    usage = CodeCounts(languages=["a", "b"], counts=counts).compute_usage()
    np.testing.assert_allclose(usage[0], [[0.2, 0.2, 0.6]])
    assert usage[1].sum() == 0


def test_counts_survive_the_file(tmp_path):
    counts = CodeCounts(languages=["hin_Deva"], counts=np.arange(12).reshape(1, 2, 2, 3))
    write_code_counts(tmp_path / "codes.json", counts)
    back = read_code_counts(tmp_path / "codes.json")
    assert back.languages == ["hin_Deva"]
    np.testing.assert_array_equal(back.counts, counts.counts)
