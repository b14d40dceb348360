"""What is wrong with transcripts, found before the first step (DESIGN.md D12).

What CTC cannot learn from is left out; what makes scores worse or better than they are is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from speechvq.data.index import CorpusIndex
from speechvq.data.records import Flag
from speechvq.models.vocabulary import Vocabulary
from speechvq.training.batches import count_ctc_frames

TEXT_FLAGS = frozenset({Flag.DIGITS.value, Flag.PIPE.value, Flag.SYMBOLS.value})
"""Flags that mean that the transcript does not say how it was read."""

NUM_NAMED = 5
"""Utterances that a note names; the rest is counted."""

RARE = 5
"""A character that occurs less often in the training text is hardly learned."""


def leave_out_flagged(index: CorpusIndex, notes: list[str]) -> CorpusIndex:
    """Leave out transcripts with digits, literal pipes and symbols, which preparation flagged."""
    assert index.flags is not None
    found = [TEXT_FLAGS & set(flags.split("+")) for flags in index.flags]
    flagged = np.array([bool(flags) for flags in found])
    if flagged.any():
        kinds = Counter(flag for flags in found for flag in flags)
        notes.append(
            f"{int(flagged.sum())} of {len(index)} transcripts are left out because preparation "
            f"flagged them ({', '.join(f'{kind}: {n}' for kind, n in sorted(kinds.items()))}); "
            "`allow_digits=true` keeps them."
        )
    return index.select(~flagged)


def leave_out_unalignable(
    index: CorpusIndex,
    vocabularies: Mapping[str, Vocabulary],
    num_frames: Callable[[int], int],
    notes: list[str],
) -> CorpusIndex:
    """Leave out transcripts with more labels than CTC has frames, and empty ones."""
    assert index.texts is not None
    keep = np.ones(len(index), dtype=bool)
    named = []
    for row, text in enumerate(index.texts):
        language = index.languages[index.language[row]]
        needed = count_ctc_frames(vocabularies[language].encode(text))
        frames = num_frames(int(index.num_samples[row]))
        if not 0 < needed <= frames:
            keep[row] = False
            named.append(f"`{index.ids[row]}` ({needed} labels, {frames} frames)")
    if named:
        more = f" and {len(named) - NUM_NAMED} more" if len(named) > NUM_NAMED else ""
        notes.append(
            f"{len(named)} of {len(index)} transcripts have more labels than frames, so that CTC "
            f"cannot align them: {', '.join(named[:NUM_NAMED])}{more}. They are left out; check "
            "that their text belongs to their audio."
        )
    return index.select(keep)


def describe_text(
    language: str, train: list[str], others: Mapping[str, CorpusIndex], vocabulary: Vocabulary
) -> list[str]:
    """Return what is doubtful about a language's transcripts, one sentence each.

    Args:
        language: The language.
        train: Training transcripts.
        others: Utterances with transcripts of other splits, by split.
        vocabulary: Labels of the training text.

    Returns:
        Sentences on characters that are rare in the training text or missing from it, and on
        sentences that other splits share with it.
    """
    notes = []
    counts = Counter(character for text in train for character in text if not character.isspace())
    rare = sorted(character for character, count in counts.items() if count < RARE)
    if rare:
        notes.append(
            f"{len(rare)} of {len(counts)} characters of `{language}` occur less than {RARE} times "
            f"in the training text, too seldom to be learned: {_list_characters(rare)}."
        )
    known = set(train)
    for split, index in others.items():
        if index.texts is None:
            continue  # the corpus has no such split
        if problem := _find_unknown(index, vocabulary, f"`{split}` ({language})"):
            notes.append(problem)
        num_shared = sum(text in known for text in index.texts)
        if num_shared:
            notes.append(
                f"{num_shared} of {len(index)} sentences of `{split}` ({language}) are in the "
                "training text word for word: a score on them flatters recogniser and language "
                "model."
            )
    return notes


def _find_unknown(index: CorpusIndex, vocabulary: Vocabulary, name: str) -> str | None:
    assert index.texts is not None
    unknown: Counter[str] = Counter()
    first = ""
    for utterance, text in zip(index.ids, index.texts, strict=True):
        found = vocabulary.unknown_characters(text)
        if found and not first:
            first = utterance
        unknown.update(found)
    if not unknown:
        return None
    characters = ", ".join(f"{c!r} ×{n}" for c, n in unknown.most_common(10))
    return (
        f"{name} has characters that the training text lacks: {characters} (first in "
        f"`{first}`); each is an error that the model cannot avoid."
    )


def _list_characters(characters: list[str], most: int = 20) -> str:
    named = " ".join(repr(character) for character in characters[:most])
    return f"{named} and {len(characters) - most} more" if len(characters) > most else named
