"""The bootstrap behind all intervals and tests: which units are drawn again, and their sums.

Utterances are drawn where speakers are few or not known (Bisani & Ney 2004, "Bootstrap estimates
for confidence intervals in ASR performance evaluation"). What one speaker says is alike: recognised
well altogether, or badly. Where at least `MIN_SPEAKERS` speak and every utterance is named, whole
speakers are drawn (the cluster bootstrap; Davison & Hinkley 1997, section 3.8, and for ASR Liu &
Peng 2020, "Statistical testing on ASR performance via blockwise bootstrap").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from speechvq.decoding.alignment import IntArray

NUM_RESAMPLES = 2000
SEED = 20040517
MIN_SPEAKERS = 5
"""With fewer there is too little to draw from: speakers then decide nothing."""
_CHUNK = 4_000_000  # numbers drawn at a time, to bound memory
FloatArray = NDArray[np.float64]


class BootstrapUnit(StrEnum):
    """What is drawn again as a whole."""

    UTTERANCE = "utterance"
    SPEAKER = "speaker"


def number_speakers(speakers: Sequence[str]) -> IntArray | None:
    """Returns (U,) numbers of the speakers, counted from 0; None where speakers cannot be drawn.

    Args:
        speakers: Of each of U utterances, "" where it is not known.
    """
    names, numbers = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    if len(names) < MIN_SPEAKERS or "" in names:
        return None
    return numbers.astype(np.int64)


def sum_by_speaker(values: IntArray, numbers: IntArray) -> IntArray:
    """Returns (K, C) column sums of each of K speakers.

    Args:
        values: (U, C) counts of U utterances.
        numbers: (U,) what `number_speakers` returned.
    """
    sums = np.zeros((int(numbers.max()) + 1, values.shape[1]), dtype=np.int64)
    np.add.at(sums, numbers, values)
    return sums


def resample_sums(values: IntArray, num_resamples: int, seed: int) -> IntArray:
    """Returns the column sums of bootstrap samples of the rows.

    Args:
        values: (U, C) counts of U utterances, or of speakers.
        num_resamples: R.
        seed: Seed of the draw.

    Returns:
        (R, C).
    """
    rng = np.random.default_rng(seed)
    parts = []
    for size in _split_count(num_resamples, max(1, _CHUNK // len(values))):
        drawn = rng.integers(len(values), size=(size, len(values)))
        drawn += len(values) * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * len(values))
        # Sums of whole numbers below 2^53 are exact, and floats multiply by BLAS.
        sums = times.reshape(size, len(values)).astype(np.float64) @ values.astype(np.float64)
        parts.append(sums.astype(np.int64))
    return np.concatenate(parts)


def resample_rates(values: IntArray, num_resamples: int, seed: int) -> FloatArray | None:
    """Returns (R', C) rates of bootstrap samples, without those that drew no reference unit.

    Args:
        values: (U, C + 1): C columns of errors of utterances or speakers, or of differences of
            errors for paired tests; in the last column the reference units.
        num_resamples: R.
        seed: Seed of the draw.

    Returns:
        None where there are fewer than two to draw from, or no reference unit at all.
    """
    if len(values) < 2 or not values[:, -1].any():
        return None
    sums = resample_sums(values, num_resamples, seed)  # (R, C + 1)
    sums = sums[sums[:, -1] > 0]
    return np.asarray(sums[:, :-1] / sums[:, -1:])


def _split_count(total: int, largest: int) -> Iterator[int]:
    while total > 0:
        yield min(total, largest)
        total -= largest
