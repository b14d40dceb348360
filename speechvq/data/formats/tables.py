"""Audio beside one table: `manifest.tsv` (no quoting), `manifest.csv` or `manifest.jsonl`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from speechvq.data.formats.rows import (
    BadRow,
    Cells,
    RawRow,
    Rows,
    get_float,
    get_folder,
    join_path,
    parse_object,
    read_lines,
    read_table,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError

MANIFEST_NAMES = ("manifest.tsv", "manifest.csv", "manifest.jsonl")
COLUMN_NAMES = {
    "path": ("path", "audio_filepath", "audio_path", "audio", "file", "filename"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "transcript": ("transcript", "text", "sentence"),
    "recording": ("recording", "recording_id"),
    "licence": ("licence", "license"),
    "source": ("source",),
    "url": ("url", "webpage_url"),
    "seconds": ("seconds", "duration"),
    "begin_seconds": ("begin_seconds", "offset"),
    "end_seconds": ("end_seconds",),
}
"""Columns, each with the names that it may have."""


def detect_manifest(tree: FileTree) -> bool:
    """Returns whether a manifest stands in the top of the input, or tables of that name in folders
    below it.
    """
    return bool(_find_manifests(tree))


def read_manifest(tree: FileTree) -> Rows:
    """Reads the manifest; without one in the top, those of the folders, each a source of its own.

    Raises:
        DataError: If it has no column with paths, or cannot be read at all.
    """
    names = _find_manifests(tree)
    if not names:
        raise DataError(f"{tree.location} has no manifest.tsv, manifest.csv or manifest.jsonl.")
    for name in names:
        folder = get_folder(name)
        for number, cells in _read_cells(tree, name):
            where = f"{name}:{number}"
            if cells is None:
                yield BadRow(where, "The line is no row of the manifest's columns.")
                continue
            row = parse_cells(where, cells)
            if folder:
                source = row.source or folder.rpartition("/")[2]
                row = replace(row, path=row.path and join_path(folder, row.path), source=source)
            yield row


def _find_manifests(tree: FileTree) -> list[str]:
    # Files first: looking into archives takes time.
    names = [name for name in MANIFEST_NAMES if tree.is_file(name)]
    names += [name for name in MANIFEST_NAMES if not names and tree.exists(name)]
    if names:
        return names[:1]
    return [path for path in tree.find_files("manifest.tsv") if _has_our_columns(tree, path)]


def _has_our_columns(tree: FileTree, path: str) -> bool:
    try:
        _, header = next(read_table(tree, path), (0, None))
    except DataError:
        return False
    names = {cell.strip() for cell in header or []}
    return {"path", "language"} <= names


def parse_cells(where: str, cells: Mapping[str, str]) -> RawRow:
    """Makes a row of cells by any of the names of `COLUMN_NAMES`."""
    values = dict.fromkeys(COLUMN_NAMES, "")
    for name, aliases in _find_columns(tuple(cells)):
        for alias in aliases:
            text = cells[alias].strip()
            if text:
                values[name] = text
                break
    begin = get_float(values, "begin_seconds")
    end, seconds = get_float(values, "end_seconds"), get_float(values, "seconds")
    if begin is not None and end is None and seconds is not None:
        end = begin + seconds
    return RawRow(
        where=where,
        path=values["path"],
        language=values["language"],
        split=values["split"] or None,
        speaker=values["speaker"] or None,
        recording=values["recording"] or None,
        transcript=values["transcript"] or None,
        licence=values["licence"] or None,
        source=values["source"] or None,
        url=values["url"] or None,
        seconds=seconds,
        begin_seconds=begin,
        end_seconds=end,
    )


@functools.lru_cache(maxsize=256)
def _find_columns(names: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns our columns with those of a table's own that mean them, the preferred first."""
    found = (
        (ours, tuple(n for n in theirs if n in names)) for ours, theirs in COLUMN_NAMES.items()
    )
    return tuple((ours, theirs) for ours, theirs in found if theirs)


def _read_cells(tree: FileTree, name: str) -> Iterator[tuple[int, Cells | None]]:
    if name.endswith(".jsonl"):
        yield from _read_objects(tree, name)
        return
    # Transcripts hold quotation marks: in a TSV they are text, in a CSV they quote.
    is_tsv = name.endswith(".tsv")
    rows = read_table(tree, name, delimiter="\t" if is_tsv else ",", quoted=not is_tsv)
    _, first = next(rows, (0, None))
    header = [cell.strip() for cell in first or []]
    _check_columns(tree, name, header)
    for number, cells in rows:
        if cells is None or len(cells) > len(header):
            yield number, None
        else:
            yield number, dict(zip(header, cells, strict=False))


def _read_objects(tree: FileTree, name: str) -> Iterator[tuple[int, Cells | None]]:
    for number, line in read_lines(tree, name):
        cells = parse_object(line)
        if cells is None:
            yield number, None
            continue
        if number == 1:
            _check_columns(tree, name, list(cells))
        yield (
            number,
            {key: "" if value is None else str(value) for key, value in cells.items()},
        )


def _check_columns(tree: FileTree, name: str, header: list[str]) -> None:
    if not set(header) & set(COLUMN_NAMES["path"]):
        raise DataError(
            f"{tree.location}/{name} must have a column 'path' (or"
            f" {', '.join(COLUMN_NAMES['path'][1:])}), but has"
            f" {', '.join(header) or 'no columns'}."
        )
