"""Means and rates with bootstrap intervals over utterances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.analysis.intervals import Estimate, compute_interval
from speechvq.decoding.bootstrap import resample_rates

LEVEL = 0.95
_SCALE = 1 << 20
"""The project's bootstrap sums whole numbers: nats are counted in millionths."""
_NUM_RESAMPLES = 1000


def estimate_ratios(
    numerators: ArrayLike, denominators: ArrayLike, utterances: Sequence[str], *, seed: int
) -> list[Estimate]:
    """Ratios of sums, with intervals of a bootstrap over utterances.

    Args:
        numerators: (M, C): M edits, C figures that share a denominator.
        denominators: (M,), such as 1 for means.
        utterances: M, where each edit was made.
        seed: Of the draw.

    Returns:
        C estimates; without ends where there is one utterance only, NaN without anything.
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    if above.ndim != 2 or below.shape != above.shape[:1] or len(utterances) != len(above):
        raise ValueError(
            f"`numerators` must be (M, C) with M denominators and utterances, but are "
            f"{above.shape}, {below.shape} and {len(utterances)}."
        )
    if not below.sum():
        return [Estimate() for _ in range(above.shape[1])]
    sums = _sum_by_utterance(np.column_stack([above, below]), utterances)  # (U, C + 1)
    values = sums[:, :-1].sum(0) / sums[:, -1].sum()
    whole = np.rint(sums * [*[_SCALE] * above.shape[1], 1]).astype(np.int64)
    rates = resample_rates(whole, _NUM_RESAMPLES, seed)
    if rates is None:
        return [Estimate(value=float(value)) for value in values]
    return [
        compute_interval(float(value), rates[:, column] / _SCALE, len(sums), LEVEL)
        for column, value in enumerate(values)
    ]


def _sum_by_utterance(
    values: NDArray[np.float64], utterances: Sequence[str]
) -> NDArray[np.float64]:
    names, numbers = np.unique(np.asarray(utterances, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, numbers, values)
    return sums
