"""How far apart two distributions over codes are, and how mixed one is. Bits; numpy alone.

The divergence of two samples is too large: for n and m independent frames over k codes by about
(k − 1) / (8 ln 2) · (1/n + 1/m) bits, far more where n is near k, and more where the frames of an
utterance are alike. No correction holds over that range. So `speechvq.analysis.sharing` compares
samples of like size only, halves of the speech thinned to the same number of frames: then "A
against B" and "half of A against the other half" have the same bias, and their difference has none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def compute_divergence(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Jensen–Shannon divergence over the last axis, in bits (Lin 1991, "Divergence measures based
    on the Shannon entropy").

    Args:
        first: (..., V) counts or probabilities, not negative.
        second: (..., V) the same, of a shape that broadcasts.

    Returns:
        (...), 0 (alike) to 1 (no code in common); NaN where a side sums to 0.
    """
    left, right = normalize(first), normalize(second)
    outer = (_sum_entropy(left) + _sum_entropy(right)) / 2
    divergence = _sum_entropy((left + right) / 2) - outer
    return np.asarray(np.clip(divergence, 0.0, 1.0))


def compute_divergence_table(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Jensen–Shannon divergence of each row of one table from each row of another, in bits.

    Args:
        first: (..., P, V) counts or probabilities.
        second: (..., Q, V).

    Returns:
        (..., P, Q).
    """
    left, right = np.asarray(first), np.asarray(second)
    return compute_divergence(left[..., :, None, :], right[..., None, :, :])


def compute_entropy(counts: ArrayLike) -> FloatArray:
    """Entropy over the last axis, in bits.

    Args:
        counts: (..., V) counts or probabilities, not negative.

    Returns:
        (...), 0 to log2 V; NaN where the row sums to 0.
    """
    return _sum_entropy(normalize(counts))


def normalize(counts: ArrayLike) -> FloatArray:
    """Divides by the sum over the last axis; rows of zeros become NaN.

    Args:
        counts: (..., V), not negative.
    """
    values = np.asarray(counts, dtype=np.float64)
    totals = values.sum(-1, keepdims=True)
    return np.asarray(np.divide(values, totals, out=np.full_like(values, np.nan), where=totals > 0))


def _sum_entropy(probs: FloatArray) -> FloatArray:
    logs = np.log2(probs, out=np.zeros_like(probs), where=probs != 0.0)
    return np.asarray(-(probs * logs).sum(-1))
