"""Planted codes are found with the precision and recall that they were planted with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from speechvq.analysis.concept_files import ConceptKind, ConceptRow
from speechvq.analysis.concept_null import FramePermuter, adjust_p_values, permute_units
from speechvq.analysis.concept_scores import LEFT_OUT, CodePairs, NeuronTable, count_concepts
from speechvq.analysis.concept_search import (
    FrameLabels,
    SearchRules,
    compute_worth,
    search_frames,
)
from speechvq.analysis.concept_summary import describe_codebook, finish_rows, summarize_kind
from speechvq.analysis.concept_unions import CodeIndex, grow_union, measure_union
from speechvq.nn.places import Place, Site

PLACE = Place(0, Site.heads)
NUM_CODES = 20
LENGTHS = np.full(20, 30)
NAMES = ("a", "i", "s")


def draw_labels(seed: int) -> np.ndarray:
    """(600,) phones that last for 3 to 6 frames."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 3, 300), rng.integers(3, 7, 300))
    return labels[: LENGTHS.sum()]


def search(codes, labels, *, num_permutations=19, neurons=None, names=NAMES, min_recall=0.1):
    found = search_frames(
        codes,
        [FrameLabels(kind=ConceptKind.phone, names=names, dev=labels[0], test=labels[1])],
        place=PLACE,
        head=0,
        num_codes=NUM_CODES,
        rules=SearchRules(min_recall=min_recall, min_support=10, num_permutations=num_permutations),
        permuters=tuple(
            FramePermuter(LENGTHS, ["hin_Deva"] * len(LENGTHS), seed) for seed in (1, 2)
        ),
        neurons=lambda kind: neurons,
    )
    return found.rows, found


