"""How well codes name phones: PNMI, phone purity and cluster purity.

The three are HuBERT's measures of cluster quality (Hsu et al. 2021, arXiv 2106.07447). All follow
from one table, how often each phone met each code; numpy alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def count_pairs(phones: ArrayLike, codes: ArrayLike) -> NDArray[np.int64]:
    """Counts how often each phone met each code, or combination of codes.

    Args:
        phones: (N,) integers, one a frame; any values.
        codes: (N,) or (N, G) integers; with G codebooks, what is counted is their combination.

    Returns:
        (P, V) int64: the phones that occur in rising order, the codes (in (N, G): the rows) that
        occur in rising order.

    Raises:
        ValueError: There is no frame, or not one phone for each frame's codes.
    """
    phones, codes = np.asarray(phones), np.asarray(codes)
    if phones.ndim != 1 or codes.ndim not in (1, 2) or len(phones) != len(codes):
        raise ValueError(
            "`phones` must be (N,) and `codes` (N,) or (N, G), but they are "
            f"{phones.shape} and {codes.shape}."
        )
    if len(phones) == 0:
        raise ValueError("There must be at least one frame, but there is none.")
    names, phone_places = np.unique(phones, return_inverse=True)
    used, code_places = np.unique(codes, axis=0, return_inverse=True)
    pairs = phone_places.reshape(-1) * len(used) + code_places.reshape(-1)
    counts = np.bincount(pairs, minlength=len(names) * len(used))
    return counts.reshape(len(names), len(used)).astype(np.int64)


def compute_pnmi(counts: ArrayLike) -> float:
    """Share of the uncertainty about the phone that the code takes away, I(phone; code) / H(phone).

    More codes raise it, also without any meaning: compare at like numbers of codes, and with
    `compute_chance_pnmi`.

    Args:
        counts: (P, V), how often each phone met each code.

    Returns:
        Between 0 and 1; NaN where only one phone occurs, as there is nothing to be uncertain about.

    Raises:
        ValueError: Nothing was counted.
    """
    joint = _normalize(counts)
    phones, codes = joint.sum(1), joint.sum(0)
    phone_entropy = _compute_entropy(phones)
    if phone_entropy == 0.0:
        return float("nan")
    information = phone_entropy + _compute_entropy(codes) - _compute_entropy(joint)
    return float(np.clip(information / phone_entropy, 0.0, 1.0))


def compute_phone_purity(counts: ArrayLike) -> float:
    """Accuracy of naming each frame by the likeliest phone of its code: Σ over codes of the largest
    p(phone, code). One code a frame gives 1.

    Args:
        counts: (P, V), how often each phone met each code.

    Returns:
        Above 0, at most 1.

    Raises:
        ValueError: Nothing was counted.
    """
    return float(_normalize(counts).max(0).sum())


def compute_cluster_purity(counts: ArrayLike) -> float:
    """Accuracy of guessing each frame's code as the likeliest of its phone: Σ over phones of the
    largest p(phone, code). The counterpart of `compute_phone_purity`: a single code gives 1.

    Args:
        counts: (P, V), how often each phone met each code.

    Returns:
        Above 0, at most 1.

    Raises:
        ValueError: Nothing was counted.
    """
    return float(_normalize(counts).max(1).sum())


def compute_chance_pnmi(
    phones: ArrayLike, codes: ArrayLike, *, rng: np.random.Generator, num_permutations: int = 5
) -> float:
    """PNMI that the same codes have when they are dealt out to the frames at random: what the
    number of codes alone gives.

    Args:
        phones: (N,) integers.
        codes: (N,) or (N, G) integers.
        rng: Source of the permutations.
        num_permutations: How many the mean is taken over.

    Returns:
        Mean PNMI, between 0 and 1.

    Raises:
        ValueError: As `count_pairs`.
    """
    phones = np.asarray(phones)
    values = [
        compute_pnmi(count_pairs(rng.permutation(phones), codes)) for _ in range(num_permutations)
    ]
    return float(np.mean(values))


def _normalize(counts: ArrayLike) -> NDArray[np.float64]:
    joint = np.asarray(counts, dtype=np.float64)
    total = joint.sum()
    if joint.ndim != 2 or not total > 0:
        raise ValueError(
            "`counts` must be a table (phones, codes) with at least one frame, but it has the "
            f"shape {joint.shape} and {total:g} frames."
        )
    result: NDArray[np.float64] = joint / total
    return result


def _compute_entropy(probs: NDArray[np.float64]) -> float:
    """Nats."""
    positive = probs[probs > 0]
    return float(-(positive * np.log(positive)).sum())
