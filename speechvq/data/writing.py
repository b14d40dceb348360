"""Writing, the third stage of data preparation: what was accepted goes from the measurements into
part files, its FLAC bytes as they are.

Nothing is decoded or encoded again. `plan_part_files` divides the accepted segments by split and
language; `write_part_file` is a pure function of one division, run by whatever executor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.decide import Decisions
from speechvq.data.measure import MEASURE_NAMES
from speechvq.data.parts import CORPUS_SCHEMA, ROWS_PER_GROUP, partition_directory, write_part
from speechvq.data.records import SAMPLE_RATE, Flag
from speechvq.data.segment_columns import SegmentColumns, create_id
from speechvq.data.segment_table import audio_file, read_segments
from speechvq.data.text import get_normalizer
from speechvq.data.transcripts import has_foreign_script, spell_transcript


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceRows:
    """Accepted rows of one piece of work.

    Attributes:
        piece: The piece.
        rows: Rows of its table, in order.
        flags: For each row, what deciding found besides.
    """

    piece: int
    rows: tuple[int, ...]
    flags: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartFile:
    """A part file to write.

    Attributes:
        index: Position among all part files.
        split: Its split.
        language: Its language.
        number: Its number within split and language.
        pieces: What goes into it, in order.
        seconds: How much audio that is.
        own_letters: Letters of other scripts that belong to its language's spelling.
    """

    index: int
    split: str
    language: str
    number: int
    pieces: tuple[PieceRows, ...]
    seconds: float
    own_letters: str = ""

    def get_path(self, output: Path) -> Path:
        """Returns where it stands in the corpus."""
        directory = partition_directory(output, self.split, self.language)
        return directory / f"part-{self.number:05d}.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenPart:
    """A part file that was written."""

    index: int
    num_bytes: int


def plan_part_files(
    segments: SegmentColumns,
    decisions: Decisions,
    part_seconds: float,
    own_letters: Mapping[str, str],
) -> list[PartFile]:
    """Divides what was accepted into part files of about `part_seconds`, by split and language,
    which learn the letters of other scripts that are the language's own.

    Segments keep their order: by piece of work, so that a part file reads few pieces.
    """
    accepted = np.flatnonzero(decisions.is_accepted)
    split, language = decisions.split[accepted], segments.codes["language"][accepted]
    language_rank = np.argsort(np.argsort(segments.names["language"]))[language]
    order = np.lexsort((accepted, language_rank, split))
    files: list[PartFile] = []
    bounds = np.flatnonzero(
        np.diff(split[order] * len(segments.names["language"]) + language[order])
    )
    for group in np.split(accepted[order], bounds + 1):
        if len(group) == 0:
            continue
        # A part ends with the segment that fills it.
        total = np.cumsum(segments.seconds[group])
        number_of = np.floor((total - segments.seconds[group]) / part_seconds).astype(np.int64)
        name = decisions.splits[int(decisions.split[group[0]])]
        code = segments.names["language"][int(segments.codes["language"][group[0]])]
        for number, rows in enumerate(np.split(group, np.flatnonzero(np.diff(number_of)) + 1)):
            files.append(
                PartFile(
                    index=len(files),
                    split=name,
                    language=code,
                    number=number,
                    pieces=_group_by_piece(segments, decisions, rows),
                    seconds=float(segments.seconds[rows].sum()),
                    own_letters=own_letters.get(code, ""),
                )
            )
    return files


def _group_by_piece(
    segments: SegmentColumns, decisions: Decisions, rows: np.ndarray
) -> tuple[PieceRows, ...]:
    pieces = segments.piece[rows]
    groups = np.split(rows, np.flatnonzero(np.diff(pieces)) + 1)
    return tuple(
        PieceRows(
            piece=int(segments.piece[group[0]]),
            rows=tuple(segments.row[group].tolist()),
            flags=tuple(_list_flags(decisions, row) for row in group.tolist()),
        )
        for group in groups
    )


def _list_flags(decisions: Decisions, row: int) -> tuple[str, ...]:
    flags = []
    if decisions.is_near_duplicate[row]:
        flags.append(str(Flag.NEAR_DUPLICATE))
    if decisions.shares_text[row]:
        flags.append(str(Flag.TEXT_IN_OTHER_SPLIT))
    return tuple(flags)


def write_part_file(file: PartFile, output: Path, normalizer: str, digits: str) -> WrittenPart:
    """Writes a part file.

    Args:
        file: What goes into it.
        output: The corpus, with its measurements.
        normalizer: Name of the text normaliser.
        digits: What becomes of digits in transcripts: `flag`, `keep`, `expand`.
    """
    tables = [
        _create_table(output, piece, normalizer, digits, file.own_letters) for piece in file.pieces
    ]
    path = file.get_path(output)
    write_part(path, pa.concat_tables(tables))
    return WrittenPart(index=file.index, num_bytes=path.stat().st_size)


def _create_table(
    output: Path, piece: PieceRows, normalizer: str, digits: str, own_letters: str
) -> pa.Table:
    """Returns rows of the corpus."""
    table = read_segments(output, piece.piece).take(pa.array(piece.rows, pa.int64()))
    rows = table.drop_columns(["digest", "fingerprint"]).to_pylist()
    for row in rows if own_letters else []:
        if not has_foreign_script(row["text"] or "", row["language"], own_letters):
            row["flags"] = [flag for flag in row["flags"] if flag != Flag.FOREIGN_SCRIPT]
    normalize = get_normalizer(normalizer)
    spelt = [
        (None, row["flags"])
        if row["text"] is None
        else spell_transcript(row["text"], row["language"], row["flags"], normalize, digits=digits)
        for row in rows
    ]
    seconds = pc.divide(pc.cast(table["num_samples"], pa.float64()), float(SAMPLE_RATE))
    begin = pc.divide(pc.cast(table["begin"], pa.float64()), float(SAMPLE_RATE))
    columns = {name: table[name] for name in MEASURE_NAMES}
    columns |= {name: table[name] for name in _KEPT_COLUMNS}
    columns |= {
        "id": pa.array(
            [
                create_id(
                    row["source"],
                    row["path"],
                    row["begin"],
                    row["num_samples"],
                    row["is_whole"],
                )
                for row in rows
            ]
        ),
        "audio": read_audio(output, piece.piece, table["audio_row"].to_pylist()),
        "text": pa.array([text for text, _ in spelt], pa.string()),
        "raw_text": table["text"],
        "start_seconds": begin,
        "end_seconds": pc.add(begin, seconds),
        "letters_per_second": pc.divide(pc.cast(table["num_letters"], pa.float64()), seconds),
        "flags": pa.array(
            [[*flags, *more] for (_, flags), more in zip(spelt, piece.flags, strict=True)],
            pa.list_(pa.string()),
        ),
    }
    arrays = [pc.cast(columns[field.name], field.type) for field in CORPUS_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CORPUS_SCHEMA)


_KEPT_COLUMNS = (
    *("num_samples", "language", "source", "licence", "url", "speaker", "recording", "path"),
    *("original_sample_rate", "original_channels"),
)


def read_audio(output: Path, piece: int, rows: Sequence[int]) -> pa.ChunkedArray:
    """Reads FLAC clips of a piece of work, only the row groups that hold them.

    Args:
        output: The corpus.
        piece: The piece.
        rows: Rows of its audio file, in rising order.
    """
    numbers = np.asarray(rows, np.int64)
    groups = np.unique(numbers // ROWS_PER_GROUP)
    if len(groups) == 0:
        return pa.chunked_array([], pa.binary())
    with pq.ParquetFile(audio_file(output, piece)) as file:
        table = file.read_row_groups(groups.tolist(), columns=["audio"])
    places = np.searchsorted(groups, numbers // ROWS_PER_GROUP) * ROWS_PER_GROUP
    return table["audio"].take(pa.array(places + numbers % ROWS_PER_GROUP))
