"""The Parquet corpus as a whole: its writer and its readers (D3 of the design).

    <corpus>/corpus.json
    <corpus>/split=train/language=hin_Deva/part-00000.parquet

Anything that reads Parquet reads a corpus; the directories are Hive partitions. The columns stand
in `speechvq.data.parts` and, with units and reasons, in `docs/data_format.md`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.compute as pc
import pyarrow.parquet as pq

from speechvq.data.parts import CORPUS_SCHEMA as CORPUS_SCHEMA
from speechvq.data.parts import PartWriter, partition_directory, read_part
from speechvq.data.parts import parse_where as parse_where
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.data.storage import describe_remote_corpus
from speechvq.errors import DataError

FORMAT_VERSION = 1
"""Raised when a reader of the old format would misread the new one."""
CORPUS_FILE = "corpus.json"


@dataclass(frozen=True, slots=True)
class Partition:
    """The part files of one split and language."""

    split: str
    language: str
    files: tuple[Path, ...]


class CorpusWriter:
    """Writes a whole corpus from one process; a context manager.

    The corpus appears under its name only when it is complete: everything is written to
    `<directory>.tmp` and renamed at the end.

    Args:
        directory: Where the corpus will stand; must not exist, or be empty.
        normalizer: Identifier of the text normaliser, such as `basic-1`.
        rows_per_part: After so many rows a partition begins a new file.
    """

    def __init__(
        self, directory: Path | str, *, normalizer: str = "none", rows_per_part: int = 4096
    ) -> None:
        self.directory = Path(directory)
        if self.directory.exists() and any(self.directory.iterdir()):
            raise DataError(
                f"{self.directory}: a corpus is written to a new or empty directory only; remove it"
                " first."
            )
        self._temporary = self.directory.with_name(self.directory.name + ".tmp")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._normalizer = normalizer
        self._rows_per_part = rows_per_part
        self._writers: dict[tuple[str, str], PartWriter] = {}
        self._num_parts: dict[tuple[str, str], int] = {}

    def add(self, utterance: Utterance) -> None:
        """Appends an utterance to the partition of its split and language."""
        key = (utterance.split, utterance.language)
        writer = self._writers.get(key)
        if writer is None:
            part = self._num_parts.get(key, 0)
            self._num_parts[key] = part + 1
            writer = PartWriter(
                partition_directory(self._temporary, *key) / f"part-{part:05d}.parquet"
            )
            self._writers[key] = writer
        writer.add(utterance)
        if writer.num_rows >= self._rows_per_part:
            writer.close()
            del self._writers[key]

    def close(self) -> None:
        """Completes the corpus and gives the directory its name."""
        for writer in self._writers.values():
            writer.close()
        write_corpus_info(self._temporary, normalizer=self._normalizer)
        if self.directory.exists():
            self.directory.rmdir()
        self._temporary.rename(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        for writer in self._writers.values():
            writer.discard()
        shutil.rmtree(self._temporary, ignore_errors=True)


def write_corpus_info(corpus: Path, *, normalizer: str) -> None:
    """Counts hours and utterances per split and language and writes `corpus.json`, the mark of a
    complete corpus.
    """
    splits: dict[str, dict[str, dict[str, float | int]]] = {}
    for partition in _find_partitions(corpus):
        num_utterances = num_samples = 0
        for file in partition.files:
            lengths = pq.read_table(file, columns=["num_samples"], partitioning=None)["num_samples"]
            num_utterances += len(lengths)
            num_samples += pc.sum(lengths).as_py() or 0
        splits.setdefault(partition.split, {})[partition.language] = {
            "num_utterances": num_utterances,
            "num_samples": num_samples,
            "hours": round(num_samples / SAMPLE_RATE / 3600, 6),
        }
    info = {
        "format": "speechvq-corpus",
        "format_version": FORMAT_VERSION,
        "sample_rate": SAMPLE_RATE,
        "normalizer": normalizer,
        "splits": splits,
    }
    write_text_atomically(
        corpus / CORPUS_FILE, json.dumps(info, ensure_ascii=False, indent=2) + "\n"
    )


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file under a temporary name and renames it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read_corpus_info(corpus: Path | str) -> dict[str, Any]:
    """Reads `corpus.json`: `normalizer`, and `splits[split][language]` with `hours`, `num_samples`,
    `num_utterances`.

    Raises:
        DataError: If the directory is no complete corpus, or of a newer format, or a URL.
    """
    if url := _find_url(corpus):
        raise DataError(describe_remote_corpus(url))
    file = Path(corpus) / CORPUS_FILE
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{corpus} is no complete corpus: it has no {CORPUS_FILE}. Make one with `speechvq"
            " prepare input=DIR output=DIR`; if that was interrupted, run the same command again."
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}. Prepare the corpus again.") from None
    if not isinstance(info, dict) or info.get("format") != "speechvq-corpus":
        raise DataError(f"{file} does not describe a speechvq corpus.")
    if info.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{file}: `format_version` must be {FORMAT_VERSION}, but is"
            f" {info.get('format_version')!r}. Prepare the corpus again with this version of"
            " speechvq."
        )
    return info


def _find_url(corpus: Path | str) -> str:
    """Returns the URL that a corpus was named by; empty for a directory. A path made of a URL has
    one slash.
    """
    match = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+)", str(corpus))
    return f"{match[1]}://{match[2]}" if match and not Path(corpus).exists() else ""


def list_partitions(corpus: Path | str) -> list[Partition]:
    """Lists the partitions of a complete corpus, ordered by split and language, with their part
    files in order.

    Raises:
        DataError: If the directory is no complete corpus, or holds no audio.
    """
    read_corpus_info(corpus)
    partitions = _find_partitions(Path(corpus))
    if not partitions:
        raise DataError(
            f"{corpus} holds no utterance: see `rejected.tsv` and `report.html` there for the"
            " reasons."
        )
    return partitions


def _find_partitions(corpus: Path) -> list[Partition]:
    partitions = []
    for directory in sorted(corpus.glob("split=*/language=*")):
        files = tuple(sorted(directory.glob("part-*.parquet")))
        if files:
            split = directory.parent.name.removeprefix("split=")
            partitions.append(Partition(split, directory.name.removeprefix("language="), files))
    return partitions


def read_utterances(
    corpus: Path | str,
    *,
    splits: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    where: str | Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[Utterance]:
    """Reads utterances one row group at a time, in the corpus's order.

    Args:
        corpus: The directory of a complete corpus.
        splits: Only these splits; None for all.
        languages: Only these languages; None for all.
        where: Only rows with these values, as `parse_where` reads them.
        columns: Only these columns (`id` and `language` are always read); leave out `audio` to read
            quickly.

    Yields:
        Utterances; fields that were not read hold their defaults.

    Raises:
        DataError: If the directory is no complete corpus, or a column does not exist.
    """
    terms = parse_where(where)
    wanted = _complete_columns(columns)
    for partition in list_partitions(corpus):
        if splits is not None and partition.split not in splits:
            continue
        if languages is not None and partition.language not in languages:
            continue
        for file in partition.files:
            yield from read_part(file, partition.split, where=terms, columns=wanted)


def _complete_columns(columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return list(CORPUS_SCHEMA.names)
    for name in columns:
        if name not in CORPUS_SCHEMA.names and name != "split":
            raise DataError(
                f"A corpus has no column {name!r}; its columns are"
                f" {', '.join(CORPUS_SCHEMA.names)}."
            )
    return [name for name in CORPUS_SCHEMA.names if name in columns or name in ("id", "language")]
