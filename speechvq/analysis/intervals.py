"""Figures with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its bootstrap interval; NaN where there is none.

    Attributes:
        value: The figure.
        low: Lower end.
        high: Upper end.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


def compute_interval(value: float, samples: FloatArray, num_units: int, level: float) -> Estimate:
    """Bootstrap interval of a figure, centred on it and widened for few units.

    Centred, because a sample drawn with replacement has fewer distinct units, hence more bias, than
    the data.

    Args:
        value: The figure.
        samples: (R,) the same of bootstrap samples; NaN are left out.
        num_units: K, speakers or utterances that were drawn from.
        level: Such as 0.95.

    Returns:
        Ends are NaN where there are fewer than two samples.
    """
    samples = samples[np.isfinite(samples)]
    if len(samples) < 2 or not np.isfinite(value):
        return Estimate(value=float(value))
    tails = (1 - level) / 2
    low, high = np.quantile(samples - samples.mean(), [tails, 1 - tails])
    widen = _compute_expansion(num_units, 1 - tails)
    return Estimate(
        value=float(value), low=float(value + widen * low), high=float(value + widen * high)
    )


def _compute_expansion(num_units: int, probability: float) -> float:
    """By how much the bootstrap is too narrow for few units: √(K / (K − 1)), and Student's quantile
    over the normal one (the expanded percentile interval; Hesterberg 2015, "What teachers should
    know about the bootstrap"). The quantile by the series of Cornish and Fisher.
    """
    freedom = max(num_units - 1, 1)
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**2 + 1) / 4,
        (5 * z**4 + 16 * z**2 + 3) / 96,
        (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / 384,
    )
    student = 1 + sum(term / freedom**power for power, term in enumerate(terms, start=1))
    return float(np.sqrt(num_units / freedom) * student)
