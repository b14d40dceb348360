"""One line that shows how far a long piece of work is, how fast it goes, and what is left."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO


class _Line(ABC):
    """A terminal gets one line that renews itself; a log file gets a new line every half minute."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._begin = self._last = time.monotonic()

    @abstractmethod
    def describe(self, elapsed: float) -> str:
        """Returns the line after so many seconds of work."""

    def close(self) -> None:
        """Writes the last line."""
        self._write(time.monotonic())
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()

    def _renew(self) -> None:
        """Writes the line if the last one is old."""
        now = time.monotonic()
        if now - self._last >= (0.2 if self._terminal else 30.0):
            self._last = now
            self._write(now)

    def _write(self, now: float) -> None:
        text = self.describe(now - self._begin)
        self._stream.write(f"\r\033[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()


class ProgressLine(_Line):
    """Progress through a known amount of audio, on the standard error stream.

    Args:
        verb: What is done, at the beginning of the line.
        total_seconds: Audio to go through.
        stream: Where the line goes; standard error by default.
    """

    def __init__(self, verb: str, total_seconds: float, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._verb = verb
        self._total = total_seconds
        self._done = 0.0
        self._count = 0

    def advance(self, count: int, seconds: float) -> None:
        """Notes that so many utterances with so many seconds of audio are done."""
        self._count += count
        self._done += seconds
        self._renew()

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


class FilesProgress(_Line):
    """Progress through files whose lengths are known only when they are opened.

    What is not opened yet is taken to hold as much audio a byte as what is.

    Args:
        verb: What is done, at the beginning of the line.
        sizes: Bytes of each file.
        stream: Where the line goes; standard error by default.
    """

    def __init__(self, verb: str, sizes: Mapping[Path, int], stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._verb, self._sizes = verb, dict(sizes)
        self._done: dict[Path, float] = {}
        self._lengths: dict[Path, float] = {}
        self._num_ended = 0

    def advance(self, path: Path, seconds: float, declared_seconds: float | None) -> None:
        """Notes that so many seconds of a file are done."""
        self._done[path] = self._done.get(path, 0.0) + seconds
        self._lengths[path] = max(declared_seconds or 0.0, self._done[path])
        self._renew()

    def end_file(self, path: Path) -> None:
        """Notes that nothing more comes of a file."""
        self._num_ended += 1
        self._lengths[path] = self._done.get(path, 0.0)

    def close(self) -> None:
        """Writes the last line, if there was anything to do."""
        if self._sizes:
            super().close()

    def describe(self, elapsed: float) -> str:
        """Returns the line after so many seconds of work."""
        done, opened = sum(self._done.values()), sum(self._lengths.values())
        opened_bytes = sum(self._sizes[path] for path in self._lengths)
        rest_bytes = sum(self._sizes.values()) - opened_bytes
        total = opened + (rest_bytes * opened / opened_bytes if opened_bytes else 0.0)
        speed = done / elapsed if elapsed > 0 else 0.0
        left = format_clock((total - done) / speed) if speed else "?"
        return (
            f"{self._verb}: {self._num_ended} of {len(self._sizes)} files, "
            f"{format_clock(done)} of about {format_clock(total)} of audio, "
            f"{speed:.3g} x real time, {left} left"
        )


class StepsProgress(_Line):
    """Progress through a known number of training steps.

    Args:
        verb: What is done, at the beginning of the line.
        num_steps: Steps to go through.
        stream: Where the line goes; standard error by default.
    """

    def __init__(self, verb: str, num_steps: int, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._verb, self._total = verb, num_steps
        self._done = 0
        self._loss = 0.0

    def advance(self, loss: float) -> None:
        """Notes that a step is done; the last one closes the line."""
        self._done += 1
        self._loss = loss
        if self._done == self._total:
            self.close()
        else:
            self._renew()

    def describe(self, elapsed: float) -> str:
        """Returns the line after so many seconds of work."""
        speed = self._done / elapsed if elapsed > 0 else 0.0
        left = format_clock((self._total - self._done) / speed) if speed else "?"
        return (
            f"{self._verb}: step {self._done:,} of {self._total:,}, loss {self._loss:.4f}, "
            f"{speed:.3g} steps a second, {left} left"
        )
