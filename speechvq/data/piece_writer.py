"""The table of one piece of work while it grows: what all rows of a file have in common is added
here, samples are counted, and a few excerpts of what is set aside are kept for the report.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from speechvq.data.audio import encode_flac
from speechvq.data.manifest import ManifestRow
from speechvq.data.recording import RecordingPart
from speechvq.data.records import SAMPLE_RATE, Reason
from speechvq.data.segment_table import SegmentWriter
from speechvq.data.segments import Span

_MAX_EXCERPTS = 3
"""So many excerpts of each reason of each piece of work are kept for the report."""
_EXCERPT_SAMPLES = 5 * SAMPLE_RATE


class PieceWriter(SegmentWriter):
    """Adds what all rows of a file have in common, and counts samples and excerpts."""

    def __init__(self, output: Path, piece: int) -> None:
        super().__init__(output, piece)
        self.num_samples = 0
        self._excerpts: Counter[str] = Counter()
        self._last_row: ManifestRow | None = None

    def add_segment(
        self, row: ManifestRow, span: Span, audio: bytes | None = None, **values: Any
    ) -> None:
        """Appends a segment of a file."""
        common = {
            "path": row.path,
            "source": row.source,
            "language": row.language,
            "recording": row.recording,
            "speaker": row.speaker,
            "licence": row.licence,
            "url": row.url,
            "split": row.split,
            "begin": span.begin + round((row.begin_seconds or 0.0) * SAMPLE_RATE),
            "num_samples": span.num_samples,
            "is_whole": False,
            "is_first": row is not self._last_row,
        }
        self._last_row = row
        self.num_samples += span.num_samples
        self.add(common | values, audio)

    def set_aside(
        self,
        row: ManifestRow,
        reason: Reason,
        num_samples: int,
        value: float | None = None,
        threshold: float | None = None,
        detail: str = "",
        samples: RecordingPart | None = None,
        place: Span | None = None,
    ) -> None:
        """Appends what is no candidate, with a few seconds of it for the first ones."""
        audio = None
        if samples is not None and place is not None and self._excerpts[reason] < _MAX_EXCERPTS:
            self._excerpts[reason] += 1
            end = min(place.end, place.begin + _EXCERPT_SAMPLES)
            audio = encode_flac(samples[place.begin : end])
        self.add_segment(
            row,
            Span(0, num_samples),
            audio,
            set_aside=str(reason),
            value=value,
            threshold=threshold,
            detail=detail,
        )
