"""Do two models that differ in their seed have the same codes? Codes of one place are matched by
how often they are active together on dev (Hungarian method), and compared on test.

Heads have no order: those of the two models are matched first, by the mutual information of their
most similar codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.concept_null import IntArray
from speechvq.errors import MissingDependencyError

FloatArray = NDArray[np.float64]
NUM_RANDOM_MATCHINGS = 100
_CHUNK_FRAMES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class SeedAgreement:
    """How far two codebooks agree.

    Attributes:
        head: Of the first model.
        second_head: Of the second model, matched with it.
        agreement: Share of the first one's active codes (test) whose match is active as well.
        random_agreement: The same of random matchings of the used codes, mean.
        num_compared: Matched codes that both have frames with phones on test.
        same_phone: Share of them with the same most frequent phone; None without phones.
        random_same_phone: The same of random matchings, mean.
    """

    head: int
    second_head: int
    agreement: float
    random_agreement: float
    num_compared: int
    same_phone: float | None
    random_same_phone: float | None


def match_places(
    dev: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]],
    *,
    num_codes: int,
    phones: IntArray | None,
    num_phones: int,
    seed: int,
) -> list[SeedAgreement]:
    """Compares all codebooks of one place.

    Args:
        dev: (N, G, k) codes of the two models on dev.
        test: The same on test.
        num_codes: V.
        phones: (N,) of test; below 0 where there is none. None: none at all.
        num_phones: P.
        seed: Of random matchings.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    rng = np.random.default_rng(seed)
    first, second = (np.asarray(one) for one in dev)
    num_heads = first.shape[1]
    information = np.zeros((num_heads, num_heads))
    for a in range(num_heads):
        for b in range(num_heads):
            pairs = count_together(first[:, a, :1], second[:, b, :1], num_codes)
            information[a, b] = _compute_information(pairs)
    heads = _match(information)
    found = []
    for head, other in enumerate(heads.tolist()):
        together = count_together(first[:, head], second[:, other], num_codes)
        matching = _match(together)
        on_test = [np.asarray(one[:, h]) for one, h in zip(test, (head, other), strict=True)]
        found.append(
            _compare(head, other, matching, together, on_test, num_codes, phones, num_phones, rng)
        )
    return found


def count_together(first: NDArray[Any], second: NDArray[Any], num_codes: int) -> IntArray:
    """Counts frames in which a code of the first and one of the second model are active.

    Args:
        first: (N, k) codes, each once in a frame.
        second: The same of the other model.
        num_codes: V.

    Returns:
        (V, V).
    """
    counts = np.zeros(num_codes * num_codes, dtype=np.int64)
    for begin in range(0, len(first), _CHUNK_FRAMES):
        part = slice(begin, begin + _CHUNK_FRAMES)
        pairs = first[part, :, None].astype(np.int64) * num_codes + second[part, None, :]
        counts += np.bincount(pairs.reshape(-1), minlength=len(counts))
    return counts.reshape(num_codes, num_codes)


def _match(worth: NDArray[Any]) -> IntArray:
    """The one-to-one matching of the largest sum: for each row its column."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise MissingDependencyError("scipy", "prep", "match codes of two models") from None
    return np.asarray(linear_sum_assignment(worth, maximize=True)[1], dtype=np.int64)


def _compare(
    head: int,
    other: int,
    matching: IntArray,
    on_dev: IntArray,
    test: list[NDArray[Any]],
    num_codes: int,
    phones: IntArray | None,
    num_phones: int,
    rng: np.random.Generator,
) -> SeedAgreement:
    together = count_together(test[0], test[1], num_codes)
    fired = np.bincount(test[0].reshape(-1), minlength=num_codes).sum()
    used = np.flatnonzero(on_dev.sum(1) > 0)  # codes whose match means something
    tables = [_count_phones(one, phones, num_codes, num_phones) for one in test]

    def measure(columns: IntArray) -> tuple[float, int, float]:
        agreement = together[used, columns].sum() / max(1, fired)
        seen = (tables[0][used].sum(1) > 0) & (tables[1][columns].sum(1) > 0)
        same = tables[0][used].argmax(1) == tables[1][columns].argmax(1)
        return float(agreement), int(seen.sum()), float(same[seen].mean()) if seen.any() else 0.0

    agreement, num_compared, same = measure(matching[used])
    random = np.array(
        [measure(rng.permutation(matching[used])) for _ in range(NUM_RANDOM_MATCHINGS)]
    )
    has_phones = phones is not None and num_compared > 0
    return SeedAgreement(
        head=head,
        second_head=other,
        agreement=agreement,
        random_agreement=float(random[:, 0].mean()),
        num_compared=num_compared,
        same_phone=same if has_phones else None,
        random_same_phone=float(random[:, 2].mean()) if has_phones else None,
    )


def _count_phones(
    codes: NDArray[Any], phones: IntArray | None, num_codes: int, num_phones: int
) -> IntArray:
    """(V, P) frames."""
    if phones is None or not num_phones:
        return np.zeros((num_codes, 1), dtype=np.int64)
    known = phones >= 0
    pairs = codes[known].astype(np.int64) * num_phones + phones[known, None]
    counts = np.bincount(pairs.reshape(-1), minlength=num_codes * num_phones)
    return counts.reshape(num_codes, num_phones)


def _compute_information(counts: IntArray) -> float:
    """Mutual information, nats."""
    joint = counts / max(1, counts.sum())
    expected = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / expected[seen])).sum())
