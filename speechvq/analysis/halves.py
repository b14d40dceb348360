"""Divergences between halves of the speech of two languages, and their permutation nulls.

Works on (K, P, C) arrays: frames by unit (speaker or utterance), phone and code. Whatever is
compared is first thinned to like numbers of frames (`thin_counts`), because the divergence of
samples is biased, and the more so the smaller they are (`speechvq.analysis.divergence`).

Where somebody speaks both languages, what is theirs must not pass for what the languages share: the
two halves of a language have no speaker in common, so neither may what is compared across. Such
units come first in both arrays, stand in the same half of either language, and unlike halves are
compared; the bootstrap draws them together, and permutations exchange their two languages only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.analysis.divergence import compute_divergence_table

FloatArray = NDArray[np.float64]
Counts = NDArray[np.float32]
_CHUNK = 20_000_000  # numbers held at a time


def compare_halves(
    first: Counts,
    second: Counts,
    references: NDArray[np.int64],
    max_frames: float,
    num_splits: int,
    rng: np.random.Generator,
    *,
    num_common: int = 0,
    resample: bool = False,
) -> FloatArray:
    """Divergence of each phone within a language, across, and from other phones across.

    Args:
        first: (K, P, C) frames of language A.
        second: (K', P, C) frames of language B.
        references: (P, Q) other phones that each phone is compared with.
        max_frames: To which halves with more frames of a phone are thinned.
        num_splits: Random splits into halves that the figures are means of.
        rng: Source of splits, samples and thinning.
        num_common: Units, the first ones of both, that are the same speakers.
        resample: Whether the units of each language are drawn again with replacement. A unit that
            is drawn twice stands in one half with both, never in two.

    Returns:
        (3, P) bits: within, across, different; NaN where a half was always empty.
    """
    weights = _draw_weights((len(first), len(second)), num_common, rng, resample=resample)
    chosen = _deal_halves((len(first), len(second)), num_common, num_splits, rng)
    halves = [
        _sum_halves(side, weight, half)
        for side, weight, half in zip((first, second), weights, chosen, strict=True)
    ]
    smallest = np.min([half.sum(-1) for side in halves for half in side], axis=0)  # (S, P)
    sizes = np.minimum(smallest, max_frames)
    a, b = (
        [thin_counts(half, sizes / np.maximum(half.sum(-1), 1.0), rng) for half in side]
        for side in halves
    )
    near, far = ([_Shares(half) for half in side] for side in (a, b))
    within = np.stack([near[0].diverge(near[1]), far[0].diverge(far[1])])  # (2, S, P)
    across = np.stack([near[half].diverge(far[1 - half]) for half in (0, 1)])
    different = np.stack(
        [
            shares.diverge(
                _Shares(thin_counts(half[:, other], sizes / np.maximum(sizes[:, other], 1.0), rng))
            )
            for shares, half in ((near[0], b[1]), (far[1], a[0]))
            for other in references.T
        ]
    )  # (2 Q, S, P)
    return np.stack([average_known(values) for values in (within, across, different)])


def permute_languages(
    first: Counts,
    second: Counts,
    num_permutations: int,
    rng: np.random.Generator,
    *,
    num_common: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Divergence between the languages, and where the labels of their units are permuted.

    The language with more frames of a phone in a unit is thinned to the other, or else permuted
    sides would differ from the observed ones in size, hence in bias.

    Args:
        first: (K, P, C) frames of language A.
        second: (K', P, C) frames of language B.
        num_permutations: R.
        rng: Source of thinning and permutations.
        num_common: Units, the first ones of both, that are the same speakers.

    Returns:
        (P,) and (R, P) bits; NaN where a side is empty.
    """
    sizes, shape = (len(first), len(second)), first.shape[1:]
    means = np.stack([side.sum((0, 2)) / len(side) for side in (first, second)])  # (2, P)
    keep = means.min(0) / np.maximum(means, 1e-9)
    first, second = (
        thin_counts(side, one, rng) for side, one in zip((first, second), keep, strict=True)
    )
    units = np.concatenate([first, second]).reshape(len(first) + len(second), -1)  # (K + K', P C)
    observed = _Shares(first.sum(0)).diverge(_Shares(second.sum(0)))
    total = units.sum(0)
    permuted = []
    step = max(1, _CHUNK // max(units.shape[1], 1))
    for start in range(0, num_permutations, step):
        count = min(step, num_permutations - start)
        left = _draw_labels(sizes, num_common, count, rng) @ units
        sides = [side.reshape(-1, *shape) for side in (left, total - left)]
        permuted.append(_Shares(sides[0]).diverge(_Shares(sides[1])))
    return observed, np.concatenate(permuted)


def permute_phones(
    first: Counts, second: Counts, num_permutations: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Are the codes of a phone nearer to those of the same phone of the other language than
    chance? Each phone stands in each pairing once, so that rare ones weigh alike in all.

    Args:
        first: (K, P, C) frames of language A.
        second: (K', P, C) frames of language B.
        num_permutations: R.
        rng: Source of permutations.

    Returns:
        Mean bits between same phones, mean over random pairings of phones, and the share of
        pairings that are at least as near (with the observed one counted in).
    """
    table = compute_divergence_table(first.sum(0), second.sum(0))  # (P, P)
    rows = np.arange(len(table))
    observed = float(table[rows, rows].mean())
    orders = rng.random((num_permutations, len(table))).argsort(1)
    null = table[rows, orders].mean(1)
    near = int((null <= observed + 1e-12).sum())
    return observed, float(null.mean()), (1 + near) / (1 + num_permutations)


def draw_references(
    first: Counts, second: Counts, max_references: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """Chooses other phones to compare each phone with, that are about as frequent or more so.

    Args:
        first: (K, P, C) frames of language A.
        second: (K', P, C) frames of language B.
        max_references: Q at most.
        rng: Draws them where there are more.

    Returns:
        (P, Q) places of phones; and to how many frames halves are thinned: what three quarters of
        the phones reach.
    """
    halves = np.minimum(first.sum((0, 2)), second.sum((0, 2))) / 2  # (P,) frames
    max_frames = float(np.quantile(halves, 0.25, method="lower"))
    phones = np.arange(len(halves))
    frequent = [
        rng.permutation(phones[(halves >= min(halves[phone], max_frames)) & (phones != phone)])
        for phone in phones
    ]
    size = min(max_references, *map(len, frequent))
    return np.stack([one[:size] for one in frequent]), max_frames


class _Shares:
    """(..., C) distributions over codes with their entropies, so that each is computed once."""

    def __init__(self, counts: Counts) -> None:
        totals = counts.sum(-1, keepdims=True)
        shares = np.where(totals > 0, counts / np.maximum(totals, 1.0), np.nan)
        self.probs: Counts = shares.astype(np.float32)
        self.entropy = _compute_entropy(self.probs)

    def diverge(self, other: _Shares) -> FloatArray:
        """(...) bits."""
        middle = _compute_entropy((self.probs + other.probs) / 2)
        return np.asarray(np.maximum(middle - (self.entropy + other.entropy) / 2, 0.0))


def _compute_entropy(probs: NDArray[np.floating]) -> FloatArray:
    terms = probs * np.log2(np.maximum(probs, np.float32(1e-30)))
    return np.asarray(-terms.sum(-1, dtype=np.float64))


def thin_counts(counts: Counts, keep: ArrayLike, rng: np.random.Generator) -> Counts:
    """Draws frames without replacement.

    Args:
        counts: (..., C) frames.
        keep: (...) chance of each frame to stay; 1 and more keeps all.
        rng: Draws them.
    """
    chances = np.broadcast_to(np.asarray(keep), counts.shape[:-1])
    rows = chances < 1.0
    if not rows.any():
        return counts
    part, thinned = counts[rows], counts.copy()  # (R, C)
    drawn = part.nonzero()
    part[drawn] = rng.binomial(part[drawn].astype(np.int64), chances[rows][drawn[0]])
    thinned[rows] = part
    return thinned


def _draw_weights(
    sizes: tuple[int, int], num_common: int, rng: np.random.Generator, *, resample: bool
) -> tuple[Counts, Counts]:
    """(K,) and (K',) how often each unit was drawn; units in common alike in both languages."""
    if not resample:
        return np.ones(sizes[0], dtype=np.float32), np.ones(sizes[1], dtype=np.float32)
    first = rng.multinomial(sizes[0], np.full(sizes[0], 1 / sizes[0]))
    second = first[:num_common]
    if (own := sizes[1] - num_common) > 0:
        rest = rng.multinomial(max(sizes[1] - int(second.sum()), 0), np.full(own, 1 / own))
        second = np.concatenate([second, rest])
    return first.astype(np.float32), second.astype(np.float32)


def _deal_halves(
    sizes: tuple[int, int], num_common: int, num_splits: int, rng: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """(S, K) and (S, K') which units stand in the first half; odd ones stand here and there."""
    odd = np.arange(num_splits) % 2

    def choose(size: int, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(rng.random((num_splits, size)).argsort(1) < counts[:, None])

    shared = num_common // 2 + odd * (num_common % 2)
    common = choose(num_common, shared)
    wholes = [size // 2 + odd * (size % 2) for size in sizes]
    return [
        np.concatenate([common, choose(size - num_common, whole - shared)], axis=1)
        for size, whole in zip(sizes, wholes, strict=True)
    ]


def _sum_halves(units: Counts, weights: Counts, chosen: NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Twice (S, P, C): sums over the units (K, P, C) of each half."""
    inside = np.where(chosen, weights, np.float32(0.0))  # (S, K)
    both = np.concatenate([inside, weights - inside]) @ units.reshape(len(units), -1)
    first, second = both.reshape(2, len(chosen), *units.shape[1:])
    return first, second


def _draw_labels(
    sizes: tuple[int, int], num_common: int, num_permutations: int, rng: np.random.Generator
) -> Counts:
    """(R, K + K') 1 where a unit is said to be of the first language."""
    own = sizes[0] - num_common
    ranks = rng.random((num_permutations, sum(sizes) - 2 * num_common)).argsort(1)
    free = ranks < own
    kept = rng.random((num_permutations, num_common)) < 0.5
    return np.concatenate([kept, free[:, :own], ~kept, free[:, own:]], axis=1).astype(np.float32)


def average_known(values: FloatArray) -> FloatArray:
    """Returns (P,) means of (..., P) without NaN; NaN where there is nothing else."""
    flat = values.reshape(-1, values.shape[-1])
    known = np.isfinite(flat)
    counts = known.sum(0)
    sums = np.where(known, flat, 0.0).sum(0)
    return np.asarray(np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0))
