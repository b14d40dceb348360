"""Audio inside Parquet: Hugging Face datasets (a column `{bytes, path}`) and omnilingual-asr
(`corpus=…/split=…/language=…`, bytes as a list of int8).

Rows are found without reading the audio; it is read by row, as `data.parquet!/12`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.archives import SEPARATOR, split_member_path
from speechvq.data.embedded import find_audio_column
from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_float,
    get_folder,
    get_text,
    join_path,
)
from speechvq.data.storage import open_file
from speechvq.data.tree import FileTree
from speechvq.languages import find_language

_SAMPLE_RATE = 16_000
_SPLIT = re.compile(r"(?:^|/)(\w+)-\d{5}|(?:^|[/_.-])(train|validation|valid|dev|test)(?=[/_.-])")
_TEXTS = ("transcript", "transcription", "raw_transcription", "sentence", "text", "normalized_text")


def detect_huggingface(tree: FileTree) -> bool:
    """Returns whether a Parquet file has a column of audio that is no list of int8."""
    return any(_find_kind(tree, path) == "huggingface" for path in _find_files(tree)[:8])


def detect_omnilingual(tree: FileTree) -> bool:
    """Returns whether a Parquet file has omnilingual-asr's columns."""
    return any(_find_kind(tree, path) == "omnilingual" for path in _find_files(tree)[:8])


def read_huggingface(tree: FileTree) -> Rows:
    """Reads every Parquet file with audio; the split is in its name."""
    for path in _find_files(tree):
        match = _SPLIT.search(path)
        split = match[1] or match[2] if match else None
        for index, values in _read_rows(tree, path):
            if isinstance(values, BadRow):
                yield values
                continue
            language = get_text(values, "language", "locale", "lang") or ""
            yield RawRow(
                where=f"{path}:{index}",
                path=_place_audio(tree, path, index, values),
                language=(find_language(language) or language)
                if language
                else find_language_in(tree, path),
                split=get_text(values, "split") or split,
                speaker=get_text(values, "speaker", "speaker_id", "client_id"),
                recording=get_text(values, "recording", "recording_id"),
                transcript=get_text(values, *_TEXTS),
                licence=get_text(values, "licence", "license"),
                source=get_text(values, "source"),
                url=get_text(values, "url"),
                seconds=get_float(values, "duration"),
            )


def read_omnilingual(tree: FileTree) -> Rows:
    """Reads every partition; corpus, split and language from the directories."""
    for path in _find_files(tree):
        parts = [part.split("=", 1) for part in PurePosixPath(path).parent.parts if "=" in part]
        partition = {name: unquote(value) for name, value in parts}
        for index, values in _read_rows(tree, path):
            if isinstance(values, BadRow):
                yield values
                continue
            values = {**partition, **values}
            num_samples = get_float(values, "audio_size")
            yield RawRow(
                where=f"{path}:{index}",
                path=f"{path}{SEPARATOR}{index}",
                language=get_text(values, "language") or "",
                split=get_text(values, "split"),
                speaker=get_text(values, "speaker"),
                recording=get_text(values, "recording"),
                transcript=get_text(values, "text"),
                licence=get_text(values, "licence"),
                source=get_text(values, "corpus"),
                url=get_text(values, "url"),
                seconds=None if num_samples is None else num_samples / _SAMPLE_RATE,
            )


def _find_files(tree: FileTree) -> list[str]:
    return [
        p for p in tree.find_files(".parquet") if split_member_path(tree.entries[p].path) is None
    ]


def _find_kind(tree: FileTree, path: str) -> str:
    try:
        with open_file(tree.root, path) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError):
        return ""
    column = find_audio_column(schema)
    if column is None:
        return ""
    kind = schema.field(column).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return "omnilingual" if is_list else "huggingface"


def _read_rows(tree: FileTree, path: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Yields the scalar columns of every row, without the audio."""
    try:
        with open_file(tree.root, path) as stream, pq.ParquetFile(stream) as file:
            audio = find_audio_column(file.schema_arrow)
            columns = [
                field.name
                for field in file.schema_arrow
                if field.name != audio and not pa.types.is_nested(field.type)
            ]
            nested = _list_nested(file.schema_arrow, audio)
            index = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[*columns, *nested])
                for values in table.to_pylist():
                    inner = values.pop(audio, None) if audio else None
                    if isinstance(inner, Mapping):
                        values["audio.path"] = inner.get("path")
                    yield index, values
                    index += 1
    except (pa.ArrowInvalid, OSError) as error:
        yield 0, BadRow(path, f"The file cannot be read: {error}.")


def _list_nested(schema: pa.Schema, audio: str | None) -> list[str]:
    if audio is None or not pa.types.is_struct(schema.field(audio).type):
        return []
    return [f"{audio}.path"] if schema.field(audio).type.get_field_index("path") >= 0 else []


def _place_audio(tree: FileTree, path: str, index: int, values: Mapping[str, Any]) -> str:
    """Returns the row's audio, or the file that it names where a dataset keeps files beside."""
    name = get_text(values, "audio.path")
    if name is not None and not name.startswith("/"):
        beside = join_path(get_folder(path), name)
        if tree.exists(beside):
            return beside
    return f"{path}{SEPARATOR}{index}"
