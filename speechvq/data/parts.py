"""Part files: the columns of a corpus, and writing and reading one Parquet file of it.

Bytes are deterministic: the same utterances in the same order give the same file. Whole corpora are
the business of `speechvq.data.corpus`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.records import Utterance
from speechvq.errors import DataError

ROWS_PER_GROUP = 64
"""A row group is the unit of shuffling and of reading: small enough to mix languages, large enough
to read quickly."""

CORPUS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("audio", pa.binary(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("raw_text", pa.string()),
        pa.field("language", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string()),
        pa.field("url", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("recording", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("end_seconds", pa.float64(), nullable=False),
        pa.field("snr_db", pa.float32()),
        pa.field("vad_snr_db", pa.float32()),
        pa.field("speech_ratio", pa.float32()),
        pa.field("speech_probability", pa.float32()),
        pa.field("loudness_lufs", pa.float32()),
        pa.field("clipped_share", pa.float32()),
        pa.field("zero_share", pa.float32()),
        pa.field("dropout_share", pa.float32()),
        pa.field("dc_offset", pa.float32()),
        pa.field("bandwidth_hz", pa.float32()),
        pa.field("variation_db", pa.float32()),
        pa.field("tone_share", pa.float32()),
        pa.field("letters_per_second", pa.float32()),
        pa.field("peak_dbfs", pa.float32()),
        pa.field("rms_dbfs", pa.float32()),
        pa.field("original_sample_rate", pa.int32()),
        pa.field("original_channels", pa.int32()),
        pa.field("flags", pa.list_(pa.string()), nullable=False),
    ]
)
"""Columns of a part file; `split` is the directory."""

FILTER_COLUMNS = ("id", "language", "source", "licence", "speaker", "recording", "path", "text")
"""Columns that `where` may name."""
_DICTIONARY_COLUMNS = ["language", "source", "licence", "speaker", "recording"]
_SPLIT_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def partition_directory(corpus: Path, split: str, language: str) -> Path:
    """Returns `<corpus>/split=<split>/language=<language>`.

    Raises:
        DataError: If the name of the split is not fit for a directory.
    """
    if not is_split_name(split):
        raise DataError(
            f"A split must be named by letters, digits, `_` or `-` (at most 32), but is {split!r}."
        )
    return corpus / f"split={split}" / f"language={language}"


def is_split_name(name: str) -> bool:
    """Returns whether a split may have this name, which becomes part of a directory's name."""
    return _SPLIT_PATTERN.fullmatch(name) is not None


class PartWriter:
    """Writes one part file: under a temporary name first, renamed when complete.

    Args:
        path: Where the part file will stand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_samples = 0
        self.num_rows = 0
        self._temporary = path.with_name(path.name + ".tmp")
        self._rows: list[Utterance] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, utterance: Utterance) -> None:
        """Appends a row; every `ROWS_PER_GROUP` rows go to the disk."""
        self._rows.append(utterance)
        self.num_rows += 1
        self.num_samples += utterance.num_samples
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Completes the file and gives it its name; without rows there is no file."""
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._temporary.replace(self.path)

    def discard(self) -> None:
        """Drops everything written so far."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _open_parquet(self._temporary)
        columns = {
            name: pa.array(
                [getattr(row, name) for row in self._rows], type=CORPUS_SCHEMA.field(name).type
            )
            for name in CORPUS_SCHEMA.names
        }
        self._writer.write_table(
            pa.table(columns, schema=CORPUS_SCHEMA), row_group_size=ROWS_PER_GROUP
        )
        self._rows = []


def write_part(path: Path, table: pa.Table) -> None:
    """Writes a part file from a table with the columns of `CORPUS_SCHEMA`, under a temporary name
    first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with _open_parquet(temporary) as writer:
        for first in range(0, table.num_rows, ROWS_PER_GROUP):
            writer.write_table(table.slice(first, ROWS_PER_GROUP), row_group_size=ROWS_PER_GROUP)
    temporary.replace(path)


def _open_parquet(path: Path) -> pq.ParquetWriter:
    # FLAC does not compress further; a statistic over audio bytes would store whole clips in the
    # footer.
    compression = {name: "NONE" if name == "audio" else "ZSTD" for name in CORPUS_SCHEMA.names}
    compression["flags.list.element"] = compression.pop("flags")
    return pq.ParquetWriter(
        path,
        CORPUS_SCHEMA,
        compression=compression,
        use_dictionary=_DICTIONARY_COLUMNS,
        write_statistics=[name for name in CORPUS_SCHEMA.names if name not in ("audio", "flags")],
        store_schema=False,
    )


def parse_where(where: str | Mapping[str, str] | None) -> dict[str, str]:
    """Parses `source=noa_hindi,speaker=x` into column and value.

    Raises:
        DataError: If a term has no `=`, or names a column that cannot be filtered by.
    """
    if not where:
        return {}
    if not isinstance(where, str):
        terms = dict(where)
    else:
        terms = {}
        for term in where.split(","):
            name, separator, value = term.partition("=")
            if not separator:
                raise DataError(
                    f"`where` must be `column=value` terms joined by commas, but holds {term!r}."
                )
            terms[name.strip()] = value.strip()
    for name in terms:
        if name not in FILTER_COLUMNS:
            raise DataError(
                f"`where` must name one of {', '.join(FILTER_COLUMNS)}, but names {name!r}."
            )
    return terms


def read_part(
    path: Path,
    split: str,
    *,
    where: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[Utterance]:
    """Reads one part file, a row group at a time; see `read_utterances`."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                keep = _match_rows(file, group, where or {})
                if keep is not None and not pc.any(keep).as_py():
                    continue
                table = file.read_row_group(
                    group, columns=None if columns is None else list(columns)
                )
                for row in (table if keep is None else table.filter(keep)).to_pylist():
                    yield Utterance(split=split, **row)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. Prepare the corpus again.") from error


def _match_rows(
    file: pq.ParquetFile, group: int, terms: Mapping[str, str]
) -> pa.ChunkedArray | None:
    if not terms:
        return None
    table = file.read_row_group(group, columns=list(terms))
    keep = None
    for name, value in terms.items():
        matches = pc.fill_null(pc.equal(table[name], value), False)
        keep = matches if keep is None else pc.and_(keep, matches)
    return keep
