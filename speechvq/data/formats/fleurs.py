"""FLEURS: per language `train.tsv`, `dev.tsv`, `test.tsv` of seven columns without names, with the
audio under `audio/<split>/` (or in `audio/<split>.tar.gz`).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_folder,
    join_path,
    read_table,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError

_TABLES = ("train.tsv", "dev.tsv", "test.tsv")
_NUM_COLUMNS = 7
"""id, file, sentence as written, sentence normalised, letters, samples at 16 kHz, gender."""
_SAMPLE_RATE = 16_000


def detect_fleurs(tree: FileTree) -> bool:
    """Returns whether a table of that name has those columns."""
    return any(_is_table(tree, path) for path in tree.find_files(*_TABLES))


def read_fleurs(tree: FileTree) -> Rows:
    """Reads the tables of every language; transcripts as written."""
    for path in tree.find_files(*_TABLES):
        if not _is_table(tree, path):
            continue
        folder, split = get_folder(path), PurePosixPath(path).stem
        language = find_language_in(tree, path)
        places = [join_path(folder, f"{place}{split}") for place in ("audio/", "")]
        for number, cells in read_table(tree, path):
            where = f"{path}:{number}"
            if cells is None or not _is_row(cells):
                yield BadRow(where, f"The line must have {_NUM_COLUMNS} cells.")
                continue
            names = [join_path(place, cells[1]) for place in places]
            yield RawRow(
                where=where,
                path=next((name for name in names if tree.exists(name)), names[0]),
                language=language,
                split=split,
                transcript=cells[2].strip() or None,
                seconds=int(cells[5]) / _SAMPLE_RATE,
            )


def _is_table(tree: FileTree, path: str) -> bool:
    try:
        _, cells = next(read_table(tree, path), (0, None))
    except DataError:
        return False
    return cells is not None and _is_row(cells)


def _is_row(cells: list[str]) -> bool:
    return len(cells) == _NUM_COLUMNS and cells[0].isdecimal() and cells[5].isdecimal()
