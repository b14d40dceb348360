"""NeMo's manifests: JSON lines with `audio_filepath`, `duration`, `text`, and `offset` where the
utterance is a part of its file.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from speechvq.data.formats.rows import (
    BadRow,
    Rows,
    find_language_in,
    get_folder,
    get_text,
    join_path,
    parse_object,
    read_lines,
)
from speechvq.data.formats.tables import MANIFEST_NAMES, parse_cells
from speechvq.data.tree import FileTree
from speechvq.errors import DataError
from speechvq.languages import find_language

_SPLIT = re.compile(r"(?:^|[_.-])(train|dev|valid|validation|test)(?:$|[_.-])")


def detect_nemo(tree: FileTree) -> bool:
    """Returns whether a JSON file's first line names an audio file."""
    return any(_is_manifest(tree, path) for path in tree.find_files(".json", ".jsonl")[:64])


def read_nemo(tree: FileTree) -> Rows:
    """Reads every manifest of the input; the split is in its name or its folder's."""
    for path in tree.find_files(".json", ".jsonl"):
        if not _is_manifest(tree, path):
            continue
        split = _find_split(path)
        fallback = find_language_in(tree, path)
        for number, line in read_lines(tree, path):
            values = parse_object(line)
            if values is None or get_text(values, "audio_filepath") is None:
                yield BadRow(f"{path}:{number}", "The line is no JSON object with a file.")
                continue
            cells = {key: get_text(values, key) or "" for key in values}
            row = parse_cells(f"{path}:{number}", cells)
            code = find_language(row.language) if row.language else fallback
            yield replace(
                row,
                path=_place(tree, path, row.path),
                language=code or row.language,
                split=row.split or split,
            )


def _is_manifest(tree: FileTree, path: str) -> bool:
    if PurePosixPath(path).name in MANIFEST_NAMES and get_folder(path) == "":
        return False  # ours, which names files by the input's top
    try:
        values = parse_object(next(read_lines(tree, path), (0, ""))[1])
    except DataError:
        return False
    return values is not None and get_text(values, "audio_filepath") is not None


def _find_split(path: str) -> str | None:
    for part in (PurePosixPath(path).stem, *reversed(PurePosixPath(path).parent.parts)):
        match = _SPLIT.search(part)
        if match:
            return match[1]
    return None


def _place(tree: FileTree, manifest: str, name: str) -> str:
    """Returns where a file lies: names are absolute, or relative to the manifest or the input."""
    beside = join_path(get_folder(manifest), name)
    return beside if tree.exists(beside) or not tree.exists(name) else name
