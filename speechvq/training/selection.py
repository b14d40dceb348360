"""Which utterances of an index a run uses, and how it describes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from speechvq.data.index import CorpusIndex
from speechvq.data.origins import describe_origins
from speechvq.data.randomness import create_generator
from speechvq.data.records import SAMPLE_RATE


def limit_index(index: CorpusIndex, max_seconds: float) -> CorpusIndex:
    """Keep at most so much audio of each language, always the same utterances.

    Args:
        index: The utterances.
        max_seconds: Seconds per language.

    Returns:
        A random, fixed subset in the index's order.
    """
    kept = []
    for number in range(len(index.languages)):
        positions = np.flatnonzero(index.language == number)
        rng = create_generator(0, "limit", index.languages[number])
        positions = rng.permutation(positions)
        seconds = np.cumsum(index.num_samples[positions]) / SAMPLE_RATE
        kept.append(positions[: max(1, int(np.searchsorted(seconds, max_seconds)))])
    if not kept:
        return index
    return index.select(np.sort(np.concatenate(kept)))


def describe_index(index: CorpusIndex) -> dict[str, Any]:
    """Return hours and utterances, in total and per language, for summaries."""
    counts = np.bincount(index.language, minlength=len(index.languages))
    hours = index.hours_by_language()
    return {
        "hours": round(index.hours, 4),
        "utterances": len(index),
        "num_too_short": index.num_too_short,
        "num_too_long": index.num_too_long,
        "languages": {
            code: {"hours": round(hours[code], 4), "utterances": int(count)}
            for code, count in zip(index.languages, counts, strict=True)
        },
    }


def describe_corpus(index: CorpusIndex) -> dict[str, Any]:
    """Return what a model directory says of the utterances that it was trained on: the same, and
    their sources and licences.
    """
    return {**describe_index(index), **describe_origins(index)}
