"""The same recognition scored under several normalisers, side by side.

What a normaliser does can move an error rate more than a better model does. So every evaluation
shows next to its own score what it would have been with fewer rules and with more. The headline is
always that of the configured normaliser.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import regex

from speechvq.data.text import TextNormalizer, VerbatimTextNormalizer
from speechvq.decoding.alignment import Unit, count_edits
from speechvq.decoding.spelling_variants import IDENTIFIER as TOLERANT
from speechvq.decoding.spelling_variants import is_tolerant_of, write_tolerantly
from speechvq.models.vocabulary import UNKNOWN_TEXT

WARNING_CHANGE = 0.1
"""A variant that changes a rate by more than this share is told about."""
_PUNCTUATION = regex.compile(r"(?<=[\p{L}\p{M}])['\u2019](?=[\p{L}])(*SKIP)(*FAIL)|[\p{P}\p{S}]")


class NoPunctuationNormalizer:
    """NFC and single spaces, with a space for each punctuation mark and symbol; apostrophes within
    words, capitals and invisible characters stay.
    """

    name = "no_punctuation"
    version = 1

    @property
    def identifier(self) -> str:
        """`no_punctuation-1`."""
        return f"{self.name}-{self.version}"

    def __call__(self, text: str, language: str | None = None) -> str:
        """Returns the normalised text; see `speechvq.data.text.TextNormalizer`."""
        return " ".join(_PUNCTUATION.sub(" ", unicodedata.normalize("NFC", text)).split())


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """Both sides of one utterance, as they came and as they are scored.

    Attributes:
        language: `hin_Deva`.
        transcript: The reference as it was before normalisation; None where it is not kept.
        prepared: The reference as the corpus has it.
        recognized: What the recogniser wrote.
        reference: Normalised as configured.
        hypothesis: Normalised as configured.
    """

    language: str
    transcript: str | None
    prepared: str
    recognized: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, kw_only=True)
class ScoreVariant:
    """Error rates under one normaliser.

    Attributes:
        name: `configured`, `plain`, `no_punctuation` or `tolerant`.
        normalizer: Versioned identifier.
        references: What it was applied to: `as they came` or `as prepared`.
        wer: Word error rate; None without reference words.
        cer: Character error rate, with spaces.
        wer_change: Share by which it changes the configured one's word error rate; None where that
            is not defined.
        cer_change: The same for the character error rate.
        reason: What makes the change; "" up to `WARNING_CHANGE`.
    """

    name: str
    normalizer: str
    references: str
    wer: float | None
    cer: float | None
    wer_change: float | None
    cer_change: float | None
    reason: str

    @property
    def is_warning(self) -> bool:
        """Whether the variant changes a rate by more than `WARNING_CHANGE`."""
        changes = (self.wer_change, self.cer_change)
        return any(one is not None and abs(one) > WARNING_CHANGE for one in changes)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `metrics.json`."""
        return asdict(self)


def normalize_hypothesis(text: str, normalizer: TextNormalizer, language: str) -> str:
    """Normalises what a model wrote; its sign for an unknown letter stays, and stays an error."""
    if UNKNOWN_TEXT not in text:
        return normalizer(text, language)
    words = (
        UNKNOWN_TEXT.join(normalizer(part, language) for part in word.split(UNKNOWN_TEXT))
        for word in text.split()
    )
    return " ".join(words)


def score_variants(texts: Sequence[ScoredText], normalizer: str) -> list[ScoreVariant]:
    """Scores utterances under every variant, the configured one first.

    `plain` is NFC and single spaces and `no_punctuation` drops punctuation besides: both are
    applied to the transcripts as they came where the corpus keeps all of them, else to the prepared
    ones, which the corpus' own normaliser has been through. `tolerant` comes on top of the
    configured one, where there is a language that it has rules for.

    Args:
        texts: At least one.
        normalizer: Identifier of the configured normaliser.
    """
    kept = all(one.transcript is not None for one in texts)
    basis = "as they came" if kept else "as prepared"
    base = _measure(
        "configured", normalizer, "as prepared", [(one.reference, one.hypothesis) for one in texts]
    )
    variants = [base]
    for rules in (VerbatimTextNormalizer(), NoPunctuationNormalizer()):
        pairs = [
            (
                rules(one.prepared if one.transcript is None or not kept else one.transcript,
                      one.language),
                normalize_hypothesis(one.recognized, rules, one.language),
            )
            for one in texts
        ]  # fmt: skip
        name = "plain" if rules.name == "verbatim" else rules.name
        variants.append(_measure(name, rules.identifier, basis, pairs, base))
    if any(is_tolerant_of(one.language) for one in texts):
        pairs = [
            (
                write_tolerantly(one.reference, one.language),
                write_tolerantly(one.hypothesis, one.language),
            )
            for one in texts
        ]
        identifier = f"{normalizer}+{TOLERANT}"
        variants.append(_measure("tolerant", identifier, "as prepared", pairs, base))
    return variants


def _measure(
    name: str,
    identifier: str,
    references: str,
    pairs: Sequence[tuple[str, str]],
    base: ScoreVariant | None = None,
) -> ScoreVariant:
    said, heard = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rates: list[float | None] = []
    for unit in (Unit.WORD, Unit.CHARACTER):
        counts = count_edits(said, heard, unit)
        total = int(counts.reference_lengths.sum())
        rates.append(int(counts.errors.sum()) / total if total else None)
    variant = ScoreVariant(
        name=name,
        normalizer=identifier,
        references=references,
        wer=rates[0],
        cer=rates[1],
        wer_change=_compute_change(base.wer if base else None, rates[0]),
        cer_change=_compute_change(base.cer if base else None, rates[1]),
        reason="",
    )
    return replace(variant, reason=_explain(name, said, heard)) if variant.is_warning else variant


def _compute_change(before: float | None, after: float | None) -> float | None:
    return after / before - 1 if before and after is not None else None


def _explain(name: str, said: Sequence[str], heard: Sequence[str]) -> str:
    if name == "tolerant":
        return (
            "Spellings that are used side by side (nuktas, chandrabindu, nasals before stops, "
            "joiners, digits) count as one: so much of the rate is spelling, or is taken for it."
        )
    kinds = [("capital letters", r"[\p{Lu}\p{Lt}]"), ("invisible characters", r"\p{Cf}")]
    if name == "plain":
        kinds.insert(0, ("punctuation marks and symbols", r"[\p{P}\p{S}]"))
    found = []
    for label, pattern in kinds:
        letters = regex.compile(pattern)
        counts = [
            sum(len(letters.findall(text.replace(UNKNOWN_TEXT, ""))) for text in side)
            for side in (said, heard)
        ]
        if counts[0] != counts[1]:
            found.append(f"{counts[0]:,} {label} (hypotheses: {counts[1]:,})")
    if not found:
        return "The transcripts are spelled otherwise than the configured normaliser spells them."
    return f"The references have {' and '.join(found)}."
