"""Cutting a recording at its pauses: from speech probabilities to segments, never longer than a
maximum.

Pure functions over numbers, in samples at 16 kHz. Everything of the recording is either inside one
segment or left over as non-speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
) -> list[Span]:
    """Cuts a recording into segments of speech.

    Args:
        probabilities: Speech probability of each window of 512 samples, (ceil(S / 512),).
        num_samples: Length S of the recording.
        max_segment_seconds: No segment is longer.
        max_pause_seconds: A longer pause ends a segment.
        padding_seconds: Pause kept on either side of a segment, where there is as much.
        threshold: Probability at which speech begins.

    Returns:
        Segments in order, without overlap, inside the recording. Short ones are for the caller to
        judge.
    """
    max_samples = int(max_segment_seconds * SAMPLE_RATE)
    padding = min(int(padding_seconds * SAMPLE_RATE), max_samples // 8)
    runs = _find_speech(probabilities, threshold)
    runs = _join_over_pauses(runs, int(max_pause_seconds * SAMPLE_RATE / WINDOW_SAMPLES))
    max_windows = max(1, (max_samples - 2 * padding) // WINDOW_SAMPLES)
    pieces = [piece for run in runs for piece in _split_long(run, probabilities, max_windows)]
    return _pad(
        [Span(b * WINDOW_SAMPLES, e * WINDOW_SAMPLES) for b, e in pieces], padding, num_samples
    )


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


def _split_long(
    run: tuple[int, int], probabilities: Probabilities, max_windows: int
) -> list[tuple[int, int]]:
    """Splits a run at its least speech-like windows until every piece is short enough."""
    pieces, (begin, end) = [], run
    while end - begin > max_windows:
        # Half the maximum at least, so that the pieces are few; smoothed, so that a pause of 100 ms
        # wins over one odd window.
        first = begin + max(1, max_windows // 2)
        smooth = np.convolve(probabilities[begin : begin + max_windows + 1], np.ones(3) / 3, "same")
        cut = first + int(
            np.argmin(smooth[first - begin : max_windows]) if first - begin < max_windows else 0
        )
        pieces.append((begin, cut))
        begin = cut
    pieces.append((begin, end))
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
