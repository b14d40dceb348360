"""Which utterances train, which tune, which test.

A split that came with the data is kept; overlap of its speakers is reported, not mended. Splits
that we make are disjoint by recording and by speaker: rows that share either stay together,
whatever their language.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechvq.data.components import Integers, find_components
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitColumns:
    """What decides about splits, as parallel columns of N rows; codes count from 0, and -1 is none.

    Attributes:
        recording: Code of the recording.
        speaker: Code of the speaker.
        language: Code of the language.
        given: Code of the split that came with the data.
        seconds: Length of each row.
        keys: Source and recording of each code of `recording`, as one text.
        splits: Name of each code of `given`.
    """

    recording: Integers
    speaker: Integers
    language: Integers
    given: Integers
    seconds: npt.NDArray[np.float64]
    keys: Sequence[str]
    splits: Sequence[str]


def assign_splits(
    rows: Sequence[ManifestRow],
    seconds: Sequence[float],
    *,
    dev_share: float,
    test_share: float,
    seed: int,
) -> list[str]:
    """Returns a split for every row: its own, else `train`, or `dev` and `test` by shares of each
    language's hours.

    Args:
        rows: Rows of all manifests.
        seconds: Length of each row, estimated.
        dev_share: Share of the hours of each language for `dev`.
        test_share: Share of the hours of each language for `test`.
        seed: Decides which groups are taken.

    Returns:
        The name of each row's split.
    """
    recordings, speakers = _Codes(), _Codes()
    languages, splits = _Codes(), _Codes()
    columns = SplitColumns(
        recording=recordings.encode(f"{row.source}\0{row.recording}" for row in rows),
        speaker=speakers.encode(
            None if row.speaker is None else f"{row.source}\0{row.speaker}" for row in rows
        ),
        language=languages.encode(row.language for row in rows),
        given=splits.encode(row.split for row in rows),
        seconds=np.asarray(seconds, np.float64),
        keys=list(recordings),
        splits=list(splits),
    )
    return choose_splits(columns, dev_share=dev_share, test_share=test_share, seed=seed)


def choose_splits(
    columns: SplitColumns,
    *,
    dev_share: float,
    test_share: float,
    seed: int,
    links: Integers | None = None,
) -> list[str]:
    """Returns the split of every row; see `assign_splits`.

    Args:
        columns: What decides.
        dev_share: Share of the seconds of each language for `dev`.
        test_share: Share of the seconds of each language for `test`.
        seed: Decides which groups are taken.
        links: Pairs of rows that must stay together besides, (E, 2), such as near duplicates.
    """
    num_rows = len(columns.recording)
    if num_rows == 0:
        return []
    component = _group_rows(columns, links)
    order = np.argsort(component, kind="stable")
    bounds = np.flatnonzero(np.diff(component[order], prepend=-1))
    groups = np.split(order, bounds[1:])
    keys = _find_group_keys(columns, order, bounds)
    ranked = sorted(range(len(groups)), key=lambda index: _hash_group(keys[index], seed))
    budgets = _compute_budgets(columns, {"test": test_share, "dev": dev_share})
    used: dict[tuple[str, int], float] = defaultdict(float)
    result = [columns.splits[code] if code >= 0 else "" for code in columns.given.tolist()]
    has_budget = any(value > 0 for value in budgets.values())
    for index in ranked:
        group = groups[index]
        split = _inherit_split(columns, group)
        if split is None:
            split = _choose_split(columns, group, budgets, used) if has_budget else "train"
        for row in group.tolist():
            result[row] = result[row] or split
    return result


def find_speaker_overlaps(speakers: Iterable[tuple[str, str, str]]) -> list[SpeakerOverlap]:
    """Returns speakers that stand in more than one split, by pairs of splits.

    Args:
        speakers: Source, speaker and split, each combination once or more.
    """
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for source, speaker, split in speakers:
        splits[source, speaker].add(split)
    pairs: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (source, speaker), names in splits.items():
        for first in names:
            for second in names:
                if first < second:
                    pairs[source, first, second].append(speaker)
    return [SpeakerOverlap(*key, tuple(sorted(names))) for key, names in sorted(pairs.items())]


class _Codes(dict[str, int]):
    """Numbers texts in the order in which they come."""

    def encode(self, texts: Iterable[str | None]) -> Integers:
        """Returns the number of each text; -1 for None."""
        return np.array(
            [-1 if text is None else self.setdefault(text, len(self)) for text in texts], np.int64
        )


def _group_rows(columns: SplitColumns, links: Integers | None) -> Integers:
    """Returns the group of each row: rows that share a recording or a speaker, or are linked."""
    num_recordings = len(columns.keys)
    has_speaker = columns.speaker >= 0
    edges = [
        np.stack(
            [columns.recording[has_speaker], num_recordings + columns.speaker[has_speaker]], axis=1
        )
    ]
    if links is not None and len(links):
        edges.append(columns.recording[links])
    num_speakers = int(columns.speaker.max(initial=-1)) + 1
    unique = np.unique(np.concatenate(edges), axis=0)
    component = find_components(num_recordings + num_speakers, unique)
    return np.asarray(component[columns.recording])


def _find_group_keys(columns: SplitColumns, order: Integers, bounds: Integers) -> list[str]:
    """Returns the smallest recording of each group, so that neither the order of the manifest nor a
    new row elsewhere moves a group.
    """
    by_name = sorted(range(len(columns.keys)), key=columns.keys.__getitem__)
    rank = np.empty(len(by_name), np.int64)
    rank[by_name] = np.arange(len(by_name))
    smallest = np.minimum.reduceat(rank[columns.recording[order]], bounds)
    return [columns.keys[by_name[index]] for index in smallest.tolist()]


def _hash_group(key: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=16).digest()


def _compute_budgets(
    columns: SplitColumns, shares: Mapping[str, float]
) -> dict[tuple[str, int], float]:
    """Returns seconds to give to each (split, language), shares of what has no split yet."""
    free = columns.given < 0
    totals = np.bincount(columns.language[free], columns.seconds[free])
    return {
        (split, language): share * total
        for split, share in shares.items()
        for language, total in enumerate(totals.tolist())
    }


def _inherit_split(columns: SplitColumns, group: Integers) -> str | None:
    """Returns the split that other rows of the group already have, if there is just one."""
    given = {code for code in columns.given[group].tolist() if code >= 0}
    if len(given) == 1:
        return str(columns.splits[given.pop()])
    return "train" if given else None


def _choose_split(
    columns: SplitColumns,
    group: Integers,
    budgets: Mapping[tuple[str, int], float],
    used: dict[tuple[str, int], float],
) -> str:
    by_language: dict[int, float] = defaultdict(float)
    lengths = columns.seconds[group].tolist()
    for language, length in zip(columns.language[group].tolist(), lengths, strict=True):
        by_language[language] += length
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
