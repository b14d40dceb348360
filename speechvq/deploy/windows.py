"""Long recordings as overlapping windows, and the windows' labels as one sequence again.

Windows lie on a fixed grid, so that what is heard in one does not depend on the length of the
recording: 30 s alone are the first window of three hours. Where two windows overlap, the earlier
one is believed up to the last gap between words that it has there, so that every word but the one
at its end comes from where it was heard whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.forced_alignment import LabelSpan
from speechvq.deploy.words import TimedLabel, Word, WordBuilder, group_by_word
from speechvq.models.vocabulary import Vocabulary

WINDOW_SECONDS = 30.0
OVERLAP_SECONDS = 4.0

_CONTEXT_SECONDS = 0.5
"""A window is not believed before this much of it: its first sound may be the end of a word."""
_END_SECONDS = 0.5
"""A word that ends so long before its window does is whole."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a recording.

    Attributes:
        index: Its number, from 0.
        begin_seconds: Where it begins in the recording.
        samples: float32 (S,) at 16 kHz.
        is_last: Whether the recording ends with it.
    """

    index: int
    begin_seconds: float
    samples: Waveform
    is_last: bool

    @property
    def end_seconds(self) -> float:
        """Where it ends in the recording."""
        return self.begin_seconds + len(self.samples) / SAMPLE_RATE


def cut_windows(
    blocks: Iterable[Waveform], window_seconds: float, overlap_seconds: float
) -> Iterator[Window]:
    """Cuts a stream into windows, holding one window and one block at a time.

    Args:
        blocks: float32 (S,) each, 16 kHz, of any lengths.
        window_seconds: Length of a window; the last one is shorter.
        overlap_seconds: What a window shares with the next one.

    Yields:
        Windows; none where there are no samples.
    """
    size = round(window_seconds * SAMPLE_RATE)
    hop = size - round(overlap_seconds * SAMPLE_RATE)
    rest = np.zeros(0, np.float32)
    index = 0
    for block in blocks:
        rest = np.concatenate([rest, block]) if len(rest) else block
        while len(rest) > size:
            yield Window(index, index * hop / SAMPLE_RATE, rest[:size].copy(), False)
            rest, index = rest[hop:], index + 1
    if len(rest):
        yield Window(index, index * hop / SAMPLE_RATE, rest.copy(), True)


class WindowMerger:
    """Makes one sequence of words of windows that come in order.

    Args:
        vocabulary: Of the head that recognised them.
        frame_seconds: From one frame to the next.
        overlap_seconds: What a window shares with the next one.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, frame_seconds: float, overlap_seconds: float
    ) -> None:
        self._vocabulary = vocabulary
        self._frame_seconds = frame_seconds
        self._overlap_seconds = overlap_seconds
        self._builder = WordBuilder(vocabulary)
        self._join = 0.0
        self._joins_words = True
        self._last_end = 0.0

    def add(
        self, begin_seconds: float, end_seconds: float, is_last: bool, spans: Sequence[LabelSpan]
    ) -> list[Word]:
        """Returns the words that are complete with this window; they never overlap.

        Args:
            begin_seconds: Where the window begins.
            end_seconds: Where it ends.
            is_last: Whether the recording ends with it.
            spans: Labels that were recognised in it.
        """
        labels = [
            TimedLabel(
                label=span.label,
                begin_seconds=begin_seconds + span.begin_frame * self._frame_seconds,
                end_seconds=min(begin_seconds + span.end_frame * self._frame_seconds, end_seconds),
                probability=span.probability,
            )
            for span in spans
        ]
        return self._part(self._join_labels(labels, end_seconds, is_last))

    def _join_labels(
        self, labels: list[TimedLabel], end_seconds: float, is_last: bool
    ) -> list[Word]:
        labels = self._drop_before_join(labels)
        words = self._builder.flush() if self._joins_words else []
        if is_last:
            return [*words, *self._builder.add(labels), *self._builder.flush()]
        first = end_seconds - self._overlap_seconds + _CONTEXT_SECONDS
        self._join, self._joins_words = self._choose_join(labels, first, end_seconds)
        kept = [label for label in labels if label.middle_seconds < self._join]
        return [*words, *self._builder.add(kept)]

    def _part(self, words: Sequence[Word]) -> list[Word]:
        """Two windows may see the words at their seam some frames apart: there the later word
        begins where the earlier one ends.
        """
        parted = []
        for word in words:
            begin = max(word.begin_seconds, self._last_end)
            self._last_end = max(word.end_seconds, begin)
            parted.append(replace(word, begin_seconds=begin, end_seconds=self._last_end))
        return parted

    def _drop_before_join(self, labels: list[TimedLabel]) -> list[TimedLabel]:
        """Leaves out what the window before said already: whole words where the two join in a
        gap between words, labels where they join within a word.
        """
        if not self._joins_words:
            return [label for label in labels if label.middle_seconds >= self._join]
        for word in group_by_word(labels, self._vocabulary):
            if (word[0].begin_seconds + word[-1].end_seconds) / 2 >= self._join:
                return labels[labels.index(word[0]) :]
        return []

    def _choose_join(
        self, labels: Sequence[TimedLabel], first: float, last: float
    ) -> tuple[float, bool]:
        """Returns where the next window takes over, and whether that is between words."""
        words = group_by_word(labels, self._vocabulary)
        ends = [word[-1].end_seconds for word in words]
        begins = [*(word[0].begin_seconds for word in words[1:]), last]
        if not words or last - ends[-1] < _END_SECONDS:
            ends, begins = ends[:-1], begins[:-1]
        if not words or words[0][0].begin_seconds > first:
            before = words[0][0].begin_seconds if words else last
            ends, begins = [self._join, *ends], [before, *begins]
        for end, begin in zip(reversed(ends), reversed(begins), strict=True):
            if begin > first:
                return (max(end, first) + begin) / 2, True
        return _find_widest_gap(labels, first, last), False


def _find_widest_gap(labels: Sequence[TimedLabel], first: float, last: float) -> float:
    """Returns the middle of the longest time between labels, within first to last."""
    edges = [first]
    for label in labels:
        if label.end_seconds > first:
            edges += [max(label.begin_seconds, first), min(label.end_seconds, last)]
    edges.append(last)
    gaps = [(end - begin, begin) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    width, begin = max(gaps)
    return begin + width / 2
