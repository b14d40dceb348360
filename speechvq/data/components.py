"""Connected components of a large graph, by numpy alone: which rows must stay together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def find_components(num_nodes: int, edges: Integers) -> Integers:
    """Returns the smallest node of each node's component, int64 (N,).

    Args:
        num_nodes: N.
        edges: Pairs of nodes, int64 (E, 2).
    """
    parent = np.arange(num_nodes, dtype=np.int64)
    first, second = edges[:, 0], edges[:, 1]
    while True:
        low = np.minimum(parent[first], parent[second])
        before = parent.copy()
        np.minimum.at(parent, parent[first], low)
        np.minimum.at(parent, parent[second], low)
        while True:
            jumped = parent[parent]
            if np.array_equal(jumped, parent):
                break
            parent = jumped
        if np.array_equal(parent, before):
            return parent


def encode_pairs(first: Integers, second: Integers) -> tuple[Integers, int]:
    """Numbers the distinct pairs of two columns.

    Returns:
        The number of each row's pair, int64 (N,), and how many there are.
    """
    if len(first) == 0:
        return np.zeros(0, np.int64), 0
    span = int(second.max()) + 2
    _, numbers = np.unique(first * span + second + 1, return_inverse=True)
    return numbers.astype(np.int64), int(numbers.max()) + 1
