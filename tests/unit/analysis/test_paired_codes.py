"""Two models' codes on the same speech: what is planted is found, what is noise is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from speechvq.analysis.code_counts import count_tables
from speechvq.analysis.code_merging import create_profiles, merge_codes
from speechvq.analysis.code_table import CodeTable, open_code_table
from speechvq.analysis.paired_codes import CodeDifference, compare_codes
from speechvq.analysis.phone_counts import count_phones
from speechvq.analysis.phones import compute_phone_purity, compute_pnmi
from tests.support.paired_tables import name_phones, write_table


def compare(first: CodeTable, second: CodeTable) -> CodeDifference:
    found = compare_codes((first, second), ("group_0", "group_0"), seed=1)
    assert found is not None
    return found


def create(tmp_path: Path, name: str, *args: object, **settings: object) -> CodeTable:
    return open_code_table(write_table(tmp_path / name, *args, **settings))  # type: ignore[arg-type]


def compute_perplexity(masses: np.ndarray) -> float:
    shares = masses[masses > 0] / masses.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def test_merging_joins_what_stands_together_and_reaches_the_perplexity() -> None:
    """12 codes of 4 kinds, 3 of each kind; codes of a kind are first to be merged."""
    rng = np.random.default_rng(0)
    shares = np.repeat(rng.dirichlet(np.full(20, 0.3), size=4), 3, axis=0)
    profiles = np.sqrt(shares) + rng.normal(0, 0.01, shares.shape)
    frames = rng.integers(20, 100, 12)
    kinds = np.repeat(np.arange(4), 3)
    wanted = compute_perplexity(np.bincount(kinds, frames))
    partition = merge_codes(profiles, frames, wanted * (1 + 1e-9))[-1]
    assert partition.labels.tolist() == kinds.tolist()
    assert partition.perplexity == pytest.approx(wanted)
    assert partition.share == pytest.approx(1, abs=1e-6)
    above, below = merge_codes(profiles, frames, 6.0)
    assert above.labels.max() == below.labels.max() + 1
    assert above.share + below.share == pytest.approx(1)
    mean = above.share * above.perplexity + below.share * below.perplexity
    assert mean == pytest.approx(6.0)
    for one in (above, below):
        assert one.perplexity == pytest.approx(compute_perplexity(np.bincount(one.labels, frames)))
    (same,) = merge_codes(profiles, frames, 100.0)
    assert same.labels.tolist() == list(range(12))


def test_order_of_merging_is_wards() -> None:
    """With codes of like frequency the costs are scipy's, up to the factor of its definition."""
    from scipy.cluster import hierarchy

    points = np.random.default_rng(1).normal(size=(30, 5))
    tree = hierarchy.linkage(points, "ward")
    for size in (20, 9, 4):
        expected = hierarchy.fcluster(tree, size, "maxclust")
        wanted = compute_perplexity(np.bincount(expected))
        found = merge_codes(points, np.ones(30), wanted * (1 + 1e-9))[-1]
        pairs = {tuple(one) for one in np.stack([expected, found.labels], axis=1).tolist()}
        assert len(pairs) == size == found.labels.max() + 1


def test_profiles_are_shares_of_the_control(tmp_path: Path) -> None:
    table = create(tmp_path, "a", name_phones(0.5), seed=1, speakers=2, frames=50)
    codes = np.array([1, 3, 6])
    profiles = create_profiles(table, "group_0", codes)
    assert profiles is not None
    columns = {
        name: np.concatenate([part[name].to_numpy() for part in table.read([name])])
        for name in ("group_0", "kmeans_0")
    }
    for place, code in enumerate(codes):
        chosen = columns["kmeans_0"][columns["group_0"] == code]
        expected = np.bincount(chosen, minlength=profiles.shape[1]) / len(chosen)
        assert profiles[place] ** 2 == pytest.approx(expected)
    bare = create(tmp_path, "b", name_phones(0.5), seed=1, speakers=2, has_control=False)
    assert create_profiles(bare, "group_0", codes) is None


