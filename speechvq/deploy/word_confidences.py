"""Texts of a batch with the confidence of each word, at the cost of one pass through the model.

A word's confidence is that of `speechvq.deploy.words`: the product of its labels' probabilities on
the best path of the text. `speechvq.deploy.evaluation` compares it with what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from speechvq.data.audio import Waveform
from speechvq.decoding.forced_alignment import LabelSpan, align_spans, find_spans
from speechvq.decoding.greedy import decode_best_path
from speechvq.decoding.hypotheses import Hypothesis
from speechvq.deploy.recognizer import Recognizer
from speechvq.deploy.words import TimedLabel, WordBuilder
from speechvq.models.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Recognized:
    """What was recognised in one utterance.

    Attributes:
        text: As `Recognizer.recognize` gives it.
        confidences: Of each word of the text; None where the words of the alignment are not those
            of the text.
        n_best: What a beam search found, best first; empty for greedy decoding.
    """

    text: str
    confidences: tuple[float, ...] | None
    n_best: list[Hypothesis] = field(default_factory=list)


def recognize_with_confidences(
    recognizer: Recognizer, waveforms: Sequence[Waveform], language: str
) -> list[Recognized]:
    """Recognises a batch by the recogniser's decoder of a language.

    Args:
        recognizer: Model and decoders.
        waveforms: B arrays (S_b,) at 16 kHz in [-1, 1].
        language: The head to use.

    Returns:
        B results.
    """
    vocabulary = recognizer.model.vocabularies[language]
    decoder = recognizer.decoders.get(language)
    results = []
    for row in recognizer.compute_log_probs(waveforms, language):
        n_best = [] if decoder is None else decoder.decode(row)
        text = n_best[0].text if n_best else decode_best_path(row, vocabulary)
        spans = (
            find_spans(row, row.argmax(dim=-1))
            if decoder is None
            else align_spans(row, vocabulary.encode(text)) or []
        )
        confidences = compute_confidences(spans, text, vocabulary)
        results.append(Recognized(text=text, confidences=confidences, n_best=n_best))
    return results


def compute_confidences(
    spans: Sequence[LabelSpan], text: str, vocabulary: Vocabulary
) -> tuple[float, ...] | None:
    """Returns the confidence of each word of a text; None where the labels spell other words.

    Args:
        spans: The labels of the text.
        text: Words with single spaces.
        vocabulary: Whose labels they are.
    """
    builder = WordBuilder(vocabulary)
    words = builder.add(
        TimedLabel(one.label, one.begin_frame, one.end_frame, one.probability) for one in spans
    )
    words += builder.flush()
    if [word.text for word in words] != text.split():
        return None
    return tuple(word.confidence for word in words)


def follow_normalization(
    text: str,
    confidences: tuple[float, ...] | None,
    normalized: str,
    normalize: Callable[[str], str],
) -> tuple[float, ...] | None:
    """Returns the confidences of the words of a normalised text; None where they cannot be told.

    A word that normalisation drops takes its confidence along; each part of a word that it splits
    has the confidence of the whole.

    Args:
        text: As it was recognised.
        confidences: Of its words.
        normalized: The text after normalisation.
        normalize: Does the same to one word.
    """
    if confidences is None:
        return None
    words = text.split()
    if normalized.split() == words:
        return confidences
    parts = [normalize(word).split() for word in words]
    if [part for found in parts for part in found] != normalized.split():
        return None
    return tuple(
        confidence for confidence, found in zip(confidences, parts, strict=True) for _ in found
    )
