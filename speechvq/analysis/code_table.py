"""The code table: one row a frame, with its codes and its phone, as one Parquet file.

    utterance language speaker source recording frame time group_0 … group_{G-1} phone

`speechvq.analysis.extraction` writes it, every statistic reads it. Controls have columns of their
own, `random_0` …, `kmeans_0` …. An utterance never stands in two row groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from speechvq.errors import DataError

CODES_FILE = "codes.parquet"
SILENCE = "sil"
"""The phone of silence."""
MODEL = "group"
"""Columns of the model's own codes begin with it."""
_TEXT_COLUMNS = ("utterance", "language", "speaker", "source", "recording")


@dataclass(frozen=True, kw_only=True)
class UtteranceFrames:
    """The rows of one utterance.

    Attributes:
        utterance: Its id in the corpus.
        language: Code such as `hin_Deva`.
        speaker: `<source>/<speaker>`, or None where unknown.
        source: Where the recording came from.
        recording: What the utterance was cut from.
        times: (T,) float32, centres of the frames in seconds from the begin of the utterance.
        codes: (T, G) by the name of who made them: `group` for the model, or a control.
        phones: T phones, None where unknown; None where all are.
    """

    utterance: str
    language: str
    speaker: str | None
    source: str
    recording: str
    times: NDArray[np.float32]
    codes: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    phones: Sequence[str | None] | None = None


def create_schema(groups: Mapping[str, int]) -> pa.Schema:
    """Returns the columns of a code table.

    Args:
        groups: Number of codebooks by who made the codes (`group`, `random`, `kmeans`).
    """
    columns = [f"{name}_{g}" for name, count in groups.items() for g in range(count)]
    return pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=name == "speaker") for name in _TEXT_COLUMNS),
            pa.field("frame", pa.int32(), nullable=False),
            pa.field("time", pa.float32(), nullable=False),
            *(pa.field(name, pa.int32(), nullable=False) for name in columns),
            pa.field("phone", pa.string()),
        ]
    )


class CodeTableWriter:
    """Writes a code table, a row group at a time; a context manager.

    Args:
        path: Where the table will stand; it appears there only when it is complete.
        groups: See `create_schema`.
        rows_a_group: Of the file; the last utterance of a group may go beyond.

    Attributes:
        num_rows: Rows added so far: the number of the next one.
    """

    def __init__(
        self, path: Path, groups: Mapping[str, int], *, rows_a_group: int = 50_000
    ) -> None:
        self._rows_a_group = rows_a_group
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._groups = dict(groups)
        self._schema = create_schema(groups)
        self.num_rows = self._num_written = 0
        self._waiting: list[UtteranceFrames] = []

    def add(self, batch: Sequence[UtteranceFrames]) -> None:
        """Writes some utterances, as soon as there are enough of them for a row group."""
        self._waiting += [one for one in batch if len(one.times)]
        self.num_rows += sum(len(one.times) for one in batch)
        if self.num_rows - self._num_written >= self._rows_a_group:
            self._flush()

    def _flush(self) -> None:
        """Writes what waits as one row group."""
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        lengths = [len(one.times) for one in batch]
        arrays: list[pa.Array] = [
            _repeat([getattr(one, name) for one in batch], lengths) for name in _TEXT_COLUMNS
        ]
        arrays.append(
            pa.array(np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]))
        )
        arrays.append(pa.array(np.concatenate([one.times for one in batch]).astype(np.float32)))
        for name, count in self._groups.items():
            codes = np.concatenate([one.codes[name] for one in batch]).astype(np.int32)  # (N, G)
            arrays += [pa.array(np.ascontiguousarray(codes[:, g])) for g in range(count)]
        phones = [
            phone
            for one, length in zip(batch, lengths, strict=True)
            for phone in (one.phones if one.phones is not None else [None] * length)
        ]
        arrays.append(pa.array(phones, type=pa.string()))
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=len(table))
        self._num_written += len(table)

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self._temporary,
            self._schema,
            compression="ZSTD",
            use_dictionary=[*_TEXT_COLUMNS, "phone"],
            store_schema=False,
        )
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_complete = False
        try:
            if error is None:
                self._flush()
                is_complete = True
        finally:
            self._writer.close()
            if is_complete:
                self._temporary.replace(self._path)
            else:
                self._temporary.unlink(missing_ok=True)


def _repeat(values: Sequence[str | None], lengths: Sequence[int]) -> pa.Array:
    indices = np.repeat(np.arange(len(values), dtype=np.int32), lengths)
    return pa.array(values, type=pa.string()).take(pa.array(indices))


@dataclass(frozen=True, kw_only=True)
class CodeTable:
    """A code table on the disk.

    Attributes:
        path: The file.
        groups: Number of codebooks by who made the codes; without `group` where the model has no
            quantiser.
        num_rows: Frames.
    """

    path: Path
    groups: Mapping[str, int]
    num_rows: int

    def list_columns(self, name: str = MODEL) -> list[str]:
        """Returns the columns of one maker's codes."""
        return [f"{name}_{g}" for g in range(self.groups.get(name, 0))]

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads some columns, a row group (whole utterances) at a time."""
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=list(columns))


def open_code_table(path: Path) -> CodeTable:
    """Opens a code table.

    Raises:
        DataError: It cannot be read, or lacks columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            names, num_rows = file.schema_arrow.names, file.metadata.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}. Run `speechvq analyze` again.") from None
    missing = sorted({*_TEXT_COLUMNS, "frame", "time", "phone"} - set(names))
    if missing:
        raise DataError(f"{path} is no code table: it lacks the columns {', '.join(missing)}.")
    groups: dict[str, int] = {}
    for name in names:
        if match := re.fullmatch(r"(\w+)_\d+", name):
            groups[match[1]] = groups.get(match[1], 0) + 1
    return CodeTable(path=path, groups=groups, num_rows=num_rows)
