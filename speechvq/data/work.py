"""The pieces of work of data preparation: which rows go into which part file, decided before any
audio is read.

The division depends on the manifests and the configuration alone, never on the number of workers;
so the output does not either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import soundfile

from speechvq.data.manifest import ManifestRow

_NUM_PROBES = 32
"""Files a source and format whose headers are read to estimate lengths from sizes."""
_BYTES_A_SECOND = 8_000.0
"""Assumed where no header can be read: 64 kbit/s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of work, which becomes at most one part file.

    Attributes:
        index: Position among all pieces.
        split: Split of all its rows.
        language: Language of all its rows.
        number: Number of the part file within its partition.
        rows: What to prepare, in order.
        estimated_seconds: Length of the audio, estimated.
    """

    index: int
    split: str
    language: str
    number: int
    rows: tuple[ManifestRow, ...]
    estimated_seconds: float


def divide_rows(
    rows: Sequence[ManifestRow], seconds: Sequence[float], part_minutes: float
) -> list[Part]:
    """Divides rows into parts of one split and language and about `part_minutes`.

    Args:
        rows: Rows with splits.
        seconds: Length of each row, estimated.
        part_minutes: A part ends when it has as much; 0 chooses.

    Returns:
        Parts by split and language; rows keep their order.
    """
    # A few hundred pieces keep many workers busy; larger files are kinder to whoever lists them.
    limit = 60 * part_minutes or min(3600.0, max(300.0, sum(seconds) / 512))
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[row.split or "train", row.language].append(index)
    parts: list[Part] = []
    for (split, language), members in sorted(groups.items()):
        number = 0
        current: list[int] = []
        length = 0.0
        for position, index in enumerate(members):
            current.append(index)
            length += seconds[index]
            if length >= limit or position == len(members) - 1:
                parts.append(
                    Part(
                        index=len(parts),
                        split=split,
                        language=language,
                        number=number,
                        rows=tuple(rows[i] for i in current),
                        estimated_seconds=length,
                    )
                )
                number, current, length = number + 1, [], 0.0
    return parts


def estimate_seconds(rows: Sequence[ManifestRow]) -> list[float]:
    """Estimates the length of every row: as declared by the manifest, else from the file's size.

    Seconds a byte come from the headers of some files of the same source and suffix, so that a plan
    over a million files takes seconds.
    """
    unknown: dict[tuple[str, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.seconds is None:
            unknown[_format_key(row)].append(row)
    rates = {key: _estimate_rate(members) for key, members in unknown.items()}
    return [
        row.num_bytes * rates[_format_key(row)] if row.seconds is None else row.seconds
        for row in rows
    ]


def _format_key(row: ManifestRow) -> tuple[str, str]:
    return row.source, PurePosixPath(row.path).suffix.lower()


def _estimate_rate(rows: Sequence[ManifestRow]) -> float:
    """Returns seconds a byte, from evenly spaced files."""
    seconds = num_bytes = 0.0
    for row in rows[:: max(1, len(rows) // _NUM_PROBES)][:_NUM_PROBES]:
        try:
            info = soundfile.info(str(Path(row.root) / row.path))
        except (soundfile.SoundFileError, OSError):
            continue
        seconds += info.frames / info.samplerate
        num_bytes += row.num_bytes
    return seconds / num_bytes if num_bytes else 1 / _BYTES_A_SECOND
