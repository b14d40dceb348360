"""Lhotse's manifests as JSON lines: a CutSet, or recordings with supervisions, plain or gzipped.

Cuts of one channel whose audio lies in files are read here without the library; what else Lhotse
can express (mixtures, padding, effects, commands as sources) becomes a rejection that says so.
"""

from __future__ import annotations

import gzip
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from speechvq.data.archives import read_source_bytes
from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_float,
    get_folder,
    get_text,
    join_path,
    parse_object,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from speechvq.languages import find_language

_SUFFIXES = (".jsonl", ".jsonl.gz")
_SPLIT = re.compile(r"(?:^|[_.-])(train|dev|valid|validation|test)[^_.]*(?=[_.-])")


def detect_lhotse(tree: FileTree) -> bool:
    """Returns whether a file of JSON lines begins with a cut or a recording of Lhotse."""
    return any(_find_kind(tree, path) for path in tree.find_files(*_SUFFIXES)[:64])


def read_lhotse(tree: FileTree) -> Rows:
    """Reads every CutSet; where there is none, recordings with their supervisions."""
    kinds = {path: _find_kind(tree, path) for path in tree.find_files(*_SUFFIXES)}
    cuts = [path for path, kind in kinds.items() if kind == "cut"]
    for path in cuts:
        for number, values in _read_objects(tree, path):
            yield from _read_cut(tree, path, f"{path}:{number}", values)
    if not cuts:
        supervisions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for path in (path for path, kind in kinds.items() if kind == "supervision"):
            for _, values in _read_objects(tree, path):
                if values is not None:
                    supervisions[str(values.get("recording_id"))].append(values)
        for path in (path for path, kind in kinds.items() if kind == "recording"):
            for number, values in _read_objects(tree, path):
                own = supervisions.get(str((values or {}).get("id")), [])
                yield from _read_recording(tree, path, f"{path}:{number}", values, own)


def _find_kind(tree: FileTree, path: str) -> str:
    try:
        _, values = next(_read_objects(tree, path), (0, None))
    except DataError:
        return ""
    if values is None:
        return ""
    if str(values.get("type", "")).endswith("Cut"):
        return "cut"
    if "sources" in values and "sampling_rate" in values:
        return "recording"
    return "supervision" if {"recording_id", "start", "duration"} <= values.keys() else ""


def _read_objects(tree: FileTree, path: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    entry = tree.find(path)
    if entry is None:
        raise DataError(f"{tree.location} has no {path}.")
    try:
        data = io.BytesIO(read_source_bytes(tree.root, entry.path, tree.limits))
        stream = gzip.GzipFile(fileobj=data) if path.endswith(".gz") else data
        for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8"), start=1):
            if line.strip():
                yield number, parse_object(line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{tree.location}/{path} cannot be read: {error}.") from None


def _read_cut(tree: FileTree, path: str, where: str, cut: dict[str, Any] | None) -> Rows:
    if cut is None or not isinstance(cut.get("supervisions", []), list):
        yield BadRow(where, "The line is no JSON object of a cut.")
        return
    if cut.get("type") != "MonoCut":
        yield BadRow(where, f"A {cut.get('type')} is not read, only a MonoCut.")
        return
    begin, length = get_float(cut, "start"), get_float(cut, "duration")
    recording = cut.get("recording")
    if begin is None or length is None or not isinstance(recording, dict):
        yield BadRow(where, "The cut must have a start, a duration and a recording.")
        return
    yield from _read_spans(
        tree, path, where, recording, cut.get("supervisions") or [], begin, length
    )


def _read_recording(
    tree: FileTree,
    path: str,
    where: str,
    recording: dict[str, Any] | None,
    supervisions: list[dict[str, Any]],
) -> Rows:
    length = get_float(recording or {}, "duration")
    if recording is None or length is None:
        yield BadRow(where, "The line is no JSON object of a recording.")
        return
    yield from _read_spans(tree, path, where, recording, supervisions, 0.0, length)


def _read_spans(
    tree: FileTree,
    path: str,
    where: str,
    recording: Mapping[str, Any],
    supervisions: list[Any],
    begin: float,
    length: float,
) -> Rows:
    """Yields a row for each supervision of a stretch of a recording, or one without transcript."""
    problem = _find_problem(recording)
    if problem:
        yield BadRow(where, problem)
        return
    whole = get_float(recording, "duration") or 0.0
    name = str(recording["sources"][0]["source"])
    beside = join_path(get_folder(path), name)
    for supervision in supervisions or [{"start": 0.0, "duration": length}]:
        if not isinstance(supervision, dict):
            yield BadRow(where, "A supervision must be a JSON object.")
            continue
        start, seconds = get_float(supervision, "start"), get_float(supervision, "duration")
        if start is None or seconds is None:
            yield BadRow(where, "A supervision must have a start and a duration.")
            continue
        first, last = max(0.0, begin + start), min(whole, begin + start + seconds)
        custom = supervision.get("custom")
        custom = custom if isinstance(custom, dict) else {}
        language = get_text(supervision, "language") or ""
        is_whole = first < 1e-6 and last > whole - 1e-6
        yield RawRow(
            where=where,
            path=beside if tree.exists(beside) or not tree.exists(name) else name,
            language=(find_language(language) or language)
            if language
            else find_language_in(tree, path),
            split=get_text(custom, "split") or _find_split(path),
            speaker=get_text(supervision, "speaker"),
            recording=get_text(recording, "id"),
            transcript=get_text(supervision, "text"),
            licence=get_text(custom, "licence", "license"),
            source=get_text(custom, "source"),
            url=get_text(custom, "url"),
            seconds=last - first,
            begin_seconds=None if is_whole else first,
            end_seconds=None if is_whole else last,
        )


def _find_problem(recording: Mapping[str, Any]) -> str:
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        return "The recording must have one source."
    if sources[0].get("type") != "file":
        return f"A source of the type {sources[0].get('type')!r} is not read, only a file."
    if not isinstance(sources[0].get("source"), str):
        return "The source must name a file."
    if len(recording.get("channel_ids") or sources[0].get("channels") or [0]) > 1:
        return "The cut is one channel of several: write that channel to a file first."
    if recording.get("transforms"):
        return "The recording has effects (`transforms`): save its audio with Lhotse first."
    return ""


def _find_split(path: str) -> str | None:
    match = _SPLIT.search(path.rpartition("/")[2])
    return match[1] if match else None
