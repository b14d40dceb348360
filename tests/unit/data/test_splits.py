"""Splits that we make are disjoint by recording and speaker; splits that came with the data
stay."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.data.manifest import ManifestRow
from speechvq.data.splits import assign_splits, find_speaker_overlaps
from speechvq.data.work import divide_rows, estimate_seconds


def _row(
    number: int,
    speaker: str | None = None,
    recording: str | None = None,
    split: str | None = None,
    language: str = "hin_Deva",
) -> ManifestRow:
    return ManifestRow(
        root="/in",
        path=f"{number}.wav",
        source="s",
        language=language,
        split=split,
        speaker=speaker,
        recording=recording or f"{number}.wav",
        transcript=None,
        licence=None,
        seconds=10.0,
        num_bytes=1,
    )


_rows = st.lists(
    st.builds(
        _row,
        st.just(0),
        st.none() | st.sampled_from("abcdefghij"),
        st.none() | st.sampled_from("PQRSTUVW"),
        st.sampled_from([None, None, None, "train", "test"]),
        st.sampled_from(["hin_Deva", "tam_Taml"]),
    ),
    max_size=60,
).map(
    lambda rows: [
        replace(
            row,
            path=f"{i}.wav",
            recording=row.recording if row.recording != "0.wav" else f"{i}.wav",
        )
        for i, row in enumerate(rows)
    ]
)


@settings(max_examples=200, deadline=None)
@given(_rows, st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 5))
def test_splits_are_kept_or_disjoint(
    rows: list[ManifestRow], dev: float, test: float, seed: int
) -> None:
    result = assign_splits(rows, [10.0] * len(rows), dev_share=dev, test_share=test, seed=seed)
    splits: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    for row, split in zip(rows, result, strict=True):
        assert split == row.split or (row.split is None and split)
        if row.split is None:
            splits["recording", row.recording].add(split)
            splits["speaker", row.speaker or row.path].add(split)
    assert all(len(names) == 1 for names in splits.values())


def test_shares_are_met_and_do_not_depend_on_the_order() -> None:
    rows = [_row(i, speaker=f"p{i // 5}") for i in range(1000)]
    result = assign_splits(rows, [10.0] * 1000, dev_share=0.05, test_share=0.1, seed=1)
    counts = Counter(result)
    assert counts["dev"] == pytest.approx(50, abs=5)
    assert counts["test"] == pytest.approx(100, abs=5)
    backwards = assign_splits(rows[::-1], [10.0] * 1000, dev_share=0.05, test_share=0.1, seed=1)
    assert backwards[::-1] == result
    other = assign_splits(rows, [10.0] * 1000, dev_share=0.05, test_share=0.1, seed=2)
    assert other != result


def test_one_speaker_cannot_be_split() -> None:
    rows = [_row(i, speaker="only") for i in range(20)]
    result = assign_splits(rows, [10.0] * 20, dev_share=0.1, test_share=0.1, seed=1)
    assert set(result) == {"train"}


def test_overlaps_are_reported() -> None:
    rows = [_row(1, "a", split="train"), _row(2, "a", split="test"), _row(3, "b", split="test")]
    (overlap,) = find_speaker_overlaps((r.source, r.speaker or "", r.split or "") for r in rows)
    assert (overlap.first, overlap.second, overlap.speakers) == ("test", "train", ("a",))


@given(_rows, st.floats(0.1, 2))
@settings(max_examples=50, deadline=None)
def test_division_loses_nothing(rows: list[ManifestRow], minutes: float) -> None:
    rows = [replace(row, split=row.split or "train") for row in rows]
    parts = divide_rows(rows, [10.0] * len(rows), minutes)
    found = [row.path for part in parts for row in part.rows]
    assert sorted(found) == sorted(row.path for row in rows)
    assert [part.index for part in parts] == list(range(len(parts)))
    for part in parts:
        assert {row.language for row in part.rows} == {part.language}
        assert part.estimated_seconds <= minutes * 60 + 10
    backwards = divide_rows(rows[::-1], [10.0] * len(rows), minutes)
    assert backwards == parts


def test_lengths_are_estimated_where_none_is_declared() -> None:
    rows = [_row(1), replace(_row(2), seconds=None, num_bytes=80_000)]
    assert estimate_seconds(rows) == [10.0, pytest.approx(2.5)]
