"""Picks numbers out of what the stages of the demo left, for its page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]
"""One line of `metrics.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """An error rate with its 95 % interval, as shares; NaN where something is not known."""

    value: float
    low: float
    high: float

    def format(self) -> str:
        """In per cent, such as ``31.4 %``; a dash where it is not known."""
        return "–" if math.isnan(self.value) else f"{100 * self.value:.1f} %"

    def format_interval(self) -> str:
        """The interval in per cent; empty where it is not known."""
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        return f"95 % interval {100 * self.low:.1f} to {100 * self.high:.1f} %"


def extract_curve(
    lines: Sequence[Line], split: str, key: str, element: int | None = None
) -> tuple[list[int], list[float]]:
    """One value over the steps.

    Args:
        lines: Lines of `metrics.jsonl`.
        split: Which lines: ``train`` or ``dev``.
        key: Name of the value.
        element: Which element, where the value is a list (one value per codebook).

    Returns:
        Steps and values; lines without the value are left out.
    """
    steps, values = [], []
    for line in lines:
        value = line.get(key)
        if element is not None:
            has_element = isinstance(value, list) and element < len(value)
            value = value[element] if has_element and value is not None else None
        if line.get("split") == split and isinstance(value, int | float):
            steps.append(int(line["step"]))
            values.append(float(value))
    return steps, values


def count_codebooks(lines: Sequence[Line]) -> int:
    """Length of the longest list of perplexities."""
    lists = [line.get("perplexity") for line in lines]
    return max((len(value) for value in lists if isinstance(value, list)), default=0)


def extract_rate(metrics: Mapping[str, Any], name: str) -> Rate:
    """An error rate of `metrics.json`, with its interval.

    Args:
        metrics: What `evaluate` wrote.
        name: ``wer`` or ``cer``.
    """
    value, interval = metrics.get(name), metrics.get(f"{name}_interval")
    low, high = interval or (math.nan, math.nan)
    return Rate(value=math.nan if value is None else value, low=low, high=high)
