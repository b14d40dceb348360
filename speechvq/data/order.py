"""The order of an epoch: which utterances make which batch (DESIGN.md D5).

1. Languages get a share of the epoch by temperature: p ∝ hours^alpha (IndicWav2Vec; XLS-R,
   section 3.1).
2. Each language walks its row groups in a random order, as many passes as its share needs:
   `(language, pass, row group)`.
3. The row groups of all languages are shuffled together and taken in windows, so that reading stays
   local and memory bounded.
4. Within a window utterances are shuffled, put into length classes, and cut into batches of at most
   `batch_samples`, padding included; the batches are shuffled. Ties in length are broken at random,
   so that batches mix languages; or, where heads belong to languages, no batch does.

Everything is a function of (seed, epoch) and the index: the saved state of a run is one position in
this order, whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from speechvq.data.index import CorpusIndex
from speechvq.data.randomness import create_generator

LENGTH_CLASS_RATIO = 1.15
"""Utterances of one length class differ by at most this factor, which bounds padding."""


@dataclass(frozen=True)
class OrderConfig:
    """What the order of an epoch depends on, besides the index.

    Attributes:
        seed: Seed of the run.
        alpha: Exponent of the sampling over languages.
        batch_samples: Samples of a batch at 16 kHz, padding included.
        max_samples: Longer utterances count as this long (they are cropped).
        window: Row groups that are shuffled together.
        mixes_languages: Whether a batch may hold utterances of several languages.
    """

    seed: int
    alpha: float
    batch_samples: int
    max_samples: int
    window: int
    mixes_languages: bool = True


@dataclass(frozen=True)
class PlannedBatch:
    """One batch of an epoch.

    Attributes:
        epoch: Number of the epoch, from 0.
        utterances: Positions in the index, int64 (B,).
        passes: How often each utterance came before in this epoch, int32 (B,).
    """

    epoch: int
    utterances: np.ndarray
    passes: np.ndarray


def compute_language_shares(hours: np.ndarray, alpha: float) -> np.ndarray:
    """Compute the share of each language in an epoch: p ∝ (hours / sum of hours)^alpha.

    Args:
        hours: Hours of audio per language (L,), all positive.
        alpha: 1 keeps the natural shares, 0 makes all languages equal.

    Returns:
        Shares (L,) that sum to 1.
    """
    weights = (hours / hours.sum()) ** alpha
    return np.asarray(weights / weights.sum())


def plan_epoch(index: CorpusIndex, config: OrderConfig, epoch: int) -> list[PlannedBatch]:
    """Plan the batches of one epoch.

    Args:
        index: The utterances.
        config: Seed, sampling and sizes.
        epoch: Number of the epoch, from 0.

    Returns:
        All batches, in order; an epoch lasts about as many hours as the index has.
    """
    draws = _draw_row_groups(index, config, epoch)
    rng = create_generator(config.seed, "epoch", epoch)
    order = rng.permutation(len(draws))
    batches: list[PlannedBatch] = []
    for start in range(0, len(order), config.window):
        window = [draws[position] for position in order[start : start + config.window]]
        utterances = np.concatenate([positions for positions, _ in window])
        passes = np.concatenate(
            [np.full(len(positions), number, dtype=np.int32) for positions, number in window]
        )
        batches.extend(_cut_batches(index, config, epoch, utterances, passes, rng))
    return batches


def _draw_row_groups(
    index: CorpusIndex, config: OrderConfig, epoch: int
) -> list[tuple[np.ndarray, int]]:
    """Draw (positions of a row group, pass) for each language until its share is full."""
    samples = np.bincount(index.language, weights=index.num_samples, minlength=len(index.languages))
    present = np.flatnonzero(samples)
    targets = compute_language_shares(samples[present], config.alpha) * samples.sum()
    draws: list[tuple[np.ndarray, int]] = []
    for language, target in zip(present, targets, strict=True):
        rng = create_generator(config.seed, "language", epoch, index.languages[language])
        groups = _split_row_groups(index, np.flatnonzero(index.language == language))
        draws.extend(_fill_share(index, groups, float(target), rng))
    return draws


def _split_row_groups(index: CorpusIndex, positions: np.ndarray) -> list[np.ndarray]:
    keys = index.file[positions].astype(np.int64) << 32 | index.row_group[positions]
    order = np.argsort(keys, kind="stable")
    boundaries = np.flatnonzero(np.diff(keys[order])) + 1
    return list(np.split(positions[order], boundaries))


def _fill_share(
    index: CorpusIndex, groups: list[np.ndarray], target: float, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield whole passes over the row groups, then a partial one that ends inside a row group."""
    drawn = 0.0
    number = 0
    while True:
        for group in rng.permutation(len(groups)):
            positions = rng.permutation(groups[group])
            lengths = np.cumsum(index.num_samples[positions])
            if drawn + lengths[-1] >= target:
                # Rounding to the nearest utterance keeps the share right on average.
                count = int(np.searchsorted(lengths, target - drawn + lengths[0] / 2))
                if count:
                    yield positions[:count], number
                return
            drawn += float(lengths[-1])
            yield positions, number
        number += 1


def _cut_batches(
    index: CorpusIndex,
    config: OrderConfig,
    epoch: int,
    utterances: np.ndarray,
    passes: np.ndarray,
    rng: np.random.Generator,
) -> list[PlannedBatch]:
    """Cut the utterances of a window into batches of similar length, in random order."""
    lengths = np.minimum(index.num_samples[utterances], config.max_samples)
    classes = np.floor(np.log(np.maximum(lengths, 1)) / np.log(LENGTH_CLASS_RATIO))
    languages = index.language[utterances]
    if config.mixes_languages:
        languages = np.zeros_like(languages)
    order = np.lexsort((rng.random(len(utterances)), classes, languages))
    batches = []
    start = 0
    longest = 0
    for end, position in enumerate(order):
        longest = max(longest, int(lengths[position]))
        is_full = longest * (end - start + 1) > config.batch_samples
        if end > start and (is_full or languages[position] != languages[order[start]]):
            batches.append(order[start:end])
            start, longest = end, int(lengths[position])
    batches.append(order[start:])
    return [
        PlannedBatch(epoch, utterances[batches[i]], passes[batches[i]])
        for i in rng.permutation(len(batches))
    ]
