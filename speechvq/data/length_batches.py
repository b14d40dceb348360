"""Batches of utterances of similar length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from speechvq.data.records import Utterance

_WINDOW_BATCHES = 8
"""So many batches of audio are sorted by length at a time."""


def batch_by_length(
    utterances: Iterable[Utterance], batch_seconds: float
) -> Iterator[list[Utterance]]:
    """Groups utterances of similar length.

    Args:
        utterances: In any order; read as far as a window of some batches.
        batch_seconds: Most audio in a batch, padding included; a longer utterance stands alone.

    Yields:
        Batches that together hold each utterance once.
    """
    window: list[Utterance] = []
    seconds = 0.0
    for utterance in utterances:
        window.append(utterance)
        seconds += utterance.num_seconds
        if seconds >= _WINDOW_BATCHES * batch_seconds:
            yield from _cut_batches(window, batch_seconds)
            window, seconds = [], 0.0
    yield from _cut_batches(window, batch_seconds)


def _cut_batches(window: list[Utterance], batch_seconds: float) -> Iterator[list[Utterance]]:
    batch: list[Utterance] = []
    # Longest first: the first of a batch says how long all its rows become.
    for utterance in sorted(window, key=lambda row: (-row.num_samples, row.id)):
        if batch and batch[0].num_seconds * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(utterance)
    if batch:
        yield batch
