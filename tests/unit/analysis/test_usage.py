"""Code use by language, and the tree of languages."""

from __future__ import annotations

import numpy as np
import pytest

from speechvq.analysis.language_tree import (
    BRANCHES,
    compare_with_tree,
    compute_tree_distances,
    get_branch,
    get_family,
)
from speechvq.analysis.usage import measure_usage, merge_phones
from speechvq.languages import list_languages
from tests.support.code_tables import (
    assign_by_language,
    assign_nothing,
    assign_shared,
    create_counts,
)

LANGUAGES = ["hin_Deva", "kan_Knda", "mal_Mlym", "mar_Deva"]


def test_tree() -> None:
    assert get_family("mal_Mlym") == "Dravidian"
    assert get_branch("mdw_Latn") == "Narrow Bantu"
    assert get_family("hin_Latn") == "Indo-European"  # the table has Devanagari alone
    assert get_family("qqq_Latn") is None
    distances = compute_tree_distances(["hin_Deva", "mar_Deva", "eng_Latn", "tel_Telu", "qqq_Latn"])
    assert distances.tolist() == [
        [0, 1, 2, 3, 3],
        [1, 0, 2, 3, 3],
        [2, 2, 0, 3, 3],
        [3, 3, 3, 0, 3],
        [3, 3, 3, 3, 0],
    ]


def test_branches_are_of_one_family_and_of_languages_of_the_table() -> None:
    families = {language.iso: language.family for language in list_languages()}
    listed = [iso for codes in BRANCHES.values() for iso in codes.split()]
    assert sorted(listed) == sorted(set(listed))
    for branch, codes in BRANCHES.items():
        assert codes, branch
        found = {families.get(iso) for iso in codes.split()}
        assert len(found) == 1, (branch, found)
        assert not found & {None, "Creole", "Constructed", "Isolate"}, branch


def test_distances_that_follow_the_tree_are_found() -> None:
    tree = compute_tree_distances(LANGUAGES)
    found = compare_with_tree(tree / 10, LANGUAGES, np.random.default_rng(0))
    assert found.correlation == pytest.approx(1.0)
    assert found.p_value == pytest.approx(8 / 24)  # of 4! orders, 8 keep two pairs together
    assert (found.same_family, found.other_family) == pytest.approx((0.1, 0.3))
    assert found.num_pairs == 6
    same = compare_with_tree(1 - np.eye(4), LANGUAGES, np.random.default_rng(0))
    assert np.isnan(same.correlation)


def test_unrelated_distances_are_not() -> None:
    names = [*LANGUAGES, "eng_Latn", "deu_Latn", "rus_Cyrl", "tam_Taml"]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(40):
        matrix = rng.random((8, 8))
        values.append(compare_with_tree(matrix + matrix.T, names, rng, 100).p_value)
    assert np.mean(values) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(values) < 0.05) < 0.2


def test_same_use_is_no_distance_whatever_the_sizes() -> None:
    languages = {"hin_Deva": {"x": 5}, "kan_Knda": {"x": 20}, "mal_Mlym": {"x": 8}}
    counts = create_counts(np.random.default_rng(0), languages, assign_shared(), num_phones=4)
    found = measure_usage(counts, np.random.default_rng(1), num_permutations=30)
    assert found.languages == sorted(languages)
    assert found.num_frames == 5 * 2 * 4 * 12
    assert found.num_used == found.num_shared == 16
    assert np.nanmean(found.entropy) > 0.95 * np.log2(3)
    assert found.entropy_p_value > 0.05
    assert np.abs(found.distances).max() < 0.05


def test_codes_of_one_language_are_not_shared() -> None:
    """Two languages of each family use the same codes, and the families different ones."""
    family = {"hin_Deva": "a", "mar_Deva": "a", "kan_Knda": "b", "mal_Mlym": "b"}
    assign = assign_by_language(["a", "b"])
    counts = create_counts(
        np.random.default_rng(0),
        {language: {"x": 6} for language in LANGUAGES},
        lambda language, source, phone: assign(family[language], source, phone),
        num_phones=4,
    )
    found = measure_usage(counts, np.random.default_rng(1), num_permutations=30)
    assert found.mean_entropy == pytest.approx(1.0, abs=0.05)
    assert found.mean_entropy_null > 1.6
    assert found.entropy_p_value == pytest.approx(1 / 31)
    assert found.distances[0, 1] == pytest.approx(1.0, abs=0.1)
    assert found.distances[0, 3] == pytest.approx(0.0, abs=0.05)
    assert sorted(map(sorted, (found.dendrogram.order[:2], found.dendrogram.order[2:]))) == [
        [0, 3],
        [1, 2],
    ]
    assert found.tree.correlation > 0.9
    with pytest.raises(ValueError, match="one only"):
        measure_usage(counts.select(counts.languages == "hin_Deva"), np.random.default_rng(0))


def test_phones_are_forgotten() -> None:
    counts = create_counts(np.random.default_rng(0), {"hin_Deva": {"x": 2}}, assign_nothing())
    merged = merge_phones(counts)
    assert np.array_equal(merged.sum_codes(), counts.sum_codes())
    assert len(merged.counts) == len(np.unique(merged.cells, axis=0)) < len(counts.counts)


def test_a_language_of_one_utterance_has_no_halves() -> None:
    counts = create_counts(
        np.random.default_rng(0), {one: {"x": 5} for one in LANGUAGES[:3]}, assign_shared()
    )
    single = counts.utterances[counts.languages == LANGUAGES[1]][0]
    counts = counts.select((counts.languages != LANGUAGES[1]) | (counts.utterances == single))
    found = measure_usage(counts, np.random.default_rng(1), num_permutations=5)
    assert found.languages == LANGUAGES[:3]
    assert found.compared == [LANGUAGES[0], LANGUAGES[2]]
    assert found.distances.shape == (2, 2)
    assert np.isfinite(found.distances).all()
    assert sorted(found.dendrogram.order) == [0, 1]
    pair = counts.select(np.isin(counts.languages, LANGUAGES[:2]))
    assert measure_usage(pair, np.random.default_rng(1)).compared == LANGUAGES[:1]
