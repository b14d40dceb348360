"""Whether confidences keep their word: of the words that get 0.8, are eight in ten right?

Takes confidences of recognised words and whether alignment with the reference finds them right.
Expected calibration error after Guo et al. 2017, "On calibration of modern neural networks",
section 2; normalised cross entropy as NIST's scoring tools define it (Siu & Gish 1999, "Evaluation
of word confidence for speech recognition systems").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechvq.decoding.alignment import Unit, align
from speechvq.decoding.bootstrap import SEED, FloatArray

NUM_BINS = 15
_NUM_DRAWS = 200
_LEAST = 1e-7  # a word that is wrong with confidence 1 would cost infinitely many bits


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """The words of one bin of confidences.

    Attributes:
        low: Lower edge; belongs to the bin above 0.
        high: Upper edge; belongs to the next bin, but 1 to the last.
        num_words: Words in it.
        confidence: Their mean confidence; None without words.
        accuracy: The share of them that is right; None without words.
    """

    low: float
    high: float
    num_words: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well the confidences of W words foretell which of them are right.

    Attributes:
        num_words: Recognised words that have a confidence.
        num_correct: Those that are right.
        mean_confidence: Over all of them.
        accuracy: Share of them that is right.
        ece: Expected calibration error: the mean distance of confidence and accuracy over the bins,
            each with the weight of its words. 0 at best.
        ece_noise: What 95 of 100 perfectly calibrated systems with these confidences stay below:
            an `ece` under it shows nothing.
        nce: Normalised cross entropy: 1 at best, 0 where confidences say no more than the mean
            does, below 0 where they mislead; None where all words are right, or none is.
        bins: `NUM_BINS` bins of one width.
    """

    num_words: int
    num_correct: int
    mean_confidence: float
    accuracy: float
    ece: float
    ece_noise: float
    nce: float | None
    bins: tuple[CalibrationBin, ...]


def find_correct_words(reference: str, hypothesis: str) -> list[bool]:
    """Returns of each word of the hypothesis whether a best alignment finds it in the reference.

    Args:
        reference: What was said, normalised.
        hypothesis: What was recognised, normalised in the same way.
    """
    pairs = align(reference, hypothesis, Unit.WORD)
    return [said == heard for said, heard in pairs if heard is not None]


def compute_calibration(
    confidences: ArrayLike, correct: ArrayLike, *, num_bins: int = NUM_BINS, seed: int = SEED
) -> Calibration | None:
    """Compares confidences with what is right; None without words.

    Args:
        confidences: (W,) within 0 to 1.
        correct: (W,) whether the word is right.
        num_bins: Bins of one width.
        seed: Seed of the draws behind `ece_noise`.

    Raises:
        ValueError: A confidence is outside 0 to 1.
    """
    given = np.asarray(confidences, dtype=np.float64)
    right = np.asarray(correct, dtype=bool)
    if given.shape != right.shape or given.ndim != 1:
        raise ValueError(
            f"There must be one confidence a word, but their shapes are {given.shape} and "
            f"{right.shape}."
        )
    if not len(given):
        return None
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("Confidences must be within 0 to 1.")
    places = np.minimum((given * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(places, minlength=num_bins)
    sums = np.bincount(places, weights=given, minlength=num_bins)
    hits = np.bincount(places, weights=right, minlength=num_bins)
    rng = np.random.default_rng(seed)
    draws = [
        np.bincount(places, weights=rng.random(len(given)) < given, minlength=num_bins)
        for _ in range(_NUM_DRAWS)
    ]
    noise = [np.abs(sums - drawn).sum() / len(given) for drawn in draws]
    return Calibration(
        num_words=len(given),
        num_correct=int(right.sum()),
        mean_confidence=float(given.mean()),
        accuracy=float(right.mean()),
        ece=float(np.abs(sums - hits).sum() / len(given)),
        ece_noise=float(np.percentile(noise, 95)),
        nce=_compute_normalized_cross_entropy(given, right),
        bins=tuple(
            CalibrationBin(
                low=place / num_bins,
                high=(place + 1) / num_bins,
                num_words=int(count),
                confidence=float(sums[place] / count) if count else None,
                accuracy=float(hits[place] / count) if count else None,
            )
            for place, count in enumerate(counts)
        ),
    )


def _compute_normalized_cross_entropy(given: FloatArray, right: NDArray[np.bool_]) -> float | None:
    share = right.mean()
    if share in (0.0, 1.0):
        return None
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    clipped = np.clip(given, _LEAST, 1 - _LEAST)
    cost = -np.where(right, np.log2(clipped), np.log2(1 - clipped)).mean()
    return float((entropy - cost) / entropy)


def collect_words(
    utterances: Iterable[tuple[str, str, tuple[float, ...] | None]],
) -> tuple[list[float], list[bool], int]:
    """Collects the words of utterances for `compute_calibration`.

    Args:
        utterances: Reference, hypothesis, and the confidences of the hypothesis' words, or None
            where they are not known.

    Returns:
        The confidences, whether the words are right, and how many words have no confidence.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    num_unknown = 0
    for reference, hypothesis, given in utterances:
        found = find_correct_words(reference, hypothesis)
        if given is None or len(given) != len(found):
            num_unknown += len(found)
            continue
        confidences += given
        correct += found
    return confidences, correct, num_unknown
