"""Merges the codes of a codebook until it has the perplexity of a smaller one.

PNMI rises with the number of codes in use, so that codebooks of unlike perplexity are not to be
compared by it. Here the finer one is made coarser, blind to phones: what counts is which codes of a
control (k-means of MFCC) a code stands together with. Codes with like shares of those are merged by
Ward's method (1963, "Hierarchical grouping to optimize an objective function"), weighted by frames,
on the square roots of the shares: to second order that is the merging which loses least information
about the control (agglomerative information bottleneck; Slonim & Tishby 1999).

Merging can only lose: the finer codebook is rated too low rather than too high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.analysis.code_table import CodeTable
from speechvq.analysis.divergence import normalize

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
YARDSTICKS = ("kmeans", "random")
"""Controls that codes may be merged by, the better first."""
MAX_CODES = 4096
"""More are not merged: the matrix of their costs has the square of that."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Codes put together.

    Attributes:
        labels: (V,) number of each code's cluster, from 0.
        share: What it counts for: of two partitions, one just above and one just below the wanted
            perplexity, the shares are such that their mean perplexity is the wanted one.
        perplexity: Of the clusters.
    """

    labels: IntArray
    share: float
    perplexity: float


def create_profiles(table: CodeTable, column: str, codes: IntArray) -> FloatArray | None:
    """Computes what each code stands together with.

    Args:
        table: The code table.
        column: Of the codes.
        codes: (V,) codes in rising order.

    Returns:
        (V, Y) square roots of the shares of the control's codes, over all frames; None where the
        table has no control.
    """
    name = next((one for one in YARDSTICKS if table.groups.get(one)), None)
    if name is None:
        return None
    controls = table.list_columns(name)
    found: list[list[IntArray]] = [[] for _ in controls]
    for part in table.read([column, *controls]):
        code = part[column].to_numpy().astype(np.int64)
        place = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
        known = codes[place] == code
        for triples, control in zip(found, controls, strict=True):
            pairs = np.stack([place[known], part[control].to_numpy()[known]], axis=1)
            unique, counts = np.unique(pairs, axis=0, return_counts=True)
            triples.append(np.column_stack([unique, counts]).astype(np.int64))
    profiles = []
    for triples in found:
        place, other, counts = np.concatenate(triples).T
        together = np.zeros((len(codes), int(other.max(initial=0)) + 1))
        np.add.at(together, (place, other), counts)
        profiles.append(np.sqrt(np.nan_to_num(normalize(together))))
    return np.concatenate(profiles, axis=1) / math.sqrt(len(controls))


def merge_codes(profiles: ArrayLike, frames: ArrayLike, perplexity: float) -> list[Partition]:
    """Merges codes, the two that cost least at a time, until their perplexity is low enough.

    Args:
        profiles: (V, Y), see `create_profiles`.
        frames: (V,) of each code; codes without frames are put to the first cluster.
        perplexity: That is wanted.

    Returns:
        One partition, or the last two with their shares. Where the codes' perplexity is no higher
        than wanted, each code is its own cluster.
    """
    masses = np.asarray(frames, dtype=np.float64)
    labels = np.arange(len(masses), dtype=np.int64)
    current = _compute_perplexity(masses)
    if current <= perplexity * (1 + 1e-9):
        return [Partition(labels=labels, share=1.0, perplexity=current)]
    before = Partition(labels=labels, share=1.0, perplexity=current)
    for first, second in _order_merges(np.asarray(profiles, dtype=np.float64), masses):
        masses = masses.copy()
        masses[first] += masses[second]
        masses[second] = 0.0
        labels = np.where(labels == second, first, labels)
        current = _compute_perplexity(masses)
        if current <= perplexity:
            share = (perplexity - current) / (before.perplexity - current)
            pair = ((before.labels, share, before.perplexity), (labels, 1 - share, current))
            return [
                Partition(labels=_renumber(one), share=part, perplexity=value)
                for one, part, value in pair
                if part > 0
            ]
        before = Partition(labels=labels, share=1.0, perplexity=current)
    return [Partition(labels=_renumber(labels), share=1.0, perplexity=current)]


def _order_merges(points: FloatArray, masses: FloatArray) -> Sequence[tuple[int, int]]:
    """Pairs of clusters in Ward's order; the second is dissolved into the first."""
    masses = masses.copy()
    weights = masses[:, None] * masses / np.maximum(masses[:, None] + masses, 1e-300)
    squares = (points**2).sum(1)
    costs = weights * np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
    np.fill_diagonal(costs, np.inf)
    alive = np.ones(len(masses), dtype=bool)
    nearest = costs.argmin(1)
    lowest = costs[np.arange(len(masses)), nearest]
    merges = []
    for _ in range(len(masses) - 1):
        first = int(lowest.argmin())
        first, second = sorted((first, int(nearest[first])))
        merges.append((first, second))
        a, b, cost = masses[first], masses[second], costs[first, second]
        with np.errstate(invalid="ignore"):
            joined = (a + masses) * costs[first] + (b + masses) * costs[second] - masses * cost
            joined /= np.maximum(a + b + masses, 1e-300)
        masses[first] = a + b
        alive[second] = False
        joined[~alive] = joined[first] = np.inf
        costs[first], costs[:, first] = joined, joined
        costs[second], costs[:, second] = np.inf, np.inf
        lowest[second] = np.inf
        stale = alive & ((nearest == first) | (nearest == second))
        stale[first] = True
        rows = np.flatnonzero(stale)
        nearest[rows] = costs[rows].argmin(1)
        lowest[rows] = costs[rows, nearest[rows]]
        nearer = alive & (joined < lowest)
        nearest[nearer], lowest[nearer] = first, joined[nearer]
    return merges


def _renumber(labels: IntArray) -> IntArray:
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _compute_perplexity(masses: FloatArray) -> float:
    shares = masses[masses > 0] / masses.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
