"""One line that shows how far a long piece of work is, how fast it goes, and what is left."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class ProgressLine:
    """Progress through a known amount of audio, on the standard error stream.

    A terminal gets one line that renews itself; a log file gets a new line every half minute.

    Args:
        verb: What is done, at the beginning of the line.
        total_seconds: Audio to go through.
        stream: Where the line goes; standard error by default.
    """

    def __init__(self, verb: str, total_seconds: float, stream: TextIO | None = None) -> None:
        self._verb = verb
        self._total = total_seconds
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._begin = time.monotonic()
        self._last = self._begin
        self._done = 0.0
        self._count = 0

    def advance(self, count: int, seconds: float) -> None:
        """Notes that so many utterances with so many seconds of audio are done."""
        self._count += count
        self._done += seconds
        now = time.monotonic()
        if now - self._last >= (0.2 if self._terminal else 30.0):
            self._last = now
            self._write(now)

    def close(self) -> None:
        """Writes the last line."""
        self._write(time.monotonic())
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()

    def _write(self, now: float) -> None:
        text = self.describe(now - self._begin)
        self._stream.write(f"\r\033[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def describe(self, elapsed: float) -> str:
        """Returns the line after so many seconds of work."""
        share = self._done / self._total if self._total else 1.0
        speed = self._done / elapsed if elapsed > 0 else 0.0
        left = format_clock((self._total - self._done) / speed) if speed else "?"
        return (
            f"{self._verb}: {share:4.0%}, {self._count:,} utterances, "
            f"{format_clock(self._done)} of {format_clock(self._total)} of audio, "
            f"{speed:.3g} x real time, {left} left"
        )


def format_clock(seconds: float) -> str:
    """Returns 1:02:03 for hours, 2:03 for less."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"
