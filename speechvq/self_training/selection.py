"""Which labels are kept: every criterion must hold, and of the rest the surest come first.

The surest are those of the highest mean confidence: it ranks labels better than the agreement of
two decodings, and than the product of both (docs/self_training.md).

Filters and shares after Kahn et al. 2020 (Self-training for end-to-end speech recognition,
filters by length and confidence), and Park et al. 2020 (Improved noisy student training
for automatic speech recognition: a filter that opens from generation to generation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from speechvq.data.index import CorpusIndex
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.alignment import Unit, count_edits, split_units
from speechvq.models.vocabulary import Vocabulary
from speechvq.self_training.config import SelfTrainConfig
from speechvq.self_training.recognition import Recognition


class Reason(StrEnum):
    """Why a label is not kept."""

    NOTHING = "nothing was recognised"
    UNKNOWN_LETTER = "a letter that the transcribed speech lacks"
    TOO_SLOW = "fewer letters a second than people speak"
    TOO_FAST = "more letters a second than people speak"
    UNSURE = "letters of low confidence"
    UNSURE_WORD = "a word of low confidence"
    DISAGREEMENT = "the two decodings differ"
    IMPROBABLE = "improbable text"
    BELOW_SHARE = "less sure than the share that is kept"


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Floors and ranges.

    Attributes:
        min_confidence: Least mean confidence of letters.
        min_word_confidence: Least confidence of any word.
        min_agreement: Least agreement of two decodings.
        min_lm_score: Least log-probability a letter; None without a language model.
        min_rate: Fewest letters a second.
        max_rate: Most letters a second.
        vocabulary: Of the transcribed text.
    """

    min_confidence: float
    min_word_confidence: float
    min_agreement: float
    min_lm_score: float | None
    min_rate: float
    max_rate: float
    vocabulary: Vocabulary

    def describe(self) -> dict[str, float | None]:
        """Return all but the vocabulary."""
        return {key: value for key, value in vars(self).items() if key != "vocabulary"}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What became of one segment's label.

    Attributes:
        recognition: The label.
        seconds: Length of the segment.
        letters_per_second: Its letters over that.
        agreement: Share of letters that both decodings have in common; 1 without a second one.
        reason: Why it is not kept; None if it is.
    """

    recognition: Recognition
    seconds: float
    letters_per_second: float
    agreement: float
    reason: Reason | None

    @property
    def is_kept(self) -> bool:
        """Whether the next recogniser learns from it."""
        return self.reason is None


def create_criteria(
    config: SelfTrainConfig, transcribed: CorpusIndex, vocabulary: Vocabulary
) -> Criteria:
    """Return the criteria of a run.

    Args:
        config: Floors.
        transcribed: With texts; says how many letters a second people speak.
        vocabulary: Of these texts.
    """
    assert transcribed.texts is not None
    letters = np.array([len(split_units(text, Unit.LETTER)) for text in transcribed.texts])
    low, high = np.quantile(letters * SAMPLE_RATE / transcribed.num_samples, (0.01, 0.99))
    floor = config.min_lm_score
    if config.lm is not None and floor is None:
        floor = -float(np.log(len(vocabulary)))  # letters drawn evenly
    return Criteria(
        min_confidence=config.min_confidence,
        min_word_confidence=config.min_word_confidence,
        min_agreement=config.min_agreement,
        min_lm_score=floor,
        min_rate=float(low) / config.rate_margin,
        max_rate=float(high) * config.rate_margin,
        vocabulary=vocabulary,
    )


def decide(
    recognitions: Sequence[Recognition],
    seconds: Mapping[str, float],
    criteria: Criteria,
    keep_share: float,
) -> list[Decision]:
    """Decide about labels.

    Args:
        recognitions: The labels of all segments.
        seconds: Length of each segment, by id.
        criteria: What must hold.
        keep_share: Share of all audio that is kept at most, the surest labels first.

    Returns:
        One decision each, in the same order.
    """
    agreements = compute_agreements(recognitions)
    decisions = []
    for one, agreement in zip(recognitions, agreements, strict=True):
        rate = len(split_units(one.text, Unit.LETTER)) / seconds[one.id]
        decisions.append(
            Decision(
                recognition=one,
                seconds=seconds[one.id],
                letters_per_second=rate,
                agreement=agreement,
                reason=_find_reason(one, rate, agreement, criteria),
            )
        )
    return _keep_share(decisions, keep_share * sum(one.seconds for one in decisions))


def compute_agreements(recognitions: Sequence[Recognition]) -> list[float]:
    """Return the share of letters that both decodings have in common, 0 to 1."""
    pairs = [(one.text, one.text if one.second_text is None else one.second_text)
             for one in recognitions]  # fmt: skip
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    edits = count_edits(firsts, seconds, Unit.LETTER).errors
    lengths = [max(len(split_units(a, Unit.LETTER)), len(split_units(b, Unit.LETTER)), 1)
               for a, b in pairs]  # fmt: skip
    return [max(0.0, 1 - int(e) / n) for e, n in zip(edits, lengths, strict=True)]


def meets(decision: Decision, decisions: Sequence[Decision]) -> bool:
    """Tell whether another segment would have been kept beside those that were decided about.

    Args:
        decision: Of a segment that was not in the choice, decided about with a share of 1.
        decisions: Those that were.
    """
    kept = (one.recognition.confidence for one in decisions if one.is_kept)
    return decision.is_kept and decision.recognition.confidence >= min(kept, default=np.inf)


def _find_reason(
    one: Recognition, rate: float, agreement: float, criteria: Criteria
) -> Reason | None:
    checks = {
        Reason.NOTHING: not one.text,
        Reason.UNKNOWN_LETTER: bool(criteria.vocabulary.unknown_characters(one.text)),
        Reason.TOO_SLOW: rate < criteria.min_rate,
        Reason.TOO_FAST: rate > criteria.max_rate,
        Reason.UNSURE: one.confidence < criteria.min_confidence,
        Reason.UNSURE_WORD: one.min_word_confidence < criteria.min_word_confidence,
        Reason.DISAGREEMENT: agreement < criteria.min_agreement,
        Reason.IMPROBABLE: (
            one.lm_score is not None
            and criteria.min_lm_score is not None
            and one.lm_score < criteria.min_lm_score
        ),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _keep_share(decisions: list[Decision], max_seconds: float) -> list[Decision]:
    """Keep the surest, up to so much audio."""
    recognitions = [one.recognition for one in decisions]
    left = max_seconds
    order = sorted(
        (row for row, one in enumerate(decisions) if one.is_kept),
        key=lambda row: (-recognitions[row].confidence, recognitions[row].id),
    )
    for position, row in enumerate(order):
        left -= decisions[row].seconds
        if left < -1e-6:
            for late in order[position:]:
                decisions[late] = replace(decisions[late], reason=Reason.BELOW_SHARE)
            break
    return decisions
