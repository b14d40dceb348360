"""The bookkeeping of data preparation: every sample that came in is accepted or rejected, counted
in whole samples, from the columns of all segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from speechvq.data.decide import REASONS, Decisions
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.segment_columns import Numbers, SegmentColumns

DURATION_EDGES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 60)
"""Seconds; the last bin is open."""
SNR_EDGES = (-20, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 35, 40, 50, 60, 100)
"""dB; the last bin holds 100 alone: cleaner than the estimate can tell."""
BANDWIDTH_EDGES = (0, 2000, 3000, 3500, 4000, 4500, 5000, 5500, 6000, 6500, 7000, 7500, 8000)
"""Hz; the last bin holds 8000 alone: no end within the band."""
RATE_EDGES = (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40)
"""Letters a second; the last bin is open."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between edges, the last bin open.

    Attributes:
        edges: Lower ends of the bins.
        counts: Segments in each.
        num_undefined: Segments without the measure.
    """

    edges: tuple[float, ...]
    counts: list[int]
    num_undefined: int


def count_bins(values: Numbers, edges: tuple[float, ...]) -> Histogram:
    """Counts values by bins; NaN is undefined."""
    defined = values[~np.isnan(values)]
    bins = np.clip(np.searchsorted(edges, defined, side="right") - 1, 0, None)
    counts = np.bincount(bins, minlength=len(edges)).tolist()
    return Histogram(edges=edges, counts=counts, num_undefined=len(values) - len(defined))


def count_by(
    names: list[str], codes: npt.NDArray[np.int64], segments: SegmentColumns, decisions: Decisions
) -> dict[str, dict[str, Any]]:
    """Returns files, utterances and hours by one column; -1 is `none`."""
    accepted = decisions.is_accepted
    lengths, size = segments.num_samples, len(names) + 1
    is_transcribed = accepted & segments.has_text

    def add_up(rows: npt.NDArray[np.bool_]) -> list[int]:
        totals = np.zeros(size, np.int64)
        np.add.at(totals, codes[rows] + 1, lengths[rows])
        return [int(total) for total in totals]

    everything = np.ones(len(segments), np.bool_)
    samples = zip(add_up(everything), add_up(accepted), add_up(is_transcribed), strict=True)
    files = np.bincount(codes[segments.is_first] + 1, minlength=size).tolist()
    utterances = np.bincount(codes[accepted] + 1, minlength=size).tolist()
    is_there = np.bincount(codes + 1, minlength=size).tolist()
    rows = {
        name: {
            "num_files": num_files,
            "num_utterances": num_utterances,
            "hours_in": to_hours(samples_in),
            "hours_accepted": to_hours(samples_accepted),
            "hours_transcribed": to_hours(samples_transcribed),
        }
        for name, num_files, num_utterances, (
            samples_in,
            samples_accepted,
            samples_transcribed,
        ), n in zip(["none", *names], files, utterances, samples, is_there, strict=True)
        if n
    }
    return dict(sorted(rows.items()))


def count_rejected(
    names: list[str], codes: npt.NDArray[np.int64], segments: SegmentColumns, decisions: Decisions
) -> dict[str, dict[str, Any]]:
    """Returns rejected segments and hours by one column."""
    rejected = ~decisions.is_accepted
    size = len(names) + 1
    counts = np.bincount(codes[rejected] + 1, minlength=size).tolist()
    totals = np.zeros(size, np.int64)
    np.add.at(totals, codes[rejected] + 1, segments.num_samples[rejected])
    rows = {
        name: {"count": count, "hours": to_hours(int(total))}
        for name, count, total in zip(["none", *names], counts, totals, strict=True)
        if count
    }
    return dict(sorted(rows.items()))


def count_reasons(segments: SegmentColumns, decisions: Decisions) -> dict[str, dict[str, Any]]:
    """Returns rejected segments and hours by reason."""
    return count_rejected([str(r) for r in REASONS], decisions.reason, segments, decisions)


def to_hours(num_samples: int) -> float:
    """Returns hours, rounded to a hundredth of a second."""
    return round(num_samples / SAMPLE_RATE / 3600, 6)
