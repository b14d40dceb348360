"""Code tables made so that the answer is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_counts import CodeCounts, count_codes

Assign = Callable[[str, str, int], NDArray[np.float64]]
"""(language, source, phone) to the probabilities of the codes."""


def create_columns(
    rng: np.random.Generator,
    languages: Mapping[str, Mapping[str, int]],
    assign: Assign,
    *,
    num_phones: int = 6,
    utterances: int = 2,
    frames: int = 12,
    concentration: float = 30.0,
) -> dict[str, NDArray]:
    """Columns of a code table.

    Args:
        rng: Source of everything.
        languages: Speakers by language and source.
        assign: Probabilities of codes.
        num_phones: Phones of each language, "p0", "p1", …
        utterances: Of each speaker.
        frames: Of each phone in each utterance.
        concentration: Of the Dirichlet distribution that each speaker's probabilities are drawn
            from: the lower, the more speakers differ.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    codes: list[NDArray[np.int64]] = []
    for language, sources in languages.items():
        for source, num_speakers in sources.items():
            for speaker in range(num_speakers):
                name = f"{language}-{source}-{speaker}"
                own = [
                    rng.dirichlet(concentration * assign(language, source, phone) + 1e-6)
                    for phone in range(num_phones)
                ]
                for utterance in range(utterances):
                    for phone in range(num_phones):
                        row = (f"{name}-{utterance}", language, name, source, f"p{phone}")
                        rows += [row] * frames
                        codes.append(rng.choice(len(own[phone]), size=frames, p=own[phone]))
    columns = dict(
        zip(("utterance", "language", "speaker", "source", "phone"), np.array(rows).T, strict=True)
    )
    return {**columns, "codes": np.concatenate(codes)}


def create_counts(*args: object, **settings: object) -> CodeCounts:
    """The same, counted."""
    return count_codes(**create_columns(*args, **settings))  # type: ignore[arg-type]


def assign_shared(num_codes: int = 24, width: int = 4) -> Assign:
    """Each phone has codes of its own, whatever the language and the source."""
    return lambda language, source, phone: _block(num_codes, width, phone)


def assign_by_language(names: list[str], num_codes: int = 48, width: int = 4) -> Assign:
    """Each phone has codes of its own in each language: nothing is shared."""
    return lambda language, source, phone: _block(
        num_codes, width, phone + num_codes // width // 2 * names.index(language)
    )


def assign_by_source(names: list[str], num_codes: int = 48, width: int = 4) -> Assign:
    """Each phone has codes of its own in each source; language makes no difference."""
    return lambda language, source, phone: _block(
        num_codes, width, phone + num_codes // width // 2 * names.index(source)
    )


def assign_nothing(num_codes: int = 24) -> Assign:
    """Codes without meaning."""
    return lambda language, source, phone: np.full(num_codes, 1 / num_codes)


def mix(first: Assign, second: Assign, share: float) -> Assign:
    """`share` of the first, the rest of the second; both over as many codes."""
    return lambda *key: share * first(*key) + (1 - share) * second(*key)


def _block(num_codes: int, width: int, place: int) -> NDArray[np.float64]:
    probs = np.zeros(num_codes)
    start = place * width % num_codes
    probs[start : start + width] = 1 / width
    return probs
