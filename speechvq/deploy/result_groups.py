"""Utterances grouped by what might explain their errors: source, length, noise.

Edges of bins are fixed beforehand, the same for every corpus: bins that follow the data can be made
to show anything. A bin holds its lower edge and not its upper one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from speechvq.decoding.scoring import GroupScore, UtteranceScores

DURATION_EDGES = (2.0, 5.0, 10.0, 15.0, 20.0)
"""Seconds."""
SNR_EDGES = (0.0, 10.0, 20.0, 30.0, 40.0, 60.0)
"""dB, of the corpus' column `snr_db` (WADA; 100 means cleaner than it can tell)."""
UNKNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class ScoreGroups:
    """Scores by one property.

    Attributes:
        key: Name in `metrics.json`.
        title: Heading for people.
        head: What a group is, for the head of a table.
        groups: Scores of the groups that have utterances, in order.
        note: What should be known to read them.
    """

    key: str
    title: str
    head: str
    groups: list[GroupScore]
    note: str


def group_scores(
    scores: UtteranceScores, sources: Sequence[str], snrs: Sequence[float | None]
) -> list[ScoreGroups]:
    """Returns the scores by source, by duration and by signal-to-noise ratio.

    Args:
        scores: Of U utterances.
        sources: U names, "" where not known.
        snrs: U ratios in dB, None where not measured.
    """
    return [
        ScoreGroups(
            key="sources",
            title="Sources",
            head="source",
            groups=scores.summarize_by([source or UNKNOWN for source in sources]),
            note="Where the recordings come from, as the corpus says.",
        ),
        ScoreGroups(
            key="durations",
            title="Duration",
            head="seconds",
            groups=_summarize_bins(scores, list(scores.seconds), DURATION_EDGES, "s"),
            note="A bin holds its lower edge and not its upper one.",
        ),
        ScoreGroups(
            key="snr",
            title="Signal-to-noise ratio",
            head="dB",
            groups=_summarize_bins(scores, snrs, SNR_EDGES, "dB"),
            note="The corpus' column snr_db, estimated from the audio (WADA) when it was prepared: "
            "steady noise counts, music and other voices hardly do. “not known”: too little "
            "speech to measure, or not measured.",
        ),
    ]


def name_bin(value: float | None, edges: Sequence[float], unit: str) -> str:
    """Returns the name of the bin that a value lies in: "5 – 10 s"."""
    if value is None or math.isnan(value):
        return UNKNOWN
    place = sum(value >= edge for edge in edges)
    if place == 0:
        return f"under {edges[0]:g} {unit}"
    if place == len(edges):
        return f"{edges[-1]:g} {unit} and more"
    return f"{edges[place - 1]:g} – {edges[place]:g} {unit}"


def _summarize_bins(
    scores: UtteranceScores, values: Sequence[float | None], edges: Sequence[float], unit: str
) -> list[GroupScore]:
    labels = [name_bin(value, edges, unit) for value in values]
    found = {group.name: group for group in scores.summarize_by(labels)}
    middles = [edges[0] - 1, *edges]
    order = [*(name_bin(value, edges, unit) for value in middles), UNKNOWN]
    return [found[name] for name in order if name in found]
