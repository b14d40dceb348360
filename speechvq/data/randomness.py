"""Random numbers without memory: each draw is a function of what it is for (DESIGN.md D5).

A crop, a mask, a sample order never depends on how many numbers were drawn before it, so workers,
prefetching, a resumed run and another number of ranks change nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np


def create_generator(*key: int | str) -> np.random.Generator:
    """Create the random generator that belongs to a key.

    Args:
        *key: What the numbers are for, such as `(seed, "crop", epoch, utterance_id)`.

    Returns:
        A Philox generator seeded with a 128-bit hash of the key: the same on every platform.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype="<u8")))
