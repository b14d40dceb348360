"""What a beam search found: n-best texts, their posteriors, confidences of words, oracle errors.

Both searches (`speechvq.decoding.prefix_beam`, `speechvq.decoding.flashlight_search`) give
`Hypothesis` lists, best first; `speechvq.deploy` takes the first and reports on the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from speechvq.decoding.alignment import Unit, align, count_edits


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One text that a search found.

    Attributes:
        text: Words with single spaces.
        score: Natural logarithm: acoustics and weighted language model together.
        language_score: The share of the language model and of word scores in it.
    """

    text: str
    score: float
    language_score: float


EMPTY = Hypothesis(text="", score=0.0, language_score=0.0)
"""What silence is: no words, and nothing to weigh them against."""


def merge_hypotheses(found: Iterable[Hypothesis], num_best: int) -> list[Hypothesis]:
    """Joins hypotheses of one text, adding their probabilities, and returns the best ones.

    Args:
        found: In any order.
        num_best: How many to keep.

    Returns:
        At most `num_best` different texts, best first; equal scores in the order of their texts.
    """
    merged: dict[str, Hypothesis] = {}
    for one in found:
        other = merged.get(one.text)
        if other is not None:
            best = max(one, other, key=lambda each: each.score)
            one = replace(best, score=float(np.logaddexp(one.score, other.score)))
        merged[one.text] = one
    return sorted(merged.values(), key=lambda one: (-one.score, one.text))[:num_best]


def compute_posteriors(hypotheses: Sequence[Hypothesis]) -> NDArray[np.float64]:
    """Returns (H,) shares of the hypotheses in the probability of all of them."""
    scores = np.array([one.score for one in hypotheses], dtype=np.float64)
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


def compute_word_confidences(hypotheses: Sequence[Hypothesis]) -> list[float]:
    """Returns how sure the search is of each word of its best hypothesis, in [0, 1].

    A word's confidence is the posterior of all hypotheses that have it in the same place, place
    meaning a best alignment of their words with those of the best hypothesis (Evermann & Woodland
    2000, "Large vocabulary decoding and confidence estimation using word posterior
    probabilities", on n-best lists instead of lattices). What the search never saw counts as
    impossible, so that short lists make for high confidences.

    Args:
        hypotheses: Best first.
    """
    if not hypotheses or not hypotheses[0].text:
        return []
    best = hypotheses[0].text
    confidences = np.zeros(len(best.split()))
    for one, posterior in zip(hypotheses, compute_posteriors(hypotheses), strict=True):
        position = 0
        for said, heard in align(best, one.text, Unit.WORD):
            if said is None:
                continue
            confidences[position] += posterior * (said == heard)
            position += 1
    return [min(1.0, float(value)) for value in confidences]


def choose_oracle(reference: str, texts: Sequence[str], unit: Unit) -> int:
    """Returns the position of the text with the fewest errors, the first of equals.

    Args:
        reference: What was said.
        texts: The n-best, at least one.
        unit: What is counted.
    """
    return int(count_edits([reference] * len(texts), texts, unit).errors.argmin())
