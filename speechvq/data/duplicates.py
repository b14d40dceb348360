"""Segments that are the same sound: equal samples, or fingerprints that all but agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from speechvq.data.components import Integers, find_components

_CHUNKS = 8
"""Of 16 bits: of two fingerprints that differ in 20 bits or fewer, some chunk all but always
agrees in copies, and is how they are found."""
_MAX_NEIGHBOURS = 32
"""In a chunk's bucket each segment is compared with so many of the next longer ones."""


def find_equal(digests: npt.NDArray[np.void], is_defined: npt.NDArray[np.bool_]) -> Integers:
    """Returns the first segment with the same samples as each, int64 (N,).

    Args:
        digests: Digest of each segment's samples, bytes of fixed length, (N,).
        is_defined: Whether there is one, bool (N,).
    """
    first = np.arange(len(digests), dtype=np.int64)
    rows = np.flatnonzero(is_defined)
    if len(rows):
        _, index, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
        first[rows] = rows[index[inverse]]
    return first


def find_near_equal(
    fingerprints: npt.NDArray[np.uint8],
    seconds: npt.NDArray[np.float64],
    is_defined: npt.NDArray[np.bool_],
    *,
    max_bits: int,
) -> Integers:
    """Returns the first segment that sounds like each, or like one that sounds like it, int64 (N,).

    Two segments sound alike if their lengths differ by less than 0.2 s and 2 % and their
    fingerprints by few bits. Each is compared with its neighbours in length among those that share
    16 bits in place: found are those copies that a codec, a resampler or a change of level made,
    cut within 30 ms of each other.

    Args:
        fingerprints: 128 bits each, uint8 (N, 16).
        seconds: Length of each, (N,).
        is_defined: Whether it has a fingerprint, bool (N,).
        max_bits: Most bits that may differ.
    """
    rows = np.flatnonzero(is_defined)
    chunks = np.ascontiguousarray(fingerprints[rows]).view(">u2").astype(np.int64)  # (M, 8)
    lengths = seconds[rows]
    words = np.ascontiguousarray(fingerprints[rows]).view(np.uint64)  # (M, 2)
    edges = [np.zeros((0, 2), np.int64)]
    for number in range(_CHUNKS):
        key = chunks[:, number]
        order = np.lexsort((np.arange(len(rows)), lengths, key))
        for distance in range(1, min(_MAX_NEIGHBOURS, len(rows) - 1) + 1):
            left, right = order[:-distance], order[distance:]
            same = (key[left] == key[right]) & _have_like_length(lengths[left], lengths[right])
            left, right = left[same], right[same]
            if len(left) == 0:
                break
            bits = np.bitwise_count(words[left] ^ words[right]).sum(axis=1)
            near = bits <= max_bits
            edges.append(np.stack([rows[left[near]], rows[right[near]]], axis=1))
    return find_components(len(seconds), np.concatenate(edges))


def _have_like_length(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    difference = np.abs(first - second)
    return np.asarray((difference < 0.2) & (difference <= 0.02 * np.maximum(first, second) + 0.04))
