"""Which utterances train, which tune, which test.

A split that came with the data is kept; overlap of its speakers is reported, not mended. Splits
that we make are disjoint by recording and by
speaker: rows that share either stay together, whatever their language.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from speechvq.data.manifest import ManifestRow

_MAX_OVERSHOOT = 1.5
"""A group of recordings may make dev or test half as large again as asked for, not larger."""


@dataclass(frozen=True, slots=True)
class SpeakerOverlap:
    """Speakers of one source that stand in two splits.

    Attributes:
        source: Name of the source.
        first: One split.
        second: The other split.
        speakers: Their labels, sorted.
    """

    source: str
    first: str
    second: str
    speakers: tuple[str, ...]


def assign_splits(
    rows: Sequence[ManifestRow],
    seconds: Sequence[float],
    *,
    dev_share: float,
    test_share: float,
    seed: int,
) -> list[ManifestRow]:
    """Gives every row without a split one: `train`, or `dev` and `test` by shares of each
    language's hours.

    Args:
        rows: Rows of all manifests.
        seconds: Length of each row, estimated.
        dev_share: Share of the hours of each language for `dev`.
        test_share: Share of the hours of each language for `test`.
        seed: Decides which groups are taken.

    Returns:
        The rows in the same order, every one with a split.
    """
    groups = _group_rows(rows)
    groups.sort(key=lambda group: _hash_group(rows, group, seed))
    budgets = _compute_budgets(rows, seconds, {"test": test_share, "dev": dev_share})
    used: dict[tuple[str, str], float] = defaultdict(float)
    result = list(rows)
    for group in groups:
        split = _inherit_split(rows, group) or _choose_split(rows, seconds, group, budgets, used)
        for index in group:
            if rows[index].split is None:
                result[index] = replace(rows[index], split=split)
    return result


def find_speaker_overlaps(rows: Sequence[ManifestRow]) -> list[SpeakerOverlap]:
    """Returns speakers that stand in more than one split, by pairs of splits."""
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        if row.speaker is not None and row.split is not None:
            splits[row.source, row.speaker].add(row.split)
    pairs: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (source, speaker), names in splits.items():
        for first in names:
            for second in names:
                if first < second:
                    pairs[source, first, second].append(speaker)
    return [SpeakerOverlap(*key, tuple(sorted(names))) for key, names in sorted(pairs.items())]


def _group_rows(rows: Sequence[ManifestRow]) -> list[list[int]]:
    """Returns the connected components of rows that share a recording or a speaker (union-find)."""
    parent = list(range(len(rows)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[tuple[str, str, str], int] = {}
    for index, row in enumerate(rows):
        keys = [("recording", row.source, row.recording)]
        if row.speaker is not None:
            keys.append(("speaker", row.source, row.speaker))
        for key in keys:
            parent[find(index)] = find(first_with.setdefault(key, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(rows)):
        groups[find(index)].append(index)
    return list(groups.values())


def _hash_group(rows: Sequence[ManifestRow], group: Sequence[int], seed: int) -> bytes:
    # By content, so that neither the order of the manifest nor a new row elsewhere moves a group.
    key = min((rows[index].source, rows[index].recording) for index in group)
    return hashlib.blake2b(f"{seed}\0{key[0]}\0{key[1]}".encode(), digest_size=16).digest()


def _compute_budgets(
    rows: Sequence[ManifestRow], seconds: Sequence[float], shares: Mapping[str, float]
) -> dict[tuple[str, str], float]:
    """Returns seconds to give to each (split, language), shares of what has no split yet."""
    totals: dict[str, float] = defaultdict(float)
    for row, length in zip(rows, seconds, strict=True):
        if row.split is None:
            totals[row.language] += length
    return {
        (split, language): share * total
        for split, share in shares.items()
        for language, total in totals.items()
    }


def _inherit_split(rows: Sequence[ManifestRow], group: Sequence[int]) -> str | None:
    """Returns the split that other rows of the group already have, if there is just one."""
    given = {split for index in group if (split := rows[index].split) is not None}
    if len(given) == 1:
        return given.pop()
    return "train" if given else None


def _choose_split(
    rows: Sequence[ManifestRow],
    seconds: Sequence[float],
    group: Sequence[int],
    budgets: Mapping[tuple[str, str], float],
    used: dict[tuple[str, str], float],
) -> str:
    by_language: dict[str, float] = defaultdict(float)
    for index in group:
        by_language[rows[index].language] += seconds[index]
    for split in ("test", "dev"):
        if all(
            used[split, language] < budgets[split, language]
            and used[split, language] + length <= _MAX_OVERSHOOT * budgets[split, language]
            for language, length in by_language.items()
        ):
            for language, length in by_language.items():
                used[split, language] += length
            return split
    return "train"
