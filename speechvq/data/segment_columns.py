"""All tables of segments of a corpus as columns in memory: what deciding works on.

Texts that repeat are codes; a number that is undefined is NaN here, and nowhere else. About 300
bytes a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from speechvq.data.components import Integers
from speechvq.data.measure import MEASURE_NAMES
from speechvq.data.records import SAMPLE_RATE
from speechvq.data.segment_table import SEGMENT_SCHEMA, list_pieces, read_segments
from speechvq.errors import DataError

_CODED = ("source", "language", "recording", "speaker", "split", "set_aside")
_FLAGS = ("is_first", "is_whole")
_COLUMNS = (
    *("path", *_CODED, *_FLAGS, "text_digest", "num_letters", "begin", "num_samples", "audio_row"),
    *("value", "threshold", "digest", "fingerprint", *MEASURE_NAMES),
)

Numbers = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SegmentColumns:
    """N segments in the order of their pieces.

    Attributes:
        piece: Piece of work of each.
        row: Row in its piece's table.
        codes: By column: code of each row's text, -1 where there is none.
        names: By column: the texts by code.
        numbers: By column: float32, NaN where undefined.
        begin: In samples.
        num_samples: In samples.
        is_first: Whether it is the first row of its file.
        is_whole: Whether it is its whole file.
        has_audio: Whether its audio is kept.
        digest: Of its samples, 16 bytes.
        fingerprint: uint8 (N, 16).
        has_digest: Whether it is a candidate with a digest.
        has_fingerprint: Whether it has a fingerprint.
        text: Digest of its transcript, int64.
        has_text: Whether it has a transcript with letters.
        paths: Its file, as an arrow array.
    """

    piece: Integers
    row: Integers
    codes: dict[str, Integers]
    names: dict[str, list[str]]
    numbers: dict[str, Numbers]
    begin: Integers
    num_samples: Integers
    is_first: npt.NDArray[np.bool_]
    is_whole: npt.NDArray[np.bool_]
    has_audio: npt.NDArray[np.bool_]
    digest: npt.NDArray[np.void]
    fingerprint: npt.NDArray[np.uint8]
    has_digest: npt.NDArray[np.bool_]
    has_fingerprint: npt.NDArray[np.bool_]
    text: Integers
    has_text: npt.NDArray[np.bool_]
    paths: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.piece)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """Length of each, (N,)."""
        return self.num_samples / SAMPLE_RATE

    @property
    def is_candidate(self) -> npt.NDArray[np.bool_]:
        """Whether limits decide about it, bool (N,)."""
        return np.asarray(self.codes["set_aside"] < 0)

    def name(self, column: str, row: int) -> str | None:
        """Returns the text of one row of a coded column."""
        code = int(self.codes[column][row])
        return None if code < 0 else self.names[column][code]

    def take(self, rows: Integers) -> SegmentColumns:
        """Returns some rows, in the given order."""
        arrays = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name not in ("codes", "names", "numbers", "paths")
        }
        return replace(
            self,
            **arrays,
            codes={name: codes[rows] for name, codes in self.codes.items()},
            numbers={name: numbers[rows] for name, numbers in self.numbers.items()},
            paths=self.paths.take(pa.array(rows)),
        )

    def describe(self, row: int) -> str:
        """Returns the id that the segment has in the corpus."""
        return create_id(
            self.name("source", row) or "",
            self.paths[row].as_py(),
            int(self.begin[row]),
            int(self.num_samples[row]),
            bool(self.is_whole[row]),
        )


def create_id(source: str, path: str, begin: int, num_samples: int, is_whole: bool) -> str:
    """Returns `<source>/<path>`, followed by `#<start>-<end>` for a piece of a longer recording."""
    first, last = begin / SAMPLE_RATE, (begin + num_samples) / SAMPLE_RATE
    return f"{source}/{path}" + ("" if is_whole else f"#{first:.3f}-{last:.3f}")


def load_segments(output: Path) -> SegmentColumns:
    """Reads all tables of segments under an output.

    Raises:
        DataError: If there is none, or one cannot be read.
    """
    pieces = list_pieces(output)
    if not pieces:
        raise DataError(f"{output} holds no measurements; prepare it from its input first.")
    try:
        tables = [read_segments(output, piece, _COLUMNS) for piece in pieces]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"The measurements in {output} cannot be read: {error}.") from error
    missing = set(_COLUMNS) - set(tables[0].column_names)
    if missing:
        raise DataError(
            f"{output} was measured by another version of speechvq, without"
            f" {', '.join(sorted(missing))}; prepare it again from its input."
        )
    sizes = [table.num_rows for table in tables]
    columns = dict(zip(tables[0].column_names, pa.concat_tables(tables).columns, strict=True))
    del tables
    segments = from_columns(columns, pieces, sizes)
    pa.default_memory_pool().release_unused()
    return segments


def from_columns(
    columns: dict[str, pa.ChunkedArray], pieces: Sequence[int], sizes: Sequence[int]
) -> SegmentColumns:
    """Turns a table of segments into columns.

    Args:
        columns: By their names in `SEGMENT_SCHEMA`; each is taken out when it is turned, so that
            no two columns are in memory twice.
        pieces: Pieces in order.
        sizes: Rows of each.
    """
    numbers = {
        name: _to_numbers(columns.pop(name)) for name in (*MEASURE_NAMES, "value", "threshold")
    }
    coded = {name: _encode(columns.pop(name)) for name in _CODED}
    num_samples = columns.pop("num_samples").to_numpy()
    letters = _to_numbers(columns.pop("num_letters"))
    speed = letters / np.maximum(num_samples / SAMPLE_RATE, 1e-9)
    numbers["letters_per_second"] = speed.astype(np.float32)
    digest, fingerprint = columns.pop("digest"), columns.pop("fingerprint")
    return SegmentColumns(
        piece=np.repeat(np.asarray(pieces, np.int64), sizes),
        row=np.concatenate([np.zeros(0, np.int64), *(np.arange(size) for size in sizes)]),
        codes={name: codes for name, (codes, _) in coded.items()},
        names={name: names for name, (_, names) in coded.items()},
        numbers=numbers,
        begin=columns.pop("begin").to_numpy(),
        num_samples=num_samples,
        is_first=columns.pop("is_first").to_numpy(),
        is_whole=columns.pop("is_whole").to_numpy(),
        has_audio=columns.pop("audio_row").is_valid().to_numpy(),
        has_digest=digest.is_valid().to_numpy(),
        has_fingerprint=fingerprint.is_valid().to_numpy(),
        digest=_to_bytes(digest).view("V16").reshape(-1),
        fingerprint=_to_bytes(fingerprint),
        text=pc.fill_null(columns["text_digest"], 0).to_numpy(),
        has_text=columns["text_digest"].is_valid().to_numpy(),
        paths=columns["path"],
    )


def _encode(column: pa.ChunkedArray) -> tuple[Integers, list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64), encoded.dictionary.to_pylist()


def _to_numbers(column: pa.ChunkedArray) -> Numbers:
    """Returns numbers as float32, in which they were measured; NaN where there is none."""
    return np.asarray(pc.cast(column, pa.float32(), safe=False).to_numpy())


def _to_bytes(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Returns fixed bytes as uint8 (N, 16); zeros where there is none."""
    width = SEGMENT_SCHEMA.field("digest").type.byte_width
    filled = pc.fill_null(pc.cast(column, pa.binary(width)), bytes(width)).combine_chunks()
    arrays = filled.chunks if isinstance(filled, pa.ChunkedArray) else [filled]
    parts = []
    for array in arrays:
        data = np.frombuffer(array.buffers()[1] or b"", np.uint8)
        parts.append(data[array.offset * width : (array.offset + len(array)) * width])
    return np.concatenate([np.zeros(0, np.uint8), *parts]).reshape(-1, width)
