"""Codes and activations of all frames, put down on the disk while a model runs, read place by
place: memory does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from speechvq.nn.places import Place

_CHUNK_ROWS = 1 << 20
SCHEMA = pa.schema(
    [
        ("utt", pa.dictionary(pa.int32(), pa.string())),
        ("frame", pa.int32()),
        ("layer", pa.int16()),
        ("site", pa.dictionary(pa.int32(), pa.string())),
        ("head", pa.int16()),
        ("slot", pa.int16()),
        ("code", pa.int32()),
    ]
)


class Spool:
    """Arrays that grow by rows, one file each.

    Args:
        directory: An empty directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._num_rows: dict[str, int] = {}

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Adds rows (n, …) to an array; all have the same type and shape."""
        if name not in self._files:
            self._files[name] = (self._directory / name).open("wb")
            self._shapes[name] = (rows.dtype, rows.shape[1:])
            self._num_rows[name] = 0
        self._files[name].write(np.ascontiguousarray(rows).tobytes())
        self._num_rows[name] += len(rows)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def open(self, name: str) -> NDArray[Any]:
        """The array (N, …), read from the disk where it is touched."""
        self._files[name].flush()
        dtype, shape = self._shapes[name]
        num_rows = self._num_rows[name]
        if not num_rows:
            return np.zeros((0, *shape), dtype)
        path = self._directory / name
        return np.memmap(path, dtype=dtype, mode="r", shape=(num_rows, *shape))

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()


def write_codes(
    path: Path,
    parts: Sequence[tuple[Sequence[str], Sequence[int], Mapping[Place, NDArray[Any]]]],
) -> None:
    """Writes `codes.parquet`: utt, frame, layer, site, head, slot (0: the most similar), code.

    Args:
        path: Its place.
        parts: For dev and test the utterances, their frames, and (N, G, k) codes by place.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", store_schema=True) as writer:
            for names, lengths, codes in parts:
                for place, array in codes.items():
                    for table in _create_tables(names, lengths, place, array):
                        writer.write_table(table)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _create_tables(
    names: Sequence[str], num_frames: Sequence[int], place: Place, codes: NDArray[Any]
) -> Iterator[pa.Table]:
    lengths = np.array(num_frames, dtype=np.int64)
    owners = np.repeat(np.arange(len(names), dtype=np.int32), lengths)
    begins = np.cumsum(lengths) - lengths
    frames = (np.arange(len(owners)) - begins[owners]).astype(np.int32)
    num_heads, num_slots = codes.shape[1:]
    width = num_heads * num_slots
    heads = np.repeat(np.arange(num_heads, dtype=np.int16), num_slots)
    slots = np.tile(np.arange(num_slots, dtype=np.int16), num_heads)
    dictionary = pa.array(names, pa.string())
    size = max(1, _CHUNK_ROWS // width)
    for begin in range(0, len(owners), size):
        part = np.asarray(codes[begin : begin + size], dtype=np.int32).reshape(-1)
        count = len(part) // width
        own = np.repeat(owners[begin : begin + count], width)
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(own), dictionary),
            pa.array(np.repeat(frames[begin : begin + count], width)),
            pa.array(np.full(len(part), place.layer, dtype=np.int16)),
            pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(len(part), dtype=np.int32)), pa.array([str(place.site)])
            ),
            pa.array(np.tile(heads, count)),
            pa.array(np.tile(slots, count)),
            pa.array(part),
        ]
        yield pa.Table.from_arrays(columns, schema=SCHEMA)
