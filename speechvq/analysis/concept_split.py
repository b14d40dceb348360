"""Which utterances codes are chosen on, and on which they are measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.representations import seed_by_name
from speechvq.data.corpus import list_partitions, read_utterances
from speechvq.data.records import Utterance
from speechvq.errors import DataError

DEV, TEST = "dev", "test"


@dataclass(frozen=True, kw_only=True)
class Division:
    """The utterances that are read.

    Attributes:
        parts: "dev" or "test" of each utterance, by id.
        splits: Of the corpus, that hold them.
        languages: That they have.
        rule: How they were divided, a sentence.
        chosen_on: Splits of the corpus from which "dev" is.
        num_shared: Speakers on both sides.
        seconds: Audio of all.
    """

    parts: dict[str, str]
    splits: list[str]
    languages: list[str]
    rule: str
    chosen_on: list[str]
    num_shared: int
    seconds: float

    def count(self, part: str) -> int:
        """Utterances of dev or test."""
        return sum(one == part for one in self.parts.values())


def divide_corpus(config: ConceptsConfig) -> Division:
    """Divides the utterances that the configuration names.

    Raises:
        DataError: The corpus lacks a language, or there are fewer than two utterances.
    """
    present = {part.split for part in list_partitions(config.corpus)}
    wanted = [config.dev_split, config.test_split]
    splits = [one for one in wanted if one in present]
    rows = list(select(config, splits or sorted(present), ["num_samples", "speaker", "source"]))
    counts = {split: sum(row.split == split for row in rows) for split in wanted}
    if not rows:
        raise DataError(
            f"{config.corpus} has no utterance of the splits {' and '.join(splits or wanted)} with "
            "these languages and `where`; choose others with `dev_split` and `test_split`."
        )
    if len(rows) == 1:
        raise DataError(
            "Codes are chosen on some utterances and measured on others, but there is one "
            f"utterance only, `{rows[0].id}`; take in more with `dev_split`, `test_split`, "
            "`language` or `where`."
        )
    if all(counts.values()):
        parts = {row.id: DEV if row.split == config.dev_split else TEST for row in rows}
        rule = (
            f"Codes are chosen on the split {config.dev_split} and measured on the split "
            f"{config.test_split}."
        )
    else:
        parts, unit = _divide(rows, config.seed)
        lacking = " and ".join(split for split in wanted if not counts[split])
        rule = (
            f"There is no split {lacking} here: all utterances were divided into two halves, by "
            f"{unit}."
        )
    speakers: dict[str, set[str]] = {DEV: set(), TEST: set()}
    for row in rows:
        if row.speaker:
            speakers[parts[row.id]].add(name_speaker(row))
    return Division(
        parts=parts,
        splits=sorted({row.split for row in rows}),
        languages=sorted({row.language for row in rows}),
        rule=rule,
        chosen_on=sorted({row.split for row in rows if parts[row.id] == DEV}),
        num_shared=len(speakers[DEV] & speakers[TEST]),
        seconds=sum(row.num_seconds for row in rows),
    )


def select(
    config: ConceptsConfig, splits: Sequence[str], columns: Sequence[str]
) -> Iterator[Utterance]:
    """Yields the utterances of some splits, at most `limit` of each language and split.

    Raises:
        DataError: The corpus lacks a language that is asked for.
    """
    present = sorted({p.language for p in list_partitions(config.corpus) if p.split in splits})
    for language in config.language:
        if language not in present:
            raise DataError(
                f"`language` must be among those that {config.corpus} has there "
                f"({', '.join(present)}), but has {language!r}."
            )
    counts: dict[tuple[str, str], int] = {}
    for row in read_utterances(
        config.corpus,
        splits=splits,
        languages=config.language or None,
        where=config.where,
        columns=columns,
    ):
        key = (row.split, row.language)
        if not config.limit or counts.get(key, 0) < config.limit:
            counts[key] = counts.get(key, 0) + 1
            yield row


def name_speaker(row: Utterance) -> str:
    """`<source>/<speaker>`; "" where the speaker is not known."""
    return f"{row.source}/{row.speaker}" if row.speaker else ""


def _divide(rows: Sequence[Utterance], seed: int) -> tuple[dict[str, str], str]:
    """Halves by speaker, language by language; by utterance where a language has one speaker."""
    parts: dict[str, str] = {}
    sides: dict[str, str] = {}
    kinds = set()
    for language in sorted({row.language for row in rows}):
        own = [row for row in rows if row.language == language]
        speakers = {name_speaker(row) for row in own}
        by_speaker = len(speakers) > 1 and "" not in speakers
        kinds.add("speaker" if by_speaker else "utterance")
        names = sorted({name_speaker(row) if by_speaker else row.id for row in own})
        for rank, place in enumerate(np.random.default_rng(seed).permutation(len(names)).tolist()):
            # Who speaks several languages stays where the first one put them.
            sides.setdefault(names[place], DEV if rank % 2 == 0 else TEST)
        parts |= {row.id: sides[name_speaker(row) if by_speaker else row.id] for row in own}
    if len(set(parts.values())) == 1:  # every language has one utterance
        for place, row in enumerate(rows):
            parts[row.id] = DEV if place % 2 == 0 else TEST
    return parts, " and ".join(sorted(kinds))


def draw_frames(name: str, num_frames: int, share: float, seed: int) -> np.ndarray:
    """Frames of an utterance that are kept to compare neurons on."""
    return np.flatnonzero(seed_by_name(name, seed).random(num_frames) < share)
