"""How alike representations are: CKA, SVCCA, distances of centres, and the order of a dendrogram.

CKA and SVCCA compare two sets of vectors row by row. For layers the rows are the same frames; for
languages they are the same phones (`compute_phone_centres`), of which there are few, so that the
debiased CKA has to be taken: the plain one is near 1 for noise when there are fewer rows than
dimensions. numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def compute_cka(first: ArrayLike, second: ArrayLike, *, debiased: bool = True) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414).

    The debiased one puts the unbiased HSIC of Song et al. 2012 (JMLR 13, equation 5) in place of
    the plain one (Nguyen et al. 2021, arXiv 2010.15327); it may fall below 0.

    Args:
        first: (N, D), one row a frame or a phone.
        second: (N, D'), the same rows.
        debiased: Whether to take the bias away; needs 4 rows.

    Returns:
        1 for the same up to rotation, scale and shift, about 0 for unrelated; NaN where one does
        not vary.

    Raises:
        ValueError: Rows do not match, or are too few.
    """
    x, y = _center_pair(first, second)
    if not debiased:
        return _divide(_sum_squares(x.T @ y), _sum_squares(x.T @ x), _sum_squares(y.T @ y))
    if len(x) < 4:
        raise ValueError(f"The debiased CKA needs 4 rows, but there are {len(x)}.")
    return _divide(_compute_hsic(x, y), _compute_hsic(x, x), _compute_hsic(y, y))


def compute_phone_centres(
    vectors: ArrayLike, phones: ArrayLike, languages: ArrayLike
) -> tuple[list[str], list[str], FloatArray]:
    """Mean vector of each phone in each language, for phones that all languages have.

    Args:
        vectors: (N, D) frames.
        phones: (N,) names; "" and "sil" are left out.
        languages: (N,) codes.

    Returns:
        J languages and P phones in order, and (J, P, D).
    """
    values = np.asarray(vectors, dtype=np.float64)
    phone, language = np.asarray(phones, dtype=str), np.asarray(languages, dtype=str)
    names = np.unique(language).tolist()
    common = set.intersection(*(set(phone[language == name].tolist()) for name in names))
    kept = sorted(common - {"", "sil"})
    centres = [
        [values[(language == name) & (phone == one)].mean(0) for one in kept] for name in names
    ]
    return names, kept, np.array(centres).reshape(len(names), len(kept), values.shape[1])


def compute_cka_matrix(centres: ArrayLike) -> FloatArray:
    """Debiased CKA of each language with each other, row by row the same phones.

    Args:
        centres: (J, P, D), of `compute_phone_centres`; P of 4 at least.

    Returns:
        (J, J), 1 on the diagonal.
    """
    values = np.asarray(centres, dtype=np.float64)
    matrix = np.eye(len(values))
    for row, column in zip(*np.triu_indices(len(values), 1), strict=True):
        matrix[row, column] = matrix[column, row] = compute_cka(values[row], values[column])
    return matrix


def compute_centre_distances(vectors: ArrayLike, labels: ArrayLike) -> tuple[list[str], FloatArray]:
    """Distances between the mean vectors of groups, in standard deviations within groups.

    The squared distance of two means is too large by the squared errors of both; they are taken
    off, so that two groups of the same kind are about 0 apart, not farther the smaller they are.

    Args:
        vectors: (N, D), one row an utterance (rows have to be independent).
        labels: (N,) languages, with 2 rows each at least.

    Returns:
        J labels in order and (J, J) distances; 0 where the correction leaves nothing.

    Raises:
        ValueError: A group has one row only.
    """
    values, groups = np.asarray(vectors, dtype=np.float64), np.asarray(labels, dtype=str)
    names, rows, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if (sizes < 2).any():
        raise ValueError(
            f"Each group must have 2 rows, but {str(names[sizes.argmin()])!r} has one."
        )
    means = np.stack([values[rows == place].mean(0) for place in range(len(names))])
    spread = np.bincount(rows, weights=((values - means[rows]) ** 2).sum(1)) / (sizes - 1)
    errors = spread / sizes
    squares = ((means[:, None] - means) ** 2).sum(2) - errors[:, None] - errors
    scale = np.average(spread, weights=sizes - 1)
    distances = np.sqrt(np.maximum(squares, 0.0) / scale) if scale > 0 else np.sqrt(squares)
    np.fill_diagonal(distances, 0.0)
    return names.tolist(), distances


@dataclass(frozen=True, kw_only=True)
class Dendrogram:
    """Groups joined from near to far.

    Attributes:
        merges: (N − 1, 4): the two clusters that are joined (0 … N − 1 are the items, N + i is the
            cluster of row i), their distance, and the size of the new one; scipy's layout.
        order: N items as they stand below the tree.
    """

    merges: FloatArray
    order: list[int]


def link_average(distances: ArrayLike) -> Dendrogram:
    """Clusters by average linkage (UPGMA; Sokal & Michener 1958).

    Args:
        distances: (N, N), symmetric.

    Raises:
        ValueError: The matrix is not square or not symmetric.
    """
    matrix = np.array(distances, dtype=np.float64)
    if matrix.ndim != 2 or not np.allclose(matrix, matrix.T):
        raise ValueError("`distances` must be a symmetric matrix.")
    np.fill_diagonal(matrix, np.inf)
    members = {place: [place] for place in range(len(matrix))}
    names = list(members)  # of the rows of `matrix`
    merges = []
    while len(names) > 1:
        row, column = sorted(np.unravel_index(matrix.argmin(), matrix.shape))
        first, second = sorted((names[row], names[column]))
        sizes = len(members[names[row]]), len(members[names[column]])
        merges.append((first, second, matrix[row, column], sum(sizes)))
        joined = (sizes[0] * matrix[row] + sizes[1] * matrix[column]) / sum(sizes)
        matrix[row], matrix[:, row] = joined, joined
        matrix[row, row] = np.inf
        name = len(members)
        members[name] = members[first] + members[second]
        names[row] = name
        del names[column]
        matrix = np.delete(np.delete(matrix, column, 0), column, 1)
    order = members[len(members) - 1] if members else []
    return Dendrogram(merges=np.array(merges).reshape(-1, 4), order=order)


def _center_pair(first: ArrayLike, second: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            "Both must have the same rows, two at least, but their shapes are "
            f"{x.shape} and {y.shape}."
        )
    return x - x.mean(0), y - y.mean(0)


def _compute_hsic(x: FloatArray, y: FloatArray) -> float:
    """Unbiased HSIC of linear kernels without their diagonals, from (N, D) without the (N, N)."""
    size = len(x)
    own_x, own_y = (x * x).sum(1), (y * y).sum(1)  # the diagonals
    rows_x, rows_y = x @ x.sum(0) - own_x, y @ y.sum(0) - own_y
    trace = _sum_squares(x.T @ y) - float(own_x @ own_y)
    both = float(rows_x.sum() * rows_y.sum()) / ((size - 1) * (size - 2))
    mixed = 2 * float(rows_x @ rows_y) / (size - 2)
    return (trace + both - mixed) / (size * (size - 3))


def _sum_squares(values: FloatArray) -> float:
    return float(np.square(values).sum())


def _divide(joint: float, first: float, second: float) -> float:
    return joint / float(np.sqrt(first * second)) if first > 0 and second > 0 else float("nan")