def plant(labels: np.ndarray, seed: int, *, hits: int, false: int, code: int = 7) -> np.ndarray:
    """(N, 2) codes: noise from 8 up, and one that has `hits` frames of "a" and `false` others."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(8, NUM_CODES, (len(labels), 2))
    own, other = np.flatnonzero(labels == 0), np.flatnonzero(labels != 0)
    codes[np.concatenate([rng.permutation(own)[:hits], rng.permutation(other)[:false]]), 0] = code
    return codes


def test_a_planted_code_has_the_planted_scores() -> None:
    labels = [draw_labels(1), draw_labels(2)]
    codes = plant(labels[0], 1, hits=90, false=10), plant(labels[1], 2, hits=80, false=20)
    rows, _ = search(codes, labels)
    row = rows[0]
    assert (row.concept, row.code) == ("a", 7)
    assert row.dev_precision == 0.9
    assert row.precision == 0.8
    support = int((labels[1] == 0).sum())
    assert row.support == support
    assert row.recall == pytest.approx(80 / support)
    assert row.lift == pytest.approx(0.8 / (support / 600))
    assert row.p == 1 / 20
    assert row.permuted_precision == pytest.approx(support / 600, abs=0.06)
    assert not row.is_rare


def test_frames_of_which_nothing_is_known_count_nowhere() -> None:
    labels = [draw_labels(1), draw_labels(2)]
    codes = plant(labels[0], 1, hits=90, false=10), plant(labels[1], 2, hits=80, false=20)
    fired = np.flatnonzero((codes[1] == 7).any(1) & (labels[1] != 0))
    unknown = labels[1].copy()
    unknown[fired] = LEFT_OUT
    rows, _ = search(codes, [labels[0], unknown])
    assert rows[0].precision == 1.0
    assert rows[0].union_precision >= 80 / 580
    unknown[fired] = -1  # known to be none of the labels
    assert search(codes, [labels[0], unknown])[0][0].precision == 0.8
    counts = CodePairs(torch.from_numpy(codes[1]), NUM_CODES).count(torch.from_numpy(unknown), 3)
    assert counts.num_frames == 600
    assert count_concepts(
        torch.from_numpy(codes[1]), torch.full((600,), LEFT_OUT), num_codes=20, num_labels=3
    ).codes.sum() == 0  # fmt: skip


def test_two_planted_codes_are_united() -> None:
    labels = [draw_labels(3), draw_labels(4)]
    codes = []
    for seed, own in enumerate(labels):
        rng = np.random.default_rng(seed)
        one = rng.integers(8, NUM_CODES, (len(own), 2))
        frames = rng.permutation(np.flatnonzero(own == 0))
        one[frames[: len(frames) // 2], 0] = 3
        one[frames[len(frames) // 2 :], 0] = 5
        codes.append(one)
    rows, _ = search(codes, labels, num_permutations=0)
    assert set(rows[0].codes) == {3, 5}
    assert rows[0].union_precision == rows[0].union_recall == 1.0
    assert rows[0].recall == pytest.approx(0.5, abs=0.01)
    assert rows[0].p is None
    assert rows[0].permuted_precision is None


def test_unions_rise_in_f1_as_exhaustive_counting_has_it() -> None:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 6, (200, 3))
    is_concept = (codes == 1).any(1) ^ (rng.random(200) < 0.1)
    is_known = rng.random(200) < 0.8
    pairs = CodePairs(torch.from_numpy(codes), 6)
    has = np.stack([(codes == one).any(1) for one in range(6)], 1)
    known, own = has[is_known], is_concept[is_known]
    index = CodeIndex(pairs.frames, pairs.codes, 200, 6)
    union = grow_union(
        index,
        is_concept & is_known,
        is_known,
        first=4,
        hits=known[own].sum(0),
        fired=known.sum(0),
    )

    def f1(chosen: list[int]) -> float:
        fires = known[:, chosen].any(1)
        return 2 * (fires & own).sum() / (fires.sum() + own.sum())

    expected, score = [4], f1([4])
    while True:
        best = max((f1([*expected, one]), -one) for one in range(6))
        if best[0] <= score:
            break
        expected, score = [*expected, -best[1]], best[0]
    assert union == expected
    assert len(union) > 1
    precision, recall = measure_union(codes[is_known], union, own, 6)
    assert 2 * precision * recall / (precision + recall) == pytest.approx(score)


def test_codes_that_know_nothing_have_the_prior_and_any_p() -> None:
    precisions, p_values = [], []
    for seed in range(30):
        labels = [draw_labels(100 + 2 * seed), draw_labels(101 + 2 * seed)]
        rng = np.random.default_rng(seed)
        codes = [rng.integers(0, NUM_CODES, (600, 2)) for _ in range(2)]
        rows, _ = search(codes, labels)
        precisions += [row.precision * 600 / row.support for row in rows]
        p_values += [row.p for row in rows]
    assert np.mean(precisions) == pytest.approx(1.0, abs=0.05)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(p_values) <= 0.1) < 0.2
    assert np.mean(np.array(p_values) > 0.9) < 0.2


def test_places_of_permuted_labels_are_chosen_as_those_of_the_true_ones() -> None:
    labels = [draw_labels(1), draw_labels(2)]
    codes = plant(labels[0], 1, hits=90, false=10), plant(labels[1], 2, hits=80, false=20)
    for min_recall, is_enough in ((0.0, True), (1.0, False)):
        _, found = search(codes, labels, min_recall=min_recall)
        assert ((found.null[ConceptKind.phone][0] >= 1) == is_enough).all()
    assert compute_worth([0.3, 0.9], [0.2, 0.05], 0.1).tolist() == [1.3, 0.05]


def test_rare_codes_are_not_called_pure() -> None:
    phones = np.array([0] * 10 + [1] * 10 + [2])
    codes = np.array([[0]] * 10 + [[1]] * 10 + [[2]])
    counts = count_concepts(
        torch.from_numpy(codes), torch.from_numpy(phones), num_codes=4, num_labels=3
    )
    facts = describe_codebook(
        PLACE, 0, (codes, codes), 4, phones, (counts, counts), np.zeros(21, dtype=np.int64),
        min_support=5, seed=1,
    )  # fmt: skip
    assert (facts.num_frequent, facts.pure, facts.num_dead) == (2, 1.0, 1)


def test_what_looked_good_on_dev_alone_is_not_reported() -> None:
    labels = [draw_labels(1), draw_labels(2)]
    codes = plant(labels[0], 1, hits=100, false=0), plant(labels[1], 2, hits=0, false=0)
    on_test = np.random.default_rng(3).permutation(600)[:100]
    codes[1][on_test, 0] = 7
    rows, _ = search(codes, labels, num_permutations=0)
    assert rows[0].code == 7
    assert rows[0].dev_precision == 1.0
    assert rows[0].precision == pytest.approx((labels[1][on_test] == 0).mean())
    assert rows[0].precision < 0.5


def test_neurons_are_compared_at_the_recall_of_the_code() -> None:
    labels = [draw_labels(1), draw_labels(2)]
    codes = plant(labels[0], 1, hits=90, false=10), plant(labels[1], 2, hits=80, false=20)
    rng = np.random.default_rng(7)
    tables = []
    for own in labels:
        activations = rng.normal(size=(600, 4)).astype(np.float32)
        activations[own == 0, 2] -= 20.0
        tables.append(NeuronTable(torch.from_numpy(activations), torch.from_numpy(own), 3))
    rows, _ = search(codes, labels, num_permutations=0, neurons=tuple(tables))
    assert rows[0].neuron_precision == 1.0
    assert rows[0].precision == 0.8
    assert all(row.neuron_precision is not None for row in rows)


def test_permuted_labels_keep_their_order_and_their_language() -> None:
    lengths = np.array([5, 3, 4, 6])
    languages = ["hin_Deva", "mdw_Latn", "hin_Deva", "mdw_Latn"]
    permuter = FramePermuter(lengths, languages, 3)
    owners = np.repeat(np.arange(4), lengths)
    seen = set()
    for number in range(20):
        order = permuter.draw(number)
        assert sorted(order.tolist()) == list(range(18))
        assert np.array_equal(permuter.draw(number), order)
        for group in ({0, 2}, {1, 3}):
            frames = np.isin(owners, list(group))
            assert set(owners[order[frames]]) == group
            own = order[frames]
            # Where neighbours are no neighbours any more: seams of two utterances, in a circle.
            assert (np.diff(np.append(own, own[0])) != 1).sum() <= 2
        seen.add(tuple(order.tolist()))
    assert len(seen) > 15


def test_units_swap_their_labels() -> None:
    labels = np.array([0, 0, 1, 1, 1, -1])
    units = np.array([0, 0, 1, 1, 2, 3])
    seen = set()
    for seed in range(30):
        found = permute_units(labels, units, np.random.default_rng(seed))
        assert found[5] == -1
        assert found[0] == found[1]
        assert found[2] == found[3]
        assert sorted((found[0], found[2], found[4])) == [0, 1, 1]
        seen.add(tuple(found.tolist()))
    assert len(seen) == 3


def test_p_values_are_adjusted_as_in_the_paper_of_1995() -> None:
    values = np.array([0.04, 0.01, 0.03, 0.5])
    assert adjust_p_values(values) == pytest.approx([0.16 / 3, 0.04, 0.16 / 3, 0.5])


def create_row(concept: str, head: int, **fields) -> ConceptRow:
    values = {
        "kind": ConceptKind.phone,
        "layer": 0,
        "site": Site.heads,
        "code": 0,
        "codes": (0,),
        "precision": 0.5,
        "recall": 0.5,
        "support": 50,
        "lift": 2.0,
        "union_precision": 0.5,
        "union_recall": 0.5,
    }
    return ConceptRow(concept=concept, head=head, **values | fields)


def test_the_best_place_is_that_of_dev() -> None:
    rows = [
        create_row("a", 0, precision=0.9, p=0.01),
        create_row("i", 0, precision=0.2, p=0.5),
        create_row("a", 1, precision=0.6, p=0.02),
        create_row("i", 1, precision=0.8, p=0.04, is_rare=True),
        create_row("sil", 1, precision=1.0, p=0.01),
    ]
    found = finish_rows(rows, [1.3, 1.4, 1.7, 1.2, 2.0])
    assert [row.is_best_place for row in found] == [False, True, True, False, True]
    assert found[0].p_adjusted == pytest.approx(0.025)
    assert finish_rows([create_row("a", 0)], [1.0])[0].p_adjusted is None
    nulls = [np.zeros((2, 9, 2)), np.ones((2, 9, 2))]
    nulls[1][1] = 0.4  # the second place is best on dev, always
    summary = summarize_kind(ConceptKind.phone, found, nulls, {"a": 0.25, "i": 0.75})
    assert summary["measured"] == 2  # silence is none of the phones
    assert summary["median_precision"] == pytest.approx(0.4)
    assert summary["median_any_neuron_precision"] == 0.5
    assert summary["median_permuted_precision"] == pytest.approx(0.4)
    assert summary["share_precise"] == 0.5
    assert summary["p"] == 1.0
