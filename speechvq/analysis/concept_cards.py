"""Cards of codes: where a code is active, to be heard and seen, and what is said there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.concept_files import UTTERANCE_KINDS, ConceptKind, ConceptRow
from speechvq.analysis.concept_null import IntArray
from speechvq.analysis.concept_pass import ConceptRecord, Model, SplitRecord
from speechvq.analysis.concept_scoring import ConceptScorer
from speechvq.analysis.concept_split import TEST, Division, select
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.data.audio import decode_flac, encode_flac
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.spectrum import compute_power
from speechvq.reporting.spectrogram import draw_spectrogram

NUM_CLIPS = 3
NUM_SHOWN = 10
_MARGIN_SECONDS = 0.35
_MAX_SPAN_SECONDS = 3.0
_PIXELS = 4  # of a frame of the spectrum, 16 ms


@dataclass(frozen=True, kw_only=True)
class Span:
    """Neighbouring frames of one utterance that have a code.

    Attributes:
        utterance: Its place among those of test.
        begin_frame: First frame.
        end_frame: The frame after the last.
    """

    utterance: int
    begin_frame: int
    end_frame: int


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A span with its surroundings.

    Attributes:
        audio: A FLAC file.
        picture: A PNG, the span marked.
        label: Where it comes from.
    """

    audio: bytes
    picture: bytes
    label: str


@dataclass
class CodeCard:
    """One code.

    Attributes:
        row: The concept that it stands for.
        clips: Where it is active on test, the longest spans.
        sounds: Phones (or letters, where there are no phones) of its frames on test, and shares.
        languages: Languages of its frames on test, and shares.
        num_frames: Its frames on test.
    """

    row: ConceptRow
    clips: list[Clip] = field(default_factory=list)
    sounds: list[tuple[str, float]] = field(default_factory=list)
    languages: list[tuple[str, float]] = field(default_factory=list)
    num_frames: int = 0


def choose_rows(rows: Sequence[ConceptRow], num_cards: int) -> list[ConceptRow]:
    """The codes of each kind that looked best on dev, one a concept and place, rare concepts left
    out.
    """
    chosen = []
    for kind in ConceptKind:
        own = [row for row in rows if row.kind is kind and row.is_best_place and not row.is_rare]
        own.sort(key=lambda row: -row.dev_precision)
        chosen += own[:num_cards]
    return chosen


def find_spans(has_code: NDArray[np.bool_], lengths: Sequence[int]) -> list[Span]:
    """The longest runs of frames with a code, of as many utterances as there are.

    Args:
        has_code: (N,) of all frames of test.
        lengths: Frames of each utterance.
    """
    ends = np.cumsum(lengths)
    begins = ends - np.asarray(lengths)
    padded = np.concatenate([[False], has_code, [False]])
    # A run ends where its utterance does.
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    cuts = np.unique(np.concatenate([changes, begins, ends]))
    spans = []
    for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        if has_code[first]:
            owner = int(np.searchsorted(ends, first, "right"))
            offset = int(begins[owner])
            spans.append(Span(utterance=owner, begin_frame=first - offset, end_frame=last - offset))
    spans.sort(key=lambda one: one.begin_frame - one.end_frame)
    firsts = list({one.utterance: one for one in reversed(spans)}.values())
    firsts.sort(key=lambda one: one.begin_frame - one.end_frame)
    return firsts[:NUM_CLIPS]


def collect_cards(
    config: ConceptsConfig,
    record: ConceptRecord,
    scorer: ConceptScorer,
    division: Division,
    model: Model,
) -> list[CodeCard]:
    """Makes the cards of the best codes of each kind.

    Args:
        config: How many.
        record: What the pass left.
        scorer: Labels and rows.
        division: The utterances.
        model: Whose frames they are.
    """
    split = record.splits[TEST]
    cards, wanted = [], []
    for row in choose_rows(scorer.findings.rows, config.num_cards):
        codes = np.asarray(record.get_codes(TEST, row.place)[:, row.head])
        has_code = (codes == row.code).any(1)
        card = CodeCard(row=row, num_frames=int(has_code.sum()))
        card.sounds, card.languages = _count_sounds(has_code, scorer, split)
        cards.append(card)
        spans = _find_whole(has_code, split) if row.kind in UTTERANCE_KINDS else None
        wanted.append(spans or find_spans(has_code, split.lengths))
    _add_clips(config, cards, wanted, split, division, model)
    return cards


def _find_whole(has_code: NDArray[np.bool_], split: SplitRecord) -> list[Span]:
    """Of utterances in which the code fills most, the longest span each."""
    lengths = np.asarray(split.lengths)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    shares = np.bincount(owners, has_code, minlength=len(lengths)) / np.maximum(lengths, 1)
    best = np.argsort(-shares, kind="stable")[:NUM_CLIPS]
    spans = []
    for owner in best[shares[best] > 0].tolist():
        own = has_code & (owners == owner)
        spans += find_spans(own, split.lengths)[:1]
    return spans


def _count_sounds(
    has_code: NDArray[np.bool_], scorer: ConceptScorer, split: SplitRecord
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    sounds: list[tuple[str, float]] = []
    for kind in (ConceptKind.phone, ConceptKind.letter):
        found = [one for one in scorer.frame_labels if one.kind is kind]
        if found and not sounds:
            sounds = _count(found[0].test[has_code], found[0].names)
    names = sorted(set(split.languages))
    numbers = np.array([names.index(one) for one in split.languages], dtype=np.int64)
    languages = np.repeat(numbers, split.lengths)[has_code]
    return sounds, _count(languages, names) if len(names) > 1 else []


def _count(labels: IntArray, names: Sequence[str]) -> list[tuple[str, float]]:
    """The most frequent labels and their shares of those that are known."""
    known = labels[labels >= 0]
    counts = np.bincount(known, minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:NUM_SHOWN]
    return [(names[one], float(counts[one] / len(known))) for one in order.tolist() if counts[one]]


def _add_clips(
    config: ConceptsConfig,
    cards: Sequence[CodeCard],
    wanted: Sequence[Sequence[Span]],
    split: SplitRecord,
    division: Division,
    model: nn.Module,
) -> None:
    """Reads the audio of all spans in one go."""
    by_name: dict[str, list[tuple[CodeCard, Span]]] = {}
    for card, spans in zip(cards, wanted, strict=True):
        for span in spans:
            by_name.setdefault(split.utterances[span.utterance], []).append((card, span))
    if not by_name:
        return
    assert isinstance(model, Model)
    for row in select(config, division.splits, ["audio", "num_samples"]):
        if row.id not in by_name:
            continue
        waveform = decode_flac(row.audio)
        for card, span in by_name[row.id]:
            times = compute_frame_times(model.encoder.front_end, span.end_frame + 1)
            half = float(times[1] - times[0]) / 2
            begin = float(times[span.begin_frame]) - half
            end = min(float(times[span.end_frame - 1]) + half, begin + _MAX_SPAN_SECONDS)
            first = max(0, round((begin - _MARGIN_SECONDS) * SAMPLE_RATE))
            last = min(len(waveform), round((end + _MARGIN_SECONDS) * SAMPLE_RATE))
            clip = waveform[first:last]
            marks = [(one * SAMPLE_RATE - first) / max(1, len(clip)) for one in (begin, end)]
            card.clips.append(
                Clip(
                    audio=encode_flac(clip),
                    picture=draw_spectrogram(
                        np.repeat(compute_power(clip), _PIXELS, axis=0), span=(marks[0], marks[1])
                    ),
                    label=f"{row.id}, {begin:.2f} to {end:.2f} s",
                )
            )
