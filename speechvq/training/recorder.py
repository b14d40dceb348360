"""Receives every interval's metrics from fairseq2.

One line goes to `metrics.jsonl`, one to the terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from fairseq2.metrics.recorders import MetricRecorder
from typing_extensions import override

from speechvq.training.metrics import MetricsFile

DROPPED = ("batch_size", "elements_per_second", "num_batches", "lapse_time", "data_epoch")


class RunRecorder(MetricRecorder):
    """Writes metrics and shows progress; on rank 0.

    Args:
        file: Where the lines go; None on ranks that record nothing.
        steps: Steps of the whole run.
        first_step: The step that this process starts after.
    """

    def __init__(self, file: MetricsFile | None, steps: int, first_step: int) -> None:
        self._file = file
        self._steps = steps
        self._first_step = first_step
        self._start = time.monotonic()
        self._first_hours: float | None = None

    @override
    def record_metric_values(
        self, category: str, values: Mapping[str, object], step_nr: int | None = None
    ) -> None:
        step = step_nr or 0
        split = category.removeprefix("valid/")
        kept: dict[str, Any] = {
            name: value for name, value in values.items() if name not in DROPPED
        }
        if split != "train" and not (kept.get("targets") or kept.get("words")):
            return  # a validation that a signal cut short before its first batch
        lr = kept.get("lr")
        if isinstance(lr, list):
            kept["lr"] = max(lr)  # that of heads, where layers learn at rates of their own
        if self._file is None:
            return
        line = self._file.write(step, split, kept)
        print(self._describe(step, split, line), file=sys.stderr, flush=True)

    def _describe(self, step: int, split: str, line: dict[str, Any]) -> str:
        """Make the line that the terminal shows."""
        numbers = [f"{name} {_format(line[name])}" for name in _SHOWN if line.get(name) is not None]
        if split != "train":
            return f"  {split:>5} at {step}: " + "  ".join(numbers)
        elapsed = time.monotonic() - self._start
        done = max(step - self._first_step, 1)
        left = elapsed / done * max(self._steps - step, 0)
        speed = self._compute_speed(line, elapsed)
        return (
            f"step {step:>{len(str(self._steps))}}/{self._steps}  "
            + "  ".join(numbers)
            + (f"  {speed:.0f}× real time" if speed else "")
            + f"  {format_duration(left)} left"
        )

    def _compute_speed(self, line: dict[str, Any], elapsed: float) -> float:
        """Return hours of audio per hour since the first line of this process."""
        hours = line.get("audio_hours")
        if hours is None:
            return 0.0
        if self._first_hours is None:
            self._first_hours, self._start_hours = float(hours), time.monotonic()
            return 0.0
        seconds = max(time.monotonic() - self._start_hours, 1e-9)
        return (float(hours) - self._first_hours) * 3600 / seconds

    @override
    def close(self) -> None:
        pass


_SHOWN = (
    "skipped_updates", "loss", "contrastive_loss", "prediction_loss", "accuracy", "equal_share",
    "perplexity", "dead_codes", "cer", "wer", "blank_share", "empty_share", "code_error",
    "code_usage", "num_active", "grad_norm", "lr", "audio_hours",
)  # fmt: skip


def _format(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_format(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.01 else f"{value:.4g}"
    return str(value)


def format_duration(seconds: float) -> str:
    """Write seconds as `1 h 05 min`, `3 min 20 s` or `12 s`."""
    total = round(seconds)
    if total >= 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    if total >= 60:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total} s"
