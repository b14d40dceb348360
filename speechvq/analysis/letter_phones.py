"""Phones from transcripts: a CTC recogniser says when each letter is said, G2P which phones they
are.

CTC marks letters by short peaks, so letters are widened to the middles between them; the phones of
a word then share its time in the order and the rhythm of its letters. That places a phone to within
a letter or so: enough for frames in the middle of phones, too coarse to measure boundaries. Words
that were aligned with little confidence have no phones. Grapheme-to-phoneme: epitran (Mortensen et
al., LREC 2018).
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from speechvq.analysis.code_table import SILENCE
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.analysis.phone_intervals import PhoneInterval, name_phone
from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.decoding.forced_alignment import LabelSpan, align_labels, find_spans
from speechvq.errors import DataError, MissingDependencyError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.vocabulary import BLANK_ID, WORD_SEPARATOR, Vocabulary

G2P = Callable[[str], list[str]]
"""Phones of a word, in IPA."""

_MAX_GAP_SECONDS = 0.2
"""A longer gap between words is silence; a shorter one belongs to its neighbours."""
_WORD_MARGIN_SECONDS = 0.04
"""What a word reaches beyond its first and last peak where silence is next to it."""
_PIECE_BEGIN = "\u2581"


def load_g2p(language: str) -> G2P | None:
    """Loads epitran's rules for a language.

    Args:
        language: Code such as `hin_Deva`.

    Returns:
        The function, or None where epitran has no rules for the language (Assamese, Mboshi), or
        needs another program for it (English).

    Raises:
        MissingDependencyError: epitran is not installed.
    """
    try:
        import epitran
    except ImportError:
        raise MissingDependencyError("epitran", "phones", "turn transcripts into phones") from None
    try:
        rules = epitran.Epitran(language.replace("_", "-"))
        rules.trans_list("a")
    except Exception:  # epitran raises what its tables raise; flite may be missing
        return None
    return lambda word: [str(phone) for phone in rules.trans_list(word)]


def name_segment(phone: str) -> str | None:
    """Returns a phone of G2P in IPA; None for what rules left over: joiners, letters of the script,
    diacritics without a letter.

    Args:
        phone: As epitran writes it, sometimes with `g` for `ɡ`.
    """
    name = name_phone(phone.replace("g", "\u0261"))
    if name is None or not unicodedata.name(name[0], "").startswith(("LATIN", "GREEK")):
        return None
    return name


@dataclass
class AlignedWords:
    """How sure the recogniser was of one language's words.

    Attributes:
        num_words: Words that were aligned.
        num_kept: Of these, words with enough confidence.
        confidence_sum: Of all words.
        num_failed: Utterances whose text does not fit into their frames, or cannot be written.
    """

    num_words: int = 0
    num_kept: int = 0
    confidence_sum: float = 0.0
    num_failed: int = 0


@dataclass
class LetterPhones:
    """Aligns transcripts; a `PhoneSource`.

    Attributes:
        model: In evaluation mode.
        min_confidence: Words below it have no phones.
        load: Finds the G2P of a language.
        counts: By language.
        without_g2p: Languages of which the phones are not known.
    """

    model: CTCModel
    min_confidence: float
    load: Callable[[str], G2P | None] = load_g2p
    counts: dict[str, AlignedWords] = field(default_factory=dict)
    without_g2p: set[str] = field(default_factory=set)
    _rules: dict[str, G2P | None] = field(default_factory=dict)

    def find(self, utterance: Utterance, waveform: Waveform) -> list[PhoneInterval] | None:
        """See `PhoneSource.find`."""
        language = utterance.language
        if not utterance.text or language not in self.model.vocabularies:
            return None
        if language not in self._rules:
            self._rules[language] = self.load(language)
        g2p = self._rules[language]
        if g2p is None:
            self.without_g2p.add(language)
            return None
        counts = self.counts.setdefault(language, AlignedWords())
        if self.model.num_frames(len(waveform)) < 1:
            counts.num_failed += 1
            return None
        try:
            words, times = self._align(utterance.text, language, waveform)
        except DataError:
            counts.num_failed += 1
            return None
        return place_words(
            words,
            times,
            num_seconds=len(waveform) / SAMPLE_RATE,
            g2p=g2p,
            min_confidence=self.min_confidence,
            counts=counts,
        )

    @torch.inference_mode()
    def _align(
        self, text: str, language: str, waveform: Waveform
    ) -> tuple[list[tuple[str, list[LabelSpan]]], np.ndarray[Any, np.dtype[np.float32]]]:
        device = self.model.encoder.mask_embedding.device
        batch = torch.from_numpy(waveform)[None].to(device)
        logits = self.model(batch, torch.tensor([batch.size(1)]), language=language).logits
        log_probs = logits[0].float().log_softmax(-1).cpu()
        vocabulary = self.model.vocabularies[language]
        path = align_labels(log_probs, vocabulary.encode(text), blank_id=BLANK_ID)
        spans = find_spans(log_probs, path, blank_id=BLANK_ID)
        times = compute_frame_times(self.model.encoder.front_end, len(log_probs))
        return group_words(spans, vocabulary), times

    def to_json(self) -> dict[str, Any]:
        """Returns the counts as JSON values."""
        return {
            "min_confidence": self.min_confidence,
            "languages_without_g2p": sorted(self.without_g2p),
            "languages": {
                language: {
                    "words": one.num_words,
                    "words_kept": one.num_kept,
                    "mean_confidence": one.confidence_sum / max(1, one.num_words),
                    "utterances_not_aligned": one.num_failed,
                }
                for language, one in sorted(self.counts.items())
            },
        }


def group_words(
    spans: Sequence[LabelSpan], vocabulary: Vocabulary
) -> list[tuple[str, list[LabelSpan]]]:
    """Returns each word and the spans of its labels; separators are left out."""
    groups: list[list[LabelSpan]] = [[]]
    for span in spans:
        text = vocabulary.labels[span.label]
        if text == WORD_SEPARATOR or text.startswith(_PIECE_BEGIN):
            groups.append([])
        if text != WORD_SEPARATOR:
            groups[-1].append(span)
    return [(vocabulary.decode([span.label for span in group]), group) for group in groups if group]


def place_words(
    words: Sequence[tuple[str, Sequence[LabelSpan]]],
    times: np.ndarray[Any, np.dtype[np.float32]],
    *,
    num_seconds: float,
    g2p: G2P,
    min_confidence: float,
    counts: AlignedWords,
) -> list[PhoneInterval]:
    """Turns aligned words into phones and silences.

    Args:
        words: Each word with the spans of its letters, at least one.
        times: (T,) centres of the recogniser's frames, in seconds.
        num_seconds: Length of the audio.
        g2p: Phones of a word.
        min_confidence: The geometric mean of a word's letters' probabilities must reach it.
        counts: Added to.

    Returns:
        Intervals from 0 to `num_seconds`; words without phones are None.
    """
    if not words:
        return [PhoneInterval(SILENCE, 0.0, num_seconds)]
    peaks = [_find_peaks(spans, times) for _, spans in words]
    edges = _find_edges(peaks, num_seconds)
    intervals: list[PhoneInterval] = []
    before = 0.0
    for (word, spans), centres, (begin, end) in zip(words, peaks, edges, strict=True):
        if begin > before:
            intervals.append(PhoneInterval(SILENCE, before, begin))
        logs = np.log(np.maximum([span.probability for span in spans], 1e-10))
        confidence = float(np.exp(logs.mean()))
        counts.num_words += 1
        counts.confidence_sum += confidence
        phones = [name for phone in g2p(word) if (name := name_segment(phone))]
        if confidence < min_confidence or not phones:
            intervals.append(PhoneInterval(None, begin, end))
        else:
            counts.num_kept += 1
            intervals += share_out(phones, centres, begin, end)
        before = end
    if num_seconds > before:
        intervals.append(PhoneInterval(SILENCE, before, num_seconds))
    return intervals


def share_out(
    phones: Sequence[str], centres: Sequence[float], begin: float, end: float
) -> list[PhoneInterval]:
    """Shares the time of a word out among its phones, in the rhythm of its letters.

    Letters meet half-way between their centres. With as many phones as letters each phone has the
    time of its letter; otherwise phone k of n reaches from k/n to (k + 1)/n of the way through the
    letters.

    Args:
        phones: n phones.
        centres: Centres of the letters in seconds, rising.
        begin: Begin of the word in seconds.
        end: End of the word.
    """
    middles = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    bounds = np.array([begin, *middles, end])
    share = np.linspace(0, 1, len(phones) + 1)
    cuts = np.interp(share, np.linspace(0, 1, len(bounds)), bounds).tolist()
    return [
        PhoneInterval(phone, first, last)
        for phone, (first, last) in zip(phones, itertools.pairwise(cuts), strict=True)
    ]


def _find_peaks(
    spans: Sequence[LabelSpan], times: np.ndarray[Any, np.dtype[np.float32]]
) -> list[float]:
    return [float(times[span.begin_frame] + times[span.end_frame - 1]) / 2 for span in spans]


def _find_edges(peaks: Sequence[Sequence[float]], num_seconds: float) -> list[tuple[float, float]]:
    """Begin and end of each word: half-way to the next word, or a margin where silence is next."""
    begins = [max(0.0, peaks[0][0] - _WORD_MARGIN_SECONDS)]
    ends = []
    for left, right in itertools.pairwise(peaks):
        if right[0] - left[-1] > _MAX_GAP_SECONDS:
            ends.append(left[-1] + _WORD_MARGIN_SECONDS)
            begins.append(right[0] - _WORD_MARGIN_SECONDS)
        else:
            ends.append((left[-1] + right[0]) / 2)
            begins.append(ends[-1])
    ends.append(min(num_seconds, peaks[-1][-1] + _WORD_MARGIN_SECONDS))
    return list(zip(begins, ends, strict=True))
