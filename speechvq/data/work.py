"""The pieces of work of data preparation: which rows are measured together, decided before any
audio is read.

The division depends on the manifests and the configuration alone, never on the number of workers;
so the output does not either.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import soundfile

from speechvq.data.archives import read_source_bytes, split_member_path
from speechvq.data.manifest import ManifestRow
from speechvq.data.storage import is_remote
from speechvq.errors import DataError

_NUM_PROBES = 32
"""Files a source and format whose headers are read to estimate lengths from sizes."""
_NUM_FETCHED_PROBES = 4
"""The same for members of archives, rows of tables and files of stores, which are read whole."""
_BYTES_A_SECOND = {".wav": 32_000.0, ".aiff": 32_000.0, ".flac": 17_000.0}
_USUAL_BYTES_A_SECOND = 8_000.0
"""Assumed where no header can be read: 64 kbit/s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of work, which becomes one table of segments.

    Attributes:
        index: Position among all pieces.
        language: Language of all its rows.
        rows: What to prepare, in order.
        estimated_seconds: Length of the audio, estimated.
    """

    index: int
    language: str
    rows: tuple[ManifestRow, ...]
    estimated_seconds: float


def divide_rows(
    rows: Sequence[ManifestRow], seconds: Sequence[float], part_minutes: float
) -> list[Part]:
    """Divides rows into parts of one language and about `part_minutes`.

    Args:
        rows: Usable rows of all manifests.
        seconds: Length of each row, estimated.
        part_minutes: A part ends when it has as much; 0 chooses.

    Returns:
        Parts by language; rows by source and path, so that the order of the manifests is no matter.
    """
    limit = choose_part_seconds(math.fsum(seconds), part_minutes)
    order = sorted(range(len(rows)), key=lambda index: _sort_key(rows[index]))
    parts: list[Part] = []
    current: list[ManifestRow] = []
    length = 0.0
    for position, index in enumerate(order):
        row = rows[index]
        current.append(row)
        length += seconds[index]
        is_last = position + 1 == len(order)
        if is_last or length >= limit or rows[order[position + 1]].language != row.language:
            parts.append(
                Part(
                    index=len(parts),
                    language=row.language,
                    rows=tuple(current),
                    estimated_seconds=length,
                )
            )
            current, length = [], 0.0
    return parts


def _sort_key(row: ManifestRow) -> tuple[str, str, str, int, str, float, float]:
    """What can only be read forward keeps its own order, the rest is ordered by path."""
    parts = split_member_path(row.path) if row.order else None
    container = row.path if parts is None else parts[0]
    begin, end = row.begin_seconds or 0.0, row.end_seconds or math.inf
    return row.language, row.source, container, row.order, row.path, begin, end


def choose_part_seconds(total_seconds: float, part_minutes: float) -> float:
    """Returns how much audio goes into one piece of work and one part file."""
    # A few hundred pieces keep many workers busy; larger files are kinder to whoever lists them.
    return 60 * part_minutes or min(3600.0, max(300.0, total_seconds / 512))


def estimate_seconds(rows: Sequence[ManifestRow]) -> list[float]:
    """Estimates the length of every row: as declared by the manifest, else from the file's size.

    Seconds a byte come from the headers of some files of the same source and suffix, so that a plan
    over a million files takes seconds; from the same files whatever the order of the rows.
    """
    unknown: dict[tuple[str, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if _get_declared(row) is None:
            unknown[_format_key(row)].append(row)
    rates = {key: _estimate_rate(members) for key, members in unknown.items()}
    lengths = []
    for row in rows:
        seconds = _get_declared(row)
        if seconds is None:
            seconds = row.num_bytes * rates[_format_key(row)] - (row.begin_seconds or 0.0)
        lengths.append(max(seconds, 0.0))
    return lengths


def _get_declared(row: ManifestRow) -> float | None:
    """Returns the length that the row states itself: of the part that it names, or of the file."""
    if row.end_seconds is not None:
        return row.end_seconds - (row.begin_seconds or 0.0)
    return row.seconds


def _format_key(row: ManifestRow) -> tuple[str, str]:
    return row.source, PurePosixPath(row.path).suffix.lower()


def _estimate_rate(rows: Sequence[ManifestRow]) -> float:
    """Returns seconds a byte, from evenly spaced files."""
    rows = sorted(rows, key=_sort_key)
    seconds = num_bytes = 0.0
    is_fetched = is_remote(rows[0].root) or split_member_path(rows[0].path) is not None
    if is_fetched:
        probes = rows[:_NUM_FETCHED_PROBES]
    else:
        probes = rows[:: max(1, len(rows) // _NUM_PROBES)][:_NUM_PROBES]
    for row in probes:
        try:
            info = soundfile.info(_open_probe(row, is_fetched))
        except (soundfile.SoundFileError, OSError, DataError, ValueError):
            continue
        seconds += info.frames / info.samplerate
        num_bytes += row.num_bytes
    if num_bytes:
        return seconds / num_bytes
    return 1 / _BYTES_A_SECOND.get(_format_key(rows[0])[1], _USUAL_BYTES_A_SECOND)


def _open_probe(row: ManifestRow, is_fetched: bool) -> str | io.BytesIO:
    if is_fetched:
        return io.BytesIO(read_source_bytes(row.root, row.path))
    return str(Path(row.root) / row.path)
