"""Cutting a recording at its pauses: from speech probabilities to segments, never longer than a
maximum.

Pure functions over numbers, in samples at 16 kHz. Everything of the recording is either inside one
segment or left over as non-speech.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechvq.data.records import SAMPLE_RATE
from speechvq.data.vad import WINDOW_SAMPLES, Probabilities

_HYSTERESIS = 0.15
"""Speech ends this far below the threshold at which it begins, as in Silero's own
post-processing."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a recording, in samples: begin inclusive, end exclusive."""

    begin: int
    end: int

    @property
    def num_samples(self) -> int:
        """Length in samples."""
        return self.end - self.begin


def cut_at_pauses(
    probabilities: Probabilities,
    num_samples: int,
    *,
    max_segment_seconds: float,
    max_pause_seconds: float,
    padding_seconds: float,
    threshold: float,
    min_seconds: float = 0.0,
    levels: npt.NDArray[np.float32] | None = None,
) -> list[Span]:
    """Cuts a recording into segments of speech.

    Args:
        probabilities: Speech probability of each window of 512 samples, (ceil(S / 512),).
        num_samples: Length S of the recording.
        max_segment_seconds: No segment is longer.
        max_pause_seconds: A longer pause ends a segment.
        padding_seconds: Pause kept on either side of a segment, where there is as much.
        threshold: Probability at which speech begins.
        min_seconds: No segment is shorter, unless the recording is; at most a quarter of the
            maximum.
        levels: Level of each window in dB, (ceil(S / 512),): where speech goes on without a pause
            for longer than the maximum, it is cut at the quietest window. None goes by the
            probabilities alone.

    Returns:
        Segments in order, without overlap, inside the recording.
    """
    max_samples = int(max_segment_seconds * SAMPLE_RATE)
    min_samples = math.ceil(min_seconds * SAMPLE_RATE)
    padding = min(int(padding_seconds * SAMPLE_RATE), max_samples // 8)
    runs = _find_speech(probabilities, threshold)
    runs = _join_over_pauses(runs, int(max_pause_seconds * SAMPLE_RATE / WINDOW_SAMPLES))
    spans = [
        Span(begin * WINDOW_SAMPLES, min(end * WINDOW_SAMPLES, num_samples)) for begin, end in runs
    ]
    spans = _widen(spans, min_samples, num_samples)
    costs = _compute_costs(probabilities, levels, threshold)
    pieces = [
        piece
        for span in spans
        for piece in _split_long(span, costs, max_samples, padding, min_samples)
    ]
    return _pad(pieces, padding, num_samples)


def _find_speech(probabilities: Probabilities, threshold: float) -> list[tuple[int, int]]:
    """Returns runs of windows (begin, end) that begin at the threshold and end below it less the
    hysteresis.
    """
    runs, begin = [], -1
    for window, probability in enumerate(probabilities.tolist()):
        if begin < 0 and probability >= threshold:
            begin = window
        elif begin >= 0 and probability < threshold - _HYSTERESIS:
            runs.append((begin, window))
            begin = -1
    if begin >= 0:
        runs.append((begin, len(probabilities)))
    return runs


def _join_over_pauses(runs: list[tuple[int, int]], max_pause: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for begin, end in runs:
        if joined and begin - joined[-1][1] <= max_pause:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def _widen(spans: list[Span], min_samples: int, num_samples: int) -> list[Span]:
    """Widens what is shorter than the minimum into the pauses around it; where they are too short,
    into its neighbour.
    """
    result: list[Span] = []
    for index, span in enumerate(spans):
        low = result[-1].end if result else 0
        high = spans[index + 1].begin if index + 1 < len(spans) else num_samples
        missing = min_samples - span.num_samples
        if missing > 0:
            begin = max(low, span.begin - missing // 2)
            end = min(high, begin + min_samples)
            span = Span(max(low, min(begin, end - min_samples)), end)
        if span.num_samples < min_samples and result:
            span = Span(result.pop().begin, span.end)
        result.append(span)
    if len(result) > 1 and result[0].num_samples < min_samples:
        result[:2] = [Span(result[0].begin, result[1].end)]
    return result


def _compute_costs(
    probabilities: Probabilities, levels: npt.NDArray[np.float32] | None, threshold: float
) -> npt.NDArray[np.float64]:
    """Returns how much a cut in each window hurts: pauses first, then the quietest speech."""
    if len(probabilities) == 0:
        return np.zeros(0)
    # Smoothed, so that a pause of 100 ms wins over one odd window.
    smooth = np.convolve(probabilities, np.ones(3) / 3, "same")[: len(probabilities)]
    if levels is None:
        return np.asarray(smooth, np.float64)
    quiet = np.convolve(np.pad(levels, 1, mode="edge"), np.ones(3) / 3, "valid")
    rank = (quiet - quiet.min()) / max(float(np.ptp(quiet)), 1e-9)
    return np.where(smooth < threshold - _HYSTERESIS, smooth - 1, rank)


def _split_long(
    span: Span,
    costs: npt.NDArray[np.float64],
    max_samples: int,
    padding: int,
    min_samples: int,
) -> list[Span]:
    """Splits a span at its cheapest windows until every piece is short enough, and none too
    short.
    """
    longest = max(max_samples - 2 * padding, 1)
    pieces, begin = [], span.begin
    while span.end - begin > longest:
        # Half the maximum at least, so that the pieces are few.
        first = begin + max(longest // 2, min_samples)
        last = min(begin + longest, span.end - min_samples)
        window = -(-first // WINDOW_SAMPLES)
        candidates = costs[window : last // WINDOW_SAMPLES + 1]
        cut = (window + int(np.argmin(candidates))) * WINDOW_SAMPLES if len(candidates) else last
        cut = min(max(cut, min(first, last)), last)
        pieces.append(Span(begin, cut))
        begin = cut
    pieces.append(Span(begin, span.end))
    return pieces


def _pad(spans: list[Span], padding: int, num_samples: int) -> list[Span]:
    """Widens every span by the padding, but neither into its neighbour's half of the pause nor out
    of the recording.
    """
    padded = []
    for index, span in enumerate(spans):
        low = (spans[index - 1].end + span.begin) // 2 if index else 0
        high = (span.end + spans[index + 1].begin) // 2 if index + 1 < len(spans) else num_samples
        padded.append(
            Span(max(low, span.begin - padding), min(high, span.end + padding, num_samples))
        )
    return [span for span in padded if span.num_samples > 0]


def find_gaps(spans: list[Span], num_samples: int) -> list[Span]:
    """Returns what of a recording lies outside the segments, which are in order."""
    ends = [0, *(span.end for span in spans)]
    begins = [*(span.begin for span in spans), num_samples]
    return [Span(end, begin) for end, begin in zip(ends, begins, strict=True) if begin > end]
