"""Audio that lies in rows of Parquet files: `data.parquet!/12` is the audio of row 12.

The two shapes in use: a struct `{bytes, path}` (Hugging Face datasets) and a list of int8
(omnilingual-asr); plain binary is read too. Standing: `speechvq.data.archives` reads bytes here,
`speechvq.data.formats` finds the rows.
"""

from __future__ import annotations

import bisect
import functools
import os
import threading
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.storage import open_file
from speechvq.errors import DataError

ROWS_SUFFIX = ".parquet"


def find_audio_column(schema: pa.Schema) -> str | None:
    """Returns the column that holds encoded audio; None where there is none."""
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return str(field.name)
    for name in ("audio_bytes", "audio"):
        index = schema.get_field_index(name)
        if index >= 0 and _is_bytes(schema.field(index).type):
            return name
    return None


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and bool(kind.value_type in (pa.int8(), pa.uint8()))


def read_embedded_audio(root: str, path: str, row: str) -> bytes:
    """Returns the audio of one row.

    Args:
        root: The input directory or URL.
        path: The Parquet file.
        row: Number of the row, from 0.

    Raises:
        DataError: If there is no such row, or it holds no audio.
    """
    if not row.isdecimal():
        raise DataError(f"{path}: a row must be a number, but is {row!r}.")
    reader = _open_reader(root, path, os.getpid())
    return reader.read(int(row))


def estimate_embedded_bytes(root: str, path: str, row: str) -> int:
    """Returns about how large the audio of one row is: the mean of its row group; 0 where there is
    no such row.
    """
    try:
        return _open_reader(root, path, os.getpid()).estimate_bytes(int(row))
    except (DataError, OSError, ValueError):
        return 0


@functools.lru_cache(maxsize=4)
def _open_reader(root: str, path: str, process: int) -> _Reader:
    return _Reader(root, path)


class _Reader:
    """One Parquet file, with the latest row group kept: rows are read in order."""

    def __init__(self, root: str, path: str) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(open_file(root, path))
        except pa.ArrowInvalid as error:
            raise DataError(f"{path} is no Parquet file: {error}.") from None
        column = find_audio_column(self._file.schema_arrow)
        if column is None:
            raise DataError(f"{path} has no column with audio.")
        self._column = column
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._begins = [0, *accumulate(sizes)]
        self._means: list[int] = [
            _measure_column(metadata.row_group(i), column) for i in range(len(sizes))
        ]
        self._group = -1
        self._values: Any = None
        self._lock = threading.Lock()

    def estimate_bytes(self, row: int) -> int:
        if row >= self._begins[-1]:
            return 0
        return self._means[bisect.bisect_right(self._begins, row) - 1]

    def read(self, row: int) -> bytes:
        if row >= self._begins[-1]:
            raise DataError(f"{self._path} has {self._begins[-1]} rows, and no row {row}.")
        group = bisect.bisect_right(self._begins, row) - 1
        with self._lock:
            if group != self._group:
                try:
                    table = self._file.read_row_group(group, columns=[self._column])
                except (pa.ArrowInvalid, OSError) as error:
                    raise DataError(f"{self._path} cannot be read: {error}.") from None
                self._values = table[self._column].combine_chunks()
                self._group = group
            data = _extract_bytes(self._values, row - self._begins[group])
        if not data:
            raise DataError(f"{self._path}: row {row} holds no audio.")
        return data


def _measure_column(group: pq.RowGroupMetaData, column: str) -> int:
    """Returns the mean size of a value of a column in a row group."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    sizes = [c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column]
    num_rows: int = group.num_rows
    return int(sum(sizes)) // max(1, num_rows)


def _extract_bytes(values: Any, index: int) -> bytes:
    scalar = values[index]
    if not scalar.is_valid:
        return b""
    if pa.types.is_struct(scalar.type):
        scalar = scalar["bytes"]
    if not scalar.is_valid:
        return b""
    if pa.types.is_list(scalar.type) or pa.types.is_large_list(scalar.type):
        return bytes(np.asarray(scalar.values).tobytes())
    return bytes(scalar.as_buffer().to_pybytes())