def test_the_same_codes_do_not_differ(tmp_path: Path) -> None:
    table = create(tmp_path, "a", name_phones(0.6), seed=1)
    found = compare(table, table)
    for measures in (found.own, found.equal):
        for one in measures.values():
            assert one.first == one.second
            assert (one.difference.low, one.difference.high) == (0, 0)
    counts = count_phones(table, ["group_0"])
    assert counts is not None
    assert found.own["pnmi"].first == pytest.approx(compute_pnmi(counts.counts))
    assert found.own["phone_purity"].first == pytest.approx(compute_phone_purity(counts.counts))
    assert (found.unit, found.num_units, found.num_utterances) == ("speaker", 10, 30)
    assert found.same_phones


def test_codes_that_are_only_split_are_no_better_at_equal_perplexity(tmp_path: Path) -> None:
    """8 codes against 192 that are the same but for a random split: PNMI says more, wrongly."""
    first = create(tmp_path, "a", name_phones(0.6), seed=1, speakers=20)
    second = create(tmp_path, "b", name_phones(0.6, 24), seed=2, speakers=20)
    found = compare(first, second)
    assert found.perplexities[1] > 10 * found.perplexities[0]
    assert found.own["pnmi"].difference.low > 0
    for one in found.equal.values():
        assert one.difference.low < 0 < one.difference.high
        assert abs(one.difference.value) < 0.03
    back = compare(second, first)
    for name, one in back.equal.items():
        assert one.difference.value == pytest.approx(-found.equal[name].difference.value)


def test_better_codes_are_better_at_equal_perplexity_too(tmp_path: Path) -> None:
    first = create(tmp_path, "a", name_phones(0.5), seed=1)
    for splits in (1, 4):
        second = create(tmp_path, f"b{splits}", name_phones(0.65, splits), seed=2)
        found = compare(first, second)
        assert all(one.difference.low > 0 for one in found.equal.values())
    again = compare(second, first)
    assert all(one.difference.high < 0 for one in again.equal.values())


def test_only_common_utterances_count_and_other_phones_are_seen(tmp_path: Path) -> None:
    first = create(tmp_path, "a", name_phones(0.5), seed=1)
    second = create(tmp_path, "b", name_phones(0.5), seed=2, speakers=8)
    found = compare(first, second)
    assert (found.num_utterances, found.num_left_out, found.num_units) == (24, 6, 8)
    assert found.same_phones
    other = create(tmp_path, "c", name_phones(0.5), seed=2, speech_seed=5)
    assert not compare(first, other).same_phones
    few = create(tmp_path, "d", name_phones(0.5), seed=2, speakers=1, utterances=1)
    alone = compare(first, few)
    assert alone.unit == "utterance"
    assert np.isnan(alone.own["pnmi"].difference.low)
    bare = create(tmp_path, "e", name_phones(0.5, 2), seed=2, has_control=False)
    found = compare(first, bare)
    assert found.equal == {}
    assert "controls=[kmeans]" in found.reason


def test_counts_need_phones(tmp_path: Path) -> None:
    table = create(tmp_path, "a", name_phones(0.5), seed=1, speakers=1, utterances=1, frames=3)
    counts = count_tables(
        table.read(["utterance", "language", "speaker", "source", "phone", "group_0"]), ["group_0"]
    )
    assert counts.counts.sum() == 3


def test_noise_is_seldom_called_a_difference(tmp_path: Path) -> None:
    """Two models of one quality, 60 times: at 95 %, 3 are expected to differ and 8 are too many
    (p = 0.01).
    """
    wrong = 0
    for number in range(60):
        settings = {"speakers": 8, "utterances": 1, "frames": 60, "speech_seed": number}
        first = create(tmp_path, f"a{number}", name_phones(0.5), seed=2 * number, **settings)
        second = create(tmp_path, f"b{number}", name_phones(0.5), seed=2 * number + 1, **settings)
        one = compare(first, second).own["pnmi"].difference
        wrong += not one.low <= 0 <= one.high
    assert wrong < 8
