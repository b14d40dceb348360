"""Code tables of two models on the same speech, whose difference is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_table import CODES_FILE, CodeTableWriter, UtteranceFrames

NUM_PHONES = 8
Name = Callable[[np.random.Generator, NDArray[np.int64]], NDArray[np.int64]]
"""(source of randomness, phones) to codes."""


def name_phones(share: float, splits: int = 1) -> Name:
    """Codes that are the phone for a share of frames, else any; each split into several at random,
    which says nothing but raises the perplexity.
    """

    def draw(rng: np.random.Generator, phones: NDArray[np.int64]) -> NDArray[np.int64]:
        random = rng.integers(0, NUM_PHONES, len(phones))
        codes = np.where(rng.random(len(phones)) < share, phones, random)
        return codes * splits + rng.integers(0, splits, len(phones))

    return draw


_CONTROL = name_phones(0.8, 2)


def write_table(
    directory: Path,
    name: Name,
    *,
    seed: int,
    speakers: int = 10,
    utterances: int = 3,
    frames: int = 120,
    has_control: bool = True,
    speech_seed: int = 0,
) -> Path:
    """Writes `codes.parquet`; phones depend on `speech_seed` alone."""
    directory.mkdir(parents=True, exist_ok=True)
    speech, rng = np.random.default_rng(speech_seed), np.random.default_rng(seed)
    groups = {"group": 1} | ({"kmeans": 1} if has_control else {})
    with CodeTableWriter(directory / CODES_FILE, groups) as writer:
        for number in range(speakers * utterances):
            phones = speech.integers(0, NUM_PHONES, frames)
            codes = {"group": name(rng, phones)[:, None]}
            if has_control:
                codes["kmeans"] = _CONTROL(np.random.default_rng(number), phones)[:, None]
            writer.add(
                [
                    UtteranceFrames(
                        utterance=f"u{number}",
                        language=("hin_Deva", "kan_Knda")[number % 2],
                        speaker=f"s/{number // utterances}",
                        source="s",
                        recording=f"r{number}",
                        times=np.arange(frames, dtype=np.float32),
                        codes=codes,
                        phones=[f"p{one}" if one else None for one in phones],
                    )
                ]
            )
    return directory / CODES_FILE
