"""The index of a corpus: where each utterance lies and how long it is, without its audio.

Stands between the corpus on disk (`data.corpus`) and the order of an epoch (`data.order`). It reads
a few narrow columns of every Parquet file once. An utterance takes about 120 bytes, and 300 while
the index is made: 0.7 GB and 1.8 GB for six million, on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.corpus import list_partitions, parse_where
from speechvq.data.records import SAMPLE_RATE
from speechvq.errors import DataError


@dataclass(frozen=True)
class CorpusIndex:
    """Utterances of one or more corpora, as parallel arrays of length N.

    Attributes:
        files: Parquet files, in a fixed order.
        languages: Language codes, sorted.
        ids: Utterance ids, N strings.
        file: Index into `files`, int32 (N,).
        row_group: Row group within the file, int32 (N,).
        row: Row within the row group, int32 (N,).
        num_samples: Length at 16 kHz, int64 (N,).
        language: Index into `languages`, int32 (N,).
        texts: Transcripts, if the index was loaded with `needs_text`.
        flags: What preparation noticed about each transcript, joined by "+"; likewise.
        num_too_short: Utterances left out because they are shorter than the minimum.
        num_too_long: Utterances left out because they are longer than the maximum.
    """

    files: tuple[Path, ...]
    languages: tuple[str, ...]
    ids: list[str]
    file: np.ndarray
    row_group: np.ndarray
    row: np.ndarray
    num_samples: np.ndarray
    language: np.ndarray
    texts: list[str] | None = None
    flags: list[str] | None = None
    num_too_short: int = 0
    num_too_long: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return float(self.num_samples.sum()) / SAMPLE_RATE / 3600

    def hours_by_language(self) -> dict[str, float]:
        """Return the hours of audio of each language."""
        samples = np.bincount(
            self.language, weights=self.num_samples, minlength=len(self.languages)
        )
        return {
            code: float(value) / SAMPLE_RATE / 3600
            for code, value in zip(self.languages, samples, strict=True)
        }

    def select(self, keep: np.ndarray) -> CorpusIndex:
        """Return the utterances at the given positions or where the mask is true."""
        positions = np.flatnonzero(keep) if keep.dtype == bool else keep
        return CorpusIndex(
            files=self.files,
            languages=self.languages,
            ids=[self.ids[position] for position in positions],
            file=self.file[positions],
            row_group=self.row_group[positions],
            row=self.row[positions],
            num_samples=self.num_samples[positions],
            language=self.language[positions],
            texts=_pick(self.texts, positions),
            flags=_pick(self.flags, positions),
            num_too_short=self.num_too_short,
            num_too_long=self.num_too_long,
        )


def _pick(values: list[str] | None, positions: np.ndarray) -> list[str] | None:
    return None if values is None else [values[position] for position in positions]


def load_index(
    corpora: Sequence[str | Path],
    *,
    split: str,
    languages: Sequence[str] = (),
    where: str | None = None,
    min_seconds: float = 0.0,
    max_seconds: float | None = None,
    needs_text: bool = False,
) -> CorpusIndex:
    """Read the index of a split.

    Args:
        corpora: Corpus directories; ids must be unique over all of them.
        split: The split to read.
        languages: Languages to keep; none means all.
        where: Rows to keep, such as `source=noa_hindi`.
        min_seconds: Shorter utterances are left out and counted.
        max_seconds: Longer utterances are left out and counted.
        needs_text: Leave out utterances without a transcript, and keep the transcripts.

    Returns:
        The index; it may be empty.

    Raises:
        DataError: A corpus cannot be read, or two utterances share an id.
    """
    conditions = parse_where(where) if where else {}
    files: list[Path] = []
    tables: list[pa.Table] = []
    for corpus in corpora:
        for partition in list_partitions(corpus):
            if partition.split != split or (languages and partition.language not in languages):
                continue
            for path in partition.files:
                tables.append(
                    _read_file(path, len(files), partition.language, conditions, needs_text)
                )
                files.append(Path(path))
    if not tables:
        return _empty_index()
    return _create_index(files, pa.concat_tables(tables), min_seconds, max_seconds)


def _read_file(
    path: Path, number: int, language: str, conditions: dict[str, str], needs_text: bool
) -> pa.Table:
    """Read the narrow columns of one file, with the place of every row."""
    try:
        with pq.ParquetFile(path) as parquet:
            metadata = parquet.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            has_flags = "flags" in parquet.schema_arrow.names
            texts = ["text", *(["flags"] if has_flags else [])] if needs_text else []
            names = ["id", "num_samples", *texts, *conditions]
            table = parquet.read(columns=list(dict.fromkeys(names)))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. Prepare the corpus again.") from error
    keep = pa.array(np.ones(table.num_rows, dtype=bool))
    for name, value in conditions.items():
        matches = pc.equal(pc.cast(table[name], pa.string()), value)
        keep = pc.and_(keep, pc.fill_null(matches, False))
    if needs_text:
        has_text = pc.greater(pc.utf8_length(pc.fill_null(table["text"], "")), 0)
        keep = pc.and_(keep, has_text)
    places = pa.table(
        {
            "id": table["id"],
            "num_samples": pc.cast(table["num_samples"], pa.int64()),
            "file": pa.array(np.full(table.num_rows, number, dtype=np.int32)),
            "row_group": pa.array(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)),
            "row": pa.array(
                np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
                if sizes
                else np.zeros(0, dtype=np.int32)
            ),
            "language": pa.array([language] * table.num_rows, pa.string()),
        }
    )
    if needs_text:
        places = places.append_column("text", table["text"])
        flags = table["flags"].to_pylist() if has_flags else [[]] * table.num_rows
        joined = pa.array(["+".join(names or []) for names in flags], pa.string())
        places = places.append_column("flags", joined)
    return places.filter(keep)


def _create_index(
    files: list[Path], table: pa.Table, min_seconds: float, max_seconds: float | None
) -> CorpusIndex:
    num_samples = table["num_samples"].to_numpy()
    too_short = num_samples < min_seconds * SAMPLE_RATE
    too_long = np.zeros_like(too_short)
    if max_seconds is not None:
        too_long = num_samples > max_seconds * SAMPLE_RATE
    table = table.filter(pa.array(~(too_short | too_long)))
    ids = table["id"].to_pylist()
    _refuse_duplicates(ids)
    codes = table["language"].to_pylist()
    languages = tuple(sorted(set(codes)))
    numbers = {code: number for number, code in enumerate(languages)}
    return CorpusIndex(
        files=tuple(files),
        languages=languages,
        ids=ids,
        file=table["file"].to_numpy(),
        row_group=table["row_group"].to_numpy(),
        row=table["row"].to_numpy(),
        num_samples=table["num_samples"].to_numpy(),
        language=np.array([numbers[code] for code in codes], dtype=np.int32),
        texts=table["text"].to_pylist() if "text" in table.column_names else None,
        flags=table["flags"].to_pylist() if "flags" in table.column_names else None,
        num_too_short=int(too_short.sum()),
        num_too_long=int(too_long.sum()),
    )


def _refuse_duplicates(ids: list[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(
                f"Utterance id `{name}` occurs twice in the selected corpora; ids must be unique: "
                "give each corpus directory once, or prepare the sources together."
            )
        seen.add(name)


def _empty_index() -> CorpusIndex:
    empty = np.zeros(0, dtype=np.int32)
    return CorpusIndex(
        files=(),
        languages=(),
        ids=[],
        file=empty,
        row_group=empty,
        row=empty,
        num_samples=np.zeros(0, dtype=np.int64),
        language=empty,
    )
