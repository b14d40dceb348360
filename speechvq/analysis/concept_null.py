"""Labels dealt out anew, for the null of a search: codes are chosen and measured all over again.

Whole utterances change their places: within a language, their labels are laid end to end in another
order and shifted in a circle, so that durations and what follows what stay as they were. Of labels
that belong to whole utterances, speakers swap theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


class FramePermuter:
    """Permutes the labels of the frames of one split.

    Args:
        lengths: (U,) frames of each utterance.
        languages: (U,) within which labels stay.
        seed: Of all draws.
    """

    def __init__(self, lengths: IntArray, languages: Sequence[str], seed: int) -> None:
        self._seed = seed
        begins = np.cumsum(lengths) - lengths
        self._num_frames = int(lengths.sum())
        names = np.asarray(languages, dtype=np.str_)
        self._groups = []
        for name in np.unique(names):
            own = np.flatnonzero(names == name)
            self._groups.append(
                (begins[own], lengths[own], _list_frames(begins[own], lengths[own]))
            )

    def draw(self, number: int) -> IntArray:
        """(N,) frame that each frame has its label from.

        Args:
            number: Of the permutation; the same number gives the same one.
        """
        rng = np.random.default_rng([self._seed, number])
        found = np.empty(self._num_frames, dtype=np.int64)
        for begins, lengths, frames in self._groups:
            order = rng.permutation(len(begins))
            laid = _list_frames(begins[order], lengths[order])
            found[frames] = np.roll(laid, int(rng.integers(len(laid)))) if len(laid) else laid
        return found


def permute_units(labels: IntArray, units: IntArray, rng: np.random.Generator) -> IntArray:
    """Swaps labels of utterances among those who spoke them.

    Args:
        labels: (U,) of utterances; below 0 where there is none, which stays.
        units: (U,) who spoke them. Who has several labels counts once for each.
        rng: Source of randomness.
    """
    known = np.flatnonzero(labels >= 0)
    pairs = np.stack([units[known], labels[known]], axis=1)
    found, owners = np.unique(pairs, axis=0, return_inverse=True)
    permuted = labels.copy()
    permuted[known] = rng.permutation(found[:, 1])[owners.reshape(-1)]
    return permuted


def adjust_p_values(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini and Hochberg 1995: the rate of false discoveries at which each is one.

    Args:
        p_values: (R,).

    Returns:
        (R,), at least the p-values, at most 1.
    """
    order = np.argsort(-p_values, kind="stable")
    ranks = np.arange(len(p_values), 0, -1)
    scaled = np.minimum.accumulate(np.minimum(p_values[order] * len(p_values) / ranks, 1.0))
    adjusted = np.empty(len(p_values))
    adjusted[order] = scaled
    return adjusted


def _list_frames(begins: IntArray, lengths: IntArray) -> IntArray:
    """Frames of utterances in their order."""
    ends = np.cumsum(lengths)
    total = int(lengths.sum())
    return np.repeat(begins - (ends - lengths), lengths) + np.arange(total, dtype=np.int64)
