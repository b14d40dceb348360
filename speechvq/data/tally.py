"""The bookkeeping of data preparation: every sample that came in is accepted or rejected, counted
in whole samples.

A piece of work leaves one `PartResult` (JSON); `summarize` adds them up. All sums are of integers,
so that they do not depend on the order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from speechvq.data.records import SAMPLE_RATE, Reason, Rejection, Utterance

DURATION_EDGES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 60)
"""Seconds; the last bin is open."""
SNR_EDGES = (-20, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 35, 40, 50, 60, 100)
"""dB; the last bin holds 100 alone: cleaner than the estimate can tell."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of one source, language and split."""

    num_files: int = 0
    samples_in: int = 0
    num_utterances: int = 0
    samples_accepted: int = 0
    samples_transcribed: int = 0

    def add(self, other: Tally) -> None:
        """Adds the counts of another."""
        self.num_files += other.num_files
        self.samples_in += other.samples_in
        self.num_utterances += other.num_utterances
        self.samples_accepted += other.samples_accepted
        self.samples_transcribed += other.samples_transcribed


@dataclass(kw_only=True, slots=True)
class PartResult:
    """What one piece of work did."""

    index: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    """By source; language and split are the piece's."""
    rejections: list[Rejection] = field(default_factory=list)
    durations: list[int] = field(default_factory=lambda: [0] * len(DURATION_EDGES))
    snrs: list[int] = field(default_factory=lambda: [0] * len(SNR_EDGES))
    num_without_snr: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    num_bytes: int = 0
    """Size of the part file."""

    def add_file(self, source: str, num_samples: int) -> None:
        """Counts a file that came in."""
        tally = self.tallies.setdefault(source, Tally())
        tally.num_files += 1
        tally.samples_in += num_samples

    def add_utterance(self, utterance: Utterance) -> None:
        """Counts an accepted utterance."""
        tally = self.tallies.setdefault(utterance.source, Tally())
        tally.num_utterances += 1
        tally.samples_accepted += utterance.num_samples
        if utterance.text:
            tally.samples_transcribed += utterance.num_samples
        self.durations[find_bin(DURATION_EDGES, utterance.num_seconds)] += 1
        if utterance.snr_db is None:
            self.num_without_snr += 1
        else:
            self.snrs[find_bin(SNR_EDGES, utterance.snr_db)] += 1
        for flag in utterance.flags:
            self.flags[flag] = self.flags.get(flag, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PartResult:
        """Reads what `to_json` returned."""
        data = dict(data)
        data["tallies"] = {source: Tally(**counts) for source, counts in data["tallies"].items()}
        data["rejections"] = [
            Rejection(**{**row, "reason": Reason(row["reason"])}) for row in data["rejections"]
        ]
        return cls(**data)


def find_bin(edges: Sequence[float], value: float) -> int:
    """Returns the index of the last edge that the value reaches; 0 below the first."""
    return max(0, sum(value >= edge for edge in edges) - 1)


@dataclass(kw_only=True, slots=True)
class Totals:
    """Everything that preparation counted, over all pieces."""

    tallies: dict[tuple[str, str, str], Tally]
    """By source, language, split."""
    rejections: list[Rejection]
    durations: list[int]
    snrs: list[int]
    num_without_snr: int
    flags: dict[str, int]
    num_bytes: int


def add_up(parts: Iterable[tuple[str, str, PartResult]], early: Sequence[Rejection]) -> Totals:
    """Adds up the results of all pieces.

    Args:
        parts: Language, split and result of each piece, in order.
        early: What was rejected before any audio was read.
    """
    tallies: dict[tuple[str, str, str], Tally] = defaultdict(Tally)
    rejections = list(early)
    for row in early:
        tallies[row.source, row.language, ""].add(Tally(num_files=1, samples_in=row.num_samples))
    durations, snrs = [0] * len(DURATION_EDGES), [0] * len(SNR_EDGES)
    flags: Counter[str] = Counter()
    num_without_snr = num_bytes = 0
    for language, split, result in parts:
        for source, tally in result.tallies.items():
            tallies[source, language, split].add(tally)
        rejections += result.rejections
        durations = [a + b for a, b in zip(durations, result.durations, strict=True)]
        snrs = [a + b for a, b in zip(snrs, result.snrs, strict=True)]
        flags.update(result.flags)
        num_without_snr += result.num_without_snr
        num_bytes += result.num_bytes
    return Totals(
        tallies=dict(sorted(tallies.items())),
        rejections=rejections,
        durations=durations,
        snrs=snrs,
        num_without_snr=num_without_snr,
        flags=dict(sorted(flags.items())),
        num_bytes=num_bytes,
    )


def to_hours(num_samples: int) -> float:
    """Returns hours, rounded to a hundredth of a second."""
    return round(num_samples / SAMPLE_RATE / 3600, 6)
