"""The table of segments, what measuring leaves for each piece of work: one row a segment, every
sample of the input in just one row.

    measurements/segments-0000000.parquet     numbers and names, no audio
    measurements/audio-0000000.parquet        the FLAC of each candidate

A row with `set_aside` is no candidate: it could not be decoded, or nobody speaks there. The other
rows are candidates, whose `audio_row` is their row in the audio file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.measure import MEASURE_NAMES
from speechvq.data.parts import ROWS_PER_GROUP
from speechvq.data.records import Rejection

DIRECTORY = "measurements"
MEASURED_FILE = "measured.json"
"""Beside the measurements: says that they are complete."""
MANIFEST_PIECE = -1
"""The piece of what was rejected before any audio was read."""

_NAMES = ("source", "language", "recording", "speaker", "licence", "url", "split", "set_aside")
SEGMENT_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in _NAMES),
        pa.field("text", pa.string()),
        pa.field("text_digest", pa.int64()),
        pa.field("num_letters", pa.int32()),
        pa.field("begin", pa.int64(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("is_whole", pa.bool_(), nullable=False),
        pa.field("is_first", pa.bool_(), nullable=False),
        pa.field("audio_row", pa.int32()),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("detail", pa.string()),
        pa.field("original_sample_rate", pa.int32()),
        pa.field("original_channels", pa.int32()),
        *(pa.field(name, pa.float32()) for name in MEASURE_NAMES),
        pa.field("digest", pa.binary(16)),
        pa.field("fingerprint", pa.binary(16)),
        pa.field("flags", pa.list_(pa.string()), nullable=False),
    ]
)
"""`split` is the manifest's; `text` the transcript as it came; `begin` in samples; `is_first` marks
one row a file, so that files can be counted; `value`, `threshold`, `detail` belong to
`set_aside`."""
_AUDIO_SCHEMA = pa.schema([pa.field("audio", pa.binary(), nullable=False)])


def segments_file(output: Path, piece: int) -> Path:
    """Returns where the table of a piece of work lies."""
    name = "manifest" if piece == MANIFEST_PIECE else f"segments-{piece:07d}"
    return output / DIRECTORY / f"{name}.parquet"


def audio_file(output: Path, piece: int) -> Path:
    """Returns where the FLAC of a piece's candidates lies."""
    return output / DIRECTORY / f"audio-{piece:07d}.parquet"


def list_pieces(output: Path) -> list[int]:
    """Returns the pieces whose tables are there, in order; that of the manifests first."""
    names = sorted((output / DIRECTORY).glob("segments-*.parquet"))
    pieces = [int(path.stem.removeprefix("segments-")) for path in names]
    return [*([MANIFEST_PIECE] if segments_file(output, MANIFEST_PIECE).exists() else []), *pieces]


class SegmentWriter:
    """Writes the table and the audio of one piece of work; both appear when they are complete.

    Args:
        output: The corpus.
        piece: Number of the piece.
    """

    def __init__(self, output: Path, piece: int) -> None:
        self._table, self._audio = segments_file(output, piece), audio_file(output, piece)
        self._rows: list[dict[str, Any]] = []
        self._clips: list[bytes] = []
        self._num_clips = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: Mapping[str, Any], audio: bytes | None = None) -> None:
        """Appends a row by the names of `SEGMENT_SCHEMA`; what is not named is null."""
        self._rows.append({"flags": [], **row})
        if audio is not None:
            self._rows[-1]["audio_row"] = self._num_clips
            self._num_clips += 1
            self._clips.append(audio)
            if len(self._clips) == ROWS_PER_GROUP:
                self._flush()

    def close(self) -> int:
        """Completes both files.

        Returns:
            Their size in bytes.
        """
        self._flush()
        self._table.parent.mkdir(parents=True, exist_ok=True)
        num_bytes = 0
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            temporary_name(self._audio).replace(self._audio)
            num_bytes = self._audio.stat().st_size
        table = pa.Table.from_pylist(self._rows, schema=SEGMENT_SCHEMA)
        write_segments(self._table, table)
        return num_bytes + self._table.stat().st_size

    def discard(self) -> None:
        """Drops everything written so far."""
        if self._writer is not None:
            self._writer.close()
        temporary_name(self._audio).unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._clips:
            return
        if self._writer is None:
            self._audio.parent.mkdir(parents=True, exist_ok=True)
            self._writer = open_audio_writer(temporary_name(self._audio))
        clips = pa.table({"audio": pa.array(self._clips, pa.binary())}, schema=_AUDIO_SCHEMA)
        self._writer.write_table(clips, row_group_size=ROWS_PER_GROUP)
        self._clips = []


def temporary_name(path: Path) -> Path:
    """Returns the name under which a file is written before it is complete."""
    return path.with_name(path.name + ".tmp")


def open_audio_writer(path: Path) -> pq.ParquetWriter:
    """Opens a file of FLAC clips, which do not compress further."""
    return pq.ParquetWriter(
        path, _AUDIO_SCHEMA, compression="NONE", use_dictionary=False, write_statistics=False
    )


def write_segments(path: Path, table: pa.Table) -> None:
    """Writes a table of segments under a temporary name and renames it."""
    temporary = temporary_name(path)
    pq.write_table(
        table, temporary, compression="ZSTD", use_dictionary=[*_NAMES, "detail"], store_schema=False
    )
    temporary.replace(path)


def write_manifest_rejections(output: Path, rejections: Sequence[Rejection]) -> None:
    """Writes the rows that were rejected before any audio was read as a piece of their own."""
    rows: list[dict[str, Any]] = [
        {
            "path": row.path,
            "source": row.source,
            "language": row.language,
            "recording": row.path,
            "set_aside": str(row.reason),
            "begin": 0,
            "num_samples": row.num_samples,
            "is_whole": True,
            "is_first": True,
            "value": row.value,
            "threshold": row.threshold,
            "detail": row.detail,
            "flags": [],
        }
        for row in rejections
    ]
    path = segments_file(output, MANIFEST_PIECE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_segments(path, pa.Table.from_pylist(rows, schema=SEGMENT_SCHEMA))


def read_segments(output: Path, piece: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads the table of a piece of work."""
    with pq.ParquetFile(segments_file(output, piece)) as file:
        return file.read(columns=None if columns is None else list(columns))
