"""A line that shows how far data preparation is: share done, rate, time left.

A moving bar on a terminal (rich), a plain line every ten seconds elsewhere.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_SECONDS_BETWEEN_LINES = 10.0


class PrepareProgress:
    """Progress in seconds of audio; a context manager.

    Args:
        total_seconds: Audio to prepare, estimated.
    """

    def __init__(self, total_seconds: float) -> None:
        self._total = max(total_seconds, 1e-9)
        self._done = 0.0
        self._begin = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (BarColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.add_task("prepare", total=self._total)

    def advance(self, amount: float) -> None:
        """Counts what is done."""
        self._done += amount
        now = time.monotonic()
        line = self.describe(now - self._begin)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=line)
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(line, file=sys.stderr, flush=True)

    def describe(self, elapsed: float) -> str:
        """Returns the line after so many seconds: share, hours, times real time, time left."""
        rate, left = self._estimate(elapsed)
        return (
            f"prepare {min(1.0, self._done / self._total):4.0%}  "
            f"{self._done / 3600:.2f} of about {self._total / 3600:.2f} h  "
            f"{rate:.0f} x real time  {left} left"
        )

    def _estimate(self, elapsed: float) -> tuple[float, str]:
        """Returns what is done a second, and the time left."""
        rate = self._done / max(elapsed, 1e-9)
        return rate, format_time(max(0.0, self._total - self._done) / rate) if rate > 0 else "?"

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class PublishProgress(PrepareProgress):
    """Progress in bytes; a context manager.

    Args:
        total_bytes: Size of the corpus.
    """

    def __init__(self, total_bytes: int) -> None:
        super().__init__(float(total_bytes))

    def describe(self, elapsed: float) -> str:
        """Returns the line after so many seconds: share, gigabytes, rate, time left."""
        rate, left = self._estimate(elapsed)
        return (
            f"publish {min(1.0, self._done / self._total):4.0%}  "
            f"{self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB  "
            f"{rate / 1e6:.0f} MB/s  {left} left"
        )


def format_time(seconds: float) -> str:
    """Returns `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
