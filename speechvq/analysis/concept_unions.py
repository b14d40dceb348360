"""Unions of codes: with k codes a frame, neighbours in the codebook may share one concept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class CodeIndex:
    """Which frames have which code, both ways, to grow unions without counting all frames again.

    Args:
        frames: (M,) number of the frame, and
        codes: (M,) its code; each pair once, frames rising (`CodePairs`).
        num_frames: N.
        num_codes: V.
    """

    def __init__(self, frames: IntArray, codes: IntArray, num_frames: int, num_codes: int) -> None:
        self._frames, self._codes = frames, codes
        self.num_frames, self.num_codes = num_frames, num_codes
        self._begins = np.searchsorted(frames, np.arange(num_frames + 1))
        self._by_code = np.argsort(codes, kind="stable")
        self._code_begins = np.searchsorted(codes[self._by_code], np.arange(num_codes + 1))

    def find_frames(self, code: int) -> IntArray:
        """Frames that have a code."""
        begin, end = self._code_begins[code], self._code_begins[code + 1]
        return self._frames[self._by_code[begin:end]]

    def list_pairs(self, frames: IntArray) -> tuple[IntArray, IntArray]:
        """The codes of some frames: for each pair the place in `frames`, and the code."""
        sizes = self._begins[frames + 1] - self._begins[frames]
        ends = np.cumsum(sizes)
        places = np.repeat(self._begins[frames] - (ends - sizes), sizes) + np.arange(sizes.sum())
        return np.repeat(np.arange(len(frames)), sizes), self._codes[places]


def grow_union(
    index: CodeIndex,
    is_concept: BoolArray,
    is_known: BoolArray,
    *,
    first: int,
    hits: IntArray,
    fired: IntArray,
) -> list[int]:
    """Adds the code that raises F1 most, as long as one does.

    Args:
        index: Of the frames for choosing.
        is_concept: (N,) bool.
        is_known: (N,) bool, frames that count.
        first: The code to begin with.
        hits: (V,) frames of the concept that have each code.
        fired: (V,) frames that have each code and count.

    Returns:
        The codes in the order in which they came.
    """
    support = int(is_concept.sum())
    gained, new = hits.astype(np.int64), fired.astype(np.int64)  # by each code, beyond the union
    covered = ~is_known
    union: list[int] = []
    num_hits = num_fired = 0
    best = first
    while True:
        union.append(best)
        num_hits, num_fired = num_hits + int(gained[best]), num_fired + int(new[best])
        score = 2 * num_hits / max(1, num_fired + support)
        frames = index.find_frames(best)
        frames = frames[~covered[frames]]
        covered[frames] = True
        owners, codes = index.list_pairs(frames)
        new = new - np.bincount(codes, minlength=index.num_codes)
        gained = gained - np.bincount(codes[is_concept[frames][owners]], minlength=index.num_codes)
        scores = 2 * (num_hits + gained) / np.maximum(1, num_fired + new + support)
        best = int(scores.argmax())
        if not scores[best] > score:
            return union


def measure_union(
    codes: IntArray, union: list[int], is_concept: BoolArray, num_codes: int
) -> tuple[float, float]:
    """Precision and recall of frames that have any code of a union; 0 where there is nothing.

    Args:
        codes: (N, k), below 0: none.
        union: The codes.
        is_concept: (N,) bool.
        num_codes: V.
    """
    is_member = np.zeros(num_codes + 1, dtype=bool)  # the last stands for none
    is_member[union] = True
    fires = is_member[codes[:, 0]]
    for slot in range(1, codes.shape[1]):
        fires |= is_member[codes[:, slot]]
    hits = int((fires & is_concept).sum())
    return hits / max(1, int(fires.sum())), hits / max(1, int(is_concept.sum()))
